//! A user pauses a mission and resumes it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use bursar_domain::id::{MissionId, MissionKind};
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{json, with_header};
use super::super::json::OptionalJson;
use super::super::params::{PathId, Query};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::ShownMission;
use super::body::Mission;
use super::cancel::{reason_of, refused};
use super::one::{complete, find};

/// Why a mission is paused.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PauseMission {
    /// Shown as the mission's `status_reason`.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Nothing is to be said about it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ResumeMission {}

/// Pause a mission
///
/// Steps in flight go on and settle, timers and deadlines go on, and nothing new begins; the holds of what has not begun
/// are released. Pausing twice is the same as once.
#[utoipa::path(
    post, path = "/v1/missions/{id}/pause", operation_id = "missions.pause", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    request_body(content = Option<PauseMission>, content_type = "application/json"),
    responses((status = 200, description = "The mission, paused", body = Mission, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn pause(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
    OptionalJson(wish): OptionalJson<PauseMission>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let reason = reason_of(wish.reason.as_deref())?;
    find(&site, &caller, id).await?;
    site.engine().pause(id, reason).await.map_err(refused)?;
    shown(&site, &caller, id).await
}

/// Resume a mission
///
/// What the pause kept from beginning goes on. Resuming a mission that is not paused changes nothing.
#[utoipa::path(
    post, path = "/v1/missions/{id}/resume", operation_id = "missions.resume", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    request_body(content = Option<ResumeMission>, content_type = "application/json"),
    responses((status = 200, description = "The mission, going on", body = Mission, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn resume(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
    OptionalJson(ResumeMission {}): OptionalJson<ResumeMission>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    find(&site, &caller, id).await?;
    site.engine().resume(id).await.map_err(refused)?;
    shown(&site, &caller, id).await
}

/// The mission as it is now.
pub(super) async fn shown(site: &Site, caller: &Caller, id: MissionId) -> Result<Response<Body>, Problem> {
    let (mission, etag) = complete(site, find(site, caller, id).await?).await?;
    Ok(with_header(json(StatusCode::OK, &mission.with_stream(site, id)), header::ETAG, &etag))
}
