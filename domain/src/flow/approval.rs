//! A person decides: what they are shown, what their answer does, what happens when none comes.
//!
//! What is shown is rendered once, when the decision is asked for, so that what was approved is what was read. The
//! decision, the task, its dependents and the events are one transaction. A decision that was made never changes.

use serde_json::{Value, json};

use crate::id::{RunId, TaskId};
use crate::limits::MAX_SHOWN_BYTES;
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Decision, Task, Verdict};
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::{Action, Approval, Definition, Node, OnExpire, OnReject, Wait, condition};

use super::advance::{fail, park};
use super::begin::{go_on, view};
use super::deadline::has_passed;
use super::settle::check_dependents;
use super::wake::finish_wait;
use super::{Refusal, Turn, node_of};

/// What somebody says to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The task that waits for it.
    pub task_id: TaskId,
    /// Yes or no.
    pub is_approved: bool,
    /// Who says so: the id of an API key.
    pub by: String,
    /// Why, for people and for the nodes that follow.
    pub comment: Option<String>,
}

/// What an answer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The decision as it stands.
    pub decision: Decision,
    /// Whether the same had been decided before; nothing was changed.
    pub repeated: bool,
    /// The run, when its other tasks must be ended now.
    pub ending: Option<RunId>,
}

/// Why an answer is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalRefusal {
    /// The task does not wait for a decision, or its run is over or being ended.
    #[error("nobody is asked to decide this: it is {0}")]
    NotOpen(&'static str),
    /// It was decided the other way before.
    #[error("this was {} before and can't be decided again", .0.as_str())]
    DecidedOtherwise(Verdict),
    /// The time to decide is over.
    #[error("the time to decide this is over")]
    Expired,
    /// Something else.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Asks for a decision: renders what is shown and parks the task until somebody decides or the time is over.
pub(super) fn ask(
    turn: &mut Turn<'_>,
    definition: &Definition,
    node: &Node,
    task: &Task,
    approval: &Approval,
) -> Result<(), Refusal> {
    let view = view(turn, definition, node, task);
    let view = view.ok_or_else(|| Refusal::Unloaded(format!("what lets task {} begin", task.id)))?;
    let shown = match condition::render(&approval.show, &view) {
        Ok(text) => cut(text),
        Err(error) => {
            let message = format!("what is to be shown can't be told: {error}");
            return fail(turn, task.id, StepError::new(ErrorClass::Permanent, "show_failed", message));
        }
    };
    let bytes = shown.len();
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.shown = Some(shown);
    }
    park(turn, task.id, WaitCause::Approval, Some(approval.expires_ms), "waits until somebody approves or rejects it");
    let data = json!({"expires_at_ms": turn.now.plus_ms(approval.expires_ms), "bytes": bytes});
    turn.emit(task.mission_id, "approval.requested", Some(task.id), data);
    Ok(())
}

/// The text, or as much of it as people are shown.
fn cut(text: String) -> String {
    // no store can keep a NUL, and nobody can read one
    let mut text = text.replace('\0', "\u{fffd}");
    if text.len() <= MAX_SHOWN_BYTES {
        return text;
    }
    let most = MAX_SHOWN_BYTES.saturating_sub(64);
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let left_out = text.len().saturating_sub(end);
    text.truncate(end);
    format!("{text}\n… ({left_out} more bytes are not shown)")
}

/// Somebody decides. The same decision again changes nothing and is told as it was made.
pub fn decide(turn: &mut Turn<'_>, answer: &Answer) -> Result<Decided, ApprovalRefusal> {
    let task = turn.task(answer.task_id)?.clone();
    let verdict = if answer.is_approved { Verdict::Approved } else { Verdict::Rejected };
    if let Some(made) = task.decision {
        return match made.decision {
            Verdict::Expired => Err(ApprovalRefusal::Expired),
            before if before == verdict => Ok(Decided { decision: made, repeated: true, ending: None }),
            before => Err(ApprovalRefusal::DecidedOtherwise(before)),
        };
    }
    if (task.state, task.wait) != (TaskState::Waiting, Some(WaitCause::Approval)) {
        return Err(ApprovalRefusal::NotOpen(task.state.as_str()));
    }
    let run_state = turn.run(task.run_id)?.state;
    if !run_state.is_open() {
        return Err(ApprovalRefusal::NotOpen(run_state.as_str()));
    }
    // exact, whatever the sweep's lag: it finds the task and says what follows
    if task.due_at.is_some_and(|due| due <= turn.now) || has_passed(&task, turn.now) {
        return Err(ApprovalRefusal::Expired);
    }
    check_dependents(turn, &task)?;
    let approval = approval_of(turn, &task)?;
    let decision =
        Decision { decision: verdict, by: Some(answer.by.clone()), comment: answer.comment.clone(), at: turn.now };
    note(turn, &task, decision.clone());
    let data = json!({"decision": verdict, "by": answer.by, "comment": answer.comment});
    turn.emit(task.mission_id, "approval.decided", Some(task.id), data);
    if answer.is_approved {
        finish_wait(turn, task.id, output_of(&decision, verdict))?;
    } else {
        let said = answer.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
        let error = StepError::new(ErrorClass::Permanent, "approval_rejected", format!("it was rejected{said}"));
        reject(turn, task.id, &approval, error, &decision)?;
    }
    let is_ending = turn.run(task.run_id)?.state == RunState::Failing;
    Ok(Decided { decision, repeated: false, ending: is_ending.then_some(task.run_id) })
}

/// Nobody decided in time. Returns the tasks that are ready now.
pub(super) fn expire(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    check_dependents(turn, &task)?;
    let approval = approval_of(turn, &task)?;
    let decision = Decision { decision: Verdict::Expired, by: None, comment: None, at: turn.now };
    note(turn, &task, decision.clone());
    let counts_as = match approval.on_expire {
        OnExpire::Reject => "rejected",
        OnExpire::Approve => "approved",
        OnExpire::Fail => "failed",
    };
    turn.emit(task.mission_id, "approval.expired", Some(id), json!({"counts_as": counts_as}));
    let message = format!("nobody decided within {} ms", approval.expires_ms);
    let error = StepError::new(ErrorClass::Permanent, "approval_expired", message);
    match approval.on_expire {
        OnExpire::Approve => finish_wait(turn, id, output_of(&decision, Verdict::Approved)),
        OnExpire::Reject => reject(turn, id, &approval, error, &decision),
        OnExpire::Fail => {
            fail(turn, id, error)?;
            go_on(turn, id)
        }
    }
}

fn reject(
    turn: &mut Turn<'_>,
    id: TaskId,
    approval: &Approval,
    error: StepError,
    decision: &Decision,
) -> Result<Vec<TaskId>, Refusal> {
    match approval.on_reject {
        OnReject::Fail => {
            fail(turn, id, error)?;
            go_on(turn, id)
        }
        OnReject::Continue => finish_wait(turn, id, output_of(decision, decision.decision)),
    }
}

/// What the node hands on: how it counts, and who said so, which nobody did where the time was over.
fn output_of(decision: &Decision, counts_as: Verdict) -> Value {
    let at = decision.at.to_rfc3339();
    json!({"decision": counts_as, "by": decision.by, "comment": decision.comment, "at": at})
}

fn note(turn: &mut Turn<'_>, task: &Task, decision: Decision) {
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.decision = Some(decision);
    }
}

fn approval_of(turn: &Turn<'_>, task: &Task) -> Result<Approval, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    match &node_of(&definition, task)?.action {
        Action::Wait(Wait::Approval(approval)) => Ok(approval.clone()),
        _ => Err(Refusal::Unloaded(format!("the approval of task {}", task.id))),
    }
}
