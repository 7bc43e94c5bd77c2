-- What is over grows old: events and journals, then outputs, then the mission are pruned; what the ledger refers to stays.
-- What failed for the same reason is found together.

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
