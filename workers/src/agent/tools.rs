//! The tools of one turn: granted together, run side by side, each result journaled before the model hears of it.
//!
//! A result is cut to its tool's limit and is data, never an instruction to us. What the model got wrong (a tool it was
//! not given, arguments that do not match) is told to it like a result; only what concerns the step itself ends the step.

use std::time::Duration;

use bursar_domain::agent::{ToolResult, ToolWish};
use bursar_domain::outcome::{ErrorClass, StepError, ToolAnswer, ToolEnd, ToolIntent, ToolPermit, ToolRequest};
use bursar_domain::workflow::AgentStep;
use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::Performance;
use super::call::refused;
use crate::providers::{ToolDefinition, hash_of};
use crate::tools::{KnownTool, Tools};

/// A call that may run: of a tool the agent has, with arguments that match.
struct Sound<'t> {
    known: &'t KnownTool,
    arguments: Value,
    intent: ToolIntent,
}

impl Performance<'_> {
    /// What the model is told about the agent's tools. Refuses names that no tool of this worker has.
    pub(super) fn definitions(&self) -> Result<Vec<ToolDefinition>, StepError> {
        let tools = self.providers.tools();
        let define = |name: &String| {
            let known = tools.get(name).ok_or_else(|| {
                let names: Vec<&str> = tools.names().take(20).collect();
                let known = if names.is_empty() { "this worker has none".to_owned() } else { names.join(", ") };
                let message = format!("the agent wants tool `{name}`, which is not configured (known: {known})");
                StepError::new(ErrorClass::Permanent, "tool_unknown", message)
            })?;
            Ok(ToolDefinition {
                name: name.clone(),
                description: known.tool.description().to_owned(),
                parameters: known.tool.parameters().clone(),
            })
        };
        self.step.tools.iter().map(define).collect()
    }

    /// Has the tools of a turn run, or replayed. Results come in the order of the wishes.
    pub(super) async fn call_tools(&mut self, wishes: &[ToolWish]) -> Result<Vec<ToolResult>, StepError> {
        if let Some(reason) = self.stop.reason() {
            return Err(reason);
        }
        let mut results = Vec::with_capacity(wishes.len());
        let mut sound = Vec::new();
        for wish in wishes {
            match read(self.step, self.providers.tools(), wish) {
                Ok(call) => sound.push(call),
                Err(why) => results.push(ToolResult { number: wish.number, content: format!("error: {why}") }),
            }
        }
        if !sound.is_empty() {
            let known = self.calls.len();
            let request = ToolRequest {
                calls: sound.iter().map(|call| call.intent.clone()).collect(),
                finished: self.calls.get(self.journaled..).unwrap_or_default().to_vec(),
            };
            let permits = self.context.begin_tools(request).await.map_err(refused)?;
            self.journaled = known;
            let runs = sound.iter().zip(permits).map(|(call, permit)| self.perform_tool(call, permit));
            // when `stop` wins, what runs is given up: its fate is unknown, and the journal says so
            let done = tokio::select! {
                biased;
                reason = self.stop.wait() => return Err(reason),
                done = join_all(runs) => done,
            };
            for result in done {
                results.push(result?);
            }
        }
        results.sort_by_key(|result| result.number);
        Ok(results)
    }

    async fn perform_tool(&self, call: &Sound<'_>, permit: ToolPermit) -> Result<ToolResult, StepError> {
        let number = call.intent.number;
        let answer = match permit {
            ToolPermit::Replay(answer) => answer,
            ToolPermit::Run(id) => {
                let started = Instant::now();
                let answer = run(call).await;
                let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                let end = ToolEnd { id, number, answer: answer.clone(), duration_ms };
                self.context.end_tool(end).await.map_err(refused)?;
                answer
            }
        };
        let content = if answer.is_error { format!("error: {}", answer.content) } else { answer.content };
        Ok(ToolResult { number, content })
    }
}

/// The call, if it may run. Errors: what the model got wrong.
fn read<'t>(step: &AgentStep, tools: &'t Tools, wish: &ToolWish) -> Result<Sound<'t>, String> {
    let name = &wish.call.name;
    let known = step.tools.contains(name).then(|| tools.get(name)).flatten();
    let known = known.ok_or_else(|| format!("there is no such tool; there are: {}", step.tools.join(", ")))?;
    let arguments = known.read_arguments(&wish.call.arguments)?;
    let intent = ToolIntent {
        number: wish.number,
        request_hash: hash_of(&[name, &arguments.to_string()]),
        tool: name.clone(),
        effects: known.tool.effects(),
        arguments: arguments.to_string(),
    };
    Ok(Sound { known, arguments, intent })
}

/// Runs a tool within its limits. A tool that takes too long has no result; whether it took effect, nobody knows, and
/// the model is told so.
async fn run(call: &Sound<'_>) -> ToolAnswer {
    let limits = call.known.tool.limits();
    let within = Duration::from_millis(limits.timeout_ms);
    let (content, is_error) = match tokio::time::timeout(within, call.known.tool.call(&call.arguments)).await {
        Ok(Ok(content)) => (content, false),
        Ok(Err(error)) => (error.0, true),
        Err(_) => (format!("no result within {} ms; it may have taken effect all the same", limits.timeout_ms), true),
    };
    ToolAnswer { content: cut(content.replace('\0', "\u{FFFD}"), limits.result_bytes), is_error }
}

/// The text, at most so many bytes of it.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = text.floor_char_boundary(most);
        text.truncate(end);
        text.push_str("\n[the rest is cut off]");
    }
    text
}
