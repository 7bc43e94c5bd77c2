-- Bulk actions: what failed for the same reason is tried again, a few missions each second.

-- Whoever works on the next second says so by moving `next_at` and `step` on, in one update. `next_at` is then the end of
-- his lease, and when he is done the time of the second after.
create table bulk_actions (
  id text primary key not null,
  owner_id text not null, -- the tenant of the key that ordered it
  tenant_id text, -- whose missions; null is all tenants
  kind text not null,
  fingerprint text not null,
  state text not null,
  actor text not null, -- the key that ordered it
  per_second integer not null,
  total integer not null,
  step integer not null, -- seconds that were taken
  next_at integer, -- none once it is over
  idempotency_key text,
  request_hash text not null,
  created_at integer not null,
  updated_at integer not null,
  ended_at integer,
  constraint bulk_actions_key unique (owner_id, idempotency_key),
  constraint bulk_actions_kind check (kind in ('redrive')),
  constraint bulk_actions_state check (state in ('running', 'done', 'aborted')),
  constraint bulk_actions_ended check (
    (state = 'running') = (ended_at is null) and (state = 'running') = (next_at is not null)),
  constraint bulk_actions_counts check (per_second > 0 and total >= 0 and step >= 0)
) strict;
create index bulk_actions_of_tenant on bulk_actions (tenant_id, id);
create index bulk_actions_running on bulk_actions (next_at) where state = 'running';
create index bulk_actions_over on bulk_actions (ended_at) where ended_at is not null;

-- The missions of an action as they were when it was ordered, and what came of each.
create table bulk_items (
  action_id text not null,
  mission_id text not null,
  run_id text not null, -- the run that had failed
  retries integer not null, -- how often it had been retried: a mission that went on since is left alone
  outcome text,
  reason text, -- why it was not retried: a stable code
  constraint bulk_items_key primary key (action_id, mission_id),
  constraint bulk_items_action foreign key (action_id) references bulk_actions (id),
  constraint bulk_items_outcome check (outcome in ('retried', 'refused', 'failed')),
  constraint bulk_items_reason check ((outcome is not null and outcome <> 'retried') = (reason is not null))
) strict;
create index bulk_items_open on bulk_items (action_id, mission_id) where outcome is null;

-- a run that was late as a whole is a dead letter, too
drop index runs_dead;
create index runs_dead on runs (fingerprint, mission_id)
  where state in ('failed', 'expired') and fingerprint is not null;
