//! One LLM answer while it arrives, and what it turns into: the journal's record.
//!
//! Kept apart from the call itself, so that a call that is stopped in the middle still has everything that
//! arrived until then.

use std::collections::BTreeMap;

use bursar_domain::agent::{Answer, ToolCall};
use bursar_domain::id::CallId;
use bursar_domain::outcome::FinishedCall;
use bursar_domain::usage::Usage;
use serde_json::Value;
use tokio::time::Instant;

use crate::context::Context;
use crate::providers::{ChatEvent, ToolCallPiece};
use crate::tokens::Counter;

/// What arrived so far.
pub(crate) struct Arriving {
    started: Instant,
    first_token_ms: Option<i64>,
    text: String,
    reasoning: String,
    tool_calls: ToolCalls,
    finish_reason: Option<String>,
    usage: Option<Usage>,
    may_have_cost: bool,
}

impl Arriving {
    /// An answer to a call that is sent now.
    pub(crate) fn begin() -> Self {
        Self {
            started: Instant::now(),
            first_token_ms: None,
            text: String::new(),
            reasoning: String::new(),
            tool_calls: ToolCalls::default(),
            finish_reason: None,
            usage: None,
            may_have_cost: true,
        }
    }

    /// Takes an event in and passes its text on to the watchers. A NUL, which no database stores in a text,
    /// becomes U+FFFD.
    pub(crate) fn take(&mut self, event: ChatEvent, context: &dyn Context) {
        match event {
            ChatEvent::Text(text) => {
                self.mark_first_token();
                let text = text.replace('\0', "\u{FFFD}");
                context.delta(&text);
                self.text.push_str(&text);
            }
            ChatEvent::Reasoning(text) => {
                self.mark_first_token();
                self.reasoning.push_str(&text);
            }
            ChatEvent::ToolCall(piece) => {
                self.mark_first_token();
                self.tool_calls.take(piece);
            }
            ChatEvent::Finish(reason) => self.finish_reason = Some(reason.replace('\0', "\u{FFFD}")),
            ChatEvent::Usage(usage) => self.usage = usage,
        }
    }

    /// Notes that the call was refused, so that it costs nothing unless something arrived after all.
    pub(crate) fn refused(&mut self) {
        self.may_have_cost = self.first_token_ms.is_some() || self.usage.is_some();
    }

    /// Whether the model came to an end of its own.
    pub(crate) fn is_complete(&self) -> bool {
        self.finish_reason.is_some()
    }

    /// The call as its journal keeps it. Counting happens here, so that every end of a call has its count.
    pub(crate) async fn finish(
        self,
        id: CallId,
        counter: Counter,
        input_tokens: u64,
        cap: u64,
        succeeded: bool,
    ) -> FinishedCall {
        let tool_calls = self.tool_calls.whole();
        let wishes: String = tool_calls.iter().flat_map(|call| [call.name.as_str(), &call.arguments]).collect();
        let mut produced = counter.count_text(&self.text).await;
        for text in [&self.reasoning, &wishes] {
            produced = produced.saturating_add(counter.count_text(text).await);
        }
        let counted = Usage {
            input_tokens: if self.may_have_cost { input_tokens } else { 0 },
            // Never above the reservation, which was made for the cap.
            output_tokens: produced.min(cap),
            ..Usage::default()
        };
        // A report of nothing for something that arrived is no report.
        let usage = self.usage.filter(|usage| usage.output_tokens > 0 || produced == 0);
        let response = match self.finish_reason {
            Some(reason) if succeeded => Answer { text: self.text, finish_reason: reason, tool_calls }.to_journal(),
            _ => Value::Null,
        };
        FinishedCall {
            id,
            usage,
            counted,
            succeeded,
            rejected: false,
            response,
            duration_ms: elapsed_ms(self.started),
            first_token_ms: self.first_token_ms,
        }
    }

    fn mark_first_token(&mut self) {
        self.first_token_ms.get_or_insert_with(|| elapsed_ms(self.started));
    }
}

/// Wishes to call tools, put together from their pieces.
#[derive(Default)]
struct ToolCalls {
    by_index: BTreeMap<u64, ToolCall>,
}

impl ToolCalls {
    fn take(&mut self, piece: ToolCallPiece) {
        let clean = |text: String| text.replace('\0', "\u{FFFD}");
        let empty = || ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
        let call = self.by_index.entry(piece.index).or_insert_with(empty);
        // some servers repeat id and name with every piece, none sends them in parts
        if let Some(id) = piece.id.filter(|id| !id.is_empty()) {
            call.id = clean(id);
        }
        if let Some(name) = piece.name.filter(|name| !name.is_empty()) {
            call.name = clean(name);
        }
        call.arguments.push_str(&clean(piece.arguments));
    }

    /// The wishes, in their order. A server that gives no ids gets ours.
    fn whole(self) -> Vec<ToolCall> {
        let numbered = (1_u64..).zip(self.by_index.into_values());
        let whole = |(number, call): (u64, ToolCall)| {
            let id = if call.id.is_empty() { format!("call_{number}") } else { call.id };
            ToolCall { id, ..call }
        };
        numbered.map(whole).collect()
    }
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
