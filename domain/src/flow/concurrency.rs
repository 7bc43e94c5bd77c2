//! The key under which tasks take turns: rendered once, when a task becomes ready for the first time.
//!
//! How many of a key run is counted by the store, when tasks are claimed; nothing here counts.

use crate::limits::MAX_CONCURRENCY_KEY_BYTES;
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::workflow::{Concurrency, Definition, Node, condition};

use super::begin::view;
use super::{Refusal, Turn};

/// The task's key, or the error that the task fails with because it has none.
pub(super) fn key_of(
    turn: &Turn<'_>,
    definition: &Definition,
    node: &Node,
    task: &Task,
    limit: &Concurrency,
) -> Result<Result<String, StepError>, Refusal> {
    let view = view(turn, definition, node, task);
    let view = view.ok_or_else(|| Refusal::Unloaded(format!("what lets task {} begin", task.id)))?;
    let refused = |why: String| StepError::new(ErrorClass::Permanent, "concurrency_key_failed", why);
    Ok(match condition::render(&limit.key, &view) {
        Err(error) => Err(refused(format!("the key in `concurrency` can't be told: {error}"))),
        Ok(text) if text.trim().is_empty() => Err(refused("the key in `concurrency` became empty".to_owned())),
        Ok(text) if text.trim().len() > MAX_CONCURRENCY_KEY_BYTES => {
            let length = text.trim().len();
            let most = MAX_CONCURRENCY_KEY_BYTES;
            Err(refused(format!("the key in `concurrency` became {length} bytes long, at most {most} are allowed")))
        }
        Ok(text) => Ok(text.trim().to_owned()),
    })
}
