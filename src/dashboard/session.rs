//! Who looks at a page: the cookie, checked against the live key, and what that key may see.

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::header::{COOKIE, HeaderValue};
use axum::http::request::Parts;
use bursar_domain::id::TenantId;

use super::failure::Failure;
use super::state::Dashboard;
use super::token;
use crate::store::{ApiKey, Role};

const COOKIE_NAME: &str = "bursar_session";
/// How long a session lasts.
const SESSION_MS: i64 = 12 * 60 * 60 * 1000;

/// Who looks at a page.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    /// The key that signed in.
    pub(super) key: ApiKey,
}

impl Viewer {
    /// The tenant that reads are limited to; `None` for admins, who see everything.
    pub(super) fn scope(&self) -> Option<TenantId> {
        (!self.is_admin()).then_some(self.key.tenant_id)
    }

    /// Whether it sees all tenants.
    pub(super) fn is_admin(&self) -> bool {
        self.key.role == Role::Admin
    }

    /// Whether it may change missions: keys for workers only look.
    pub(super) fn may_change(&self) -> bool {
        self.key.role != Role::Worker
    }
}

impl FromRequestParts<Dashboard> for Viewer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, dashboard: &Dashboard) -> Result<Self, Failure> {
        match viewer(parts, dashboard).await? {
            Some(viewer) => Ok(viewer),
            None => Err(Failure::SignIn { next: wanted(parts) }),
        }
    }
}

/// Who sends the request, if the cookie is ours, in time, and its key is live.
async fn viewer(parts: &Parts, dashboard: &Dashboard) -> Result<Option<Viewer>, Failure> {
    let values = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let Some((_, value)) = pairs.find(|(name, _)| *name == COOKIE_NAME) else { return Ok(None) };
    let secret = &dashboard.app.settings.session_secret;
    let Some(session) = token::open_session(secret, value) else { return Ok(None) };
    if session.expires <= dashboard.now() {
        return Ok(None);
    }
    Ok(dashboard.live_key(session.tenant, session.key).await?.map(|key| Viewer { key }))
}

/// Where to go after signing in: the page that was asked for, if it can be asked for again.
fn wanted(parts: &Parts) -> String {
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0);
    let path = uri.path_and_query().map_or("/dashboard", axum::http::uri::PathAndQuery::as_str);
    let is_page = parts.method == axum::http::Method::GET && !path.ends_with("/live");
    local_path(path).filter(|_| is_page).unwrap_or("/dashboard").to_owned()
}

/// The path, if it surely leads to the dashboard and nowhere else: after signing in we send people there.
pub(super) fn local_path(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/dashboard")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
    let in_query = |byte: u8| plain(byte) || b"=&.,%+".contains(&byte);
    let leads_home = (place.is_empty() || place.starts_with('/')) && !place.starts_with("//");
    (leads_home && path.len() <= 512 && place.bytes().all(plain) && query.bytes().all(in_query)).then_some(path)
}

/// The header that starts a session of `key`.
pub(super) fn start(dashboard: &Dashboard, key: &ApiKey) -> Option<HeaderValue> {
    let expires = dashboard.now().plus_ms(SESSION_MS);
    let value = token::seal_session(&dashboard.app.settings.session_secret, key, expires);
    cookie(dashboard, &value, SESSION_MS / 1000)
}

/// The header that ends a session.
pub(super) fn end(dashboard: &Dashboard) -> Option<HeaderValue> {
    cookie(dashboard, "", 0)
}

fn cookie(dashboard: &Dashboard, value: &str, seconds: i64) -> Option<HeaderValue> {
    let secure = if dashboard.app.settings.public_url.starts_with("https://") { "; Secure" } else { "" };
    let text = format!("{COOKIE_NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_the_dashboard_are_followed() {
        for good in ["/dashboard", "/dashboard?x=1", "/dashboard/missions/mis_1?before=a%20b", "/dashboard/"] {
            assert_eq!(local_path(good), Some(good));
        }
        for bad in [
            "",
            "/",
            "/v1/missions",
            "/dashboards",
            "/dashboard.evil.example",
            "/dashboard//evil.example",
            "//evil.example/dashboard",
            "https://evil.example/dashboard",
            "/dashboard/../v1",
            "/dashboard/%2e%2e/v1",
            "/dashboard\\evil",
            "/dashboard/a b",
            "/dashboard?a=1\r\nSet-Cookie: x",
        ] {
            assert_eq!(local_path(bad), None, "{bad}");
        }
    }
}
