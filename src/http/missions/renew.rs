//! A user lets a mission that is over go on: in the same run (retry), or in a new one from some node on (fork). And what
//! a retry, a fork or a cancel would do, told beforehand.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{CancelPreview, Order, Ordered, PlannedNode, Preview, Refusal};
use bursar_domain::id::MissionKind;
use bursar_domain::ledger::LedgerRefusal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{self, idempotency_key, replayed};
use super::super::json::{Json, OptionalJson};
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::{Amount, ShownMission};
use super::body::Mission;
use super::estimate::CostSpan;
use super::one::find;
use super::pause::shown;
use super::submit::{key_reused, refused_by_rule};
use crate::digest::sha256_hex;
use crate::engine::{ControlError, ForkError, ForkWish};

/// From where a retry goes on.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RetryFrom {
    /// From what failed, was cancelled or did not begin.
    #[default]
    Failed,
}

/// How a mission is retried.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RetryMission {
    /// From where; there is one answer so far.
    #[serde(default)]
    from: RetryFrom,
}

/// How a mission is forked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ForkMission {
    /// The node from which on everything runs anew.
    from_node: String,
    /// Another version of the same workflow; that of the latest run where left out.
    #[serde(default)]
    #[schema(minimum = 1)]
    version: Option<i64>,
    /// What to change about the input: a JSON Merge Patch (RFC 7396).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    input_patch: Option<Value>,
}

/// A node that would run.
#[derive(Debug, Serialize, ToSchema)]
struct NodeToRun {
    /// Its key.
    node: String,
    /// The kind of node.
    kind: String,
    /// Whether it begins at once; others follow, where their conditions hold.
    begins: bool,
    /// What is held for it at once.
    hold: Amount,
    /// What it costs beyond what was charged for it already.
    cost: CostSpan,
}

impl From<PlannedNode> for NodeToRun {
    fn from(planned: PlannedNode) -> Self {
        let cost = CostSpan::of(planned.low, planned.expected, planned.high);
        Self { node: planned.node, kind: planned.kind, begins: planned.begins, hold: planned.hold.into(), cost }
    }
}

/// What a retry or a fork would do now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct RenewalPreview {
    /// The nodes that run, in the order of the workflow.
    nodes: Vec<NodeToRun>,
    /// How many tasks keep what came out of them.
    kept: i64,
    /// The flat fee, charged on success.
    fee: Amount,
    /// What is held at once: the fee and the holds of the nodes that begin.
    hold_needed: Amount,
    /// Fee and nodes together.
    cost: CostSpan,
    /// Whether it would be accepted now.
    affordable: bool,
    /// Why not.
    refusal: Option<String>,
}

impl From<Preview> for RenewalPreview {
    fn from(Preview { plan, refusal }: Preview) -> Self {
        let nodes: Vec<NodeToRun> = plan.nodes.into_iter().map(NodeToRun::from).collect();
        let fee = CostSpan::of(plan.fee, plan.fee, plan.fee);
        Self {
            cost: nodes.iter().fold(fee, |sum, node| sum.plus(node.cost)),
            nodes,
            kept: plan.kept,
            fee: plan.fee.into(),
            hold_needed: plan.hold_needed.into(),
            affordable: refusal.is_none(),
            refusal: refusal.map(|refusal| refusal.to_string()),
        }
    }
}

/// What a cancel would do now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct CancelForecast {
    /// The nodes whose tasks end at once.
    ends: Vec<String>,
    /// The nodes whose running steps are stopped and settle what they used.
    stops: Vec<String>,
    /// What is charged at once, for what was answered before.
    charged: Amount,
    /// What is released at once.
    released: Amount,
    /// What stays held until the stopped steps have settled.
    held: Amount,
}

impl From<CancelPreview> for CancelForecast {
    fn from(told: CancelPreview) -> Self {
        let amount = |amount: Ucr| Amount(amount);
        Self {
            ends: told.ends,
            stops: told.stops,
            charged: amount(told.charged),
            released: amount(told.released),
            held: amount(told.held),
        }
    }
}

/// The mission, or with `?preview=true` what would happen to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes answers that are written from their parts")]
pub(in crate::http) enum MissionOrPreview {
    /// The mission.
    Mission(Box<Mission>),
    /// What would happen.
    Preview(RenewalPreview),
}

/// The mission, or with `?preview=true` what would happen to it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes answers that are written from their parts")]
pub(in crate::http) enum MissionOrForecast {
    /// The mission.
    Mission(Box<Mission>),
    /// What would happen.
    Preview(CancelForecast),
}

/// Whether only a preview is wanted.
pub(super) fn wants_preview(query: &mut Query) -> Result<bool, Problem> {
    match query.one("preview")?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::parameter("preview", "must be true or false")),
    }
}

/// Retry a mission
///
/// Continues the same run from what failed: finished outputs and settled costs are kept, failed, cancelled and skipped
/// tasks begin anew with all their attempts, journaled calls are replayed. The flat fee is held again. With
/// `?preview=true` nothing happens and the answer tells what would.
#[utoipa::path(
    post, path = "/v1/missions/{id}/retry", operation_id = "missions.retry", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("preview" = Option<bool>, Query, description = "Only tell what would happen"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = Option<RetryMission>, content_type = "application/json"),
    responses(
        (status = 200, description = "The mission, going on; or the preview", body = MissionOrPreview),
        (status = 402, description = "The credits do not suffice; nothing was changed", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn retry(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
    headers: HeaderMap,
    OptionalJson(wish): OptionalJson<RetryMission>,
) -> Result<Response<Body>, Problem> {
    let is_preview = wants_preview(&mut query)?;
    query.done()?;
    let RetryMission { from: RetryFrom::Failed } = wish;
    find(&site, &caller, id).await?;
    if is_preview {
        let preview = site.engine().preview_retry(id).await.map_err(|error| refused(&site, error))?;
        return Ok(conditional::json(StatusCode::OK, &RenewalPreview::from(preview)));
    }
    let order = order(&headers, "retry failed".to_owned())?;
    let ordered = site.engine().retry(id, order.as_ref()).await.map_err(|error| refused(&site, error))?;
    let answer = shown(&site, &caller, id).await?;
    Ok(if ordered == Ordered::Repeated { replayed(answer) } else { answer })
}

/// Fork a mission
///
/// Makes a new run of a mission that is over, from a node on: what does not depend on that node keeps what came out of
/// it, at no cost, and the rest runs anew, perhaps with another input. The mission shows its new run from then on. With
/// `?preview=true` nothing happens and the answer tells what would.
#[utoipa::path(
    post, path = "/v1/missions/{id}/fork", operation_id = "missions.fork", tag = "missions",
    params(
        ("id" = ShownMission, Path, description = "The mission"),
        ("preview" = Option<bool>, Query, description = "Only tell what would happen"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = ForkMission, content_type = "application/json"),
    responses(
        (status = 200, description = "The mission with its new run; or the preview", body = MissionOrPreview),
        (status = 402, description = "The credits do not suffice; nothing was changed", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn fork(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    mut query: Query,
    headers: HeaderMap,
    Json { body, mut value }: Json<ForkMission>,
) -> Result<Response<Body>, Problem> {
    let is_preview = wants_preview(&mut query)?;
    query.done()?;
    if body.input_patch.as_ref().is_some_and(|patch| !patch.is_object()) {
        return Err(Problem::invalid("/input_patch", "wrong_type", "must be an object"));
    }
    find(&site, &caller, id).await?;
    let wish = ForkWish { from_node: body.from_node, version: body.version, input_patch: body.input_patch };
    let request = site.engine().fork_request(id, &wish).await.map_err(not_asked)?;
    if is_preview {
        let preview = site.engine().preview_fork(&request).await.map_err(|error| refused(&site, error))?;
        return Ok(conditional::json(StatusCode::OK, &RenewalPreview::from(preview)));
    }
    value.sort_all_objects();
    let order = order(&headers, format!("fork {value}"))?;
    let ordered = site.engine().fork(&request, order.as_ref()).await.map_err(|error| refused(&site, error))?;
    let answer = shown(&site, &caller, id).await?;
    Ok(if ordered == Ordered::Repeated { replayed(answer) } else { answer })
}

fn order(headers: &HeaderMap, wish: String) -> Result<Option<Order>, Problem> {
    let key = idempotency_key(headers)?;
    Ok(key.map(|key| Order { key, hash: sha256_hex(&wish) }))
}

/// Why a fork can't even be asked for.
fn not_asked(error: ForkError) -> Problem {
    match error {
        ForkError::NoMission => Problem::not_found("mission"),
        ForkError::NoVersion => Problem::invalid("/version", "unknown_version", "the workflow has no such version"),
        ForkError::NoNode(_) => Problem::invalid("/from_node", "unknown_node", "the workflow has no such node"),
        ForkError::Input(problems) => Problem::of_workflow("/input_patch", &problems),
        ForkError::NoPrices => Problem::new(Code::NoPrices, "no price book is active"),
        ForkError::Store(error) => error.into(),
    }
}

/// Why a retry or a fork is refused; nothing was changed.
fn refused(site: &Site, error: ControlError) -> Problem {
    match error {
        ControlError::Refused(Refusal::NotFound(_)) => Problem::not_found("mission"),
        ControlError::Refused(refusal @ Refusal::IllegalMove { .. }) => {
            Problem::new(Code::IllegalState, refusal.to_string())
        }
        ControlError::Refused(Refusal::Ledger(LedgerRefusal::KeyReused(_))) => key_reused(),
        ControlError::Refused(Refusal::Unloaded(_)) => {
            Problem::new(Code::IllegalState, "the mission was forked by somebody else just now")
        }
        ControlError::Refused(refusal) => refused_by_rule(site, refusal),
        ControlError::Store(error) => error.into(),
    }
}
