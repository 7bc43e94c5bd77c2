//! For operators: queue beside store, ledger beside usage.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};

use super::auth::Admin;
use super::conditional::{json, with_header};
use super::params::Query;
use super::problem::Problem;
use super::state::Site;
use crate::reconcile::{Reconciliation, reconcile};

/// Compare queue with store, and ledger with usage
///
/// Reads only. Bounded in rows and time, as `bounds` says. What only a moment explains is looked at twice.
#[utoipa::path(
    get, path = "/v1/admin/reconciliation", operation_id = "admin.reconciliation", tag = "admin",
    responses((status = 200, description = "What differs, by id, and what to do", body = Reconciliation)),
)]
pub(super) async fn get(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let engine = site.engine();
    let report = reconcile(engine.store(), Some(engine.queue()), engine.clock()).await?;
    Ok(with_header(json(StatusCode::OK, &report), header::CACHE_CONTROL, "no-store"))
}
