-- Waits: for a person's approval, for a signal from outside, for a condition to be decided, for a paused run to go on;
-- and the time by which a task must be over. SQLite cannot change a check: the tables are made anew.

create table new_runs (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  workflow_id text not null,
  price_book_id text not null,
  number integer not null,
  state text not null,
  status_reason text,
  error text,
  fee_ucr integer not null,
  fee_hold_id text,
  deadline_at integer,
  created_at integer not null,
  started_at integer,
  ended_at integer,
  constraint runs_number unique (mission_id, number),
  constraint runs_state check (
    state in (
      'queued', 'running', 'paused', 'failing', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired')),
  constraint runs_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'expired'))),
  constraint runs_fee check (fee_ucr >= 0)
) strict;
insert into new_runs (
  id, tenant_id, mission_id, workflow_id, price_book_id, number, state, status_reason, error, fee_ucr, fee_hold_id,
  deadline_at, created_at, started_at, ended_at)
select
  id, tenant_id, mission_id, workflow_id, price_book_id, number, state, status_reason, error, fee_ucr, fee_hold_id,
  deadline_at, created_at, started_at, ended_at
from runs;
drop table runs;
alter table new_runs rename to runs;
create index runs_ending on runs (state, id) where state in ('failing', 'cancelling');
create index runs_deadline on runs (deadline_at)
  where deadline_at is not null and state in ('queued', 'running', 'paused');
create index runs_paused on runs (id) where state = 'paused';

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
  constraint tasks_node unique (run_id, node_index),
  constraint tasks_state check (
    state in ('pending', 'ready', 'running', 'retrying', 'waiting', 'succeeded', 'failed', 'cancelled', 'skipped')),
  constraint tasks_running check (
    state <> 'running' or (lease_token is not null and lease_until is not null and worker_id is not null)),
  constraint tasks_waiting check ((state = 'waiting') = (wait is not null)),
  constraint tasks_wait check (
    wait in ('credits', 'timer', 'rate_limit', 'condition', 'approval', 'signal', 'paused')),
  constraint tasks_ended check (
    (ended_at is not null) = (state in ('succeeded', 'failed', 'cancelled', 'skipped'))),
  constraint tasks_hold_ended check (ended_at is null or hold_id is null),
  constraint tasks_counts check (remaining_needs >= 0 and attempt >= 0 and failures >= 0 and losses >= 0),
  constraint tasks_money check (cost_ucr >= 0 and units_ucr >= 0)
) strict;
insert into new_tasks (
  id, tenant_id, mission_id, run_id, workflow_id, node, node_index, kind, pool, priority, state, wait,
  status_reason, remaining_needs, input_bytes, attempt, failures, losses, fence, lease_token, lease_until,
  worker_id, ready_at, due_at, started_at, ended_at, priced, hold_id, holds, output, error, cost_ucr, units_ucr,
  usage, created_at)
select
  id, tenant_id, mission_id, run_id, workflow_id, node, node_index, kind, pool, priority, state, wait,
  status_reason, remaining_needs, input_bytes, attempt, failures, losses, fence, lease_token, lease_until,
  worker_id, ready_at, due_at, started_at, ended_at, priced, hold_id, holds, output, error, cost_ucr, units_ucr,
  usage, created_at
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

-- Signals as they came in. One that nobody waits for yet stays until somebody does; each is delivered to one task.
create table signals (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  name text not null,
  key text,                        -- the sender's idempotency key, unique in the mission for ever
  request_hash text not null,      -- SHA-256 of name and payload, to tell a replay from a reuse
  payload text not null,
  task_id text,                    -- to whom it was delivered
  received_at integer not null,
  delivered_at integer,
  constraint signals_delivered check ((task_id is null) = (delivered_at is null))
) strict;
create unique index signals_key on signals (mission_id, key) where key is not null;
create index signals_buffered on signals (mission_id, id) where task_id is null;
