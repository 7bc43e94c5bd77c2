//! A mission's conversation: its messages with their texts. What agents and runs said is read from where it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use bursar_domain::agent::Message;
use bursar_domain::id::{MissionId, RunId};
use bursar_domain::limits::{MAX_MESSAGES_TOLD, MAX_MESSAGES_TOLD_BYTES, MAX_REMEMBERED};
use bursar_domain::record::MessageRole;
use bursar_domain::workflow::{Definition, MemoryKind};
use serde_json::{Map, Value, json};

use super::Engine;
use crate::store::StoreError;
use crate::store::read::{MessageFilter, MessageView, NodeOutput};

/// The output by whose name a workflow says what it answers, where it has several.
const REPLY: &str = "reply";

/// A message with its text; `None` where that was pruned.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The message.
    pub message: MessageView,
    /// The text.
    pub text: Option<String>,
}

impl Engine {
    /// Messages of a mission with their texts, in order.
    pub async fn conversation(&self, filter: &MessageFilter) -> Result<Vec<Spoken>, StoreError> {
        let messages = self.store().messages(filter).await?;
        let replies = self.replies(&messages).await?;
        let spoken = |message: MessageView| {
            let text = match (&message.text, message.task_id, message.role) {
                (Some(text), ..) => Some(text.clone()),
                (None, Some(_), _) => message.output.as_ref().map(text_of),
                (None, None, MessageRole::Assistant) => replies.get(&message.run_id).cloned(),
                (None, None, _) => None,
            };
            Spoken { message, text }
        };
        Ok(messages.into_iter().map(spoken).collect())
    }

    /// What the runs answered whose replies are among the messages.
    async fn replies(&self, messages: &[MessageView]) -> Result<BTreeMap<RunId, String>, StoreError> {
        let is_reply = |message: &&MessageView| message.role == MessageRole::Assistant && message.task_id.is_none();
        let (mut runs, mut wanted) = (Vec::new(), Vec::new());
        for message in messages.iter().filter(is_reply) {
            let Some(definition) = self.definition(message.workflow_id).await? else { continue };
            let nodes = definition.outputs.values().filter_map(|path| definition.node_by_key(path.nodes()));
            wanted.extend(nodes.map(|node| (message.run_id, node.index)));
            runs.push((message.run_id, definition));
        }
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        wanted.sort_unstable();
        wanted.dedup();
        let outputs = self.store().outputs(&wanted).await?;
        let reply = |(run, definition): (RunId, Arc<Definition>)| Some((run, reply_of(&definition, run, &outputs)?));
        Ok(runs.into_iter().filter_map(reply).collect())
    }

    /// What an agent remembers of a mission up to a message's number, oldest first: exchanges or messages, each to be kept or
    /// left out whole.
    pub(super) async fn recalled(
        &self,
        mission: MissionId,
        agent: &str,
        kind: MemoryKind,
        upto: i64,
    ) -> Result<Vec<Vec<Message>>, StoreError> {
        if kind == MemoryKind::Agent {
            let exchanges = self.store().exchanges(mission, agent, upto, MAX_REMEMBERED).await?;
            let pair = |(prompt, output): (String, Value)| {
                vec![
                    Message::User { content: prompt },
                    Message::Assistant { content: text_of(&output), tool_calls: Vec::new() },
                ]
            };
            return Ok(exchanges.into_iter().map(pair).collect());
        }
        let filter = MessageFilter { mission, tenant: None, after: 0, upto, latest: true, limit: MAX_REMEMBERED };
        let spoken = self.conversation(&filter).await?;
        let said_by_agent = |reply: &Spoken| {
            let same = |other: &Spoken| {
                other.message.task_id.is_some()
                    && other.message.run_id == reply.message.run_id
                    && other.text == reply.text
            };
            spoken.iter().any(same)
        };
        let mut recalled = Vec::new();
        for one in &spoken {
            let Some(text) = one.text.clone() else { continue };
            let Spoken { message, .. } = one;
            recalled.push(vec![match (message.role, message.task_id) {
                (MessageRole::User, _) => Message::User { content: text },
                (MessageRole::System, _) => Message::System { content: text },
                // a run that answers with what an agent said adds nothing
                (MessageRole::Assistant, None) if said_by_agent(one) => continue,
                (MessageRole::Assistant, Some(_)) if message.author != agent => {
                    Message::User { content: format!("{} said:\n\n{text}", message.author) }
                }
                (MessageRole::Assistant, _) => Message::Assistant { content: text, tool_calls: Vec::new() },
            }]);
        }
        Ok(recalled)
    }

    /// What templates see as `messages`: the last of what was said up to that number, as far as it may be told.
    pub(super) async fn told(&self, mission: MissionId, upto: i64) -> Result<Value, StoreError> {
        let filter = MessageFilter { mission, tenant: None, after: 0, upto, latest: true, limit: MAX_MESSAGES_TOLD };
        let (mut told, mut bytes) = (Vec::new(), 0_usize);
        for Spoken { message, text } in self.conversation(&filter).await?.into_iter().rev() {
            let Some(text) = text else { continue };
            bytes = bytes.saturating_add(text.len());
            if bytes > MAX_MESSAGES_TOLD_BYTES {
                break;
            }
            told.push(json!({
                "number": message.number, "role": message.role, "author": message.author, "content": text,
            }));
        }
        told.reverse();
        Ok(Value::Array(told))
    }
}

/// The outputs that a workflow names, each from its node; null where a path leads nowhere.
pub fn named_outputs(definition: &Definition, run: RunId, found: &[NodeOutput]) -> Map<String, Value> {
    let mut outputs = Map::new();
    for (name, path) in &definition.outputs {
        let index = definition.node_by_key(path.nodes()).and_then(|node| i32::try_from(node.index).ok());
        let output = found.iter().find(|output| output.run_id == run && Some(output.node_index) == index);
        let value = output.and_then(|output| output.output.as_ref()).map(|output| path.resolve(output));
        outputs.insert(name.clone(), value.unwrap_or_default());
    }
    outputs
}

/// What a run says: the output called `reply`, else the only one, else all of them. `None` once they are gone.
fn reply_of(definition: &Definition, run: RunId, found: &[NodeOutput]) -> Option<String> {
    if !found.iter().any(|output| output.run_id == run && output.output.is_some()) {
        return None;
    }
    let outputs = named_outputs(definition, run, found);
    let only = outputs.values().next().filter(|_| outputs.len() == 1);
    Some(outputs.get(REPLY).or(only).map_or_else(|| Value::Object(outputs.clone()).to_string(), text_of))
}

/// A value as it is said: text as it stands, everything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
