//! Turns: tasks that a claim kept back, because as many with their concurrency key ran as may, are handed out again.
//!
//! At once when one of them ends in this process, else by the sweep within a second. A crash between the store and the
//! queue leaves ready tasks that the queue does not know: the sweep pushes them again.

use bursar_domain::id::TenantId;

use super::Engine;
use crate::store::StoreError;

/// Tasks let go at once.
const CHUNK: i64 = 500;

impl Engine {
    /// Hands out what was kept back and may run now; of one key, or of all.
    pub(super) async fn give_turns(&self, key: Option<(TenantId, &str)>) -> Result<(), StoreError> {
        let store = self.store();
        let next = store.tasks_at_turn(self.clock().now(), key, CHUNK).await?;
        if next.is_empty() {
            return Ok(());
        }
        store.let_go(&next).await?;
        let rows = store.ready_by_id(&next).await?;
        let tasks: Vec<_> = rows.into_iter().map(|row| self.ready_task(row)).collect();
        if let Err(error) = self.queue().push(&tasks).await {
            tracing::debug!(%error, "tasks whose turn has come are left to the sweep");
        }
        Ok(())
    }

    /// As [`Engine::give_turns`] for keys under which a task just ended, beside whatever the caller does next.
    pub(super) fn give_turns_soon(&self, keys: Vec<(TenantId, String)>) {
        for (tenant, key) in keys {
            let engine = self.clone();
            tokio::spawn(async move {
                if let Err(error) = engine.give_turns(Some((tenant, &key))).await {
                    tracing::debug!(%error, "turns are left to the sweep");
                }
            });
        }
    }
}
