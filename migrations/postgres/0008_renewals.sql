-- Runs that go on after they were over: retries of the same run, forks into a new one.

alter table runs
  -- how often it was retried; numbers the holds on its fee
  add column retries integer not null default 0,
  -- what it was given, where that is not what its mission was submitted with
  add column input json,
  -- the client's idempotency key of the retry or fork that was carried out last, and the SHA-256 of that wish
  add column order_key text,
  add column order_hash text,
  add constraint runs_retries check (retries >= 0);

-- a task that was skipped because its run ended says so by a code, so that a retry can tell it from one whose condition
-- did not hold
update tasks
set error = '{"class":"cancelled","code":"run_ended","message":"its run ended before it could start"}'
where state = 'skipped' and status_reason = 'skipped: its run ended before it could start';
