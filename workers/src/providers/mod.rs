//! Where answers come from: a provider takes a chat request and streams events back.
//!
//! Two kinds exist: [`openai`], any endpoint that speaks `OpenAI`'s chat completions, and [`simulated`], the
//! deterministic model for development and tests. [`Providers`] finds the one that serves a model. A provider
//! never retries and never talks to the engine; the agent step does both sides' bookkeeping.

use async_trait::async_trait;
use bursar_domain::agent::Message;
use bursar_domain::outcome::{ErrorClass, StepError};
use bursar_domain::usage::Usage;
use futures::stream::BoxStream;
use serde_json::{Number, Value, json};
use sha2::{Digest, Sha256};

mod conversation;
pub mod openai;
mod registry;
pub mod simulated;
pub mod usage;

pub use openai::{Models, OpenAiConfig, OutputCapField};
pub use registry::{Builder, Providers, ProvidersError};
pub use simulated::{CallJournal, SimulatedConfig};

/// One LLM call. It has no `Debug` on purpose: prompts stay out of logs.
#[derive(Clone)]
pub struct ChatRequest {
    /// The agent on whose behalf the call is made. Not sent.
    pub agent: String,
    /// The number of the attempt that makes the call. Not sent.
    pub attempt: i32,
    /// The model's name.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The output cap in tokens, reasoning included.
    pub max_output_tokens: u64,
    /// The sampling temperature, as written in the workflow.
    pub temperature: Option<Number>,
    /// The format that the answer must have, sent only to providers that take one ([`Provider::takes_schema`]).
    pub format: Option<AnswerFormat>,
    /// The tools that the model may ask for.
    pub tools: Vec<ToolDefinition>,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDefinition {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The JSON Schema of its arguments.
    pub parameters: Value,
}

impl ToolDefinition {
    /// An item of `tools` as `OpenAI` defines it.
    pub(crate) fn to_wire(&self) -> Value {
        let Self { name, description, parameters } = self;
        json!({"type": "function", "function": {"name": name, "description": description, "parameters": parameters}})
    }
}

/// A JSON Schema that the provider shall hold the model to.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerFormat {
    /// The schema's name.
    pub name: String,
    /// The schema.
    pub schema: Value,
}

impl AnswerFormat {
    /// `response_format` as `OpenAI` defines it. Not strict: strict schemas are a small part of JSON Schema, and the
    /// answer is checked anyway.
    fn to_wire(&self) -> Value {
        json!({"type": "json_schema", "json_schema": {"name": self.name, "schema": self.schema, "strict": false}})
    }
}

impl ChatRequest {
    /// The texts of all messages, in order, wishes to call tools included.
    pub fn contents(&self) -> Vec<&str> {
        let mut texts = Vec::with_capacity(self.messages.len());
        for message in &self.messages {
            texts.push(message.content());
            texts.extend(message.tool_calls().iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]));
        }
        texts
    }
}

/// SHA-256 (hex) over provider, model and the exact request body: two calls with one hash are the same call.
pub fn request_hash(provider: &str, model: &str, body: &Value) -> String {
    hash_of(&[provider, model, &body.to_string()])
}

/// SHA-256 (hex) over a list of texts.
pub(crate) fn hash_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length first, so that no two lists of parts run together.
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().fold(String::with_capacity(64), |hex, byte| format!("{hex}{byte:02x}"))
}

/// What a provider says while it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatEvent {
    /// A piece of the answer.
    Text(String),
    /// A piece of the model's reasoning: produced and paid for, not part of the answer.
    Reasoning(String),
    /// A piece of a wish to call a tool.
    ToolCall(ToolCallPiece),
    /// The model stopped, for this reason (`stop`, `length`, …).
    Finish(String),
    /// A usage report; the last one counts. `None` when it makes no sense.
    Usage(Option<Usage>),
}

/// A piece of a wish to call a tool; pieces with one index belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCallPiece {
    /// Which of the answer's wishes it is a piece of.
    pub index: u64,
    /// The model's id of the call, with the first piece.
    pub id: Option<String>,
    /// The tool's name, with the first piece.
    pub name: Option<String>,
    /// A piece of the arguments.
    pub arguments: String,
}

/// An answer on its way. Dropping it aborts the call.
pub type ChatStream = BoxStream<'static, Result<ChatEvent, ProviderError>>;

/// Why a provider did not answer, or not to the end. Holds neither prompts nor keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ProviderError {
    /// How it is treated.
    pub class: ErrorClass,
    /// A stable code in `snake_case`.
    pub code: &'static str,
    /// What happened and what to do about it.
    pub message: String,
    /// Milliseconds the provider asked to wait, at most an hour.
    pub retry_after_ms: Option<i64>,
    /// Whether the model may have begun to work, so that the call may cost something.
    pub may_have_cost: bool,
}

impl ProviderError {
    /// The call was refused, or never arrived: it costs nothing.
    pub fn refused(class: ErrorClass, code: &'static str, message: String) -> Self {
        Self { class, code, message, retry_after_ms: None, may_have_cost: false }
    }

    /// The call failed after it was accepted, or nobody knows: it may cost.
    pub fn broken(class: ErrorClass, code: &'static str, message: String) -> Self {
        Self { class, code, message, retry_after_ms: None, may_have_cost: true }
    }
}

impl From<ProviderError> for StepError {
    fn from(error: ProviderError) -> Self {
        let mut step_error = Self::new(error.class, error.code, error.message);
        step_error.retry_after_ms = error.retry_after_ms;
        step_error
    }
}

/// A source of answers.
#[async_trait]
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// The name it is configured, priced and journaled under.
    fn name(&self) -> &str;

    /// Whether the provider takes a JSON Schema for its answers. Where it does not, the model is told in words.
    fn takes_schema(&self) -> bool;

    /// The exact body that [`Provider::stream`] sends for this request.
    fn body(&self, request: &ChatRequest) -> Value;

    /// Sends the request once and streams the answer. Ends without [`ChatEvent::Finish`] when the answer was
    /// cut off; the first error is the last item that counts. Dropping the future aborts the call.
    async fn stream(&self, request: &ChatRequest) -> Result<ChatStream, ProviderError>;
}
