//! What every handler sees.

use std::sync::Arc;

use crate::engine::Engine;

/// Settings of the public listener.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address under which clients reach us, e.g. `http://localhost:8080`; links are made from it.
    pub public_url: String,
    /// Where people buy credits; shown with a 402.
    pub top_up_url: Option<String>,
    /// Signs dashboard sessions and stream tokens. Random per process unless configured.
    pub session_secret: [u8; 32],
}

/// What every handler sees. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    /// Writes go through it.
    pub engine: Engine,
    /// Settings.
    pub settings: Arc<HttpSettings>,
}
