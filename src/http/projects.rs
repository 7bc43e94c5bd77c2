//! Projects: containers of missions. Made, listed, read, changed, archived, removed.

#![allow(
    clippy::option_option,
    reason = "a field that is left out, one that is null and one with a value are three wishes"
)]

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse;
use bursar_domain::id::ProjectKind;
use bursar_domain::limits::{MAX_PROJECT_DESCRIPTION_BYTES, MAX_PROJECT_NAME_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::{etag_of, json, tagged, with_header};
use super::corrections::given;
use super::json::Json;
use super::limits::MAX_METADATA_BYTES;
use super::page::Page;
use super::params::{PathId, Query, position};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{ShownProject, Time};
use crate::clock::new_id;
use crate::engine::ProjectError;
use crate::store::{self, ProjectFilter};

/// A container of missions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Project {
    /// Its id.
    id: ShownProject,
    /// What people call it, unique among the tenant's.
    name: String,
    /// What it is about.
    description: Option<String>,
    /// The client's own data.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Whether it takes no missions any more.
    archived: bool,
    /// Since when.
    archived_at: Option<Time>,
    /// When it was made.
    created_at: Time,
    /// When it last changed.
    updated_at: Time,
}

impl From<store::Project> for Project {
    fn from(project: store::Project) -> Self {
        Self {
            id: project.id.into(),
            name: project.name,
            description: project.description,
            metadata: project.metadata,
            archived: project.archived_at.is_some(),
            archived_at: project.archived_at.map(Time),
            created_at: project.created_at.into(),
            updated_at: project.updated_at.into(),
        }
    }
}

/// A project to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeProject {
    /// What people call it: 1 to 100 bytes, unique among the tenant's. So the same request twice makes one project.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it is about: at most 1,000 bytes.
    #[serde(default)]
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// The client's own data, at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeProject {
    /// What people call it.
    #[serde(default)]
    name: Option<String>,
    /// What it is about; null for nothing.
    #[serde(default, deserialize_with = "given")]
    description: Option<Option<String>>,
    /// The client's own data, as a whole; null for none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Option<Map<String, Value>>>,
    /// Whether it takes no missions. Those that it has go on.
    #[serde(default)]
    archived: Option<bool>,
}

/// Make a project
#[utoipa::path(
    post, path = "/v1/projects", operation_id = "projects.create", tag = "projects",
    request_body(content = MakeProject, content_type = "application/json"),
    responses(
        (status = 201, description = "The project", body = Project, headers(("Location" = String), ("ETag" = String))),
        (status = 409, description = "The tenant has one of this name", body = super::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(super) async fn create(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    Json { body, .. }: Json<MakeProject>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let now = site.engine().clock().now();
    let project = store::Project {
        id: new_id(),
        tenant_id: caller.tenant_id,
        name: name(&body.name)?,
        description: body.description.map(description).transpose()?,
        metadata: body.metadata.map(metadata).transpose()?,
        archived_at: None,
        created_at: now,
        updated_at: now,
    };
    site.engine().create_project(&project).await.map_err(refused)?;
    let location = format!("/v1/projects/{}", project.id);
    Ok(with_header(answer(StatusCode::CREATED, project), header::LOCATION, &location))
}

/// List projects
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/projects", operation_id = "projects.list", tag = "projects",
    params(
        ("archived" = Option<bool>, Query, description = "Only archived ones, or only others"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of projects", body = Page<Project>)),
)]
pub(super) async fn list(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let archived = match query.one("archived")?.as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Problem::parameter("archived", "must be true or false")),
    };
    let list = format!("{}/projects?archived={archived:?}", caller.tenant_id);
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let filter = ProjectFilter { tenant: Some(caller.tenant_id), archived, before, limit: limit + 1 };
    let rows = site.store().projects(&filter).await?;
    Ok(json(StatusCode::OK, &Page::cut(rows, limit, &list, |row| row.id.to_string(), Project::from)))
}

/// Read a project
#[utoipa::path(
    get, path = "/v1/projects/{id}", operation_id = "projects.get", tag = "projects",
    params(
        ("id" = ShownProject, Path, description = "The project"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The project", body = Project, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ProjectKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let project = site.store().project(Some(caller.tenant_id), id).await?;
    let project = Project::from(project.ok_or_else(|| Problem::not_found("project"))?);
    Ok(tagged(&headers, &etag_of(&project), &project))
}

/// Change a project
///
/// `archived: true` makes it take no more missions, `false` lets it take some again.
#[utoipa::path(
    patch, path = "/v1/projects/{id}", operation_id = "projects.change", tag = "projects",
    params(("id" = ShownProject, Path, description = "The project")),
    request_body(content = ChangeProject, content_type = "application/json"),
    responses(
        (status = 200, description = "The project", body = Project, headers(("ETag" = String))),
        (status = 409, description = "The tenant has another one of this name", body = super::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(super) async fn patch(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ProjectKind>,
    query: Query,
    Json { body, .. }: Json<ChangeProject>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let new_name = body.name.as_deref().map(name).transpose()?;
    let new_description = body.description.map(|text| text.map(description).transpose()).transpose()?;
    let new_metadata = body.metadata.map(|data| data.map(metadata).transpose()).transpose()?;
    let now = site.engine().clock().now();
    let change = |row: &mut store::Project| {
        row.name = new_name.clone().unwrap_or_else(|| row.name.clone());
        row.description = new_description.clone().unwrap_or_else(|| row.description.clone());
        row.metadata = new_metadata.clone().unwrap_or_else(|| row.metadata.clone());
        if let Some(archived) = body.archived {
            row.archived_at = archived.then(|| row.archived_at.unwrap_or(now));
        }
    };
    let project = site.engine().change_project(caller.tenant_id, id, change).await.map_err(refused)?;
    Ok(answer(StatusCode::OK, project))
}

/// Remove a project
///
/// One that is archived and has no missions. Missions are kept for as long as the ledger refers to them: a project that
/// ever had one stays, archived.
#[utoipa::path(
    delete, path = "/v1/projects/{id}", operation_id = "projects.delete", tag = "projects",
    params(("id" = ShownProject, Path, description = "The project")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It is not archived, or has missions", body = super::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(super) async fn delete(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ProjectKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    site.engine().remove_project(caller.tenant_id, id).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn answer(status: StatusCode, project: store::Project) -> Response<Body> {
    let project = Project::from(project);
    with_header(json(status, &project), header::ETAG, &etag_of(&project))
}

fn name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    if (1..=MAX_PROJECT_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    let words = format!("must be 1 to {MAX_PROJECT_NAME_BYTES} bytes without control characters");
    Err(Problem::invalid("/name", "invalid", &words))
}

fn description(text: String) -> Result<String, Problem> {
    if text.len() <= MAX_PROJECT_DESCRIPTION_BYTES {
        return Ok(text);
    }
    let words = format!("must have at most {MAX_PROJECT_DESCRIPTION_BYTES} bytes");
    Err(Problem::invalid("/description", "too_long", &words))
}

fn metadata(map: Map<String, Value>) -> Result<Value, Problem> {
    let value = Value::Object(map);
    if value.to_string().len() <= MAX_METADATA_BYTES {
        return Ok(value);
    }
    let words = format!("must have at most {MAX_METADATA_BYTES} bytes as JSON");
    Err(Problem::invalid("/metadata", "too_long", &words))
}

fn refused(error: ProjectError) -> Problem {
    match error {
        ProjectError::NotFound => Problem::not_found("project"),
        ProjectError::NameTaken => Problem::new(Code::NameTaken, error.to_string()),
        ProjectError::TooMany | ProjectError::InUse => Problem::new(Code::IllegalState, error.to_string()),
        ProjectError::Busy => Problem::new(Code::Overloaded, error.to_string()),
        ProjectError::Store(error) => error.into(),
    }
}
