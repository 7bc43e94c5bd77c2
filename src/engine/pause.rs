//! Pause and resume. A pause is one transaction. A resume is one as well; what it made due is woken right after it,
//! or by the sweep where that fails.

use bursar_domain::flow;
use bursar_domain::id::MissionId;
use bursar_domain::state::TaskState;

use super::Engine;
use super::cancel::ControlError;
use crate::store::Want;

impl Engine {
    /// Pauses a mission of which the caller knows that it may: nothing begins any more, what runs goes on.
    pub async fn pause(&self, mission: MissionId, reason: Option<&str>) -> Result<(), ControlError> {
        // with the tasks above those that are ready: they count what these hold
        let latest = vec![(mission, TaskState::Ready), (mission, TaskState::Waiting)];
        let want = Want { missions: vec![mission], latest, ..Want::default() };
        self.decide(&want, &mut |turn| flow::pause(turn, mission, reason)).await??;
        Ok(())
    }

    /// Resumes a mission of which the caller knows that it may.
    pub async fn resume(&self, mission: MissionId) -> Result<(), ControlError> {
        let want = Want { missions: vec![mission], latest: vec![(mission, TaskState::Waiting)], ..Want::default() };
        self.decide(&want, &mut |turn| flow::resume(turn, mission)).await??;
        Ok(())
    }
}
