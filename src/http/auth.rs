//! Who asks: API keys, found by the hash of their secret.
//!
//! A key is remembered for at most 15 s, so a revoked one dies everywhere within that time and at once here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bursar_domain::id::{KeyId, TenantId};
use sha2::{Digest, Sha256};

use super::params::hex;
use super::problem::{Code, FieldError, Problem};
use super::state::Site;
use crate::store::{ApiKey, Role};

/// The header with which an admin acts for a tenant.
pub(super) const X_BURSAR_TENANT: HeaderName = HeaderName::from_static("x-bursar-tenant");

/// How long a key is believed to be alive.
const REMEMBERED: Duration = Duration::from_secs(15);
/// Keys remembered at once. Only valid ones are, so strangers cannot fill it.
const MOST_REMEMBERED: usize = 10_000;

/// Keys that were valid a moment ago, by the hash of their secret.
#[derive(Debug, Default)]
pub(super) struct KeyCache {
    keys: Mutex<HashMap<String, (ApiKey, Instant)>>,
}

impl KeyCache {
    fn get(&self, hash: &str) -> Option<ApiKey> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(hash).filter(|(_, since)| since.elapsed() < REMEMBERED).map(|(key, _)| key.clone())
    }

    fn remember(&self, hash: String, key: ApiKey) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST_REMEMBERED {
            keys.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        }
        if keys.len() < MOST_REMEMBERED {
            keys.insert(hash, (key, Instant::now()));
        }
    }

    /// Forgets a key that was revoked.
    pub fn forget(&self, id: KeyId) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, (key, _)| key.id != id);
    }
}

/// The key behind a secret, if it is alive.
pub(super) async fn key_of(site: &Site, secret: &str) -> Result<Option<ApiKey>, Problem> {
    let hash = hex(&Sha256::digest(secret.as_bytes()));
    if let Some(key) = site.keys.get(&hash) {
        return Ok(Some(key));
    }
    let key = site.store().key_by_hash(&hash).await?;
    if let Some(key) = &key {
        site.keys.remember(hash, key.clone());
    }
    Ok(key)
}

/// The secret in a request's Authorization header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Problem::unauthorized(true))?;
    match text.split_once(' ') {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(secret.trim())),
        _ => Err(Problem::unauthorized(true)),
    }
}

/// A user or an admin, and the tenant for whom they act.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Whose objects they see.
    pub tenant_id: TenantId,
    /// What they may do.
    pub role: Role,
    /// Their key.
    pub key_id: KeyId,
}

impl Caller {
    /// Who sends these headers.
    pub async fn of(site: &Site, headers: &HeaderMap) -> Result<Self, Problem> {
        let secret = bearer(headers)?.ok_or_else(|| Problem::unauthorized(false))?;
        let key = key_of(site, secret).await?.ok_or_else(|| Problem::unauthorized(true))?;
        if key.role == Role::Worker {
            return Err(Problem::new(Code::Forbidden, "a worker's key opens the worker protocol only"));
        }
        let caller = Self { tenant_id: key.tenant_id, role: key.role, key_id: key.id };
        match headers.get(X_BURSAR_TENANT) {
            None => Ok(caller),
            Some(_) if key.role != Role::Admin => {
                Err(Problem::new(Code::Forbidden, "only an admin's key may act for another tenant"))
            }
            Some(tenant) => {
                let tenant_id = tenant.to_str().ok().and_then(|text| text.trim().parse().ok());
                let tenant_id = tenant_id.ok_or_else(not_a_tenant)?;
                must_exist(site, tenant_id).await?;
                Ok(Self { tenant_id, ..caller })
            }
        }
    }
}

fn not_a_tenant() -> Problem {
    let error = FieldError::parameter("X-Bursar-Tenant", "must be the id of a tenant, ten_…");
    Problem::new(Code::BadParameter, "the header X-Bursar-Tenant is not the id of a tenant").errors([error])
}

/// Refuses a tenant that does not exist.
pub(super) async fn must_exist(site: &Site, tenant: TenantId) -> Result<(), Problem> {
    if site.store().has_tenant(tenant).await? { Ok(()) } else { Err(Problem::not_found("tenant")) }
}

impl FromRequestParts<Site> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Problem> {
        Self::of(site, &parts.headers).await
    }
}

/// An admin.
#[derive(Debug, Clone)]
pub(super) struct Admin(pub Caller);

impl FromRequestParts<Site> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, site: &Site) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, site).await?;
        if caller.role == Role::Admin {
            return Ok(Self(caller));
        }
        Err(Problem::new(Code::Forbidden, "this needs an admin's key"))
    }
}
