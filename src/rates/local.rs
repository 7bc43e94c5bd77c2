//! Rates of one process: the whole limit where it is alone, its share where Redis is away and others live.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::bucket::{Bucket, Rate};
use super::gate::{Admission, Gate, Lesson};
use super::home::{Answer, Away, GateLook, Home, Wanted};
use super::limits::Slot;
use super::{EARLY_MS, PLACE_MS};

/// Rows of a kind that are kept before those that say nothing any more are dropped.
const MOST_ROWS: usize = 4_096;

/// Buckets, places and gates of this process.
#[derive(Debug)]
pub(super) struct Local {
    born: Instant,
    shares: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    buckets: HashMap<String, (Rate, Bucket)>,
    places: HashMap<String, (i64, usize)>,
    gates: HashMap<String, Gate>,
}

impl Local {
    pub(super) fn new() -> Self {
        Self { born: Instant::now(), shares: AtomicU64::new(1), state: Mutex::default() }
    }

    /// From now on so many processes share every limit.
    pub(super) fn share_with(&self, workers: u64) {
        self.shares.store(workers.max(1), Ordering::Relaxed);
    }

    pub(super) fn shares(&self) -> u64 {
        self.shares.load(Ordering::Relaxed)
    }

    fn now(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rate(&self, slot: &Slot) -> Rate {
        Rate::new(slot.limit, self.shares())
    }

    /// How a provider's gate stands.
    pub(super) fn gate(&self, provider: &str) -> GateLook {
        let now = self.now();
        let gate = self.lock().gates.get(provider).copied().unwrap_or_default();
        GateLook::new(now, (gate.paused, gate.open), gate.is_clear(now))
    }

    fn now_take(&self, wanted: &Wanted<'_>) -> Answer {
        let now = self.now();
        let rates: Vec<Rate> = wanted.slots.iter().map(|slot| self.rate(slot)).collect();
        let state = &mut *self.lock();
        state.drop_old(now);
        // a gate that nobody closed is not kept
        let mut clear = Gate::default();
        let gate = state.gates.get_mut(wanted.provider).unwrap_or(&mut clear);
        let answer = match gate.admission(now) {
            Admission::Paused(ms) => return Answer::Paused(ms),
            Admission::Open(ms) => return Answer::Open(ms),
            Admission::Go => Answer::Go,
            Admission::Probe => Answer::Probe,
        };
        let probed = |gate: &mut Gate| {
            if answer == Answer::Probe {
                gate.probed(now);
            }
            answer
        };
        if let Some((due, which)) = state.places.get(wanted.place).copied() {
            if due - now > EARLY_MS {
                return Answer::Limit { wait_ms: due - now, which, has_place: true };
            }
            state.places.remove(wanted.place);
            return probed(gate);
        }
        let mut longest = (0, 0);
        let mut is_full = false;
        for (which, (slot, rate)) in wanted.slots.iter().zip(&rates).enumerate() {
            let (_, bucket) = state.buckets.entry(slot.key()).or_insert((*rate, Bucket::full(*rate, now)));
            bucket.fill(*rate, now);
            is_full |= bucket.is_line_full(*rate);
            let wait = bucket.wait(*rate, slot.cost);
            longest = if wait > longest.0 { (wait, which) } else { longest };
        }
        let (wait_ms, which) = longest;
        if is_full && wait_ms > 0 {
            let row = wanted.slots.get(which).zip(rates.get(which));
            let bucket = row.and_then(|(slot, rate)| Some((slot, rate, state.buckets.get_mut(&slot.key())?)));
            let again = bucket.map_or(wait_ms, |(slot, rate, (_, bucket))| bucket.ask_again(*rate, slot.cost, now));
            return Answer::Limit { wait_ms: again, which, has_place: false };
        }
        for (slot, rate) in wanted.slots.iter().zip(&rates) {
            if let Some((_, bucket)) = state.buckets.get_mut(&slot.key()) {
                bucket.take(*rate, slot.cost);
            }
        }
        if wait_ms == 0 {
            return probed(gate);
        }
        state.places.insert(wanted.place.to_owned(), (now + wait_ms, which));
        Answer::Limit { wait_ms, which, has_place: true }
    }
}

impl State {
    /// Forgets full buckets and places whose time is long over, where there are many.
    fn drop_old(&mut self, now: i64) {
        if self.buckets.len() > MOST_ROWS {
            self.buckets.retain(|_, (rate, bucket)| {
                bucket.fill(*rate, now);
                bucket.wait(*rate, u64::MAX) > 0
            });
        }
        if self.places.len() > MOST_ROWS {
            self.places.retain(|_, (due, _)| *due + PLACE_MS > now);
        }
    }
}

#[async_trait]
impl Home for Local {
    async fn take(&self, wanted: &Wanted<'_>) -> Result<Answer, Away> {
        Ok(self.now_take(wanted))
    }

    async fn give(&self, place: Option<&str>, back: &[(Slot, i64)]) -> Result<(), Away> {
        let now = self.now();
        let mut state = self.lock();
        if place.is_some_and(|place| state.places.remove(place).is_none()) {
            return Ok(());
        }
        for (slot, units) in back {
            let rate = self.rate(slot);
            let (_, bucket) = state.buckets.entry(slot.key()).or_insert((rate, Bucket::full(rate, now)));
            bucket.fill(rate, now);
            bucket.give(rate, *units);
        }
        Ok(())
    }

    async fn learn(&self, provider: &str, lesson: Lesson, is_probe: bool) -> Result<(), Away> {
        let now = self.now();
        let mut state = self.lock();
        state.gates.entry(provider.to_owned()).or_default().learn(now, lesson, is_probe);
        Ok(())
    }

    async fn left(&self, slots: &[Slot]) -> Result<Vec<i64>, Away> {
        let now = self.now();
        let mut state = self.lock();
        let one = |slot: &Slot| {
            let rate = self.rate(slot);
            let mut fresh = (rate, Bucket::full(rate, now));
            let (_, bucket) = state.buckets.get_mut(&slot.key()).unwrap_or(&mut fresh);
            bucket.fill(rate, now);
            bucket.left()
        };
        Ok(slots.iter().map(one).collect())
    }

    async fn gates(&self, providers: &[String]) -> Result<Vec<GateLook>, Away> {
        Ok(providers.iter().map(|provider| self.gate(provider)).collect())
    }
}
