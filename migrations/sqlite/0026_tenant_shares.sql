-- Shares: how much of the workers a tenant gets beside others, and how many missions it may have at once.

-- a tenant of weight 3 gets three times the slots
alter table tenants add column weight integer not null default 1
  constraint tenants_weight check (weight between 1 and 1000);
-- missions that are not over; null is any number
alter table tenants add column max_queued integer
  constraint tenants_max_queued check (max_queued >= 0);
-- those few that are not as all others: every process looks for them again and again
create index tenants_weighted on tenants (id) where weight <> 1;

-- Priorities age: a point is worth a minute of waiting, so tasks go by what their ready_at would be without it.
drop index tasks_ready;
create index tasks_ready on tasks (pool, tenant_id, ready_at - priority * 60000) where state = 'ready';
