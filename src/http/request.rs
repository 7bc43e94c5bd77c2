//! The outermost layer: every answer gets a request id, every request one line in the log and one count.
//!
//! The line names the route's template, never the path or its query, which may carry a stream token.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use axum::middleware::Next;
use bursar_domain::id::RequestKind;
use tokio_util::sync::CancellationToken;

use super::metrics;
use super::problem::{Code, Problem};
use crate::clock::new_id;

/// The header that names a request.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a client.
const MOST_ID_BYTES: usize = 128;

/// Told to every request when the listener stops: long answers end soon.
#[derive(Debug, Clone, Default)]
pub(super) struct Drain(pub CancellationToken);

impl<S: Sync> FromRequestParts<S> for Drain {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The client's id where it is safe to repeat, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_safe = |id: &&str| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        !id.is_empty() && id.len() <= MOST_ID_BYTES && id.bytes().all(letters)
    };
    given.filter(is_safe).map_or_else(|| new_id::<RequestKind>().to_string(), str::to_owned)
}

/// Runs a request and finishes its answer.
pub(super) async fn observe(request: Request, next: Next) -> Response<Body> {
    let began = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let template = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = template.unwrap_or_else(|| "unmatched".to_owned());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        // rendered again, now with the id; headers that others added (Allow) stay
        let mut rendered = problem.response(Some(&id));
        for (name, value) in response.headers() {
            if !rendered.headers().contains_key(name) && name != axum::http::header::CONTENT_LENGTH {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        response = rendered;
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let elapsed_ms = began.elapsed().as_millis() as u64;
    tracing::info!(%method, route, status, elapsed_ms, request_id = id, "request");
    metrics::count_request(method.as_str(), &route, status, began.elapsed());
    response
}

/// The answer to a request whose handler panicked; what it said stays in the log.
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response<Body> {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "a request panicked");
    axum::response::IntoResponse::into_response(Problem::new(Code::Internal, "the server failed"))
}

/// Nothing is at this address.
pub(super) async fn no_route() -> Problem {
    Problem::not_found("address")
}

/// Something is at this address, but not for this method. The router adds Allow.
pub(super) async fn no_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "the address does not take this method")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_a_safe_id_of_a_client_is_taken_over() {
        for (given, is_taken) in [("abc-1.2:x_Y", true), ("a b", false), ("<script>", false), ("", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(given).unwrap());
            assert_eq!(request_id(&headers) == given, is_taken, "{given}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(&"x".repeat(129)).unwrap());
        assert!(request_id(&headers).starts_with("req_"));
        assert!(request_id(&HeaderMap::new()).starts_with("req_"));
    }
}
