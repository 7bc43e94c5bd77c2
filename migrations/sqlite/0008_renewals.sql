-- Runs that go on after they were over: retries of the same run, forks into a new one.

-- how often it was retried; numbers the holds on its fee
alter table runs add column retries integer not null default 0 constraint runs_retries check (retries >= 0);
-- what it was given, where that is not what its mission was submitted with
alter table runs add column input text;
-- the client's idempotency key of the retry or fork that was carried out last, and the SHA-256 of that wish
alter table runs add column order_key text;
alter table runs add column order_hash text;

-- a task that was skipped because its run ended says so by a code, so that a retry can tell it from one whose condition
-- did not hold
update tasks
set error = '{"class":"cancelled","code":"run_ended","message":"its run ended before it could start"}'
where state = 'skipped' and status_reason = 'skipped: its run ended before it could start';
