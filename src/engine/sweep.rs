//! Sweep: what time brings. Timers, retries, lost leases, deadlines, waits for credits, expired grants, lost jobs.
//!
//! Any number of processes may sweep at once: each finding is decided again under locks, and what another has done
//! meanwhile is left alone. A crash in the middle leaves the rest to the next pass.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bursar_domain::flow;
use bursar_domain::id::WalletId;
use bursar_domain::ledger;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::absence::Absence;
use super::timekeeper::Timekeeper;
use crate::clock::new_id;
use crate::queue::ReadyTask;
use crate::store::read::{Due, ReadyRow};
use crate::store::{StoreError, Want};

/// How often a sweep happens at least.
const PASS: Duration = Duration::from_secs(1);
/// Findings handled per kind and pass.
const CHUNK: i64 = 500;
/// Ready tasks pushed again per pool and pass.
const MOST_PUSHED: i64 = 1_000;

/// Runs sweeps until it is stopped.
#[derive(Debug)]
pub struct Sweeper {
    engine: Engine,
    absence: Absence,
    timekeeper: Timekeeper,
}

impl Sweeper {
    /// A sweeper; `lease` is how long it trusts nobody's absence after an outage of the store.
    pub fn new(engine: Engine, lease: Duration) -> Self {
        let timekeeper = Timekeeper::new(engine.clock().now(), Instant::now());
        Self { engine, absence: Absence::new(lease), timekeeper }
    }

    /// Sweeps about once a second, earlier when something is due, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.pass().await {
                Ok(pause) => pause,
                Err(error) => {
                    self.absence.store_failed();
                    tracing::warn!(%error, "a sweep did not reach the store");
                    PASS
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.engine.parts.attention.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// One pass over everything; how long until the next.
    pub async fn pass(&mut self) -> Result<Duration, StoreError> {
        let engine = self.engine.clone();
        let store = engine.store();
        if self.timekeeper.has_jumped(&engine, Instant::now()).await? {
            // leases that others hold are of the time before
            self.absence.time_jumped(Instant::now());
        }
        let now = engine.clock().now();
        let overdue = store.overdue_tasks(now, CHUNK).await?;
        self.absence.store_answered(Instant::now());
        engine.expire_tasks(overdue).await?;
        let left = engine.wake(store.due_tasks(now, CHUNK).await?).await?;
        if self.absence.is_trusted(Instant::now()) {
            engine.recover(store.lost_leases(now, CHUNK).await?).await?;
        }
        for (run, mission) in store.overdue_runs(now, CHUNK).await? {
            let want = Want { missions: vec![mission], ..Want::default() };
            if let Some(Ok(true)) = tolerate(engine.decide(&want, &mut |turn| flow::expire_run(turn, run)).await)? {
                engine.metrics().sweep_finds("deadline", 1);
            }
        }
        for (run, mission) in store.ending_runs(CHUNK).await? {
            engine.end_run(run, mission).await;
        }
        for (grant, wallet) in store.overdue_grants(now, CHUNK).await? {
            let op = new_id();
            // by its id: one that is used up is marked as well, so that it is found only once
            let want = Want { grants: vec![grant], ..Want::wallets([wallet]) };
            tolerate(engine.decide(&want, &mut |turn| ledger::expire(turn.set, grant, op, turn.now)).await)?;
        }
        for (hold, wallet) in store.overdue_holds(now, CHUNK).await? {
            // loaded because it is overdue, given back before anything is decided
            let want = Want { holds: vec![hold], ..Want::wallets([wallet]) };
            tolerate(engine.decide(&want, &mut |_| ()).await)?;
        }
        engine.retry_waiters(None).await;
        engine.give_turns(None).await?;
        store.forget_outputs(now, CHUNK).await?;
        store.forget_links(now, CHUNK).await?;
        engine.learn_weights().await?;
        engine.refill_queue().await?;
        // what can't be decided stays due: it is no reason to look again at once
        let next = if left == 0 { store.next_due().await? } else { None };
        let until_due = next.map_or(PASS.as_millis() as i64, |due| due.since_ms(engine.clock().now()).max(1));
        self.absence.store_answered(Instant::now());
        Ok(PASS.min(Duration::from_millis(until_due as u64)))
    }
}

/// Only what an outage explains ends a pass; a finding that can't be decided is left out with a word.
fn tolerate<T>(decided: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match decided {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => {
            tracing::error!(%error, "a finding can't be decided");
            Ok(None)
        }
    }
}

impl Engine {
    /// Ends tasks whose own deadline passed; whoever works on one stops by itself.
    async fn expire_tasks(&self, overdue: Vec<Due>) -> Result<(), StoreError> {
        let expire = |turn: &mut flow::Turn<'_>, task: &Due| {
            if let Err(refusal) = flow::expire_task(turn, task.id) {
                tracing::warn!(task = %task.id, %refusal, "an overdue task could not be ended");
            }
        };
        let left = self.decide_each(&overdue, expire).await?;
        self.metrics().sweep_finds("task_deadline", decided(&overdue, left));
        Ok(())
    }

    /// Wakes tasks whose wait a decision has just ended. What fails here is left to the sweep.
    pub(super) fn wake_soon(&self, due: Vec<Due>) {
        let engine = self.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.wake(due).await {
                tracing::warn!(%error, "tasks whose wait is over are left to the sweep");
            }
        });
    }

    /// Wakes tasks whose wait is over; how many could not be decided and are left.
    pub(super) async fn wake(&self, due: Vec<Due>) -> Result<u64, StoreError> {
        let (maps, due): (Vec<Due>, Vec<Due>) = due.into_iter().partition(Due::is_to_be_spread);
        self.spread(maps).await?;
        let wake = |turn: &mut flow::Turn<'_>, task: &Due| {
            if let Err(refusal) = flow::wake_task(turn, task.id) {
                tracing::warn!(task = %task.id, %refusal, "a task could not be woken");
            }
        };
        self.decide_each(&due, wake).await
    }

    /// Takes tasks from workers whose lease ran out.
    async fn recover(&self, lost: Vec<Due>) -> Result<(), StoreError> {
        let recover = |turn: &mut flow::Turn<'_>, task: &Due| {
            if let Err(refusal) = flow::recover_lease(turn, task.id) {
                tracing::warn!(task = %task.id, %refusal, "a lost task could not be recovered");
            }
        };
        let left = self.decide_each(&lost, recover).await?;
        self.metrics().sweep_finds("lost_lease", decided(&lost, left));
        Ok(())
    }

    /// Decides findings in chunks. What can't be decided is found by halves and left out with a word, so that one
    /// broken mission does not stop the clocks of all others; returns how many those are.
    async fn decide_each(
        &self,
        due: &[Due],
        decide: impl Fn(&mut flow::Turn<'_>, &Due) + Send + Sync,
    ) -> Result<u64, StoreError> {
        let mut left: u64 = 0;
        let mut chunks: Vec<&[Due]> = due.chunks(64).rev().collect();
        while let Some(chunk) = chunks.pop() {
            let done = async {
                let want = self.want(chunk).await?;
                self.decide(&want, &mut |turn| chunk.iter().for_each(|task| decide(turn, task))).await
            };
            match (done.await, chunk) {
                (Ok(()), _) => {}
                (Err(error), _) if error.is_transient() => return Err(error),
                (Err(error), [task]) => {
                    left = left.saturating_add(1);
                    tracing::error!(task = %task.id, %error, "a finding can't be decided");
                }
                (Err(_), _) => {
                    let (first, second) = chunk.split_at(chunk.len() / 2);
                    chunks.extend([second, first]);
                }
            }
        }
        Ok(left)
    }

    /// Tries tasks that wait for credits, oldest first.
    pub(super) async fn retry_waiters(&self, wallet: Option<WalletId>) {
        let tried = async {
            let waiters = self.store().credit_waiters(wallet, CHUNK).await?;
            self.wake(waiters).await.map(drop)
        };
        if let Err(error) = tried.await {
            tracing::warn!(%error, "tasks that wait for credits are left to the next sweep");
        }
    }

    /// The tasks with what lets them begin and, because a sleep that ends releases them, with their dependents.
    pub(super) async fn want(&self, due: &[Due]) -> Result<Want, StoreError> {
        let mut want = Want::default();
        (want.tasks, want.missions) = due.iter().map(|task| (task.id, task.mission_id)).unzip();
        for task in due {
            let definition = self.parts.facts.workflow(&self.parts.store, task.workflow_id).await?;
            let (place, base) = (task.place(), task.base);
            if let Some(definition) = definition.as_ref().filter(|_| place.layer == 0) {
                want.reach(task.mission_id, task.run_id, base, &definition.reach_of_start(place.index));
            }
            want.family(task.ancestors.as_deref(), task.bound.as_ref().map_or(&[], |bound| &bound.followers));
            if let Some((fan, definition)) = task.fan.as_ref().zip(definition) {
                want.children(task.id, fan);
                if let Some(scope) = fan.scope
                    && let Some(inside) = self.parts.facts.workflow(&self.parts.store, scope.workflow_id).await?
                {
                    want.scope(task.run_id, scope, &inside);
                }
                want.reach(task.mission_id, task.run_id, base, &definition.reach_of_children(place));
            }
        }
        Ok(want)
    }

    /// Pushes ready tasks again where the queue knows fewer than the store: it lost them, or a push got lost.
    async fn refill_queue(&self) -> Result<(), StoreError> {
        let mut takes = true;
        for (pool, ready) in self.store().ready_counts(self.clock().now()).await? {
            let Ok(depth) = self.queue().depth(&pool).await else { return Ok(()) };
            self.metrics().set_depths(&pool, ready, depth);
            if depth >= ready as u64 {
                continue;
            }
            let rows = self.store().ready_tasks(&pool, self.clock().now(), MOST_PUSHED).await?;
            let tasks: Vec<ReadyTask> = rows.into_iter().map(|row| self.ready_task(row)).collect();
            self.metrics().sweep_finds("lost_job", tasks.len() as u64);
            if let Err(error) = self.queue().push(&tasks).await {
                tracing::debug!(%error, "the queue is away");
                takes = false;
            }
        }
        self.parts.queue_takes.store(takes, Ordering::Relaxed);
        Ok(())
    }
}

/// How many of the findings were decided.
const fn decided(found: &[Due], left: u64) -> u64 {
    (found.len() as u64).saturating_sub(left)
}

pub(super) fn ready_task(row: ReadyRow) -> ReadyTask {
    ReadyTask {
        task_id: row.id,
        tenant_id: row.tenant_id,
        pool: row.pool,
        weight: 1,
        priority: row.priority,
        ready_at: row.ready_at,
    }
}
