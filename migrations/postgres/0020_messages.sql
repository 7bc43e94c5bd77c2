-- Messages: what people say to a mission, and what its runs and agents answer. A mission is a session, over all its runs.

create table messages (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  run_id text collate "C" not null,   -- the run that it steers or begins, or that answered
  number bigint not null,             -- 1, 2, 3… in the mission
  role text not null,
  author text collate "C" not null,   -- who said it: an API key's id, an agent's name, or the workflow's
  task_id text collate "C",           -- the task of the agent that said it
  content text,                       -- null where it is kept elsewhere: a task's output, or the outputs of the run
  prompt text,                        -- what the agent had been asked, where it is to remember that
  metadata json,
  key text collate "C",               -- the sender's idempotency key, unique in the mission for ever
  request_hash text,                  -- SHA-256 of what was sent, to tell a replay from a reuse
  effect text,                        -- what it did when it came
  created_at bigint not null,
  constraint messages_role check (role in ('user', 'assistant', 'system')),
  constraint messages_content check (content is not null or role = 'assistant'),
  constraint messages_effect check (effect in ('steers', 'begins_run')),
  constraint messages_sender check ((role = 'user') = (effect is not null) and (role = 'user') = (request_hash is not null)),
  constraint messages_number check (number > 0)
);
create unique index messages_number_in_mission on messages (mission_id, number);
create unique index messages_key on messages (mission_id, key) where key is not null;

alter table missions
  -- the numbers of its last message, and of the last one that a user sent
  add column last_message bigint not null default 0,
  add column last_said bigint not null default 0;
-- the number of its mission's last message when the run began: what came later steers it
alter table runs add column heard bigint not null default 0;
-- the number of its mission's last message when the task first became ready: what it is told from the start
alter table tasks add column heard bigint;
-- the number of the last message that the call's conversation has heard of
alter table usage_calls add column heard bigint not null default 0;
