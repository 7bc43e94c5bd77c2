//! Retention: what is over and old is pruned in batches: its events and journals first, its outputs, at last the mission.
//!
//! The ledger, and the rows that it refers to, are never touched, nor is anything that is not over. Any number of
//! processes may prune at once: a batch takes the missions' rows and looks again. A crash leaves whole batches.

use std::time::Duration;

use bursar_domain::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::clock::jitter;
use crate::store::{Prunable, Pruned, StoreError};

/// How often it looks.
const PASS: Duration = Duration::from_mins(10);
/// Runs of one batch at most.
const CHUNK: i64 = 100;
/// Events of one batch, about; a mission with more is a batch of its own.
const MOST_EVENTS: i64 = 5_000;
/// Batches of one stage and pass; the rest is left to the next.
const MOST_BATCHES: u32 = 500;

/// How long things are kept after a mission is over, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events, answers of models, results of tools, failed attempts, bulk actions.
    pub details_ms: i64,
    /// Outputs of tasks, and so of missions.
    pub outputs_ms: i64,
    /// Everything that the ledger does not refer to.
    pub missions_ms: i64,
}

/// Prunes until it is stopped.
#[derive(Debug)]
pub struct Pruner {
    engine: Engine,
    retention: Retention,
}

impl Pruner {
    /// A pruner.
    pub fn new(engine: Engine, retention: Retention) -> Self {
        Self { engine, retention }
    }

    /// Prunes every ten minutes, about, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            // the processes of a deployment start together and need not prune together
            let pause = PASS + Duration::from_millis(jitter(PASS.as_millis() as u64));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.engine.prune(&self.retention).await {
                tracing::warn!(%error, "what is old could not be pruned");
            }
        }
    }
}

impl Engine {
    /// Prunes what is old now. How many runs lost something.
    pub async fn prune(&self, retention: &Retention) -> Result<u64, StoreError> {
        let now = self.clock().now();
        let stages = [
            (Pruned::Details, retention.details_ms),
            (Pruned::Outputs, retention.outputs_ms),
            (Pruned::Mission, retention.missions_ms),
        ];
        let mut all: u64 = 0;
        for (stage, kept_ms) in stages {
            let pruned = self.prune_stage(stage, now.plus_ms(kept_ms.saturating_neg())).await?;
            self.metrics().note_pruned(stage.as_str(), pruned);
            all = all.saturating_add(pruned);
        }
        let keys = self.store().prune_dedupe_keys(now, CHUNK.saturating_mul(10)).await?;
        self.metrics().note_pruned("dedupe_key", keys);
        let actions =
            self.store().prune_bulk_actions(now.plus_ms(retention.details_ms.saturating_neg()), CHUNK).await?;
        self.metrics().note_pruned("bulk_action", actions);
        if all > 0 {
            tracing::info!(runs = all, "what was old was pruned");
        }
        Ok(all)
    }

    async fn prune_stage(&self, stage: Pruned, cutoff: Timestamp) -> Result<u64, StoreError> {
        let mut all: u64 = 0;
        for _ in 0..MOST_BATCHES {
            let found = self.store().prunable(stage, cutoff, CHUNK).await?;
            let batch = batch_of(&found);
            if batch.is_empty() {
                break;
            }
            let pruned = self.store().prune(stage, batch, cutoff).await?;
            if pruned == 0 {
                // somebody else was faster, or they are not over any more
                break;
            }
            all = all.saturating_add(pruned);
        }
        Ok(all)
    }
}

/// The first runs, as many as have not too many events together; one at least.
fn batch_of(found: &[Prunable]) -> &[Prunable] {
    let mut events: i64 = 0;
    let fits = found.iter().take_while(|run| {
        events = events.saturating_add(run.events);
        events <= MOST_EVENTS
    });
    let count = fits.count().max(1).min(found.len());
    found.get(..count).unwrap_or(found)
}
