//! Signing in with an API key or with a one-time link, and signing out.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::session::{self, local_path};
use super::shell;
use super::state::Dashboard;
use super::token::{self, Entry};
use crate::clock::new_token;
use crate::http::App;
use crate::store::ApiKey;

/// How long a one-time link works.
const LINK_MS: i64 = 10 * 60 * 1000;

/// A one-time link that signs in as `key` and leads to `path`: a path below the public address, to which the caller
/// adds the scheme and host. It works once, for ten minutes, in the process that serves it. A path that does not lead
/// to the dashboard leads to the overview.
pub fn login_link(app: &App, key: &ApiKey, path: &str) -> String {
    let path = local_path(path).unwrap_or("/dashboard");
    let expires = app.engine.clock().now().plus_ms(LINK_MS);
    let entry = Entry { key: key.id, tenant: key.tenant_id, expires, nonce: new_token() };
    let code = token::seal_entry(&app.settings.session_secret, &entry, path);
    format!("/dashboard/enter?code={code}&to={}", shell::escape_query(path))
}

/// Where to go after signing in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Credentials {
    key: String,
    #[serde(default)]
    next: String,
}

/// What a one-time link carries.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    code: String,
    to: String,
}

/// The form.
pub(super) async fn page(Query(Next { next }): Query<Next>) -> Markup {
    form(&next, None)
}

fn form(next: &str, problem: Option<&str>) -> Markup {
    let body = html! {
        section.card.message {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.problem #problem role="alert" { (problem) } }
            form.stack method="post" action="/dashboard/login" data-next=[local_path(next)] {
                label for="key" { "API key" }
                input #key type="password" name="key" required autofocus autocomplete="off" spellcheck="false"
                    maxlength="200" placeholder="bsk_…"
                    aria-describedby=[problem.map(|_| "problem")] aria-invalid=[problem.map(|_| "true")];
                @if local_path(next).is_some() { input type="hidden" name="next" value=(next); }
                button.main type="submit" { "Sign in" }
            }
            p.muted {
                "Any key works: it shows its tenant's missions, an admin's key shows those of all. "
                "The key itself is not kept in the browser."
            }
        }
    };
    shell::bare("Sign in", &body)
}

/// Starts a session for a live key.
pub(super) async fn sign_in(
    State(dashboard): State<Dashboard>,
    Form(credentials): Form<Credentials>,
) -> Result<Response, Failure> {
    let hash = crate::digest::sha256_hex(credentials.key.trim());
    let Some(key) = dashboard.app.engine.store().key_by_hash(&hash).await? else {
        let page = form(&credentials.next, Some("This is no key, or it was revoked."));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let next = local_path(&credentials.next).unwrap_or("/dashboard");
    Ok(with_cookie(session::start(&dashboard, &key), next))
}

/// Ends the session in this browser.
pub(super) async fn sign_out(State(dashboard): State<Dashboard>) -> Response {
    with_cookie(session::end(&dashboard), "/dashboard/login")
}

/// Follows a one-time link.
pub(super) async fn enter(
    State(dashboard): State<Dashboard>,
    method: Method,
    Query(link): Query<Link>,
) -> Result<Response, Failure> {
    let stale = || {
        let why = "This link was used before, or is older than ten minutes. Sign in with an API key.";
        Failure::Refused(StatusCode::FORBIDDEN, why.to_owned())
    };
    let path = local_path(&link.to).ok_or_else(stale)?;
    let entry = token::open_entry(&dashboard.app.settings.session_secret, &link.code, path).ok_or_else(stale)?;
    if entry.expires <= dashboard.now() {
        return Err(stale());
    }
    let key = dashboard.live_key(entry.tenant, entry.key).await?.ok_or_else(stale)?;
    // whoever only asks for the headers, such as a preview of the link, does not use it up
    if method != Method::GET || !dashboard.use_code(&entry.nonce, entry.expires) {
        return Err(stale());
    }
    Ok(with_cookie(session::start(&dashboard, &key), path))
}

fn with_cookie(cookie: Option<HeaderValue>, next: &str) -> Response {
    let mut response = Redirect::to(next).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
