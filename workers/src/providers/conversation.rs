//! A conversation on the wire: the messages of `OpenAI`'s chat completions, which every provider here speaks.

use bursar_domain::agent::Message;
use serde_json::{Value, json};

/// The messages as they are sent. An answer that only calls tools has no content at all.
pub(super) fn to_wire(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(message).collect()
}

fn message(message: &Message) -> Value {
    let role = message.role();
    match message {
        Message::Assistant { content, tool_calls } if !tool_calls.is_empty() => {
            let call = |call: &bursar_domain::agent::ToolCall| json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}});
            let calls: Vec<Value> = tool_calls.iter().map(call).collect();
            let content = if content.is_empty() { Value::Null } else { Value::from(content.as_str()) };
            json!({"role": role, "content": content, "tool_calls": calls})
        }
        Message::Tool { call_id, content } => json!({"role": role, "tool_call_id": call_id, "content": content}),
        Message::System { content } | Message::User { content } | Message::Assistant { content, .. } => {
            json!({"role": role, "content": content})
        }
    }
}
