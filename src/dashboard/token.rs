//! Signed values: what a session cookie and a one-time link carry.
//!
//! A token is its fields and an HMAC-SHA256 of them under the server's secret, joined by dots. The signature covers
//! what the token is for, so that a link's code is no cookie. Nothing in it is secret; it only can't be made up.

use bursar_domain::id::{KeyId, TenantId};
use bursar_domain::time::Timestamp;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::digest::hex;

use crate::store::ApiKey;

/// What a session cookie says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// The key that signed in.
    pub(super) key: KeyId,
    /// Its tenant.
    pub(super) tenant: TenantId,
    /// When the session is over.
    pub(super) expires: Timestamp,
}

/// What a one-time link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key that signs in.
    pub(super) key: KeyId,
    /// Its tenant.
    pub(super) tenant: TenantId,
    /// Until when the link works.
    pub(super) expires: Timestamp,
    /// Tells codes apart, to use each once.
    pub(super) nonce: String,
}

/// A cookie value for a session of `key`.
pub(super) fn seal_session(secret: &[u8; 32], key: &ApiKey, expires: Timestamp) -> String {
    let fields = format!("{}.{}.{}.{}", key.id, key.tenant_id, key.role.as_str(), expires.ms());
    let signature = hex(&mac(secret, &["session", &fields]).finalize().into_bytes());
    format!("{fields}.{signature}")
}

/// The session in a cookie value, if we made it. Whether it is over is for the caller to look at.
pub(super) fn open_session(secret: &[u8; 32], value: &str) -> Option<Session> {
    let (fields, signature) = value.rsplit_once('.')?;
    mac(secret, &["session", fields]).verify_slice(&unhex(signature)?).ok()?;
    let [key, tenant, _role, expires] = fields.split('.').collect::<Vec<_>>().try_into().ok()?;
    let expires = Timestamp::from_ms(expires.parse().ok()?);
    Some(Session { key: key.parse().ok()?, tenant: tenant.parse().ok()?, expires })
}

/// A one-time code that leads to `path`.
pub(super) fn seal_entry(secret: &[u8; 32], entry: &Entry, path: &str) -> String {
    let fields = format!("{}.{}.{}.{}", entry.key, entry.tenant, entry.expires.ms(), entry.nonce);
    let signature = hex(&mac(secret, &["enter", &fields, path]).finalize().into_bytes());
    format!("{fields}.{signature}")
}

/// What a one-time code says, if we made it for this path.
pub(super) fn open_entry(secret: &[u8; 32], code: &str, path: &str) -> Option<Entry> {
    let (fields, signature) = code.rsplit_once('.')?;
    mac(secret, &["enter", fields, path]).verify_slice(&unhex(signature)?).ok()?;
    let [key, tenant, expires, nonce] = fields.split('.').collect::<Vec<_>>().try_into().ok()?;
    let expires = Timestamp::from_ms(expires.parse().ok()?);
    Some(Entry { key: key.parse().ok()?, tenant: tenant.parse().ok()?, expires, nonce: nonce.to_owned() })
}

fn mac(secret: &[u8; 32], parts: &[&str]) -> Hmac<Sha256> {
    // a key shorter than the hash's block is padded with zeros: so says HMAC
    let mut block = [0_u8; 64];
    for (place, byte) in block.iter_mut().zip(secret) {
        *place = *byte;
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
    for part in parts {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    mac
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::new_id;
    use crate::store::Role;

    fn key() -> ApiKey {
        ApiKey {
            id: new_id(),
            tenant_id: new_id(),
            name: "a".to_owned(),
            prefix: "bsk_".to_owned(),
            role: Role::User,
            created_at: Timestamp::from_ms(0),
            revoked_at: None,
        }
    }

    #[test]
    fn a_session_reads_back_only_under_the_secret_that_sealed_it() {
        let key = key();
        let sealed = seal_session(&[1; 32], &key, Timestamp::from_ms(5));
        let session = open_session(&[1; 32], &sealed).unwrap();
        assert_eq!((session.key, session.tenant, session.expires.ms()), (key.id, key.tenant_id, 5));
        assert_eq!(open_session(&[2; 32], &sealed), None);
    }

    #[test]
    fn a_session_with_any_letter_changed_is_none() {
        let sealed = seal_session(&[1; 32], &key(), Timestamp::from_ms(5));
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(open_session(&[1; 32], &String::from_utf8(forged).unwrap()), None, "at {at}");
        }
        for nothing in ["", ".", "a.b", "....", &sealed[..sealed.len() - 2]] {
            assert_eq!(open_session(&[1; 32], nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_code_holds_for_its_path_and_is_no_session() {
        let key = key();
        let entry =
            Entry { key: key.id, tenant: key.tenant_id, expires: Timestamp::from_ms(5), nonce: "ab".to_owned() };
        let code = seal_entry(&[1; 32], &entry, "/dashboard/missions");
        assert_eq!(open_entry(&[1; 32], &code, "/dashboard/missions"), Some(entry));
        assert_eq!(open_entry(&[1; 32], &code, "/dashboard"), None);
        assert_eq!(open_session(&[1; 32], &code), None);
    }
}
