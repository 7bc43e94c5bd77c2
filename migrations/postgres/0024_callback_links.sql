-- Links by which somebody without an account decides once: an approval, or a signal. The secret in a link is shown when it
-- is made and never stored; whoever reads this table can't use one.

create table callback_links (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  mission_id text collate "C" not null,
  task_id text collate "C",          -- the approval; null for a signal
  asked_at bigint,                   -- when the approval was asked for: asked again after a retry, it is another question
  signal text,                       -- the signal's name; null for an approval
  decisions text not null,           -- what may be decided: approved, rejected, or both with a comma
  secret_hash text collate "C" not null,
  created_by text collate "C" not null,
  created_at bigint not null,
  expires_at bigint not null,
  constraint callback_links_secret unique (secret_hash),
  constraint callback_links_one_thing check ((task_id is null) = (asked_at is null) and (task_id is null) = (signal is not null)),
  constraint callback_links_life check (expires_at > created_at)
);
create index callback_links_expired on callback_links (expires_at);
