//! Waiting comes to an end: timers, retries and rate limits are due, credits arrived, a deadline passed.

use serde_json::{Value, json};

use crate::fingerprint::fingerprint;
use crate::id::{RunId, TaskId};
use crate::ledger;
use crate::outcome::ErrorClass;
use crate::record::{Hold, HoldState};
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::Action;

use super::advance::{count_done, fail, in_vain, make_ready, missing_hold};
use super::begin::{begin_all, go_on, release_dependents};
use super::budget::{has_room_for, keep_place};
use super::pause::come_due_while_paused;
use super::settle::{charge, check_dependents};
use super::{Refusal, Turn, approval, deadline, family, node_of, signal};

/// Wakes a task whose wait is over: a node that waits for it succeeds, everything else tries to become ready.
/// Returns the tasks that are ready now. A task that is not due, or whose run is not live, stays as it is.
pub fn wake_task(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    let due = task.due_at.is_none_or(|due| due <= turn.now);
    let run_state = turn.run(task.run_id)?.state;
    if !due || !run_state.is_open() {
        return Ok(Vec::new());
    }
    if task.fan.is_none() && deadline::has_passed(&task, turn.now) {
        return deadline::expire_task(turn, id);
    }
    let definition = turn.definition(task.workflow_id)?;
    let sleeps = matches!(node_of(&definition, &task)?.action, Action::Wait(_));
    match (task.state, task.wait) {
        (TaskState::Waiting, Some(WaitCause::Timer)) if sleeps => finish_wait(turn, id, Value::Null),
        (TaskState::Waiting, Some(WaitCause::Approval)) => approval::expire(turn, id),
        (TaskState::Waiting, Some(WaitCause::Children)) if task.due_at.is_none() => Ok(Vec::new()),
        // while the run is paused, what follows from it is parked
        (TaskState::Waiting, Some(WaitCause::Children)) => family::decide(turn, id),
        (TaskState::Waiting, Some(WaitCause::Signal)) => signal::expire(turn, id),
        _ if run_state == RunState::Paused => come_due_while_paused(turn, id),
        // what was tried before has passed its condition
        (TaskState::Waiting, Some(WaitCause::Paused)) if task.attempt == 0 => begin_all(turn, &[id]),
        (TaskState::Retrying, _)
        | (TaskState::Waiting, Some(WaitCause::RateLimit | WaitCause::Timer | WaitCause::Paused)) => {
            make_ready(turn, id)?;
            ready_now(turn, id)
        }
        (TaskState::Waiting, Some(WaitCause::Condition)) => begin_all(turn, &[id]),
        (TaskState::Waiting, Some(WaitCause::Credits)) => {
            let missing = missing_hold(turn, &task, true)?;
            if has_room_for(turn, &task, missing)? {
                make_ready(turn, id)?;
            } else if let Some(error) = in_vain(turn, &task, missing)? {
                // limits and policies may have changed since it was parked
                fail(turn, id, error)?;
            } else {
                let wallet = turn.mission(task.mission_id)?.wallet_id;
                keep_place(turn, wallet, &task, missing);
            }
            ready_now(turn, id)
        }
        _ => Ok(Vec::new()),
    }
}

/// The task itself, if it is ready now; or what goes on because it failed.
fn ready_now(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let mut ready = go_on(turn, id)?;
    ready.extend(turn.set.tasks.get(id).filter(|task| task.state == TaskState::Ready).map(|task| task.id));
    Ok(ready)
}

/// A wait came to its good end; `output` is what the node hands on. Returns the tasks that are ready now.
pub(super) fn finish_wait(turn: &mut Turn<'_>, id: TaskId, output: Value) -> Result<Vec<TaskId>, Refusal> {
    check_dependents(turn, turn.task(id)?)?;
    let output_bytes = i64::try_from(output.to_string().len()).unwrap_or(i64::MAX);
    conclude(turn, id, output)?;
    release_dependents(turn, id, output_bytes)
}

/// A node that waits for something outside of all workers is done; its dependents are the caller's business.
pub(super) fn conclude(turn: &mut Turn<'_>, id: TaskId, output: Value) -> Result<(), Refusal> {
    let slept = turn.task(id)?.clone();
    let definition = turn.definition(slept.workflow_id)?;
    let units = turn.prices(slept.run_id)?.units_cost(&node_of(&definition, &slept)?.units)?;
    let cost = charge(turn, &slept, units)?;
    let now = turn.now;
    let Some(task) = turn.set.tasks.change(id) else {
        return Err(Refusal::NotFound(format!("task {id}")));
    };
    task.state = TaskState::Succeeded;
    task.wait = None;
    task.status_reason = None;
    task.ended_at = Some(now);
    task.output = Some(output);
    task.hold_id = None;
    task.cost_ucr = task.cost_ucr.saturating_add(cost);
    task.units_ucr = units;
    let (mission, slept) = (task.mission_id, task.ready_at.map(|since| now.since_ms(since)));
    turn.emit(mission, "task.succeeded", Some(id), json!({"duration_ms": slept, "credits": cost.to_string()}));
    count_done(turn, id)
}

/// Begins to end a run whose deadline passed. Returns whether it did.
pub fn expire_run(turn: &mut Turn<'_>, id: RunId) -> Result<bool, Refusal> {
    let run = turn.run(id)?.clone();
    let passed = run.deadline_at.is_some_and(|deadline| deadline <= turn.now);
    if !passed || !run.state.is_open() {
        return Ok(false);
    }
    let workflow = turn.definition(run.workflow_id)?;
    let (code, deadline_ms) = ("deadline_exceeded", workflow.deadline_ms.unwrap_or_default());
    let message = format!("the run's deadline of {deadline_ms} ms passed");
    if let Some(run) = turn.set.runs.change(id) {
        // no node of its own: the run as a whole was late
        run.fingerprint = Some(fingerprint(&workflow.name, "", code, &message));
        run.state = RunState::Failing;
        run.status_reason = Some(message.clone());
        run.error = Some(json!({"code": code, "class": ErrorClass::Permanent, "message": message}));
    }
    Ok(true)
}

/// Gives back every loaded hold whose own deadline passed: done before each decision, so that the deadline is exact
/// whatever the sweep's lag.
pub fn expire_holds(turn: &mut Turn<'_>) {
    let is_over = |hold: &&Hold| hold.state == HoldState::Open && hold.expires_at.is_some_and(|end| end <= turn.now);
    let overdue: Vec<_> = turn.set.holds.iter().filter(is_over).map(|hold| hold.id).collect();
    for hold in overdue {
        let op_id = turn.id();
        ledger::expire_hold(turn.set, hold, op_id, turn.now);
    }
}
