//! What a settle teaches: how far counts and holds were from what was reported and charged.
//!
//! Looked at before and after the decision, over the same rows; changes nothing, so that learning can never be a
//! reason why money moves. What an attempt replays taught when it was bought.

use crate::credits::Ucr;
use crate::estimate::NodeKey;
use crate::id::CallId;
use crate::outcome::{FinishedCall, Outcome};
use crate::record::{CallState, UsageCall};
use crate::state::TaskState;
use crate::usage::Usage;
use crate::workflow::Action;

use super::estimate::{is_planned, size_of};
use super::settle::{CacheUse, SettleRequest};
use super::{Turn, node_of};

/// What one settle taught. Empty where nothing new ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lesson {
    /// Calls that ended with a report.
    pub calls: Vec<CallLesson>,
    /// The task's node, when it succeeded and can make calls.
    pub node: Option<NodeLesson>,
    /// Calls that were answered completely and whose report was missing or not believed.
    pub doubts: Vec<Doubt>,
}

/// Counted and reported input of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallLesson {
    /// Who answered.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// Input tokens that the worker counted, learned factor left out.
    pub counted_tokens: u64,
    /// Input tokens that the provider reported.
    pub reported_tokens: u64,
}

/// What one execution of a node cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLesson {
    /// The node.
    pub key: NodeKey,
    /// The model that its step names.
    pub model: String,
    /// What its billed calls cost.
    pub calls_ucr: Ucr,
    /// What it cost altogether, units included.
    pub charged_ucr: Ucr,
    /// What its hold was made with; where that grew meanwhile, what it would be made with now.
    pub estimated_ucr: Ucr,
}

/// A complete answer without a usage report that could be billed: it was settled at the estimate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The call.
    pub call_id: CallId,
    /// Who answered.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// What was reported, where anything was.
    pub reported: Option<Usage>,
    /// What was billed instead.
    pub billed: Usage,
}

/// Calls that a decision is about to end, to be compared with what is there after it.
#[derive(Debug)]
pub struct OpenCalls<'r>(Vec<&'r FinishedCall>);

impl<'r> OpenCalls<'r> {
    /// Those of the calls that are open now.
    pub fn before(turn: &Turn<'_>, calls: &'r [FinishedCall]) -> Self {
        let is_open =
            |call: &&FinishedCall| turn.set.calls.get(call.id).is_some_and(|row| row.state == CallState::Sent);
        Self(calls.iter().filter(is_open).collect())
    }

    /// What came of them.
    pub fn after(&self, turn: &Turn<'_>) -> Lesson {
        let mut lesson = Lesson::default();
        for finished in &self.0 {
            let Some(row) = turn.set.calls.get(finished.id).filter(|row| row.state != CallState::Sent) else {
                continue;
            };
            let Some(usage) = row.usage else { continue };
            if !row.estimated {
                lesson.calls.push(CallLesson {
                    provider: row.provider.clone(),
                    model: row.model.clone(),
                    counted_tokens: u64::try_from(row.estimated_input_tokens).unwrap_or(0),
                    reported_tokens: usage.input_tokens,
                });
            } else if finished.succeeded || finished.usage.is_some() {
                lesson.doubts.push(Doubt {
                    call_id: row.id,
                    provider: row.provider.clone(),
                    model: row.model.clone(),
                    reported: finished.usage,
                    billed: usage,
                });
            }
        }
        lesson
    }
}

/// What is looked at before a settle, to be compared with what is there after it.
#[derive(Debug)]
pub struct Observed<'r> {
    request: &'r SettleRequest,
    /// The calls that this settle ends.
    open: OpenCalls<'r>,
    estimated: Option<Ucr>,
}

impl<'r> Observed<'r> {
    /// Looks at the task and its calls.
    pub fn before(turn: &Turn<'_>, request: &'r SettleRequest) -> Self {
        let calls: &[FinishedCall] = match &request.outcome {
            Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } => calls,
            Outcome::HandedBack => &[],
        };
        let task = turn.set.tasks.get(request.guard.task_id).filter(|task| task.state == TaskState::Running);
        let estimated = task.and_then(|task| {
            let hold = turn.set.holds.get(task.hold_id?)?;
            if hold.resizes == 0 { Some(hold.amount_ucr) } else { size_of(turn, task, false).ok() }
        });
        Self { request, open: OpenCalls::before(turn, calls), estimated }
    }

    /// What came of it.
    pub fn after(&self, turn: &Turn<'_>) -> Lesson {
        Lesson { node: self.node(turn), ..self.open.after(turn) }
    }

    fn node(&self, turn: &Turn<'_>) -> Option<NodeLesson> {
        // an output that was used again says nothing about what making it costs
        if self.request.cache == Some(CacheUse::Hit) {
            return None;
        }
        let estimated_ucr = self.estimated?;
        let task = turn.set.tasks.get(self.request.guard.task_id).filter(|task| task.state == TaskState::Succeeded)?;
        let definition = turn.definition(task.workflow_id).ok()?;
        // the steps of a plan are never the same again
        if is_planned(turn, task) {
            return None;
        }
        let Action::Agent(step) = &node_of(&definition, task).ok()?.action else { return None };
        let calls_ucr: Ucr = billed(turn, &self.request.outcome).map(|call| call.cost_ucr).sum();
        Some(NodeLesson {
            key: NodeKey {
                tenant_id: task.tenant_id,
                price_book_id: turn.run(task.run_id).ok()?.price_book_id,
                workflow: definition.name.clone(),
                node: task.node.clone(),
            },
            model: step.model.clone(),
            calls_ucr,
            charged_ucr: calls_ucr.saturating_add(task.units_ucr),
            estimated_ucr,
        })
    }
}

/// The calls that an outcome bills, each once.
fn billed<'t>(turn: &'t Turn<'_>, outcome: &'t Outcome) -> impl Iterator<Item = &'t UsageCall> {
    let calls: &[FinishedCall] = match outcome {
        Outcome::Succeeded { calls, .. } => calls,
        Outcome::Failed { .. } | Outcome::HandedBack => &[],
    };
    let is_first = |(at, call): &(usize, &FinishedCall)| !calls.iter().take(*at).any(|known| known.id == call.id);
    let distinct = calls.iter().enumerate().filter(move |item| is_first(item));
    distinct.filter_map(|(_, call)| turn.set.calls.get(call.id)).filter(|row| row.billable)
}
