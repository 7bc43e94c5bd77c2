//! A run that failed, expired or was cancelled goes on: the same run, with everything that came out of it so far.
//!
//! What ended with the run begins anew, with all its attempts; attempts and fences count on. Journaled calls are
//! replayed; those that a user paid when he cancelled are not charged again. The flat fee is held again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::id::{MissionId, RunId, TaskId};
use crate::record::{Run, Task};
use crate::state::{RunState, TaskState};
use crate::workflow::{Node, OnError};

use super::cancel::RUN_ENDED;
use super::rehearsal::{self, Order, Ordered, Preview, check_room, is_repeated, rehearse};
use super::submit::hold_fee;
use super::{Refusal, Turn, fallback, family, node_of, reunion};

/// Lets a mission's latest run go on from what failed. The tasks of that run which failed, were cancelled or skipped must
/// be loaded, with what decides whether they begin.
///
/// Refuses a run that is not over or that succeeded, and one whose first holds do not fit; nothing is changed then.
pub fn retry(turn: &mut Turn<'_>, mission: MissionId, order: Option<&Order>) -> Result<Ordered, Refusal> {
    if is_repeated(turn, mission, order)? {
        return Ok(Ordered::Repeated);
    }
    let plan = rehearse(turn, mission, |trial| renew(trial, mission, order))?;
    check_room(turn, mission, plan.hold_needed)?;
    renew(turn, mission, order)?;
    Ok(Ordered::Done(plan))
}

/// What [`retry`] would do. Changes nothing.
pub fn preview_retry(turn: &mut Turn<'_>, mission: MissionId) -> Result<Preview, Refusal> {
    let plan = rehearse(turn, mission, |trial| renew(trial, mission, None))?;
    Ok(rehearsal::preview(turn, mission, plan))
}

/// Whether a task that is over let others go on: its dependents, or, one of many, its parent.
pub(super) fn has_passed(turn: &Turn<'_>, node: &Node, task: &Task) -> Result<bool, Refusal> {
    let is_item = task.layer > 0;
    Ok(match task.state {
        TaskState::Succeeded => true,
        TaskState::Skipped => !is_item && task.error.as_ref().is_none_or(|error| error.code != RUN_ENDED),
        TaskState::Failed => match family::on_item_error(turn, task)?.unwrap_or(node.on_error) {
            OnError::Fail => false,
            OnError::Skip | OnError::Continue => true,
            OnError::Fallback => fallback::has_passed(turn, node, task)?,
        },
        _ => false,
    })
}

/// Whether a task keeps what came out of it: others went on with it, or with a task above it, or have begun to.
fn is_settled(turn: &Turn<'_>, task: &Task) -> Result<bool, Refusal> {
    let above = task.ancestors.iter().flatten().map(|id| turn.task(*id));
    for task in above.chain([Ok(task)]) {
        let task = task?;
        let definition = turn.definition(task.workflow_id)?;
        if has_passed(turn, node_of(&definition, task)?, task)? || fallback::is_handed_over(turn, &definition, task) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn renew(turn: &mut Turn<'_>, mission: MissionId, order: Option<&Order>) -> Result<RunId, Refusal> {
    let run = turn.run(turn.mission(mission)?.run_id)?.clone();
    if !matches!(run.state, RunState::Failed | RunState::Cancelled | RunState::Expired) {
        return Err(Refusal::IllegalMove { what: "mission", state: run.state.as_str(), wish: "retried" });
    }
    if run.pruned > 0 {
        // what it journaled is gone
        return Err(Refusal::IllegalMove { what: "mission", state: "pruned", wish: "retried" });
    }
    let mut again: Vec<TaskId> = Vec::new();
    for task in turn.set.tasks.iter().filter(|task| task.run_id == run.id && task.state.is_final()) {
        if !is_settled(turn, task)? {
            again.push(task.id);
        }
    }
    let needs = open_needs(turn, &again)?;
    renew_run(turn, &run, again.len(), order)?;
    let renewed = again.clone();
    let mut first = Vec::new();
    for (id, open) in again.into_iter().zip(needs) {
        let Some(task) = turn.set.tasks.change(id) else { continue };
        renew_task(task);
        task.remaining_needs = open;
        if open > 0 && task.fan.as_ref().is_some_and(|fan| fan.made == 0) {
            // a stand-in that made no task yet: whether it begins again is up to the one that it stands in for
            task.fan = None;
        }
        let has_children = task.fan.is_some();
        reunion::renew(turn, id, has_children)?;
        if open == 0 && !has_children {
            first.push(id);
        }
    }
    fallback::reappoint(turn, &renewed)?;
    reunion::begin_renewed(turn, &first)?;
    Ok(run.id)
}

/// How many needs of each of these tasks are among them: what a renewed task waits for. All others let it go on before.
fn open_needs(turn: &Turn<'_>, again: &[TaskId]) -> Result<Vec<i32>, Refusal> {
    let tasks: Vec<&Task> = again.iter().map(|id| turn.task(*id)).collect::<Result<_, _>>()?;
    let numbers: BTreeSet<i32> = tasks.iter().filter(|task| task.layer == 0).map(|task| task.node_index).collect();
    let mut followed: BTreeMap<(TaskId, i32), i32> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task.layer > 0) {
        let Some(parent) = task.parent_id else { continue };
        for follower in task.bound.iter().flat_map(|bound| &bound.followers) {
            let open = followed.entry((parent, *follower)).or_default();
            *open = open.saturating_add(1);
        }
    }
    let mut needs = Vec::with_capacity(tasks.len());
    for task in tasks {
        needs.push(if let Some(parent) = task.parent_id.filter(|_| task.layer > 0) {
            followed.get(&(parent, task.item)).copied().unwrap_or_default()
        } else {
            let definition = turn.definition(task.workflow_id)?;
            let needs = &node_of(&definition, task)?.needs;
            let open = needs.iter().filter(|need| numbers.contains(&task.neighbour(**need)));
            i32::try_from(open.count()).unwrap_or(i32::MAX)
        });
    }
    Ok(needs)
}

fn renew_run(turn: &mut Turn<'_>, run: &Run, tasks: usize, order: Option<&Order>) -> Result<(), Refusal> {
    let deadline_ms = turn.definition(run.workflow_id)?.deadline_ms;
    let retries = run.retries.saturating_add(1);
    let (now, has_begun) = (turn.now, run.started_at.is_some());
    if let Some(row) = turn.set.runs.change(run.id) {
        row.state = if has_begun { RunState::Running } else { RunState::Queued };
        row.status_reason = (!has_begun).then(|| "waiting for a worker to take its first task".to_owned());
        row.error = None;
        row.fingerprint = None;
        row.ended_at = None;
        row.retries = retries;
        row.fee_hold_id = None;
        row.deadline_at = deadline_ms.map(|ms| now.plus_ms(ms));
        row.order_key = order.map(|order| order.key.clone());
        row.order_hash = order.map(|order| order.hash.clone());
    }
    if let Some(mission) = turn.set.missions.change(run.mission_id) {
        mission.tasks_done = mission.tasks_done.saturating_sub(i64::try_from(tasks).unwrap_or(i64::MAX));
    }
    if run.fee_ucr.is_positive() {
        hold_fee(turn, run, retries.saturating_add(1))?;
    }
    let data = json!({"run_id": run.id, "retry": retries, "tasks": tasks});
    turn.emit(run.mission_id, "mission.retried", None, data);
    Ok(())
}

/// As it was before it began, but for what must never begin again: its attempts, its fence, what was charged for it.
fn renew_task(task: &mut Task) {
    task.state = TaskState::Pending;
    task.wait = None;
    task.status_reason = Some("waiting for the nodes it needs".to_owned());
    task.failures = 0;
    task.losses = 0;
    task.lease_token = None;
    task.lease_until = None;
    task.worker_id = None;
    task.ready_at = None;
    task.due_at = None;
    task.started_at = None;
    task.ended_at = None;
    task.error = None;
    task.deadline_at = None;
    task.stand_in_id = None;
    task.decision = None;
}
