//! Rates: requests and tokens a minute, pauses that providers ask for, and a breaker for each provider.
//!
//! Asked right before each call, corrected when it ended. All processes share what stands in Redis; without it each
//! takes its share of the limits. Losing all of it costs a burst, never work and never money: nothing that is decided
//! here is true for longer than a few minutes. A call without limits asks nobody, as long as its provider is well.

mod bucket;
mod gate;
mod home;
mod limits;
mod local;
mod redis;

pub use gate::Lesson;
pub use home::GateLook;
pub use limits::{Limit, MOST_A_MINUTE, ONLY_KEY, ProviderLimits, RateLimits, Slot, Subject, Unit};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bursar_domain::id::TenantId;
use bursar_domain::outcome::RateKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::time::MissedTickBehavior;

use self::redis::Shared;
use crate::link::RedisLink;
use home::{Answer, Away, Home, Wanted};
use local::Local;

/// How long a place is kept beyond its time, for one who comes late: a busy pool, a sweep that lags.
const PLACE_MS: i64 = 30_000;
/// How much too early one may come back: clocks differ by as much.
const EARLY_MS: i64 = 50;
/// How often the gates of other processes are looked at: so long a call without limits may not know of a pause.
const LOOK: Duration = Duration::from_millis(500);

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: String,
}

/// A call that somebody wants to make.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The provider's name.
    pub provider: String,
    /// The model's.
    pub model: String,
    /// For whom.
    pub tenant: TenantId,
    /// The estimate: input and the most output.
    pub tokens: u64,
    /// Who asks: known by it when it comes back.
    pub caller: String,
}

/// What was taken for a call, or for a place: to be ended with [`Rates::ended`] or [`Rates::give_up`].
#[derive(Debug, Clone)]
pub struct Taken {
    provider: String,
    slots: Vec<Slot>,
    place: String,
    in_redis: bool,
    is_probe: bool,
}

impl Taken {
    /// Whether everybody waits for what comes of this call.
    pub fn is_probe(&self) -> bool {
        self.is_probe
    }
}

/// Not now.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What stands in the way.
    pub kind: RateKind,
    /// In words.
    pub reason: String,
    /// For how long.
    pub wait_ms: i64,
    /// The place in the line, paid for.
    pub place: Option<Taken>,
}

/// One bucket as it stands.
#[derive(Debug, Clone)]
pub struct Level {
    /// Which, and its limit.
    pub slot: Slot,
    /// What is left; below zero is promised.
    pub left: i64,
}

/// Everything as it stands.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whether all processes share it.
    pub is_shared: bool,
    /// How many processes share the limits while they cannot count together.
    pub workers: u64,
    /// Every configured bucket but the tenants'.
    pub levels: Vec<Level>,
    /// Every provider that has a limit or was asked.
    pub gates: BTreeMap<String, GateLook>,
}

/// The rates of a process. Clones share it.
#[derive(Debug, Clone)]
pub struct Rates {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limits: RateLimits,
    local: Local,
    shared: Option<Shared>,
    is_away: AtomicBool,
    known: Mutex<Known>,
    /// Moves with each mark, so that a look that began before it does not wipe it.
    marks: AtomicU64,
    refusals: Family<Kind, Counter>,
    pauses: Family<Provider, Counter>,
}

#[derive(Debug, Default)]
struct Known {
    providers: BTreeSet<String>,
    /// Those that must be asked for.
    marked: BTreeSet<String>,
    gates: BTreeMap<String, GateLook>,
}

impl Rates {
    /// Rates of this process alone.
    pub fn local(limits: RateLimits) -> Self {
        Self { inner: Arc::new(Inner::new(limits, None)) }
    }

    /// Rates that all processes on that Redis share. Must be called inside a tokio runtime: it watches the gates.
    pub fn shared(limits: RateLimits, link: RedisLink) -> Self {
        let inner = Arc::new(Inner::new(limits, Some(Shared::new(link))));
        tokio::spawn(watch(Arc::downgrade(&inner)));
        Self { inner }
    }

    /// Whether anything is limited.
    pub fn has_limits(&self) -> bool {
        self.inner.limits != RateLimits::default()
    }

    /// Whether a call has to ask anybody: it is limited, or its provider is not well.
    pub fn must_ask(&self, ask: &Ask) -> bool {
        !self.inner.slots(ask).is_empty() || self.inner.known().marked.contains(&ask.provider)
    }

    /// So many processes work: without Redis each takes its share.
    pub fn share_with(&self, workers: u64) {
        self.inner.local.share_with(workers);
    }

    /// Whether all processes count together now.
    pub fn is_shared(&self) -> bool {
        self.inner.home().1
    }

    /// Takes what a call needs, all or nothing.
    pub async fn ask(&self, ask: &Ask) -> Result<Taken, Box<Refused>> {
        let inner = &*self.inner;
        let slots = inner.slots(ask);
        let place = format!("{}:{}:{}", ask.caller, ask.provider, ask.model);
        let mut taken = Taken { provider: ask.provider.clone(), slots, place, in_redis: false, is_probe: false };
        if !inner.note_provider(&ask.provider) && taken.slots.is_empty() {
            return Ok(taken);
        }
        let wanted = Wanted { provider: &ask.provider, place: &taken.place, slots: &taken.slots };
        let (answer, in_redis) = inner.take(&wanted).await;
        taken.in_redis = in_redis;
        let (kind, reason, wait_ms, place) = match answer {
            Answer::Go => return Ok(taken),
            Answer::Probe => return Ok(Taken { is_probe: true, ..taken }),
            Answer::Paused(ms) => {
                let reason = format!("provider `{}` asked everybody who uses its key to wait", ask.provider);
                (RateKind::Paused, reason, ms, None)
            }
            Answer::Open(ms) => {
                let reason = format!("provider `{}` failed several times in a row and is left alone", ask.provider);
                (RateKind::CircuitOpen, reason, ms, None)
            }
            Answer::Limit { wait_ms, which, has_place } => {
                let slot = taken.slots.get(which);
                let kind = slot.map_or(RateKind::Provider, Slot::kind);
                let reason = slot.map(Slot::words).unwrap_or_default();
                (kind, reason, wait_ms, has_place.then_some(taken))
            }
        };
        inner.refusals.get_or_create(&Kind { kind: kind.as_str().to_owned() }).inc();
        Err(Box::new(Refused { kind, reason, wait_ms: wait_ms.max(1), place }))
    }

    /// A call ended: what it used goes for what was taken, and its provider is judged. `sent` is whether anything left
    /// this process; `used` the tokens, where they are known.
    pub async fn ended(&self, taken: &Taken, sent: bool, used: Option<u64>, lesson: Lesson) {
        let inner = &*self.inner;
        let back = |slot: &Slot| {
            let cost = i64::try_from(slot.cost).unwrap_or(i64::MAX);
            let used = used.map(|used| i64::try_from(used).unwrap_or(i64::MAX));
            match (slot.unit, sent) {
                (_, false) => cost,
                (Unit::Requests, true) => 0,
                (Unit::Tokens, true) => cost - used.unwrap_or(cost),
            }
        };
        let back: Vec<(Slot, i64)> = taken.slots.iter().map(|slot| (slot.clone(), back(slot))).collect();
        let back: Vec<(Slot, i64)> = back.into_iter().filter(|(_, units)| *units != 0).collect();
        if !back.is_empty() {
            inner.give(taken, None, &back).await;
        }
        inner.learn(taken, lesson).await;
    }

    /// Gives up a place: nobody will come for it.
    pub async fn give_up(&self, place: &Taken) {
        let cost = |slot: &Slot| (slot.clone(), i64::try_from(slot.cost).unwrap_or(i64::MAX));
        let back: Vec<(Slot, i64)> = place.slots.iter().map(cost).collect();
        self.inner.give(place, Some(&place.place), &back).await;
    }

    /// Everything as it stands.
    pub async fn look(&self) -> Look {
        let inner = &*self.inner;
        let slots = inner.limits.fixed();
        let providers: Vec<String> = inner.known().providers.iter().cloned().collect();
        let read = async |home: &dyn Home| Ok::<_, Away>((home.left(&slots).await?, home.gates(&providers).await?));
        let (home, mut is_shared) = inner.home();
        let mut read_now = read(home).await;
        if let Err(away) = &read_now {
            inner.note_away(away);
            is_shared = false;
            read_now = read(&inner.local).await;
        }
        let (left, gates) = read_now.unwrap_or_default();
        Look {
            is_shared,
            workers: inner.local.shares(),
            levels: slots.into_iter().zip(left).map(|(slot, left)| Level { slot, left }).collect(),
            gates: providers.into_iter().zip(gates).collect(),
        }
    }

    /// Names its counters for exposition.
    pub fn register(&self, registry: &mut Registry) {
        let inner = &*self.inner;
        let about = "Calls that were refused before anything was sent, by the kind of limit";
        registry.register("bursar_rate_refusals", about, inner.refusals.clone());
        registry.register("bursar_provider_pauses", "Pauses that providers asked for", inner.pauses.clone());
        let gauge = |value: i64| {
            let gauge = Gauge::<i64>::default();
            gauge.set(value);
            gauge
        };
        let about = "Whether all processes count their calls together; else each takes its share of the limits";
        registry.register("bursar_rates_shared", about, gauge(i64::from(self.is_shared())));
        let workers = i64::try_from(inner.local.shares()).unwrap_or(i64::MAX);
        registry.register("bursar_rates_sharers", "Processes that share the limits without Redis", gauge(workers));
        let breakers = Family::<Provider, Gauge>::default();
        for (provider, gate) in inner.gates() {
            let state = match gate.breaker {
                "open" => 2,
                "half_open" => 1,
                _ => 0,
            };
            breakers.get_or_create(&Provider { provider }).set(state);
        }
        registry.register("bursar_breaker_state", "0 closed, 1 half-open, 2 open, by provider", breakers);
    }
}

impl Inner {
    fn new(limits: RateLimits, shared: Option<Shared>) -> Self {
        let known = Known { providers: limits.providers.keys().cloned().collect(), ..Known::default() };
        Self {
            limits,
            local: Local::new(),
            shared,
            is_away: AtomicBool::new(false),
            known: Mutex::new(known),
            marks: AtomicU64::new(0),
            refusals: Family::default(),
            pauses: Family::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self, ask: &Ask) -> Vec<Slot> {
        self.limits.slots(&ask.provider, &ask.model, Some(ask.tenant), ask.tokens)
    }

    /// Takes note of a provider; whether it must be asked for.
    fn note_provider(&self, provider: &str) -> bool {
        let mut known = self.known();
        if !known.providers.contains(provider) {
            known.providers.insert(provider.to_owned());
            if self.shared.is_some() {
                // others may know what this process has not looked at yet
                known.marked.insert(provider.to_owned());
            }
        }
        known.marked.contains(provider)
    }

    fn mark(&self, provider: &str) {
        self.marks.fetch_add(1, Ordering::SeqCst);
        self.known().marked.insert(provider.to_owned());
    }

    /// The home that serves now, and whether all processes share it.
    fn home(&self) -> (&dyn Home, bool) {
        match &self.shared {
            Some(shared) if !self.is_away.load(Ordering::SeqCst) => (shared, true),
            _ => (&self.local, false),
        }
    }

    fn note_away(&self, away: &Away) {
        if !self.is_away.swap(true, Ordering::SeqCst) {
            tracing::warn!(error = %away, "rates are counted in this process alone, each takes its share of the limits");
        }
    }

    async fn take(&self, wanted: &Wanted<'_>) -> (Answer, bool) {
        let (home, in_redis) = self.home();
        match home.take(wanted).await {
            Ok(answer) => (answer, in_redis),
            Err(away) => {
                self.note_away(&away);
                // the process's own home is never away
                (self.local.take(wanted).await.unwrap_or(Answer::Go), false)
            }
        }
    }

    /// Gives back where it was taken; what was taken in Redis is lost while that is away, and soon forgotten.
    async fn give(&self, taken: &Taken, place: Option<&str>, back: &[(Slot, i64)]) {
        let (home, in_redis) = self.home();
        if taken.in_redis != in_redis {
            return;
        }
        if let Err(away) = home.give(place, back).await {
            self.note_away(&away);
        }
    }

    async fn learn(&self, taken: &Taken, lesson: Lesson) {
        let is_marked = || self.known().marked.contains(&taken.provider);
        match lesson {
            Lesson::Nothing if !taken.is_probe => return,
            Lesson::Alive if !taken.is_probe && !is_marked() => return,
            Lesson::Nothing | Lesson::Alive => {}
            Lesson::Fault | Lesson::Pause(_) => self.mark(&taken.provider),
        }
        if let Lesson::Pause(_) = lesson {
            self.pauses.get_or_create(&Provider { provider: taken.provider.clone() }).inc();
        }
        let (home, _) = self.home();
        if let Err(away) = home.learn(&taken.provider, lesson, taken.is_probe).await {
            self.note_away(&away);
            let _ = self.local.learn(&taken.provider, lesson, taken.is_probe).await;
        }
        if self.shared.is_none() {
            self.look_at_own(&taken.provider);
        }
    }

    /// Without others there is nobody to ask: a gate that is clear needs no look.
    fn look_at_own(&self, provider: &str) {
        if self.local.gate(provider).is_clear {
            self.known().marked.remove(provider);
        }
    }

    /// How gates stand, as far as this process knows.
    fn gates(&self) -> BTreeMap<String, GateLook> {
        if self.is_away.load(Ordering::SeqCst) || self.shared.is_none() {
            let providers = self.known().providers.clone();
            return providers.into_iter().map(|name| (name.clone(), self.local.gate(&name))).collect();
        }
        self.known().gates.clone()
    }

    /// Looks at the gates of all processes, and whether Redis answers.
    async fn watch_once(&self, shared: &Shared) {
        let providers: Vec<String> = self.known().providers.iter().cloned().collect();
        let marks = self.marks.load(Ordering::SeqCst);
        match shared.gates(&providers).await {
            Err(away) => self.note_away(&away),
            Ok(gates) => {
                if self.is_away.swap(false, Ordering::SeqCst) {
                    tracing::info!("rates are counted by all processes together again");
                }
                let mut known = self.known();
                for (provider, gate) in providers.into_iter().zip(gates) {
                    if !gate.is_clear {
                        known.marked.insert(provider.clone());
                    } else if marks == self.marks.load(Ordering::SeqCst) {
                        known.marked.remove(&provider);
                    }
                    known.gates.insert(provider, gate);
                }
            }
        }
    }
}

/// Watches for as long as anybody has the rates.
async fn watch(inner: Weak<Inner>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(inner) = inner.upgrade() else { return };
        if let Some(shared) = &inner.shared {
            inner.watch_once(shared).await;
        }
    }
}
