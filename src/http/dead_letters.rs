//! Dead letters: missions that failed, grouped by what their failures have in common. A tenant sees its own, an operator
//! those of all.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use bursar_domain::id::TenantId;
use bursar_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::{Admin, Caller};
use super::conditional::json;
use super::missions::body::{Mission, MissionError};
use super::page::Page;
use super::params::{Query, position};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{ShownMission, Time};
use crate::store::read::DeadLetterGroup;

/// Failed missions that have their failure in common.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetters {
    /// Names the group: workflow, node, code and message without numbers, ids and quoted texts.
    fingerprint: String,
    /// How many missions. One that is tried again is none of them while it runs.
    missions: i64,
    /// How many tenants they belong to.
    tenants: i64,
    /// The workflow.
    workflow: String,
    /// The node that failed.
    node: Option<String>,
    /// The error's stable code.
    code: String,
    /// What the last one's error says.
    message: String,
    /// The mission that failed last.
    sample_id: ShownMission,
    /// When the first of them failed.
    first_at: Time,
    /// When the last of them failed.
    last_at: Time,
}

impl From<DeadLetterGroup> for DeadLetters {
    fn from(group: DeadLetterGroup) -> Self {
        let error = MissionError::of(&group.error.unwrap_or_default());
        Self {
            fingerprint: group.fingerprint,
            missions: group.missions,
            tenants: group.tenants,
            workflow: group.workflow,
            node: error.node,
            code: error.code,
            message: error.message,
            sample_id: group.sample_id.into(),
            first_at: group.first_at.into(),
            last_at: group.last_at.into(),
        }
    }
}

/// One group with a page of its missions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeadLetterPage {
    /// The group.
    group: DeadLetters,
    /// Its missions, newest first.
    #[serde(flatten)]
    missions: Page<Mission>,
}

/// List dead letters
///
/// Failed missions by what their failures have in common, the latest failure first.
#[utoipa::path(
    get, path = "/v1/dead-letters", operation_id = "dead_letters.list", tag = "dead-letters",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of groups", body = Page<DeadLetters>)),
)]
pub(super) async fn list(State(site): State<Site>, caller: Caller, query: Query) -> Result<Response<Body>, Problem> {
    groups(&site, Some(caller.tenant_id), query).await
}

/// List dead letters of all tenants
#[utoipa::path(
    get, path = "/v1/admin/dead-letters", operation_id = "admin.dead_letters", tag = "admin",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of groups", body = Page<DeadLetters>)),
)]
pub(super) async fn list_all(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    groups(&site, None, query).await
}

/// Read a group of dead letters
///
/// With its missions, newest first.
#[utoipa::path(
    get, path = "/v1/dead-letters/{fingerprint}", operation_id = "dead_letters.get", tag = "dead-letters",
    params(
        ("fingerprint" = String, Path, description = "The group"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Missions per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "The group with a page of its missions", body = DeadLetterPage)),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    Path(fingerprint): Path<String>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    group(&site, Some(caller.tenant_id), &fingerprint, query).await
}

/// Read a group of dead letters of all tenants
#[utoipa::path(
    get, path = "/v1/admin/dead-letters/{fingerprint}", operation_id = "admin.dead_letter", tag = "admin",
    params(
        ("fingerprint" = String, Path, description = "The group"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Missions per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "The group with a page of its missions", body = DeadLetterPage)),
)]
pub(super) async fn get_of_all(
    State(site): State<Site>,
    _: Admin,
    Path(fingerprint): Path<String>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    group(&site, None, &fingerprint, query).await
}

fn scope(tenant: Option<TenantId>) -> String {
    tenant.map_or_else(|| "all".to_owned(), |tenant| tenant.to_string())
}

async fn groups(site: &Site, tenant: Option<TenantId>, mut query: Query) -> Result<Response<Body>, Problem> {
    let list = format!("{}/dead-letters", scope(tenant));
    let after = query.cursor(&list)?.map(|text| place(&text)).transpose()?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().dead_letters(tenant, after, limit + 1).await?;
    let at = |row: &DeadLetterGroup| format!("{}/{}", row.last_at.ms(), row.fingerprint);
    Ok(json(StatusCode::OK, &Page::cut(rows, limit, &list, at, DeadLetters::from)))
}

/// Where a page of groups ended.
fn place(text: &str) -> Result<(Timestamp, String), Problem> {
    let refused = || Problem::new(Code::BadCursor, "the cursor is not one of this list with these filters");
    let (ms, fingerprint) = text.split_once('/').ok_or_else(refused)?;
    Ok((Timestamp::from_ms(ms.parse().map_err(|_| refused())?), fingerprint.to_owned()))
}

async fn group(
    site: &Site,
    tenant: Option<TenantId>,
    fingerprint: &str,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = format!("{}/dead-letters/{fingerprint}", scope(tenant));
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let group = site.store().dead_letter_group(tenant, fingerprint).await?;
    let group = DeadLetters::from(group.ok_or_else(|| Problem::not_found("group of dead letters"))?);
    let rows = site.store().dead_missions(tenant, fingerprint, before, limit + 1).await?;
    let missions = Page::cut(rows, limit, &list, |row| row.id.to_string(), |row| Mission::of(site, row, None));
    Ok(json(StatusCode::OK, &DeadLetterPage { group, missions }))
}
