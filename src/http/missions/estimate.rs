//! What a mission would cost: the same body as a submit, and nothing is made of it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Forecast, NodeForecast, Source};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::json;
use super::super::json::Json;
use super::super::params::Query;
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::Amount;
use super::submit::{SubmitMission, no_wallet, prepare};
use crate::engine::ForecastError;
use crate::store::read::WalletView;

/// Where an estimate comes from.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EstimateSource {
    /// What the node cost lately.
    Experience,
    /// Sizes of templates and input, and output caps: nothing else is known yet.
    Limits,
    /// The node makes no calls; its price is fixed.
    Fixed,
}

/// From the least to the most.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(in crate::http) struct CostSpan {
    /// At the least; by experience, one in twenty costs no more.
    low: Amount,
    /// Probably.
    expected: Amount,
    /// At the most; by experience, one in twenty costs more.
    high: Amount,
}

impl CostSpan {
    /// From the least to the most.
    pub(in crate::http) fn of(low: Ucr, expected: Ucr, high: Ucr) -> Self {
        Self { low: low.into(), expected: expected.into(), high: high.into() }
    }

    /// Both together.
    pub(in crate::http) fn plus(self, other: Self) -> Self {
        let sum = |one: Amount, other: Amount| Amount(one.0.saturating_add(other.0));
        Self {
            low: sum(self.low, other.low),
            expected: sum(self.expected, other.expected),
            high: sum(self.high, other.high),
        }
    }
}

/// What one node would cost.
#[derive(Debug, Serialize, ToSchema)]
struct NodeEstimate {
    /// The node's key.
    node: String,
    /// The kind of node.
    kind: &'static str,
    /// What it would cost.
    cost: CostSpan,
    /// What would be held for it when it becomes ready.
    hold: Amount,
    /// Where the figures come from.
    source: EstimateSource,
}

impl From<NodeForecast> for NodeEstimate {
    fn from(told: NodeForecast) -> Self {
        Self {
            node: told.node,
            kind: told.kind,
            cost: CostSpan { low: told.low.into(), expected: told.expected.into(), high: told.high.into() },
            hold: told.hold.into(),
            source: match told.source {
                Source::Experience => EstimateSource::Experience,
                Source::Limits => EstimateSource::Limits,
                Source::Fixed => EstimateSource::Fixed,
            },
        }
    }
}

/// What a mission would cost. No promise: a submit decides with what is known then.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct MissionEstimate {
    /// The flat fee of a success.
    fee: Amount,
    /// Fee and all nodes together.
    cost: CostSpan,
    /// What a submit would hold at once.
    hold_needed: Amount,
    /// What can be held or spent now.
    available: Amount,
    /// Whether a submit would be accepted now.
    affordable: bool,
    /// Each node, in the order of the workflow.
    nodes: Vec<NodeEstimate>,
}

impl MissionEstimate {
    fn of(forecast: Forecast, wallet: &WalletView, budget: Option<Ucr>) -> Self {
        let needed = forecast.hold_needed;
        let may_hold = !wallet.frozen && !wallet.debt_ucr.is_positive() && wallet.available_ucr >= needed;
        let in_budget = budget.or(forecast.budget).is_none_or(|budget| budget >= needed);
        let fee = Amount(forecast.fee);
        let nodes: Vec<NodeEstimate> = forecast.nodes.into_iter().map(NodeEstimate::from).collect();
        let start = CostSpan { low: fee, expected: fee, high: fee };
        Self {
            fee,
            cost: nodes.iter().fold(start, |sum, node| sum.plus(node.cost)),
            hold_needed: needed.into(),
            available: wallet.available_ucr.into(),
            affordable: needed.is_zero() || may_hold && in_budget,
            nodes,
        }
    }
}

/// Estimate a mission
///
/// Takes the body of a submit, checks it the same way and creates nothing. Nodes that ran often enough are told by
/// experience; of the others only their limits are known.
#[utoipa::path(
    post, path = "/v1/missions/estimate", operation_id = "missions.estimate", tag = "missions",
    request_body(content = SubmitMission, content_type = "application/json"),
    responses((status = 200, description = "What it would cost", body = MissionEstimate)),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    Json { body, .. }: Json<SubmitMission>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let submission = prepare(&site, &caller, body, None, String::new()).await?;
    let forecast = site.engine().forecast(&submission).await.map_err(refused)?;
    let wallet = site.store().wallet(Some(caller.tenant_id), submission.wallet_id, site.engine().clock().now()).await?;
    let wallet = wallet.ok_or_else(no_wallet)?;
    Ok(json(StatusCode::OK, &MissionEstimate::of(forecast, &wallet, submission.budget_ucr)))
}

fn refused(error: ForecastError) -> Problem {
    match error {
        ForecastError::Pricing(error) => Problem::invalid("/workflow", "not_priced", &error.to_string()),
        ForecastError::Unknown => Problem::not_found("workflow"),
        ForecastError::Store(error) => error.into(),
    }
}
