//! Rows of messages: a mission as a session. What people said to it, and what its runs and agents answered.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{MessageId, MissionId, RunId, TaskId, TenantId};
use crate::time::Timestamp;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageRole {
    /// A person, or a program on somebody's behalf.
    User,
    /// A run, or an agent of it.
    Assistant,
    /// The operator.
    System,
}

impl MessageRole {
    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
        }
    }
}

/// What a user's message did when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageEffect {
    /// It is told to the agents of the run that was under way.
    Steers,
    /// It began the mission's next run.
    BeginsRun,
}

impl MessageEffect {
    /// The word used in tables and in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steers => "steers",
            Self::BeginsRun => "begins_run",
        }
    }
}

/// One message of a mission. Written once and never changed.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// The session that it belongs to.
    pub mission_id: MissionId,
    /// The run that it steers or begins, or that answered.
    pub run_id: RunId,
    /// 1, 2, 3… in the mission.
    pub number: i64,
    /// Who speaks.
    pub role: MessageRole,
    /// Who said it: an API key's id, an agent's name, or the workflow's.
    pub author: String,
    /// The task of the agent that said it; `None` for users and for the reply of a run.
    pub task_id: Option<TaskId>,
    /// The text; `None` where it is kept elsewhere: it is the task's output, or the run's outputs.
    pub content: Option<String>,
    /// What the agent had been asked, where an agent is to remember that.
    pub prompt: Option<String>,
    /// The sender's own data.
    pub metadata: Option<Value>,
    /// The sender's idempotency key, unique in the mission for ever.
    pub key: Option<String>,
    /// SHA-256 of what was sent, to tell a replay from a reuse.
    pub request_hash: Option<String>,
    /// What a user's message did when it came.
    pub effect: Option<MessageEffect>,
    /// When it came.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for Message {
    /// Names the message; what it says stays out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("mission_id", &self.mission_id)
            .field("number", &self.number)
            .field("role", &self.role)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}
