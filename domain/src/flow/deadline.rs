//! A node's own deadline: all of its life from when its needs are done, whatever it waits for.
//!
//! A task that nobody works on fails as soon as the time is over. One that a live worker holds is left to the worker, which
//! is told to stop and settles it, or to the end of its lease; what it succeeds with before that counts. Tasks that a node
//! was made into share its deadline, and it fails when they are over.

use crate::id::TaskId;
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::state::TaskState;
use crate::time::Timestamp;

use super::advance::fail;
use super::begin::go_on;
use super::settle::check_dependents;
use super::{Refusal, Turn};

/// Starts a task's clock, once: its needs are done.
pub(super) fn start_clock(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?;
    let definition = turn.definition(task.workflow_id)?;
    let Some(ms) = definition.node(task.place().index).and_then(|node| node.deadline_ms) else { return Ok(()) };
    let deadline = turn.now.plus_ms(ms);
    if let Some(task) = turn.set.tasks.change(id) {
        // the tasks of a scope have at most the time of the node that they are part of
        task.deadline_at = Some(task.deadline_at.map_or(deadline, |earlier| earlier.min(deadline)));
    }
    Ok(())
}

/// Whether the task's time is over.
pub(super) fn has_passed(task: &Task, now: Timestamp) -> bool {
    task.deadline_at.is_some_and(|deadline| deadline <= now)
}

/// What a task fails with whose time is over.
pub(super) fn exceeded(turn: &Turn<'_>, task: &Task) -> Result<StepError, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    let own = definition.node(task.place().index).and_then(|node| node.deadline_ms);
    let was = match task.state {
        TaskState::Waiting => task.wait.map(|wait| format!("; it was waiting ({})", wait.as_str())).unwrap_or_default(),
        state => format!("; it was {}", state.as_str()),
    };
    let message = match own {
        Some(ms) => format!("the node's deadline of {ms} ms passed{was}"),
        None => format!("the deadline of a node that it is part of passed{was}"),
    };
    Ok(StepError::new(ErrorClass::Permanent, "deadline_exceeded", message))
}

/// Ends a task whose time is over, if nobody works on it. Returns the tasks that are ready now.
pub fn expire_task(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    let is_over = task.state.is_final() || !has_passed(&task, turn.now);
    // a child that has not begun ends with its parent
    let is_left = matches!(task.state, TaskState::Running | TaskState::Pending);
    if is_over || is_left || !turn.run(task.run_id)?.state.is_open() {
        return Ok(Vec::new());
    }
    check_dependents(turn, &task)?;
    let error = exceeded(turn, &task)?;
    if task.fan.is_some() {
        // its children end first; it is decided by itself, right after
        let now = turn.now;
        let Some(row) = turn.set.tasks.change(id) else { return Ok(Vec::new()) };
        if let Some(fan) = row.fan.as_mut().filter(|fan| fan.error.is_none()) {
            fan.error = Some(error);
            row.due_at = Some(now);
        }
        return Ok(Vec::new());
    }
    fail(turn, id, error)?;
    go_on(turn, id)
}
