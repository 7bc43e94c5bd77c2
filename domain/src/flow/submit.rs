//! A mission begins: mission, run, tasks, the hold on the flat fee and the holds of the first ready tasks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::id::{MissionId, PriceBookId, ProjectId, RunId, TaskId, TenantId, WalletId, WorkflowId};
use crate::ledger::{self, HoldRequest, LedgerRefusal, Subject};
use crate::record::{HoldOwner, Mission, Run, Task};
use crate::state::{RunState, TaskState};
use crate::workflow::{Definition, Node, OnExhausted};

use super::advance::count_held_of_mission;
use super::dedupe::{self, Dedupe};
use super::estimate::{Basis, is_priced, template_bytes};
use super::family::kind_at;
use super::{Refusal, Turn, begin, queue};

/// What a submit needs, all ids included.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The new mission's id.
    pub mission_id: MissionId,
    /// The new run's id.
    pub run_id: RunId,
    /// Who submits.
    pub tenant_id: TenantId,
    /// Who pays.
    pub wallet_id: WalletId,
    /// The workflow version to run.
    pub workflow_id: WorkflowId,
    /// The prices to pin.
    pub price_book_id: PriceBookId,
    /// The workflow's input, already checked against its schema.
    pub input: Value,
    /// The client's own data.
    pub metadata: Option<Value>,
    /// The client's own words by which usage is reported.
    pub tags: Vec<String>,
    /// The client's idempotency key.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the body.
    pub request_hash: String,
    /// Higher goes first, −100 to 100.
    pub priority: i16,
    /// The most to spend; the workflow's own budget where `None`.
    pub budget_ucr: Option<Ucr>,
    /// What happens then; the workflow's own policy where `None`.
    pub on_exhausted: Option<OnExhausted>,
    /// What makes it the same wish as another one.
    pub dedupe: Option<Dedupe>,
    /// The project that it belongs to, which takes missions.
    pub project_id: Option<ProjectId>,
}

/// Makes the mission with everything that belongs to it. Returns the ids of tasks that are ready.
///
/// Refuses with [`LedgerRefusal::Insufficient`] (sum of what is needed) when the flat fee and the holds of the
/// first ready tasks do not fit, with [`Refusal::Duplicate`] when another mission has the dedupe key, and with
/// [`Refusal::QueueFull`] when the tenant has as many missions as it may have; nothing is created then.
pub fn submit(turn: &mut Turn<'_>, submission: &Submission) -> Result<Vec<TaskId>, Refusal> {
    dedupe::check(turn, submission)?;
    queue::check(turn, submission.tenant_id)?;
    let definition = turn.definition(submission.workflow_id)?;
    let prices = turn
        .facts
        .prices
        .get(&submission.price_book_id)
        .cloned()
        .ok_or_else(|| Refusal::Unloaded(format!("price book {}", submission.price_book_id)))?;
    let fee = definition.flat_fee.unwrap_or_else(|| prices.flat_fee(&definition.name));
    let input_bytes = i64::try_from(submission.input.to_string().len()).unwrap_or(i64::MAX);

    let basis = Basis {
        learned: &turn.facts.learned,
        prices: &prices,
        price_book_id: submission.price_book_id,
        tenant_id: submission.tenant_id,
        workflow: &definition.name,
    };
    let begins = begin::first_nodes(&definition, &submission.input);
    let mut sizes = BTreeMap::new();
    for node in &definition.nodes {
        // every node is priced here, so that a model without a price is refused before anything runs
        let size = basis.usual(node, template_bytes(node).saturating_add(input_bytes))?;
        for other in node.all_work() {
            basis.usual(other, template_bytes(other).saturating_add(input_bytes))?;
        }
        if begins.contains(&node.index) && is_priced(node) && !node.is_spread() {
            sizes.insert(node.index, size);
        }
    }
    check_room(turn, submission, &definition, fee, sizes.values().copied().sum())?;

    dedupe::take(turn, submission);
    add_mission_and_run(turn, submission, &definition, fee);
    let birth = Birth {
        tenant_id: submission.tenant_id,
        mission_id: submission.mission_id,
        run_id: submission.run_id,
        workflow_id: submission.workflow_id,
        priority: submission.priority,
    };
    turn.set.signals_of.insert(submission.mission_id);
    let mut first = Vec::new();
    for node in &definition.nodes {
        let id: TaskId = turn.id();
        let task = new_task(turn, &birth, node, id, input_bytes);
        turn.set.add_task(task);
        if node.needs.is_empty() {
            first.push(id);
        }
    }
    if fee.is_positive() {
        let run = turn.run(submission.run_id)?.clone();
        hold_fee(turn, &run, 1)?;
    }
    let total = definition.nodes.len();
    let data = json!({"workflow": definition.name, "tasks": total, "run_id": submission.run_id});
    turn.emit(submission.mission_id, "mission.created", None, data);
    begin::begin_all(turn, &first)
}

/// Refuses when the fee and the first holds do not fit into the wallet or the budget.
fn check_room(
    turn: &Turn<'_>,
    submission: &Submission,
    definition: &Definition,
    fee: Ucr,
    first_holds: Ucr,
) -> Result<(), Refusal> {
    let wallet_id = submission.wallet_id;
    let wallet = turn.set.wallets.get(wallet_id).ok_or(LedgerRefusal::UnknownWallet(wallet_id))?;
    let required = fee.saturating_add(first_holds);
    if !required.is_positive() {
        return Ok(());
    }
    ledger::check_room(turn.set, wallet_id, required, turn.now)?;
    let budgets = budget_of(submission, definition).into_iter().chain(wallet.mission_limit_ucr);
    match budgets.min() {
        Some(budget) if budget < required => Err(Refusal::OverBudget { of: "mission", budget, room: budget, required }),
        _ => Ok(()),
    }
}

fn budget_of(submission: &Submission, definition: &Definition) -> Option<Ucr> {
    submission.budget_ucr.or_else(|| definition.budget.as_ref().map(|budget| budget.credits))
}

fn add_mission_and_run(turn: &mut Turn<'_>, submission: &Submission, definition: &Definition, fee: Ucr) {
    let workflow_policy = definition.budget.as_ref().map(|budget| budget.on_exhausted);
    turn.set.missions.add(
        submission.mission_id,
        Mission {
            id: submission.mission_id,
            tenant_id: submission.tenant_id,
            wallet_id: submission.wallet_id,
            workflow_id: submission.workflow_id,
            run_id: submission.run_id,
            input: Some(submission.input.clone()),
            metadata: submission.metadata.clone(),
            idempotency_key: submission.idempotency_key.clone(),
            request_hash: submission.request_hash.clone(),
            priority: submission.priority,
            budget_ucr: budget_of(submission, definition),
            on_exhausted: submission.on_exhausted.or(workflow_policy).unwrap_or(OnExhausted::Pause),
            last_seq: 0,
            tasks_total: i64::try_from(definition.nodes.len()).unwrap_or(i64::MAX),
            tasks_done: 0,
            held_ucr: Ucr::ZERO,
            spent_ucr: Ucr::ZERO,
            created_at: turn.now,
            updated_at: turn.now,
            tags: Some(submission.tags.clone()).filter(|tags| !tags.is_empty()),
            project_id: submission.project_id,
            last_message: 0,
            last_said: 0,
        },
    );
    turn.set.runs.add(
        submission.run_id,
        Run {
            id: submission.run_id,
            tenant_id: submission.tenant_id,
            mission_id: submission.mission_id,
            workflow_id: submission.workflow_id,
            price_book_id: submission.price_book_id,
            number: 1,
            state: RunState::Queued,
            status_reason: Some("waiting for a worker to take its first task".to_owned()),
            error: None,
            fee_ucr: fee,
            fee_hold_id: None,
            deadline_at: definition.deadline_ms.map(|ms| turn.now.plus_ms(ms)),
            created_at: turn.now,
            started_at: None,
            ended_at: None,
            retries: 0,
            input: None,
            order_key: None,
            order_hash: None,
            fingerprint: None,
            pruned: 0,
            heard: 0,
        },
    );
}

/// Holds a run's flat fee, for the time with that number.
pub(super) fn hold_fee(turn: &mut Turn<'_>, run: &Run, number: i32) -> Result<(), Refusal> {
    let request = HoldRequest {
        id: turn.id(),
        op_id: turn.id(),
        wallet_id: turn.mission(run.mission_id)?.wallet_id,
        owner_kind: HoldOwner::Fee,
        owner_id: run.id.to_string(),
        number,
        amount: run.fee_ucr,
        subject: Subject { mission_id: Some(run.mission_id), task_id: None },
        expires_at: None,
    };
    let hold = ledger::hold(turn.set, &request, turn.now)?;
    if let Some(run) = turn.set.runs.change(run.id) {
        run.fee_hold_id = Some(hold);
    }
    count_held_of_mission(turn, run.mission_id, run.fee_ucr, Ucr::ZERO);
    Ok(())
}

/// What all tasks of a run have in common.
pub(super) struct Birth {
    pub(super) tenant_id: TenantId,
    pub(super) mission_id: MissionId,
    pub(super) run_id: RunId,
    pub(super) workflow_id: WorkflowId,
    pub(super) priority: i16,
}

/// A task that has not begun.
pub(super) fn new_task(turn: &Turn<'_>, birth: &Birth, node: &Node, id: TaskId, input_bytes: i64) -> Task {
    Task {
        id,
        tenant_id: birth.tenant_id,
        mission_id: birth.mission_id,
        run_id: birth.run_id,
        workflow_id: birth.workflow_id,
        node: node.key.clone(),
        node_index: i32::try_from(node.index).unwrap_or(i32::MAX),
        kind: kind_at(node, 0).to_owned(),
        pool: node.pool.clone(),
        priority: birth.priority.saturating_add(node.priority),
        state: TaskState::Pending,
        wait: None,
        status_reason: Some("waiting for the nodes it needs".to_owned()),
        remaining_needs: i32::try_from(node.needs.len()).unwrap_or(i32::MAX),
        input_bytes: template_bytes(node).saturating_add(input_bytes),
        attempt: 0,
        failures: 0,
        losses: 0,
        fence: 0,
        lease_token: None,
        lease_until: None,
        worker_id: None,
        ready_at: None,
        due_at: None,
        started_at: None,
        ended_at: None,
        priced: is_priced(node) && node.layers.is_empty(),
        hold_id: None,
        holds: 0,
        output: None,
        error: None,
        stand_in_id: None,
        cost_ucr: Ucr::ZERO,
        units_ucr: Ucr::ZERO,
        usage: None,
        created_at: turn.now,
        shown: None,
        decision: None,
        deadline_at: None,
        node_at: i32::try_from(node.index).unwrap_or(i32::MAX),
        base: 0,
        ancestors: None,
        parent_id: None,
        layer: 0,
        item: 0,
        bound: None,
        fan: None,
        concurrency_key: None,
        concurrency_max: None,
        held_since: None,
        heard: None,
    }
}
