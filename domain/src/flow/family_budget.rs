//! A node's budget when the node is many tasks: its own task counts what all of them hold and were charged together.

use crate::credits::Ucr;
use crate::id::TaskId;
use crate::record::Task;
use crate::workflow::Budget;

use super::{Refusal, Turn, node_of};

/// The ancestors whose node has a budget for all of its tasks together.
fn budgeted(turn: &Turn<'_>, task: &Task) -> Result<Vec<(TaskId, Ucr)>, Refusal> {
    Ok(limited(turn, task)?.into_iter().map(|(id, budget)| (id, budget.credits)).collect())
}

/// The budgets of the nodes that the task is part of, the nearest first.
pub(super) fn budgets_above(turn: &Turn<'_>, task: &Task) -> Result<Vec<Budget>, Refusal> {
    Ok(limited(turn, task)?.into_iter().map(|(_, budget)| budget).collect())
}

fn limited(turn: &Turn<'_>, task: &Task) -> Result<Vec<(TaskId, Budget)>, Refusal> {
    let mut found = Vec::new();
    for id in task.ancestors.iter().flatten() {
        let above = turn.task(*id)?;
        if above.layer > 0 {
            continue;
        }
        let definition = turn.definition(above.workflow_id)?;
        found.extend(node_of(&definition, above)?.budget.map(|budget| (*id, budget)));
    }
    Ok(found)
}

/// Refuses when `amount` more does not fit into what the budget of a node leaves for all of its tasks together.
pub(super) fn check_budgets(turn: &Turn<'_>, task: &Task, amount: Ucr) -> Result<(), Refusal> {
    for (id, budget) in budgeted(turn, task)? {
        let fan = turn.task(id)?.fan.clone().unwrap_or_default();
        let room = budget.minus_or_zero(fan.held_ucr.saturating_add(fan.spent_ucr));
        if room < amount {
            return Err(Refusal::OverBudget { of: "node", budget, room, required: amount });
        }
    }
    Ok(())
}

/// What the budget of a node leaves that its tasks were not charged yet, where that is less than `size`: whatever they
/// give back, it will not suffice.
pub(super) fn never_fits(turn: &Turn<'_>, task: &Task, size: Ucr) -> Result<Option<Ucr>, Refusal> {
    for (id, budget) in budgeted(turn, task)? {
        let spent = turn.task(id)?.fan.as_ref().map(|fan| fan.spent_ucr).unwrap_or_default();
        let rest = budget.minus_or_zero(spent);
        if rest < size {
            return Ok(Some(rest));
        }
    }
    Ok(None)
}

/// Moves the counters of what the tasks of a node with a budget hold together.
pub(super) fn count_held(turn: &mut Turn<'_>, task: &Task, more: Ucr, less: Ucr) {
    for (id, _) in budgeted(turn, task).unwrap_or_default() {
        if let Some(fan) = turn.set.tasks.change(id).and_then(|row| row.fan.as_mut()) {
            fan.held_ucr = fan.held_ucr.saturating_add(more).minus_or_zero(less);
        }
    }
}

/// Moves the counters of what the tasks below were charged together.
pub(super) fn count_spent(turn: &mut Turn<'_>, task: &Task, charged: Ucr) {
    if !charged.is_positive() {
        return;
    }
    for id in task.ancestors.iter().flatten() {
        if let Some(fan) = turn.set.tasks.change(*id).and_then(|row| row.fan.as_mut()) {
            fan.spent_ucr = fan.spent_ucr.saturating_add(charged);
        }
    }
}
