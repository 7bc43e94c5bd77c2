//! A new run of a mission that is over, from some node on: what does not depend on that node keeps what came out of it,
//! at no cost, and the rest runs anew. The mission shows its new run from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::id::{MessageId, MissionId, PriceBookId, RunId, TaskId, WorkflowId};
use crate::record::{Mission, PRUNED_MISSION, PRUNED_OUTPUTS, Run, Task};
use crate::state::{RunState, TaskState};
use crate::workflow::{Definition, Node};

use super::begin::begin_all;
use super::estimate::{Basis, template_bytes};
use super::rehearsal::{self, Order, Ordered, Preview, check_room, is_repeated, rehearse};
use super::retry::has_passed;
use super::submit::{Birth, hold_fee, new_task};
use super::{Refusal, Turn, fallback, node_of};

/// What a fork needs, the new run's id included.
#[derive(Debug, Clone)]
pub struct ForkRequest {
    /// The mission.
    pub mission_id: MissionId,
    /// Its latest run, whose tasks and results are loaded.
    pub of_run: RunId,
    /// The new run's id.
    pub run_id: RunId,
    /// What runs anew.
    pub from: RunFrom,
    /// The workflow version to run.
    pub workflow_id: WorkflowId,
    /// The prices to pin.
    pub price_book_id: PriceBookId,
    /// The new run's input, where it is not what the mission was submitted with.
    pub input: Option<Value>,
}

/// From where on a new run runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunFrom {
    /// From this node on; what does not depend on it keeps what came out of it.
    Node(String),
    /// From the start, because of this message.
    Message(MessageId),
}

/// Makes a new run out of the latest one. All tasks of that run must be loaded, with their results and the mission's input.
///
/// Refuses a run that is not over, a node that the workflow does not have, and a run whose first holds do not fit;
/// nothing is changed then.
pub fn fork(turn: &mut Turn<'_>, request: &ForkRequest, order: Option<&Order>) -> Result<Ordered, Refusal> {
    let mission = request.mission_id;
    if is_repeated(turn, mission, order)? {
        return Ok(Ordered::Repeated);
    }
    let plan = rehearse(turn, mission, |trial| begin_run(trial, request, order))?;
    check_room(turn, mission, plan.hold_needed)?;
    begin_run(turn, request, order)?;
    Ok(Ordered::Done(plan))
}

/// What [`fork`] would do. Changes nothing.
pub fn preview_fork(turn: &mut Turn<'_>, request: &ForkRequest) -> Result<Preview, Refusal> {
    let plan = rehearse(turn, request.mission_id, |trial| begin_run(trial, request, None))?;
    Ok(rehearsal::preview(turn, request.mission_id, plan))
}

/// What is kept of a node, with what it handed on.
struct Kept {
    task: Task,
    output: Value,
}

/// Makes the run and lets it begin.
pub(super) fn begin_run(turn: &mut Turn<'_>, request: &ForkRequest, order: Option<&Order>) -> Result<RunId, Refusal> {
    let mission = turn.mission(request.mission_id)?.clone();
    let old = turn.run(mission.run_id)?.clone();
    let (wish, gone) = match &request.from {
        RunFrom::Node(_) => ("forked", PRUNED_OUTPUTS),
        RunFrom::Message(_) => ("continued", PRUNED_MISSION),
    };
    if !old.state.is_final() {
        return Err(Refusal::IllegalMove { what: "mission", state: old.state.as_str(), wish });
    }
    if old.pruned >= gone {
        return Err(Refusal::IllegalMove { what: "mission", state: "pruned", wish });
    }
    if old.id != request.of_run {
        return Err(Refusal::Unloaded(format!("run {}", old.id)));
    }
    let definition = turn.definition(request.workflow_id)?;
    if let RunFrom::Node(node) = &request.from
        && definition.node_by_key(node).is_none()
    {
        return Err(Refusal::NotFound(format!("node {node}")));
    }
    if let Some(input) = &request.input {
        turn.set.inputs.insert((mission.id, 0), input.clone());
    }
    let input = turn.set.input_of(mission.id, 0);
    let input = input.ok_or_else(|| Refusal::Unloaded(format!("the input of {}", mission.id)))?;
    let input_bytes = i64::try_from(input.to_string().len()).unwrap_or(i64::MAX);
    let kept = match &request.from {
        RunFrom::Node(node) => keep(turn, &definition, &old, node)?,
        RunFrom::Message(_) => BTreeMap::new(),
    };
    check_prices(turn, &definition, request, &mission, &kept, input_bytes)?;
    let run = add_run(turn, &definition, request, &old, order)?;
    let first = add_tasks(turn, &definition, &run, &old, kept, input_bytes);
    tell(turn, request, &run, &old);
    begin_all(turn, &first)?;
    Ok(run.id)
}

/// The nodes that keep what came out of them: those that let their dependents go on, need nothing that runs anew, and
/// are not the one from which on everything does.
fn keep(turn: &Turn<'_>, definition: &Definition, old: &Run, from_node: &str) -> Result<BTreeMap<u32, Kept>, Refusal> {
    let before = turn.definition(old.workflow_id)?;
    let mut passed: BTreeMap<&str, &Task> = BTreeMap::new();
    // what was made of nodes stays behind: their own tasks have what came out of it
    let own = |task: &&Task| task.run_id == old.id && task.ancestors.is_none();
    for task in turn.set.tasks.iter().filter(own) {
        let node = node_of(&before, task)?;
        // what stands in for another one than it did can't be asked to
        let is_settled = task.state != TaskState::Failed || fallback::is_same(&before, definition, node);
        if is_settled && has_passed(turn, node, task)? {
            passed.insert(&task.node, task);
        }
    }
    let mut kept: BTreeMap<u32, Kept> = BTreeMap::new();
    // nodes are numbered after everything they need
    for node in &definition.nodes {
        let task = passed.get(node.key.as_str()).filter(|_| node.key != from_node);
        let Some(task) = task.filter(|_| node.needs.iter().all(|need| kept.contains_key(need))) else { continue };
        let output = turn.set.result_of(old.id, task.node_index);
        let output = output.ok_or_else(|| Refusal::Unloaded(format!("the result of {}", task.id)))?.clone();
        kept.insert(node.index, Kept { task: (*task).clone(), output });
    }
    Ok(kept)
}

/// Every node that runs is priced here, so that a model without a price is refused before anything runs.
fn check_prices(
    turn: &Turn<'_>,
    definition: &Definition,
    request: &ForkRequest,
    mission: &Mission,
    kept: &BTreeMap<u32, Kept>,
    input_bytes: i64,
) -> Result<(), Refusal> {
    let prices = turn.facts.prices.get(&request.price_book_id);
    let prices = prices.ok_or_else(|| Refusal::Unloaded(format!("price book {}", request.price_book_id)))?;
    let basis = Basis {
        learned: &turn.facts.learned,
        prices,
        price_book_id: request.price_book_id,
        tenant_id: mission.tenant_id,
        workflow: &definition.name,
    };
    let runs = definition.nodes.iter().filter(|node| !kept.contains_key(&node.index));
    for node in runs.flat_map(Node::all_work) {
        basis.usual(node, template_bytes(node).saturating_add(input_bytes))?;
    }
    Ok(())
}

/// The new run with the hold on its fee; the mission shows it from now on.
fn add_run(
    turn: &mut Turn<'_>,
    definition: &Definition,
    request: &ForkRequest,
    old: &Run,
    order: Option<&Order>,
) -> Result<Run, Refusal> {
    let prices = turn.facts.prices.get(&request.price_book_id);
    let default_fee = prices.map(|prices| prices.flat_fee(&definition.name)).unwrap_or_default();
    let now = turn.now;
    let run = Run {
        id: request.run_id,
        workflow_id: request.workflow_id,
        price_book_id: request.price_book_id,
        number: old.number.saturating_add(1),
        state: RunState::Queued,
        status_reason: Some("waiting for a worker to take its first task".to_owned()),
        error: None,
        fee_ucr: definition.flat_fee.unwrap_or(default_fee),
        fee_hold_id: None,
        deadline_at: definition.deadline_ms.map(|ms| now.plus_ms(ms)),
        created_at: now,
        started_at: None,
        ended_at: None,
        retries: 0,
        input: request.input.clone(),
        order_key: order.map(|order| order.key.clone()),
        order_hash: order.map(|order| order.hash.clone()),
        fingerprint: None,
        pruned: 0,
        heard: turn.mission(request.mission_id)?.last_message,
        ..old.clone()
    };
    turn.set.runs.add(run.id, run.clone());
    if let Some(mission) = turn.set.missions.change(run.mission_id) {
        mission.run_id = run.id;
        mission.workflow_id = run.workflow_id;
        mission.tasks_total = i64::try_from(definition.nodes.len()).unwrap_or(i64::MAX);
        mission.tasks_done = 0;
    }
    if run.fee_ucr.is_positive() {
        hold_fee(turn, &run, 1)?;
    }
    Ok(run)
}

/// The new run's tasks; those that are kept are over from the start. Returns those that may begin.
fn add_tasks(
    turn: &mut Turn<'_>,
    definition: &Definition,
    run: &Run,
    old: &Run,
    mut kept: BTreeMap<u32, Kept>,
    input_bytes: i64,
) -> Vec<TaskId> {
    let birth = Birth {
        tenant_id: run.tenant_id,
        mission_id: run.mission_id,
        run_id: run.id,
        workflow_id: run.workflow_id,
        priority: turn.set.missions.get(run.mission_id).map(|mission| mission.priority).unwrap_or_default(),
    };
    let sizes: BTreeMap<u32, i64> = kept.iter().map(|(index, kept)| (*index, length(&kept.output))).collect();
    let (mut first, mut done) = (Vec::new(), 0_i64);
    for node in &definition.nodes {
        let id: TaskId = turn.id();
        let given: i64 =
            node.needs.iter().filter_map(|need| sizes.get(need)).fold(0, |sum, size| sum.saturating_add(*size));
        let mut task = new_task(turn, &birth, node, id, input_bytes.saturating_add(given));
        task.remaining_needs = open_needs(node, &sizes);
        if let Some(kept) = kept.remove(&node.index) {
            done = done.saturating_add(1);
            finish(&mut task, kept, old.number);
        } else if task.remaining_needs == 0 {
            first.push(id);
        }
        turn.set.add_task(task);
    }
    fallback::appoint(turn, definition, run.id);
    if let Some(mission) = turn.set.missions.change(run.mission_id) {
        mission.tasks_done = done;
    }
    first
}

/// Tells of the new run, before anything of it begins.
fn tell(turn: &mut Turn<'_>, request: &ForkRequest, run: &Run, old: &Run) {
    let of_run = |task: &&Task| task.run_id == run.id;
    let kept: BTreeSet<&str> = turn
        .set
        .tasks
        .iter()
        .filter(of_run)
        .filter(|task| task.state.is_final())
        .map(|task| task.node.as_str())
        .collect();
    let (tasks, number) = (turn.set.tasks.iter().filter(of_run).count(), run.number);
    let (kind, data) = match &request.from {
        RunFrom::Node(_) => {
            let data = json!({"run_id": run.id, "number": number, "of_run_id": old.id, "tasks": tasks, "kept": kept});
            ("mission.forked", data)
        }
        RunFrom::Message(message) => {
            let data = json!({
                "run_id": run.id, "number": number, "of_run_id": old.id, "tasks": tasks, "message_id": message,
            });
            ("mission.continued", data)
        }
    };
    turn.emit(run.mission_id, kind, None, data);
}

fn open_needs(node: &Node, kept: &BTreeMap<u32, i64>) -> i32 {
    let open = node.needs.iter().filter(|need| !kept.contains_key(need)).count();
    i32::try_from(open).unwrap_or(i32::MAX)
}

fn length(output: &Value) -> i64 {
    i64::try_from(output.to_string().len()).unwrap_or(i64::MAX)
}

/// A task that is over before it began: it has what came out of the old one, and nothing of what that cost.
fn finish(task: &mut Task, Kept { task: old, output }: Kept, number: i32) {
    task.state = old.state;
    task.status_reason = Some(format!("kept from run {number}"));
    task.started_at = old.started_at;
    task.ended_at = old.ended_at;
    task.error = old.error;
    task.output = Some(output);
    task.cost_ucr = Ucr::ZERO;
}
