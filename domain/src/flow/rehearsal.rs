//! What a retry or a fork would do, told beforehand: the very decision, made on a copy of the rows in which credits are
//! no obstacle. A preview shows what came of it, and the real decision is refused when that does not fit. So what is shown
//! and what then happens cannot differ but by what changed in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::credits::Ucr;
use crate::id::{Id, MissionId, RunId, WorkflowId};
use crate::ledger;
use crate::record::{Grant, GrantKind, Run, Task};
use crate::state::TaskState;
use crate::workflow::Definition;
use crate::working_set::WorkingSet;

use super::budget::mission_limit;
use super::forecast::{Forecast, ForecastRequest, NodeForecast, forecast};
use super::{Refusal, Turn, queue};

/// More than any run holds, and little enough to be added to what is there.
const PLENTY: Ucr = Ucr::new(i64::MAX / 8);

/// A node that would run, and what that would cost beyond what was charged for it already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedNode {
    /// The node's key.
    pub node: String,
    /// The kind of node.
    pub kind: String,
    /// Whether it begins at once. Others follow, where their conditions hold.
    pub begins: bool,
    /// What is held for it at once.
    pub hold: Ucr,
    /// What it costs at the least.
    pub low: Ucr,
    /// What it probably costs.
    pub expected: Ucr,
    /// What it costs at the most.
    pub high: Ucr,
}

/// What a retry or a fork does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The run that goes on, or the new one (whose id is another when it is really made).
    pub run_id: RunId,
    /// The flat fee, held at once and charged on success.
    pub fee: Ucr,
    /// The nodes that run, in the order of the workflow.
    pub nodes: Vec<PlannedNode>,
    /// How many tasks keep what came out of them.
    pub kept: i64,
    /// What is held at once: the fee and the holds of the nodes that begin, also of those that end in the same breath.
    pub hold_needed: Ucr,
}

/// A plan, and why it would be refused now, where it would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// What would happen.
    pub plan: Plan,
    /// Why it would not, for want of credits or room.
    pub refusal: Option<Refusal>,
}

/// Who asks for a retry or a fork: the client's idempotency key and the hash of what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The key.
    pub key: String,
    /// SHA-256 of the wish.
    pub hash: String,
}

/// What came of a retry or a fork.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It was done.
    Done(Plan),
    /// The same order was carried out before; nothing was changed.
    Repeated,
}

/// Whether the same order was carried out last.
pub(super) fn is_repeated(turn: &Turn<'_>, mission: MissionId, order: Option<&Order>) -> Result<bool, Refusal> {
    let run = turn.run(turn.mission(mission)?.run_id)?;
    let Some(order) = order.filter(|order| run.order_key.as_ref() == Some(&order.key)) else { return Ok(false) };
    if run.order_hash.as_ref() == Some(&order.hash) {
        return Ok(true);
    }
    Err(ledger::LedgerRefusal::KeyReused(order.key.clone()).into())
}

/// Acts on a copy in which credits are no obstacle, and tells what came of it.
pub(super) fn rehearse(
    turn: &mut Turn<'_>,
    mission: MissionId,
    act: impl FnOnce(&mut Turn<'_>) -> Result<RunId, Refusal>,
) -> Result<Plan, Refusal> {
    let mut copy = turn.set.clone();
    let gift = turn.id();
    make_rich(&mut copy, mission, gift, turn);
    let before: Vec<_> = copy.holds.iter().map(|hold| hold.id).collect();
    let mut trial = Turn { set: &mut copy, facts: turn.facts, now: turn.now, chance: &mut *turn.chance };
    let run = act(&mut trial)?;
    // one that is given back in the same breath must have been had, too
    let fresh = trial.set.holds.added().filter(|hold| !before.contains(&hold.id));
    let hold_needed = fresh.map(|hold| hold.amount_ucr).sum();
    plan(&trial, mission, run, hold_needed)
}

/// Gives the mission's wallet plenty and takes its limits away; limits of nodes stay, they belong to the workflow.
fn make_rich(copy: &mut WorkingSet, mission: MissionId, gift: Id<crate::id::GrantKind>, turn: &Turn<'_>) {
    let Some(mission) = copy.missions.change(mission) else { return };
    mission.budget_ucr = None;
    let Some(wallet) = copy.wallets.change(mission.wallet_id) else { return };
    wallet.frozen = false;
    wallet.debt_ucr = Ucr::ZERO;
    (wallet.day_limit_ucr, wallet.month_limit_ucr, wallet.mission_limit_ucr) = (None, None, None);
    (wallet.queue_from, wallet.queue_until) = (None, None);
    wallet.available_ucr = wallet.available_ucr.saturating_add(PLENTY);
    let (wallet_id, tenant_id) = (wallet.id, wallet.tenant_id);
    copy.add_grant(Grant {
        id: gift,
        wallet_id,
        tenant_id,
        kind: GrantKind::Adjust,
        priority: 100,
        amount_ucr: PLENTY,
        remaining_ucr: PLENTY,
        expires_at: None,
        expired: false,
        reason: None,
        created_at: turn.now,
        cost_basis_uusd: None,
    });
}

fn plan(trial: &Turn<'_>, mission: MissionId, run_id: RunId, hold_needed: Ucr) -> Result<Plan, Refusal> {
    let (run, row) = (trial.run(run_id)?, trial.mission(mission)?);
    let mut tasks: Vec<&Task> =
        trial.set.tasks.iter().filter(|task| task.run_id == run_id && !task.state.is_final()).collect();
    tasks.sort_by_key(|task| (task.node_index, task.id));
    let told = foretold(trial, run, &tasks)?;
    let planned = |task: &&Task| {
        // what stands for many costs what these do
        let told =
            told.get(&(task.workflow_id, task.base)).filter(|_| task.fan.as_ref().is_none_or(|fan| fan.made == 0));
        let told = told.and_then(|(definition, told)| {
            let node = definition.node(task.place().index)?;
            let layer = usize::try_from(task.layer).unwrap_or(usize::MAX);
            let is_one_item = layer == 1 && node.layers.len() == 1 && node.is_spread();
            let figures = if is_one_item { &told.each } else { &told.nodes };
            figures.get(usize::try_from(node.index).ok()?)
        });
        let beyond = |cost: fn(&NodeForecast) -> Ucr| told.map(cost).unwrap_or_default().minus_or_zero(task.cost_ucr);
        let hold = task.hold_id.and_then(|hold| trial.set.holds.get(hold));
        PlannedNode {
            node: task.node.clone(),
            kind: task.kind.clone(),
            begins: task.state != TaskState::Pending,
            hold: hold.map(|hold| hold.amount_ucr).unwrap_or_default(),
            low: beyond(|told| told.low),
            expected: beyond(|told| told.expected),
            high: beyond(|told| told.high),
        }
    };
    let nodes = tasks.iter().map(planned).collect();
    Ok(Plan { run_id, fee: run.fee_ucr, nodes, kept: row.tasks_done, hold_needed })
}

/// Definitions with what their nodes would cost.
type Foretold = BTreeMap<(WorkflowId, i32), (Arc<Definition>, Forecast)>;

/// What the nodes of the workflows would cost that these tasks are of, by these and the numbers of their first nodes.
fn foretold(trial: &Turn<'_>, run: &Run, tasks: &[&Task]) -> Result<Foretold, Refusal> {
    let prices = trial.prices(run.id)?;
    let mission = run.mission_id;
    let own = trial.set.input_of(mission, 0).ok_or_else(|| Refusal::Unloaded(format!("the input of {mission}")))?;
    let mut told = Foretold::new();
    for task in tasks {
        let of = (task.workflow_id, task.base);
        if told.contains_key(&of) {
            continue;
        }
        let definition = trial.definition(task.workflow_id)?;
        // what a workflow inside was given is not read for a preview
        let inside = trial.set.input_of(mission, task.base).unwrap_or(&Value::Null);
        let request = ForecastRequest {
            definition: &definition,
            prices: &prices,
            price_book_id: run.price_book_id,
            tenant_id: run.tenant_id,
            input: if task.base == 0 { own } else { inside },
        };
        let forecast = forecast(&trial.facts.learned, &request)?;
        told.insert(of, (definition, forecast));
    }
    Ok(told)
}

/// Refuses when so much can't be held for the mission at once, or when its tenant may not have another one under way.
pub(super) fn check_room(turn: &Turn<'_>, mission: MissionId, required: Ucr) -> Result<(), Refusal> {
    let row = turn.mission(mission)?;
    queue::check(turn, row.tenant_id)?;
    if !required.is_positive() {
        return Ok(());
    }
    ledger::check_room(turn.set, row.wallet_id, required, turn.now)?;
    let Some(budget) = mission_limit(turn, mission)? else { return Ok(()) };
    let room = budget.minus_or_zero(row.held_ucr.saturating_add(row.spent_ucr));
    if room < required {
        return Err(Refusal::OverBudget { of: "mission", budget, room, required });
    }
    Ok(())
}

/// A plan as a preview: with what stands against it now.
pub(super) fn preview(turn: &Turn<'_>, mission: MissionId, plan: Plan) -> Preview {
    let refusal = check_room(turn, mission, plan.hold_needed).err();
    Preview { plan, refusal }
}
