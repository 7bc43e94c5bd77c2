-- Nodes that stand in for others that failed.

alter table tasks
  -- the task that stands in for it since it failed: what that hands on is what this one does
  add column stand_in_id text collate "C",
  add constraint tasks_stand_in check (stand_in_id is null or state = 'failed');
