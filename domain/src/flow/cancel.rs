//! A run is ended before its time: by a user's cancel, or because a task failed.
//!
//! The run changes state at once; its tasks end in chunks (`wind_down`), so that no transaction grows with the run.

use serde_json::json;

use crate::credits::Ucr;
use crate::id::{MissionId, RunId, TaskId};
use crate::state::{RunState, TaskState};

use super::advance::{count_done, fail, release_hold, skip};
use super::budget::leave_line;
use super::recover::lease_ran_out;
use super::settle::{charge_journal, end_with_run};
use super::{Refusal, Turn};

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
            TaskState::Pending => skip(turn, *id, "skipped: its run ended before it could start", None)?,
            TaskState::Ready | TaskState::Retrying | TaskState::Waiting => match task.fan.and_then(|fan| fan.error) {
                Some(error) => fail(turn, *id, error)?,
                None => end_idle(turn, *id, state)?,
            },
            TaskState::Running if lease_ran_out(&task, turn.now) => end_with_run(turn, &task, state, &[])?,
            _ => continue,
        }
        ended = ended.saturating_add(1);
    }
    Ok(ended)
}

/// Ends a task that nobody works on. Nothing is in flight; a user who cancels pays for what was answered before.
pub(super) fn end_idle(turn: &mut Turn<'_>, id: TaskId, run_state: RunState) -> Result<(), Refusal> {
    let idle = turn.task(id)?.clone();
    let by_user = run_state == RunState::Cancelling;
    let (charged, usage) = if by_user { charge_journal(turn, &idle, Ucr::ZERO, None)? } else { (Ucr::ZERO, None) };
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
    task.cost_ucr = charged;
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
