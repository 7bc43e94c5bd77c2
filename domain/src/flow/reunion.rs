//! Families in a run that is retried: a task that stands for many counts those of them that begin anew as not over, and
//! waits for them again. What came out of the others stays.

use std::collections::{BTreeSet, VecDeque};

use crate::id::TaskId;
use crate::state::{TaskState, WaitCause};
use crate::workflow::Layer;

use super::begin::begin_all;
use super::deadline::start_clock;
use super::family::{begin_items, go_on, layer_around};
use super::{Refusal, Turn};

/// After a task of a run that is retried was renewed: its parent counts it as not over, and as not begun unless it has
/// children of its own. With these it waits again, to be decided about once they are over.
pub(super) fn renew(turn: &mut Turn<'_>, id: TaskId, has_children: bool) -> Result<(), Refusal> {
    let now = turn.now;
    // the tasks of a node share its deadline, which begins anew as well
    let parent = turn.set.tasks.get(id).and_then(|row| row.parent_id);
    let shared = parent.and_then(|parent| turn.set.tasks.get(parent)?.deadline_at);
    let Some(row) = turn.set.tasks.change(id) else { return Ok(()) };
    row.deadline_at = shared;
    if has_children {
        start_clock(turn, id)?;
    }
    let Some(row) = turn.set.tasks.change(id) else { return Ok(()) };
    if has_children {
        row.state = TaskState::Waiting;
        row.wait = Some(WaitCause::Children);
        row.ready_at = Some(now);
        row.due_at = Some(now);
        row.status_reason = Some("waits for those of its tasks that begin anew".to_owned());
    }
    if let Some(fan) = row.fan.as_mut() {
        fan.error = None;
    }
    let task = row.clone();
    let is_item = task.layer > 0;
    if let Some(fan) = task.parent_id.and_then(|parent| turn.set.tasks.change(parent)?.fan.as_mut()) {
        fan.done = fan.done.saturating_sub(1);
        if is_item {
            fan.bytes = fan.bytes.saturating_sub(4);
        }
        if is_item && !has_children {
            fan.begun = fan.begun.saturating_sub(1);
        }
    }
    Ok(())
}

/// Lets renewed tasks begin: those of a map as far as its others leave room, all others at once.
pub(super) fn begin_renewed(turn: &mut Turn<'_>, ids: &[TaskId]) -> Result<(), Refusal> {
    let mut now = Vec::new();
    let mut maps = BTreeSet::new();
    for id in ids {
        let task = turn.task(*id)?.clone();
        let definition = turn.definition(task.workflow_id)?;
        match (layer_around(&definition, &task), task.parent_id) {
            (Some(Layer::Map(_)), Some(parent)) => drop(maps.insert(parent)),
            _ => now.push(*id),
        }
    }
    begin_all(turn, &now)?;
    for parent in maps {
        let mut ended = VecDeque::new();
        begin_items(turn, parent, &mut Vec::new(), &mut ended)?;
        while let Some(over) = ended.pop_front() {
            let over = turn.task(over.task())?.clone();
            go_on(turn, &over, &mut Vec::new(), &mut ended)?;
        }
    }
    Ok(())
}
