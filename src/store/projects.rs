//! Projects: containers of missions. Rows of their own that no decision about missions reads or writes.

use bursar_domain::id::{ProjectId, TenantId};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Arg, Store, StoreError};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its id.
    pub id: ProjectId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// What people call it, unique among the tenant's.
    pub name: String,
    /// What it is about.
    pub description: Option<String>,
    /// The client's own data.
    pub metadata: Option<Value>,
    /// Since when it takes no missions.
    pub archived_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Which projects to list.
#[derive(Debug, Clone, Default)]
pub struct ProjectFilter {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only archived ones, or only others.
    pub archived: Option<bool>,
    /// Only older than this one (keyset).
    pub before: Option<ProjectId>,
    /// How many at most.
    pub limit: i64,
}

const PROJECT: &str =
    "select id, tenant_id, name, description, metadata, archived_at, created_at, updated_at from projects";

fn all(rows: Vec<Value>) -> Result<Vec<Project>, StoreError> {
    let parse = |row| serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()));
    rows.into_iter().map(parse).collect()
}

fn tenant_arg(tenant: Option<TenantId>) -> Arg {
    Arg::Text(tenant.map(|id| id.to_string()))
}

/// JSON, or null.
fn json_arg(value: Option<&Value>) -> Arg {
    Arg::Text(value.map(ToString::to_string))
}

impl dyn Store {
    /// Adds a project; a second one of the tenant with its name is a conflict.
    pub async fn add_project(&self, project: &Project) -> Result<(), StoreError> {
        let sql = "
            insert into projects (id, tenant_id, name, description, metadata, archived_at, created_at, updated_at)
            values ($1, $2, $3, $4, {json:5}, null, $6, $6)";
        let args = [
            project.id.into(),
            project.tenant_id.into(),
            project.name.as_str().into(),
            project.description.clone().into(),
            json_arg(project.metadata.as_ref()),
            project.created_at.into(),
        ];
        self.execute(sql, &args).await.map(drop)
    }

    /// One project.
    pub async fn project(&self, tenant: Option<TenantId>, id: ProjectId) -> Result<Option<Project>, StoreError> {
        let sql = format!("{PROJECT} where id = $1 and ($2 is null or tenant_id = $2)");
        Ok(all(self.rows(&sql, &[id.into(), tenant_arg(tenant)]).await?)?.into_iter().next())
    }

    /// Projects, newest first.
    pub async fn projects(&self, filter: &ProjectFilter) -> Result<Vec<Project>, StoreError> {
        let sql = format!(
            "{PROJECT}
             where ($1 is null or tenant_id = $1)
               and ($2 is null or id < $2)
               and ($3 is null or ($3 = 1) = (archived_at is not null))
             order by id desc limit $4"
        );
        let before = Arg::Text(filter.before.map(|id| id.to_string()));
        let args = [tenant_arg(filter.tenant), before, Arg::Int(filter.archived.map(i64::from)), filter.limit.into()];
        all(self.rows(&sql, &args).await?)
    }

    /// How many projects a tenant has, counted up to `most`.
    pub async fn project_count(&self, tenant: TenantId, most: i64) -> Result<i64, StoreError> {
        let sql = "select count(*) as n from (select 1 as one from projects where tenant_id = $1 limit $2) p";
        let rows = self.rows(sql, &[tenant.into(), most.into()]).await?;
        Ok(rows.first().and_then(|row| row["n"].as_i64()).unwrap_or(0))
    }

    /// Writes a project as it was changed, if it is still as it was `seen`; whether it was.
    pub async fn change_project(&self, seen: &Project, changed: &Project) -> Result<bool, StoreError> {
        let sql = "
            update projects
            set name = $3, description = $4, metadata = {json:5}, archived_at = $6, updated_at = $7
            where id = $1 and updated_at = $2";
        let args = [
            seen.id.into(),
            seen.updated_at.into(),
            changed.name.as_str().into(),
            changed.description.clone().into(),
            json_arg(changed.metadata.as_ref()),
            Arg::Int(changed.archived_at.map(Timestamp::ms)),
            changed.updated_at.into(),
        ];
        Ok(self.execute(sql, &args).await? > 0)
    }

    /// Removes a project that is archived and has no missions; whether it was so.
    pub async fn remove_project(&self, tenant: TenantId, id: ProjectId) -> Result<bool, StoreError> {
        let sql = "
            delete from projects
            where tenant_id = $1 and id = $2 and archived_at is not null
              and not exists (select 1 from missions m where m.project_id = $2)";
        Ok(self.execute(sql, &[tenant.into(), id.into()]).await? > 0)
    }
}
