-- Outputs that later tasks of the same tenant may use, by the hash of what they were made from. The output itself stays
-- with the task that made it.

create table kept_outputs (
  task_id text collate "C" primary key,
  tenant_id text collate "C" not null,
  hash text collate "C" not null,      -- SHA-256 of the node's definition and of what its templates became
  created_at bigint not null,
  expires_at bigint not null,
  constraint kept_outputs_life check (expires_at > created_at)
);
create index kept_outputs_by_hash on kept_outputs (tenant_id, hash, expires_at);
create index kept_outputs_expired on kept_outputs (expires_at);
