//! What requests say in headers about how they want to be answered: entity tags, waiting, idempotency keys.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::limits::{MAX_IDEMPOTENCY_KEY_BYTES, MAX_WAIT_S};
use super::params::Query;
use super::problem::{Code, Problem};
use crate::digest::sha256_hex;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The strong tag of a representation.
pub(super) fn etag_of(body: &impl Serialize) -> String {
    let text = serde_json::to_string(body).unwrap_or_default();
    format!("\"{}\"", &sha256_hex(&text)[..16])
}

/// Whether the client has this representation already.
pub(super) fn has_seen(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).any(|tag| {
        let opaque = tag.strip_prefix("W/").unwrap_or(tag);
        opaque == "*" || opaque == etag
    })
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written");
            Problem::new(Code::Internal, "the answer could not be written").into_response()
        }
    }
}

/// A JSON answer with its tag, or 304 when the client has it already.
pub(super) fn tagged(headers: &HeaderMap, etag: &str, body: &impl Serialize) -> Response<Body> {
    let response =
        if has_seen(headers, etag) { StatusCode::NOT_MODIFIED.into_response() } else { json(StatusCode::OK, body) };
    with_header(with_header(response, header::ETAG, etag), header::CACHE_CONTROL, "private, no-cache")
}

/// The answer with one more header.
pub(super) fn with_header(mut response: Response<Body>, name: HeaderName, value: &str) -> Response<Body> {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The answer, marked as that of an earlier request.
pub(super) fn replayed(response: Response<Body>) -> Response<Body> {
    with_header(response, IDEMPOTENT_REPLAYED, "true")
}

/// How long the request wants to wait: `?wait=` or `Prefer: wait=`, at most 25 s.
pub(super) fn wait(headers: &HeaderMap, query: &mut Query) -> Result<Option<Duration>, Problem> {
    let asked = query.number("wait", 0, i64::from(u32::MAX))?;
    let preferred = || {
        let values = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
        let preferences = values.flat_map(|value| value.split(',')).filter_map(|part| part.trim().split_once('='));
        // what cannot be read is no preference (RFC 7240)
        preferences
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
            .find_map(|(_, seconds)| seconds.trim().trim_matches('"').parse::<i64>().ok())
    };
    let seconds = asked.or_else(preferred).and_then(|seconds| u64::try_from(seconds).ok());
    Ok(seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.min(MAX_WAIT_S))))
}

/// The Idempotency-Key, bare or quoted.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let refused = || {
        let words = format!("must be 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters");
        Problem::parameter("Idempotency-Key", &words)
    };
    if headers.get_all(IDEMPOTENCY_KEY).into_iter().nth(1).is_some() {
        return Err(Problem::parameter("Idempotency-Key", "may stand once"));
    }
    let text = value.to_str().map_err(|_| refused())?.trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let is_valid =
        (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid { Ok(Some(bare.to_owned())) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        assert_eq!(idempotency_key(&headers(IDEMPOTENCY_KEY, "abc")).unwrap(), Some("abc".to_owned()));
        assert_eq!(idempotency_key(&headers(IDEMPOTENCY_KEY, "\"abc\"")).unwrap(), Some("abc".to_owned()));
        for bad in ["", "\"\"", "a b", &"x".repeat(256)] {
            assert!(idempotency_key(&headers(IDEMPOTENCY_KEY, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        for (value, seen) in [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false)]
        {
            assert_eq!(has_seen(&headers(header::IF_NONE_MATCH, value), "\"a\""), seen, "{value}");
        }
    }
}
