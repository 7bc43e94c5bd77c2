//! A model's complete answer, and the shape in which the journal keeps it.

use std::fmt;

use serde_json::{Value, json};

use super::message::ToolCall;

/// What a model answered. Its `Debug` tells sizes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why the model stopped (`stop`, `length`, `tool_calls`, …).
    pub finish_reason: String,
    /// The tools it wants to be called.
    pub tool_calls: Vec<ToolCall>,
}

impl Answer {
    /// The journal's form: `{"text", "finish_reason"}`, with `tool_calls` where there are any.
    pub fn to_journal(&self) -> Value {
        let mut journal = json!({"text": self.text, "finish_reason": self.finish_reason});
        if !self.tool_calls.is_empty()
            && let Some(fields) = journal.as_object_mut()
        {
            fields.insert("tool_calls".to_owned(), json!(self.tool_calls));
        }
        journal
    }

    /// Reads the journal's form; `None` when it is not one that [`Answer::to_journal`] wrote.
    pub fn from_journal(journal: &Value) -> Option<Self> {
        let text = journal.get("text")?.as_str()?.to_owned();
        let finish_reason = journal.get("finish_reason").and_then(Value::as_str).unwrap_or_default().to_owned();
        let tool_calls = match journal.get("tool_calls") {
            None => Vec::new(),
            Some(calls) => serde_json::from_value(calls.clone()).ok()?,
        };
        Some(Self { text, finish_reason, tool_calls })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("text_bytes", &self.text.len())
            .field("finish_reason", &self.finish_reason)
            .field("tool_calls", &self.tool_calls)
            .finish()
    }
}
