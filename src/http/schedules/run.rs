//! A schedule's mission, submitted out of turn.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bursar_domain::id::ScheduleKind;

use super::super::auth::Caller;
use super::super::conditional::{idempotency_key, json, replayed, with_header};
use super::super::missions::body::Mission;
use super::super::missions::one::find;
use super::super::missions::submit;
use super::super::params::{PathId, Query};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::ShownSchedule;
use super::change::refused;

/// Run a schedule now
///
/// Submits its mission beside its times: neither they nor `overlap` know of it.
#[utoipa::path(
    post, path = "/v1/schedules/{id}/run", operation_id = "schedules.run", tag = "schedules",
    params(
        ("id" = ShownSchedule, Path, description = "The schedule"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    responses(
        (status = 202, description = "The mission", body = Mission, headers(("Location" = String))),
        (status = 402, description = "The credits do not suffice; nothing was created", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<ScheduleKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let key = idempotency_key(&headers)?;
    let submitted = site.engine().run_schedule(caller.tenant_id, id, key).await.map_err(refused)?;
    let submitted = submitted.map_err(|error| submit::refused(&site, error))?;
    let mission = find(&site, &caller, submitted.mission_id).await?;
    let mission = Mission::of(&site, mission, None).with_stream(&site, submitted.mission_id);
    let response = json(StatusCode::ACCEPTED, &mission);
    let response = with_header(response, header::LOCATION, &format!("/v1/missions/{}", submitted.mission_id));
    Ok(if submitted.replayed { replayed(response) } else { response })
}
