//! An attempt ends: state, money and everything that follows, decided at once.
//!
//! A worker's answer becomes a state in exactly one function, [`settle`].

use serde_json::{Value, json};

use crate::credits::Ucr;
use crate::id::{RunId, TaskId, WorkerId};
use crate::ledger::{self, Charge};
use crate::limits;
use crate::outcome::{ErrorClass, FinishedCall, Outcome, RateKind, StepError};
use crate::record::{Attempt, CallState, ChargeFailed, KeptOutput, Task, UsageCall};
use crate::state::{RunState, TaskState, WaitCause};
use crate::usage::Usage;
use crate::workflow::OnError;

use super::advance::{self, count_done, count_held, fail, park, wait_for_credits};
use super::begin::{go_on, release_dependents};
use super::budget::note_spending;
use super::reserve::{check_calls, close_open_calls, finish_call};
use super::{Refusal, Turn, deadline, fallback, family, message, node_of, subject};

/// What proves that a write comes from the present holder of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The task.
    pub task_id: TaskId,
    /// The fence that the claim gave.
    pub fence: i64,
    /// The secret that the claim gave.
    pub token: String,
}

/// A worker's offer to go on at once with what its settle makes ready.
#[derive(Debug, Clone)]
pub struct Handoff {
    /// Who offers.
    pub worker_id: WorkerId,
    /// The pool whose slot is free.
    pub pool: String,
    /// The new lease's secret.
    pub token: String,
    /// How long the lease lasts.
    pub lease_ms: i64,
}

/// One attempt's end.
#[derive(Debug, Clone)]
pub struct SettleRequest {
    /// Who says so.
    pub guard: Guard,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the worker would take the successor.
    pub handoff: Option<Handoff>,
    /// Whether the output came from an earlier task, or may stand in for later ones.
    pub cache: Option<CacheUse>,
    /// What an agent was asked that is to remember it.
    pub prompt: Option<String>,
}

/// What a success has to do with outputs of other tasks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheUse {
    /// It is an earlier task's: it costs nothing.
    Hit,
    /// Later tasks with this hash may use it.
    Keep {
        /// SHA-256 (hex) of what it was made from.
        hash: String,
        /// For how long, in milliseconds.
        ttl_ms: i64,
    },
}

/// What a settle did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The task's state now.
    pub state: TaskState,
    /// Tasks that became ready.
    pub ready: Vec<TaskId>,
    /// The task that was handed to the same worker, already running.
    pub successor: Option<TaskId>,
    /// The run, when its other tasks must be ended now.
    pub ending: Option<RunId>,
    /// Whether this very settle had happened before; nothing was changed.
    pub repeated: bool,
}

/// Whether the guard names the present lease of a running task.
pub(super) fn check_guard(task: &Task, guard: &Guard) -> Result<(), Refusal> {
    let owns = task.fence == guard.fence && task.lease_token.as_deref() == Some(guard.token.as_str());
    if owns && task.state == TaskState::Running {
        return Ok(());
    }
    Err(Refusal::StaleFence { present: task.fence })
}

/// Turns an attempt's outcome into state, money and consequences.
pub fn settle(turn: &mut Turn<'_>, request: &SettleRequest) -> Result<Settlement, Refusal> {
    let id = request.guard.task_id;
    let task = turn.task(id)?.clone();
    if let Err(stale) = check_guard(&task, &request.guard) {
        return repeated(turn, &task, request).ok_or(stale);
    }
    check_outcome(turn, &task, &request.outcome)?;
    if let Some(row) = turn.set.tasks.change(id) {
        row.lease_until = None;
        row.losses = 0;
    }
    let run_state = turn.run(task.run_id)?.state;
    let mut settlement =
        Settlement { state: TaskState::Running, ready: Vec::new(), successor: None, ending: None, repeated: false };
    match &request.outcome {
        Outcome::HandedBack => {
            hand_back(turn, &task, run_state)?;
            settlement.ready = go_on(turn, id)?;
        }
        Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } if !run_state.is_open() => {
            end_with_run(turn, &task, run_state, calls)?;
        }
        Outcome::Succeeded { output, calls } => {
            let ready = succeed(turn, &task, (output, calls), request)?;
            // a dependent whose hold the budget refused may have ended the run: then nothing new begins
            if turn.run(task.run_id)?.state.is_live() {
                settlement.successor = hand_over(turn, request, &ready);
                settlement.ready = ready.into_iter().filter(|id| Some(*id) != settlement.successor).collect();
            }
        }
        Outcome::Failed { error, calls } => {
            fail_attempt(turn, &task, error, calls)?;
            settlement.ready = go_on(turn, id)?;
        }
    }
    settlement.state = turn.task(id)?.state;
    if matches!(turn.run(task.run_id)?.state, RunState::Failing | RunState::Cancelling) {
        settlement.ending = Some(task.run_id);
    }
    Ok(settlement)
}

/// Refuses an outcome that can't be settled, before anything changes: calls that were never granted or that have
/// no price, dependents that were not loaded.
fn check_outcome(turn: &Turn<'_>, task: &Task, outcome: &Outcome) -> Result<(), Refusal> {
    turn.mission(task.mission_id)?;
    let definition = turn.definition(task.workflow_id)?;
    let node = node_of(&definition, task)?;
    if node.on_error != OnError::Fail || matches!(outcome, Outcome::Succeeded { .. }) {
        check_dependents(turn, task)?;
    }
    let calls = match outcome {
        Outcome::HandedBack => return Ok(()),
        Outcome::Failed { calls, .. } => calls,
        Outcome::Succeeded { calls, .. } => {
            turn.prices(task.run_id)?.units_cost(&node.units)?;
            calls
        }
    };
    check_calls(turn, task, calls)?;
    match task.hold_id {
        Some(hold) if turn.set.holds.get(hold).is_none() => Err(Refusal::Unloaded(format!("hold {hold}"))),
        _ => Ok(()),
    }
}

/// Refuses when a task that waits for this one was not loaded.
pub(super) fn check_dependents(turn: &Turn<'_>, task: &Task) -> Result<(), Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    for index in task.dependents(node_of(&definition, task)?) {
        let number = task.neighbour(*index);
        if turn.set.task_of(task.run_id, number).is_none() {
            return Err(Refusal::Unloaded(format!("task {number} of run {}", task.run_id)));
        }
    }
    if !fallback::is_all_loaded(turn, &definition, task) {
        return Err(Refusal::Unloaded(format!("the tasks for which {} stands in", task.id)));
    }
    family::check_loaded(turn, task)
}

/// The stored result of a settle whose acknowledgement was lost. The successor, which may be any task of the run, must
/// be loaded by the offer's secret.
fn repeated(turn: &Turn<'_>, task: &Task, request: &SettleRequest) -> Option<Settlement> {
    let same_lease = task.fence == request.guard.fence
        && task.lease_token.as_deref() == Some(request.guard.token.as_str())
        && task.state != TaskState::Running;
    if !same_lease {
        return None;
    }
    let successor = request.handoff.as_ref().and_then(|handoff| {
        // the secret that this very offer brought: a claim of the same worker has another
        let is_handed = |next: &&Task| {
            next.state == TaskState::Running
                && next.run_id == task.run_id
                && next.lease_token.as_ref() == Some(&handoff.token)
        };
        turn.set.tasks.iter().find(is_handed).map(|next| next.id)
    });
    Some(Settlement { state: task.state, ready: Vec::new(), successor, ending: None, repeated: true })
}

fn succeed(
    turn: &mut Turn<'_>,
    task: &Task,
    (output, calls): (&Value, &[FinishedCall]),
    request: &SettleRequest,
) -> Result<Vec<TaskId>, Refusal> {
    let definition = turn.definition(task.workflow_id)?;
    let cache = request.cache.as_ref();
    let is_hit = cache == Some(&CacheUse::Hit);
    let units = turn.prices(task.run_id)?.units_cost(&node_of(&definition, task)?.units)?;
    let units = if is_hit { Ucr::ZERO } else { units };
    let (tokens, usage) = bill_calls(turn, task, calls)?;
    close_open_calls(turn, task.id, CallState::Lost);
    let cost = charge(turn, task, units.saturating_add(tokens))?;

    let now = turn.now;
    let output_bytes = i64::try_from(output.to_string().len()).unwrap_or(i64::MAX);
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.state = TaskState::Succeeded;
        row.status_reason = None;
        row.error = None;
        row.ended_at = Some(now);
        row.output = Some(output.clone());
        row.cost_ucr = row.cost_ucr.saturating_add(cost);
        row.units_ucr = units;
        row.usage = usage;
        row.hold_id = None;
    }
    let data = json!({
        "duration_ms": task.started_at.map(|start| now.since_ms(start)),
        "started_at_ms": task.started_at,
        "worker_id": task.worker_id,
        "usage": usage,
        "credits": cost.to_string(),
        "models": answered_by(turn, calls),
        "cached": is_hit,
    });
    keep(turn, task, cache);
    turn.emit(task.mission_id, "task.succeeded", Some(task.id), data);
    message::remember(turn, task, request.prompt.as_deref())?;
    count_done(turn, task.id)?;
    let ready = release_dependents(turn, task.id, output_bytes)?;
    Ok(ready)
}

/// Has later tasks use the output, where the node says so.
fn keep(turn: &mut Turn<'_>, task: &Task, cache: Option<&CacheUse>) {
    let Some(CacheUse::Keep { hash, ttl_ms }) = cache else { return };
    turn.set.kept.push(KeptOutput {
        task_id: task.id,
        tenant_id: task.tenant_id,
        hash: hash.clone(),
        created_at: turn.now,
        expires_at: turn.now.plus_ms(*ttl_ms),
    });
}

/// The models whose answers made the output, each once, in the order of their first answers.
fn answered_by(turn: &Turn<'_>, calls: &[FinishedCall]) -> Vec<String> {
    let mut models: Vec<String> = Vec::new();
    for row in calls.iter().filter(|call| call.succeeded).filter_map(|call| turn.set.calls.get(call.id)) {
        if !models.contains(&row.model) {
            models.push(row.model.clone());
        }
    }
    models
}

/// Records the calls that the attempt consumed, each once; the sum of their costs and of their usage.
fn bill_calls(turn: &mut Turn<'_>, task: &Task, calls: &[FinishedCall]) -> Result<(Ucr, Option<Usage>), Refusal> {
    let mut cost = Ucr::ZERO;
    // what was billed before the run was retried counts on
    let mut usage = task.usage;
    for call in distinct(calls) {
        let state = if call.succeeded { CallState::Done } else { CallState::Failed };
        let (price, used) = finish_call(turn, task, call, state, call.succeeded)?;
        if call.succeeded {
            cost = cost.saturating_add(price);
            usage = Some(sum(usage, &used));
        }
    }
    Ok((cost, usage))
}

/// The calls, each once: an outcome that names one twice consumed it once.
fn distinct(calls: &[FinishedCall]) -> impl Iterator<Item = &FinishedCall> {
    let is_first = |(index, call): &(usize, &FinishedCall)| !calls.iter().take(*index).any(|known| known.id == call.id);
    calls.iter().enumerate().filter(is_first).map(|(_, call)| call)
}

/// The sum of what calls used; counts beyond an u64 (which no provider can report) leave the sum as it was.
fn sum(usage: Option<Usage>, more: &Usage) -> Usage {
    let usage = usage.unwrap_or_default();
    usage.checked_add(more).unwrap_or(usage)
}

/// Settles the task's hold with `cost`; what was really charged.
pub(super) fn charge(turn: &mut Turn<'_>, task: &Task, cost: Ucr) -> Result<Ucr, Refusal> {
    settle_hold(turn, task, Charge::Usage(cost))
}

fn settle_hold(turn: &mut Turn<'_>, task: &Task, charge: Charge) -> Result<Ucr, Refusal> {
    let Some(hold) = task.hold_id else { return Ok(Ucr::ZERO) };
    let held = turn.set.holds.get(hold).map(|row| row.amount_ucr).unwrap_or_default();
    let op_id = turn.id();
    let settled = ledger::settle(turn.set, hold, op_id, charge, subject(task), turn.now)?;
    count_held(turn, task, Ucr::ZERO, held);
    family::count_spent(turn, task, settled.charged());
    note_spending(turn, task.mission_id, settled)?;
    Ok(settled.charged())
}

/// Charges a task that fails for good for what its attempts were answered, where the wallet's policy says so: always,
/// or when the step was at fault and not what it runs on.
pub(super) fn charge_failure(turn: &mut Turn<'_>, id: TaskId, error: &StepError) -> Result<(), Refusal> {
    let task = turn.task(id)?.clone();
    let wallet = turn.mission(task.mission_id)?.wallet_id;
    let policy = turn.set.wallets.get(wallet).map(|wallet| wallet.charge_failed).unwrap_or_default();
    let is_charged = match policy {
        ChargeFailed::Never => false,
        ChargeFailed::Fault => is_own_fault(error),
        ChargeFailed::Always => true,
    };
    if !is_charged || task.hold_id.is_none() {
        return Ok(());
    }
    let answered = |call: &&UsageCall| {
        matches!(call.state, CallState::Done | CallState::Rejected | CallState::Failed)
            && call.cost_ucr.is_positive()
            && !call.billable
    };
    let calls: Vec<_> =
        turn.set.calls_of(id).filter(answered).map(|call| (call.id, call.cost_ucr, call.usage)).collect();
    let mut cost = Ucr::ZERO;
    let mut usage = task.usage;
    for (call, price, used) in calls {
        cost = cost.saturating_add(price);
        usage = used.map(|used| sum(usage, &used)).or(usage);
        if let Some(call) = turn.set.calls.change(call) {
            call.billable = true;
        }
    }
    if !cost.is_positive() {
        return Ok(());
    }
    let charged = settle_hold(turn, &task, Charge::Failure(cost))?;
    if let Some(row) = turn.set.tasks.change(id) {
        row.cost_ucr = row.cost_ucr.saturating_add(charged);
        row.usage = usage;
        row.hold_id = None;
    }
    Ok(())
}

/// Whether the step itself is why it failed, and not a provider, a worker or the credits.
fn is_own_fault(error: &StepError) -> bool {
    matches!(error.class, ErrorClass::Retryable | ErrorClass::Permanent)
        && !error.code.starts_with("provider_")
        && !matches!(error.code.as_str(), "poison_pill" | "deadline_exceeded")
}

/// Gives the first ready dependent of the right pool to the worker that settled, as its next claim.
fn hand_over(turn: &mut Turn<'_>, request: &SettleRequest, ready: &[TaskId]) -> Option<TaskId> {
    let handoff = request.handoff.as_ref()?;
    // who takes turns is claimed, where turns are counted
    let suits = |task: &Task| task.pool == handoff.pool && task.concurrency_key.is_none();
    let next = ready.iter().copied().find(|id| turn.set.tasks.get(*id).is_some_and(suits))?;
    let now = turn.now;
    let task = turn.set.tasks.change(next)?;
    task.state = TaskState::Running;
    task.status_reason = Some("running".to_owned());
    task.attempt = task.attempt.saturating_add(1);
    task.fence = task.fence.saturating_add(1);
    task.lease_token = Some(handoff.token.clone());
    task.lease_until = Some(now.plus_ms(handoff.lease_ms));
    task.worker_id = Some(handoff.worker_id);
    task.started_at = Some(now);
    Some(next)
}

/// Whether the call is the answer that made its attempt fail. It is never replayed; what was answered before it is,
/// and so is everything when the reason lies outside (a rate limit, credits, a lost lease, a timeout).
fn is_culprit(error: &StepError, call: &FinishedCall) -> bool {
    call.rejected && matches!(error.class, ErrorClass::Retryable | ErrorClass::Permanent)
}

/// The attempt failed: another one later, a wait, or the end.
fn fail_attempt(turn: &mut Turn<'_>, task: &Task, error: &StepError, calls: &[FinishedCall]) -> Result<(), Refusal> {
    for call in distinct(calls) {
        let state = match call.succeeded {
            true if is_culprit(error, call) => CallState::Rejected,
            true => CallState::Done,
            false => CallState::Failed,
        };
        finish_call(turn, task, call, state, false)?;
    }
    close_open_calls(turn, task.id, CallState::Lost);
    note_attempt(turn, task, "failed", Some(error.clone()));
    let definition = turn.definition(task.workflow_id)?;
    let retry = node_of(&definition, task)?.retry;
    let failures = task.failures.saturating_add(1);
    // stopped because its time is over, or failed by then in a way that another attempt could have mended
    let is_late = error.class != ErrorClass::Permanent && deadline::has_passed(task, turn.now);
    let error = &if is_late { deadline::exceeded(turn, task)? } else { error.clone() };
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.error = Some(error.clone());
    }
    match error.class {
        // what was never sent failed in nobody's eyes, whatever the node counts as a failure
        ErrorClass::RateLimited if retry.on.rate_limited || RateKind::is_code(&error.code) => {
            wait_for_rate(turn, task.id, error);
            Ok(())
        }
        ErrorClass::Budget => wait_for_credits(turn, task.id, &error.message),
        class if retry.on.has(class) && u32::try_from(failures).unwrap_or(u32::MAX) < retry.max_attempts => {
            let delay = retry.delay_ms(u32::try_from(failures).unwrap_or(u32::MAX), turn.chance.random());
            let due = turn.now.plus_ms(delay);
            if let Some(row) = turn.set.tasks.change(task.id) {
                row.state = TaskState::Retrying;
                row.failures = failures;
                row.due_at = Some(due);
                row.status_reason = Some(format!(
                    "attempt {failures} of {} failed ({}); tries again in {delay} ms",
                    retry.max_attempts, error.code
                ));
            }
            let data =
                json!({"error": error, "delay_ms": delay, "failures": failures, "max_attempts": retry.max_attempts});
            turn.emit(task.mission_id, "task.retrying", Some(task.id), data);
            Ok(())
        }
        _ => {
            if let Some(row) = turn.set.tasks.change(task.id) {
                row.failures = failures;
            }
            fail(turn, task.id, error.clone())
        }
    }
}

/// Parks a task until its time comes: a provider's, or ours.
fn wait_for_rate(turn: &mut Turn<'_>, id: TaskId, error: &StepError) {
    let wait = error.retry_after_ms.unwrap_or(limits::RATE_LIMIT_PAUSE_MS).clamp(1, limits::MAX_RETRY_AFTER_MS);
    let reason = if RateKind::is_code(&error.code) {
        error.message.clone()
    } else {
        format!("the provider asks to wait: {}", error.message)
    };
    park(turn, id, WaitCause::RateLimit, Some(wait), &reason);
}

/// The worker gives the task back untouched: ready again, at no cost and without a penalty.
fn hand_back(turn: &mut Turn<'_>, task: &Task, run_state: RunState) -> Result<(), Refusal> {
    close_open_calls(turn, task.id, CallState::Lost);
    if !run_state.is_open() {
        return end_with_run(turn, task, run_state, &[]);
    }
    note_attempt(turn, task, "handed_back", None);
    advance::make_ready(turn, task.id)
}

/// The run is being ended: the attempt counts as cancelled. Only a user's cancel charges what was used.
pub(super) fn end_with_run(
    turn: &mut Turn<'_>,
    task: &Task,
    run_state: RunState,
    calls: &[FinishedCall],
) -> Result<(), Refusal> {
    let by_user = run_state == RunState::Cancelling;
    let mut cost = Ucr::ZERO;
    let mut usage = task.usage;
    for call in distinct(calls) {
        let state = if call.succeeded { CallState::Done } else { CallState::Failed };
        let reserved = turn.set.calls.get(call.id).map(|row| row.reserved_ucr).unwrap_or_default();
        let (price, used) = finish_call(turn, task, call, state, by_user)?;
        if by_user {
            // a call that was stopped never costs more than was reserved for it
            let most = if reserved.is_positive() { price.min(reserved) } else { price };
            if most < price
                && let Some(row) = turn.set.calls.change(call.id)
            {
                row.cost_ucr = most;
            }
            cost = cost.saturating_add(most);
            usage = Some(sum(usage, &used));
        }
    }
    close_open_calls(turn, task.id, CallState::Lost);
    let (charged, usage) = if by_user { charge_journal(turn, task, cost, usage)? } else { (Ucr::ZERO, task.usage) };
    if charged.is_zero() {
        advance::release_hold(turn, task.id)?;
    }
    note_attempt(turn, task, "cancelled", None);
    let now = turn.now;
    if let Some(row) = turn.set.tasks.change(task.id) {
        row.state = TaskState::Cancelled;
        row.wait = None;
        row.due_at = None;
        row.lease_until = None;
        row.ended_at = Some(now);
        row.hold_id = None;
        row.cost_ucr = row.cost_ucr.saturating_add(charged);
        row.usage = usage;
        row.status_reason = Some(if by_user { "cancelled by a user" } else { "cancelled: its run failed" }.to_owned());
    }
    turn.emit(
        task.mission_id,
        "task.cancelled",
        Some(task.id),
        json!({"credits": charged.to_string(), "usage": usage}),
    );
    count_done(turn, task.id)
}

/// Charges a task that its user cancelled: `cost` and `usage` of the calls that end with it, and the journaled calls of
/// earlier attempts, which an attempt that succeeded would have consumed. What was charged, and all of the usage.
pub(super) fn charge_journal(
    turn: &mut Turn<'_>,
    task: &Task,
    cost: Ucr,
    usage: Option<Usage>,
) -> Result<(Ucr, Option<Usage>), Refusal> {
    let is_open = |call: &&UsageCall| call.state == CallState::Done && !call.billable;
    let journaled: Vec<_> =
        turn.set.calls_of(task.id).filter(is_open).map(|call| (call.id, call.cost_ucr, call.usage)).collect();
    let (mut cost, mut usage) = (cost, usage);
    for (call, price, used) in journaled {
        cost = cost.saturating_add(price);
        usage = used.map(|used| sum(usage, &used)).or(usage);
        if let Some(call) = turn.set.calls.change(call) {
            call.billable = true;
        }
    }
    let charged = if cost.is_positive() { charge(turn, task, cost)? } else { Ucr::ZERO };
    Ok((charged, usage))
}

/// Keeps a row about an attempt that ended without success.
pub(super) fn note_attempt(turn: &mut Turn<'_>, task: &Task, outcome: &str, error: Option<StepError>) {
    turn.set.attempts.push(Attempt {
        task_id: task.id,
        tenant_id: task.tenant_id,
        number: task.attempt,
        outcome: outcome.to_owned(),
        worker_id: task.worker_id,
        error,
        started_at: task.started_at,
        ended_at: turn.now,
    });
}
