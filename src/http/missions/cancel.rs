//! A user cancels a mission.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::flow::Refusal;
use bursar_domain::id::MissionKind;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::json;
use super::super::json::OptionalJson;
use super::super::limits::MAX_WORDS_BYTES;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::ShownMission;
use super::one::find;
use super::pause::shown;
use super::renew::{CancelForecast, MissionOrForecast, wants_preview};
use crate::engine::ControlError;

/// Why a mission is cancelled.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct CancelMission {
    /// Shown as the mission's `status_reason`.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Cancel a mission
///
/// Ends its tasks and stops steps in flight; what was used so far is charged, the rest of its holds is released.
/// Cancelling twice is the same as once. With `?preview=true` nothing happens and the answer tells what would.
#[utoipa::path(
    post, path = "/v1/missions/{id}/cancel", operation_id = "missions.cancel", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("preview" = Option<bool>, Query, description = "Only tell what would happen"),
    ),
    request_body(content = Option<CancelMission>, content_type = "application/json"),
    responses((status = 200, description = "The mission, cancelling or cancelled; or the preview", body = MissionOrForecast, headers(("ETag" = Option<String>)))),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
    OptionalJson(wish): OptionalJson<CancelMission>,
) -> Result<Response<Body>, Problem> {
    let is_preview = wants_preview(&mut query)?;
    query.done()?;
    let reason = reason_of(wish.reason.as_deref())?;
    find(&site, &caller, id).await?;
    if is_preview {
        let told = site.engine().preview_cancel(id).await.map_err(refused)?;
        return Ok(json(StatusCode::OK, &CancelForecast::from(told)));
    }
    site.engine().cancel(id, reason).await.map_err(refused)?;
    shown(&site, &caller, id).await
}

/// The words that a user gives for what is done to a mission.
pub(super) fn reason_of(reason: Option<&str>) -> Result<Option<&str>, Problem> {
    if reason.is_some_and(|reason| reason.len() > MAX_WORDS_BYTES) {
        return Err(Problem::invalid("/reason", "too_long", &format!("must have at most {MAX_WORDS_BYTES} bytes")));
    }
    Ok(reason.filter(|reason| !reason.trim().is_empty()))
}

pub(super) fn refused(error: ControlError) -> Problem {
    match error {
        ControlError::Refused(Refusal::NotFound(_)) => Problem::not_found("mission"),
        ControlError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        ControlError::Store(error) => error.into(),
    }
}
