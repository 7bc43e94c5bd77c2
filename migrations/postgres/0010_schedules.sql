-- Schedules: what is submitted again and again, when, and how that went.
--
-- A firing makes its mission and moves the row on in one transaction. `due_at` is null while a schedule is paused or has
-- no time any more: what is due is found by it alone.

create table schedules (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  name text not null,
  cron text not null,
  zone text not null,                   -- an IANA time zone
  workflow text not null,               -- a name, perhaps with @version: looked up at each firing
  input json not null,
  budget_ucr bigint,
  on_exhausted text,
  priority smallint not null,
  tags json,
  overlap text not null,
  catch_up text not null,
  jitter_ms bigint not null,
  paused boolean not null,
  next_at bigint,                       -- the next time by the expression
  due_at bigint,                        -- the same with its jitter
  waiting_for bigint,                   -- the time of a firing that waits for the last mission to end
  last_fired_at bigint,
  last_mission_id text collate "C",
  last_error json,
  fired bigint not null,
  skipped bigint not null,
  refused bigint not null,
  version bigint not null,              -- grows with every change; whoever fires names the one he saw
  created_at bigint not null,
  updated_at bigint not null,
  constraint schedules_name unique (tenant_id, name),
  constraint schedules_on_exhausted check (on_exhausted in ('pause', 'fail')),
  constraint schedules_overlap check (overlap in ('skip', 'queue', 'replace')),
  constraint schedules_catch_up check (catch_up in ('none', 'last')),
  constraint schedules_jitter check (jitter_ms >= 0),
  constraint schedules_times check ((next_at is null) = (due_at is null) and due_at >= next_at),
  constraint schedules_paused check (not paused or (due_at is null and waiting_for is null)),
  constraint schedules_counts check (fired >= 0 and skipped >= 0 and refused >= 0)
);
create index schedules_of_tenant on schedules (tenant_id, id);
create index schedules_due on schedules (due_at) where due_at is not null;
create index schedules_waiting on schedules (waiting_for) where waiting_for is not null;
