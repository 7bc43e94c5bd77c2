//! All routes on one page.

use axum::middleware::from_fn;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::request::{no_method, no_route, observe, panicked};
use super::state::{App, Site};
use super::{missions, stream};

/// The public API.
pub fn router(app: App) -> axum::Router {
    let (routes, _) = all().split_for_parts();
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe))
        .with_state(Site::new(app))
}

/// The description of the public API, `OpenAPI` 3.1.
pub fn openapi() -> OpenApi {
    all().into_openapi()
}

fn all() -> OpenApiRouter<Site> {
    OpenApiRouter::default()
        // missions
        .routes(routes!(missions::submit::post, missions::list::get))
        .routes(routes!(missions::one::get))
        .routes(routes!(missions::cancel::post))
        .routes(routes!(missions::result::get))
        // events
        .routes(routes!(stream::events::get))
        .routes(routes!(stream::sse::get))
}
