//! What stands around every page: response headers, and the refusal of requests that another site made.

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::failure::Failure;
use super::state::Dashboard;

/// Nothing but our own script, style, images and connections; nothing inline; nobody frames us.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Referrers stay on the site (`no-referrer` would blank the `Origin` of our own forms).
const HEADERS: [(HeaderName, HeaderValue); 7] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static("camera=(), microphone=(), geolocation=()"),
    ),
];

/// Adds the headers; pages are never kept by caches unless they say so themselves.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    let cache = response.headers_mut().entry(header::CACHE_CONTROL);
    cache.or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Refuses requests that change something unless the browser says that our own page made them. The cookie is
/// `SameSite=Strict` as well; a sibling site under the same domain is what only this stops.
pub(super) async fn same_origin(State(dashboard): State<Dashboard>, request: Request, next: Next) -> Response {
    let reads_only = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if reads_only || is_ours(request.headers(), &dashboard.app.settings.public_url) {
        return next.run(request).await;
    }
    Failure::Forbidden("This request came from another site.").into_response()
}

/// `Sec-Fetch-Site` decides where the browser sends it (over https and on localhost), else `Origin`. A request with
/// neither is no browser's form.
fn is_ours(headers: &HeaderMap, public_url: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = text("origin").and_then(|origin| origin.parse::<Uri>().ok()) else { return false };
    let Some(authority) = origin.authority() else { return false };
    let public = public_url.parse::<Uri>().ok();
    let is_public = public.is_some_and(|url| url.authority() == Some(authority) && url.scheme() == origin.scheme());
    is_public || text("host").is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn ours(headers: &[(&'static str, &'static str)]) -> bool {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_ours(&headers.collect(), "https://bursar.example")
    }

    #[test]
    fn a_form_of_ours_passes_and_one_of_another_site_does_not() {
        assert!(ours(&[("sec-fetch-site", "same-origin")]));
        assert!(ours(&[("origin", "https://bursar.example")]));
        assert!(ours(&[("origin", "http://10.0.0.5:8080"), ("host", "10.0.0.5:8080")]));
        assert!(!ours(&[]));
        assert!(!ours(&[("sec-fetch-site", "cross-site"), ("origin", "https://bursar.example")]));
        assert!(!ours(&[("sec-fetch-site", "same-site")]));
        assert!(!ours(&[("origin", "https://evil.example"), ("host", "bursar.example")]));
        assert!(!ours(&[("origin", "http://bursar.example")]), "another scheme");
        assert!(!ours(&[("origin", "null"), ("host", "bursar.example")]));
    }

    #[test]
    fn the_policy_allows_nothing_unsafe() {
        assert!(POLICY.starts_with("default-src 'none'"));
        assert!(!POLICY.contains("unsafe") && !POLICY.contains('*') && !POLICY.contains("data:"));
    }
}
