//! Bulk actions, newest first; one with its progress; and stopping it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::{BulkActionId, BulkActionKind};

use super::super::auth::{Admin, Caller};
use super::super::conditional::json;
use super::super::page::Page;
use super::super::params::{PathId, Query, position};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::super::types::ShownBulkAction;
use super::body::BulkAction;
use crate::store::{self, BulkScope, BulkState};

/// List bulk actions
///
/// Those over the tenant's missions, newest first.
#[utoipa::path(
    get, path = "/v1/bulk-actions", operation_id = "bulk_actions.list", tag = "dead-letters",
    params(
        ("fingerprint" = Option<String>, Query, description = "Of one group of dead letters"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of bulk actions", body = Page<BulkAction>)),
)]
pub(in crate::http) async fn list(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
) -> Result<Response<Body>, Problem> {
    page(&site, BulkScope::Tenant(caller.tenant_id), query).await
}

/// List all bulk actions
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/admin/bulk-actions", operation_id = "admin.bulk_actions", tag = "admin",
    params(
        ("fingerprint" = Option<String>, Query, description = "Of one group of dead letters"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of bulk actions", body = Page<BulkAction>)),
)]
pub(in crate::http) async fn list_all(
    State(site): State<Site>,
    _: Admin,
    query: Query,
) -> Result<Response<Body>, Problem> {
    page(&site, BulkScope::All, query).await
}

/// Read a bulk action
///
/// With its progress.
#[utoipa::path(
    get, path = "/v1/bulk-actions/{id}", operation_id = "bulk_actions.get", tag = "dead-letters",
    params(("id" = ShownBulkAction, Path, description = "The bulk action")),
    responses((status = 200, description = "The bulk action", body = BulkAction)),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<BulkActionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    one(&site, BulkScope::Tenant(caller.tenant_id), id, query).await
}

/// Read a bulk action of any tenant
///
/// With its progress.
#[utoipa::path(
    get, path = "/v1/admin/bulk-actions/{id}", operation_id = "admin.bulk_action", tag = "admin",
    params(("id" = ShownBulkAction, Path, description = "The bulk action")),
    responses((status = 200, description = "The bulk action", body = BulkAction)),
)]
pub(in crate::http) async fn get_of_any(
    State(site): State<Site>,
    _: Admin,
    PathId(id): PathId<BulkActionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    one(&site, BulkScope::All, id, query).await
}

/// Abort a bulk action
///
/// Missions that were tried again go on; of the others, at most the few that are being tried at this moment still are.
#[utoipa::path(
    post, path = "/v1/bulk-actions/{id}/abort", operation_id = "bulk_actions.abort", tag = "dead-letters",
    params(("id" = ShownBulkAction, Path, description = "The bulk action")),
    responses(
        (status = 200, description = "The bulk action, aborted", body = BulkAction),
        (status = 409, description = "It is done", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn abort(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<BulkActionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    stop(&site, BulkScope::Tenant(caller.tenant_id), id, query).await
}

/// Abort a bulk action of any tenant
///
/// As `bulk_actions.abort`.
#[utoipa::path(
    post, path = "/v1/admin/bulk-actions/{id}/abort", operation_id = "admin.abort_bulk_action", tag = "admin",
    params(("id" = ShownBulkAction, Path, description = "The bulk action")),
    responses(
        (status = 200, description = "The bulk action, aborted", body = BulkAction),
        (status = 409, description = "It is done", body = crate::http::problem::ProblemBody,
            content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn abort_of_any(
    State(site): State<Site>,
    _: Admin,
    PathId(id): PathId<BulkActionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    stop(&site, BulkScope::All, id, query).await
}

async fn page(site: &Site, scope: BulkScope, mut query: Query) -> Result<Response<Body>, Problem> {
    let fingerprint = query.one("fingerprint")?;
    let list = format!("{scope:?}/bulk-actions?{}", fingerprint.as_deref().unwrap_or_default());
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().bulk_actions(scope, fingerprint.as_deref(), before, limit + 1).await?;
    let ids: Vec<BulkActionId> = rows.iter().map(|row| row.id).collect();
    let counts = site.store().bulk_counts(&ids).await?;
    let now = site.engine().clock().now();
    let show = |row| BulkAction::of(row, &counts, now);
    Ok(json(StatusCode::OK, &Page::cut(rows, limit, &list, |row| row.id.to_string(), show)))
}

async fn one(site: &Site, scope: BulkScope, id: BulkActionId, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let action = find(site, scope, id).await?;
    Ok(json(StatusCode::OK, &shown(site, action).await?))
}

async fn stop(site: &Site, scope: BulkScope, id: BulkActionId, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    find(site, scope, id).await?;
    site.engine().abort_bulk_action(id).await?;
    let action = find(site, scope, id).await?;
    if action.state == BulkState::Done {
        return Err(Problem::new(Code::IllegalState, "the bulk action is done"));
    }
    Ok(json(StatusCode::OK, &shown(site, action).await?))
}

async fn find(site: &Site, scope: BulkScope, id: BulkActionId) -> Result<store::BulkAction, Problem> {
    site.store().bulk_action(scope, id).await?.ok_or_else(|| Problem::not_found("bulk action"))
}

/// An action as clients see it.
pub(super) async fn shown(site: &Site, action: store::BulkAction) -> Result<BulkAction, Problem> {
    let counts = site.store().bulk_counts(&[action.id]).await?;
    Ok(BulkAction::of(action, &counts, site.engine().clock().now()))
}
