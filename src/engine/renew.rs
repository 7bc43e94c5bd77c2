//! Retry and fork: missions that are over go on, in the same run or in a new one. Each is one transaction, so that a crash
//! leaves nothing half done; its preview is the same decision, made and thrown away.

use bursar_domain::flow::{self, CancelPreview, ForkRequest, Order, Ordered, Preview};
use bursar_domain::id::MissionId;
use bursar_domain::state::TaskState;

use super::Engine;
use super::cancel::ControlError;
use crate::store::{StoreError, Want};

/// States of tasks that a retry may renew.
pub(super) const NOT_SUCCEEDED: [TaskState; 3] = [TaskState::Failed, TaskState::Cancelled, TaskState::Skipped];
/// States of tasks that are over.
const OVER: [TaskState; 4] = [TaskState::Succeeded, TaskState::Failed, TaskState::Cancelled, TaskState::Skipped];
/// States of tasks that are not.
const UNDER_WAY: [TaskState; 5] =
    [TaskState::Pending, TaskState::Ready, TaskState::Running, TaskState::Retrying, TaskState::Waiting];

impl Engine {
    /// Lets a mission of which the caller knows that it may go on from what failed. Whether anything was done: the same
    /// order again changes nothing.
    pub async fn retry(&self, mission: MissionId, order: Option<&Order>) -> Result<Ordered, ControlError> {
        let want = self.renewal(mission, &NOT_SUCCEEDED, false).await?;
        Ok(self.decide(&want, &mut |turn| flow::retry(turn, mission, order)).await??)
    }

    /// What a retry would do.
    pub async fn preview_retry(&self, mission: MissionId) -> Result<Preview, ControlError> {
        let want = self.renewal(mission, &NOT_SUCCEEDED, false).await?;
        Ok(self.decide(&want, &mut |turn| flow::preview_retry(turn, mission)).await??)
    }

    /// Makes a new run of a mission of which the caller knows that it may.
    pub async fn fork(&self, request: &ForkRequest, order: Option<&Order>) -> Result<Ordered, ControlError> {
        let want = self.fork_want(request).await?;
        Ok(self.decide(&want, &mut |turn| flow::fork(turn, request, order)).await??)
    }

    /// What a fork would do.
    pub async fn preview_fork(&self, request: &ForkRequest) -> Result<Preview, ControlError> {
        let want = self.fork_want(request).await?;
        Ok(self.decide(&want, &mut |turn| flow::preview_fork(turn, request)).await??)
    }

    /// What a cancel would do.
    pub async fn preview_cancel(&self, mission: MissionId) -> Result<CancelPreview, ControlError> {
        let latest = UNDER_WAY.map(|state| (mission, state)).to_vec();
        let want = Want { missions: vec![mission], latest, ..Want::default() };
        Ok(self.decide(&want, &mut |turn| flow::preview_cancel(turn, mission)).await??)
    }

    async fn fork_want(&self, request: &ForkRequest) -> Result<Want, StoreError> {
        // what the new run pins is known before the decision asks for it
        self.parts.facts.workflow(&self.parts.store, request.workflow_id).await?;
        self.parts.facts.prices(&self.parts.store, request.price_book_id).await?;
        self.renewal(request.mission_id, &OVER, true).await
    }

    /// The tasks of the latest run in these states, with the input and with the results that decide what begins, or
    /// with all results.
    pub(super) async fn renewal(
        &self,
        mission: MissionId,
        states: &[TaskState],
        all: bool,
    ) -> Result<Want, StoreError> {
        let latest = states.iter().map(|state| (mission, *state)).collect();
        let mut want = Want { missions: vec![mission], latest, begins: true, ..Want::default() };
        want.inputs.insert((mission, 0));
        want.signals.insert(mission);
        let Some(view) = self.store().mission(None, mission).await? else { return Ok(want) };
        if view.pruned > 0 {
            // it is refused; what its tasks refer to may be gone
            want.latest.clear();
            return Ok(want);
        }
        let Some(definition) = self.parts.facts.workflow(&self.parts.store, view.workflow_id).await? else {
            return Ok(want);
        };
        for node in &definition.nodes {
            let read = definition.read_by(&node.opening).chain(all.then_some(node.index));
            want.results.extend(read.filter_map(|index| Some((view.run_id, i32::try_from(index).ok()?))));
        }
        Ok(want)
    }
}
