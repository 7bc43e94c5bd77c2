//! Tenants as operators see them: listed, and their shares of workers and of the queue set.

#![allow(
    clippy::option_option,
    reason = "a field that is left out, one that is null and one with a value are three wishes"
)]

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::TenantKind;
use bursar_domain::limits::{MAX_TENANT_QUEUED, MAX_TENANT_WEIGHT};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Admin;
use super::conditional::json;
use super::corrections::given;
use super::json::Json;
use super::page::Page;
use super::params::{PathId, Query, position};
use super::problem::Problem;
use super::state::Site;
use super::types::{ShownTenant, Time};
use crate::store::{self, TenantChange};

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Tenant {
    /// Its id.
    id: ShownTenant,
    /// Its name, unique.
    name: String,
    /// How much of the workers it gets beside others: one of weight 3 gets three times the slots of one of weight 1.
    weight: u16,
    /// How many missions that are not over it may have; null is any number.
    max_queued: Option<i64>,
    /// When it was made.
    created_at: Time,
}

impl From<store::Tenant> for Tenant {
    fn from(tenant: store::Tenant) -> Self {
        Self {
            id: tenant.id.into(),
            name: tenant.name,
            weight: tenant.weight,
            max_queued: tenant.max_queued,
            created_at: tenant.created_at.into(),
        }
    }
}

/// What to change; what is left out stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeTenant {
    /// How much of the workers it gets beside others: 1 to 1,000.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<i64>,
    /// How many missions that are not over it may have, at most 1,000,000,000; null for any number.
    #[serde(default, deserialize_with = "given")]
    #[schema(minimum = 0, maximum = 1_000_000_000)]
    max_queued: Option<Option<i64>>,
}

/// List tenants
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/admin/tenants", operation_id = "admin.tenants", tag = "admin",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of tenants", body = Page<Tenant>)),
)]
pub(super) async fn list(State(site): State<Site>, _: Admin, mut query: Query) -> Result<Response<Body>, Problem> {
    let list = "admin/tenants";
    let before = position(query.cursor(list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().tenants(before, limit + 1).await?;
    Ok(json(StatusCode::OK, &Page::cut(rows, limit, list, |row| row.id.to_string(), Tenant::from)))
}

/// Change a tenant's shares
///
/// A new weight counts from the next claims on, within seconds on every worker.
#[utoipa::path(
    patch, path = "/v1/admin/tenants/{id}", operation_id = "admin.change_tenant", tag = "admin",
    params(("id" = ShownTenant, Path, description = "The tenant")),
    request_body(content = ChangeTenant, content_type = "application/json"),
    responses((status = 200, description = "The tenant", body = Tenant)),
)]
pub(super) async fn patch(
    State(site): State<Site>,
    _: Admin,
    PathId(id): PathId<TenantKind>,
    query: Query,
    Json { body, .. }: Json<ChangeTenant>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let weight = body.weight.map(weight).transpose()?;
    if body.max_queued.flatten().is_some_and(|most| !(0..=MAX_TENANT_QUEUED).contains(&most)) {
        let words = format!("must be 0 to {MAX_TENANT_QUEUED}, or null for any number");
        return Err(Problem::invalid("/max_queued", "invalid", &words));
    }
    let change = TenantChange { weight, max_queued: body.max_queued };
    let tenant = site.engine().change_tenant(id, change).await?;
    Ok(json(StatusCode::OK, &Tenant::from(tenant.ok_or_else(|| Problem::not_found("tenant"))?)))
}

fn weight(given: i64) -> Result<u16, Problem> {
    let words = format!("must be 1 to {MAX_TENANT_WEIGHT}");
    let within = u16::try_from(given).ok().filter(|weight| (1..=MAX_TENANT_WEIGHT).contains(weight));
    within.ok_or_else(|| Problem::invalid("/weight", "invalid", &words))
}
