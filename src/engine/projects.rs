//! Projects are made, changed, archived and removed.
//!
//! A project that is archived takes no missions; those that it has go on. It is removed only when it is archived and
//! empty: nobody submits into it then, so that no mission is left in a project that does not exist.

use bursar_domain::id::{ProjectId, TenantId};
use bursar_domain::limits::MAX_PROJECTS;

use super::Engine;
use crate::store::{Conflict, Project, StoreError};

/// How often a change is tried that others overtake.
const MOST_RACES: u32 = 8;

/// Why a project is not made, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// It does not exist (for this tenant).
    #[error("there is no such project")]
    NotFound,
    /// Another one has the name.
    #[error("the tenant has a project of this name")]
    NameTaken,
    /// The tenant has too many.
    #[error("a tenant has at most {MAX_PROJECTS} projects")]
    TooMany,
    /// It is not archived, or has missions.
    #[error("only a project that is archived and has no missions can be removed")]
    InUse,
    /// It changed all the time.
    #[error("the project changes too often")]
    Busy,
    /// The store.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for ProjectError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(Conflict::ProjectName) => Self::NameTaken,
            error => Self::Store(error),
        }
    }
}

impl Engine {
    /// Makes a project.
    pub async fn create_project(&self, project: &Project) -> Result<(), ProjectError> {
        if self.store().project_count(project.tenant_id, MAX_PROJECTS).await? >= MAX_PROJECTS {
            return Err(ProjectError::TooMany);
        }
        Ok(self.store().add_project(project).await?)
    }

    /// Changes a tenant's project. `change` gets it as it stands, perhaps more than once.
    pub async fn change_project(
        &self,
        tenant: TenantId,
        id: ProjectId,
        change: impl Fn(&mut Project),
    ) -> Result<Project, ProjectError> {
        for _ in 0..MOST_RACES {
            let seen = self.store().project(Some(tenant), id).await?.ok_or(ProjectError::NotFound)?;
            let mut changed = seen.clone();
            change(&mut changed);
            if changed == seen {
                return Ok(seen);
            }
            // later than what was seen, even if the clock did not move: it tells one change from the next
            changed.updated_at = self.clock().now().max(seen.updated_at.plus_ms(1));
            if self.store().change_project(&seen, &changed).await? {
                return Ok(changed);
            }
        }
        Err(ProjectError::Busy)
    }

    /// Removes a tenant's project that is archived and empty.
    pub async fn remove_project(&self, tenant: TenantId, id: ProjectId) -> Result<(), ProjectError> {
        if self.store().remove_project(tenant, id).await? {
            return Ok(());
        }
        match self.store().project(Some(tenant), id).await? {
            Some(_) => Err(ProjectError::InUse),
            None => Err(ProjectError::NotFound),
        }
    }
}
