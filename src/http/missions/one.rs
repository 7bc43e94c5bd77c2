//! One mission: read, long-polled.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Response, header};
use bursar_domain::id::{MissionId, MissionKind};
use bursar_domain::record::{PRUNED_MISSION, PRUNED_OUTPUTS};

use super::super::auth::Caller;
use super::super::conditional::{has_seen, tagged, wait, with_header};
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::request::Drain;
use super::super::state::Site;
use super::super::types::ShownMission;
use super::body::Mission;
use super::result::outputs;
use super::wait::Wait;
use crate::store::read::MissionView;

/// Says that a preference was honoured (RFC 7240).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Read a mission
///
/// With `If-None-Match` and `Prefer: wait=N` (or `?wait=N`) the answer waits until the mission differs from the
/// tag, at most N seconds; then 304.
#[utoipa::path(
    get, path = "/v1/missions/{id}", operation_id = "missions.get", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("wait" = Option<u32>, Query, description = "Seconds to wait for a change, at most 25", maximum = 25),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: as `?wait=N`"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The mission", body = Mission, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
    drain: Drain,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let wait = wait(&headers, &mut query)?;
    query.done()?;
    let look = Wait { site: &site, tenant: Some(caller.tenant_id), id, wait: wait.unwrap_or_default(), drain: &drain };
    let is_polled = headers.contains_key(header::IF_NONE_MATCH);
    // rows that show the same are the same mission; the output follows from them
    let differs =
        |view: &MissionView| !is_polled || !has_seen(&headers, &Mission::of(&site, view.clone(), None).etag());
    let is_new = |view: &MissionView| view.state.is_final() || differs(view);
    let view = look.until(is_new).await?.ok_or_else(|| Problem::not_found("mission"))?;
    let view = unpruned(view)?;
    let (mission, etag) = complete(&site, view).await?;
    let response = tagged(&headers, &etag, &mission.with_stream(&site, id));
    Ok(match wait {
        Some(wait) => with_header(response, PREFERENCE_APPLIED, &format!("wait={}", wait.as_secs())),
        None => response,
    })
}

/// The mission with its output, and its tag.
pub(super) async fn complete(site: &Site, view: MissionView) -> Result<(Mission, String), Problem> {
    let has_output = view.state == bursar_domain::state::RunState::Succeeded && view.pruned < PRUNED_OUTPUTS;
    let output = if has_output { Some(outputs(site, &view).await?) } else { None };
    let mission = Mission::of(site, view, output);
    let etag = mission.etag();
    Ok((mission, etag))
}

/// The mission, if it is the caller's.
pub(in crate::http) async fn find(site: &Site, caller: &Caller, id: MissionId) -> Result<MissionView, Problem> {
    let view = site.store().mission(Some(caller.tenant_id), id).await?.ok_or_else(|| Problem::not_found("mission"))?;
    unpruned(view)
}

/// Refuses a mission of which only its cost is left.
pub(in crate::http) fn unpruned(view: MissionView) -> Result<MissionView, Problem> {
    if view.pruned < PRUNED_MISSION {
        return Ok(view);
    }
    Err(Problem::new(Code::Pruned, "the mission is over for long and was pruned").figure("pruned", "mission"))
}
