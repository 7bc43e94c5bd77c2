-- Tool calls of agent steps: recorded before a tool runs, its result journaled when it ends.
--
-- A later attempt replays what is done. What a vanished attempt left running is run again if the tool's effects allow
-- that; a tool that takes effect once is not, because nobody knows.

create table tool_calls (
  id text primary key not null,
  tenant_id text not null,
  mission_id text not null,
  run_id text not null,
  task_id text not null,
  attempt integer not null,
  number integer not null,         -- within the step, through all its turns
  request_hash text not null,      -- tool and arguments: what makes a replay the same call
  tool text not null,
  effects text not null,
  state text not null,
  result text,                     -- what the model is told
  is_error integer not null,       -- whether that says why there is no result
  duration_ms integer,
  created_at integer not null,
  ended_at integer,
  constraint tool_calls_effects check (effects in ('none', 'idempotent', 'once')),
  constraint tool_calls_state check (state in ('running', 'done', 'lost')),
  constraint tool_calls_ended check ((state = 'running') = (ended_at is null)),
  constraint tool_calls_done check ((state = 'done') = (result is not null))
) strict;
create index tool_calls_of_task on tool_calls (task_id, number);
