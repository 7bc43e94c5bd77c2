//! Rows of outputs that later tasks may use.

use serde::{Deserialize, Serialize};

use crate::id::{TaskId, TenantId};
use crate::time::Timestamp;

/// The output of a task, by the hash of what it was made from. The output itself stays with the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOutput {
    /// The task that made it.
    pub task_id: TaskId,
    /// Its owner, who alone may use it.
    pub tenant_id: TenantId,
    /// SHA-256 (hex) of the node's definition and of what its templates became.
    pub hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it may be used.
    pub expires_at: Timestamp,
}
