//! Claim: a pool's pump takes ids from the queue, as many as it has free slots, and claims them in the store.
//!
//! A slot is taken before the task is leased, so nothing is leased that nobody works on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_domain::agent::Message;
use bursar_domain::flow::SettleRequest;
use bursar_domain::id::{TaskId, WorkerId};
use bursar_domain::outcome::Outcome;
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::{Action, Definition};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::leases::{KeptLease, Leases};
use super::settle::{Settle, SettleError};
use super::{Engine, patience};
use crate::clock::new_token;
use crate::queue::{QueueError, Running, Standby};
use crate::store::read::{ItemOutput, WorkflowInput};
use crate::store::{Claim, Claimed, StoreError};

/// Tasks taken at once at most.
const MOST_AT_ONCE: usize = 64;
/// How long a pump waits after it claimed what it could neither begin nor put off.
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(1);
/// How long a task that this program can't read is left to others, in ms.
const PUT_OFF_MS: i64 = 5_000;
/// How long an idle pump waits for the queue before it asks again.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// A pool of slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Its name.
    pub name: String,
    /// How many tasks run at once.
    pub slots: usize,
}

/// A claimed task with everything that its step needs.
#[derive(Debug)]
pub struct ClaimedJob {
    pub(super) claimed: Claimed,
    pub(super) token: String,
    pub(super) definition: Arc<Definition>,
    /// What templates see.
    pub(super) context: Value,
    /// What the agent remembers, oldest first.
    pub(super) memory: Vec<Vec<Message>>,
    pub(super) lease: KeptLease,
    /// The slot; free again when the job is dropped.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

pub(super) struct Pump {
    pub(super) engine: Engine,
    pub(super) pool: String,
    pub(super) worker_id: WorkerId,
    pub(super) slots: Arc<Semaphore>,
    pub(super) leases: Arc<Leases>,
    /// Who is next while the queue is away.
    pub(super) standby: Standby,
    pub(super) jobs: mpsc::Sender<ClaimedJob>,
    pub(super) stop: CancellationToken,
}

impl Pump {
    /// Feeds the pool until `stop`. No error ends it.
    pub(super) async fn run(self) {
        while !self.stop.is_cancelled() {
            let Some(mut permits) = self.free_slots().await else { return };
            let ids = tokio::select! {
                ids = self.next_ids(permits.len()) => ids,
                () = self.stop.cancelled() => return,
            };
            if ids.is_empty() {
                continue;
            }
            match self.take(&ids).await {
                Ok((jobs, is_quiet)) => {
                    for mut job in jobs {
                        job.permit = permits.pop();
                        if self.jobs.send(job).await.is_err() {
                            return;
                        }
                    }
                    if !is_quiet {
                        tokio::time::sleep(PAUSE_AFTER_TROUBLE).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, pool = self.pool, "a claim did not succeed");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Waits for one free slot and takes all that are free.
    async fn free_slots(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            permit = self.slots.clone().acquire_owned() => permit.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let mut permits = vec![first];
        while permits.len() < MOST_AT_ONCE {
            match self.slots.clone().try_acquire_owned() {
                Ok(permit) => permits.push(permit),
                Err(_) => break,
            }
        }
        Some(permits)
    }

    /// Ids of ready tasks: from the queue, or from the store while the queue is away.
    async fn next_ids(&self, most: usize) -> Vec<TaskId> {
        let metrics = self.engine.metrics();
        let wait = if self.engine.queue_takes() { IDLE_WAIT } else { Duration::ZERO };
        let popped = match self.engine.queue().pop(&self.pool, most, wait).await {
            // nothing comes out of a queue that takes nothing in
            Ok(ids) if ids.is_empty() && !self.engine.queue_takes() => Err(QueueError("it takes nothing".to_owned())),
            popped => popped,
        };
        match popped {
            Ok(ids) => {
                metrics.queue_up.set(1);
                metrics.popped_from_queue.inc_by(ids.len() as u64);
                ids
            }
            Err(error) => {
                metrics.queue_up.set(0);
                metrics.queue_failures.inc();
                tracing::warn!(%error, pool = self.pool, "the store serves while the queue is away");
                let ready = self.ready_in_store(most).await.unwrap_or_default();
                metrics.polled_from_store.inc_by(ready.len() as u64);
                if ready.is_empty() {
                    tokio::time::sleep(IDLE_WAIT).await;
                }
                ready
            }
        }
    }

    /// Ready tasks as the store has them, tenants by their shares.
    async fn ready_in_store(&self, most: usize) -> Result<Vec<TaskId>, StoreError> {
        let (store, now) = (self.engine.store(), self.engine.clock().now());
        // some more than can be taken: who has less running is given more than an even share
        let rows = store.ready_tasks(&self.pool, now, (most as i64).saturating_mul(4)).await?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let running = store.running_by_tenant(&self.pool, now).await?;
        let ready: Vec<_> = rows.into_iter().map(|row| self.engine.ready_task(row)).collect();
        Ok(self.standby.choose(&ready, &running, most))
    }

    /// Claims tasks and brings what their steps need; whether none of the others will come back at once. A crash after
    /// the claim leaves leases that run out. An answer that did not come is made up for: see [`Self::disown`].
    async fn take(&self, ids: &[TaskId]) -> Result<(Vec<ClaimedJob>, bool), StoreError> {
        let token = new_token();
        let asked = Instant::now();
        let claim = Claim {
            tasks: ids.to_vec(),
            worker_id: self.worker_id,
            token: token.clone(),
            lease_ms: self.leases.lease_ms(),
            now: self.engine.clock().now(),
        };
        let claimed = match self.engine.store().claim(&claim).await {
            Ok(claimed) => claimed,
            Err(error) => {
                if error.is_transient() {
                    self.disown(claim);
                }
                return Err(error);
            }
        };
        self.engine.metrics().claims.inc_by(claimed.len() as u64);
        // the store answered for all of them: what it did not grant is not ready any more, or the sweep brings it back
        let granted: Vec<Running> = claimed.iter().map(|task| running(task, self.leases.lease_ms())).collect();
        if let Err(error) = self.engine.queue().confirm(&self.pool, ids, &granted).await {
            tracing::debug!(%error, "popped tasks are left to come back by themselves");
        }
        Ok(self.engine.prepare(&self.leases, claimed, &token, asked, None).await)
    }
}

impl Pump {
    /// Gives back what a claim took whose answer did not come, as soon as the store answers; for as long as its leases
    /// last, after which the sweep does it. Without this, each such task would wait for the end of its lease and count
    /// as lost with a worker.
    fn disown(&self, claim: Claim) {
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        let within = Duration::from_millis(claim.lease_ms.unsigned_abs());
        tokio::spawn(async move {
            let given = patience::read(&stop, || engine.store().disown(&claim.tasks, &claim.token));
            match tokio::time::timeout(within, given).await {
                Ok(Ok(0)) => {}
                Ok(Ok(given)) => tracing::info!(given, "tasks of a claim without an answer are ready again"),
                Ok(Err(error)) => tracing::warn!(%error, "a claim without an answer is left to its leases"),
                Err(_) => tracing::warn!("a claim without an answer was left to its leases"),
            }
        });
    }
}

impl Engine {
    /// Brings workflow, inputs and outputs for claimed tasks and takes note of their leases. What can't be brought
    /// for a task is no reason to keep it, or to stop the others: it is given back, or its lease runs out. Returns also
    /// whether none of those given back may come again at once. `known` is a mission's input that needs no reading.
    pub(super) async fn prepare(
        &self,
        leases: &Arc<Leases>,
        claimed: Vec<Claimed>,
        token: &str,
        asked: Instant,
        known: Option<WorkflowInput>,
    ) -> (Vec<ClaimedJob>, bool) {
        let mut jobs = Vec::with_capacity(claimed.len());
        let mut refused = Vec::new();
        for task in claimed {
            match self.facts_of(&task).await {
                Ok(definition) => jobs.push(ClaimedJob {
                    lease: leases.add(task.guard(token), task.run_id, running(&task, leases.lease_ms()), asked),
                    claimed: task,
                    token: token.to_owned(),
                    definition,
                    context: Value::Null,
                    memory: Vec::new(),
                    permit: None,
                }),
                Err(error) => refused.push((task, error.to_string())),
            }
        }
        if let Err(error) = self.bring_context(&mut jobs, known).await {
            refused.extend(jobs.drain(..).map(|job| (job.claimed.clone(), error.to_string())));
        }
        let backs = refused.iter().map(|(task, error)| self.give_back(task, token, error));
        let are_put_off = futures::future::join_all(backs).await;
        (jobs, are_put_off.into_iter().all(|is_put_off| is_put_off))
    }

    /// Workflow and prices of a task, kept in memory from then on.
    async fn facts_of(&self, task: &Claimed) -> Result<Arc<Definition>, StoreError> {
        self.parts.facts.prices(&self.parts.store, task.price_book_id).await?;
        let definition = self.parts.facts.workflow(&self.parts.store, task.workflow_id).await?;
        definition.ok_or_else(|| StoreError::Corrupt(format!("workflow {} does not exist", task.workflow_id)))
    }

    /// Reads what the templates of the jobs see.
    async fn bring_context(&self, jobs: &mut [ClaimedJob], known: Option<WorkflowInput>) -> Result<(), StoreError> {
        let mut nodes = Vec::new();
        let mut wanted = Vec::new();
        for job in &*jobs {
            let node = job.definition.node_for(job.claimed.place());
            let base = u32::try_from(job.claimed.base).unwrap_or_default();
            let number = |index: &u32| (job.claimed.run_id, base.saturating_add(*index));
            nodes.extend(node.into_iter().flat_map(|node| &node.uses).map(number));
            wanted.push((job.claimed.mission_id, job.claimed.base));
        }
        if jobs.is_empty() {
            return Ok(());
        }
        nodes.sort_unstable();
        nodes.dedup();
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|of| known.as_ref().is_none_or(|known| (known.mission_id, known.base) != *of));
        let outputs = if nodes.is_empty() { Vec::new() } else { self.parts.store.outputs(&nodes).await? };
        let mut inputs = if wanted.is_empty() { Vec::new() } else { self.parts.store.inputs(&wanted).await? };
        inputs.extend(known);
        let bound = self.bound_outputs(jobs).await?;
        for job in jobs {
            let is_own =
                |input: &&WorkflowInput| (input.mission_id, input.base) == (job.claimed.mission_id, job.claimed.base);
            let input = inputs.iter().find(is_own).map(|input| input.input.clone());
            let mut upstream = Map::new();
            for output in outputs.iter().filter(|output| output.run_id == job.claimed.run_id) {
                let index = u32::try_from(output.node_index.saturating_sub(job.claimed.base)).ok();
                if let Some(node) = index.and_then(|index| job.definition.node(index)) {
                    upstream.insert(node.key.clone(), json!({"output": output.output}));
                }
            }
            job.context = json!({
                "inputs": input,
                "nodes": upstream,
                "run": {"id": job.claimed.run_id},
                "task": {"attempt": job.claimed.attempt},
            });
            bind(job, &bound);
            self.tell(job).await?;
        }
        Ok(())
    }

    /// Adds what was said to the mission, where the job's templates read it or its agent remembers it. Messages never change, and which ones are told
    /// is the same in every attempt.
    async fn tell(&self, job: &mut ClaimedJob) -> Result<(), StoreError> {
        let definition = job.definition.clone();
        let Some(node) = definition.node_for(job.claimed.place()) else { return Ok(()) };
        let (mission, run_heard, hears) = (job.claimed.mission_id, job.claimed.run_heard, node.hears);
        let upto = job.claimed.heard.unwrap_or(run_heard);
        if let (Action::Agent(step), Some(memory)) = (&node.action, node.memory()) {
            job.memory = self.recalled(mission, &step.agent, memory.kind, upto).await?;
        }
        let mut told = Map::new();
        if hears.message {
            let last = self.store().said(mission, (0, run_heard), 1).await?.pop();
            told.extend(last.map(|text| ("message".to_owned(), Value::String(text))));
        }
        if hears.messages {
            told.insert("messages".to_owned(), self.told(mission, upto).await?);
        }
        if let Value::Object(context) = &mut job.context {
            for (name, value) in told {
                // what the definition itself calls so is meant
                context.entry(name).or_insert(value);
            }
        }
        Ok(())
    }

    /// Outputs of other items that the jobs see.
    async fn bound_outputs(&self, jobs: &[ClaimedJob]) -> Result<Vec<ItemOutput>, StoreError> {
        let mut wanted: Vec<(TaskId, i32)> = jobs
            .iter()
            .flat_map(|job| &job.claimed.bound)
            .flat_map(|bound| &bound.outputs)
            .map(|output| (output.parent_id, output.item))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() { Ok(Vec::new()) } else { self.store().item_outputs(&wanted).await }
    }

    /// Goes on giving back while the store does not answer, for as long as the lease lasts. Nobody waits for it.
    fn give_back_later(&self, settle: Settle, lease_until: Timestamp) {
        let engine = self.clone();
        tokio::spawn(async move {
            let task = settle.request.guard.task_id;
            let given = engine.settle(settle, || engine.clock().now() < lease_until).await;
            if let Err(error) = given {
                tracing::warn!(%task, %error, "it could not be given back; its lease will run out");
            }
        });
    }

    /// Gives a claimed task back that can't begin here, without a penalty; whether it was put off. Where even that fails,
    /// its lease runs out.
    async fn give_back(&self, task: &Claimed, token: &str, reason: &str) -> bool {
        tracing::warn!(task = %task.id, reason, "a claimed task can't begin and is given back");
        self.queue().end(&task.pool, task.tenant_id, task.id);
        // without it, a task whose failure its run can do without is left to the end of its lease
        let definition = self.facts_of(task).await.ok().map(|definition| task.reach(&definition));
        let reach = definition.unwrap_or_default();
        let request = SettleRequest {
            guard: task.guard(token),
            outcome: Outcome::HandedBack,
            handoff: None,
            cache: None,
            prompt: None,
        };
        let settle = Settle::of(task, request, reach);
        let Err(error) = self.settle(settle.clone(), || false).await else { return false };
        if matches!(error, SettleError::Unavailable(_)) {
            self.give_back_later(settle, task.lease_until);
            return false;
        }
        let returned = match &error {
            // what this program can't read it can't decide about either, but a newer one beside it can
            SettleError::Unstorable(_) => {
                let reason = format!("handed back by a program of version {}: {reason}", env!("CARGO_PKG_VERSION"));
                let until = self.clock().now().plus_ms(PUT_OFF_MS);
                self.store().hand_back_unread(&task.guard(token), &reason, until).await
            }
            _ => Ok(0),
        };
        let is_put_off = matches!(returned, Ok(1..));
        if !is_put_off {
            tracing::warn!(task = %task.id, %error, "it could not be given back; its lease will run out");
        }
        is_put_off
    }
}

/// A claimed task as the order of tenants sees it.
pub(super) fn running(task: &Claimed, lease_ms: i64) -> Running {
    Running { task_id: task.id, tenant_id: task.tenant_id, pool: task.pool.clone(), lease_ms }
}

/// Adds what one of many sees besides what its node sees.
fn bind(job: &mut ClaimedJob, outputs: &[ItemOutput]) {
    let Some(mut bound) = job.claimed.bound.clone() else { return };
    for seen in std::mem::take(&mut bound.outputs) {
        let found = outputs.iter().find(|output| output.parent_id == seen.parent_id && output.item == seen.item);
        bound.set(&seen.name, &seen.field, found.and_then(|found| found.output.clone()).unwrap_or_default());
    }
    if let Value::Object(context) = &mut job.context {
        context.extend(bound.values);
    }
}
