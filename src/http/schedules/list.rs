//! Schedules, newest first, and one with its next times.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::id::{ScheduleId, ScheduleKind};
use bursar_domain::record;

use super::super::auth::Caller;
use super::super::conditional::{etag_of, json, tagged};
use super::super::page::Page;
use super::super::params::{PathId, Query, position};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::ShownSchedule;
use super::body::Schedule;

/// List schedules
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "schedules.list", tag = "schedules",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of schedules", body = Page<Schedule>)),
)]
pub(in crate::http) async fn all(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = format!("{}/schedules", caller.tenant_id);
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().schedules(Some(caller.tenant_id), before, limit + 1).await?;
    Ok(json(StatusCode::OK, &Page::cut(rows, limit, &list, |row| row.id.to_string(), Schedule::from)))
}

/// Read a schedule
///
/// With the next five times at which it fires.
#[utoipa::path(
    get, path = "/v1/schedules/{id}", operation_id = "schedules.get", tag = "schedules",
    params(
        ("id" = ShownSchedule, Path, description = "The schedule"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The schedule", body = Schedule, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(in crate::http) async fn one(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let schedule = Schedule::whole(find(&site, &caller, id).await?);
    Ok(tagged(&headers, &etag_of(&schedule), &schedule))
}

/// The schedule, if it is the caller's.
async fn find(site: &Site, caller: &Caller, id: ScheduleId) -> Result<record::Schedule, Problem> {
    site.store().schedule(Some(caller.tenant_id), id).await?.ok_or_else(|| Problem::not_found("schedule"))
}
