//! Approvals: what waits for a person's decision, and the decision.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::flow::{Answer, ApprovalRefusal, Refusal};
use bursar_domain::id::{MissionKind, TaskId, TaskKind};
use bursar_domain::limits::MAX_COMMENT_BYTES;
use bursar_domain::record;
use bursar_domain::state::{TaskState, WaitCause};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::json::OptionalJson;
use super::page::Page;
use super::params::{PathId, Query, parse_id, position};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{ShownMission, ShownRun, ShownTask, Time};
use crate::engine::ApprovalError;
use crate::store::read::{ApprovalFilter, ApprovalView};

/// Where an approval stands.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ApprovalStatus {
    /// Somebody is asked to decide.
    Open,
    /// Somebody said yes; final.
    Approved,
    /// Somebody said no; final.
    Rejected,
    /// Nobody decided in time; final.
    Expired,
    /// It ended otherwise, with its run for instance; final.
    Closed,
}

/// What became of an approval.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Decision {
    /// `approved`, `rejected` or `expired`.
    decision: &'static str,
    /// Who decided, the id of an API key; null when nobody did.
    by: Option<String>,
    /// What they said about it.
    comment: Option<String>,
    /// When.
    at: Time,
}

/// Something that a person is asked to decide.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Approval {
    /// The task that waits for it.
    id: ShownTask,
    /// Its mission.
    mission_id: ShownMission,
    /// Its run.
    run_id: ShownRun,
    /// The workflow's name.
    workflow: String,
    /// The node's key.
    node: String,
    /// Where it stands.
    status: ApprovalStatus,
    /// What is to be decided, as it was when it was asked; null in lists.
    shown: Option<String>,
    /// What became of it.
    decision: Option<Decision>,
    /// When it was asked.
    asked_at: Option<Time>,
    /// Until when it may be decided; null when it is over.
    expires_at: Option<Time>,
    /// When it was over.
    ended_at: Option<Time>,
}

impl From<record::Decision> for Decision {
    fn from(made: record::Decision) -> Self {
        Self { decision: made.decision.as_str(), by: made.by, comment: made.comment, at: made.at.into() }
    }
}

impl From<ApprovalView> for Approval {
    fn from(view: ApprovalView) -> Self {
        let is_open = view.state == TaskState::Waiting && view.wait == Some(WaitCause::Approval);
        let status = match view.decision.as_ref().map(|made| made.decision) {
            Some(record::Verdict::Approved) => ApprovalStatus::Approved,
            Some(record::Verdict::Rejected) => ApprovalStatus::Rejected,
            Some(record::Verdict::Expired) => ApprovalStatus::Expired,
            None if is_open => ApprovalStatus::Open,
            None => ApprovalStatus::Closed,
        };
        Self {
            id: view.id.into(),
            mission_id: view.mission_id.into(),
            run_id: view.run_id.into(),
            workflow: view.workflow_name,
            node: view.node,
            status,
            shown: view.shown,
            decision: view.decision.map(Decision::from),
            asked_at: view.ready_at.map(Time),
            expires_at: view.due_at.filter(|_| is_open).map(Time),
            ended_at: view.ended_at.map(Time),
        }
    }
}

/// List what is to be decided
///
/// Open approvals alone, those of the oldest missions first. `shown` is left to the approval itself.
#[utoipa::path(
    get, path = "/v1/approvals", operation_id = "approvals.list", tag = "approvals",
    params(
        ("mission_id" = Option<ShownMission>, Query, description = "Only of this mission"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of approvals", body = Page<Approval>)),
)]
pub(super) async fn list(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let mission = query.one("mission_id")?.map(|text| parse_id::<MissionKind>(&text)).transpose()?;
    let list = format!("{}/approvals?mission={mission:?}", caller.tenant_id);
    let after = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let filter = ApprovalFilter { tenant: Some(caller.tenant_id), mission, after, with_shown: false, limit: limit + 1 };
    let rows = site.store().open_approvals(&filter).await?;
    let page = Page::cut(rows, limit, &list, |row| row.id.to_string(), Approval::from);
    Ok(json(StatusCode::OK, &page))
}

async fn find(site: &Site, caller: &Caller, id: TaskId) -> Result<ApprovalView, Problem> {
    site.store().approval(Some(caller.tenant_id), id).await?.ok_or_else(|| Problem::not_found("approval"))
}

/// Read an approval
#[utoipa::path(
    get, path = "/v1/approvals/{id}", operation_id = "approvals.get", tag = "approvals",
    params(("id" = ShownTask, Path, description = "The task that waits for it")),
    responses((status = 200, description = "The approval, open or over", body = Approval)),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<TaskKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    Ok(json(StatusCode::OK, &Approval::from(find(&site, &caller, id).await?)))
}

/// What somebody decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Yes.
    Approved,
    /// No.
    Rejected,
}

/// A decision.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decide {
    /// Yes or no.
    #[serde(default)]
    #[schema(required)]
    decision: Option<Verdict>,
    /// Why, for people and for the nodes that follow.
    #[serde(default)]
    #[schema(max_length = 4096)]
    comment: Option<String>,
}

/// Decide an approval
///
/// The same decision again is answered with the one that was made; another is refused with 409, and so is any after the
/// time to decide is over. The run goes on at once.
#[utoipa::path(
    post, path = "/v1/approvals/{id}/decide", operation_id = "approvals.decide", tag = "approvals",
    params(("id" = ShownTask, Path, description = "The task that waits for it")),
    request_body(content = Decide, content_type = "application/json"),
    responses(
        (status = 200, description = "The approval as it was decided", body = Approval),
        (status = 409, description = "It was decided otherwise, or the time to decide is over",
            body = crate::http::problem::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn decide(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<TaskKind>,
    query: Query,
    OptionalJson(wish): OptionalJson<Decide>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = find(&site, &caller, id).await?;
    let verdict =
        wish.decision.ok_or_else(|| Problem::invalid("/decision", "missing", "must be approved or rejected"))?;
    if wish.comment.as_ref().is_some_and(|comment| comment.len() > MAX_COMMENT_BYTES) {
        let words = format!("must have at most {MAX_COMMENT_BYTES} bytes");
        return Err(Problem::invalid("/comment", "too_long", &words));
    }
    let comment = wish.comment.filter(|comment| !comment.trim().is_empty());
    let is_approved = verdict == Verdict::Approved;
    let answer = Answer { task_id: id, is_approved, by: caller.key_id.to_string(), comment };
    site.engine().decide_approval(&view, &answer).await.map_err(refused)?;
    Ok(json(StatusCode::OK, &Approval::from(find(&site, &caller, id).await?)))
}

fn refused(error: ApprovalError) -> Problem {
    match error {
        ApprovalError::Refused(ApprovalRefusal::Refused(Refusal::NotFound(_))) => Problem::not_found("approval"),
        ApprovalError::Refused(refusal) => {
            let code = match refusal {
                ApprovalRefusal::DecidedOtherwise(_) => Code::AlreadyDecided,
                ApprovalRefusal::Expired => Code::ApprovalExpired,
                ApprovalRefusal::NotOpen(_) | ApprovalRefusal::Refused(_) => Code::IllegalState,
            };
            Problem::new(code, refusal.to_string())
        }
        ApprovalError::Store(error) => error.into(),
    }
}
