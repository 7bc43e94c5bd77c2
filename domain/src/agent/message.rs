//! What is said in an agent's conversation, in the shape every chat API shares.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One message. Its `Debug` tells sizes and never words: conversations stay out of logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Message {
    /// What the agent is told to be.
    System {
        /// The text.
        content: String,
    },
    /// What it is asked, and what it is told when an answer does not do.
    User {
        /// The text.
        content: String,
    },
    /// What the model answered.
    Assistant {
        /// The text; empty when it only calls tools.
        content: String,
        /// The tools it wants to be called, in its order.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool gave back. Nothing in it is trusted.
    Tool {
        /// The model's own id of the call.
        call_id: String,
        /// The result, or why there is none.
        content: String,
    },
}

impl Message {
    /// The role's name on the wire.
    pub const fn role(&self) -> &'static str {
        match self {
            Self::System { .. } => "system",
            Self::User { .. } => "user",
            Self::Assistant { .. } => "assistant",
            Self::Tool { .. } => "tool",
        }
    }

    /// The text.
    pub fn content(&self) -> &str {
        match self {
            Self::System { content }
            | Self::User { content }
            | Self::Assistant { content, .. }
            | Self::Tool { content, .. } => content,
        }
    }

    /// The tool calls of an answer; none of any other message.
    pub fn tool_calls(&self) -> &[ToolCall] {
        match self {
            Self::Assistant { tool_calls, .. } => tool_calls,
            Self::System { .. } | Self::User { .. } | Self::Tool { .. } => &[],
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes, {} tool calls)", self.role(), self.content().len(), self.tool_calls().len())
    }
}

/// A model's wish to call a tool, as it came. Its `Debug` leaves the arguments out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The model's own id of the call, which its result must name.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as the model wrote them: JSON, if it kept to the rules.
    pub arguments: String,
}

impl fmt::Debug for ToolCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.name, self.arguments.len())
    }
}
