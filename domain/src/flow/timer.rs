//! Nodes that wait for a time: how long that is.

use crate::limits::MAX_DEADLINE_MS;
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::time::Timestamp;
use crate::workflow::{Definition, Node, condition};

use super::begin::view;
use super::{Refusal, Turn};

/// How long a task of `until` waits from now on, in milliseconds, and what is said about it meanwhile. What was given is no time,
/// or is out of reach: then it is the error that the task fails with. A time that has passed is over at once.
pub(super) fn time_of(
    turn: &Turn<'_>,
    definition: &Definition,
    node: &Node,
    task: &Task,
    template: &str,
) -> Result<Result<(i64, String), StepError>, Refusal> {
    let view = view(turn, definition, node, task);
    let view = view.ok_or_else(|| Refusal::Unloaded(format!("what lets task {} begin", task.id)))?;
    Ok(match condition::render(template, &view) {
        Ok(text) => until(text.trim(), turn.now),
        Err(error) => Err(refuse("until_failed", format!("the time in `until` can't be told: {error}"))),
    })
}

fn until(text: &str, now: Timestamp) -> Result<(i64, String), StepError> {
    let Some(at) = Timestamp::parse_rfc3339(text) else {
        let shown: String = text.chars().take(80).collect();
        let message = format!("`until` became `{shown}`, which is no time such as 2026-08-01T09:30:00Z");
        return Err(refuse("until_failed", message));
    };
    let for_ms = at.since_ms(now).max(0);
    if for_ms > MAX_DEADLINE_MS {
        let message =
            format!("`until` became {text}, which is further away than the {MAX_DEADLINE_MS} ms of the longest wait");
        return Err(refuse("until_too_far", message));
    }
    Ok((for_ms, format!("waits until {text}")))
}

fn refuse(code: &str, message: String) -> StepError {
    StepError::new(ErrorClass::Permanent, code, message)
}
