//! What passes between a worker's step and the engine: the calls a step asks to make and the outcome it ends with.
//!
//! Values only. The worker fills them, the engine turns them into state and money (`settle`).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{CallId, ToolCallId};
use crate::time::Timestamp;
use crate::usage::Usage;

/// How an error is treated: who is at fault and whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Another attempt may succeed (timeouts, 5xx, cut connections).
    Retryable,
    /// The provider asked to wait; does not consume an attempt.
    RateLimited,
    /// No attempt will ever succeed (bad request, unpriced model, template error).
    Permanent,
    /// The credits or a budget do not suffice.
    Budget,
    /// Somebody cancelled the work.
    Cancelled,
    /// The worker lost its lease or vanished.
    Lost,
}

/// Why a step failed, in words for the person who wrote the workflow. Never holds prompts or secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// How it is treated.
    pub class: ErrorClass,
    /// A stable code in `snake_case`, e.g. `provider_timeout`.
    pub code: String,
    /// What happened and what to do about it.
    pub message: String,
    /// Milliseconds the provider asked to wait, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
}

impl StepError {
    /// An error of the given class.
    pub fn new(class: ErrorClass, code: &str, message: impl Into<String>) -> Self {
        Self { class, code: code.to_owned(), message: message.into(), retry_after_ms: None }
    }

    /// What those see who go on without the step: `{"error": {"class", "code", "message"}}`.
    pub fn as_output(&self) -> Value {
        json!({"error": {"class": self.class, "code": self.code, "message": self.message}})
    }
}

/// A call that a step wants to make. It must be granted before anything is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallRequest {
    /// The number of the call within the attempt: 1, 2, 3…, fixed before parallel calls start.
    pub number: i32,
    /// SHA-256 (hex) over provider, model and the exact request body: what makes a replay the same call.
    pub request_hash: String,
    /// The provider's name as configured.
    pub provider: String,
    /// The model's name as in the price book.
    pub model: String,
    /// Estimated input tokens, message overheads included.
    pub input_tokens: u64,
    /// The output cap that is sent with the call.
    pub max_output_tokens: u64,
    /// The same call to other models that may answer in this one's place, as request hashes: a journaled answer of any
    /// of them is this call's answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<String>,
    /// The model that did not answer and in whose place this one is asked, with the code of its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<(String, String)>,
    /// The number of the last message of the mission that the conversation has heard of.
    #[serde(default)]
    pub heard: i64,
    /// Calls of this attempt that ended since the last request: they are journaled in the same transaction, so that
    /// a crash from here on does not buy them again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<FinishedCall>,
}

/// The engine's yes to a [`CallRequest`].
#[expect(clippy::large_enum_variant, reason = "one per call, moved once")]
#[derive(Debug, Clone, PartialEq)]
pub enum CallPermit {
    /// Recorded and reserved: send it now, under this id.
    Send(CallId),
    /// An earlier attempt already bought this very call: use its answer, send nothing.
    Replay(FinishedCall),
    /// There are messages that the conversation must hear of first: those after what it heard, up to this number. Add
    /// them to it and ask again. Nothing was recorded but the calls that had ended.
    Listen(i64),
}

/// The engine's no to a [`CallRequest`], in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallRefusal {
    /// Another worker holds the task now, or the lease ran out: stop, nothing you do counts.
    #[error("this attempt no longer owns its task")]
    StaleFence,
    /// The price book of the run has no price for the model.
    #[error("model `{0}` has no price in this run's price book")]
    NotPriced(String),
    /// The credits or the budget do not suffice.
    #[error("the call needs {required} credits and {available} are available")]
    InsufficientCredits {
        /// Credits needed on top of what is held.
        required: crate::credits::Ucr,
        /// Credits that could be had.
        available: crate::credits::Ucr,
    },
    /// An earlier attempt may have run this tool call, which takes effect once: it is not run again.
    #[error(
        "nobody knows whether an earlier attempt ran tool call {number} (`{tool}`), which takes effect once: see what it \
         did, then fork the run from this node"
    )]
    FateUnknown {
        /// The tool.
        tool: String,
        /// The call's number within the step.
        number: i32,
    },
    /// A rate limit, a pause or a breaker: nothing was recorded and nothing may be sent before its time.
    #[error("{}, next at about {}", .0.reason, .0.until.to_rfc3339())]
    Wait(Box<RateWait>),
    /// The store cannot be reached; nothing was recorded and nothing may be sent.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// What a call has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateWait {
    /// What stands in the way.
    pub kind: RateKind,
    /// In words, for the person who waits.
    pub reason: String,
    /// For how many milliseconds.
    pub wait_ms: i64,
    /// Until about when.
    pub until: Timestamp,
}

/// What can stand in the way of a call that everything else allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateKind {
    /// The limit of a provider.
    Provider,
    /// The limit of one of its models.
    Model,
    /// The limit of one of its keys.
    Key,
    /// The limit of the tenant.
    Tenant,
    /// The provider asked everybody who uses the key to wait.
    Paused,
    /// The provider failed again and again, and is left alone.
    CircuitOpen,
}

impl RateKind {
    /// Its name, for counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Key => "key",
            Self::Tenant => "tenant",
            Self::Paused => "paused",
            Self::CircuitOpen => "circuit_open",
        }
    }

    /// The code of the error that a step ends with.
    pub fn code(self) -> &'static str {
        match self {
            Self::Provider | Self::Model | Self::Key | Self::Tenant => "rate_limited",
            Self::Paused => "provider_paused",
            Self::CircuitOpen => "provider_circuit_open",
        }
    }

    /// Whether an error with this code says that nothing was sent, because it was not its time.
    pub fn is_code(code: &str) -> bool {
        matches!(code, "rate_limited" | "provider_paused" | "provider_circuit_open")
    }
}

/// A call that came to its end, as its journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedCall {
    /// The id under which it was granted.
    pub id: CallId,
    /// What the provider reported; `None` when it reported nothing usable.
    pub usage: Option<Usage>,
    /// What the worker counted itself, for the case that `usage` is missing.
    pub counted: Usage,
    /// Whether the call answered completely (a finish reason arrived). A failed call is never replayed.
    pub succeeded: bool,
    /// Whether its answer is what makes the step fail. Such a call is never replayed either.
    #[serde(default)]
    pub rejected: bool,
    /// What a replay needs, see [`crate::agent::Answer::to_journal`]. Null for failed calls.
    pub response: Value,
    /// Milliseconds from sending to the end.
    pub duration_ms: i64,
    /// Milliseconds from sending to the first token, where there was one.
    pub first_token_ms: Option<i64>,
}

/// What running a tool twice would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolEffects {
    /// It changes nothing: it may run any number of times.
    None,
    /// It changes something, and the same again changes nothing more.
    Idempotent,
    /// Each run changes something: never twice.
    Once,
}

/// The tool calls of one turn that a step wants to run. They must be granted before anything runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolRequest {
    /// The calls.
    pub calls: Vec<ToolIntent>,
    /// Model calls of this attempt that ended since the last request: journaled in the same transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finished: Vec<FinishedCall>,
}

/// One tool call that a step wants to run. Its `Debug` leaves the arguments out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolIntent {
    /// Its number within the step: 1, 2, 3…, fixed before any of its turn starts.
    pub number: i32,
    /// SHA-256 (hex) over tool and arguments: what makes a replay the same call.
    pub request_hash: String,
    /// The tool's name.
    pub tool: String,
    /// What running it twice would do.
    pub effects: ToolEffects,
    /// The arguments as JSON text, for watchers.
    pub arguments: String,
}

/// The engine's yes to a [`ToolIntent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolPermit {
    /// Recorded: run it now, under this id.
    Run(ToolCallId),
    /// It ran before: use its result, run nothing.
    Replay(ToolAnswer),
}

/// What came of a tool call, as its journal keeps it and the model is told. Its `Debug` tells sizes only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolAnswer {
    /// The result, or why there is none. Nothing in it is trusted.
    pub content: String,
    /// Whether it is the latter.
    pub is_error: bool,
}

/// A tool call that came to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolEnd {
    /// The id under which it was granted.
    pub id: ToolCallId,
    /// Its number within the step.
    pub number: i32,
    /// What came of it.
    pub answer: ToolAnswer,
    /// Milliseconds from start to end.
    pub duration_ms: i64,
    /// Whether it ran, or may have. One that surely did not is as if it was never granted: another attempt runs it.
    pub ran: bool,
}

impl std::fmt::Debug for ToolIntent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}({} bytes)", self.number, self.tool, self.arguments.len())
    }
}

impl std::fmt::Debug for ToolAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, is_error: {}", self.content.len(), self.is_error)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// The step did its work.
    Succeeded {
        /// What the node's dependents receive.
        output: Value,
        /// The calls that the attempt consumed, replayed ones included: what the task is billed for.
        calls: Vec<FinishedCall>,
    },
    /// The step did not do its work.
    Failed {
        /// Why.
        error: StepError,
        /// The calls that the attempt made or replayed, those that failed included.
        calls: Vec<FinishedCall>,
    },
    /// The worker gives the task back untouched (drain): no attempt is consumed.
    HandedBack,
}
