//! What every handler sees.

use std::sync::Arc;

use super::auth::KeyCache;
use crate::engine::Engine;
use crate::store::Store;

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

/// What this API's own handlers see: the app, and what they remember between requests.
#[derive(Debug, Clone)]
pub(super) struct Site {
    /// The app.
    pub app: App,
    /// Keys that were valid a moment ago.
    pub keys: Arc<KeyCache>,
}

impl Site {
    /// A site that remembers nothing yet.
    pub fn new(app: App) -> Self {
        Self { app, keys: Arc::default() }
    }

    /// For writes.
    pub fn engine(&self) -> &Engine {
        &self.app.engine
    }

    /// For reads.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.app.engine.store()
    }

    /// Settings.
    pub fn settings(&self) -> &HttpSettings {
        &self.app.settings
    }
}
