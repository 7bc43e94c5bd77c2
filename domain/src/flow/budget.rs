//! Budgets and the line for credits: what a task may still spend, what happens when that is nothing, who goes first.
//!
//! Budgets nest: the wallet's day and month (kept by the ledger), the operator's limit for one mission, the mission's
//! own budget, the node's. What is held counts as spent until it comes back.

use serde_json::json;

use crate::credits::Ucr;
use crate::id::{MissionId, WalletId};
use crate::ledger::{self, LedgerRefusal, Settled, crosses_alert, spent_now};
use crate::limits::{CREDIT_LINE_LEASE_MS, CREDIT_LINE_PATIENCE_MS};
use crate::record::Task;
use crate::workflow::OnExhausted;

use super::{Refusal, Turn, family, node_of};

/// The most that a mission may spend: its own budget or the operator's limit, whichever is less.
pub(super) fn mission_limit(turn: &Turn<'_>, mission: MissionId) -> Result<Option<Ucr>, Refusal> {
    let mission = turn.mission(mission)?;
    let operator = turn.set.wallets.get(mission.wallet_id).and_then(|wallet| wallet.mission_limit_ucr);
    Ok(mission.budget_ucr.into_iter().chain(operator).min())
}

/// Refuses when `amount` more does not fit into what the mission's or the node's budget leaves.
pub(super) fn check_budgets(turn: &Turn<'_>, task: &Task, amount: Ucr) -> Result<(), Refusal> {
    let mission = turn.mission(task.mission_id)?;
    if let Some(budget) = mission_limit(turn, task.mission_id)? {
        let room = budget.minus_or_zero(mission.held_ucr.saturating_add(mission.spent_ucr));
        if room < amount {
            return Err(Refusal::OverBudget { of: "mission", budget, room, required: amount });
        }
    }
    family::check_budgets(turn, task, amount)?;
    let definition = turn.definition(task.workflow_id)?;
    if let Some(budget) = node_of(&definition, task)?.budget.filter(|_| task.layer == 0) {
        let held = task.hold_id.and_then(|hold| turn.set.holds.get(hold)).map(|hold| hold.amount_ucr);
        let room = budget.credits.minus_or_zero(held.unwrap_or_default());
        if room < amount {
            return Err(Refusal::OverBudget { of: "node", budget: budget.credits, room, required: amount });
        }
    }
    Ok(())
}

/// What happens to a task that a budget refuses: what the node's own budget says, else the mission's.
pub(super) fn on_exhausted(turn: &Turn<'_>, task: &Task, refusal: &Refusal) -> Result<OnExhausted, Refusal> {
    let of_mission = turn.mission(task.mission_id)?.on_exhausted;
    let Refusal::OverBudget { of: "node", budget: refused, .. } = refusal else { return Ok(of_mission) };
    let definition = turn.definition(task.workflow_id)?;
    let own = node_of(&definition, task)?.budget;
    let budgets = own.into_iter().chain(family::budgets_above(turn, task)?);
    Ok(budgets.into_iter().find(|budget| budget.credits == *refused).map_or(of_mission, |budget| budget.on_exhausted))
}

/// Why a hold of that size can never be made, however long the task waits: it is larger than a limit is as a whole.
/// A mission's own budget is none of these; whoever set it can raise it.
pub(super) fn never_fits(turn: &Turn<'_>, task: &Task, size: Ucr) -> Result<Option<String>, Refusal> {
    if let Some(rest) = family::never_fits(turn, task, size)? {
        return Ok(Some(format!("{size} credits are needed at once and {rest} are left of the node's budget")));
    }
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, task)?.budget.map(|budget| ("the node's budget", budget.credits));
    let wallet = turn.set.wallets.get(turn.mission(task.mission_id)?.wallet_id);
    let of_wallet = wallet.map(|wallet| {
        [
            ("the limit for one mission", wallet.mission_limit_ucr),
            ("the limit for one day", wallet.day_limit_ucr),
            ("the limit for one month", wallet.month_limit_ucr),
        ]
    });
    let limits = of_wallet.into_iter().flatten().filter_map(|(name, limit)| Some((name, limit?)));
    let tight = node.into_iter().chain(limits).find(|(_, limit)| *limit < size);
    Ok(tight.map(|(name, limit)| format!("{size} credits are needed at once and {name} is {limit}")))
}

/// Whether older tasks of the wallet have waited so long for credits that this one must wait behind them.
pub(super) fn must_queue(turn: &Turn<'_>, wallet: WalletId, task: &Task) -> bool {
    let Some(wallet) = turn.set.wallets.get(wallet) else { return false };
    let kept = wallet.queue_until.is_some_and(|until| until > turn.now);
    let since = task.ready_at.unwrap_or(turn.now);
    kept && wallet.queue_from.is_some_and(|oldest| oldest < since)
}

/// A task that waited for credits found none again. After a while nobody younger may pass it any more, provided that
/// it is credits that it lacks: who lacks room in a budget of his own stands in nobody's way.
pub(super) fn keep_place(turn: &mut Turn<'_>, wallet: WalletId, task: &Task, amount: Ucr) {
    let now = turn.now;
    let lack = ledger::check_room(turn.set, wallet, amount, now);
    if !matches!(lack, Err(LedgerRefusal::Insufficient { .. })) || check_budgets(turn, task, amount).is_err() {
        return;
    }
    let Some(since) = task.ready_at.filter(|since| now.since_ms(*since) >= CREDIT_LINE_PATIENCE_MS) else { return };
    let Some(row) = turn.set.wallets.get(wallet) else { return };
    let is_kept = row.queue_until.is_some_and(|until| until.since_ms(now) > CREDIT_LINE_LEASE_MS / 2);
    let is_led =
        row.queue_until.is_some_and(|until| until > now) && row.queue_from.is_some_and(|oldest| oldest < since);
    if is_led || (is_kept && row.queue_from == Some(since)) {
        return;
    }
    if let Some(row) = turn.set.wallets.change(wallet) {
        row.queue_from = Some(since);
        row.queue_until = Some(now.plus_ms(CREDIT_LINE_LEASE_MS));
    }
}

/// The task at the head of the line goes on, or is over: the line moves.
pub(super) fn leave_line(turn: &mut Turn<'_>, wallet: WalletId, task: &Task) {
    let leads =
        turn.set.wallets.get(wallet).is_some_and(|row| row.queue_from.is_some() && row.queue_from == task.ready_at);
    if leads && let Some(row) = turn.set.wallets.change(wallet) {
        row.queue_from = None;
        row.queue_until = None;
    }
}

/// Whether the ledger or a budget may allow tomorrow what it refuses now.
pub(super) fn may_pass(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::OverBudget { .. }
            | Refusal::Ledger(
                LedgerRefusal::Insufficient { .. }
                    | LedgerRefusal::InDebt(_)
                    | LedgerRefusal::WalletFrozen
                    | LedgerRefusal::OverLimit { .. }
            )
    )
}

/// Whether `amount` more could be held for the task now. Changes nothing.
pub(super) fn has_room_for(turn: &Turn<'_>, task: &Task, amount: Ucr) -> Result<bool, Refusal> {
    let wallet = turn.mission(task.mission_id)?.wallet_id;
    if !amount.is_positive() {
        return Ok(true);
    }
    if must_queue(turn, wallet, task) {
        return Ok(false);
    }
    match ledger::check_room(turn.set, wallet, amount, turn.now).map_err(Refusal::from) {
        Err(refusal) if may_pass(&refusal) => Ok(false),
        Err(refusal) => Err(refusal),
        Ok(()) => Ok(check_budgets(turn, task, amount).is_ok()),
    }
}

/// Counts a charge against the mission and says so when it or the wallet has used most of what it may.
pub(super) fn note_spending(turn: &mut Turn<'_>, mission: MissionId, settled: Settled) -> Result<(), Refusal> {
    let charged = settled.charged();
    let limit = mission_limit(turn, mission)?;
    let Some(row) = turn.set.missions.change(mission) else { return Ok(()) };
    let (wallet, before) = (row.wallet_id, row.spent_ucr);
    row.spent_ucr = before.saturating_add(charged);
    let mut crossed: Vec<(&str, Ucr, Ucr)> = Vec::new();
    if let Some(limit) = limit.filter(|limit| crosses_alert(before, before.saturating_add(charged), *limit)) {
        crossed.push(("mission", before.saturating_add(charged), limit));
    }
    if let Some(wallet) = turn.set.wallets.get(wallet) {
        for (period, spent, limit) in spent_now(wallet, turn.now) {
            let Some(limit) = limit else { continue };
            if crosses_alert(spent.minus_or_zero(charged), spent, limit) {
                crossed.push((period.as_str(), spent, limit));
            }
        }
    }
    for (scope, spent, limit) in crossed {
        let data = json!({"scope": scope, "spent": spent.to_string(), "limit": limit.to_string()});
        turn.emit(mission, "wallet.budget_alert", None, data);
    }
    Ok(())
}
