-- Projects: containers of missions. A mission says at its submit in which it is.

create table projects (
  id text collate "C" primary key,
  tenant_id text collate "C" not null,
  name text not null,
  description text,
  metadata json,
  archived_at bigint,                   -- since then it takes no missions
  created_at bigint not null,
  updated_at bigint not null,
  constraint projects_name unique (tenant_id, name),
  constraint projects_tenant foreign key (tenant_id) references tenants (id)
);
create index projects_of_tenant on projects (tenant_id, id);

alter table missions add column project_id text collate "C";
create index missions_of_project on missions (project_id, id) where project_id is not null;
