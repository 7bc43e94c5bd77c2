//! The agent step: performs what the machine of the domain asks for, until it says that the step is over.
//!
//! The conversation is [`Machine`]'s; this makes its calls (`call`). An attempt that begins again asks for the same
//! calls in the same order and gets the journaled answers, so it stands where the last one stood without buying
//! anything twice. Calls that ended are journaled with the request for the next one; the last ones with the outcome.
//! Whatever way the step ends, the outcome carries every call with its usage.

use std::collections::BTreeMap;

use bursar_domain::agent::{Machine, Message, Next};
use bursar_domain::outcome::{FinishedCall, Outcome, StepError};
use bursar_domain::workflow::AgentStep;
use bursar_domain::workflow::template::render_text;
use serde_json::Value;

use crate::cache;
use crate::context::Context;
use crate::job::Job;
use crate::providers::Providers;
use crate::stop::Stop;
use crate::transform::template_failed;

mod answer;
mod call;
mod fallback;
mod memory;
mod toolbox;
mod tools;

use toolbox::Toolbox;

/// Performs the step. `stop` is watched while a call is in flight.
pub(crate) async fn run(
    job: &Job,
    step: &AgentStep,
    context: &dyn Context,
    providers: &Providers,
    stop: &Stop<'_>,
) -> Outcome {
    let (calls, told) = (Vec::new(), Vec::new());
    let (toolbox, tool_calls) = (Toolbox::default(), BTreeMap::new());
    let (journaled, model, heard) = (0, 0, job.heard);
    let mut performance =
        Performance { job, step, context, providers, stop, toolbox, tool_calls, calls, journaled, model, heard, told };
    let result = performance.perform().await;
    let calls = performance.calls;
    match result {
        Ok(output) => Outcome::Succeeded { output, calls },
        Err(error) => Outcome::Failed { error, calls },
    }
}

/// A step that is being performed.
struct Performance<'a> {
    job: &'a Job,
    step: &'a AgentStep,
    context: &'a dyn Context,
    providers: &'a Providers,
    stop: &'a Stop<'a>,
    /// What the agent may have done.
    toolbox: Toolbox,
    /// How often each tool was asked for.
    tool_calls: BTreeMap<String, u32>,
    /// All calls so far, in order. They count however the step ends.
    calls: Vec<FinishedCall>,
    /// How many of them the engine knows.
    journaled: usize,
    /// Which of the step's models is asked: the one that answered last.
    model: usize,
    /// The number of the last message of the mission that the conversation has heard of.
    heard: i64,
    /// What users said while the step worked.
    told: Vec<String>,
}

impl Performance<'_> {
    async fn perform(&mut self) -> Result<Value, StepError> {
        let prompt =
            render_text(&self.step.prompt, &self.job.context).map_err(|error| template_failed("prompt", &error))?;
        let opening = self.opening(&prompt).await;
        let given = || serde_json::json!(opening).to_string();
        if let Some(output) = cache::find(self.job, self.context, given).await? {
            return Ok(output);
        }
        self.toolbox = self.fetch_tools().await?;
        let mut machine = Machine::begin(opening);
        loop {
            match machine.next() {
                Next::CallModel { number } => {
                    let answer = self.call_model(number, &mut machine).await?;
                    machine.answered(self.step, answer);
                }
                Next::CallTools(wishes) => {
                    let results = self.call_tools(wishes).await?;
                    machine.tools_answered(&results);
                }
                Next::Done(output) => {
                    self.keep_prompt(&prompt);
                    return Ok(output.clone());
                }
                Next::Failed { error, rejects } => {
                    if let Some(last) = self.calls.last_mut() {
                        last.rejected = rejects;
                    }
                    return Err(error.clone());
                }
            }
        }
    }

    /// The first messages: the instructions as they stand, what the agent remembers, the rendered prompt. Empty
    /// instructions make no message.
    async fn opening(&self, prompt: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        // instructions are plain text: what an agent is does not depend on the input
        if !self.step.instructions.is_empty() {
            messages.push(Message::System { content: self.step.instructions.clone() });
        }
        messages.extend(self.memory().await);
        messages.push(Message::User { content: prompt.to_owned() });
        messages.extend(self.review());
        messages
    }

    /// A draft that its reviewer did not accept, and why; nothing where there is none, or where the prompt tells it.
    fn review(&self) -> Vec<Message> {
        let seen = |field: &str| self.job.context.pointer(&format!("/review/{field}")).filter(|value| !value.is_null());
        let Some((draft, answer)) = seen("draft").zip(seen("answer")) else { return Vec::new() };
        if self.step.prompt.contains("review.") {
            return Vec::new();
        }
        let feedback = answer.get("feedback").unwrap_or(answer);
        let content = format!(
            "A reviewer did not accept this:\n\n{}\n\nAnswer again, whole, with what the reviewer asks for.",
            text_of(feedback)
        );
        vec![Message::Assistant { content: text_of(draft), tool_calls: Vec::new() }, Message::User { content }]
    }
}

/// A value as a model is told it: text as it stands, everything else as JSON.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
