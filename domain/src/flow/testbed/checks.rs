//! What the schema refuses, said again over values: unique keys, checks, append-only logs; and, beyond the
//! schema, the table of legal moves and the columns that are written only once.

use std::collections::BTreeSet;

use crate::record::{CallState, Grant, Hold, HoldOwner, HoldState, MessageRole, Mission, Run, Task, UsageCall, Wallet};
use crate::state::{RunState, TaskState, WaitCause};
use crate::working_set::WorkingSet;

use super::tables::{Tables, Written};

const ATTEMPT_OUTCOMES: [&str; 4] = ["failed", "lost", "handed_back", "cancelled"];

/// Columns that an update does not write must not have been changed: the change would be lost.
pub(super) fn written_once(tables: &Tables, set: &WorkingSet, broken: &mut Vec<String>) {
    let mut check = |same: bool, what: String| {
        if !same {
            broken.push(format!("a column of {what} that is written once was changed"));
        }
    };
    for row in set.runs.changed() {
        let Some(old) = tables.runs.get(&row.id) else { continue };
        let key = |run: &Run| (run.mission_id, run.workflow_id, run.price_book_id, run.number, run.fee_ucr);
        check(key(old) == key(row) && old.created_at == row.created_at, format!("run {}", row.id));
    }
    for row in set.tasks.changed() {
        let Some(old) = tables.tasks.get(&row.id) else { continue };
        let key = |task: &Task| {
            (task.run_id, task.node_index, task.node.clone(), task.pool.clone(), task.priority, task.priced)
        };
        check(key(old) == key(row) && old.created_at == row.created_at, format!("task {}", row.id));
    }
    for row in set.calls.changed() {
        let Some(old) = tables.calls.get(&row.id) else { continue };
        let key = |call: &UsageCall| {
            (call.task_id, call.hold_id, call.attempt, call.number, call.request_hash.clone(), call.model.clone())
        };
        check(key(old) == key(row) && old.created_at == row.created_at, format!("call {}", row.id));
    }
    for row in set.holds.changed() {
        let Some(old) = tables.holds.get(&row.id) else { continue };
        let key = |hold: &Hold| (hold.wallet_id, hold.owner_kind, hold.owner_id.clone(), hold.mission_id);
        check(key(old) == key(row) && old.created_at == row.created_at, format!("hold {}", row.id));
    }
    for row in set.grants.changed() {
        let Some(old) = tables.grants.get(&row.id) else { continue };
        let key = |grant: &Grant| (grant.wallet_id, grant.kind, grant.priority, grant.amount_ucr, grant.expires_at);
        check(key(old) == key(row), format!("grant {}", row.id));
    }
}

/// The checks of every row that is written, by the names of the constraints.
pub(super) fn rows(tables: &Tables, next: &Written, broken: &mut Vec<String>) {
    let mut refuse = |holds: bool, constraint: &str, row: String| {
        if !holds {
            broken.push(format!("{constraint}: {row}"));
        }
    };
    for row in &next.missions {
        mission(tables, row, &mut refuse);
    }
    for row in &next.runs {
        let old = tables.runs.get(&row.id);
        refuse(row.ended_at.is_some() == row.state.is_final(), "runs_ended", format!("{row:?}"));
        refuse(row.fee_ucr.get() >= 0, "runs_fee", format!("{row:?}"));
        // what begins to fail and has nothing left to end is over in the same transaction
        let through_failing =
            |from: RunState| from.may_become(RunState::Failing) && RunState::Failing.may_become(row.state);
        let is_retried = old.is_some_and(|old| old.retries < row.retries && old.state.may_become(RunState::Queued));
        let from = old.map(|old| if is_retried { RunState::Queued } else { old.state });
        let legal = from.is_none_or(|from| from == row.state || from.may_become(row.state) || through_failing(from));
        refuse(legal, "a run's move is illegal", format!("{:?} → {row:?}", old.map(|old| old.state)));
        let rests = old.is_none_or(|old| !old.state.is_final() || old == row || is_retried);
        refuse(rests, "a run that is over was changed", format!("{row:?}"));
    }
    for row in &next.tasks {
        let run = |run: &&Run| run.id == row.run_id;
        let is_retried = next.runs.iter().find(run).zip(tables.runs.get(&row.run_id));
        let is_retried = is_retried.is_some_and(|(run, old)| old.retries < run.retries);
        task(tables, row, is_retried, &mut refuse);
    }
    for row in &next.calls {
        call(tables, row, &mut refuse);
    }
    for row in &next.tool_runs {
        let running = row.state == crate::record::ToolCallState::Running;
        refuse(running == row.ended_at.is_none(), "tool_calls_ended", format!("{row:?}"));
        let rests = tables.tool_runs.get(&row.id).is_none_or(|old| old.ended_at.is_none() || old == row);
        refuse(rests, "a tool call that is over was changed", format!("{row:?}"));
    }
    for row in &next.signals {
        refuse(row.task_id.is_some() == row.delivered_at.is_some(), "signals_delivered", format!("{row:?}"));
        let twin = tables.signals.values().any(|other| {
            other.id != row.id && row.key.is_some() && (other.mission_id, &other.key) == (row.mission_id, &row.key)
        });
        refuse(!twin, "signals_key", format!("{row:?}"));
        let rests = tables.signals.get(&row.id).is_none_or(|old| old.task_id.is_none() || old == row);
        refuse(rests, "a signal that was taken was changed", format!("{row:?}"));
        let taken_twice = row.task_id.is_some()
            && tables.signals.values().any(|other| other.id != row.id && other.task_id == row.task_id);
        refuse(!taken_twice, "a task took two signals", format!("{row:?}"));
    }
    messages(tables, next, &mut refuse);
    for row in &next.holds {
        hold(tables, row, &mut refuse);
    }
    for row in &next.grants {
        let sound = row.amount_ucr.get() > 0 && row.remaining_ucr.get() >= 0 && row.remaining_ucr <= row.amount_ucr;
        refuse(sound, "grants_amount", format!("{row:?}"));
        refuse((0..=100).contains(&row.priority), "grants_priority", format!("{row:?}"));
    }
    for Wallet { available_ucr, held_ucr, debt_ucr, id, .. } in &next.wallets {
        let sound = available_ucr.get() >= 0 && held_ucr.get() >= 0 && debt_ucr.get() >= 0;
        refuse(sound, "wallets_not_negative", format!("{id}"));
    }
}

fn messages(tables: &Tables, next: &Written, refuse: &mut impl FnMut(bool, &str, String)) {
    for row in &next.messages {
        refuse(!tables.messages.contains_key(&row.id), "a message was changed", format!("{row:?}"));
        let twin = tables.messages.values().any(|other| {
            let same_key = row.key.is_some() && other.key == row.key;
            other.mission_id == row.mission_id && (other.number == row.number || same_key)
        });
        refuse(!twin, "messages_number_in_mission, messages_key", format!("{row:?}"));
        let is_said = (row.role == MessageRole::User, row.effect.is_some(), row.request_hash.is_some());
        refuse(matches!(is_said, (true, true, true) | (false, false, false)), "messages_sender", format!("{row:?}"));
        refuse(row.content.is_some() || row.role == MessageRole::Assistant, "messages_content", format!("{row:?}"));
    }
}

fn mission(tables: &Tables, row: &Mission, refuse: &mut impl FnMut(bool, &str, String)) {
    refuse(row.tasks_done >= 0 && row.tasks_done <= row.tasks_total, "missions_counts", format!("{row:?}"));
    refuse(row.held_ucr.get() >= 0 && row.spent_ucr.get() >= 0, "missions_money", format!("{row:?}"));
    let old = tables.missions.get(&row.id);
    let held_before = old.map(|old| old.held_ucr).unwrap_or_default();
    let within = row.budget_ucr.is_none_or(|budget| row.held_ucr.saturating_add(row.spent_ucr) <= budget);
    refuse(row.held_ucr <= held_before || within, "a hold beyond the budget", format!("{row:?}"));
    let key = row.idempotency_key.as_ref();
    let twin = key.and_then(|key| {
        let mut others = tables.missions.values().filter(|other| other.id != row.id);
        others.find(|other| other.tenant_id == row.tenant_id && other.idempotency_key.as_ref() == Some(key))
    });
    refuse(twin.is_none(), "missions_idempotency", format!("{row:?}"));
}

fn task(tables: &Tables, row: &Task, is_retried: bool, refuse: &mut impl FnMut(bool, &str, String)) {
    let leased = row.lease_token.is_some() && row.lease_until.is_some() && row.worker_id.is_some();
    refuse(row.state != TaskState::Running || leased, "tasks_running", format!("{row:?}"));
    refuse((row.state == TaskState::Waiting) == row.wait.is_some(), "tasks_waiting", format!("{row:?}"));
    refuse(row.ended_at.is_some() == row.state.is_final(), "tasks_ended", format!("{row:?}"));
    refuse(row.ended_at.is_none() || row.hold_id.is_none(), "tasks_hold_ended", format!("{row:?}"));
    let counts = row.remaining_needs >= 0 && row.attempt >= 0 && row.failures >= 0 && row.losses >= 0;
    refuse(counts, "tasks_counts", format!("{row:?}"));
    refuse(row.cost_ucr.get() >= 0 && row.units_ucr.get() >= 0, "tasks_money", format!("{row:?}"));
    let explained = row.state == TaskState::Succeeded || row.status_reason.is_some();
    refuse(explained, "a task gives no reason for its state", format!("{row:?}"));
    let waits_for_others = matches!(row.wait, Some(WaitCause::Approval | WaitCause::Signal));
    let timed = (row.state != TaskState::Retrying && !waits_for_others) || row.due_at.is_some();
    refuse(timed, "a task retries or expires at no time", format!("{row:?}"));
    let Some(old) = tables.tasks.get(&row.id) else { return };
    let sound = row.stand_in_id.is_none() || row.state == TaskState::Failed;
    refuse(sound, "tasks_stand_in", format!("{row:?}"));
    let is_renewed = is_retried && old.state.may_become(TaskState::Pending);
    let rests = old.decision.is_none() || old.decision == row.decision || is_renewed;
    refuse(rests, "a decision was changed", format!("{row:?}"));
    let from = if is_renewed { TaskState::Pending } else { old.state };
    let legal = from == row.state || from.may_become(row.state);
    refuse(legal, "a task's move is illegal", format!("{:?} → {row:?}", old.state));
    refuse(
        // a stand-in that fails may have one of its own
        !old.state.is_final() || Task { stand_in_id: row.stand_in_id, ..old.clone() } == *row || is_renewed,
        "a task that is over was changed",
        format!("{old:?} → {row:?}"),
    );
    refuse(old.fence <= row.fence, "a fence went back", format!("{row:?}"));
    refuse(old.remaining_needs >= row.remaining_needs || is_renewed, "needs came back", format!("{row:?}"));
}

fn call(tables: &Tables, row: &UsageCall, refuse: &mut impl FnMut(bool, &str, String)) {
    let sent = row.state == CallState::Sent;
    refuse(row.reserved_ucr.get() >= 0 && row.cost_ucr.get() >= 0, "usage_calls_amounts", format!("{row:?}"));
    refuse(sent == row.ended_at.is_none(), "usage_calls_sent", format!("{row:?}"));
    refuse(sent || row.reserved_ucr.is_zero(), "usage_calls_reserved", format!("{row:?}"));
    if let Some(old) = tables.calls.get(&row.id) {
        let may_change = match old.state {
            CallState::Sent => true,
            CallState::Done => matches!(row.state, CallState::Done | CallState::Rejected),
            // a failure that the wallet pays for
            CallState::Failed | CallState::Rejected => row.state == old.state,
            CallState::Lost => row.state == old.state && !row.billable,
        };
        let billed_once = !old.billable || row.billable && row.cost_ucr == old.cost_ucr;
        refuse(may_change && billed_once, "a call that is over was changed", format!("{old:?} → {row:?}"));
    }
}

fn hold(tables: &Tables, row: &Hold, refuse: &mut impl FnMut(bool, &str, String)) {
    let amounts = [row.amount_ucr, row.reserved_ucr, row.used_ucr, row.captured_ucr, row.returned_ucr];
    refuse(amounts.iter().all(|amount| amount.get() >= 0), "holds_amounts", format!("{row:?}"));
    let sound = if row.state == HoldState::Open {
        row.closed_at.is_none() && row.captured_ucr.is_zero() && row.returned_ucr.is_zero()
    } else {
        row.closed_at.is_some() && row.captured_ucr.get() + row.returned_ucr.get() == row.amount_ucr.get()
    };
    refuse(sound, "holds_closed", format!("{row:?}"));
    let charged = row.captured_ucr.get() + row.overrun_ucr.get();
    refuse((0..=charged).contains(&row.refunded_ucr.get()), "holds_refunded", format!("{row:?}"));
    refuse(row.expires_at.is_none() || row.owner_kind == HoldOwner::Call, "holds_expiring", format!("{row:?}"));
    let Some(old) = tables.holds.get(&row.id).filter(|old| old.state != HoldState::Open) else { return };
    // a closed hold is refunded and, once, charged late; nothing else ever happens to it
    let may_be_late = old.state == HoldState::Expired && old.overrun_ucr.is_zero();
    let overrun_ucr = if may_be_late { row.overrun_ucr } else { old.overrun_ucr };
    let expected = Hold { refunded_ucr: row.refunded_ucr, overrun_ucr, ..old.clone() };
    let rests = expected == *row && old.refunded_ucr <= row.refunded_ucr;
    refuse(rests, "a closed hold was changed", format!("{old:?} → {row:?}"));
}

/// The rows that are only ever inserted: operations, events, attempts.
pub(super) fn log(tables: &Tables, set: &WorkingSet, next: &Written, broken: &mut Vec<String>) {
    let mut keys = BTreeSet::new();
    for op in &set.ops {
        let key = (op.wallet_id, op.key.clone());
        if tables.ops.contains_key(&key) || !keys.insert(key) {
            broken.push(format!("ops_key: {op:?}"));
        }
        if op.legs.iter().any(|leg| !leg.2.is_positive()) {
            broken.push(format!("an entry moves nothing: {op:?}"));
        }
    }
    for wallet in &next.wallets {
        let last = set.ops.iter().rev().find(|op| op.wallet_id == wallet.id);
        if last.is_some_and(|op| op.available_after_ucr != wallet.available_ucr) {
            broken.push(format!("the last operation names another balance than {wallet:?}"));
        }
    }
    for event in &set.events {
        let before = event.seq - 1;
        let is_next = before == 0
            || tables.events.contains_key(&(event.mission_id, before))
            || set.events.iter().any(|other| other.mission_id == event.mission_id && other.seq == before);
        if !is_next || tables.events.contains_key(&(event.mission_id, event.seq)) {
            broken.push(format!("events_key: {event:?}"));
        }
    }
    for attempt in &set.attempts {
        let known = tables.attempts.contains_key(&(attempt.task_id, attempt.number));
        let twins =
            set.attempts.iter().filter(|other| (other.task_id, other.number) == (attempt.task_id, attempt.number));
        if known || twins.count() > 1 || !ATTEMPT_OUTCOMES.contains(&attempt.outcome.as_str()) {
            broken.push(format!("attempts_key: {attempt:?}"));
        }
    }
}
