//! Scopes: workflows inside of a run, because of a `plan` or a `workflow`.
//!
//! The node's task waits without a slot, as any that stands for many. Its first child makes what the scope begins with: a
//! plan, or the input of another workflow. When that child is over, the tasks of the scope are made in one decision: they
//! are tasks of the same run and of another workflow version, numbered behind all that there are, and the node's task is
//! above them. When all of these are over, it hands on what that workflow hands back.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::id::{TaskId, WorkflowId};
use crate::limits::{MAX_GATHERED_BYTES, MAX_PRIORITY, MAX_TASKS_PER_RUN};
use crate::outcome::{ErrorClass, StepError};
use crate::record::{Fan, PlannedWorkflow, Scope, Task};
use crate::workflow::{Definition, Layer, Nested, ParentClose, Problem};

use super::advance::fail;
use super::begin::{begin_all, go_on};
use super::budget::check_budgets;
use super::estimate::{Basis, is_priced, template_bytes};
use super::family;
use super::submit::{Birth, Submission, new_task, submit};
use super::{Refusal, Turn};

/// What a scope is made of.
struct Inside {
    workflow_id: WorkflowId,
    definition: Arc<Definition>,
    /// What its nodes see as `inputs`; `None` is what its first child made: nothing that they could name.
    input: Value,
    /// Whether the version was made for this scope alone.
    is_planned: bool,
}

/// Decides about a task whose layer is a scope, none of whose children is under way. Returns the tasks that are ready now.
pub(super) fn decide(turn: &mut Turn<'_>, task: &Task, layer: &Layer, fan: &Fan) -> Result<Vec<TaskId>, Refusal> {
    if !fan.is_over() {
        return Ok(Vec::new());
    }
    if let Some(scope) = fan.scope {
        return close(turn, task, scope);
    }
    let made = turn.set.item_result(task.id, 0).cloned();
    let made = made.ok_or_else(|| Refusal::Unloaded(format!("what the first child of {} made", task.id)))?;
    let opened =
        match layer {
            Layer::Workflow(Nested { parent_close: ParentClose::Abandon, of: Some((id, inner)), .. }) => {
                return detach(turn, task, *id, inner, &made);
            }
            Layer::Workflow(nested) => inside_of(nested, made),
            Layer::Plan(plan) => {
                plan.form.assemble(&made).map_err(|problems| refused("plan_refused", &problems)).map(|definition| {
                    Inside { workflow_id: turn.id(), definition: Arc::new(definition), input: made, is_planned: true }
                })
            }
            Layer::Map(_) | Layer::Repeat(_) | Layer::Review(_) => return Ok(Vec::new()),
        };
    let opened = opened.and_then(|inside| has_place(turn, task, inside.definition.nodes.len()).map(|()| inside));
    let opened = match opened {
        Ok(inside) => too_dear(turn, task, &inside)?.map_or(Ok(inside), Err),
        Err(error) => Err(error),
    };
    match opened {
        Ok(inside) => open(turn, task, inside),
        Err(error) => {
            fail(turn, task.id, error)?;
            go_on(turn, task.id)
        }
    }
}

/// Why so many more tasks can't be made in the task's run.
pub(super) fn has_place(turn: &Turn<'_>, task: &Task, count: usize) -> Result<(), StepError> {
    let made = turn.set.missions.get(task.mission_id).map(|mission| mission.tasks_total).unwrap_or_default();
    if made.saturating_add(i64::try_from(count).unwrap_or(i64::MAX)) <= MAX_TASKS_PER_RUN {
        return Ok(());
    }
    let message = format!("the run has {made} tasks, and {count} more would be over {MAX_TASKS_PER_RUN}");
    Err(StepError::new(ErrorClass::Permanent, "too_many_tasks", message))
}

fn inside_of(nested: &Nested, input: Value) -> Result<Inside, StepError> {
    let Some((workflow_id, definition)) = nested.of.clone() else {
        let message = format!("there is no workflow `{}`, or not in this version", nested.name);
        return Err(StepError::new(ErrorClass::Permanent, "workflow_unknown", message));
    };
    definition.check_input(&input).map_err(|problems| refused("input_refused", &problems))?;
    Ok(Inside { workflow_id, definition, input, is_planned: false })
}

fn refused(code: &'static str, problems: &[Problem]) -> StepError {
    let told: Vec<String> =
        problems.iter().take(5).map(|problem| format!("{}: {}", problem.pointer, problem.message)).collect();
    let what =
        if code == "plan_refused" { "the plan can't be carried out" } else { "the workflow does not take its input" };
    StepError::new(ErrorClass::Permanent, code, format!("{what}: {}", told.join("; ")))
}

/// Why the steps of a plan are not even begun: what they are expected to cost is more than budgets leave.
fn too_dear(turn: &Turn<'_>, task: &Task, inside: &Inside) -> Result<Option<StepError>, Refusal> {
    if !inside.is_planned {
        return Ok(None);
    }
    let prices = turn.prices(task.run_id)?;
    let basis = Basis {
        learned: &turn.facts.learned,
        prices: &prices,
        price_book_id: turn.run(task.run_id)?.price_book_id,
        tenant_id: task.tenant_id,
        workflow: "",
    };
    let mut sum = crate::credits::Ucr::ZERO;
    for node in inside.definition.nodes.iter().filter(|node| is_priced(node)) {
        match basis.usual(node, template_bytes(node)) {
            Ok(size) => sum = sum.saturating_add(size),
            Err(error) => {
                let message = format!("step `{}` can't be priced: {error}", node.key);
                return Ok(Some(StepError::new(ErrorClass::Permanent, "unpriced", message)));
            }
        }
    }
    // the steps stand below the task: its own budget counts for them
    let above = [task.id].into_iter().chain(task.ancestors.clone().into_iter().flatten()).collect();
    let step = Task { ancestors: Some(above), parent_id: Some(task.id), ..task.clone() };
    match check_budgets(turn, &step, sum) {
        Err(refusal @ Refusal::OverBudget { .. }) => {
            let steps = inside.definition.nodes.len();
            let message = format!("the plan's {steps} steps are expected to need more than is left: {refusal}");
            Ok(Some(StepError::new(ErrorClass::Budget, "plan_over_budget", message)))
        }
        Err(other) => Err(other),
        Ok(()) => Ok(None),
    }
}

/// Makes the tasks of the scope and lets those begin that need nothing.
fn open(turn: &mut Turn<'_>, task: &Task, inside: Inside) -> Result<Vec<TaskId>, Refusal> {
    let mission = turn.set.missions.change(task.mission_id);
    let mission = mission.ok_or_else(|| Refusal::NotFound(format!("mission {}", task.mission_id)))?;
    let base = i32::try_from(mission.tasks_total).unwrap_or(i32::MAX);
    let count = inside.definition.nodes.len();
    mission.tasks_total = mission.tasks_total.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
    if inside.is_planned {
        turn.set.planned.push(PlannedWorkflow {
            id: inside.workflow_id,
            tenant_id: task.tenant_id,
            name: format!("{}/{}", inside.definition.name, task.id),
            version: 1,
            content_hash: inside.definition.content_hash(),
            definition: inside.definition.source.clone(),
            created_at: turn.now,
            planned_by: task.id,
        });
    }
    let input_bytes = i64::try_from(inside.input.to_string().len()).unwrap_or(i64::MAX);
    turn.set.definitions.insert(inside.workflow_id, inside.definition.clone());
    turn.set.inputs.insert((task.mission_id, base), inside.input);
    let scope = Scope { workflow_id: inside.workflow_id, base };
    let mut first = Vec::new();
    for node in &inside.definition.nodes {
        let id = add_node(turn, task, &inside.definition, scope, node.index, input_bytes)?;
        first.extend(node.needs.is_empty().then_some(id));
    }
    let total = i32::try_from(count).unwrap_or(i32::MAX).saturating_add(1);
    let what = if inside.is_planned { "its plan" } else { "its workflow" };
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.status_reason = Some(format!("waits for the {count} tasks of {what}"));
        if let Some(fan) = row.fan.as_mut() {
            // whether they began is nobody's to count: none of them waits for its turn
            (fan.total, fan.made, fan.begun) = (Some(total), total, total);
            fan.scope = Some(scope);
        }
    }
    turn.emit(task.mission_id, "task.spread", Some(task.id), json!({"items": count}));
    begin_all(turn, &first)
}

/// One task of a scope, pending.
fn add_node(
    turn: &mut Turn<'_>,
    above: &Task,
    definition: &Definition,
    scope: Scope,
    index: u32,
    input_bytes: i64,
) -> Result<TaskId, Refusal> {
    let node = definition.node(index).ok_or_else(|| Refusal::Unloaded(format!("node {index}")))?;
    let birth = Birth {
        tenant_id: above.tenant_id,
        mission_id: above.mission_id,
        run_id: above.run_id,
        workflow_id: scope.workflow_id,
        priority: above.priority,
    };
    let (id, at) = (turn.id(), i32::try_from(index).unwrap_or(i32::MAX));
    let task = new_task(turn, &birth, node, id, input_bytes);
    let most = i16::try_from(MAX_PRIORITY.saturating_mul(2)).unwrap_or(i16::MAX);
    turn.set.add_task(Task {
        node_index: scope.base.saturating_add(at),
        base: scope.base,
        priority: task.priority.clamp(most.saturating_neg(), most),
        deadline_at: above.deadline_at,
        ancestors: Some([above.id].into_iter().chain(above.ancestors.clone().into_iter().flatten()).collect()),
        parent_id: Some(above.id),
        // the first child has the number 0
        item: at.saturating_add(1),
        ..task
    });
    Ok(id)
}

/// All tasks of a scope are over: the node hands on what the workflow inside hands back.
fn close(turn: &mut Turn<'_>, task: &Task, scope: Scope) -> Result<Vec<TaskId>, Refusal> {
    let definition = turn.definition(scope.workflow_id)?;
    let mut outputs = Map::new();
    for (name, path) in &definition.outputs {
        let index = definition.node_by_key(path.nodes()).map(|node| node.index).unwrap_or_default();
        let number = scope.base.saturating_add(i32::try_from(index).unwrap_or(i32::MAX));
        let handed_on = turn.set.result_of(task.run_id, number);
        let handed_on = handed_on.ok_or_else(|| Refusal::Unloaded(format!("the result of task {number}")))?;
        outputs.insert(name.clone(), path.resolve(handed_on));
    }
    let output = Value::Object(outputs);
    let bytes = output.to_string().len();
    if i64::try_from(bytes).unwrap_or(i64::MAX) > MAX_GATHERED_BYTES {
        let message =
            format!("its outputs have {bytes} bytes together, and may have {MAX_GATHERED_BYTES}: hand on less");
        fail(turn, task.id, StepError::new(ErrorClass::Permanent, "output_too_large", message))?;
        return go_on(turn, task.id);
    }
    family::succeed(turn, task, Some(output))
}

/// Submits the workflow as a mission of its own, for the same wallet; the node hands on its id. A refusal fails the node.
fn detach(
    turn: &mut Turn<'_>,
    task: &Task,
    workflow_id: WorkflowId,
    inner: &Arc<Definition>,
    input: &Value,
) -> Result<Vec<TaskId>, Refusal> {
    if let Err(problems) = inner.check_input(input) {
        fail(turn, task.id, refused("input_refused", &problems))?;
        return go_on(turn, task.id);
    }
    let (mission, run) = (turn.mission(task.mission_id)?.clone(), turn.run(task.run_id)?.clone());
    let definition = turn.definition(task.workflow_id)?;
    let budget = super::node_of(&definition, task)?.budget;
    turn.set.definitions.insert(workflow_id, inner.clone());
    let submission = Submission {
        mission_id: turn.id(),
        run_id: turn.id(),
        tenant_id: task.tenant_id,
        wallet_id: mission.wallet_id,
        workflow_id,
        price_book_id: run.price_book_id,
        input: input.clone(),
        metadata: Some(json!({"submitted_by": {"mission_id": mission.id, "task_id": task.id}})),
        tags: Vec::new(),
        idempotency_key: None,
        request_hash: task.id.to_string(),
        priority: mission.priority,
        budget_ucr: budget.map(|budget| budget.credits),
        on_exhausted: budget.map(|budget| budget.on_exhausted),
        dedupe: None,
        project_id: mission.project_id,
    };
    match submit(turn, &submission) {
        Ok(mut ready) => {
            let output = json!({"mission_id": submission.mission_id, "run_id": submission.run_id});
            ready.extend(family::succeed(turn, task, Some(output))?);
            Ok(ready)
        }
        Err(refusal @ (Refusal::Ledger(_) | Refusal::OverBudget { .. } | Refusal::Pricing(_))) => {
            let message = format!("the workflow can't be submitted: {refusal}");
            fail(turn, task.id, StepError::new(ErrorClass::Budget, "submit_refused", message))?;
            go_on(turn, task.id)
        }
        Err(other) => Err(other),
    }
}
