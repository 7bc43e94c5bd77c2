//! Makes links. Whoever may decide may hand that on, once and for a time.

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode, header};
use bursar_domain::id::{MissionId, MissionKind, TaskKind};
use bursar_domain::limits::MAX_DEADLINE_MS;
use bursar_domain::state::{TaskState, WaitCause};
use bursar_domain::workflow::parse_duration_ms;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::approvals::Verdict;
use super::super::auth::Caller;
use super::super::conditional::{json, with_header};
use super::super::json::OptionalJson;
use super::super::keys::random_digits;
use super::super::missions::one;
use super::super::params::{PathId, Query, parse_id};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::{ShownLink, Time};
use super::{PREFIX, now};
use crate::clock::new_id;
use crate::digest::sha256_hex;
use crate::store::CallbackLink;

/// How long a link for a signal lives, unless its maker says otherwise.
const SIGNAL_LINK_MS: i64 = 7 * 86_400_000;

/// A link to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct MakeLink {
    /// What may be decided with it; both where left out. Not for signals.
    #[serde(default)]
    decisions: Option<Vec<Verdict>>,
    /// How long it can be used, e.g. `24h`; as long as the approval may be decided, or `7d` for a signal, where left out.
    #[serde(default)]
    expires: Option<String>,
}

/// A link, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct NewLink {
    /// Its id; decisions made with it name it in `by`.
    id: ShownLink,
    /// Hand it to whoever shall decide. Whoever has it can, once.
    #[schema(example = "https://bursar.example.com/c/cbl_…")]
    url: String,
    /// Until when it can be used.
    expires_at: Time,
}

/// Make a link that decides an approval
///
/// Whoever opens it is shown what is to be decided and may decide it once, without an API key. It ends with the approval.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/links", operation_id = "approvals.create_link", tag = "approvals",
    params(("id" = super::super::types::ShownTask, Path, description = "The task that waits for the decision")),
    request_body(content = Option<MakeLink>, content_type = "application/json"),
    responses((status = 201, description = "The link, shown this once", body = NewLink)),
)]
pub(in crate::http) async fn for_approval(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<TaskKind>,
    query: Query,
    OptionalJson(wish): OptionalJson<MakeLink>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = site.store().approval(Some(caller.tenant_id), id).await?;
    let view = view.ok_or_else(|| Problem::not_found("approval"))?;
    let decisions = match &wish.decisions {
        None => "approved,rejected",
        Some(wanted) => match (wanted.contains(&Verdict::Approved), wanted.contains(&Verdict::Rejected)) {
            (true, true) => "approved,rejected",
            (true, false) => "approved",
            (false, true) => "rejected",
            (false, false) => {
                return Err(Problem::invalid("/decisions", "too_few", "must name approved, rejected or both"));
            }
        },
    };
    let asked = lifetime_ms(wish.expires.as_deref())?;
    let made_at = now(&site);
    let is_open = view.state == TaskState::Waiting && view.wait == Some(WaitCause::Approval);
    let due = view.due_at.filter(|due| is_open && *due > made_at);
    let due = due.ok_or_else(|| Problem::new(Code::IllegalState, "nobody is asked to decide this any more"))?;
    let link = CallbackLink {
        id: new_id(),
        tenant_id: caller.tenant_id,
        mission_id: view.mission_id,
        task_id: Some(id),
        asked_at: view.ready_at,
        signal: None,
        decisions: decisions.to_owned(),
        created_by: caller.key_id,
        created_at: made_at,
        expires_at: asked.map_or(due, |ms| made_at.plus_ms(ms).min(due)),
    };
    keep(&site, link).await
}

/// Make a link that sends a signal
///
/// Whoever opens it may send the mission this signal once, without an API key.
#[utoipa::path(
    post, path = "/v1/missions/{id}/signals/{name}/links", operation_id = "missions.create_signal_link", tag = "missions",
    params(
        ("id" = super::super::types::ShownMission, Path, description = "The mission"),
        ("name" = String, Path, description = "The signal's name, as the workflow has it"),
    ),
    request_body(content = Option<MakeLink>, content_type = "application/json"),
    responses((status = 201, description = "The link, shown this once", body = NewLink)),
)]
pub(in crate::http) async fn for_signal(
    State(site): State<Site>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Query,
    OptionalJson(wish): OptionalJson<MakeLink>,
) -> Result<Response<Body>, Problem> {
    let Path((id, name)) = path.map_err(|_| Problem::not_found("address"))?;
    let mission_id: MissionId = parse_id::<MissionKind>(&id)?;
    query.done()?;
    let mission = one::find(&site, &caller, mission_id).await?;
    if wish.decisions.is_some() {
        return Err(Problem::invalid("/decisions", "misplaced", "a signal is sent or not: there is nothing to choose"));
    }
    if !site.engine().waits_for_signal(mission.workflow_id, &name).await? {
        let words = "no node of the mission's workflow waits for a signal of this name";
        return Err(Problem::new(Code::NotFound, words));
    }
    if !mission.state.is_open() {
        return Err(Problem::new(Code::IllegalState, "the mission is over and takes no signals"));
    }
    let made_at = now(&site);
    let lifetime = lifetime_ms(wish.expires.as_deref())?.unwrap_or(SIGNAL_LINK_MS);
    let link = CallbackLink {
        id: new_id(),
        tenant_id: caller.tenant_id,
        mission_id,
        task_id: None,
        asked_at: None,
        signal: Some(name),
        decisions: "approved".to_owned(),
        created_by: caller.key_id,
        created_at: made_at,
        expires_at: made_at.plus_ms(lifetime),
    };
    keep(&site, link).await
}

/// How long the link shall live, as its maker says.
fn lifetime_ms(text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let ms = parse_duration_ms(text).filter(|ms| (1_000..=MAX_DEADLINE_MS).contains(ms));
    let words = "must be a duration of at least 1s, at most what a mission may take, e.g. 24h";
    ms.map(Some).ok_or_else(|| Problem::invalid("/expires", "invalid", words))
}

async fn keep(site: &Site, link: CallbackLink) -> Result<Response<Body>, Problem> {
    let secret = format!("{PREFIX}{}", random_digits());
    site.store().add_link(&link, &sha256_hex(&secret)).await?;
    let url = format!("{}/c/{secret}", site.settings().public_url.trim_end_matches('/'));
    let shown = NewLink { id: link.id.into(), url, expires_at: link.expires_at.into() };
    Ok(with_header(json(StatusCode::CREATED, &shown), header::CACHE_CONTROL, "no-store"))
}
