-- Tool calls of agent steps: recorded before a tool runs, its result journaled when it ends.
--
-- A later attempt replays what is done. What a vanished attempt left running is run again if the tool's effects allow
-- that; a tool that takes effect once is not, because nobody knows.

create table tool_calls (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  run_id text collate "C" not null,
  task_id text collate "C" not null,
  attempt integer not null,
  number integer not null,         -- within the step, through all its turns
  request_hash text not null,      -- tool and arguments: what makes a replay the same call
  tool text not null,
  effects text not null,
  state text not null,
  result text,                     -- what the model is told
  is_error boolean not null,       -- whether that says why there is no result
  duration_ms bigint,
  created_at bigint not null,
  ended_at bigint,
  constraint tool_calls_effects check (effects in ('none', 'idempotent', 'once')),
  constraint tool_calls_state check (state in ('running', 'done', 'lost')),
  constraint tool_calls_ended check ((state = 'running') = (ended_at is null)),
  constraint tool_calls_done check ((state = 'done') = (result is not null))
);
create index tool_calls_of_task on tool_calls (task_id, number);
