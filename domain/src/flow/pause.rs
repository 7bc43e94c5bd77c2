//! A run is paused and resumed.
//!
//! While it is paused, running steps go on and settle, timers and deadlines go on, and nothing new begins: whatever
//! could is parked, its hold cut down to what its journaled calls used. A resume lets the parked tasks begin one by one,
//! as the sweep does with everything that is due, so that a crash in between leaves nothing behind.

use serde_json::json;

use crate::id::{MissionId, RunId, TaskId};
use crate::state::{RunState, TaskState, WaitCause};

use super::advance::{cut_hold, park};
use super::{Refusal, Turn};

/// What is said about a task that a pause keeps from beginning.
const PARKED: &str = "its run is paused; it goes on when the mission is resumed";

/// Pauses a mission, with the ready tasks of its run, which must be loaded. Pausing twice is the same as once; a mission
/// that is over or being ended refuses.
pub fn pause(turn: &mut Turn<'_>, mission: MissionId, reason: Option<&str>) -> Result<RunId, Refusal> {
    let run_id = turn.mission(mission)?.run_id;
    let state = turn.run(run_id)?.state;
    if state == RunState::Paused {
        return Ok(run_id);
    }
    if !state.may_become(RunState::Paused) {
        return Err(Refusal::IllegalMove { what: "mission", state: state.as_str(), wish: "paused" });
    }
    let why = reason.unwrap_or("paused by a user").to_owned();
    if let Some(run) = turn.set.runs.change(run_id) {
        run.state = RunState::Paused;
        run.status_reason = Some(why.clone());
    }
    turn.emit(mission, "mission.paused", None, json!({"reason": why}));
    for task in of_run(turn, run_id, TaskState::Ready, None) {
        park_paused(turn, task)?;
    }
    Ok(run_id)
}

/// Resumes a mission. What the pause parked, which must be loaded, is due from now on. Resuming a mission that is not
/// paused changes nothing; one that is over or being ended refuses.
pub fn resume(turn: &mut Turn<'_>, mission: MissionId) -> Result<RunId, Refusal> {
    let run_id = turn.mission(mission)?.run_id;
    let run = turn.run(run_id)?;
    let (state, has_begun) = (run.state, run.started_at.is_some());
    if state.is_live() {
        return Ok(run_id);
    }
    if state != RunState::Paused {
        return Err(Refusal::IllegalMove { what: "mission", state: state.as_str(), wish: "resumed" });
    }
    if let Some(run) = turn.set.runs.change(run_id) {
        run.state = if has_begun { RunState::Running } else { RunState::Queued };
        run.status_reason = (!has_begun).then(|| "waiting for a worker to take its first task".to_owned());
    }
    let now = turn.now;
    let parked = of_run(turn, run_id, TaskState::Waiting, Some(WaitCause::Paused));
    turn.emit(mission, "mission.resumed", None, json!({"tasks": parked.len()}));
    for task in parked {
        if let Some(task) = turn.set.tasks.change(task) {
            task.due_at = Some(now);
            task.status_reason = Some("its run was resumed; it is about to go on".to_owned());
        }
    }
    Ok(run_id)
}

/// The loaded tasks of a run that stand so.
fn of_run(turn: &Turn<'_>, run: RunId, state: TaskState, wait: Option<WaitCause>) -> Vec<TaskId> {
    let stands = turn.set.tasks.iter().filter(|task| task.run_id == run && task.state == state && task.wait == wait);
    stands.map(|task| task.id).collect()
}

/// Parks a task that could begin, until its run is resumed.
pub(super) fn park_paused(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    cut_hold(turn, id)?;
    park(turn, id, WaitCause::Paused, None, PARKED);
    Ok(())
}

/// A retry, a rate limit or a put-off decision comes due while the run is paused: it is parked as well. What was parked
/// before, and due because of a resume that did not last, is not due any more.
pub(super) fn come_due_while_paused(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?;
    match (task.state, task.wait) {
        (TaskState::Waiting, Some(WaitCause::Credits)) => {}
        (TaskState::Waiting, Some(WaitCause::Paused)) if task.due_at.is_none() => {}
        (TaskState::Retrying | TaskState::Waiting, _) => park_paused(turn, id)?,
        _ => {}
    }
    Ok(Vec::new())
}
