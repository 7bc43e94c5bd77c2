//! Rows of signals: what came from outside, and to which task it went.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{MissionId, SignalId, TaskId, TenantId};
use crate::time::Timestamp;

/// A message from outside to a mission. Each goes to one task, or waits for one.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Its id.
    pub id: SignalId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// Where it came to.
    pub mission_id: MissionId,
    /// What it is called.
    pub name: String,
    /// The sender's idempotency key, unique in the mission for ever.
    pub key: Option<String>,
    /// SHA-256 of name and payload, to tell a replay from a reuse.
    pub request_hash: String,
    /// What it says; never null.
    pub payload: Value,
    /// The task that took it; `None` while nobody did.
    pub task_id: Option<TaskId>,
    /// When it came.
    pub received_at: Timestamp,
    /// When the task took it.
    pub delivered_at: Option<Timestamp>,
}

impl std::fmt::Debug for Signal {
    /// Names the signal; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signal")
            .field("id", &self.id)
            .field("mission_id", &self.mission_id)
            .field("name", &self.name)
            .field("task_id", &self.task_id)
            .finish_non_exhaustive()
    }
}
