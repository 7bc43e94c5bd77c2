//! The tools of one turn: granted together, run side by side, each result journaled before the model hears of it.
//!
//! A result is cut to its tool's limit and is data, never an instruction to us. What the model got wrong (a tool it was
//! not given, arguments that do not match) is told to it like a result; only what concerns the step itself ends the step.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_domain::agent::{ToolResult, ToolWish};
use bursar_domain::outcome::{
    CallRefusal, StepError, ToolAnswer, ToolEffects, ToolEnd, ToolIntent, ToolPermit, ToolRequest,
};
use bursar_domain::workflow::AgentStep;
use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::Performance;
use super::call::refused;
use super::toolbox::Toolbox;
use crate::providers::hash_of;
use crate::tools::{KnownTool, ToolError};

/// A call that may run: of a tool the agent has, with arguments that match.
struct Sound<'t> {
    known: &'t KnownTool,
    arguments: Value,
    intent: ToolIntent,
}

impl Performance<'_> {
    /// Has the tools of a turn run, or replayed. Results come in the order of the wishes.
    pub(super) async fn call_tools(&mut self, wishes: &[ToolWish]) -> Result<Vec<ToolResult>, StepError> {
        if let Some(reason) = self.stop.reason() {
            return Err(reason);
        }
        let mut results = Vec::with_capacity(wishes.len());
        let mut sound = Vec::new();
        for wish in wishes {
            match read(self.step, &self.toolbox, &mut self.tool_calls, wish) {
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
                let result = run(call).await;
                let duration_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
                let (answer, error) = match result {
                    Ok(answer) => (answer, None),
                    Err(ToolError::Unknown(error)) => return Err(lost(call, error)),
                    Err(ToolError::NotRun(error)) => (told(error.message.clone(), true, call), Some(error)),
                    Err(ToolError::Told(why)) => (told(why, true, call), None),
                };
                let end = ToolEnd { id, number, answer: answer.clone(), duration_ms, ran: error.is_none() };
                self.context.end_tool(end).await.map_err(refused)?;
                if let Some(error) = error {
                    return Err(error);
                }
                answer
            }
        };
        let content = if answer.is_error { format!("error: {}", answer.content) } else { answer.content };
        Ok(ToolResult { number, content })
    }
}

/// The call, if it may run. Errors: what the model got wrong.
fn read<'t>(
    step: &AgentStep,
    toolbox: &'t Toolbox,
    asked: &mut BTreeMap<String, u32>,
    wish: &ToolWish,
) -> Result<Sound<'t>, String> {
    let name = &wish.call.name;
    let known = toolbox.get(name);
    let known = known.ok_or_else(|| format!("there is no such tool; there are: {}", step.tools.join(", ")))?;
    let arguments = known.read_arguments(&wish.call.arguments)?;
    let asked = asked.entry(name.clone()).or_default();
    *asked = asked.saturating_add(1);
    if let Some(most) = known.tool.max_calls().filter(|most| *asked > *most) {
        return Err(format!("this tool may be called {most} times in one step, which it was"));
    }
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
async fn run(call: &Sound<'_>) -> Result<ToolAnswer, ToolError> {
    let timeout_ms = call.known.tool.limits().timeout_ms;
    let within = Duration::from_millis(timeout_ms);
    if let Ok(result) = tokio::time::timeout(within, call.known.tool.call(&call.arguments)).await {
        return result.map(|content| told(content, false, call));
    }
    let content = format!("no result within {timeout_ms} ms; it may have taken effect all the same");
    Ok(told(content, true, call))
}

/// What the model is told: text that stores can keep, cut to the tool's limit.
fn told(content: String, is_error: bool, call: &Sound<'_>) -> ToolAnswer {
    let most = call.known.tool.limits().result_bytes;
    ToolAnswer { content: cut(content.replace('\0', "\u{FFFD}"), most), is_error }
}

/// A call whose fate nobody knows. Its journal stays open: one that takes effect once is not run again, and a person
/// decides; any other is run by the next attempt.
fn lost(call: &Sound<'_>, error: StepError) -> StepError {
    if call.intent.effects != ToolEffects::Once {
        return error;
    }
    let refusal = CallRefusal::FateUnknown { tool: call.intent.tool.clone(), number: call.intent.number };
    let known = refused(refusal);
    StepError { message: format!("{} ({})", known.message, error.message), ..known }
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
