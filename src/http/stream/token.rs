//! Stream tokens: they open one mission's stream, for reading, for 15 minutes. A browser's `EventSource` sends no headers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar_domain::id::MissionId;
use bursar_domain::time::Timestamp;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::super::limits::STREAM_TOKEN_MS;
use super::super::state::Site;

/// A token for a mission's stream, and until when it opens it.
pub(in crate::http) fn issue(site: &Site, mission: MissionId) -> (String, Timestamp) {
    let expires_at = site.engine().clock().now().plus_ms(STREAM_TOKEN_MS);
    let Some(mac) = mac(&site.settings().session_secret, mission, expires_at) else {
        return (String::new(), expires_at);
    };
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    (format!("st_{:x}.{signature}", expires_at.ms()), expires_at)
}

/// Whether a token opens a mission's stream now.
pub(super) fn opens(secret: &[u8; 32], token: &str, mission: MissionId, now: Timestamp) -> bool {
    let parts = token.strip_prefix("st_").and_then(|rest| rest.split_once('.'));
    let Some((expiry, signature)) = parts else { return false };
    let Ok(expiry) = i64::from_str_radix(expiry, 16) else { return false };
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    let expires_at = Timestamp::from_ms(expiry);
    let is_ours = mac(secret, mission, expires_at).is_some_and(|mac| mac.verify_slice(&signature).is_ok());
    is_ours && now < expires_at
}

fn mac(secret: &[u8; 32], mission: MissionId, expires_at: Timestamp) -> Option<Hmac<Sha256>> {
    // a key of any length is taken; there is no error to handle
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(format!("stream:{mission}:{}", expires_at.ms()).as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use uuid::Uuid;

    fn token(secret: &[u8; 32], mission: MissionId, expires_at: i64) -> String {
        let mac = mac(secret, mission, Timestamp::from_ms(expires_at)).unwrap();
        format!("st_{expires_at:x}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn a_token_opens_its_own_stream_until_it_expires() {
        let (ours, other) = (MissionId::from_uuid(Uuid::from_u128(1)), MissionId::from_uuid(Uuid::from_u128(2)));
        let good = token(&[7; 32], ours, 2_000);
        let at = Timestamp::from_ms;
        assert!(opens(&[7; 32], &good, ours, at(1_999)));
        assert!(!opens(&[7; 32], &good, ours, at(2_000)), "expired");
        assert!(!opens(&[7; 32], &good, other, at(1_000)), "another mission");
        assert!(!opens(&[8; 32], &good, ours, at(1_000)), "another secret");
        let prolonged = good.replace("st_7d0.", "st_fffff.");
        assert!(!opens(&[7; 32], &prolonged, ours, at(1_000)), "another expiry");
        for text in ["", "st_", "st_7d0", "st_7d0.", "bsk_live_x"] {
            assert!(!opens(&[7; 32], text, ours, at(1_000)), "{text}");
        }
    }
}
