//! What claims and heartbeats carry.

use bursar_domain::flow::Guard;
use bursar_domain::id::{MissionId, PriceBookId, RunId, TaskId, TenantId, WorkerId, WorkflowId};
use bursar_domain::time::Timestamp;
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
    /// Its node's index.
    pub node_index: i32,
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
}

impl Claimed {
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
