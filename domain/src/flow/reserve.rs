//! Calls: recorded and reserved before they are sent, priced when they end.

use serde_json::json;

use crate::credits::Ucr;
use crate::estimate::scaled;
use crate::id::{CallId, TaskId};
use crate::ledger::LedgerRefusal;
use crate::outcome::{CallPermit, CallRefusal, CallRequest, FinishedCall};
use crate::pricing::PriceBook;
use crate::record::{CallState, Task, UsageCall};
use crate::usage::Usage;

use super::advance::hold_more;
use super::estimate::bytes_of_tokens;
use super::settle::{Guard, check_guard};
use super::{Refusal, Turn};

/// Who asks for a call.
pub type CallGuard = Guard;

/// Grants a call: replays one that an earlier attempt bought, or records it and reserves its ceiling on the
/// task's hold, topping the hold up within wallet and budget where it is too small. Calls that ended before it are
/// journaled first. The same wish again changes nothing and gets the same answer. A conversation that has not heard of all that users said is sent back to listen. A refusal for want of credits leaves these and the counted size of the call with the task.
pub fn reserve_call(turn: &mut Turn<'_>, guard: &CallGuard, request: &CallRequest) -> Result<CallPermit, CallRefusal> {
    let task = live_task(turn, guard)?;
    journal(turn, &task, &request.finished)?;
    if let Some(done) = journaled(turn, &task, request) {
        return Ok(CallPermit::Replay(done));
    }
    if let Some(id) = granted(turn, &task, request) {
        return Ok(CallPermit::Send(id));
    }
    if let Some(number) = unheard(turn, &task, request) {
        return Ok(CallPermit::Listen(number));
    }
    let prices = turn.prices(task.run_id).map_err(|error| CallRefusal::Unavailable(error.to_string()))?;
    let factor_ppm = turn.facts.learned.factor_ppm(&request.provider, &request.model);
    let ceiling = prices
        .call_ceiling(&request.model, scaled(request.input_tokens, factor_ppm), request.max_output_tokens)
        .map_err(|_| CallRefusal::NotPriced(request.model.clone()))?;
    if let Err(refusal) = make_room(turn, &task, ceiling) {
        remember_size(turn, &task, request.input_tokens);
        return Err(refusal);
    }
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
        estimated_input_tokens: i64::try_from(request.input_tokens).unwrap_or(i64::MAX),
        heard: request.heard,
    };
    turn.set.add_call(call);
    if let Some((model, code)) = &request.in_place_of {
        let data = json!({"from": model, "to": request.model, "code": code, "number": request.number});
        turn.emit(task.mission_id, "task.model_changed", Some(task.id), data);
    }
    Ok(CallPermit::Send(id))
}

/// The task, if the guard names its present lease and its run goes on: a run that is ending buys nothing more, what the
/// worker does cannot count.
pub(super) fn live_task(turn: &Turn<'_>, guard: &CallGuard) -> Result<Task, CallRefusal> {
    let task = turn.set.tasks.get(guard.task_id).cloned().ok_or(CallRefusal::StaleFence)?;
    check_guard(&task, guard).map_err(|_| CallRefusal::StaleFence)?;
    let run = turn.run(task.run_id).map_err(|error| CallRefusal::Unavailable(error.to_string()))?;
    if run.state.is_open() { Ok(task) } else { Err(CallRefusal::StaleFence) }
}

/// Progress that is journaled clears the count of vanished workers: a step that gets on is not what kills them.
pub(super) fn note_progress(turn: &mut Turn<'_>, task: TaskId) {
    if turn.set.tasks.get(task).is_some_and(|row| row.losses > 0)
        && let Some(row) = turn.set.tasks.change(task)
    {
        row.losses = 0;
    }
}

/// Journals calls of a running attempt that came to their end. Whether they are billed is decided when the step ends.
pub(super) fn journal(turn: &mut Turn<'_>, task: &Task, finished: &[FinishedCall]) -> Result<(), CallRefusal> {
    let unusable = |refusal: Refusal| CallRefusal::Unavailable(refusal.to_string());
    check_calls(turn, task, finished).map_err(unusable)?;
    for call in finished {
        let state = if call.succeeded { CallState::Done } else { CallState::Failed };
        finish_call(turn, task, call, state, false).map_err(unusable)?;
    }
    if finished.iter().any(|call| call.succeeded) {
        note_progress(turn, task.id);
    }
    Ok(())
}

/// Refuses calls that were never granted, are over or have no price, before anything changes.
pub(super) fn check_calls(turn: &Turn<'_>, task: &Task, calls: &[FinishedCall]) -> Result<(), Refusal> {
    let prices = turn.prices(task.run_id)?;
    for call in calls {
        let row = turn.set.calls.get(call.id).filter(|row| row.task_id == task.id);
        let row = row.ok_or_else(|| Refusal::NotFound(format!("usage call {}", call.id)))?;
        if !may_consume(task, row) {
            return Err(Refusal::IllegalMove { what: "usage call", state: "over", wish: "consumed" });
        }
        prices.call_cost(&row.model, &billed_usage(turn, &prices, row, call).0)?;
    }
    Ok(())
}

/// Whether an attempt may name the call: it was granted to this attempt and is open or failed in it, or it is
/// journaled. What was lost, rejected or failed before is over: its price is the platform's.
fn may_consume(task: &Task, call: &UsageCall) -> bool {
    match call.state {
        CallState::Sent | CallState::Failed => call.attempt == task.attempt,
        CallState::Done => true,
        CallState::Rejected | CallState::Lost => false,
    }
}

/// The finished call of an earlier attempt that is this very call.
fn journaled(turn: &Turn<'_>, task: &Task, request: &CallRequest) -> Option<FinishedCall> {
    let call = turn.set.calls_of(task.id).find(|call| {
        call.state == CallState::Done
            && call.number == request.number
            && (call.request_hash == request.request_hash || request.alternatives.contains(&call.request_hash))
    })?;
    Some(FinishedCall {
        id: call.id,
        usage: call.usage,
        counted: call.usage.unwrap_or_default(),
        succeeded: true,
        rejected: false,
        response: call.response.clone()?,
        duration_ms: call.duration_ms.unwrap_or(0),
        first_token_ms: call.first_token_ms,
    })
}

/// The call, when this attempt was granted it before and did not hear of it: it asks again, and has sent nothing.
fn granted(turn: &Turn<'_>, task: &Task, request: &CallRequest) -> Option<CallId> {
    let mut calls = turn.set.calls_of(task.id);
    let is_same = |call: &&UsageCall| {
        call.state == CallState::Sent
            && (call.attempt, call.number) == (task.attempt, request.number)
            && call.request_hash == request.request_hash
    };
    calls.find(is_same).map(|call| call.id)
}

/// Up to which message the conversation must hear before it goes on. A call that an earlier attempt bought had heard of
/// certain messages: with these its answer fits again, and what came later is told with a later call. A new call hears
/// all that users said so far.
fn unheard(turn: &Turn<'_>, task: &Task, request: &CallRequest) -> Option<i64> {
    let bought = |call: &&UsageCall| {
        call.state == CallState::Done && call.number == request.number && call.heard > request.heard
    };
    let before = turn.set.calls_of(task.id).filter(bought).map(|call| call.heard).min();
    let said = turn.set.missions.get(task.mission_id).map_or(0, |mission| mission.last_said);
    before.or_else(|| Some(said).filter(|said| *said > request.heard))
}

/// Keeps what the worker counted, so that the task waits for what this call needs and not for the estimate that
/// proved too small: woken for less, it would be refused again.
fn remember_size(turn: &mut Turn<'_>, task: &Task, input_tokens: u64) {
    let counted = bytes_of_tokens(input_tokens);
    if counted > task.input_bytes
        && let Some(row) = turn.set.tasks.change(task.id)
    {
        row.input_bytes = counted;
    }
}

/// Makes sure that the task's hold has `ceiling` free.
fn make_room(turn: &mut Turn<'_>, task: &Task, ceiling: Ucr) -> Result<(), CallRefusal> {
    let hold = task.hold_id.and_then(|hold| turn.set.holds.get(hold));
    let (held, promised) =
        hold.map(|hold| (hold.amount_ucr, hold.reserved_ucr.saturating_add(hold.used_ucr))).unwrap_or_default();
    // a journaled call that cost more than its reservation is made good first, or its excess would eat this call's room
    let missing = promised.saturating_add(ceiling).minus_or_zero(held);
    if !missing.is_positive() {
        return Ok(());
    }
    let short = |refusal: Refusal| match refusal {
        Refusal::OverBudget { room, required, .. }
        | Refusal::Ledger(LedgerRefusal::OverLimit { room, required, .. }) => {
            CallRefusal::InsufficientCredits { required, available: room }
        }
        Refusal::Ledger(LedgerRefusal::Insufficient { required, available }) => {
            CallRefusal::InsufficientCredits { required, available }
        }
        Refusal::Ledger(LedgerRefusal::WalletFrozen | LedgerRefusal::InDebt(_)) => {
            CallRefusal::InsufficientCredits { required: missing, available: Ucr::ZERO }
        }
        other => CallRefusal::Unavailable(other.to_string()),
    };
    hold_more(turn, task.id, missing).map_err(short)
}

/// What the answered calls of a task cost that nobody was charged for yet: an attempt that succeeds consumes them.
pub(super) fn journaled_ucr(turn: &Turn<'_>, task: TaskId) -> Ucr {
    let owed = |call: &&UsageCall| call.state == CallState::Done && !call.billable;
    turn.set.calls_of(task).filter(owed).map(|call| call.cost_ucr).sum()
}

/// Records the end of a call of this task; what it cost and used. A call that was recorded before (a replay, or an
/// earlier call of the attempt) is billed as it stands; one that had failed stays the platform's.
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
        if row.state != CallState::Done {
            return Ok((Ucr::ZERO, Usage::default()));
        }
        let (cost, usage, was_billed) = (row.cost_ucr, row.usage.unwrap_or_default(), row.billable);
        let is_rejected = state == CallState::Rejected;
        if let Some(row) = turn.set.calls.change(finished.id) {
            row.billable = was_billed || billable;
            row.state = if is_rejected { CallState::Rejected } else { row.state };
        }
        if was_billed {
            // paid before its run was retried
            return Ok((Ucr::ZERO, Usage::default()));
        }
        let hold = turn.set.tasks.get(task.id).and_then(|task| task.hold_id);
        if is_rejected && let Some(hold) = hold.and_then(|hold| turn.set.holds.change(hold)) {
            hold.used_ucr = hold.used_ucr.minus_or_zero(cost);
        }
        return Ok((cost, usage));
    }
    let prices = turn.prices(task.run_id)?;
    let (usage, is_estimated) = billed_usage(turn, &prices, row, finished);
    let cost = prices.call_cost(&row.model, &usage)?;
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
        // what is journaled will be billed when an attempt succeeds: it stays held until then
        if billable || state == CallState::Done {
            hold.used_ucr = hold.used_ucr.saturating_add(cost);
        }
    }
    Ok((cost, usage))
}

/// What the call used, and whether that is our own estimate: as reported, unless the report is missing, contradicts
/// itself or is more than fits through the model. Then our count stands for it, times what was learned about counts.
pub(super) fn billed_usage(
    turn: &Turn<'_>,
    prices: &PriceBook,
    call: &UsageCall,
    finished: &FinishedCall,
) -> (Usage, bool) {
    let believable = |usage: &Usage| usage.check().is_ok() && fits_through(prices, &call.model, usage);
    if let Some(reported) = finished.usage.filter(believable) {
        return (reported, false);
    }
    let (counted, factor_ppm) = (finished.counted, turn.facts.learned.factor_ppm(&call.provider, &call.model));
    (Usage { input_tokens: scaled(counted.input_tokens, factor_ppm), ..counted }, true)
}

/// Whether one call of the model can use that much: no more than its window and its longest answer together.
fn fits_through(prices: &PriceBook, model: &str, usage: &Usage) -> bool {
    let most = prices.model(model).map(|price| price.context_tokens().saturating_add(price.max_output_tokens()));
    let used = usage.input_tokens.checked_add(usage.output_tokens);
    most.is_none_or(|most| used.is_some_and(|used| used <= most))
}

/// Records what calls of a lost attempt used, when its late settle was refused: known, never billed.
pub fn record_late(turn: &mut Turn<'_>, calls: &[FinishedCall]) {
    for finished in calls {
        let Some(row) = turn.set.calls.get(finished.id) else { continue };
        if row.state != CallState::Lost || row.usage.is_some() {
            continue;
        }
        let Ok(prices) = turn.prices(row.run_id) else { continue };
        let (usage, is_estimated) = billed_usage(turn, &prices, row, finished);
        let Ok(cost) = prices.call_cost(&row.model, &usage) else { continue };
        if let Some(row) = turn.set.calls.change(finished.id) {
            row.usage = Some(usage);
            row.cost_ucr = cost;
            row.estimated = is_estimated;
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
