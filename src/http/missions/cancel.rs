//! A user cancels a mission.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use bursar_domain::flow::Refusal;
use bursar_domain::id::MissionKind;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{json, with_header};
use super::super::json::OptionalJson;
use super::super::limits::MAX_WORDS_BYTES;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::ShownMission;
use super::body::Mission;
use super::one::{complete, find};
use crate::engine::CancelError;

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
/// Cancelling twice is the same as once.
#[utoipa::path(
    post, path = "/v1/missions/{id}/cancel", operation_id = "missions.cancel", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    request_body(content = Option<CancelMission>, content_type = "application/json"),
    responses((status = 200, description = "The mission, cancelling or cancelled", body = Mission, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
    OptionalJson(wish): OptionalJson<CancelMission>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    if wish.reason.as_ref().is_some_and(|reason| reason.len() > MAX_WORDS_BYTES) {
        return Err(Problem::invalid("/reason", "too_long", &format!("must have at most {MAX_WORDS_BYTES} bytes")));
    }
    find(&site, &caller, id).await?;
    let reason = wish.reason.as_deref().filter(|reason| !reason.trim().is_empty());
    site.engine().cancel(id, reason).await.map_err(refused)?;
    let (mission, etag) = complete(&site, find(&site, &caller, id).await?).await?;
    Ok(with_header(json(StatusCode::OK, &mission.with_stream(&site, id)), header::ETAG, &etag))
}

fn refused(error: CancelError) -> Problem {
    match error {
        CancelError::Refused(Refusal::NotFound(_)) => Problem::not_found("mission"),
        CancelError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        CancelError::Store(error) => error.into(),
    }
}
