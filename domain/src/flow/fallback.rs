//! Nodes that stand in for others that failed.
//!
//! A node that fails for good and names a fallback does not fail its run: the fallback begins, and who needs the node waits
//! for that, too. The failed task remembers who stands in for it, and all who read what it handed on read what the
//! stand-in did; so nothing is stored twice. Where a stand-in fails that has a fallback of its own, that one stands in for
//! both. A node that does not fail dismisses its fallback at once, whatever else that waits for.

use crate::id::{RunId, TaskId};
use crate::outcome::StepError;
use crate::record::Task;
use crate::state::TaskState;
use crate::workflow::{Definition, Node};

use serde_json::Value;

use super::advance::skip;
use super::begin::{Ended, dependent_of, put_off};
use super::{Refusal, Turn, node_of};

/// The tasks, as far as they were loaded, for which this one may stand in, the nearest first.
fn origins<'t>(turn: &'t Turn<'_>, definition: &Definition, task: &Task) -> Vec<Option<&'t Task>> {
    let indexes = definition.stands_in_for(task.place().index);
    indexes.map(|index| turn.set.task_of(task.run_id, task.neighbour(index))).collect()
}

/// Whether everything was loaded that changes when the task ends: its dependents, and those that it stands in for.
pub(super) fn is_all_loaded(turn: &Turn<'_>, definition: &Definition, task: &Task) -> bool {
    let Ok(node) = node_of(definition, task) else { return false };
    task.layer > 0
        || node.dependents.iter().all(|index| dependent_of(turn, task, *index).is_ok())
            && origins(turn, definition, task).iter().all(Option::is_some)
}

/// Whether the task stands by for a node that is over and did not fail. That node must be loaded.
pub(super) fn is_needless(turn: &Turn<'_>, node: &Node, task: &Task) -> bool {
    let origin = node.stands_in_for.and_then(|index| turn.set.task_of(task.run_id, task.neighbour(index)));
    origin.is_some_and(|origin| origin.state.is_final() && origin.stand_in_id.is_none())
}

/// Skips a stand-in that is not needed. One whose dependents were not loaded is decided by itself, right after.
pub(super) fn dismiss(turn: &mut Turn<'_>, id: TaskId) -> Result<Option<Ended>, Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    if !is_all_loaded(turn, &definition, &task) {
        put_off(turn, id);
        return Ok(None);
    }
    let origin = node_of(&definition, &task)?.stands_in_for.and_then(|index| definition.node(index));
    let key = origin.map(|node| node.key.as_str()).unwrap_or_default();
    skip(turn, id, &format!("skipped: it stands in for `{key}`, which did not fail"), Some(Value::Null))?;
    Ok(Some(Ended::with_nothing(id)))
}

/// Who stands in for a task that fails for good, with its key, where its node names one and the run goes on.
pub(super) fn of(turn: &Turn<'_>, id: TaskId) -> Result<Option<(TaskId, String)>, Refusal> {
    let task = turn.task(id)?;
    if task.layer > 0 || !turn.run(task.run_id)?.state.is_open() {
        return Ok(None);
    }
    let definition = turn.definition(task.workflow_id)?;
    let Some(index) = node_of(&definition, task)?.fallback else { return Ok(None) };
    dependent_of(turn, task, index).map(|next| Some((next.id, next.node.clone())))
}

/// After a task failed for which another one stands in: whoever it stood in for itself is handed over, and its own
/// failure is known to those who begin in this very decision.
pub(super) fn take_over(turn: &mut Turn<'_>, id: TaskId, by: TaskId, error: &StepError) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    turn.set.results.insert((task.run_id, task.node_index), error.as_output());
    let before: Vec<TaskId> = origins(turn, &definition, &task)
        .into_iter()
        .map(|origin| origin.map(|origin| origin.id))
        .collect::<Option<_>>()
        .ok_or_else(|| Refusal::Unloaded(format!("the tasks for which {id} stands in")))?;
    for origin in before {
        if turn.set.tasks.get(origin).is_some_and(|origin| origin.stand_in_id == Some(id))
            && let Some(row) = turn.set.tasks.change(origin)
        {
            row.stand_in_id = Some(by);
        }
    }
    Ok(())
}

/// Whether a node's failure let others go on: the one that stands in for it did, too. Those of a run's tasks that did not
/// succeed must be loaded.
pub(super) fn has_passed(turn: &Turn<'_>, node: &Node, task: &Task) -> Result<bool, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    let Some(fallback) = node.fallback.and_then(|index| definition.node(index)) else { return Ok(true) };
    match turn.set.task_of(task.run_id, task.neighbour(fallback.index)) {
        Some(next) if next.state != TaskState::Succeeded => super::retry::has_passed(turn, fallback, next),
        _ => Ok(true),
    }
}

/// Whether another task stands in for a failed one and was made into tasks of its own. What came out of these was paid for,
/// and they read that failure: a retry keeps it and goes on with them, instead of trying the failed node anew beside them.
pub(super) fn is_handed_over(turn: &Turn<'_>, definition: &Definition, task: &Task) -> bool {
    let has_begun = |index: u32| {
        let next = turn.set.task_of(task.run_id, task.neighbour(index));
        next.and_then(|next| next.fan.as_ref()).is_some_and(|fan| fan.made > 0)
    };
    task.layer == 0 && task.state == TaskState::Failed && definition.stand_ins(task.place().index).any(has_begun)
}

/// After tasks of a run that is retried were renewed: each of them stands in for the failures before it that were kept,
/// until it fails again and hands them on.
pub(super) fn reappoint(turn: &mut Turn<'_>, renewed: &[TaskId]) -> Result<(), Refusal> {
    for id in renewed {
        let task = turn.task(*id)?;
        if task.layer > 0 {
            continue;
        }
        let definition = turn.definition(task.workflow_id)?;
        // beyond one that begins anew itself, that one is the nearer
        let kept = origins(turn, &definition, task)
            .into_iter()
            .map_while(|origin| origin.filter(|origin| origin.state == TaskState::Failed).map(|origin| origin.id));
        let kept: Vec<TaskId> = kept.collect();
        for origin in kept {
            if turn.task(origin)?.stand_in_id != Some(*id)
                && let Some(row) = turn.set.tasks.change(origin)
            {
                row.stand_in_id = Some(*id);
            }
        }
    }
    Ok(())
}

/// Whether a failure may be kept in a run of another version: the same node stands in for the failed one there.
pub(super) fn is_same(before: &Definition, after: &Definition, node: &Node) -> bool {
    let key_of = |definition: &Definition| {
        let fallback = definition.node_by_key(&node.key)?.fallback?;
        definition.node(fallback).map(|node| node.key.clone())
    };
    key_of(before) == key_of(after)
}

/// In a new run in which failures were kept: each of them names who stands in for it there.
pub(super) fn appoint(turn: &mut Turn<'_>, definition: &Definition, run: RunId) {
    for node in definition.nodes.iter().rev() {
        let at = |index: u32| i32::try_from(index).unwrap_or(i32::MAX);
        let Some(next) = node.fallback.and_then(|index| turn.set.task_of(run, at(index))) else { continue };
        // nodes are numbered after those that they stand in for: whoever it is handed on to is known by now
        let stand_in = next.stand_in_id.or(Some(next.id));
        let kept = turn.set.task_of(run, at(node.index)).filter(|task| task.state == TaskState::Failed);
        if let Some(id) = kept.map(|task| task.id)
            && let Some(row) = turn.set.tasks.change(id)
        {
            row.stand_in_id = stand_in;
            row.output = None;
        }
    }
}
