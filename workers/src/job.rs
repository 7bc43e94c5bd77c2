//! One attempt of one task, as the engine hands it to a worker.
//!
//! A job carries everything the step needs, so that nothing is loaded while it runs.

use bursar_domain::agent::Message;
use bursar_domain::id::TaskId;
use bursar_domain::workflow::Action;
use serde_json::Value;

/// What makes a task the same as an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reuse {
    /// All of the definition that the step depends on.
    pub source: String,
    /// The template of what decides, besides that; `None` is all that the step's templates become.
    pub key: Option<String>,
}

/// What to do, with what, and for how long at most.
#[derive(Clone)]
pub struct Job {
    /// The task.
    pub task_id: TaskId,
    /// The node's name in the workflow.
    pub node: String,
    /// The number of the attempt: 1, 2, 3….
    pub attempt: i32,
    /// What the node does.
    pub action: Action,
    /// What templates see: `{"inputs", "nodes", "run", "task"}`.
    pub context: Value,
    /// Whether an earlier output may be used.
    pub cache: Option<Reuse>,
    /// The number of the last message of the mission that its conversation begins with, or need not hear of.
    pub heard: i64,
    /// What the agent remembers, oldest first: exchanges or messages, each told or left out whole.
    pub memory: Vec<Vec<Message>>,
    /// Whether what the agent is asked is to be remembered.
    pub keeps_prompt: bool,
    /// Milliseconds this attempt may take. Zero or less has run out already.
    pub timeout_ms: i64,
}

impl std::fmt::Debug for Job {
    /// Names the job; prompts and inputs stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("task_id", &self.task_id)
            .field("node", &self.node)
            .field("attempt", &self.attempt)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}
