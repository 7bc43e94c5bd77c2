//! What follows when a task ends: dependents count down and become ready, the run finishes.

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::fingerprint::fingerprint;
use crate::id::{MissionId, RunId, TaskId};
use crate::ledger::{self, Charge, HoldRequest, Subject};
use crate::outcome::{ErrorClass, StepError};
use crate::record::{HoldOwner, Run, Task};
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::{Action, Definition, Node, OnError, OnExhausted, Wait};

use super::budget::{check_budgets, leave_line, may_pass, must_queue, never_fits, note_spending, on_exhausted};
use super::estimate::size_of;
use super::pause::park_paused;
use super::reserve::journaled_ucr;
use super::settle::charge_failure;
use super::{
    Refusal, Turn, approval, concurrency, deadline, fallback, family, message, node_of, signal, subject, timer,
};

/// Makes a task ready, with its hold in the same breath; parks it when the credits do not suffice, or while its run is
/// paused. One whose time is over fails instead.
pub(super) fn make_ready(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    if deadline::has_passed(&task, turn.now) {
        let error = deadline::exceeded(turn, &task)?;
        return fail(turn, id, error);
    }
    if turn.run(task.run_id)?.state == RunState::Paused {
        return park_paused(turn, id);
    }
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, &task)?;
    if let Some(limit) = node.concurrency.as_ref().filter(|_| task.concurrency_key.is_none()) {
        let key = match concurrency::key_of(turn, &definition, node, &task, limit)? {
            Ok(key) => key,
            Err(error) => return fail(turn, id, error),
        };
        if let Some(row) = turn.set.tasks.change(id) {
            row.concurrency_key = Some(key);
            row.concurrency_max = i32::try_from(limit.max).ok();
        }
    }
    if task.priced {
        let wallet = turn.mission(task.mission_id)?.wallet_id;
        let missing = missing_hold(turn, &task, task.wait == Some(WaitCause::Credits))?;
        if missing.is_positive() && must_queue(turn, wallet, &task) {
            return wait_for_credits(turn, id, "in line behind older tasks of this wallet that wait for credits");
        }
        match hold_more(turn, id, missing) {
            Ok(()) => leave_line(turn, wallet, &task),
            Err(refusal) if may_pass(&refusal) => return wait_for_credits(turn, id, &refusal.to_string()),
            Err(other) => return Err(other),
        }
    }
    if let Action::Wait(wait) = &node.action {
        return begin_wait(turn, &definition, node, &task, wait);
    }
    let (now, heard) = (turn.now, turn.mission(task.mission_id)?.last_message);
    if let Some(task) = turn.set.tasks.change(id) {
        task.heard = task.heard.or(Some(heard));
        task.state = TaskState::Ready;
        task.wait = None;
        task.due_at = None;
        task.ready_at = Some(now);
        task.held_since = None;
        task.status_reason = Some(format!("ready, waiting for a worker of pool `{}`", task.pool));
    }
    Ok(())
}

/// Parks a task of a node that waits for something outside of all workers.
fn begin_wait(
    turn: &mut Turn<'_>,
    definition: &Definition,
    node: &Node,
    task: &Task,
    wait: &Wait,
) -> Result<(), Refusal> {
    let time = match wait {
        Wait::Sleep { duration_ms } => Ok((*duration_ms, "sleeps until its time is over".to_owned())),
        Wait::Until { at } => timer::time_of(turn, definition, node, task, at)?,
        Wait::Approval(wanted) => return approval::ask(turn, definition, node, task, wanted),
        Wait::Signal(wanted) => return signal::wait_for(turn, task, wanted),
    };
    match time {
        Ok((for_ms, reason)) => {
            park(turn, task.id, WaitCause::Timer, Some(for_ms), &reason);
            Ok(())
        }
        Err(error) => fail(turn, task.id, error),
    }
}

/// What a task lacks to the hold that its next attempt is expected to need. One that waits because a call did not
/// fit needs room for another call on top of what its journaled calls used.
pub(super) fn missing_hold(turn: &Turn<'_>, task: &Task, lacked_credits: bool) -> Result<Ucr, Refusal> {
    let size = size_of(turn, task, lacked_credits)?;
    let hold = task.hold_id.and_then(|hold| turn.set.holds.get(hold));
    let (held, used) = match hold {
        Some(hold) => (hold.amount_ucr, hold.used_ucr),
        // journaled before its run was retried
        None => (Ucr::ZERO, journaled_ucr(turn, task.id)),
    };
    let wanted = if lacked_credits || hold.is_none() { size.saturating_add(used) } else { size };
    Ok(wanted.minus_or_zero(held))
}

/// Parks a task until it can hold what it needs, with its hold cut down to what its journaled calls used. It fails
/// instead when that can never be, or when a budget is what it lacks and says so.
pub(super) fn wait_for_credits(turn: &mut Turn<'_>, id: TaskId, reason: &str) -> Result<(), Refusal> {
    cut_hold(turn, id)?;
    let task = turn.task(id)?;
    let missing = missing_hold(turn, task, true)?;
    match in_vain(turn, task, missing)? {
        Some(error) => fail(turn, id, error)?,
        None => park(turn, id, WaitCause::Credits, None, reason),
    }
    Ok(())
}

/// Why a task should not wait for `missing` more credits: it can never hold them, or a budget that says `fail` is
/// what it lacks.
pub(super) fn in_vain(turn: &Turn<'_>, task: &Task, missing: Ucr) -> Result<Option<StepError>, Refusal> {
    let held = task.hold_id.and_then(|hold| turn.set.holds.get(hold)).map(|hold| hold.amount_ucr);
    if let Some(reason) = never_fits(turn, task, held.unwrap_or_default().saturating_add(missing))? {
        return Ok(Some(StepError::new(ErrorClass::Budget, "hold_never_fits", reason)));
    }
    match check_budgets(turn, task, missing) {
        Err(refusal) if on_exhausted(turn, task, &refusal)? == OnExhausted::Fail => {
            Ok(Some(StepError::new(ErrorClass::Budget, "budget_exhausted", refusal.to_string())))
        }
        _ => Ok(None),
    }
}

/// Gives back what a task's hold has beyond what its journaled calls used.
pub(super) fn cut_hold(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let Some(hold) = task.hold_id else { return Ok(()) };
    let used = turn.set.holds.get(hold).map(|hold| hold.used_ucr).unwrap_or_default();
    if !used.is_positive() {
        return release_hold(turn, id);
    }
    let op_id = turn.id();
    let back = ledger::shrink(turn.set, hold, op_id, used, subject(&task), turn.now)?;
    count_held(turn, &task, Ucr::ZERO, back);
    Ok(())
}

/// Holds so many more credits for a task, within the mission's budget: makes its hold or tops it up.
pub(super) fn hold_more(turn: &mut Turn<'_>, id: TaskId, amount: Ucr) -> Result<(), Refusal> {
    if !amount.is_positive() {
        return Ok(());
    }
    let task = turn.task(id)?.clone();
    let wallet_id = turn.mission(task.mission_id)?.wallet_id;
    check_budgets(turn, &task, amount)?;
    if let Some(hold) = task.hold_id {
        let op_id = turn.id();
        ledger::top_up(turn.set, hold, op_id, amount, subject(&task), turn.now)?;
        count_held(turn, &task, amount, Ucr::ZERO);
        return Ok(());
    }
    let request = HoldRequest {
        id: turn.id(),
        op_id: turn.id(),
        wallet_id,
        owner_kind: HoldOwner::Task,
        owner_id: id.to_string(),
        number: task.holds.saturating_add(1),
        amount,
        subject: subject(&task),
        expires_at: None,
    };
    let hold = ledger::hold(turn.set, &request, turn.now)?;
    let used = journaled_ucr(turn, id);
    if let Some(hold) = turn.set.holds.change(hold) {
        hold.used_ucr = used;
    }
    if let Some(task) = turn.set.tasks.change(id) {
        task.hold_id = Some(hold);
        task.holds = request.number;
    }
    count_held(turn, &task, amount, Ucr::ZERO);
    Ok(())
}

/// Moves the counters of held credits: the mission's, and those of the task's ancestors that have a budget.
pub(super) fn count_held(turn: &mut Turn<'_>, task: &Task, more: Ucr, less: Ucr) {
    count_held_of_mission(turn, task.mission_id, more, less);
    family::count_held(turn, task, more, less);
}

pub(super) fn count_held_of_mission(turn: &mut Turn<'_>, mission: MissionId, more: Ucr, less: Ucr) {
    if let Some(mission) = turn.set.missions.change(mission) {
        mission.held_ucr = mission.held_ucr.saturating_add(more).minus_or_zero(less);
    }
}

/// Parks a task for a named cause; it holds no slot. `for_ms` is how long, where that is known.
pub(super) fn park(turn: &mut Turn<'_>, id: TaskId, cause: WaitCause, for_ms: Option<i64>, reason: &str) {
    let now = turn.now;
    let Some(task) = turn.set.tasks.change(id) else { return };
    task.state = TaskState::Waiting;
    task.wait = Some(cause);
    task.due_at = for_ms.map(|ms| now.plus_ms(ms));
    task.status_reason = Some(reason.to_owned());
    // waiters are served oldest first: a task keeps the time when it first wanted to run
    task.ready_at = task.ready_at.or(Some(now));
    let mission = task.mission_id;
    let data = json!({"cause": cause, "reason": reason, "until_ms": task.due_at});
    turn.emit(mission, "task.waiting", Some(id), data);
}

/// A task that never runs. What it hands on is null when its run goes on without it, and nothing when its run ends.
pub(super) fn skip(turn: &mut Turn<'_>, id: TaskId, reason: &str, output: Option<Value>) -> Result<(), Refusal> {
    let now = turn.now;
    let Some(task) = turn.set.tasks.change(id) else { return Ok(()) };
    task.state = TaskState::Skipped;
    task.wait = None;
    task.due_at = None;
    task.ended_at = Some(now);
    task.output = output;
    task.status_reason = Some(reason.to_owned());
    let mission = task.mission_id;
    turn.emit(mission, "task.skipped", Some(id), json!({"reason": reason}));
    count_done(turn, id)
}

/// Counts a task that reached a final state; the last one ends the run.
pub(super) fn count_done(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    family::count_done(turn, id)?;
    let task = turn.task(id)?;
    let (mission, run) = (task.mission_id, task.run_id);
    let over = match turn.set.missions.change(mission) {
        Some(mission) => {
            mission.tasks_done = mission.tasks_done.saturating_add(1);
            mission.tasks_done >= mission.tasks_total
        }
        None => return Err(Refusal::NotFound(format!("mission {mission}"))),
    };
    if over { finish_run(turn, run) } else { Ok(()) }
}

/// Ends a run whose tasks are all in a final state: the fee is taken on success and given back otherwise.
fn finish_run(turn: &mut Turn<'_>, id: RunId) -> Result<(), Refusal> {
    let run = turn.run(id)?.clone();
    let state = match run.state {
        RunState::Queued | RunState::Running | RunState::Paused => RunState::Succeeded,
        RunState::Failing if is_overdue(&run) => RunState::Expired,
        RunState::Failing => RunState::Failed,
        RunState::Cancelling => RunState::Cancelled,
        over => return Err(Refusal::IllegalMove { what: "run", state: over.as_str(), wish: "finished" }),
    };
    if let Some(hold) = run.fee_hold_id {
        let op_id = turn.id();
        let subject = Subject { mission_id: Some(run.mission_id), task_id: None };
        if state == RunState::Succeeded {
            let charge = Charge::Fee(run.fee_ucr);
            let settled = ledger::settle(turn.set, hold, op_id, charge, subject, turn.now)?;
            note_spending(turn, run.mission_id, settled)?;
        } else {
            ledger::release(turn.set, hold, op_id, subject, turn.now)?;
        }
        count_held_of_mission(turn, run.mission_id, Ucr::ZERO, run.fee_ucr);
    }
    if state == RunState::Succeeded {
        message::reply(turn, &run)?;
    }
    let now = turn.now;
    if let Some(run) = turn.set.runs.change(id) {
        run.state = state;
        run.ended_at = Some(now);
        if state == RunState::Succeeded {
            run.status_reason = None;
        }
    }
    let spent = turn.mission(run.mission_id)?.spent_ucr;
    let data = json!({
        "run_id": id,
        "credits": spent.to_string(),
        "fee": if state == RunState::Succeeded { run.fee_ucr.to_string() } else { Ucr::ZERO.to_string() },
        "duration_ms": now.since_ms(run.created_at),
        "error": run.error,
    });
    turn.emit(run.mission_id, &format!("mission.{}", state.as_str()), None, data);
    Ok(())
}

/// Whether the run is being ended because its deadline passed.
fn is_overdue(run: &Run) -> bool {
    // a node whose own deadline passed names itself
    let of_run = |error: &&Value| error.get("node").is_none_or(Value::is_null);
    run.error
        .as_ref()
        .filter(of_run)
        .and_then(|error| error.get("code"))
        .is_some_and(|code| code == "deadline_exceeded")
}

/// A task fails for good and its run begins to fail, unless its node says that the run goes on: then whoever calls
/// this lets its dependents go on (see [`super::begin::go_on`]). Its hold is released and nothing is charged, unless the
/// wallet's policy says otherwise.
pub(super) fn fail(turn: &mut Turn<'_>, id: TaskId, error: StepError) -> Result<(), Refusal> {
    charge_failure(turn, id, &error)?;
    release_hold(turn, id)?;
    let now = turn.now;
    let output = output_of_failure(turn, id, &error)?;
    let stand_in = fallback::of(turn, id)?;
    // what becomes of one of many is its parent's to decide
    let goes_on = output.is_some() || stand_in.is_some() || turn.task(id)?.parent_id.is_some();
    if let Some((by, _)) = &stand_in {
        fallback::take_over(turn, id, *by, &error)?;
    }
    let (stand_in_id, stand_in) = stand_in.unzip();
    let helped = stand_in.as_ref().map(|node| format!("; `{node}` stands in for it")).unwrap_or_default();
    let Some(task) = turn.set.tasks.change(id) else {
        return Err(Refusal::NotFound(format!("task {id}")));
    };
    task.state = TaskState::Failed;
    task.output = output;
    task.stand_in_id = stand_in_id;
    task.wait = None;
    task.due_at = None;
    task.lease_until = None;
    task.ended_at = Some(now);
    task.status_reason = Some(format!("{}{helped}", error.message));
    task.error = Some(error.clone());
    let (mission, run, node) = (task.mission_id, task.run_id, task.node.clone());
    let failed = task.clone();
    let wallet = turn.mission(mission)?.wallet_id;
    leave_line(turn, wallet, &failed);
    turn.emit(mission, "task.failed", Some(id), json!({"error": error, "run_goes_on": goes_on, "stand_in": stand_in}));
    if !goes_on {
        fail_run(turn, run, &node, &error)?;
    }
    count_done(turn, id)
}

/// A run begins to fail because of a node; one that is being ended stays as it is.
pub(super) fn fail_run(turn: &mut Turn<'_>, id: RunId, node: &str, error: &StepError) -> Result<(), Refusal> {
    if !turn.run(id)?.state.is_open() {
        return Ok(());
    }
    let workflow = turn.definition(turn.run(id)?.workflow_id)?;
    let about = json!({"node": node, "class": error.class, "code": error.code, "message": error.message});
    if let Some(run) = turn.set.runs.change(id) {
        run.fingerprint = Some(fingerprint(&workflow.name, node, &error.code, &error.message));
        run.state = RunState::Failing;
        run.status_reason = Some(format!("node `{node}` failed: {}", error.message));
        run.error = Some(about);
    }
    Ok(())
}

/// What a task hands on that fails, where its run goes on without it.
fn output_of_failure(turn: &Turn<'_>, id: TaskId, error: &StepError) -> Result<Option<Value>, Refusal> {
    let task = turn.task(id)?;
    if !turn.run(task.run_id)?.state.is_open() {
        return Ok(None);
    }
    let definition = turn.definition(task.workflow_id)?;
    let on_error = match family::on_item_error(turn, task)? {
        Some(on_error) => on_error,
        None => node_of(&definition, task)?.on_error,
    };
    Ok(match on_error {
        // what a stand-in hands on is its own
        OnError::Fail | OnError::Fallback => None,
        OnError::Skip => Some(Value::Null),
        OnError::Continue => Some(error.as_output()),
    })
}

/// Gives all of a task's hold back.
pub(super) fn release_hold(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let Some(hold) = task.hold_id else { return Ok(()) };
    let op_id = turn.id();
    let returned = ledger::release(turn.set, hold, op_id, subject(&task), turn.now)?;
    if let Some(task) = turn.set.tasks.change(id) {
        task.hold_id = None;
    }
    count_held(turn, &task, Ucr::ZERO, returned);
    Ok(())
}
