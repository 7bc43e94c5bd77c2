//! The dashboard: what operators and tenants see of the system, served by the binary itself.
//!
//! Pages are drawn on the server (`shell`, `overview`, `missions`, `mission`, `wallets`, `prices`, `schedules`), work without a build
//! step and, but
//! for their liveness, without a script. One stylesheet and one script are embedded (`assets`); the policy in
//! `guard` lets a browser run nothing else. People sign in with an API key (`login`) and carry a signed cookie
//! (`session`, `token`). It reads from the store and writes through the engine; it decides nothing by itself, and no
//! page of one tenant shows anything of another.

mod assets;
mod bulk_actions;
mod dead_letters;
mod failure;
mod guard;
mod login;
mod mission;
mod missions;
mod overview;
mod prices;
mod redrive;
mod schedules;
mod session;
mod shell;
mod show;
mod state;
mod token;
mod verdict;
mod wallets;

pub use login::login_link;

use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use axum::{Router, response::Redirect};

use crate::http::App;
use state::Dashboard;

/// Bytes of the largest form.
const MAX_FORM_BYTES: usize = 16 * 1024;

/// All pages under `/dashboard`. The paths are complete: merge the router, don't nest it.
pub fn router(app: App) -> Router {
    let dashboard = Dashboard::new(app);
    Router::new()
        .route("/dashboard", get(overview::page))
        .route("/dashboard/", get(async || Redirect::permanent("/dashboard")))
        .route("/dashboard/login", get(login::page).post(login::sign_in))
        .route("/dashboard/logout", post(login::sign_out))
        .route("/dashboard/enter", get(login::enter))
        .route("/dashboard/missions", get(missions::page))
        .route("/dashboard/missions/{id}", get(mission::page))
        .route("/dashboard/missions/{id}/cancel", post(mission::cancel))
        .route("/dashboard/missions/{id}/pause", post(mission::pause))
        .route("/dashboard/missions/{id}/resume", post(mission::resume))
        .route("/dashboard/missions/{id}/messages", post(mission::say))
        .route("/dashboard/missions/{id}/retry", get(mission::ask_retry).post(mission::retry))
        .route("/dashboard/missions/{id}/fork", get(mission::ask_fork).post(mission::fork))
        .route("/dashboard/missions/{id}/live", get(mission::live))
        .route("/dashboard/approvals/{id}/decide", post(mission::decide))
        .route("/dashboard/runs/{id}", get(mission::run))
        .route("/dashboard/wallets", get(wallets::list))
        .route("/dashboard/wallets/{id}", get(wallets::wallet))
        .route("/dashboard/ledger", get(wallets::ledger))
        .route("/dashboard/dead-letters", get(dead_letters::page))
        .route("/dashboard/dead-letters/{fingerprint}", get(dead_letters::group))
        .route("/dashboard/dead-letters/{fingerprint}/redrive", get(redrive::ask).post(redrive::order))
        .route("/dashboard/bulk-actions", get(bulk_actions::page))
        .route("/dashboard/bulk-actions/{id}", get(bulk_actions::one))
        .route("/dashboard/bulk-actions/{id}/abort", post(bulk_actions::abort))
        .route("/dashboard/schedules", get(schedules::page))
        .route("/dashboard/schedules/{id}/{act}", post(schedules::act))
        .route("/dashboard/prices", get(prices::page))
        .route("/dashboard/prices/{id}", get(prices::compare))
        .route("/dashboard/prices/{id}/activate", post(prices::activate))
        .route("/dashboard/assets/{name}", get(assets::serve))
        .route("/dashboard/{*rest}", get(failure::no_such_page))
        .layer(middleware::from_fn_with_state(dashboard.clone(), guard::same_origin))
        .layer(middleware::from_fn(guard::headers))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(dashboard)
}
