//! The leases that this process holds: renewed together, and given up in time.
//!
//! A lease that could not be renewed ends here before it ends in the store, by this process's own monotonic clock,
//! so that two workers never believe to hold the same task.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bursar_domain::flow::Guard;
use bursar_domain::id::{RunId, TaskId, WorkerId};
use bursar_domain::limits;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::queue::{Queue, Running};
use crate::store::{Beat, LeaseFate, WorkerRow};

/// How long before its end a lease that was not renewed is given up.
const SAFETY: Duration = Duration::from_millis(500);
/// How often the store is asked which runs are being ended.
const LOOK: Duration = Duration::from_millis(limits::STOP_LOOK_MS.unsigned_abs());
/// Runs that one such look names; whoever is behind them hears of it by its heartbeat.
const MOST_ENDING: i64 = 1_000;

/// How long the queue may take to hear what still runs.
const RENEW_HINTS: Duration = Duration::from_secs(2);

/// Why a running step must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopCause {
    /// The run is being ended, or the task's own deadline passed: settle as cancelled.
    Ends,
    /// The lease is gone: nothing counts any more.
    LeaseLost,
    /// The process drains: hand the task back.
    Drain,
}

#[derive(Debug)]
struct Held {
    guard: Guard,
    run_id: RunId,
    /// What the queue knows of it.
    running: Running,
    until: Instant,
    stop: CancellationToken,
    cause: Arc<Mutex<Option<StopCause>>>,
}

/// What a running step needs to know about its lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseHandle {
    /// Fires when the step must stop.
    pub(super) stop: CancellationToken,
    cause: Arc<Mutex<Option<StopCause>>>,
}

impl LeaseHandle {
    /// Why it must stop, once it must.
    pub(super) fn cause(&self) -> Option<StopCause> {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lease that this process renews for as long as this value lives. However a job ends, in order, in a panic or
/// before it began, its lease is not renewed any more.
#[derive(Debug)]
pub(super) struct KeptLease {
    pub(super) handle: LeaseHandle,
    guard: Guard,
    leases: Arc<Leases>,
}

impl Drop for KeptLease {
    fn drop(&mut self) {
        self.leases.remove(&self.guard);
    }
}

/// All leases of this process.
#[derive(Debug)]
pub(super) struct Leases {
    /// Who is told what ended.
    queue: Arc<dyn Queue>,
    lease: Duration,
    heartbeat: Duration,
    held: Mutex<HashMap<TaskId, Held>>,
}

impl Leases {
    pub(super) fn new(queue: Arc<dyn Queue>, lease: Duration, heartbeat: Duration) -> Self {
        Self { queue, lease, heartbeat, held: Mutex::default() }
    }

    /// How long leases last, in ms.
    pub(super) fn lease_ms(&self) -> i64 {
        self.lease.as_millis() as i64
    }

    /// Takes note of a lease that was asked for at `asked`.
    pub(super) fn add(self: &Arc<Self>, guard: Guard, run_id: RunId, running: Running, asked: Instant) -> KeptLease {
        let handle = LeaseHandle { stop: CancellationToken::new(), cause: Arc::default() };
        let held = Held {
            run_id,
            running,
            until: asked + self.lease,
            stop: handle.stop.clone(),
            cause: handle.cause.clone(),
            guard: guard.clone(),
        };
        self.lock().insert(guard.task_id, held);
        KeptLease { handle, guard, leases: self.clone() }
    }

    /// Forgets a lease, if it is still that one.
    pub(super) fn remove(&self, guard: &Guard) {
        let mut held = self.lock();
        if held.get(&guard.task_id).is_some_and(|held| held.guard == *guard) {
            let gone = held.remove(&guard.task_id);
            drop(held);
            if let Some(Held { running, .. }) = gone {
                self.queue.end(&running.pool, running.tenant_id, running.task_id);
            }
        }
    }

    /// How many tasks run.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Stops what the condition names.
    pub(super) fn stop_where(&self, cause: StopCause, condition: impl Fn(TaskId, RunId, Instant) -> bool) {
        for (task, held) in self.lock().iter() {
            if condition(*task, held.run_id, held.until) {
                held.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
                held.stop.cancel();
            }
        }
    }

    fn running(&self) -> Vec<Running> {
        self.lock().values().map(|held| held.running.clone()).collect()
    }

    fn guards(&self) -> Vec<Guard> {
        self.lock().values().map(|held| held.guard.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews the leases of a process and its entry among the workers until `stop`.
pub(super) async fn keep(engine: Engine, leases: Arc<Leases>, mut row: WorkerRow, stop: CancellationToken) {
    let mut stops = engine.relay().hub().watch_stops();
    let (mut next_beat, mut next_look) = (Instant::now(), Instant::now() + LOOK);
    let mut ticks = tokio::time::interval(leases.heartbeat.min(Duration::from_millis(500)) / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if Instant::now() >= next_beat {
                    row.running = leases.len() as i64;
                    next_beat = Instant::now() + beat(&engine, &leases, &mut row).await;
                }
                if Instant::now() >= next_look {
                    look(&engine, &leases).await;
                    next_look = Instant::now() + LOOK;
                }
                let now = Instant::now();
                leases.stop_where(StopCause::LeaseLost, |_, _, until| until <= now + SAFETY);
            }
            () = stop.cancelled() => return,
            run_id = stops.recv() => match run_id {
                Ok(run_id) => leases.stop_where(StopCause::Ends, |_, run, _| run == run_id),
                Err(_) => next_look = Instant::now(),
            },
        }
    }
}

/// Stops what belongs to runs that are being ended, what the hint did not reach, or reached before the task was here; and
/// what is past its own deadline.
async fn look(engine: &Engine, leases: &Leases) {
    if leases.len() == 0 {
        return;
    }
    match engine.store().ending_runs(MOST_ENDING).await {
        Ok(ending) => {
            let ending: HashSet<RunId> = ending.into_iter().map(|(run, _)| run).collect();
            leases.stop_where(StopCause::Ends, |_, run, _| ending.contains(&run));
        }
        Err(error) => tracing::debug!(%error, "runs that are being ended are left to the heartbeat"),
    }
    match engine.store().overdue_tasks(engine.clock().now(), MOST_ENDING).await {
        Ok(overdue) => {
            let overdue: HashSet<TaskId> = overdue.into_iter().map(|task| task.id).collect();
            leases.stop_where(StopCause::Ends, |task, _, _| overdue.contains(&task));
        }
        Err(error) => tracing::debug!(%error, "overdue tasks are left to the heartbeat"),
    }
}

/// One heartbeat; how long until the next.
async fn beat(engine: &Engine, leases: &Leases, row: &mut WorkerRow) -> Duration {
    let asked = Instant::now();
    match engine.store().time().await {
        Ok(time) => engine.clock().synchronise(time, asked),
        Err(error) => {
            tracing::warn!(%error, "the heartbeat did not reach the store");
            return Duration::from_millis(500);
        }
    }
    let guards = leases.guards();
    if !guards.is_empty() {
        let now = engine.clock().now();
        let beat = Beat { lease_until: now.plus_ms(leases.lease_ms()), leases: guards.clone(), now };
        match engine.store().beat(&beat).await {
            Ok(fates) => {
                apply(leases, &guards, &fates, asked);
                renew_hints(leases);
            }
            Err(error) => {
                tracing::warn!(%error, "leases could not be renewed");
                return Duration::from_millis(500);
            }
        }
    }
    row.seen_at = engine.clock().now();
    if let Err(error) = engine.store().note_worker(row).await {
        tracing::warn!(%error, "the worker's entry could not be renewed");
    }
    leases.heartbeat
}

/// Tells the queue what still runs. Beside the heartbeat, which must not wait for it.
fn renew_hints(leases: &Leases) {
    let (queue, running) = (leases.queue.clone(), leases.running());
    tokio::spawn(async move {
        match tokio::time::timeout(RENEW_HINTS, queue.renew(&running)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the queue does not hear what still runs"),
            Err(_) => tracing::debug!("the queue does not hear in time what still runs"),
        }
    });
}

fn apply(leases: &Leases, guards: &[Guard], fates: &[LeaseFate], asked: Instant) {
    let lost = |task| fates.contains(&LeaseFate::Lost(task));
    let stopped = |task| fates.contains(&LeaseFate::Stop(task));
    {
        let mut held = leases.lock();
        for guard in guards {
            // a lease that was settled or taken anew since the beat was sent is not touched
            if let Some(held) = held.get_mut(&guard.task_id).filter(|held| held.guard == *guard)
                && !lost(guard.task_id)
            {
                held.until = asked + leases.lease;
            }
        }
    }
    let same = |task: TaskId| guards.iter().any(|guard| guard.task_id == task);
    leases.stop_where(StopCause::LeaseLost, |task, _, _| same(task) && lost(task));
    leases.stop_where(StopCause::Ends, |task, _, _| same(task) && stopped(task));
}

/// The entry of a worker process.
pub(super) fn worker_row(
    id: WorkerId,
    host: String,
    pools: serde_json::Value,
    now: bursar_domain::time::Timestamp,
) -> WorkerRow {
    WorkerRow {
        id,
        host,
        pid: i64::from(std::process::id()),
        pools,
        running: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        draining: false,
        started_at: now,
        seen_at: now,
    }
}
