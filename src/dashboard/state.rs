//! What every page sees: the app, and what the dashboard remembers for a short while.
//!
//! All of it can be lost at any moment: keys are looked up again, layouts drawn again. Only the used one-time codes
//! matter, and they are worthless ten minutes after they were made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bursar_domain::id::{KeyId, TenantId, WorkflowId};
use bursar_domain::time::Timestamp;

use super::mission::Layout;
use crate::http::App;
use crate::store::{ApiKey, StoreError};

/// How long a key counts as live after it was looked up.
const KEY_TRUST: Duration = Duration::from_secs(15);
/// Layouts kept; when there are more, all are forgotten.
const MOST_LAYOUTS: usize = 128;

/// Shared by all pages. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Dashboard {
    pub(super) app: App,
    memory: Arc<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Live keys, with when they were looked up.
    keys: Mutex<HashMap<KeyId, (Instant, ApiKey)>>,
    /// One-time codes that were used, with when they would have expired.
    used_codes: Mutex<HashMap<String, Timestamp>>,
    layouts: Mutex<HashMap<WorkflowId, Arc<Layout>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Dashboard {
    pub(super) fn new(app: App) -> Self {
        Self { app, memory: Arc::default() }
    }

    /// The store's time.
    pub(super) fn now(&self) -> Timestamp {
        self.app.engine.clock().now()
    }

    /// The key, if it is live: not revoked, as of at most 15 s ago.
    pub(super) async fn live_key(&self, tenant: TenantId, id: KeyId) -> Result<Option<ApiKey>, StoreError> {
        let known = lock(&self.memory.keys).get(&id).cloned();
        if let Some((looked_up, key)) = known
            && looked_up.elapsed() < KEY_TRUST
        {
            return Ok(Some(key));
        }
        let key = self.app.engine.store().live_key(tenant, id).await?;
        let mut known = lock(&self.memory.keys);
        known.retain(|_, (looked_up, _)| looked_up.elapsed() < KEY_TRUST);
        match &key {
            Some(key) => known.insert(id, (Instant::now(), key.clone())),
            None => known.remove(&id),
        };
        Ok(key)
    }

    /// Takes note that a one-time code is used; false when it was used before.
    pub(super) fn use_code(&self, nonce: &str, expires: Timestamp) -> bool {
        let now = self.now();
        let mut used = lock(&self.memory.used_codes);
        used.retain(|_, expires| *expires > now);
        used.insert(nonce.to_owned(), expires).is_none()
    }

    /// The layout of a workflow version, when it was drawn before.
    pub(super) fn layout(&self, workflow: WorkflowId) -> Option<Arc<Layout>> {
        lock(&self.memory.layouts).get(&workflow).cloned()
    }

    /// Remembers a layout; workflow versions never change.
    pub(super) fn keep_layout(&self, workflow: WorkflowId, layout: Arc<Layout>) {
        let mut layouts = lock(&self.memory.layouts);
        if layouts.len() >= MOST_LAYOUTS {
            layouts.clear();
        }
        layouts.insert(workflow, layout);
    }
}
