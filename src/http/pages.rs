//! Pages for people: the list of operations, and a page per error code. No scripts, nothing from elsewhere.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::conditional::json;
use super::description::{document, operations};
use super::params::PathText;
use super::problem::{Entry, Problem, TABLE, entry};

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid #8884}\
code{font-family:ui-monospace,monospace}pre{white-space:pre-wrap;overflow-wrap:anywhere}h2{margin-top:2rem}";

/// The style is named by its hash, so that nothing else may be put into the page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// A page that has a form of its own, and a status. What is typed into it goes to the page's own address alone.
pub(super) fn form_page(status: StatusCode, title: &str, content: &Markup) -> Response<Body> {
    let mut response = page(title, content);
    *response.status_mut() = status;
    let policy = POLICY.replace("form-action 'none'", "form-action 'self'");
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// A page.
fn page(title: &str, content: &Markup) -> Response<Body> {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Bursar" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { h1 { (title) } (content) } }
        }
    };
    let mut response = Response::new(Body::from(markup.into_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    secure(headers);
    response
}

/// The headers that every page has.
fn secure(headers: &mut HeaderMap) {
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether the client asks for JSON rather than for a page.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("text/html");
    accept.contains("json") && !accept.contains("text/html")
}

/// An error code.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemCode {
    /// The code.
    code: &'static str,
    /// The HTTP status.
    status: u16,
    /// What it is called.
    title: &'static str,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// What to do about it.
    advice: &'static str,
}

impl From<&'static Entry> for ProblemCode {
    fn from(entry: &'static Entry) -> Self {
        let Entry { code, status, title, retryable, advice } = *entry;
        Self { code, status, title, retryable, advice }
    }
}

/// All error codes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemCodes {
    /// By status.
    data: Vec<ProblemCode>,
}

/// List the error codes
#[utoipa::path(
    get, path = "/problems", operation_id = "ops.problems", tag = "ops",
    responses((status = 200, description = "As a page, or as JSON where `Accept` asks for it", body = ProblemCodes)), security(()),
)]
pub(super) async fn problems(headers: HeaderMap) -> Response<Body> {
    if wants_json(&headers) {
        return json(StatusCode::OK, &ProblemCodes { data: TABLE.iter().map(ProblemCode::from).collect() });
    }
    let rows = html! {
        p { "Every error has one of these codes. An error that can be retried may succeed later, unchanged." }
        table {
            thead { tr { th scope="col" { "Status" } th scope="col" { "Code" } th scope="col" { "Title" } } }
            tbody {
                @for entry in TABLE {
                    tr {
                        td { (entry.status) }
                        td { a href={ "/problems/" (entry.code) } { code { (entry.code) } } }
                        td { (entry.title) }
                    }
                }
            }
        }
    };
    page("Problems", &rows)
}

/// Read about an error code
#[utoipa::path(
    get, path = "/problems/{code}", operation_id = "ops.problem", tag = "ops",
    params(("code" = String, Path, description = "The code")),
    responses((status = 200, description = "As a page, or as JSON where `Accept` asks for it", body = ProblemCode)), security(()),
)]
pub(super) async fn problem(PathText(code): PathText, headers: HeaderMap) -> Result<Response<Body>, Problem> {
    let entry = entry(&code).ok_or_else(|| Problem::not_found("error code"))?;
    if wants_json(&headers) {
        return Ok(json(StatusCode::OK, &ProblemCode::from(entry)));
    }
    let content = html! {
        p { "Code " code { (entry.code) } ", HTTP status " (entry.status) "." }
        h2 { "What to do" }
        p { (entry.advice) }
        p { @if entry.retryable { "The same request may succeed later." } @else { "The same request will be refused again." } }
        p { a href="/problems" { "All problems" } }
    };
    Ok(page(entry.title, &content))
}

/// Read the list of operations
#[utoipa::path(
    get, path = "/docs", operation_id = "ops.docs", tag = "ops",
    responses((status = 200, description = "A page", content_type = "text/html", body = String)), security(()),
)]
pub(super) async fn docs() -> Response<Body> {
    let api = document();
    let operations = operations(api);
    let tags = api.tags.as_deref().unwrap_or_default();
    let content = html! {
        @for paragraph in api.info.description.as_deref().unwrap_or_default().split("\n\n") { p { (paragraph) } }
        p { "The whole description for tools: " a href="/openapi.json" { code { "/openapi.json" } } "." }
        @for tag in tags {
            h2 id=(tag.name) { (tag.name) }
            p { (tag.description.as_deref().unwrap_or_default()) }
            table {
                thead { tr { th scope="col" { "Operation" } th scope="col" { "What it does" } } }
                tbody {
                    @for (method, path, operation) in operations.iter().filter(|(_, _, operation)| {
                        operation.tags.as_ref().is_some_and(|tags| tags.contains(&tag.name))
                    }) {
                        tr {
                            td { code { (method) " " (path) } }
                            td {
                                strong { (operation.summary.as_deref().unwrap_or_default()) }
                                " " (operation.description.as_deref().unwrap_or_default())
                            }
                        }
                    }
                }
            }
        }
    };
    page("API", &content)
}
