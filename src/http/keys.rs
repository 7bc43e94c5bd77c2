//! API keys: made, listed, revoked. A secret is shown once; only its hash is kept.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode, header};
use axum::response::IntoResponse;
use bursar_domain::id::KeyKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, must_exist};
use super::conditional::{json, with_header};
use super::json::Json;
use super::params::{PathId, Query};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{ShownKey, ShownTenant, Time};
use crate::clock::{new_id, random_bytes};
use crate::digest::sha256_hex;
use crate::store::{ApiKey, Role};

/// What every secret begins with, so that scanners find it in code that it should not be in.
const PREFIX: &str = "bsk_live_";
/// Digits of 256 bits in base 62.
const DIGITS: usize = 43;
/// How much of a secret is shown to people.
const SHOWN: usize = PREFIX.len() + 4;
/// Bytes of a key's name.
const MAX_NAME_BYTES: usize = 100;

/// A new secret of 256 random bits, what of it may be shown, and its SHA-256 in hex.
pub fn new_secret() -> (String, String, String) {
    let secret = format!("{PREFIX}{}", random_digits());
    let hash = sha256_hex(&secret);
    let shown = secret[..SHOWN].to_owned();
    (secret, shown, hash)
}

/// 256 random bits as letters and digits: nobody guesses them.
pub(super) fn random_digits() -> String {
    base62(random_bytes())
}

/// A number of 256 bits in base 62, with leading zeros.
fn base62(mut number: [u8; 32]) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest: u32 = 0;
        for byte in &mut number {
            let value = rest * 256 + u32::from(*byte);
            *byte = (value / 62) as u8;
            rest = value % 62;
        }
        *digit = ALPHABET[rest as usize];
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyRole {
    /// Its own tenant's missions, workflows and wallet.
    User,
    /// Everything, of all tenants.
    Admin,
    /// The worker protocol.
    Worker,
}

impl From<Role> for KeyRole {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Admin => Self::Admin,
            Role::Worker => Self::Worker,
        }
    }
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::User => Self::User,
            KeyRole::Admin => Self::Admin,
            KeyRole::Worker => Self::Worker,
        }
    }
}

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Key {
    /// Its id.
    id: ShownKey,
    /// Whose it is.
    tenant_id: ShownTenant,
    /// What people call it.
    name: String,
    /// The first characters of its secret.
    prefix: String,
    /// What it may do.
    role: KeyRole,
    /// When it was made.
    created_at: Time,
    /// When it was revoked.
    revoked_at: Option<Time>,
}

impl From<ApiKey> for Key {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.into(),
            tenant_id: key.tenant_id.into(),
            name: key.name,
            prefix: key.prefix,
            role: key.role.into(),
            created_at: key.created_at.into(),
            revoked_at: key.revoked_at.map(Time),
        }
    }
}

/// An API key with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NewKey {
    /// The key.
    #[serde(flatten)]
    key: Key,
    /// Send it as `Authorization: Bearer …`.
    #[schema(example = "bsk_live_…")]
    secret: String,
}

/// A tenant's keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyList {
    /// Newest first, at most 100.
    data: Vec<Key>,
}

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MakeKey {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may do; `user` where left out. Only admins make others.
    #[serde(default)]
    role: Option<KeyRole>,
    /// Whose it is; only admins name another tenant than their own.
    #[serde(default)]
    tenant_id: Option<String>,
}

/// Make an API key
#[utoipa::path(
    post, path = "/v1/api-keys", operation_id = "api_keys.create", tag = "api-keys",
    request_body(content = MakeKey, content_type = "application/json"),
    responses((status = 201, description = "The key; its secret is shown this once", body = NewKey)),
)]
pub(super) async fn create(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    Json { body, .. }: Json<MakeKey>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let name = body.name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let words = format!("must be 1 to {MAX_NAME_BYTES} bytes without control characters");
        return Err(Problem::invalid("/name", "invalid", &words));
    }
    let role = body.role.unwrap_or(KeyRole::User);
    let is_admin = caller.role == Role::Admin;
    if role != KeyRole::User && !is_admin {
        return Err(Problem::new(Code::Forbidden, "only admins make keys of this role"));
    }
    let mut tenant_id = caller.tenant_id;
    if let Some(text) = body.tenant_id {
        let not_a_tenant = |_| Problem::invalid("/tenant_id", "invalid", "must be the id of a tenant, ten_…");
        let asked = text.parse().map_err(not_a_tenant)?;
        if asked != tenant_id && !is_admin {
            return Err(Problem::new(Code::Forbidden, "only admins make keys for other tenants"));
        }
        must_exist(&site, asked).await?;
        tenant_id = asked;
    }
    let (secret, prefix, hash) = new_secret();
    let key = ApiKey {
        id: new_id(),
        tenant_id,
        name: name.to_owned(),
        prefix,
        role: role.into(),
        created_at: site.engine().clock().now(),
        revoked_at: None,
    };
    site.store().add_key(&key, &hash).await?;
    let response = json(StatusCode::CREATED, &NewKey { key: key.into(), secret });
    Ok(with_header(response, header::CACHE_CONTROL, "no-store"))
}

/// List API keys
#[utoipa::path(
    get, path = "/v1/api-keys", operation_id = "api_keys.list", tag = "api-keys",
    responses((status = 200, description = "The tenant's keys, without their secrets", body = KeyList)),
)]
pub(super) async fn list(State(site): State<Site>, caller: Caller, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let keys = site.store().keys_of(caller.tenant_id).await?;
    Ok(json(StatusCode::OK, &KeyList { data: keys.into_iter().map(Key::from).collect() }))
}

/// Revoke an API key
///
/// It opens nothing any more: at once where this request was served, within 15 s elsewhere.
#[utoipa::path(
    delete, path = "/v1/api-keys/{id}", operation_id = "api_keys.revoke", tag = "api-keys",
    params(("id" = ShownKey, Path, description = "The key")),
    responses((status = 204, description = "It is revoked")),
)]
pub(super) async fn revoke(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<KeyKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let now = site.engine().clock().now();
    if !site.store().revoke_key(caller.tenant_id, id, now).await? {
        return Err(Problem::not_found("live API key"));
    }
    site.keys.forget(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_says_what_it_is_and_no_two_are_alike() {
        let (first, shown, hash) = new_secret();
        assert!(first.starts_with("bsk_live_") && first.len() == PREFIX.len() + DIGITS);
        assert!(first.starts_with(&shown) && shown.len() == 13);
        assert_eq!(hash, sha256_hex(&first));
        assert_ne!(first, new_secret().0);
    }

    #[test]
    fn all_bits_count() {
        assert_eq!(base62([0; 32]), "0".repeat(43));
        let mut one = [0; 32];
        one[31] = 63;
        assert_eq!(base62(one), format!("{}11", "0".repeat(41)));
        assert_ne!(base62([255; 32]), base62([254; 32]));
    }
}
