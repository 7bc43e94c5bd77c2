-- Tasks that take turns: of those of a tenant with the same key, so many run at once. Claims count what runs by live
-- leases, so that nothing is counted twice or for ever.

alter table tasks add column concurrency_key text collate "C";
alter table tasks add column concurrency_max integer;
-- ready, and kept back by a claim because as many as may were running
alter table tasks add column held_since bigint;
create index tasks_at_turn on tasks (tenant_id, concurrency_key)
  where state = 'running' and concurrency_key is not null;
create index tasks_for_turn on tasks (tenant_id, concurrency_key, priority desc, ready_at)
  where state = 'ready' and held_since is not null;
