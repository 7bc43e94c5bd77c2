//! Rows of tool calls: what an agent step had done for it, and what came of it.

use serde::{Deserialize, Serialize};

use crate::id::{MissionId, RunId, TaskId, TenantId, ToolCallId};
use crate::outcome::ToolEffects;
use crate::time::Timestamp;

/// Where a tool call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCallState {
    /// It may have begun. Of an attempt that is over: nobody knows whether it took effect.
    Running,
    /// It ended, and its result is journaled.
    Done,
    /// It surely did not run, or its attempt vanished and it was run again because that does no harm.
    Lost,
}

/// One tool call, recorded before it runs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRun {
    /// Its id.
    pub id: ToolCallId,
    /// The owner.
    pub tenant_id: TenantId,
    /// The mission.
    pub mission_id: MissionId,
    /// The run.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The attempt that ran it.
    pub attempt: i32,
    /// Its number within the step.
    pub number: i32,
    /// What was asked: tool and arguments.
    pub request_hash: String,
    /// The tool's name.
    pub tool: String,
    /// What running it twice would do.
    pub effects: ToolEffects,
    /// Where it stands.
    pub state: ToolCallState,
    /// What the model is told, once it ended; `None` in a working set that did not ask for it.
    pub result: Option<String>,
    /// Whether that tells why there is no result.
    pub is_error: bool,
    /// Milliseconds from start to end.
    pub duration_ms: Option<i64>,
    /// When it was recorded, before it ran.
    pub created_at: Timestamp,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
}

impl std::fmt::Debug for ToolRun {
    /// Names the call; what tools give back stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolRun")
            .field("id", &self.id)
            .field("task_id", &self.task_id)
            .field("attempt", &self.attempt)
            .field("number", &self.number)
            .field("tool", &self.tool)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
