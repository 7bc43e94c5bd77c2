//! People decide what they are asked. No worker is needed: the decision, what follows and the events are one transaction.

use bursar_domain::flow::{self, Answer, ApprovalRefusal, Decided};

use super::Engine;
use crate::store::read::ApprovalView;
use crate::store::{StoreError, Want};

/// Why a decision is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// It was decided otherwise, is over, or is not open.
    #[error(transparent)]
    Refused(#[from] ApprovalRefusal),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Decides an approval of which the caller knows that it may. The same decision again is told as it was made. A crash
    /// after the commit leaves the dependents ready, and the rest of a failing run to the sweep.
    pub async fn decide_approval(&self, view: &ApprovalView, answer: &Answer) -> Result<Decided, ApprovalError> {
        let mut want = Want::tasks(view.mission_id, [view.id]);
        if let Some(definition) = self.parts.facts.workflow(&self.parts.store, view.workflow_id).await? {
            let index = u32::try_from(view.node_at).unwrap_or(u32::MAX);
            want.reach(view.mission_id, view.run_id, view.base, &definition.reach_of_start(index));
        }
        want.tasks.extend(view.ancestors.iter().flatten());
        let decided = self.decide(&want, &mut |turn| flow::decide(turn, answer)).await??;
        if let Some(run) = decided.ending {
            self.end_run(run, view.mission_id).await;
        }
        Ok(decided)
    }
}
