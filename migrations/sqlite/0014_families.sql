-- Families: tasks that a layer of a node (map, repeat, review) made of one task, which waits for them.

create table new_tasks (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  run_id text not null,
  workflow_id text not null,
  node text not null,
  node_index integer not null,
  kind text not null,
  pool text not null,
  priority integer not null,
  state text not null,
  wait text,
  status_reason text,
  remaining_needs integer not null,
  input_bytes integer not null,
  attempt integer not null,
  failures integer not null,
  losses integer not null,
  fence integer not null,
  lease_token text,
  lease_until integer,
  worker_id text,
  ready_at integer,
  due_at integer,
  started_at integer,
  ended_at integer,
  priced integer not null,
  hold_id text,
  holds integer not null,
  output text,
  error text,
  cost_ucr integer not null,
  units_ucr integer not null,
  usage text,
  created_at integer not null,
  deadline_at integer,   -- when it fails if it is not over by then, whatever it waits for
  shown text,            -- what is shown to whoever decides an approval, as it was when the decision was asked for
  decision text,         -- what became of an approval (JSON)
  node_at integer not null,             -- the node's index in its workflow; node_index is the task's number in its run
  base integer not null default 0,      -- the number in the run of its workflow's first node
  ancestors text,                       -- the tasks above it that wait for it, the nearest first (JSON)
  parent_id text,                       -- the nearest of them
  layer integer not null default 0,     -- how many of its node's layers are around it
  item integer not null default 0,      -- its number in the innermost of these
  bound text,                           -- what it sees besides what its node sees (JSON)
  fan text,                             -- the tasks that were made of it, counted (JSON)
  constraint tasks_node unique (run_id, node_index),
  constraint tasks_state check (
    state in ('pending', 'ready', 'running', 'retrying', 'waiting', 'succeeded', 'failed', 'cancelled', 'skipped')),
  constraint tasks_running check (
    state <> 'running' or (lease_token is not null and lease_until is not null and worker_id is not null)),
  constraint tasks_waiting check ((state = 'waiting') = (wait is not null)),
  constraint tasks_wait check (
    wait in ('credits', 'timer', 'rate_limit', 'condition', 'approval', 'signal', 'paused', 'children')),
  constraint tasks_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'skipped'))),
  constraint tasks_hold_ended check (ended_at is null or hold_id is null),
  constraint tasks_counts check (remaining_needs >= 0 and attempt >= 0 and failures >= 0 and losses >= 0),
  constraint tasks_money check (cost_ucr >= 0 and units_ucr >= 0),
  constraint tasks_parent check ((parent_id is null) = (ancestors is null)),
  constraint tasks_layer check (layer >= 0 and item >= 0 and (layer = 0 or parent_id is not null)),
  constraint tasks_children check (wait is not 'children' or fan is not null)
) strict;
insert into new_tasks (
  id, tenant_id, mission_id, run_id, workflow_id, node, node_index, kind, pool, priority, state, wait,
  status_reason, remaining_needs, input_bytes, attempt, failures, losses, fence, lease_token, lease_until,
  worker_id, ready_at, due_at, started_at, ended_at, priced, hold_id, holds, output, error, cost_ucr, units_ucr,
  usage, created_at, deadline_at, shown, decision, node_at)
select
  id, tenant_id, mission_id, run_id, workflow_id, node, node_index, kind, pool, priority, state, wait,
  status_reason, remaining_needs, input_bytes, attempt, failures, losses, fence, lease_token, lease_until,
  worker_id, ready_at, due_at, started_at, ended_at, priced, hold_id, holds, output, error, cost_ucr, units_ucr,
  usage, created_at, deadline_at, shown, decision, node_index
from tasks;
drop table tasks;
alter table new_tasks rename to tasks;
create index tasks_ready on tasks (pool, tenant_id, priority desc, ready_at) where state = 'ready';
create index tasks_leased on tasks (lease_until) where state = 'running';
create index tasks_due on tasks (due_at) where state in ('retrying', 'waiting') and due_at is not null;
create index tasks_for_credits on tasks (ready_at) where state = 'waiting' and wait = 'credits';
create index tasks_deadline on tasks (deadline_at) where deadline_at is not null and ended_at is null;
create index tasks_for_approval on tasks (tenant_id, id) where state = 'waiting' and wait = 'approval';
create index tasks_paused on tasks (run_id, id) where state = 'waiting' and wait = 'paused';
create unique index tasks_item on tasks (parent_id, item) where layer > 0;
create index tasks_next_item on tasks (parent_id, item) where state = 'pending' and remaining_needs = 0 and layer > 0;
