//! Families: one task that stands for many, because of a `map`, `repeat` or `review`.
//!
//! The parent waits for its children without a slot. Whoever ends a child counts it with the parent and, in a map, lets
//! the next items begin. What follows for the parent, the next round or its own end, is decided by itself, right
//! after (its `due_at` says so): so the end of a child costs the same however many there are, and never reaches beyond
//! its parent. A map's children are made in chunks.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::id::TaskId;
use crate::limits::{ITEM_CHUNK, MAX_GATHERED_BYTES};
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Bound, Fan, Task};
use crate::state::{TaskState, WaitCause};
use crate::workflow::{Definition, Item, Layer, Map, Node, OnError, OnItemError, Place, item_values};

use super::advance::{self, fail, fail_run, make_ready, park, skip};
use super::begin::{Ended, ended, go_on as go_on_without, put_off, release_dependents};
use super::cancel::{RUN_ENDED, end_idle};
use super::estimate::is_priced;
pub(super) use super::family_budget::{budgets_above, check_budgets, count_held, count_spent, never_fits};
use super::family_rounds::{Verdict, next_round, verdict};
use super::{Refusal, Turn, node_of, scope};

/// The kind of a task: the layer that it opens, or what its node does.
pub(super) fn kind_at(node: &Node, layer: u32) -> &'static str {
    let inner = usize::try_from(layer).ok().and_then(|layer| node.layers.get(layer));
    inner.map_or_else(|| node.action.kind(), Layer::kind)
}

/// The layer that a task opens; `None` for one that does what its node does.
pub(super) fn layer_of<'n>(node: &'n Node, task: &Task) -> Option<&'n Layer> {
    node.layers.get(usize::try_from(task.layer).ok()?)
}

/// The layer that made the task.
pub(super) fn layer_around<'n>(definition: &'n Definition, task: &Task) -> Option<&'n Layer> {
    let node = definition.node(task.place().index)?;
    node.layers.get(usize::try_from(task.layer.checked_sub(1)?).ok()?)
}

/// What becomes of the others when one of many fails; `None` for tasks that are nobody's item.
pub(super) fn on_item_error(turn: &Turn<'_>, task: &Task) -> Result<Option<OnError>, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    Ok(layer_around(&definition, task).map(|layer| match layer {
        Layer::Map(map) => match map.on_item_error {
            OnItemError::FailFast => OnError::Fail,
            OnItemError::Skip => OnError::Skip,
            OnItemError::Continue => OnError::Continue,
        },
        Layer::Repeat(_) | Layer::Review(_) | Layer::Plan(_) | Layer::Workflow(_) => OnError::Fail,
    }))
}

/// Refuses when a task's parent was not loaded.
pub(super) fn check_loaded(turn: &Turn<'_>, task: &Task) -> Result<(), Refusal> {
    for ancestor in task.ancestors.iter().flatten() {
        if turn.set.tasks.get(*ancestor).is_none() {
            return Err(Refusal::Unloaded(format!("task {ancestor}, above {}", task.id)));
        }
    }
    Ok(())
}

/// Begins a task that may: opens its layer, or makes it ready. Whoever is over at once is told.
pub(super) fn start(turn: &mut Turn<'_>, id: TaskId, ready: &mut Vec<TaskId>) -> Result<Option<Ended>, Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    // one that was parked by a pause has begun before
    if task.state == TaskState::Pending
        && let Some(fan) = parent_fan(turn, &task)
    {
        fan.begun = fan.begun.saturating_add(1);
    }
    let may_fail_at_once = is_priced(node_of(&definition, &task)?) || task.deadline_at.is_some();
    if may_fail_at_once && !are_followers_known(turn, &task) {
        // others wait for it: decided by itself, with them in view
        put_off(turn, id);
        return Ok(None);
    }
    match layer_of(node_of(&definition, &task)?, &task) {
        None => make_ready(turn, id)?,
        Some(layer) => {
            if let Some(row) = turn.set.tasks.change(id) {
                row.fan = Some(Fan::default());
            }
            match layer {
                Layer::Map(_) => {
                    park(turn, id, WaitCause::Children, Some(0), "its items are about to become tasks");
                }
                Layer::Repeat(_) | Layer::Review(_) | Layer::Plan(_) | Layer::Workflow(_) => {
                    park(turn, id, WaitCause::Children, None, "waits for its first round");
                    next_round(turn, id, ready)?;
                }
            }
        }
    }
    ready.extend(turn.set.tasks.get(id).filter(|task| task.state == TaskState::Ready).map(|task| task.id));
    Ok(ended(turn, id))
}

/// Whether the items that wait for this one were loaded.
fn are_followers_known(turn: &Turn<'_>, task: &Task) -> bool {
    let Some(parent) = task.parent_id.filter(|_| task.layer > 0) else { return true };
    task.bound.iter().flat_map(|bound| &bound.followers).all(|item| turn.set.item_of(parent, *item).is_some())
}

/// The fan of a task's parent, where a layer of its node made it.
pub(super) fn parent_fan<'t>(turn: &'t mut Turn<'_>, task: &Task) -> Option<&'t mut Fan> {
    let parent = task.parent_id.filter(|_| task.layer > 0)?;
    turn.set.tasks.change(parent)?.fan.as_mut()
}

/// Counts a task that is over with its parent, whose turn it is when all are over or one failed it.
pub(super) fn count_done(turn: &mut Turn<'_>, id: TaskId) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let Some(parent) = task.parent_id else { return Ok(()) };
    let is_item = task.layer > 0;
    let lives = turn.run(task.run_id)?.state.is_open();
    let (now, label) = (turn.now, label(turn.task(parent).map_or("", |above| above.kind.as_str()), &task));
    let bytes = task.output.as_ref().map_or(4, |output| output.to_string().len());
    let row = turn.set.tasks.change(parent).ok_or_else(|| Refusal::Unloaded(format!("task {parent}")))?;
    let Some(fan) = row.fan.as_mut() else { return Ok(()) };
    if task.state == TaskState::Skipped && is_item {
        // it never left `pending`
        fan.begun = fan.begun.saturating_add(1);
    }
    fan.done = fan.done.saturating_add(1);
    if is_item {
        fan.bytes = fan.bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
    // one that is stood in for fails nobody: its stand-in does, if it fails as well
    let is_failure = task.state == TaskState::Failed && task.output.is_none() && task.stand_in_id.is_none();
    let failure = task.error.filter(|_| is_failure);
    if let Some(error) = failure.filter(|_| fan.error.is_none()) {
        fan.error = Some(StepError { message: format!("{label}: {}", error.message), ..error });
    }
    let all_made = fan.total.is_none() || fan.is_complete();
    let is_due = fan.error.is_some() || (fan.is_over() && all_made);
    if is_due && lives && row.state == TaskState::Waiting && row.wait == Some(WaitCause::Children) {
        row.due_at = Some(now);
    }
    Ok(())
}

/// How people call one of many; `above` is the kind of what it was made of.
fn label(above: &str, task: &Task) -> String {
    let key = task.bound.as_ref().and_then(|bound| bound.values.get("map")?.get("key")?.as_str().map(str::to_owned));
    match key {
        _ if task.layer == 0 => format!("node `{}`", task.node),
        _ if above == "plan" => "the plan".to_owned(),
        _ if above == "workflow" => "the input".to_owned(),
        Some(key) => format!("item `{key}`"),
        None => format!("round {}", task.item.saturating_add(1)),
    }
}

/// One of many is over: those that waited for it count down, and as many of its map begin as may.
pub(super) fn go_on(
    turn: &mut Turn<'_>,
    task: &Task,
    ready: &mut Vec<TaskId>,
    ended: &mut VecDeque<Ended>,
) -> Result<(), Refusal> {
    let Some(parent) = task.parent_id else { return Ok(()) };
    for follower in task.bound.iter().flat_map(|bound| &bound.followers) {
        let row = turn.set.item_of(parent, *follower);
        let row = row.ok_or_else(|| Refusal::Unloaded(format!("item {follower} of task {parent}")))?;
        // it may have been skipped because another item failed
        let open = Some(row.id).filter(|_| !row.state.is_final());
        if let Some(row) = open.and_then(|id| turn.set.tasks.change(id)) {
            row.remaining_needs = row.remaining_needs.saturating_sub(1);
        }
    }
    begin_items(turn, parent, ready, ended)
}

/// Lets as many items of a map begin as may, of those that were loaded.
pub(super) fn begin_items(
    turn: &mut Turn<'_>,
    parent: TaskId,
    ready: &mut Vec<TaskId>,
    ended: &mut VecDeque<Ended>,
) -> Result<(), Refusal> {
    let task = turn.task(parent)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    let Some(Layer::Map(map)) = layer_of(node_of(&definition, &task)?, &task) else { return Ok(()) };
    let most = i32::try_from(map.max_parallel).unwrap_or(i32::MAX);
    loop {
        let fan = turn.task(parent)?.fan.clone().unwrap_or_default();
        let is_held_back = map.after.is_some() && !fan.is_complete();
        if fan.error.is_some() || is_held_back || fan.open() >= most || !turn.run(task.run_id)?.state.is_open() {
            return Ok(());
        }
        let may_begin = |item: &&Task| item.state == TaskState::Pending && item.remaining_needs == 0;
        let Some(next) = turn.set.items_of(parent).find(may_begin).map(|item| item.id) else {
            let now = turn.now;
            // more than were loaded may be waiting, and nobody is left to think of them
            if fan.open() == 0
                && fan.begun < fan.made
                && let Some(row) = turn.set.tasks.change(parent)
            {
                row.due_at = Some(now);
            }
            return Ok(());
        };
        ended.extend(start(turn, next, ready)?);
    }
}

/// Makes the next tasks of a map, at most [`ITEM_CHUNK`], and lets those begin that may. Whether more are to be made.
/// A map that has them all, or whose run is being ended, stays as it is.
pub fn add_items(turn: &mut Turn<'_>, id: TaskId, items: &[Item]) -> Result<bool, Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    let waits = task.state == TaskState::Waiting && task.wait == Some(WaitCause::Children);
    let Some((Layer::Map(map), fan)) = layer_of(node_of(&definition, &task)?, &task).zip(task.fan.clone()) else {
        return Ok(false);
    };
    if !waits || fan.is_complete() || fan.error.is_some() || !turn.run(task.run_id)?.state.is_open() {
        return Ok(false);
    }
    let left = items.len().saturating_sub(usize::try_from(fan.made).unwrap_or_default());
    if let Err(error) = scope::has_place(turn, &task, left) {
        refuse_items(turn, id, error)?;
        return Ok(false);
    }
    let total = i32::try_from(items.len()).unwrap_or(i32::MAX);
    let sizes = items.iter().map(|item| item.value.to_string().len());
    let all_bytes = i64::try_from(sizes.sum::<usize>()).unwrap_or(i64::MAX);
    let rest = task.input_bytes.saturating_sub(all_bytes).max(0);
    let from = usize::try_from(fan.made).unwrap_or(usize::MAX);
    for (index, item) in items.iter().enumerate().skip(from).take(ITEM_CHUNK) {
        let child = bound_item(&task, map, index, item);
        let bytes = i64::try_from(item.value.to_string().len()).unwrap_or(i64::MAX);
        let needs = i32::try_from(item.needs).unwrap_or(i32::MAX);
        add_child(turn, id, child, rest.saturating_add(bytes), needs)?;
    }
    let now = turn.now;
    let Some(row) = turn.set.tasks.change(id) else { return Ok(false) };
    let Some(fan) = row.fan.as_mut() else { return Ok(false) };
    fan.total = Some(total);
    let is_complete = fan.is_complete();
    row.due_at = (!is_complete || total == 0).then_some(now);
    row.status_reason = Some(format!("waits for its {total} items"));
    if is_complete {
        turn.emit(task.mission_id, "task.spread", Some(id), json!({"items": total}));
    }
    let mut ended = VecDeque::new();
    begin_items(turn, id, &mut Vec::new(), &mut ended)?;
    while let Some(over) = ended.pop_front() {
        let over = turn.task(over.task())?.clone();
        go_on(turn, &over, &mut Vec::new(), &mut ended)?;
    }
    Ok(!is_complete)
}

/// A map that has no items to make because they can't be told: it fails.
pub fn refuse_items(turn: &mut Turn<'_>, id: TaskId, error: StepError) -> Result<(), Refusal> {
    let task = turn.task(id)?;
    let waits = task.state == TaskState::Waiting && task.wait == Some(WaitCause::Children);
    if !waits || !turn.run(task.run_id)?.state.is_open() {
        return Ok(());
    }
    fail(turn, id, error)?;
    go_on_without(turn, id).map(drop)
}

fn bound_item(parent: &Task, map: &Map, index: usize, item: &Item) -> Bound {
    let mut bound = parent.bound.clone().unwrap_or_default();
    bound.values.extend(item_values(map, index, item));
    bound.followers = item.followers.iter().filter_map(|follower| i32::try_from(*follower).ok()).collect();
    bound
}

/// Makes one more task of a layer and counts it. It is pending.
pub(super) fn add_child(
    turn: &mut Turn<'_>,
    parent: TaskId,
    bound: Bound,
    input_bytes: i64,
    needs: i32,
) -> Result<TaskId, Refusal> {
    let parent = turn.task(parent)?.clone();
    let definition = turn.definition(parent.workflow_id)?;
    let layer = parent.place().layer.saturating_add(1);
    let item = parent.fan.as_ref().map_or(0, |fan| fan.made);
    let place = Place { index: parent.place().index, layer, item: u32::try_from(item).unwrap_or(u32::MAX) };
    let node = definition.node_for(place);
    let node = node.ok_or_else(|| Refusal::Unloaded(format!("node {} of {}", parent.node_at, parent.workflow_id)))?;
    let is_leaf = usize::try_from(layer).is_ok_and(|layer| node.layers.get(layer).is_none());
    let (id, now) = (turn.id(), turn.now);
    let mission = turn.set.missions.change(parent.mission_id);
    let mission = mission.ok_or_else(|| Refusal::NotFound(format!("mission {}", parent.mission_id)))?;
    let number = i32::try_from(mission.tasks_total).unwrap_or(i32::MAX);
    mission.tasks_total = mission.tasks_total.saturating_add(1);
    let above = [parent.id].into_iter().chain(parent.ancestors.clone().into_iter().flatten()).collect();
    turn.set.add_task(Task {
        id,
        node_index: number,
        kind: kind_at(node, layer).to_owned(),
        pool: node.pool.clone(),
        state: TaskState::Pending,
        wait: None,
        status_reason: Some("waits for its turn".to_owned()),
        remaining_needs: needs,
        input_bytes,
        error: None,
        ready_at: None,
        due_at: None,
        priced: is_leaf && is_priced(node),
        created_at: now,
        ancestors: Some(above),
        parent_id: Some(parent.id),
        layer: i32::try_from(layer).unwrap_or(i32::MAX),
        item,
        bound: Some(bound),
        fan: None,
        heard: None,
        ..parent.clone()
    });
    if let Some(fan) = turn.set.tasks.change(parent.id).and_then(|row| row.fan.as_mut()) {
        fan.made = fan.made.saturating_add(1);
    }
    Ok(id)
}

/// Decides about a parent whose turn it is. Returns the tasks that are ready now. One that can't be decided about, because
/// it went on since somebody looked what the decision takes, stays due: whoever looks again decides.
pub(super) fn decide(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let now = turn.now;
    let decided = decide_once(turn, id);
    if decided.is_err()
        && let Some(row) = turn.set.tasks.change(id).filter(|row| row.state == TaskState::Waiting)
    {
        row.due_at = Some(now);
    }
    decided
}

fn decide_once(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    let task = turn.task(id)?.clone();
    super::settle::check_dependents(turn, &task)?;
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, &task)?;
    let Some((layer, fan)) = layer_of(node, &task).zip(task.fan.clone()) else { return Ok(Vec::new()) };
    if let Some(row) = turn.set.tasks.change(id) {
        row.due_at = None;
    }
    if let Some(error) = &fan.error {
        return end_family(turn, &task, node, error);
    }
    if let Layer::Map(_) = layer {
        if fan.is_complete() && fan.is_over() {
            return gather(turn, &task, &fan);
        }
        let (mut ready, mut ended) = (Vec::new(), VecDeque::new());
        begin_items(turn, id, &mut ready, &mut ended)?;
        while let Some(over) = ended.pop_front() {
            let over = turn.task(over.task())?.clone();
            go_on(turn, &over, &mut ready, &mut ended)?;
        }
        return Ok(ready);
    }
    if layer.is_scope() {
        return scope::decide(turn, &task, layer, &fan);
    }
    if !fan.is_over() {
        return Ok(Vec::new());
    }
    match verdict(turn, &definition, node, &task, layer) {
        Ok(Verdict::Over(item)) => {
            let output = turn.set.item_result(id, item).cloned();
            let output = output.ok_or_else(|| Refusal::Unloaded(format!("the output of item {item} of {id}")))?;
            succeed(turn, &task, Some(output))
        }
        Ok(Verdict::Again) => {
            let mut ready = Vec::new();
            next_round(turn, id, &mut ready)?;
            Ok(ready)
        }
        Ok(Verdict::Unknown) => Err(Refusal::Unloaded(format!("what decides about task {id}"))),
        Err(error) => {
            fail(turn, id, error)?;
            go_on_without(turn, id)
        }
    }
}

/// All items are over: the map hands on the list of what they handed on, which is read where it is needed.
fn gather(turn: &mut Turn<'_>, task: &Task, fan: &Fan) -> Result<Vec<TaskId>, Refusal> {
    if fan.bytes > MAX_GATHERED_BYTES {
        let message = format!(
            "the items hand on {} bytes together, and a list has at most {MAX_GATHERED_BYTES}: hand on less, or references",
            fan.bytes
        );
        fail(turn, task.id, StepError::new(ErrorClass::Permanent, "output_too_large", message))?;
        return go_on_without(turn, task.id);
    }
    succeed(turn, task, None)
}

/// The parent is over, with the output of one of its children, or with the list of all.
pub(super) fn succeed(turn: &mut Turn<'_>, task: &Task, output: Option<Value>) -> Result<Vec<TaskId>, Refusal> {
    let now = turn.now;
    let own = output.as_ref().map(|output| i64::try_from(output.to_string().len()).unwrap_or(i64::MAX));
    let bytes = own.or_else(|| task.fan.as_ref().map(|fan| fan.bytes)).unwrap_or_default();
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.state = TaskState::Succeeded;
        row.wait = None;
        row.status_reason = None;
        row.error = None;
        row.due_at = None;
        row.ended_at = Some(now);
        row.output = output;
    }
    let data = json!({"duration_ms": task.ready_at.map(|since| now.since_ms(since)), "credits": Ucr::ZERO.to_string()});
    turn.emit(task.mission_id, "task.succeeded", Some(task.id), data);
    advance::count_done(turn, task.id)?;
    release_dependents(turn, task.id, bytes)
}

/// Skips one of many that has not begun, for another one failed. One of a scope is not decided by that: a retry of the
/// run renews it.
fn skip_unbegun(turn: &mut Turn<'_>, task: &Task) -> Result<(), Refusal> {
    let reason = if task.layer > 0 { "skipped: another item failed" } else { "skipped: another node failed" };
    if let Some(row) = turn.set.tasks.change(task.id).filter(|row| row.layer == 0) {
        row.error = Some(StepError::new(ErrorClass::Cancelled, RUN_ENDED, "another node failed before it could start"));
    }
    skip(turn, task.id, reason, None)
}

/// The parent is to fail as soon as none of its children is under way. Where its run fails with it, that ends them;
/// otherwise what has not begun is skipped, what nobody works on is ended, and what runs may finish.
fn end_family(turn: &mut Turn<'_>, task: &Task, node: &Node, error: &StepError) -> Result<Vec<TaskId>, Refusal> {
    let fails_run = task.ancestors.is_none() && node.on_error == OnError::Fail;
    let fan = task.fan.clone().unwrap_or_default();
    if fan.is_over() {
        fail(turn, task.id, error.clone())?;
        return go_on_without(turn, task.id);
    }
    if fails_run {
        // the end of the run ends the children, and then their parent
        fail_run(turn, task.run_id, &task.node, error)?;
        return Ok(Vec::new());
    }
    if !turn.set.idle_of.contains(&task.id) {
        // it failed since somebody looked what this takes: whoever looks next ends them
        let now = turn.now;
        if let Some(row) = turn.set.tasks.change(task.id) {
            row.due_at = Some(now);
        }
        return Ok(Vec::new());
    }
    let idle: Vec<Task> = turn.set.items_of(task.id).cloned().collect();
    let run = turn.run(task.run_id)?.state;
    let mut ended: usize = 0;
    for item in idle {
        match item.state {
            TaskState::Pending => skip_unbegun(turn, &item)?,
            TaskState::Waiting if item.fan.is_some() => {
                let now = turn.now;
                let Some(row) = turn.set.tasks.change(item.id) else { continue };
                let Some(fan) = row.fan.as_mut().filter(|fan| fan.error.is_none()) else { continue };
                fan.error = Some(StepError::new(ErrorClass::Cancelled, "item_ended", "ended: another item failed"));
                row.due_at = Some(now);
            }
            TaskState::Ready | TaskState::Retrying | TaskState::Waiting => end_idle(turn, item.id, run)?,
            _ => continue,
        }
        ended = ended.saturating_add(1);
    }
    let now = turn.now;
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.status_reason = Some(format!("ends its items: {}", error.message));
        // there may be more than were loaded
        row.due_at = (ended > 0).then_some(now);
    }
    Ok(Vec::new())
}
