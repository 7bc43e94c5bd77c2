//! The engine: how a mission happens.
//!
//! A client submits (`submit`): one transaction makes the mission, its run, its tasks and the first holds.
//! What became ready is told to the queue and to watchers, after the commit (`dispatch`). A pool's pump takes ids
//! from the queue, as many as it has free slots, and claims them in the store (`claim`). The claimed job runs as
//! an apalis task (`pool`), which renders nothing under locks and does its step through `workers` (`run`). Before
//! each call the step asks whether it is its time (`rates`), then for a reservation (`reserve`). While it runs, its lease is renewed (`leases`). When it
//! ends, one transaction turns the outcome into state, money and newly ready tasks (`settle`), perhaps handing the
//! worker the successor. What time brings, retries, timers, lost leases, deadlines, comes from `sweep`. The items of a
//! map become tasks in `spread`. People decide what they are asked in `approvals`, and `signals` come in from outside.
//! Users end runs through `cancel`, hold them up through `pause` and have them go on through `renew`, and `wallet` brings
//! credits in. Schedules (`timetable`) submit by themselves when their time comes (`schedule`). Missions that failed for
//! the same reason are tried again together (`redrive`). Missions may belong to `projects`. What settles teach about costs is folded in by `learn`. What is
//! over and old is pruned (`retention`). Every transaction goes through `Engine::decide`: load, decide in pure code, write
//! everything, commit; only then does anything leave the process.

mod absence;
mod approvals;
mod batcher;
mod cancel;
mod claim;
mod conversation;
mod dispatch;
mod facts;
mod forecast;
mod fork;
mod learn;
mod leases;
mod mcp;
mod messages;
mod metering;
mod metrics;
mod patience;
mod pause;
mod pool;
mod prices;
mod projects;
mod rates;
mod redrive;
mod renew;
mod reserve;
mod retention;
mod run;
mod schedule;
mod settle;
mod signals;
mod spread;
mod submit;
mod sweep;
mod tenants;
mod timekeeper;
mod timetable;
mod turns;
mod waiting;
mod wallet;
mod wish;
mod workflow;

pub use approvals::ApprovalError;
pub use cancel::ControlError;
pub use claim::{ClaimedJob, PoolConfig};
pub use conversation::{Spoken, named_outputs};
pub use forecast::ForecastError;
pub use fork::{ForkError, ForkWish};
pub use mcp::Catalog as McpCatalog;
pub use messages::{MessageError, MessageWish};
pub use metering::MeterError;
pub use metrics::Metrics;
pub use pool::{Drained, WorkerPool};
pub use prices::{ActivateError, ModelSum, Published, Simulation};
pub use projects::ProjectError;
pub use redrive::{Hindrance, RedriveError, RedriveOrder, Redriver, Rehearsal, Rehearsed};
pub use retention::{Pruner, Retention};
pub use schedule::Scheduler;
pub use settle::SettleError;
pub use signals::{SignalError, SignalWish};
pub use submit::{Submit, SubmitError, Submitted};
pub use sweep::Sweeper;
pub use timetable::ScheduleError;
pub use waiting::{Blocker, SILENT_MS, Waiting, WaitingGroup, WaitingMission, Workers};
pub use wallet::{BudgetError, LedgerError};
pub use wish::{Unfit, Wish};
pub use workflow::{PutWorkflowError, WorkflowPut};

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bursar_domain::flow::{self, Facts, Turn};
use bursar_domain::id::{MissionId, RunId};
use bursar_domain::record::{Event, Run, Task};
use bursar_domain::state::{RunState, TaskState};
use bursar_domain::time::Timestamp;
use bursar_domain::working_set::WorkingSet;

use crate::clock::{Clock, SystemChance};
use crate::queue::{Queue, ReadyTask};
use crate::rates::Rates;
use crate::store::read::Due;
use crate::store::{Store, StoreError, Want};
use crate::stream::Relay;

use batcher::Batcher;
use facts::FactsCache;
use learn::Notebook;

/// Everything that moves missions. One per process; clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
    relay: Relay,
    clock: Arc<Clock>,
    facts: FactsCache,
    metrics: Metrics,
    weights: tenants::Weights,
    notebook: Notebook,
    submits: Batcher<Submit, Result<Submitted, SubmitError>>,
    settles: Batcher<settle::Settle, Result<settle::Settled, SettleError>>,
    reserves: Batcher<reserve::Reserve, reserve::Reserved>,
    meters: Batcher<metering::Meter, Result<metering::Metered, MeterError>>,
    /// Whether definitions may run programs.
    exec_allowed: AtomicBool,
    /// The tools of MCP servers that definitions may name; not set: none.
    mcp: OnceLock<mcp::Catalog>,
    /// What may be sent now; not set: nothing is limited, and what is known of providers is this process's own.
    rates: OnceLock<Rates>,
    /// Whether the queue took what it was last given. One that answers and takes nothing (its memory is full) is away:
    /// the store serves.
    queue_takes: AtomicBool,
    /// How many missions a tenant may have that says nothing of its own; not set: any number.
    max_queued: OnceLock<i64>,
    /// Wakes the sweep before its time: something may be due.
    attention: tokio::sync::Notify,
}

/// What leaves the process after a commit.
#[derive(Debug, Default)]
struct Effects {
    events: Vec<Event>,
    ready: Vec<ReadyTask>,
    /// Tasks whose wait this decision ended.
    due: Vec<Due>,
    /// Runs that are being ended: their running tasks must stop.
    stops: Vec<(MissionId, RunId)>,
}

impl Effects {
    /// Everything in the changed rows that somebody outside must hear of.
    fn of(set: &WorkingSet, now: Timestamp) -> Self {
        let rows = set.tasks.added().chain(set.tasks.changed());
        let ready = rows
            .filter(|task| task.state == TaskState::Ready)
            .map(|task| ReadyTask {
                task_id: task.id,
                tenant_id: task.tenant_id,
                pool: task.pool.clone(),
                weight: 1,
                priority: task.priority,
                ready_at: task.ready_at.unwrap_or(task.created_at),
            })
            .collect();
        let is_due = |task: &&Task| task.state == TaskState::Waiting && task.due_at.is_some_and(|due| due <= now);
        let due = set.tasks.added().chain(set.tasks.changed()).filter(is_due).map(Due::from).collect();
        let ends = |run: &&Run| matches!(run.state, RunState::Failing | RunState::Cancelling);
        let stops = set.runs.changed().filter(ends).map(|run| (run.mission_id, run.id)).collect();
        Self { events: set.events.clone(), ready, due, stops }
    }
}

impl Engine {
    /// An engine over a store and a queue. Must be called inside a tokio runtime: it starts its batchers.
    pub fn new(store: Arc<dyn Store>, queue: Arc<dyn Queue>, relay: Relay, clock: Arc<Clock>) -> Self {
        let (submits, submit_inbox) = Batcher::new(256);
        let (settles, settle_inbox) = Batcher::new(256);
        let (reserves, reserve_inbox) = Batcher::new(256);
        let (meters, meter_inbox) = Batcher::new(256);
        let engine = Self {
            parts: Arc::new(Parts {
                store,
                queue,
                relay,
                clock,
                facts: FactsCache::default(),
                metrics: Metrics::default(),
                weights: tenants::Weights::default(),
                notebook: Notebook::default(),
                submits,
                settles,
                reserves,
                meters,
                exec_allowed: AtomicBool::new(false),
                mcp: OnceLock::new(),
                rates: OnceLock::new(),
                queue_takes: AtomicBool::new(true),
                max_queued: OnceLock::new(),
                attention: tokio::sync::Notify::new(),
            }),
        };
        submit_inbox.spawn(&engine, 1, submit::SubmitBatch);
        settle_inbox.spawn(&engine, 2, settle::SettleBatch);
        reserve_inbox.spawn(&engine, 1, reserve::ReserveBatch);
        meter_inbox.spawn(&engine, 2, metering::MeterBatch);
        engine.keep_learning();
        engine
    }

    /// From now on definitions may run programs: nodes of the kind `exec` are put and submitted.
    pub fn allow_exec(&self) {
        self.parts.exec_allowed.store(true, Ordering::Relaxed);
    }

    /// From now on a tenant that has no limit of its own may have so many missions that are not over.
    pub fn limit_queues(&self, most: i64) {
        let _ = self.parts.max_queued.set(most);
    }

    /// Whether the queue takes what it is given, as far as this process knows; the sweep looks again every second.
    pub fn queue_takes(&self) -> bool {
        self.parts.queue_takes.load(Ordering::Relaxed)
    }

    /// The store, for reads.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.parts.store
    }

    /// The queue, for health and depth.
    pub fn queue(&self) -> &Arc<dyn Queue> {
        &self.parts.queue
    }

    /// Where frames go.
    pub fn relay(&self) -> &Relay {
        &self.parts.relay
    }

    /// The store's time.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.parts.clock
    }

    /// What happened so far, counted.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// One transaction: loads what is wanted, lets `decide` change it, writes it with all consequences, commits;
    /// then tells queue and watchers. Workflows and prices that a loaded run pins are fetched when they are not
    /// known yet; `decide` may be called again from the start and must not keep anything from an earlier call.
    async fn decide<T: Send>(
        &self,
        want: &Want,
        decide: &mut (dyn FnMut(&mut Turn<'_>) -> T + Send),
    ) -> Result<T, StoreError> {
        let mut fetched = facts::Fetched::default();
        loop {
            // the cache may have let go of what was fetched for this very decision
            let facts = fetched.beside(self.parts.facts.snapshot());
            let now = self.parts.clock.now();
            let max_queued = self.parts.max_queued.get().copied();
            let want = Want { now: Some(now), max_queued, ..want.clone() };
            let mut missing = facts::Missing::default();
            let mut answer = None;
            let mut effects = Effects::default();
            let mut step = |set: &mut WorkingSet| {
                missing = facts::Missing::of(set, &facts);
                if !missing.is_empty() {
                    return;
                }
                let mut turn = Turn { set, facts: &facts as &Facts, now, chance: &mut SystemChance };
                flow::expire_holds(&mut turn);
                answer = Some(decide(&mut turn));
                effects = Effects::of(turn.set, now);
            };
            self.parts.store.transact(&want, &mut step).await?;
            if let Some(answer) = answer {
                self.dispatch(effects).await;
                return Ok(answer);
            }
            fetched.add(self.parts.facts.fetch(&self.parts.store, &missing).await?);
        }
    }
}
