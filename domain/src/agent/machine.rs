//! The machine: `CallModel` → `CallTools` → `CallModel` → … → `Done` or `Failed`.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::Answer;
use super::message::{Message, ToolCall};
use super::output;
use crate::outcome::{ErrorClass, StepError};
use crate::workflow::AgentStep;

/// One step's conversation and where it stands. Its `Debug` tells sizes only.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    messages: Vec<Message>,
    /// Model calls asked for so far; the present one included.
    calls: i32,
    /// Answers that asked for tools.
    turns: u32,
    /// Answers that were sent back to be mended.
    repairs: u32,
    /// Tool calls handed out so far.
    tool_calls: u32,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    CallModel,
    CallTools { wishes: Vec<ToolWish> },
    Done { output: Value },
    Failed { error: StepError, rejects: bool },
}

/// A tool call to perform, numbered before any of its turn starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolWish {
    /// 1, 2, 3… within the step.
    pub number: i32,
    /// What the model asked for.
    pub call: ToolCall,
}

/// What came of a tool call.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The number of the wish.
    pub number: i32,
    /// What the model is told: the result, or why there is none.
    pub content: String,
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub enum Next<'m> {
    /// Ask the model with [`Machine::messages`], then tell [`Machine::answered`].
    CallModel {
        /// The call's number within the attempt: 1, 2, 3…
        number: i32,
    },
    /// Run these, then tell [`Machine::tools_answered`].
    CallTools(&'m [ToolWish]),
    /// Over: what the step's dependents receive.
    Done(&'m Value),
    /// Over, without an output.
    Failed {
        /// Why.
        error: &'m StepError,
        /// Whether the last answer is to blame, so that it must never be replayed.
        rejects: bool,
    },
}

impl Machine {
    /// Begins with what the model is told first.
    pub fn begin(messages: Vec<Message>) -> Self {
        Self { messages, calls: 1, turns: 0, repairs: 0, tool_calls: 0, state: State::CallModel }
    }

    /// What to do now; the same until something is told.
    pub fn next(&self) -> Next<'_> {
        match &self.state {
            State::CallModel => Next::CallModel { number: self.calls },
            State::CallTools { wishes } => Next::CallTools(wishes),
            State::Done { output } => Next::Done(output),
            State::Failed { error, rejects } => Next::Failed { error, rejects: *rejects },
        }
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Users said more while the step worked: the model hears of it with its next call. Nothing unless a model call is due.
    pub fn told(&mut self, messages: Vec<String>) {
        if self.state == State::CallModel {
            self.messages.extend(messages.into_iter().map(|content| Message::User { content }));
        }
    }

    /// The model answered completely, just now or in an earlier attempt. Nothing unless a model call is due.
    pub fn answered(&mut self, step: &AgentStep, answer: Answer) {
        if self.state != State::CallModel {
            return;
        }
        if !answer.tool_calls.is_empty() {
            self.state = self.tools_due(step, &answer.tool_calls);
            self.hear(answer);
            return;
        }
        let Some(wanted) = &step.output else {
            self.state = State::Done { output: Value::String(answer.text.clone()) };
            return self.hear(answer);
        };
        match output::read(wanted, &answer) {
            Ok(output) => {
                self.state = State::Done { output };
                self.hear(answer);
            }
            Err(violations) if self.repairs < wanted.repairs => {
                self.repairs = self.repairs.saturating_add(1);
                self.hear(answer);
                self.messages.push(Message::User { content: output::send_back(&violations) });
                self.call_again();
            }
            Err(violations) => {
                self.state = fails("output_invalid", output::give_up(wanted, self.repairs, &violations));
                self.hear(answer);
            }
        }
    }

    fn hear(&mut self, answer: Answer) {
        self.messages.push(Message::Assistant { content: answer.text, tool_calls: answer.tool_calls });
    }

    /// All tools of the turn came to an end. Results are taken in the order of the wishes; one that is missing is
    /// told to the model as such. Nothing unless tools are due.
    pub fn tools_answered(&mut self, results: &[ToolResult]) {
        let State::CallTools { wishes } = &self.state else { return };
        for wish in wishes {
            let content = results.iter().find(|result| result.number == wish.number);
            let content = content.map_or_else(|| "error: no result".to_owned(), |result| result.content.clone());
            self.messages.push(Message::Tool { call_id: wish.call.id.clone(), content });
        }
        self.call_again();
    }

    /// What follows an answer that asks for tools.
    fn tools_due(&mut self, step: &AgentStep, calls: &[ToolCall]) -> State {
        let wished = u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let total = self.tool_calls.saturating_add(wished);
        if total > step.max_tool_calls {
            let message = format!(
                "the model asked for {total} tool calls and `max_tool_calls` is {}: raise it or tell the agent to be brief",
                step.max_tool_calls
            );
            return fails("max_tool_calls_exceeded", message);
        }
        self.turns = self.turns.saturating_add(1);
        if self.turns >= step.max_turns {
            let message = format!(
                "after {} turns the model still asked for tools, and `max_turns` is {}: raise it or tell the agent when to stop",
                self.turns, step.max_turns
            );
            return fails("max_turns_exceeded", message);
        }
        let first = i32::try_from(self.tool_calls).unwrap_or(i32::MAX);
        let wish = |(number, call): (i32, &ToolCall)| ToolWish { number, call: call.clone() };
        let wishes = (first.saturating_add(1)..).zip(calls).map(wish).collect();
        self.tool_calls = total;
        State::CallTools { wishes }
    }

    fn call_again(&mut self) {
        self.calls = self.calls.saturating_add(1);
        self.state = State::CallModel;
    }
}

/// A failure that the last answer is to blame for. No other attempt over the same answers would do better.
fn fails(code: &str, message: String) -> State {
    State::Failed { error: StepError::new(ErrorClass::Permanent, code, message), rejects: true }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("messages", &self.messages.len())
            .field("calls", &self.calls)
            .field("turns", &self.turns)
            .field("repairs", &self.repairs)
            .field("tool_calls", &self.tool_calls)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ToolResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.number, self.content.len())
    }
}
