//! Schedules fire: what is due becomes a mission, each time once, whoever looks first.
//!
//! Any number of processes may run a [`Scheduler`]. Each looks at what is due, works out outside of the transaction what
//! to submit and when the expression comes true next, and decides under the lock on the schedule's row: a process that
//! comes second finds another version and does nothing. A crash before the commit leaves the schedule due, for the next
//! look; after it, the mission is there and the row has moved on.

use std::time::Duration;

use bursar_domain::flow::{self, Due, Fired, Firing, FiringError, Refusal, Slot, Submission};
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::record::Schedule;
use bursar_domain::time::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::wish::{Unfit, Wish};
use crate::clock::rfc3339;
use crate::cron::{Cron, CronError};
use crate::store::{Conflict, StoreError, Want};

/// How often it looks at least.
const PASS: Duration = Duration::from_secs(1);
/// Schedules fired per look.
const CHUNK: i64 = 200;

/// Fires schedules until it is stopped.
#[derive(Debug)]
pub struct Scheduler {
    engine: Engine,
}

impl Scheduler {
    /// A scheduler.
    pub fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Looks about once a second, earlier when something is due, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.engine.fire_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::warn!(%error, "schedules could not be looked at");
                    PASS
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

impl Engine {
    /// Fires all schedules that are due now; how long until the next may be.
    pub async fn fire_due(&self) -> Result<Duration, StoreError> {
        let now = self.clock().now();
        let mut found = self.store().due_schedules(now, CHUNK).await?;
        let is_full = found.len() as i64 == CHUNK;
        let released = self.store().released_schedules(CHUNK).await?;
        found.extend(released.into_iter().filter(|row| row.due_at.is_none_or(|due| due > now)));
        let mut is_odd = false;
        for schedule in found {
            match self.fire_schedule(&schedule, now).await {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    is_odd = true;
                    tracing::error!(%error, schedule = %schedule.id, "a schedule can't fire");
                }
                Ok(fired) => {
                    is_odd |= fired == Fired::Stale;
                    self.metrics().note_firing(&fired);
                }
            }
        }
        if is_odd {
            // it may still be due: not at once again
            return Ok(PASS);
        }
        if is_full {
            return Ok(Duration::ZERO);
        }
        let next = self.store().next_schedule().await?;
        let until_due = next.map_or(PASS.as_millis() as i64, |due| due.since_ms(self.clock().now()).max(1));
        Ok(PASS.min(Duration::from_millis(until_due as u64)))
    }

    /// Fires one schedule as it was looked at.
    async fn fire_schedule(&self, seen: &Schedule, now: Timestamp) -> Result<Fired, StoreError> {
        let (due, next) = occurrences(seen, now);
        let wish = match self.fit(wish_of(seen, None)).await {
            Ok(submission) => Ok(submission),
            Err(Unfit::Store(error)) => return Err(error),
            Err(unfit) => Err(name_unfit(&unfit)),
        };
        let fired = self.decide_firing(seen, due, next, wish.as_ref().map_err(Clone::clone)).await;
        let fired = match fired {
            Err(error) if error.is_transient() => return Err(error),
            // it can't be written: noted in place of the mission, so that it does not come up again and again
            Err(error) => {
                tracing::warn!(%error, schedule = %seen.id, "a firing could not be written");
                let note = if matches!(error, StoreError::Conflict(Conflict::MissionKey)) {
                    named(
                        "idempotency-key-reused",
                        "a client used the idempotency key of this firing for a mission of its own",
                    )
                } else {
                    named("internal", "the database refused the mission; the server's log has the cause")
                };
                self.decide_firing(seen, due, next, Err(note)).await?
            }
            Ok(fired) => fired,
        };
        if let Fired::Made { replaced: Some((mission, run)), .. } = fired {
            self.end_run(run, mission).await;
        }
        if let Fired::Refused(error) = &fired {
            tracing::info!(schedule = %seen.id, code = error.code, "a schedule's submit was refused");
        }
        Ok(fired)
    }

    async fn decide_firing(
        &self,
        seen: &Schedule,
        due: Option<Due>,
        next: Option<Slot>,
        wish: Result<&Submission, FiringError>,
    ) -> Result<Fired, StoreError> {
        let want = Want {
            schedules: vec![seen.id],
            begins: true,
            missions: seen.last_mission_id.into_iter().collect(),
            ..Want::wallets(wish.iter().map(|submission| submission.wallet_id))
        };
        let firing =
            Firing { schedule: seen.id, version: seen.version, due, next, wish, write_time: rfc3339, name_refusal };
        self.decide(&want, &mut |turn| flow::fire(turn, &firing)).await
    }
}

/// What a schedule submits.
pub(super) fn wish_of(schedule: &Schedule, idempotency_key: Option<String>) -> Wish {
    Wish {
        tenant_id: schedule.tenant_id,
        workflow: schedule.workflow.clone(),
        input: schedule.input.clone().unwrap_or_default(),
        metadata: Some(serde_json::json!({"schedule_id": schedule.id})),
        tags: schedule.tags.clone().unwrap_or_default(),
        idempotency_key,
        request_hash: format!("schedule:{}", schedule.id),
        priority: schedule.priority,
        budget_ucr: schedule.budget_ucr,
        on_exhausted: schedule.on_exhausted,
        dedupe: None,
        project_id: None,
    }
}

/// The latest time that is due, and the one after it.
fn occurrences(seen: &Schedule, now: Timestamp) -> (Option<Due>, Option<Slot>) {
    let (Some(fire_at), Some(due_at)) = (seen.next_at, seen.due_at) else { return (None, None) };
    if due_at > now {
        return (None, None);
    }
    let first = Slot { fire_at, due_at };
    // the expression was good when it was stored; if this program reads it differently, it fires this once
    let Ok(cron) = Cron::parse(&seen.cron, &seen.zone) else {
        return (Some(Due { slot: first, is_after_others: false }), None);
    };
    let slot_of = |at: Timestamp| flow::slot(seen.id, seen.jitter_ms, at, cron.after(at));
    let mut latest = cron.until(now).filter(|at| *at > fire_at).map(slot_of);
    if let Some(early) = latest.filter(|slot| slot.due_at > now) {
        // its time is here, but its jitter is not over
        latest = cron.until(early.fire_at.plus_ms(-1)).filter(|at| *at > fire_at).map(slot_of);
    }
    let slot = latest.unwrap_or(first);
    (Some(Due { slot, is_after_others: latest.is_some() }), cron.after(slot.fire_at).map(slot_of))
}

/// When a schedule fires first after a time.
pub(super) fn first_slot(schedule: &Schedule, now: Timestamp) -> Result<Option<Slot>, CronError> {
    let cron = Cron::parse(&schedule.cron, &schedule.zone)?;
    let slot_of = |at: Timestamp| flow::slot(schedule.id, schedule.jitter_ms, at, cron.after(at));
    Ok(cron.after(now).map(slot_of))
}

fn named(code: &str, message: &str) -> FiringError {
    FiringError { code: code.to_owned(), message: message.to_owned() }
}

/// The codes are those of the API's problems.
fn name_unfit(unfit: &Unfit) -> FiringError {
    let code = match unfit {
        // schedules name no project
        Unfit::WorkflowName
        | Unfit::UnknownWorkflow
        | Unfit::Input(_)
        | Unfit::UnknownProject
        | Unfit::ArchivedProject => "validation",
        Unfit::NoPrices => "no-prices",
        Unfit::NoWallet => "no-wallet",
        Unfit::Store(_) => "store-unavailable",
    };
    named(code, &unfit.to_string())
}

/// The codes are those of the API's problems; `internal` is one that nobody outside can cause.
pub(super) fn name_refusal(refusal: &Refusal) -> FiringError {
    let code = match refusal {
        Refusal::Ledger(LedgerRefusal::Insufficient { .. }) => "insufficient-credits",
        Refusal::Ledger(LedgerRefusal::InDebt(_)) => "wallet-in-debt",
        Refusal::Ledger(LedgerRefusal::WalletFrozen) => "wallet-frozen",
        Refusal::Ledger(LedgerRefusal::OverLimit { .. }) => "limit-reached",
        Refusal::Ledger(LedgerRefusal::UnknownWallet(_)) => "no-wallet",
        Refusal::OverBudget { .. } => "budget-too-small",
        Refusal::QueueFull { .. } => "queue-full",
        Refusal::Pricing(_) => "validation",
        _ => "internal",
    };
    named(code, &refusal.to_string())
}

#[cfg(test)]
mod tests;
