-- Workflows inside of a run. A version that a plan made belongs to the task that planned it and stands in no list; it
-- goes with the outputs of its run. The tasks of such a workflow have a parent and no layer.

alter table workflows add column planned_by text collate "C";

create index workflows_planned on workflows (planned_by) where planned_by is not null;

create index tasks_inside on tasks (parent_id, item) where layer = 0 and parent_id is not null;

create index workflows_named on workflows (tenant_id, name, version) where planned_by is null;

create index tasks_signals on tasks (run_id, ready_at) where state = 'waiting' and wait = 'signal';
