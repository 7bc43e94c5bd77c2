//! What a node does, as values. Scaffold to be replaced.

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod template;

/// What a node does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// One LLM step.
    Agent(AgentStep),
    /// A pure template.
    Transform(TransformStep),
}

/// One LLM step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentStep {
    /// The agent's name.
    pub agent: String,
    /// The system message, a template.
    pub instructions: String,
    /// The model's name.
    pub model: String,
    /// The user message, a template.
    pub prompt: String,
    /// The output cap in tokens.
    pub max_output_tokens: u64,
    /// Passed through to the provider.
    pub temperature: Option<serde_json::Number>,
}

/// A pure template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformStep {
    /// The output, its strings being templates.
    pub output: Value,
}
