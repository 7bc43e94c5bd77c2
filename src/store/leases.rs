//! What claims and heartbeats carry.

use bursar_domain::flow::Guard;
use bursar_domain::id::{MissionId, PriceBookId, RunId, TaskId, TenantId, WorkerId, WorkflowId};
use bursar_domain::record::Bound;
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::{Definition, Place, Reach};
use serde::Deserialize;

/// A wish to take tasks.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Which tasks, as the queue named them.
    pub tasks: Vec<TaskId>,
    /// Who takes them.
    pub worker_id: WorkerId,
    /// The secret of the new leases: random, of this claim alone.
    pub token: String,
    /// How long the leases last, in ms.
    pub lease_ms: i64,
    /// The time by the store's clock.
    pub now: Timestamp,
}

/// A task that was taken.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Claimed {
    /// The task.
    pub id: TaskId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its mission.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// Its workflow version.
    pub workflow_id: WorkflowId,
    /// The prices of its run.
    pub price_book_id: PriceBookId,
    /// Its number in the run.
    pub node_index: i32,
    /// Its node's index.
    pub node_at: i32,
    /// The number in the run of its workflow's first node.
    pub base: i32,
    /// How many of its node's layers are around it.
    pub layer: i32,
    /// Its number in the innermost of these.
    pub item: i32,
    /// The tasks above it, the nearest first.
    pub ancestors: Option<Vec<TaskId>>,
    /// What it sees besides what its node sees.
    pub bound: Option<Bound>,
    /// Its pool.
    pub pool: String,
    /// The number of this attempt.
    pub attempt: i32,
    /// How many attempts failed before.
    pub failures: i32,
    /// The fence of this claim.
    pub fence: i64,
    /// When the lease runs out.
    pub lease_until: Timestamp,
    /// When the task became ready.
    pub ready_at: Option<Timestamp>,
    /// The number of the mission's last message when the task first became ready.
    pub heard: Option<i64>,
    /// The number of the mission's last message when its run began.
    pub run_heard: i64,
}

impl Claimed {
    /// Which task of its node it is.
    pub fn place(&self) -> Place {
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(u32::MAX);
        Place { index: unsigned(self.node_at), layer: unsigned(self.layer), item: unsigned(self.item) }
    }

    /// What its end reaches among the nodes of its workflow. None wait for one of many.
    pub fn reach(&self, definition: &Definition) -> Reach {
        let place = self.place();
        if place.layer > 0 {
            return Reach { of_failure: true, ..Reach::default() };
        }
        definition.reach_of_end(place.index)
    }

    /// Items of its family that wait for it.
    pub fn followers(&self) -> &[i32] {
        self.bound.as_ref().map_or(&[], |bound| &bound.followers)
    }

    /// What proves the claim to later writes.
    pub fn guard(&self, token: &str) -> Guard {
        Guard { task_id: self.id, fence: self.fence, token: token.to_owned() }
    }
}

/// A batch of leases to extend.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The leases.
    pub leases: Vec<Guard>,
    /// Until when.
    pub lease_until: Timestamp,
    /// The time by the store's clock.
    pub now: Timestamp,
}

/// A lease that was not simply extended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseFate {
    /// Somebody else holds the task, or nobody: stop, nothing counts any more.
    Lost(TaskId),
    /// Extended, but its run is being ended or its own deadline passed: stop soon and settle as cancelled.
    Stop(TaskId),
}
