-- Waits: for a person's approval, for a signal from outside, for a condition to be decided, for a paused run to go on;
-- and the time by which a task must be over.

alter table runs
  drop constraint runs_state,
  add constraint runs_state check (
    state in (
      'queued', 'running', 'paused', 'failing', 'cancelling', 'succeeded', 'failed', 'cancelled', 'expired'));
drop index runs_deadline;
create index runs_deadline on runs (deadline_at)
  where deadline_at is not null and state in ('queued', 'running', 'paused');
create index runs_paused on runs (id) where state = 'paused';

alter table tasks
  -- when it fails if it is not over by then, whatever it waits for
  add column deadline_at bigint,
  -- what is shown to whoever decides an approval, as it was when the decision was asked for
  add column shown text,
  drop constraint tasks_wait,
  add constraint tasks_wait check (
    wait in ('credits', 'timer', 'rate_limit', 'condition', 'approval', 'signal', 'paused'));
create index tasks_deadline on tasks (deadline_at) where deadline_at is not null and ended_at is null;
create index tasks_for_approval on tasks (tenant_id, id) where state = 'waiting' and wait = 'approval';
create index tasks_paused on tasks (run_id, id) where state = 'waiting' and wait = 'paused';

-- Signals as they came in. One that nobody waits for yet stays until somebody does; each is delivered to one task.
create table signals (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  name text not null,
  key text collate "C",            -- the sender's idempotency key, unique in the mission for ever
  request_hash text not null,      -- SHA-256 of name and payload, to tell a replay from a reuse
  payload json not null,
  task_id text collate "C",        -- to whom it was delivered
  received_at bigint not null,
  delivered_at bigint,
  constraint signals_delivered check ((task_id is null) = (delivered_at is null))
);
create unique index signals_key on signals (mission_id, key) where key is not null;
create index signals_buffered on signals (mission_id, id) where task_id is null;
