//! Settle: an attempt's outcome becomes state, money and consequences. Batched per process.

use bursar_domain::flow::{self, Lesson, Observed, Refusal, SettleRequest, Settlement};
use bursar_domain::id::{MissionId, RunId, TaskId, TenantId};
use bursar_domain::outcome::Outcome;
use bursar_domain::record::{Run, Task};
use bursar_domain::workflow::Reach;

use super::Engine;
use super::batcher::Process;
use super::patience::Patience;
use crate::store::{Claimed, StoreError, Want};

/// One attempt's end, with what must be loaded for it.
#[derive(Debug, Clone)]
pub(super) struct Settle {
    pub(super) request: SettleRequest,
    pub(super) mission_id: MissionId,
    pub(super) run_id: RunId,
    /// What a success reaches, and a failure where the run goes on without the task.
    pub(super) reach: Reach,
    /// The number in the run of its workflow's first node.
    pub(super) base: i32,
    /// The tasks above it, the nearest first.
    pub(super) ancestors: Option<Vec<TaskId>>,
    /// Items of its family that wait for it.
    pub(super) followers: Vec<i32>,
    /// Whether it may have been settled already, in a transaction whose end was not heard of.
    is_again: bool,
}

impl Settle {
    /// The end of a claimed task.
    pub(super) fn of(claimed: &Claimed, request: SettleRequest, reach: Reach) -> Self {
        Self {
            request,
            mission_id: claimed.mission_id,
            run_id: claimed.run_id,
            reach,
            base: claimed.base,
            ancestors: claimed.ancestors.clone(),
            followers: claimed.followers().to_vec(),
            is_again: false,
        }
    }
}

/// What a settle did, with the successor as a claim.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) settlement: Settlement,
    pub(super) successor: Option<Claimed>,
}

/// Why a settle is refused.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SettleError {
    /// The attempt does not own the task any more, or the outcome can't be settled.
    #[error(transparent)]
    Refused(Refusal),
    /// The store can't be reached; the settle may be repeated.
    #[error("{0}")]
    Unavailable(String),
    /// The database refuses the outcome itself.
    #[error("{0}")]
    Unstorable(String),
}

impl Engine {
    /// Settles an attempt. Repeats itself while the store is away, for as long as `may_repeat` says.
    pub(super) async fn settle(
        &self,
        mut settle: Settle,
        mut may_repeat: impl FnMut() -> bool + Send,
    ) -> Result<Settled, SettleError> {
        let mut patience = Patience::new();
        loop {
            let answer = self.parts.settles.call(settle.clone()).await;
            match answer.unwrap_or_else(|| Err(SettleError::Unavailable("the engine is stopping".to_owned()))) {
                Err(SettleError::Unavailable(_)) if may_repeat() => {
                    settle.is_again = true;
                    patience.pause().await;
                }
                Ok(settled) => {
                    if let Some(run) = settled.settlement.ending {
                        let engine = self.clone();
                        tokio::spawn(async move { engine.end_run(run, settle.mission_id).await });
                    }
                    return Ok(settled);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Settles a batch in one transaction.
#[derive(Clone)]
pub(super) struct SettleBatch;

impl Process<Settle, Result<Settled, SettleError>> for SettleBatch {
    async fn process(
        &self,
        engine: &Engine,
        items: Vec<Settle>,
    ) -> Result<Vec<Result<Settled, SettleError>>, StoreError> {
        let mut want = Want::default();
        for item in &items {
            want.tasks.push(item.request.guard.task_id);
            want.missions.push(item.mission_id);
            if item.reach.of_failure || matches!(item.request.outcome, Outcome::Succeeded { .. }) {
                want.reach(item.mission_id, item.run_id, item.base, &item.reach);
            }
            want.family(item.ancestors.as_deref(), &item.followers);
            let offer = item.request.handoff.as_ref().filter(|_| item.is_again);
            want.handed.extend(offer.map(|offer| offer.token.clone()));
            if let Outcome::Succeeded { calls, .. } | Outcome::Failed { calls, .. } = &item.request.outcome {
                want.calls.extend(calls.iter().map(|call| call.id));
            }
        }
        let mut decide = |turn: &mut flow::Turn<'_>| {
            let mut lessons: Vec<Lesson> = Vec::with_capacity(items.len());
            let one = |item: &Settle| {
                let observed = Observed::before(turn, &item.request);
                let settlement = flow::settle(turn, &item.request).map_err(SettleError::Refused)?;
                lessons.push(observed.after(turn));
                let task = settlement.successor.and_then(|id| turn.set.tasks.get(id));
                let run = turn.set.runs.get(item.run_id);
                let successor = task.zip(run).map(|(task, run)| claim_of(task, run));
                Ok(Settled { settlement, successor })
            };
            let answers: Vec<_> = items.iter().map(one).collect();
            (answers, lessons, keys_of(turn, &items))
        };
        let (answers, lessons, keys) = engine.decide(&want, &mut decide).await?;
        engine.give_turns_soon(keys);
        for lesson in &lessons {
            engine.note_lesson(lesson);
        }
        Ok(answers)
    }

    fn refuse(&self, error: &StoreError) -> Result<Settled, SettleError> {
        Err(match error {
            error if error.is_transient() => SettleError::Unavailable(error.to_string()),
            error => SettleError::Unstorable(error.to_string()),
        })
    }
}

/// The concurrency keys of the tasks that ended, each once.
fn keys_of(turn: &flow::Turn<'_>, items: &[Settle]) -> Vec<(TenantId, String)> {
    let tasks = items.iter().filter_map(|item| turn.set.tasks.get(item.request.guard.task_id));
    let mut keys: Vec<_> = tasks.filter_map(|task| Some((task.tenant_id, task.concurrency_key.clone()?))).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// A successor that the settle claimed, as if it had come from the store's claim.
fn claim_of(task: &Task, run: &Run) -> Claimed {
    Claimed {
        id: task.id,
        tenant_id: task.tenant_id,
        mission_id: task.mission_id,
        run_id: task.run_id,
        workflow_id: task.workflow_id,
        price_book_id: run.price_book_id,
        node_index: task.node_index,
        node_at: task.node_at,
        base: task.base,
        layer: task.layer,
        item: task.item,
        ancestors: task.ancestors.clone(),
        bound: task.bound.clone(),
        pool: task.pool.clone(),
        attempt: task.attempt,
        failures: task.failures,
        fence: task.fence,
        lease_until: task.lease_until.unwrap_or(task.created_at),
        ready_at: task.ready_at,
        heard: task.heard,
        run_heard: run.heard,
    }
}
