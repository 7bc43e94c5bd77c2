//! A lease ran out: its worker vanished. The task is ready again, at no cost and without using up a retry.

use crate::id::TaskId;
use crate::limits;
use crate::outcome::{ErrorClass, StepError};
use crate::record::{CallState, Task};
use crate::state::TaskState;
use crate::time::Timestamp;

use super::advance::{fail, make_ready};
use super::begin::go_on;
use super::reserve::close_open_calls;
use super::settle::{end_with_run, note_attempt};
use super::{Refusal, Turn, node_of};

/// Whether the task runs under a lease that is over at `now`.
pub fn lease_ran_out(task: &Task, now: Timestamp) -> bool {
    task.state == TaskState::Running && task.lease_until.is_none_or(|end| end <= now)
}

/// Takes a task from a vanished worker. Returns whether it is ready again (`None` when the lease still lives).
///
/// A node that is not to be tried again after a loss fails at once.
/// After [`limits::POISON_LOSSES`] losses in a row the task fails as a poison pill: it probably kills its workers.
pub fn recover_lease(turn: &mut Turn<'_>, id: TaskId) -> Result<Option<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    if !lease_ran_out(&task, turn.now) {
        return Ok(None);
    }
    close_open_calls(turn, id, CallState::Lost);
    let run_state = turn.run(task.run_id)?.state;
    if !run_state.is_open() {
        end_with_run(turn, &task, run_state, &[])?;
        return Ok(None);
    }
    let losses = task.losses.saturating_add(1);
    let vanished = StepError::new(
        ErrorClass::Lost,
        "worker_lost",
        format!("the worker of attempt {} vanished without a word", task.attempt),
    );
    note_attempt(turn, &task, "lost", Some(vanished.clone()));
    if let Some(row) = turn.set.tasks.change(id) {
        row.losses = losses;
        row.lease_until = None;
        // the next claim raises the fence; forgetting the token already shuts the lost attempt out
        row.lease_token = None;
    }
    if losses >= limits::POISON_LOSSES {
        let message = format!("{losses} workers in a row vanished while they ran this task; it may be what kills them");
        fail(turn, id, StepError::new(ErrorClass::Permanent, "poison_pill", message))?;
        go_on(turn, id)?;
        return Ok(None);
    }
    let definition = turn.definition(task.workflow_id)?;
    if !node_of(&definition, &task)?.retry.on.lost {
        fail(turn, id, vanished)?;
        go_on(turn, id)?;
        return Ok(None);
    }
    make_ready(turn, id)?;
    go_on(turn, id)?;
    Ok((turn.task(id)?.state == TaskState::Ready).then_some(id))
}
