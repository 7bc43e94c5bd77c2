//! HTTP: the public API. Reads from the store, writes through the engine, no business rules of its own.

mod state;

pub use state::{App, HttpSettings};

/// A new API secret: (secret, prefix, SHA-256).
pub fn new_secret() -> (String, String, String) {
    use sha2::Digest as _;
    let secret = format!("bsk_live_{}{}", crate::clock::new_token(), crate::clock::new_token());
    let hash = sha2::Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    (secret.clone(), secret.chars().take(13).collect(), hash)
}
