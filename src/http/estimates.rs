//! What estimates learned, for operators: how far counts and holds are from what is reported and charged.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::estimate::{NodeKey, ONE_PPM};
use bursar_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::conditional::json;
use super::page::Page;
use super::params::Query;
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{Amount, ShownPriceBook, ShownTenant, Time};
use crate::store::{LearnedFactor, LearnedNode};

/// Models shown at most, the ones that learned last.
const MOST_MODELS: i64 = 500;
/// Names the list that cursors belong to.
const LIST: &str = "admin/estimates";

/// What was learned about the tokens of a model.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelEstimate {
    /// The provider's name as configured.
    provider: String,
    /// The model.
    model: String,
    /// Input tokens reported for a million that are counted; a million until there are enough samples.
    factor_ppm: u32,
    /// Calls ever learned from.
    samples: i64,
    /// Whether there are enough of them for the factor to be used.
    is_used: bool,
    /// When it last learned.
    updated_at: Time,
}

impl From<LearnedFactor> for ModelEstimate {
    fn from(row: LearnedFactor) -> Self {
        let factor_ppm = row.factor.ppm();
        Self {
            provider: row.provider,
            model: row.model,
            factor_ppm: factor_ppm.unwrap_or(ONE_PPM),
            samples: row.factor.samples,
            is_used: factor_ppm.is_some(),
            updated_at: row.updated_at.into(),
        }
    }
}

/// What was learned about the costs of a node.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LearnedCost {
    /// Whose workflow.
    tenant_id: ShownTenant,
    /// At which prices.
    price_book_id: ShownPriceBook,
    /// The workflow's name.
    workflow: String,
    /// The node's key.
    node: String,
    /// Half of the latest executions' calls cost no more.
    p50: Amount,
    /// Nineteen of twenty cost no more: what its holds are made with.
    p95: Amount,
    /// What the latest executions were charged, in percent of what their holds were made with.
    charged_percent: Option<i64>,
    /// Tasks ever learned from.
    samples: i64,
    /// Whether there are enough of them for holds to be made with them.
    is_used: bool,
    /// When it last learned.
    updated_at: Time,
}

impl From<LearnedNode> for LearnedCost {
    fn from(row: LearnedNode) -> Self {
        let percentile = |percent| Amount(row.cost.buckets.percentile(percent).unwrap_or(Ucr::ZERO));
        Self {
            tenant_id: row.key.tenant_id.into(),
            price_book_id: row.key.price_book_id.into(),
            p50: percentile(50),
            p95: percentile(95),
            charged_percent: row.cost.error_ppm().map(|ppm| ppm / 10_000),
            samples: row.cost.samples,
            is_used: row.cost.range().is_some(),
            updated_at: row.updated_at.into(),
            workflow: row.key.workflow,
            node: row.key.node,
        }
    }
}

/// Everything that was learned.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Estimates {
    /// Models, the ones that learned last first.
    models: Vec<ModelEstimate>,
    /// Nodes, by tenant, prices, workflow and key.
    nodes: Page<LearnedCost>,
}

/// See what estimates learned
#[utoipa::path(
    get, path = "/v1/admin/estimates", operation_id = "admin.estimates", tag = "admin",
    params(
        ("cursor" = Option<String>, Query, description = "nodes.next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Nodes per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "Models, and a page of nodes", body = Estimates)),
)]
pub(super) async fn get(State(site): State<Site>, _: Admin, mut query: Query) -> Result<Response<Body>, Problem> {
    let not_ours = |_| Problem::new(Code::BadCursor, "the cursor is not one of this list");
    let after = query.cursor(LIST)?.map(|text| serde_json::from_str::<NodeKey>(&text)).transpose();
    let after = after.map_err(not_ours)?;
    let limit = query.limit()?;
    query.done()?;
    let models = site.store().learned_factors(Timestamp::from_ms(0), MOST_MODELS).await?;
    let rows = site.store().learned_nodes_after(after.as_ref(), limit + 1).await?;
    let position = |row: &LearnedNode| serde_json::to_string(&row.key).unwrap_or_default();
    let estimates = Estimates {
        models: models.into_iter().map(ModelEstimate::from).collect(),
        nodes: Page::cut(rows, limit, LIST, position, LearnedCost::from),
    };
    Ok(json(StatusCode::OK, &estimates))
}
