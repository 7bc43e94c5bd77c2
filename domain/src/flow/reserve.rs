//! Calls: recorded and reserved before they are sent, priced when they end.

use crate::credits::Ucr;
use crate::id::TaskId;
use crate::ledger::{self, LedgerRefusal};
use crate::outcome::{CallPermit, CallRefusal, CallRequest, FinishedCall};
use crate::record::{CallState, Task, UsageCall};
use crate::usage::Usage;

use super::advance::{check_budget, count_held};
use super::settle::{Guard, check_guard};
use super::{Refusal, Turn, subject};

/// Who asks for a call.
pub type CallGuard = Guard;

/// Grants a call: replays one that an earlier attempt bought, or records it and reserves its ceiling on the
/// task's hold, topping the hold up within wallet and budget where it is too small.
pub fn reserve_call(turn: &mut Turn<'_>, guard: &CallGuard, request: &CallRequest) -> Result<CallPermit, CallRefusal> {
    let task = turn.set.tasks.get(guard.task_id).cloned().ok_or(CallRefusal::StaleFence)?;
    check_guard(&task, guard).map_err(|_| CallRefusal::StaleFence)?;
    let run = turn.run(task.run_id).map_err(|error| CallRefusal::Unavailable(error.to_string()))?;
    if !run.state.is_live() {
        // a run that is ending buys nothing more: what the worker does cannot count
        return Err(CallRefusal::StaleFence);
    }
    if let Some(done) = journaled(turn, &task, request) {
        return Ok(CallPermit::Replay(done));
    }
    let prices = turn.prices(task.run_id).map_err(|error| CallRefusal::Unavailable(error.to_string()))?;
    let ceiling = prices
        .call_ceiling(&request.model, request.input_tokens, request.max_output_tokens)
        .map_err(|_| CallRefusal::NotPriced(request.model.clone()))?;
    make_room(turn, &task, ceiling)?;
    let hold_id = turn.set.tasks.get(task.id).and_then(|task| task.hold_id);
    if let Some(hold) = hold_id.and_then(|hold| turn.set.holds.change(hold)) {
        hold.reserved_ucr = hold.reserved_ucr.saturating_add(ceiling);
    }
    let id = turn.id();
    let call = UsageCall {
        id,
        tenant_id: task.tenant_id,
        mission_id: task.mission_id,
        run_id: task.run_id,
        task_id: task.id,
        hold_id,
        attempt: task.attempt,
        number: request.number,
        request_hash: request.request_hash.clone(),
        provider: request.provider.clone(),
        model: request.model.clone(),
        state: CallState::Sent,
        reserved_ucr: ceiling,
        cost_ucr: Ucr::ZERO,
        billable: false,
        estimated: false,
        usage: None,
        response: None,
        duration_ms: None,
        first_token_ms: None,
        created_at: turn.now,
        ended_at: None,
    };
    turn.set.add_call(call);
    Ok(CallPermit::Send(id))
}

/// The finished call of an earlier attempt that is this very call.
fn journaled(turn: &Turn<'_>, task: &Task, request: &CallRequest) -> Option<FinishedCall> {
    let call = turn.set.calls_of(task.id).find(|call| {
        call.state == CallState::Done
            && call.number == request.number
            && call.request_hash == request.request_hash
    })?;
    Some(FinishedCall {
        id: call.id,
        usage: call.usage,
        counted: call.usage.unwrap_or_default(),
        succeeded: true,
        response: call.response.clone()?,
        duration_ms: call.duration_ms.unwrap_or(0),
        first_token_ms: call.first_token_ms,
    })
}

/// Makes sure that the task's hold has `ceiling` free.
fn make_room(turn: &mut Turn<'_>, task: &Task, ceiling: Ucr) -> Result<(), CallRefusal> {
    let free = match task.hold_id.and_then(|hold| turn.set.holds.get(hold)) {
        Some(hold) => hold.amount_ucr.minus_or_zero(hold.reserved_ucr.saturating_add(hold.used_ucr)),
        None => Ucr::ZERO,
    };
    let missing = ceiling.minus_or_zero(free);
    if !missing.is_positive() {
        return Ok(());
    }
    let short = |refusal: Refusal| match refusal {
        Refusal::OverBudget { room, required, .. } => CallRefusal::InsufficientCredits { required, available: room },
        Refusal::Ledger(LedgerRefusal::Insufficient { required, available }) => {
            CallRefusal::InsufficientCredits { required, available }
        }
        Refusal::Ledger(LedgerRefusal::WalletFrozen | LedgerRefusal::InDebt(_)) => {
            CallRefusal::InsufficientCredits { required: missing, available: Ucr::ZERO }
        }
        other => CallRefusal::Unavailable(other.to_string()),
    };
    match task.hold_id {
        None => super::advance::hold_for_task(turn, task.id, missing).map_err(short),
        Some(hold) => {
            check_budget(turn, task.mission_id, missing).map_err(short)?;
            let op_id = turn.id();
            ledger::top_up(turn.set, hold, op_id, missing, subject(task), turn.now)
                .map_err(|refusal| short(refusal.into()))?;
            count_held(turn, task.mission_id, missing, Ucr::ZERO);
            Ok(())
        }
    }
}

/// Records the end of a call of this task; what it cost and used. A call that was recorded before (a replay)
/// is billed as it stands.
pub(super) fn finish_call(
    turn: &mut Turn<'_>,
    task: &Task,
    finished: &FinishedCall,
    state: CallState,
    billable: bool,
) -> Result<(Ucr, Usage), Refusal> {
    let row = turn.set.calls.get(finished.id).filter(|row| row.task_id == task.id);
    let row = row.ok_or_else(|| Refusal::NotFound(format!("usage call {}", finished.id)))?;
    if row.state != CallState::Sent {
        let known = (row.cost_ucr, row.usage.unwrap_or_default());
        if let Some(row) = turn.set.calls.change(finished.id) {
            row.billable = billable;
            row.state = if state == CallState::Rejected { CallState::Rejected } else { row.state };
        }
        return Ok(known);
    }
    let is_estimated = !is_reported(finished);
    let usage = canonical_usage(finished);
    let model = row.model.clone();
    let cost = turn.prices(task.run_id)?.call_cost(&model, &usage)?;
    let now = turn.now;
    let Some(row) = turn.set.calls.change(finished.id) else { return Ok((cost, usage)) };
    let reserved = row.reserved_ucr;
    row.state = state;
    row.cost_ucr = cost;
    row.billable = billable;
    row.estimated = is_estimated;
    row.usage = Some(usage);
    row.response = (state == CallState::Done).then(|| finished.response.clone());
    row.duration_ms = Some(finished.duration_ms);
    row.first_token_ms = finished.first_token_ms;
    row.reserved_ucr = Ucr::ZERO;
    row.ended_at = Some(now);
    if let Some(hold) = row.hold_id.and_then(|hold| turn.set.holds.change(hold)) {
        hold.reserved_ucr = hold.reserved_ucr.minus_or_zero(reserved);
        if billable {
            hold.used_ucr = hold.used_ucr.saturating_add(cost);
        }
    }
    Ok((cost, usage))
}

/// Whether the provider reported something believable.
fn is_reported(finished: &FinishedCall) -> bool {
    finished.usage.is_some_and(|usage| usage.check().is_ok())
}

/// What the call used: as reported; a report that is missing or contradicts itself is replaced by our own count.
pub(super) fn canonical_usage(finished: &FinishedCall) -> Usage {
    finished.usage.filter(|usage| usage.check().is_ok()).unwrap_or(finished.counted)
}

/// Records what calls of a lost attempt used, when its late settle was refused: known, never billed.
pub fn record_late(turn: &mut Turn<'_>, calls: &[FinishedCall]) {
    for finished in calls {
        let Some(row) = turn.set.calls.get(finished.id) else { continue };
        let usage = canonical_usage(finished);
        let (model, run) = (row.model.clone(), row.run_id);
        if row.state != CallState::Lost || row.usage.is_some() {
            continue;
        }
        let Some(cost) = turn.prices(run).ok().and_then(|prices| prices.call_cost(&model, &usage).ok()) else { continue };
        if let Some(row) = turn.set.calls.change(finished.id) {
            row.usage = Some(usage);
            row.cost_ucr = cost;
            row.estimated = !is_reported(finished);
            row.duration_ms = Some(finished.duration_ms);
        }
    }
}

/// Ends the calls of a task whose fate is not known: the platform pays them.
pub(super) fn close_open_calls(turn: &mut Turn<'_>, task: TaskId, state: CallState) {
    let open: Vec<_> = turn
        .set
        .calls_of(task)
        .filter(|call| call.state == CallState::Sent)
        .map(|call| (call.id, call.hold_id, call.reserved_ucr))
        .collect();
    let now = turn.now;
    for (id, hold, reserved) in open {
        if let Some(call) = turn.set.calls.change(id) {
            call.state = state;
            call.reserved_ucr = Ucr::ZERO;
            call.ended_at = Some(now);
        }
        if let Some(hold) = hold.and_then(|hold| turn.set.holds.change(hold)) {
            hold.reserved_ucr = hold.reserved_ucr.minus_or_zero(reserved);
        }
    }
}
