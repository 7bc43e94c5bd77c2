-- Dedupe keys: the clients' own names for what must not be done twice, each with the mission that took it last.
--
-- A submit that names one locks its row, or inserts it, in its own transaction. A key is taken while its mission runs,
-- and until `taken_until` in any case.

create table dedupe_keys (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  key text collate "C" not null,
  mission_id text collate "C" not null,
  run_id text collate "C" not null,
  taken_until bigint not null,
  constraint dedupe_keys_key unique (tenant_id, key)
);
create index dedupe_keys_until on dedupe_keys (taken_until);
