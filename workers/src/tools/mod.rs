//! Tools that agents may call: each with a name, a schema for its arguments, and what running it twice would do.
//!
//! What a tool gives is told to the model and trusted by nobody; it is cut to the tool's limit before anything else sees
//! it. A tool never retries and knows nothing of tasks or journals: the agent step does that bookkeeping.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bursar_domain::outcome::{ErrorClass, StepError, ToolEffects};
use bursar_domain::workflow::{Schema, mcp_tool};
use serde_json::Value;

use crate::mcp::Servers;

pub mod http_get;

pub use http_get::{HttpGet, HttpGetConfig};

/// How far a tool may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolLimits {
    /// Bytes of a result that the model is told; the rest is cut off.
    pub result_bytes: usize,
    /// Milliseconds that one call may take.
    pub timeout_ms: u64,
}

impl Default for ToolLimits {
    /// 16 KiB, about 4,000 tokens that every later turn carries, and half a minute.
    fn default() -> Self {
        Self { result_bytes: 16 * 1024, timeout_ms: 30_000 }
    }
}

/// Why a tool gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// In words for the model: journaled and told to it like a result.
    #[error("{0}")]
    Told(String),
    /// It surely did not run, for a reason that concerns the step: the step ends so, another attempt may run it.
    #[error("{}", .0.message)]
    NotRun(StepError),
    /// It may have run, and nobody will know. The step ends so, or, if the tool takes effect once, for good.
    #[error("{}", .0.message)]
    Unknown(StepError),
}

/// Something that an agent can have done.
#[async_trait]
pub trait Tool: Send + Sync + fmt::Debug {
    /// The name that workflows and models know it by: letters, digits, `_` and `-`.
    fn name(&self) -> &str;

    /// What it does and when to use it, for the model.
    fn description(&self) -> &str;

    /// The JSON Schema of its arguments, an object.
    fn parameters(&self) -> &Value;

    /// What running it twice would do. Decides whether a call whose worker vanished may run again.
    fn effects(&self) -> ToolEffects;

    /// How far it may go.
    fn limits(&self) -> ToolLimits {
        ToolLimits::default()
    }

    /// How often one step may call it; `None` is as often as the step may call tools.
    fn max_calls(&self) -> Option<u32> {
        None
    }

    /// Does it, with arguments that match the schema. Dropping the future gives up waiting; what was begun may still
    /// take effect.
    async fn call(&self, arguments: &Value) -> Result<String, ToolError>;
}

/// Why a set of tools cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolsError {
    /// Two tools have one name.
    #[error("two tools are called `{0}`: give each its own name")]
    DuplicateName(String),
    /// A tool's schema cannot be used.
    #[error("the parameters of tool `{tool}` are no usable JSON Schema: {reason}")]
    BadParameters {
        /// The tool.
        tool: String,
        /// What is wrong.
        reason: String,
    },
    /// A tool's configuration cannot be used.
    #[error("tool `{tool}`: {reason}")]
    BadConfig {
        /// The tool.
        tool: String,
        /// What is wrong.
        reason: String,
    },
}

/// All tools of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    by_name: BTreeMap<String, KnownTool>,
    servers: Servers,
}

/// A tool with the compiled schema of its arguments.
#[derive(Debug, Clone)]
pub(crate) struct KnownTool {
    pub(crate) tool: Arc<dyn Tool>,
    /// `None` for a tool of an MCP server: that checks for itself, by a schema that may change between two attempts.
    arguments: Option<Schema>,
}

impl Tools {
    /// The set with one more tool. Refuses a name that is taken and a schema that cannot be used.
    pub fn with(mut self, tool: Arc<dyn Tool>) -> Result<Self, ToolsError> {
        let name = tool.name().to_owned();
        let arguments = Schema::compile(tool.parameters()).map_err(|problems| {
            let reason = problems.first().map(ToString::to_string).unwrap_or_default();
            ToolsError::BadParameters { tool: name.clone(), reason }
        })?;
        if self.by_name.contains_key(&name) {
            return Err(ToolsError::DuplicateName(name));
        }
        self.by_name.insert(name, KnownTool { tool, arguments: Some(arguments) });
        Ok(self)
    }

    /// The set with the tools of these MCP servers, in place of those of others.
    #[must_use]
    pub fn with_servers(mut self, servers: Servers) -> Self {
        self.servers = servers;
        self
    }

    /// The tool of that name. A server is asked what it has, unless that is known. Errors: nobody has such a tool, or
    /// its server can't be asked.
    pub(crate) async fn find(&self, name: &str) -> Result<KnownTool, StepError> {
        if let Some((server, tool)) = mcp_tool(name) {
            let tool = self.servers.find(name, server, tool).await?;
            return Ok(KnownTool { tool, arguments: None });
        }
        self.by_name.get(name).cloned().ok_or_else(|| {
            let names: Vec<&str> = self.names().take(20).collect();
            let known = if names.is_empty() { "this worker has none".to_owned() } else { names.join(", ") };
            let message = format!("the agent wants tool `{name}`, which is not configured (known: {known})");
            StepError::new(ErrorClass::Permanent, "tool_unknown", message)
        })
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}

impl KnownTool {
    /// Whether what it is and takes is told by somebody else, who may tell it otherwise tomorrow.
    pub(crate) fn is_remote(&self) -> bool {
        self.arguments.is_none()
    }

    /// The arguments of a call. Errors: what is wrong with them, for the model.
    pub(crate) fn read_arguments(&self, text: &str) -> Result<Value, String> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let value: Value = serde_json::from_str(text).map_err(|error| format!("the arguments are no JSON: {error}"))?;
        let Some(schema) = &self.arguments else {
            return if value.is_object() { Ok(value) } else { Err("the arguments are no JSON object".to_owned()) };
        };
        schema.check(&value).map_err(|problems| {
            let lines: Vec<String> = problems.iter().take(5).map(ToString::to_string).collect();
            format!("the arguments do not match the tool's schema: {}", lines.join("; "))
        })?;
        Ok(value)
    }
}
