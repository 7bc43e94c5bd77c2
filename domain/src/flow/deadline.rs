//! A node's own deadline: all of its life from when its needs are done, whatever it waits for.
//!
//! A task that nobody works on fails as soon as the time is over. One that a live worker holds is left to the worker, which
//! is told to stop and settles it, or to the end of its lease; what it succeeds with before that counts.

use crate::id::TaskId;
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::state::TaskState;
use crate::time::Timestamp;

use super::advance::fail;
use super::begin::go_on;
use super::settle::check_dependents;
use super::{Refusal, Turn, node_of};

/// Starts a task's clock, once: its needs are done.
pub(super) fn start_clock(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?;
    let definition = turn.definition(task.workflow_id)?;
    let Some(ms) = node_of(&definition, task)?.deadline_ms else { return Ok(()) };
    let deadline = turn.now.plus_ms(ms);
    if let Some(task) = turn.set.tasks.change(id) {
        task.deadline_at = task.deadline_at.or(Some(deadline));
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
    let ms = node_of(&definition, task)?.deadline_ms.unwrap_or_default();
    let was = match task.state {
        TaskState::Waiting => task.wait.map(|wait| format!("; it was waiting ({})", wait.as_str())).unwrap_or_default(),
        state => format!("; it was {}", state.as_str()),
    };
    let message = format!("the node's deadline of {ms} ms passed{was}");
    Ok(StepError::new(ErrorClass::Permanent, "deadline_exceeded", message))
}

/// Ends a task whose time is over, if nobody works on it. Returns the tasks that are ready now.
pub fn expire_task(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    let is_over = task.state.is_final() || !has_passed(&task, turn.now);
    if is_over || task.state == TaskState::Running || !turn.run(task.run_id)?.state.is_open() {
        return Ok(Vec::new());
    }
    check_dependents(turn, &task)?;
    let error = exceeded(turn, &task)?;
    fail(turn, id, error)?;
    go_on(turn, id)
}
