//! All routes on one page.

use axum::middleware::from_fn;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::request::{no_method, no_route, observe, panicked};
use super::room::hold;
use super::state::{App, Site};
use super::unread::read_on;
use super::{
    admin, approvals, balance, bulk_actions, corrections, dead_letters, description, entries, estimates, keys, links,
    missions, ops, pages, prices, projects, rates, reconciliation, runs, schedules, statements, stream, tenants,
    transactions, usage, waiting, wallet, workflows,
};

/// The public API.
pub fn router(app: App) -> axum::Router {
    let (routes, _) = all().split_for_parts();
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(hold))
        .layer(from_fn(read_on))
        .layer(from_fn(observe))
        .with_state(Site::new(app))
}

/// The description of the public API, `OpenAPI` 3.1.
pub fn openapi() -> OpenApi {
    description::complete(all().into_openapi())
}

fn all() -> OpenApiRouter<Site> {
    work().merge(desk())
}

/// What is done, when, and what came of it.
fn work() -> OpenApiRouter<Site> {
    OpenApiRouter::default()
        // missions
        .routes(routes!(missions::submit::post, missions::list::get))
        .routes(routes!(missions::one::get, missions::change::patch))
        .routes(routes!(missions::estimate::post))
        .routes(routes!(missions::cancel::post))
        .routes(routes!(missions::pause::pause))
        .routes(routes!(missions::pause::resume))
        .routes(routes!(missions::renew::retry))
        .routes(routes!(missions::renew::fork))
        .routes(routes!(missions::result::get))
        .routes(routes!(missions::signal::post))
        .routes(routes!(missions::messages::get, missions::messages::post))
        .routes(routes!(usage::of_mission))
        .routes(routes!(waiting::of_mission))
        // events
        .routes(routes!(stream::events::get))
        .routes(routes!(stream::sse::get))
        // runs and tasks
        .routes(routes!(runs::get))
        .routes(routes!(runs::tasks))
        .routes(routes!(runs::calls))
        .routes(routes!(runs::task))
        // approvals
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::get))
        .routes(routes!(approvals::decide))
        // projects
        .routes(routes!(projects::list, projects::create))
        .routes(routes!(projects::get, projects::patch, projects::delete))
        .routes(routes!(links::make::for_approval))
        .routes(routes!(links::make::for_signal))
        .routes(routes!(links::show::get, links::decide::post))
        // workflows
        .routes(routes!(workflows::list))
        .routes(routes!(workflows::put, workflows::get))
        .routes(routes!(workflows::validate))
        // failures
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::get))
        .routes(routes!(bulk_actions::look::list, bulk_actions::order::post))
        .routes(routes!(bulk_actions::look::get))
        .routes(routes!(bulk_actions::look::abort))
        // schedules
        .routes(routes!(schedules::list::all, schedules::change::create))
        .routes(routes!(schedules::list::one, schedules::change::patch, schedules::change::delete))
        .routes(routes!(schedules::change::pause))
        .routes(routes!(schedules::change::resume))
        .routes(routes!(schedules::run::post))
}

/// Money, credentials, operators, and what is open to everybody.
fn desk() -> OpenApiRouter<Site> {
    OpenApiRouter::default()
        // prices
        .routes(routes!(prices::list, prices::publish))
        .routes(routes!(prices::simulate))
        .routes(routes!(prices::get))
        .routes(routes!(prices::activate))
        // credits
        .routes(routes!(balance::get, corrections::change))
        .routes(routes!(balance::by_id))
        .routes(routes!(corrections::refund))
        .routes(routes!(corrections::adjust))
        .routes(routes!(corrections::write_off))
        .routes(routes!(corrections::top_up))
        .routes(routes!(entries::get))
        .routes(routes!(transactions::get))
        .routes(routes!(statements::get))
        .routes(routes!(usage::get))
        .routes(routes!(wallet::holds))
        .routes(routes!(wallet::grants, wallet::grant))
        // credentials
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::revoke))
        // operators
        .routes(routes!(admin::overview))
        .routes(routes!(admin::queues))
        .routes(routes!(admin::workers))
        .routes(routes!(rates::list))
        .routes(routes!(reconciliation::get))
        .routes(routes!(tenants::list))
        .routes(routes!(tenants::patch))
        .routes(routes!(dead_letters::list_all))
        .routes(routes!(dead_letters::get_of_all))
        .routes(routes!(bulk_actions::look::list_all, bulk_actions::order::post_of_any))
        .routes(routes!(bulk_actions::look::get_of_any))
        .routes(routes!(bulk_actions::look::abort_of_any))
        .routes(routes!(estimates::get))
        // open to everybody
        .routes(routes!(ops::livez))
        .routes(routes!(ops::readyz))
        .routes(routes!(ops::startupz))
        .routes(routes!(ops::meta))
        .routes(routes!(description::get))
        .routes(routes!(description::workflow_schema))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::problems))
        .routes(routes!(pages::problem))
}
