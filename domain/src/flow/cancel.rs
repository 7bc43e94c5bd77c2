//! A run is ended before its time: by a user's cancel, or because a task failed.
//!
//! The run changes state at once; its tasks end in chunks (`wind_down`), so that no transaction grows with the run.

use serde_json::json;

use crate::credits::Ucr;
use crate::id::{MissionId, RunId, TaskId};
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::state::{RunState, TaskState};
use crate::workflow::OnError;

use super::advance::{count_done, fail, release_hold, skip};
use super::budget::leave_line;
use super::recover::lease_ran_out;
use super::settle::{charge_journal, end_with_run};
use super::{Refusal, Turn, node_of};

/// The code of tasks that were skipped because their run ended.
pub(super) const RUN_ENDED: &str = "run_ended";

/// A user cancels a mission. Cancelling twice is the same as once; a mission that is over refuses.
pub fn cancel(turn: &mut Turn<'_>, mission: MissionId, reason: Option<&str>) -> Result<RunId, Refusal> {
    let run_id = turn.mission(mission)?.run_id;
    let state = turn.run(run_id)?.state;
    if matches!(state, RunState::Cancelling | RunState::Cancelled) {
        return Ok(run_id);
    }
    if !state.may_become(RunState::Cancelling) {
        return Err(Refusal::IllegalMove { what: "mission", state: state.as_str(), wish: "cancelled" });
    }
    let why = reason.unwrap_or("cancelled by a user").to_owned();
    if let Some(run) = turn.set.runs.change(run_id) {
        run.state = RunState::Cancelling;
        run.status_reason = Some(why.clone());
    }
    turn.emit(mission, "mission.cancelling", None, json!({"reason": why}));
    Ok(run_id)
}

/// What a cancel would do at once, and what it leaves to the steps that it stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelPreview {
    /// The nodes whose tasks end at once, in the order of the workflow.
    pub ends: Vec<String>,
    /// The nodes whose running steps are stopped and settle what they used.
    pub stops: Vec<String>,
    /// What is charged at once, for what was answered before.
    pub charged: Ucr,
    /// What is released at once.
    pub released: Ucr,
    /// What stays held until the stopped steps have settled.
    pub held: Ucr,
}

/// What a cancel would do. All tasks of the latest run that are not over must be loaded. Changes nothing.
pub fn preview_cancel(turn: &mut Turn<'_>, mission: MissionId) -> Result<CancelPreview, Refusal> {
    let mut copy = turn.set.clone();
    let mut trial = Turn { set: &mut copy, facts: turn.facts, now: turn.now, chance: &mut *turn.chance };
    let before = trial.mission(mission)?.clone();
    let mut tasks: Vec<(i32, TaskId)> = trial
        .set
        .tasks
        .iter()
        .filter(|task| task.run_id == before.run_id)
        .map(|task| (task.node_index, task.id))
        .collect();
    tasks.sort_unstable();
    let tasks: Vec<TaskId> = tasks.into_iter().map(|(_, id)| id).collect();
    let open = |turn: &Turn<'_>, id: &TaskId| turn.set.tasks.get(*id).is_some_and(|task| !task.state.is_final());
    let live: Vec<TaskId> = tasks.into_iter().filter(|id| open(&trial, id)).collect();
    let run = cancel(&mut trial, mission, None)?;
    // what stands for many ends after them
    while wind_down(&mut trial, run, &live)? > 0 {}
    let after = trial.mission(mission)?;
    let charged = after.spent_ucr.minus_or_zero(before.spent_ucr);
    let closed = before.held_ucr.minus_or_zero(after.held_ucr);
    let names = |stops: bool| -> Vec<String> {
        let of = live.iter().filter(|id| open(&trial, id) == stops);
        of.filter_map(|id| trial.set.tasks.get(*id)).map(|task| task.node.clone()).collect()
    };
    Ok(CancelPreview {
        ends: names(false),
        stops: names(true),
        charged,
        released: closed.minus_or_zero(charged),
        held: after.held_ucr,
    })
}

/// Ends the given tasks of a run that is failing or being cancelled. A task that a live worker holds is left to
/// the worker, which is told to stop and settles it, or to the end of its lease. Returns how many it ended.
pub fn wind_down(turn: &mut Turn<'_>, run: RunId, tasks: &[TaskId]) -> Result<usize, Refusal> {
    let state = turn.run(run)?.state;
    if !matches!(state, RunState::Failing | RunState::Cancelling) {
        return Ok(0);
    }
    let mut ended: usize = 0;
    for id in tasks {
        let task = turn.task(*id)?.clone();
        match task.state {
            // its own tasks end first
            TaskState::Waiting if task.fan.as_ref().is_some_and(|fan| !fan.is_over()) => continue,
            TaskState::Pending => skip_with_run(turn, *id)?,
            TaskState::Ready | TaskState::Retrying | TaskState::Waiting => {
                match task.fan.as_ref().and_then(|fan| fan.error.clone()) {
                    Some(error) if fails_others(turn, &task)? => fail(turn, *id, error)?,
                    _ => end_idle(turn, *id, state)?,
                }
            }
            TaskState::Running if lease_ran_out(&task, turn.now) => end_with_run(turn, &task, state, &[])?,
            _ => continue,
        }
        ended = ended.saturating_add(1);
    }
    Ok(ended)
}

/// Whether others fail with the task. One that they could do without did not fail before the run ended: it is cancelled
/// with it, so that a retry begins it anew.
fn fails_others(turn: &Turn<'_>, task: &Task) -> Result<bool, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    Ok(task.layer > 0 || node_of(&definition, task)?.on_error == OnError::Fail)
}

/// A task that never began, for its run ended. That is no decision about the task: a retry of the run renews it.
fn skip_with_run(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let reason = "skipped: its run ended before it could start";
    if let Some(task) = turn.set.tasks.change(id) {
        task.error = Some(StepError::new(ErrorClass::Cancelled, RUN_ENDED, "its run ended before it could start"));
    }
    skip(turn, id, reason, None)
}

/// Ends a task that nobody works on. Nothing is in flight; a user who cancels pays for what was answered before.
pub(super) fn end_idle(turn: &mut Turn<'_>, id: TaskId, run_state: RunState) -> Result<(), Refusal> {
    let idle = turn.task(id)?.clone();
    let by_user = run_state == RunState::Cancelling;
    let (charged, usage) =
        if by_user { charge_journal(turn, &idle, Ucr::ZERO, idle.usage)? } else { (Ucr::ZERO, idle.usage) };
    if charged.is_zero() {
        release_hold(turn, id)?;
    }
    let wallet = turn.mission(idle.mission_id)?.wallet_id;
    leave_line(turn, wallet, &idle);
    let now = turn.now;
    let Some(task) = turn.set.tasks.change(id) else { return Ok(()) };
    task.state = TaskState::Cancelled;
    task.wait = None;
    task.due_at = None;
    task.ended_at = Some(now);
    task.hold_id = None;
    task.cost_ucr = task.cost_ucr.saturating_add(charged);
    task.usage = usage;
    let reason = match run_state {
        RunState::Cancelling => "cancelled by a user",
        RunState::Failing => "cancelled: its run failed",
        _ => "cancelled: another item failed",
    };
    task.status_reason = Some(reason.to_owned());
    let mission = task.mission_id;
    turn.emit(mission, "task.cancelled", Some(id), json!({"credits": charged.to_string(), "usage": usage}));
    count_done(turn, id)
}
