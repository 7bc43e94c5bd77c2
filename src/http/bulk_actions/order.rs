//! Ordering a bulk action, or asking what one would do.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bursar_domain::limits::MAX_REHEARSED;

use super::super::auth::{Admin, Caller, must_exist};
use super::super::conditional::{idempotency_key, json, replayed, with_header};
use super::super::json::Json;
use super::super::missions::submit::key_reused;
use super::super::params::Query;
use super::super::problem::Problem;
use super::super::state::Site;
use super::body::{BulkAction, BulkRehearsal, OrderBulkAction, OrderBulkActionOfAny, Ordered};
use super::look::shown;
use crate::engine::{RedriveError, RedriveOrder};

/// Order a bulk action
///
/// Tries a group of dead letters again, a few missions each second: each goes on in the same run from what failed. It is
/// about the missions that are in the group now; one that somebody has go on meanwhile is left alone. A mission that
/// can't be paid is counted as refused and not tried again. With `dry_run` nothing happens and the answer tells what
/// would.
#[utoipa::path(
    post, path = "/v1/bulk-actions", operation_id = "bulk_actions.create", tag = "dead-letters",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = OrderBulkAction, content_type = "application/json"),
    responses(
        (status = 200, description = "With `dry_run`: what would happen", body = BulkRehearsal),
        (status = 202, description = "The bulk action", body = BulkAction, headers(("Location" = String))),
    ),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<OrderBulkAction>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let wish = body.of(caller.tenant_id)?;
    order(&site, &caller, &headers, wish, "/v1/bulk-actions").await
}

/// Order a bulk action over one tenant's or all tenants' missions
///
/// As `bulk_actions.create`. Each mission is paid by its own tenant.
#[utoipa::path(
    post, path = "/v1/admin/bulk-actions", operation_id = "admin.create_bulk_action", tag = "admin",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters", max_length = 255),
    ),
    request_body(content = OrderBulkActionOfAny, content_type = "application/json"),
    responses(
        (status = 200, description = "With `dry_run`: what would happen", body = BulkRehearsal),
        (status = 202, description = "The bulk action", body = BulkAction, headers(("Location" = String))),
    ),
)]
pub(in crate::http) async fn post_of_any(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<OrderBulkActionOfAny>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let wish = body.checked()?;
    if let Some(tenant) = wish.tenant_id {
        must_exist(&site, tenant).await?;
    }
    order(&site, &caller, &headers, wish, "/v1/admin/bulk-actions").await
}

async fn order(
    site: &Site,
    caller: &Caller,
    headers: &HeaderMap,
    wish: Ordered,
    path: &str,
) -> Result<Response<Body>, Problem> {
    let Ordered { tenant_id, fingerprint, per_second, limit, dry_run } = wish;
    let idempotency_key = idempotency_key(headers)?;
    let (owner_id, actor) = (caller.tenant_id, caller.key_id);
    let order = RedriveOrder { owner_id, actor, tenant_id, fingerprint, per_second, limit, idempotency_key };
    if dry_run {
        let rehearsal = site.engine().rehearse_redrive(&order, MAX_REHEARSED).await.map_err(refused)?;
        return Ok(json(StatusCode::OK, &BulkRehearsal::from(rehearsal)));
    }
    let (action, is_replay) = site.engine().order_redrive(&order).await.map_err(refused)?;
    let location = format!("{path}/{}", action.id);
    let answer = with_header(json(StatusCode::ACCEPTED, &shown(site, action).await?), header::LOCATION, &location);
    Ok(if is_replay { replayed(answer) } else { answer })
}

fn refused(error: RedriveError) -> Problem {
    match error {
        RedriveError::NoGroup => Problem::not_found("group of dead letters"),
        RedriveError::KeyReused => key_reused(),
        RedriveError::Store(error) => error.into(),
    }
}
