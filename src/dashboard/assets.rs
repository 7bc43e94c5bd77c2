//! The one stylesheet, the one script and the icon, embedded in the binary.
//!
//! Their addresses carry a hash of their content, so that browsers may keep them for ever.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::digest::sha256_hex;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// The address of the stylesheet.
pub(super) static STYLE_URL: LazyLock<String> = LazyLock::new(|| address("style.css", STYLE));
/// The address of the script.
pub(super) static SCRIPT_URL: LazyLock<String> = LazyLock::new(|| address("script.js", SCRIPT));
/// The address of the icon.
pub(super) static ICON_URL: LazyLock<String> = LazyLock::new(|| address("icon.svg", ICON));

fn address(name: &str, content: &str) -> String {
    let hash = sha256_hex(content);
    format!("/dashboard/assets/{name}?v={}", hash.get(..12).unwrap_or_default())
}

/// One of them.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let (kind, content) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "script.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, content).into_response()
}
