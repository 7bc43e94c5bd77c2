//! Reads one chunk of a chat completion stream, whatever dialect it is in.
//!
//! Unknown fields are ignored, missing ones are not missed. Only the first choice exists, since only one is asked for.

use bursar_domain::outcome::ErrorClass;
use serde_json::Value;

use super::refusal::{self, Redaction};
use crate::providers::{ChatEvent, ProviderError, ToolCallPiece, usage};

/// What the chunk says, in the order text, usage, finish. A chunk that is an error says only that.
pub(super) fn events(chunk: &Value, redaction: &Redaction) -> Vec<Result<ChatEvent, ProviderError>> {
    if chunk.get("error").is_some_and(|error| !error.is_null()) {
        return vec![Err(refusal::from_stream(chunk, redaction))];
    }
    let mut events = Vec::new();
    let delta = chunk.pointer("/choices/0/delta").unwrap_or(&Value::Null);
    for field in ["reasoning_content", "reasoning"] {
        if let Some(reasoning) = text(delta.get(field)) {
            events.push(Ok(ChatEvent::Reasoning(reasoning)));
            break;
        }
    }
    for field in ["content", "refusal"] {
        if let Some(text) = text(delta.get(field)) {
            events.push(Ok(ChatEvent::Text(text)));
        }
    }
    let wishes = delta.get("tool_calls").and_then(Value::as_array);
    for (place, wish) in (0_u64..).zip(wishes.into_iter().flatten()) {
        events.push(Ok(ChatEvent::ToolCall(tool_call(place, wish))));
    }
    if let Some(report) = usage::find(chunk) {
        events.push(Ok(ChatEvent::Usage(usage::normalise(report))));
    }
    match chunk.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
        None | Some("") => {}
        // OpenRouter ends a stream that its upstream broke in this way.
        Some("error") => events.push(Err(upstream_error(redaction))),
        Some(reason) => events.push(Ok(ChatEvent::Finish(reason.to_owned()))),
    }
    events
}

/// A piece of a wish to call a tool. Servers that send wishes whole may leave the index out.
fn tool_call(place: u64, wish: &Value) -> ToolCallPiece {
    let text = |pointer: &str| wish.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let arguments = match wish.pointer("/function/arguments") {
        // some servers send them as an object
        Some(arguments @ Value::Object(_)) => arguments.to_string(),
        _ => text("/function/arguments").unwrap_or_default(),
    };
    ToolCallPiece {
        index: wish.get("index").and_then(Value::as_u64).unwrap_or(place),
        id: text("/id"),
        name: text("/function/name"),
        arguments,
    }
}

/// A text, or the text parts of a list of content parts; `None` when there is none.
fn text(content: Option<&Value>) -> Option<String> {
    let text = match content? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn upstream_error(redaction: &Redaction) -> ProviderError {
    let message = format!("provider `{}` ended its answer with the finish reason `error`", redaction.provider());
    ProviderError::broken(ErrorClass::Retryable, "provider_unavailable", message)
}
