-- Projects: containers of missions. A mission says at its submit in which it is.

create table projects (
  id text primary key not null,
  tenant_id text not null,
  name text not null,
  description text,
  metadata text,
  archived_at integer, -- since then it takes no missions
  created_at integer not null,
  updated_at integer not null,
  constraint projects_name unique (tenant_id, name),
  constraint projects_tenant foreign key (tenant_id) references tenants (id)
) strict;
create index projects_of_tenant on projects (tenant_id, id);

alter table missions add column project_id text;
create index missions_of_project on missions (project_id, id) where project_id is not null;
