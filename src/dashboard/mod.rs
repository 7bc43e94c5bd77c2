//! The dashboard.
use crate::http::App;
use crate::store::ApiKey;
/// Routes.
pub fn router(_: App) -> axum::Router { axum::Router::new() }
/// Link.
pub fn login_link(_: &App, _: &ApiKey, path: &str) -> String { path.to_owned() }
