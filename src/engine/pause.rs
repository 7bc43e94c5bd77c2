//! Pause and resume. A pause is one transaction. A resume is one as well; what it made due is woken right after it, and
//! by the sweep where that fails.

use bursar_domain::flow;
use bursar_domain::id::MissionId;
use bursar_domain::record::Task;
use bursar_domain::state::{TaskState, WaitCause};

use super::Engine;
use super::cancel::ControlError;
use crate::store::Want;
use crate::store::read::Due;

impl Engine {
    /// Pauses a mission of which the caller knows that it may: nothing begins any more, what runs goes on.
    pub async fn pause(&self, mission: MissionId, reason: Option<&str>) -> Result<(), ControlError> {
        let want = Want { missions: vec![mission], latest: vec![(mission, TaskState::Ready)], ..Want::default() };
        self.decide(&want, &mut |turn| flow::pause(turn, mission, reason)).await??;
        Ok(())
    }

    /// Resumes a mission of which the caller knows that it may.
    pub async fn resume(&self, mission: MissionId) -> Result<(), ControlError> {
        let want = Want { missions: vec![mission], latest: vec![(mission, TaskState::Waiting)], ..Want::default() };
        let mut resume = |turn: &mut flow::Turn<'_>| {
            let run = flow::resume(turn, mission)?;
            let parked = |task: &&Task| task.run_id == run && task.wait == Some(WaitCause::Paused);
            Ok(turn.set.tasks.iter().filter(parked).map(due).collect::<Vec<_>>())
        };
        let parked = self.decide(&want, &mut resume).await?.map_err(ControlError::Refused)?;
        if let Err(error) = self.wake(parked).await {
            tracing::warn!(%error, %mission, "what was parked is left to the sweep to wake");
        }
        Ok(())
    }
}

fn due(task: &Task) -> Due {
    Due {
        id: task.id,
        mission_id: task.mission_id,
        run_id: task.run_id,
        workflow_id: task.workflow_id,
        node_index: task.node_index,
    }
}
