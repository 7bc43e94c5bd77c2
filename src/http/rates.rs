//! What operators see of rates: every limit with what is left of it, every provider's pause and breaker.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::conditional::json;
use super::params::Query;
use super::problem::Problem;
use super::state::Site;
use crate::rates::{GateLook, Level, ONLY_KEY, Subject, Unit};

/// One limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RateLevel {
    /// `provider`, `model` or `key`.
    kind: &'static str,
    /// The provider.
    provider: String,
    /// The model or the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `requests` or `tokens`.
    unit: &'static str,
    /// How many a minute.
    per_minute: u64,
    /// How many may be sent at once now; below zero are those that are promised to tasks that wait.
    left: i64,
}

/// How a provider is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProviderGate {
    /// Its name.
    provider: String,
    /// The name of its key.
    key: &'static str,
    /// For how long its key is paused still.
    paused_ms: i64,
    /// Why, where it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_because: Option<&'static str>,
    /// The breaker: `closed`, `open` or `half_open`.
    breaker: &'static str,
    /// For how long the breaker stays open.
    open_ms: i64,
}

/// Rates as they stand.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RateList {
    /// Whether all processes count together; without Redis each takes its share of the limits.
    shared: bool,
    /// How many workers share the limits while they do not count together.
    sharers: u64,
    /// Every limit that is not a tenant's.
    data: Vec<RateLevel>,
    /// Every provider that has a limit or was called by this process.
    providers: Vec<ProviderGate>,
}

impl RateLevel {
    fn of(level: Level) -> Option<Self> {
        let (kind, provider, name) = match level.slot.subject {
            Subject::Provider(provider) => ("provider", provider, None),
            Subject::Model(provider, model) => ("model", provider, Some(model)),
            Subject::Key(provider, key) => ("key", provider, Some(key)),
            Subject::Tenant(_) => return None,
        };
        let unit = match level.slot.unit {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
        };
        Some(Self { kind, provider, name, unit, per_minute: level.slot.limit, left: level.left })
    }
}

impl ProviderGate {
    fn of((provider, gate): (String, GateLook)) -> Self {
        Self {
            provider,
            key: ONLY_KEY,
            paused_ms: gate.paused_ms,
            paused_because: (gate.paused_ms > 0).then_some("the provider asked to wait (429)"),
            breaker: gate.breaker,
            open_ms: gate.open_ms,
        }
    }
}

/// See the rates
#[utoipa::path(
    get, path = "/v1/admin/rates", operation_id = "admin.rates", tag = "admin",
    responses((status = 200, description = "Limits, pauses and breakers as they stand", body = RateList)),
)]
pub(super) async fn list(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let look = site.engine().rates().look().await;
    let list = RateList {
        shared: look.is_shared,
        sharers: look.workers,
        data: look.levels.into_iter().filter_map(RateLevel::of).collect(),
        providers: look.gates.into_iter().map(ProviderGate::of).collect(),
    };
    Ok(json(StatusCode::OK, &list))
}
