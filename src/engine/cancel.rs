//! Cancel, and winding down runs that fail or are cancelled: in chunks, so that no transaction grows with the run.

use bursar_domain::flow::{self, Refusal};
use bursar_domain::id::{MissionId, RunId, TaskId};
use bursar_domain::outcome::Outcome;

use super::Engine;
use crate::store::{StoreError, Want};

/// Tasks ended per transaction.
const CHUNK: i64 = 500;

/// Why a mission can't be cancelled, paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Its state does not allow it, or it does not exist.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Cancels a mission of which the caller knows that it may. Returns when everything that nobody works on has
    /// ended; steps in flight are stopped and settle by themselves.
    pub async fn cancel(&self, mission: MissionId, reason: Option<&str>) -> Result<(), ControlError> {
        let want = Want { missions: vec![mission], ..Want::default() };
        let run = self.decide(&want, &mut |turn| flow::cancel(turn, mission, reason)).await??;
        self.wind_down(run, mission).await?;
        Ok(())
    }

    /// Ends what an ending run has left; the sweep comes back for what fails here.
    pub(super) async fn end_run(&self, run: RunId, mission: MissionId) {
        if let Err(error) = self.wind_down(run, mission).await {
            tracing::warn!(%error, %run, "the run is left to the sweep to end");
        }
    }

    async fn wind_down(&self, run: RunId, mission: MissionId) -> Result<(), StoreError> {
        loop {
            let tasks = self.store().tasks_to_end(run, self.clock().now(), CHUNK).await?;
            if tasks.is_empty() {
                return Ok(());
            }
            let above = tasks.iter().flat_map(|task| task.ancestors.iter().flatten().copied());
            let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
            let want = Want::tasks(mission, ids.iter().copied().chain(above));
            let ended = self.decide(&want, &mut |turn| flow::wind_down(turn, run, &ids)).await?;
            match ended {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(refusal) => return Err(StoreError::Corrupt(refusal.to_string())),
            }
        }
    }

    /// Records what the calls of a refused late settle used.
    pub(super) async fn record_late(&self, mission: MissionId, task: TaskId, outcome: &Outcome) {
        let (Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. }) = outcome else { return };
        if calls.is_empty() {
            return;
        }
        let calls_of = calls.iter().map(|call| call.id).collect();
        let want = Want { calls: calls_of, ..Want::tasks(mission, [task]) };
        if let Err(error) = self.decide(&want, &mut |turn| flow::record_late(turn, calls)).await {
            tracing::warn!(%error, %task, "the usage of a lost attempt could not be recorded");
        }
    }
}
