//! What the engine counts, for `/metrics` and for `bursar bench`.

use bursar_domain::credits::Ucr;
use bursar_domain::flow::Fired;
use bursar_domain::outcome::{CallPermit, CallRefusal};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::store::BulkOutcome;

/// One label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Model {
    model: String,
}

/// Bounds of histograms that compare what was with what was expected; 1 is exact.
const RATIOS: [f64; 14] = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0];

fn ratios() -> Histogram {
    Histogram::new(RATIOS)
}

/// Counters of one process.
#[derive(Debug)]
pub struct Metrics {
    /// Tasks that claims took.
    pub(super) claims: Counter,
    /// Ids that came from the queue.
    pub(super) popped_from_queue: Counter,
    /// Ids that the store served while the queue was away.
    pub(super) polled_from_store: Counter,
    /// Calls to the queue that failed.
    pub(super) queue_failures: Counter,
    /// Whether the queue answered last.
    pub(super) queue_up: Gauge,
    /// Attempts that were settled.
    pub(super) settles: Counter,
    /// Late settles that the fence refused.
    pub(super) stale_settles: Counter,
    /// Steps that did not hear their stop and were given up.
    pub(super) steps_given_up: Counter,
    events: Family<Kind, Counter>,
    finds: Family<Kind, Counter>,
    reservations: Family<Kind, Counter>,
    backlog: Family<Pool, Gauge>,
    queue_depth: Family<Pool, Gauge>,
    estimates: Family<Model, Histogram>,
    counts: Family<Model, Histogram>,
    doubts: Family<Model, Counter>,
    firings: Family<Kind, Counter>,
    pruned: Family<Kind, Counter>,
    redriven: Family<Kind, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            claims: Counter::default(),
            popped_from_queue: Counter::default(),
            polled_from_store: Counter::default(),
            queue_failures: Counter::default(),
            queue_up: Gauge::default(),
            settles: Counter::default(),
            stale_settles: Counter::default(),
            steps_given_up: Counter::default(),
            events: Family::default(),
            finds: Family::default(),
            reservations: Family::default(),
            backlog: Family::default(),
            queue_depth: Family::default(),
            estimates: Family::new_with_constructor(ratios),
            counts: Family::new_with_constructor(ratios),
            doubts: Family::default(),
            firings: Family::default(),
            pruned: Family::default(),
            redriven: Family::default(),
        }
    }
}

impl Metrics {
    /// Names everything for exposition. Counters get `_total` appended.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("bursar_claims", "Tasks that claims took", self.claims.clone());
        registry.register("bursar_queue_popped", "Task ids that came from the queue", self.popped_from_queue.clone());
        let polled = self.polled_from_store.clone();
        registry.register("bursar_store_fallback", "Task ids that the store served while the queue was away", polled);
        registry.register("bursar_queue_failures", "Calls to the queue that failed", self.queue_failures.clone());
        registry.register("bursar_queue_up", "Whether the queue answered last", self.queue_up.clone());
        registry.register("bursar_settles", "Attempts that were settled", self.settles.clone());
        registry.register("bursar_stale_settles", "Late settles that the fence refused", self.stale_settles.clone());
        let about = "Steps that did not hear their stop and were given up";
        registry.register("bursar_steps_given_up", about, self.steps_given_up.clone());
        registry.register("bursar_events", "Events by type", self.events.clone());
        registry.register("bursar_sweep_finds", "What only the sweep found, by kind", self.finds.clone());
        registry.register("bursar_call_reservations", "Calls asked for, by answer", self.reservations.clone());
        registry.register("bursar_backlog_tasks", "Ready tasks in the store, by pool", self.backlog.clone());
        registry.register("bursar_queue_depth_tasks", "Tasks that the queue knows, by pool", self.queue_depth.clone());
        let about = "What a task cost for each credit that was held for it as an estimate, by model";
        registry.register("bursar_estimate_error_ratio", about, self.estimates.clone());
        let about = "Input tokens that were reported for each that was counted, by model";
        registry.register("bursar_input_count_ratio", about, self.counts.clone());
        let about = "Complete answers whose usage report was missing or not believed, by model";
        registry.register("bursar_usage_doubts", about, self.doubts.clone());
        registry.register(
            "bursar_pruned",
            "Runs whose details, outputs or rest were pruned, and free keys",
            self.pruned.clone(),
        );
        let about = "Missions that bulk actions tried again, by what came of it";
        registry.register("bursar_redriven", about, self.redriven.clone());
        registry.register("bursar_schedule_firings", "Firings of schedules, by outcome", self.firings.clone());
    }

    /// Claims, of which so many were named by the queue and so many by the store.
    pub fn claim_sources(&self) -> (u64, u64, u64) {
        (self.claims.get(), self.popped_from_queue.get(), self.polled_from_store.get())
    }

    pub(super) fn note_event(&self, kind: &str) {
        self.events.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    pub(super) fn sweep_finds(&self, kind: &str, count: u64) {
        self.finds.get_or_create(&Kind { kind: kind.to_owned() }).inc_by(count);
    }

    pub(super) fn note_pruned(&self, kind: &str, count: u64) {
        self.pruned.get_or_create(&Kind { kind: kind.to_owned() }).inc_by(count);
    }

    pub(super) fn note_redriven(&self, outcome: BulkOutcome) {
        self.redriven.get_or_create(&Kind { kind: outcome.as_str().to_owned() }).inc();
    }

    pub(super) fn note_firing(&self, fired: &Fired) {
        let kind = match fired {
            Fired::Stale => return,
            Fired::Made { .. } => "made",
            Fired::Waits => "waits",
            Fired::Skipped => "skipped",
            Fired::Refused(_) => "refused",
        };
        self.firings.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    pub(super) fn set_depths(&self, pool: &str, ready: i64, depth: u64) {
        let pool = Pool { pool: pool.to_owned() };
        self.backlog.get_or_create(&pool).set(ready);
        self.queue_depth.get_or_create(&pool).set(depth as i64);
    }

    pub(super) fn note_estimate(&self, model: &str, estimated: Ucr, charged: Ucr) {
        if estimated.is_positive() {
            let ratio = charged.get() as f64 / estimated.get() as f64;
            self.estimates.get_or_create(&Model { model: model.to_owned() }).observe(ratio);
        }
    }

    pub(super) fn note_count(&self, model: &str, counted: u64, reported: u64) {
        if counted > 0 {
            let ratio = reported as f64 / counted as f64;
            self.counts.get_or_create(&Model { model: model.to_owned() }).observe(ratio);
        }
    }

    pub(super) fn note_doubt(&self, model: &str) {
        self.doubts.get_or_create(&Model { model: model.to_owned() }).inc();
    }

    pub(super) fn note_reservation(&self, answer: &Result<CallPermit, CallRefusal>) {
        let kind = match answer {
            Ok(CallPermit::Send(_)) => "sent",
            Ok(CallPermit::Replay(_)) => "replayed",
            Ok(CallPermit::Listen(_)) => "told",
            Err(CallRefusal::StaleFence) => "stale_fence",
            Err(CallRefusal::NotPriced(_)) => "not_priced",
            Err(CallRefusal::InsufficientCredits { .. }) => "insufficient_credits",
            Err(CallRefusal::FateUnknown { .. }) => "fate_unknown",
            Err(CallRefusal::Wait(_)) => "rate_wait",
            Err(CallRefusal::Unavailable(_)) => "unavailable",
        };
        self.reservations.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }
}
