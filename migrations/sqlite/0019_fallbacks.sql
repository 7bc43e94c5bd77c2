-- Nodes that stand in for others that failed.

-- the task that stands in for it since it failed: what that hands on is what this one does
alter table tasks add column stand_in_id text
  constraint tasks_stand_in check (stand_in_id is null or state = 'failed');
