//! All needs of a task are done: whether it begins, and what follows when it does not.
//!
//! A condition decides over the mission's input and what nodes handed on. A task whose condition does not hold is
//! skipped: its dependents go on as if it had succeeded with null, perhaps to be skipped themselves. That goes on, in
//! one decision, for as far as the rows were loaded; beyond, a task waits to be decided by itself.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map, Value, json};

use crate::id::TaskId;
use crate::outcome::{ErrorClass, StepError};
use crate::record::Task;
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::condition;
use crate::workflow::template::TemplateError;
use crate::workflow::{Definition, Node, Opening};

use super::advance::{fail, park, skip};
use super::deadline::start_clock;
use super::pause::park_paused;
use super::{Refusal, Turn, fallback, family, node_of};

/// A task that is over and whose dependents count down, with the length of what it hands on.
pub(super) struct Ended {
    id: TaskId,
    output_bytes: i64,
}

/// Lets tasks begin whose needs are done. Returns those that are ready now.
pub(super) fn begin_all(turn: &mut Turn<'_>, ids: &[TaskId]) -> Result<Vec<TaskId>, Refusal> {
    let mut ready = Vec::new();
    let mut ended = VecDeque::new();
    for id in ids {
        let run = turn.task(*id)?.run_id;
        start_clock(turn, *id)?;
        match turn.run(run)?.state {
            RunState::Paused => park_paused(turn, *id)?,
            state if state.is_live() => ended.extend(begin(turn, *id, &mut ready)?),
            // what came before may have failed the run; the others are skipped with it
            _ => {}
        }
    }
    follow(turn, ended, ready)
}

/// Counts a finished task's dependents down; those with nothing left to wait for begin. Returns those that are ready.
pub(super) fn release_dependents(turn: &mut Turn<'_>, id: TaskId, output_bytes: i64) -> Result<Vec<TaskId>, Refusal> {
    follow(turn, VecDeque::from([Ended { id, output_bytes }]), Vec::new())
}

impl Ended {
    /// A task that hands on nothing.
    pub(super) fn with_nothing(id: TaskId) -> Self {
        Self { id, output_bytes: 0 }
    }

    /// The task.
    pub(super) fn task(&self) -> TaskId {
        self.id
    }
}

fn follow(turn: &mut Turn<'_>, mut ended: VecDeque<Ended>, mut ready: Vec<TaskId>) -> Result<Vec<TaskId>, Refusal> {
    while let Some(Ended { id, output_bytes }) = ended.pop_front() {
        let task = turn.task(id)?.clone();
        if task.layer > 0 {
            family::go_on(turn, &task, &mut ready, &mut ended)?;
            continue;
        }
        let definition = turn.definition(task.workflow_id)?;
        let node = node_of(&definition, &task)?;
        for dependent in &node.dependents {
            let next = dependent_of(turn, &task, *dependent)?;
            if next.state.is_final() {
                // it stood by for a node that did not fail
                continue;
            }
            let next = next.id;
            let Some(row) = turn.set.tasks.change(next) else { continue };
            row.remaining_needs = row.remaining_needs.saturating_sub(1);
            row.input_bytes = row.input_bytes.saturating_add(output_bytes);
            let is_needless = node.fallback == Some(*dependent) && task.stand_in_id.is_none();
            if is_needless && row.state == TaskState::Pending && turn.run(task.run_id)?.state.is_open() {
                ended.extend(fallback::dismiss(turn, next)?);
                continue;
            }
            let Some(row) = turn.set.tasks.get(next) else { continue };
            let is_next = row.remaining_needs == 0 && row.state == TaskState::Pending;
            if is_next {
                start_clock(turn, next)?;
            }
            match turn.run(task.run_id)?.state {
                RunState::Paused if is_next => park_paused(turn, next)?,
                state if is_next && state.is_live() => ended.extend(begin(turn, next, &mut ready)?),
                // an earlier dependent may have failed the run for want of budget; the others are skipped with it
                _ => {}
            }
        }
    }
    Ok(ready)
}

pub(super) fn dependent_of<'t>(turn: &'t Turn<'_>, task: &Task, index: u32) -> Result<&'t Task, Refusal> {
    let number = task.neighbour(index);
    let next = turn.set.task_of(task.run_id, number);
    next.ok_or_else(|| Refusal::Unloaded(format!("task {number} of run {}", task.run_id)))
}

/// Begins one task, or ends it at once.
fn begin(turn: &mut Turn<'_>, id: TaskId, ready: &mut Vec<TaskId>) -> Result<Option<Ended>, Refusal> {
    let task = turn.task(id)?.clone();
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, &task)?;
    if task.layer > 0 {
        // its node's condition was decided before its family was made
        return family::start(turn, id, ready);
    }
    if node.may_end_at_once() && !fallback::is_all_loaded(turn, &definition, &task) {
        put_off(turn, id);
        return Ok(None);
    }
    if fallback::is_needless(turn, node, &task) {
        return fallback::dismiss(turn, id);
    }
    match decide(turn, &definition, node, &task) {
        Gate::Unknown => put_off(turn, id),
        Gate::Broken(error) => {
            fail(turn, id, error)?;
            return Ok(ended(turn, id));
        }
        Gate::Shut => {
            skip(turn, id, "skipped: its condition does not hold", Some(Value::Null))?;
            return Ok(Some(Ended::with_nothing(id)));
        }
        Gate::Open => return family::start(turn, id, ready),
    }
    Ok(None)
}

/// A task that failed without its run, or whose signal came before it.
pub(super) fn ended(turn: &Turn<'_>, id: TaskId) -> Option<Ended> {
    let is_over = |state: TaskState| matches!(state, TaskState::Failed | TaskState::Succeeded);
    let task = turn.set.tasks.get(id).filter(|task| is_over(task.state))?;
    // whether the others go on is their parent's to decide
    let no_output = (task.layer > 0).then_some(0);
    let length = |output: &Value| i64::try_from(output.to_string().len()).unwrap_or(i64::MAX);
    let output_bytes = task.output.as_ref().map(length);
    let of_failure = task.stand_in_id.and(task.error.as_ref()).map(|error| length(&error.as_output()));
    Some(Ended { id, output_bytes: output_bytes.or(of_failure).or(no_output)? })
}

/// After a decision that may have ended a task: where its run goes on, so do its dependents. Returns those that are
/// ready.
pub(super) fn go_on(turn: &mut Turn<'_>, id: TaskId) -> Result<Vec<TaskId>, Refusal> {
    match ended(turn, id) {
        Some(Ended { id, output_bytes }) => release_dependents(turn, id, output_bytes),
        None => Ok(Vec::new()),
    }
}

/// What it takes to decide was not loaded: the sweep decides, with this task alone in view.
pub(super) fn put_off(turn: &mut Turn<'_>, id: TaskId) {
    park(turn, id, WaitCause::Condition, Some(0), "whether it begins is about to be decided");
}

/// Whether a task may begin.
#[derive(Debug, PartialEq)]
enum Gate {
    Open,
    Shut,
    Broken(StepError),
    /// Something that the condition reads was not loaded.
    Unknown,
}

fn decide(turn: &Turn<'_>, definition: &Definition, node: &Node, task: &Task) -> Gate {
    match (&node.when, view(turn, definition, node, task)) {
        (_, None) => Gate::Unknown,
        (None, Some(_)) => Gate::Open,
        (Some(condition), Some(view)) => judge(condition, &view),
    }
}

/// What decides whether and how a task begins: `inputs` and `nodes`, as far as it mentions them. `None` where something
/// of it was not loaded.
pub(super) fn view(turn: &Turn<'_>, definition: &Definition, node: &Node, task: &Task) -> Option<Value> {
    if node.opening.signals && !turn.set.signals_of.contains(&task.mission_id) {
        return None;
    }
    let input = if node.opening.input { turn.set.input_of(task.mission_id)? } else { &Value::Null };
    let output_of = |index: u32| turn.set.result_of(task.run_id, task.neighbour(index));
    Some(json!({"inputs": input, "nodes": context(definition, &node.opening, output_of)?}))
}

/// `nodes` as the condition sees it. `None` where a result is not known.
pub(super) fn context<'o>(
    definition: &Definition,
    opening: &Opening,
    output_of: impl Fn(u32) -> Option<&'o Value>,
) -> Option<Value> {
    let seen = |index: &u32| {
        let output = output_of(*index)?;
        Some((definition.node(*index)?.key.clone(), json!({"output": output})))
    };
    opening.nodes.iter().map(seen).collect::<Option<Map<_, _>>>().map(Value::Object)
}

fn judge(condition: &str, view: &Value) -> Gate {
    match condition::holds(condition, view) {
        Ok(true) => Gate::Open,
        Ok(false) => Gate::Shut,
        Err(error) => Gate::Broken(broken("when", &error)),
    }
}

/// What a task fails with whose condition has no answer.
pub(super) fn broken(of: &str, error: &TemplateError) -> StepError {
    let advice = match error {
        TemplateError::Undefined { name, .. } => format!("; where it may be missing, write `{name}|default(false)`"),
        _ => String::new(),
    };
    let message = format!("the condition in `{of}` has no answer: {error}{advice}");
    StepError::new(ErrorClass::Permanent, "condition_failed", message)
}

/// The nodes that begin with the run: those that need nothing, and those whose needs are all skipped at once.
pub(super) fn first_nodes(definition: &Definition, input: &Value) -> BTreeSet<u32> {
    let mut skipped = BTreeSet::new();
    let mut first = BTreeSet::new();
    // nodes are numbered after everything they need
    for node in &definition.nodes {
        if node.stands_in_for.is_some_and(|origin| skipped.contains(&origin)) {
            skipped.insert(node.index);
            continue;
        }
        if !node.needs.iter().all(|need| skipped.contains(need)) {
            continue;
        }
        let output_of = |index: u32| skipped.contains(&index).then_some(&Value::Null);
        let gate = match (&node.when, context(definition, &node.opening, output_of)) {
            (None, _) => Gate::Open,
            (Some(condition), Some(nodes)) => judge(condition, &json!({"inputs": input, "nodes": nodes})),
            (Some(_), None) => Gate::Unknown,
        };
        match gate {
            Gate::Open => first.insert(node.index),
            Gate::Shut => skipped.insert(node.index),
            Gate::Broken(_) | Gate::Unknown => continue,
        };
    }
    first
}
