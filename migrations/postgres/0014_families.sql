-- Families: tasks that a layer of a node (map, repeat, review) made of one task, which waits for them.

alter table tasks
  -- the node's index in its workflow; node_index is the task's number in its run
  add column node_at integer,
  -- the number in the run of its workflow's first node
  add column base integer not null default 0,
  -- the tasks above it that wait for it, the nearest first; null for the nodes of the run's own workflow
  add column ancestors json,
  -- the nearest of them
  add column parent_id text collate "C",
  -- how many of its node's layers are around it, and its number in the innermost of these
  add column layer integer not null default 0,
  add column item integer not null default 0,
  -- what it sees besides what its node sees
  add column bound json,
  -- the tasks that were made of it, counted
  add column fan json,
  drop constraint tasks_wait,
  add constraint tasks_wait check (
    wait in ('credits', 'timer', 'rate_limit', 'condition', 'approval', 'signal', 'paused', 'children'));
update tasks set node_at = node_index;
alter table tasks
  alter column node_at set not null,
  add constraint tasks_parent check ((parent_id is null) = (ancestors is null)),
  add constraint tasks_layer check (layer >= 0 and item >= 0 and (layer = 0 or parent_id is not null)),
  add constraint tasks_children check (wait is distinct from 'children' or fan is not null);
create unique index tasks_item on tasks (parent_id, item) where layer > 0;
create index tasks_next_item on tasks (parent_id, item) where state = 'pending' and remaining_needs = 0 and layer > 0;
