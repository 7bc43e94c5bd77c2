//! Rates: whether it is a call's time, asked right before its reservation, and told how it ended.
//!
//! A no ends the step, which is parked until its time without a slot. A crash after a yes leaves what was taken in the
//! buckets, which fill by themselves.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bursar_domain::flow::Guard;
use bursar_domain::id::{CallId, TenantId};
use bursar_domain::limits;
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, RateWait, StepError};
use bursar_workers::CallEnd;
use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::rates::{Ask, Lesson, RateLimits, Rates, Refused, Taken};

/// How often it is counted who shares the limits: as often as workers say that they live.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Workers that were heard of within this time are alive: four heartbeats.
const ALIVE_MS: i64 = 20_000;

/// Errors for which a provider is to blame, and not what was asked of it or the account.
const FAULTS: [&str; 6] = [
    "provider_answer_unreadable",
    "provider_disconnected",
    "provider_timeout",
    "provider_unavailable",
    "provider_unreachable",
    "upstream_truncated",
];

impl Engine {
    /// From now on calls are counted there. To be called once, before anything runs.
    pub fn know_rates(&self, rates: Rates) {
        let has_limits = rates.has_limits();
        if self.parts.rates.set(rates).is_ok() && has_limits {
            self.keep_counting_sharers();
        }
    }

    /// What may be sent now.
    pub fn rates(&self) -> &Rates {
        self.parts.rates.get_or_init(|| Rates::local(RateLimits::default()))
    }

    /// Counts now who shares the limits.
    pub(super) async fn count_sharers(&self) {
        match self.store().workers(self.clock().now().plus_ms(-ALIVE_MS)).await {
            Ok(workers) => self.rates().share_with(workers.len() as u64),
            Err(error) => tracing::debug!(%error, "who shares the limits stays as it was"),
        }
    }

    fn keep_counting_sharers(&self) {
        // a weak hold, so that the engine can end
        let parts = std::sync::Arc::downgrade(&self.parts);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(COUNT_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(parts) = parts.upgrade() else { return };
                Self { parts }.count_sharers().await;
            }
        });
    }
}

/// What the calls of one attempt took.
#[derive(Debug)]
pub(super) struct Rated {
    tenant: TenantId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Taken for the call that is being reserved.
    asked: Option<Taken>,
    /// Taken for calls that are under way.
    sent: HashMap<CallId, Taken>,
    /// The place that the task will come back for, and how long it waits for it.
    place: Option<(i64, Taken)>,
}

impl Rated {
    pub(super) fn of(tenant: TenantId) -> Self {
        Self { tenant, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a call. One that an earlier attempt bought is replayed, and asks nobody.
    pub(super) async fn may_ask(
        &self,
        engine: &Engine,
        guard: &Guard,
        is_first: bool,
        call: &CallRequest,
    ) -> Result<(), CallRefusal> {
        let rates = engine.rates();
        let ask = Ask {
            provider: call.provider.clone(),
            model: call.model.clone(),
            tenant: self.tenant,
            tokens: call.input_tokens.saturating_add(call.max_output_tokens),
            caller: guard.task_id.to_string(),
        };
        if !is_first && rates.must_ask(&ask) {
            let hashes: Vec<String> = [&call.request_hash].into_iter().chain(&call.alternatives).cloned().collect();
            let found = engine.store().has_answer(guard.task_id, &hashes).await;
            if found.map_err(|error| CallRefusal::Unavailable(error.to_string()))? {
                return Ok(());
            }
        }
        match rates.ask(&ask).await {
            Ok(taken) => {
                self.lock().asked = Some(taken);
                Ok(())
            }
            Err(refused) => Err(self.refused(engine, *refused).await),
        }
    }

    /// Of several places the earliest is kept: the task comes back once.
    async fn refused(&self, engine: &Engine, refused: Refused) -> CallRefusal {
        let wait_ms = refused.wait_ms.min(limits::MAX_RETRY_AFTER_MS);
        let spare = refused.place.and_then(|place| {
            let mut state = self.lock();
            match state.place.take() {
                Some(kept) if kept.0 <= wait_ms => {
                    state.place = Some(kept);
                    Some(place)
                }
                kept => {
                    state.place = Some((wait_ms, place));
                    kept.map(|(_, place)| place)
                }
            }
        });
        if let Some(spare) = spare {
            engine.rates().give_up(&spare).await;
        }
        let until = engine.clock().now().plus_ms(wait_ms);
        CallRefusal::Wait(Box::new(RateWait { kind: refused.kind, reason: refused.reason, wait_ms, until }))
    }

    /// Takes note of what the reservation said. What will not be sent is given back.
    pub(super) async fn granted(&self, engine: &Engine, answer: &Result<CallPermit, CallRefusal>) {
        let (back, spare) = {
            let mut state = self.lock();
            let asked = state.asked.take();
            match answer {
                Ok(CallPermit::Send(id)) => {
                    if let Some(taken) = asked {
                        state.sent.insert(*id, taken);
                    }
                    (None, state.place.take())
                }
                _ => (asked, None),
            }
        };
        if let Some(taken) = back {
            engine.rates().ended(&taken, false, None, Lesson::Nothing).await;
        }
        // another model answers: nobody comes for the place in the line of the first one
        if let Some((_, place)) = spare {
            engine.rates().give_up(&place).await;
        }
    }

    /// A call ended: its estimate is corrected, and its provider judged.
    pub(super) async fn ended(&self, engine: &Engine, call: &FinishedCall, end: CallEnd<'_>) {
        let taken = self.lock().sent.remove(&call.id);
        let Some(taken) = taken else { return };
        let lesson = match end {
            CallEnd::Answered => Lesson::Alive,
            CallEnd::Stopped | CallEnd::NotSent => Lesson::Nothing,
            CallEnd::Failed(error) => lesson_of(error),
        };
        let usage = call.usage.as_ref().unwrap_or(&call.counted);
        let used = usage.input_tokens.saturating_add(usage.output_tokens);
        let is_sent = !matches!(end, CallEnd::NotSent);
        engine.rates().ended(&taken, is_sent, Some(used), lesson).await;
    }
}

/// What an error says about the provider.
fn lesson_of(error: &StepError) -> Lesson {
    match error.class {
        ErrorClass::RateLimited => {
            let pause = error.retry_after_ms.unwrap_or(limits::RATE_LIMIT_PAUSE_MS);
            Lesson::Pause(pause.clamp(1, limits::MAX_RETRY_AFTER_MS))
        }
        _ if FAULTS.contains(&error.code.as_str()) => Lesson::Fault,
        // a refusal is an answer, and so is an account without quota
        ErrorClass::Permanent | ErrorClass::Retryable => Lesson::Alive,
        _ => Lesson::Nothing,
    }
}
