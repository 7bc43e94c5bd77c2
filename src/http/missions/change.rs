//! A user changes what a mission may spend while it runs.

#![allow(
    clippy::option_option,
    reason = "a field that is left out, one that is null and one with a value are three wishes"
)]

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use bursar_domain::flow::Refusal;
use bursar_domain::id::MissionKind;
use bursar_domain::workflow::OnExhausted;
use serde::Deserialize;
use utoipa::ToSchema;

use super::super::auth::Caller;
use super::super::conditional::{json, with_header};
use super::super::corrections::given;
use super::super::json::Json;
use super::super::params::{PathId, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::ShownMission;
use super::body::Mission;
use super::one::{complete, find};
use super::submit::amount;
use crate::engine::BudgetError;

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChangeMission {
    /// What it may spend.
    #[serde(default)]
    budget: Option<ChangeBudget>,
}

/// A mission's budget.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ChangeBudget {
    /// The most credits it may spend, a decimal string; null is no limit. Never below what is spent and held.
    #[serde(default, deserialize_with = "given")]
    max_credits: Option<Option<String>>,
    /// What happens when it is used up: `pause` or `fail`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    on_exhausted: Option<OnExhausted>,
}

/// Change a mission
///
/// Raises or lowers its budget while it runs. Tasks that wait for room in it are tried again at once.
#[utoipa::path(
    patch, path = "/v1/missions/{id}", operation_id = "missions.change", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    request_body(content = ChangeMission, content_type = "application/json"),
    responses((status = 200, description = "The mission", body = Mission, headers(("ETag" = String)))),
)]
pub(in crate::http) async fn patch(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
    Json { body, .. }: Json<ChangeMission>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    find(&site, &caller, id).await?;
    if let Some(budget) = body.budget {
        let limit = |text: String| amount("/budget/max_credits", &text);
        let max = budget.max_credits.map(|max| max.map(limit).transpose()).transpose()?;
        site.engine().set_budget(id, max, budget.on_exhausted).await.map_err(refused)?;
    }
    let (mission, etag) = complete(&site, find(&site, &caller, id).await?).await?;
    Ok(with_header(json(StatusCode::OK, &mission.with_stream(&site, id)), header::ETAG, &etag))
}

fn refused(error: BudgetError) -> Problem {
    match error {
        BudgetError::Refused(Refusal::NotFound(_)) => Problem::not_found("mission"),
        BudgetError::Refused(Refusal::OverBudget { required, .. }) => {
            let words = format!("must be at least {required}: so much is spent and held already");
            Problem::invalid("/budget/max_credits", "out_of_range", &words)
        }
        BudgetError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        BudgetError::Store(error) => error.into(),
    }
}
