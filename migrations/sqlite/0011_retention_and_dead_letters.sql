-- What is over grows old: events and journals, then outputs, then the mission are pruned; what the ledger refers to stays.
-- What failed for the same reason is found together, and tried again in bulk.

-- events up to this number were pruned
alter table missions add column pruned_seq integer not null default 0
  constraint missions_pruned check (pruned_seq between 0 and last_seq);
-- what its failure has in common with others: workflow, node, code, message without numbers, ids and quotes
alter table runs add column fingerprint text;
-- 0 whole, 1 without events and journals, 2 without outputs, 3 only what the ledger refers to
alter table runs add column pruned integer not null default 0
  constraint runs_pruned check (pruned between 0 and 3 and (pruned = 0 or ended_at is not null));
create index runs_prunable on runs (pruned, ended_at) where ended_at is not null;
create index runs_dead on runs (fingerprint, mission_id) where state = 'failed' and fingerprint is not null;

-- Many missions are tried again, a few each second. Who works on the next second says so by moving `next_at` on.
create table bulk_actions (
  id text primary key not null,
  tenant_id text,           -- whose missions; null is all tenants
  kind text not null,
  fingerprint text not null,
  state text not null,
  actor text not null,                  -- the key that ordered it
  per_second integer not null,
  total integer not null,
  last_error text,
  next_at integer,                       -- when the next missions are due; none once it is over
  created_at integer not null,
  updated_at integer not null,
  ended_at integer,
  constraint bulk_actions_kind check (kind in ('redrive')),
  constraint bulk_actions_state check (state in ('running', 'done', 'aborted')),
  constraint bulk_actions_ended check (
    (state = 'running') = (ended_at is null) and (state = 'running') = (next_at is not null)),
  constraint bulk_actions_counts check (per_second > 0 and total >= 0)
) strict;
create index bulk_actions_of_tenant on bulk_actions (tenant_id, id);
create index bulk_actions_running on bulk_actions (next_at) where state = 'running';

-- The missions of an action, as they were when it was ordered, and what came of each.
create table bulk_items (
  action_id text not null,
  mission_id text not null,
  outcome text,
  constraint bulk_items_key primary key (action_id, mission_id),
  constraint bulk_items_outcome check (outcome in ('retried', 'refused'))
) strict;
