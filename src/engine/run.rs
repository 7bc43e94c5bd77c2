//! Run: a claimed job does its step and settles; perhaps it goes straight on with the successor.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bursar_domain::flow::{CacheUse, Guard, Handoff, SettleRequest};
use bursar_domain::id::WorkerId;
use bursar_domain::limits;
use bursar_domain::outcome::{
    CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, Outcome, StepError, ToolEnd, ToolPermit,
    ToolRequest,
};
use bursar_domain::workflow::Action;
use bursar_workers::{CallEnd, Context, Job, Providers, Reuse};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::Engine;
use super::claim::{ClaimedJob, running};
use super::leases::{LeaseHandle, Leases, StopCause};
use super::patience;
use super::rates::Rated;
use super::settle::{Settle, SettleError, Settled};
use crate::clock::new_token;
use crate::store::read::WorkflowInput;
use crate::stream::{Frame, FrameBody};

/// How many successors a worker may take in a row while other tasks wait.
const MOST_HANDOFFS: usize = 8;
/// How often produced text is passed on at most: 20 times a second.
const DELTA_PAUSE: Duration = Duration::from_millis(50);
/// How long a step may go on after it was told to stop.
const STOP_GRACE: Duration = Duration::from_millis(limits::STOP_GRACE_MS.unsigned_abs());

/// What running jobs of a process share.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) engine: Engine,
    pub(super) providers: Arc<Providers>,
    pub(super) leases: Arc<Leases>,
    pub(super) worker_id: WorkerId,
    /// Fires when no new work may be taken.
    pub(super) drain: CancellationToken,
}

/// Runs a job to its settle, and successors that the settles hand over.
pub(super) async fn run(runtime: Arc<Runtime>, mut job: ClaimedJob) {
    for hop in 0.. {
        let may_go_on = hop < MOST_HANDOFFS && !runtime.drain.is_cancelled();
        match step_and_settle(&runtime, &job, may_go_on).await {
            Some(mut next) => {
                next.permit = job.permit.take();
                job = next;
            }
            None => return,
        }
    }
}

async fn step_and_settle(runtime: &Arc<Runtime>, job: &ClaimedJob, may_go_on: bool) -> Option<ClaimedJob> {
    let guard = job.claimed.guard(&job.token);
    let Ended { outcome, cache, prompt } = step(runtime, job, &guard).await;
    let handoff = may_go_on.then(|| Handoff {
        worker_id: runtime.worker_id,
        pool: job.claimed.pool.clone(),
        token: new_token(),
        lease_ms: runtime.leases.lease_ms(),
    });
    let next_token = handoff.as_ref().map(|handoff| handoff.token.clone());
    let asked = Instant::now();
    let request = SettleRequest { guard: guard.clone(), outcome, handoff, cache, prompt };
    let settled = settle(runtime, job, request).await;
    runtime.leases.remove(&guard);
    let successor = settled?.successor?;
    // it takes the slot without having been popped, and counts as what its tenant has running all the same
    runtime.engine.queue().begin(running(&successor, runtime.leases.lease_ms()));
    // a successor is most often of the same workflow of the same run, whose input is known
    let (mission_id, base) = (job.claimed.mission_id, job.claimed.base);
    let known = job.context.get("inputs").map(|input| WorkflowInput { mission_id, base, input: input.clone() });
    runtime.engine.prepare(&runtime.leases, vec![successor], &next_token?, asked, known).await.0.pop()
}

/// How a step ended, and what is to be kept of it.
struct Ended {
    outcome: Outcome,
    cache: Option<CacheUse>,
    /// What an agent was asked that is to remember it.
    prompt: Option<String>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, cache: None, prompt: None }
    }
}

/// Does the step. Whatever happens inside, panics and deafness included, becomes an outcome.
async fn step(runtime: &Arc<Runtime>, job: &ClaimedJob, guard: &Guard) -> Ended {
    let Some(node) = job.definition.node_for(job.claimed.place()) else {
        let message = format!("the workflow has no node {}", job.claimed.node_at);
        return failed(StepError::new(ErrorClass::Permanent, "node_unknown", message)).into();
    };
    let started = FrameBody::Started {
        task_id: guard.task_id,
        node: node.key.clone(),
        attempt: job.claimed.attempt,
        at: runtime.engine.clock().now(),
    };
    runtime.engine.relay().publish(Frame { mission_id: job.claimed.mission_id, body: started });
    let work = Job {
        task_id: guard.task_id,
        node: node.key.clone(),
        attempt: job.claimed.attempt,
        action: node.action.clone(),
        context: job.context.clone(),
        cache: node
            .cache
            .as_ref()
            .map(|cache| Reuse { source: job.definition.node_source(job.claimed.place()), key: cache.key.clone() }),
        timeout_ms: node.timeout_ms,
        heard: node.heard_from(job.claimed.heard.unwrap_or(job.claimed.run_heard), job.claimed.run_heard),
        memory: job.memory.clone(),
        keeps_prompt: matches!(&node.action, Action::Agent(step) if job.definition.keeps_prompts_of(&step.agent)),
    };
    let context = StepContext::new(runtime.clone(), job, node.key.clone(), guard.clone());
    let (say, looked, asked) = (context.say.clone(), context.looked.clone(), context.asked.clone());
    let outcome = perform(runtime, work, context).await;
    say.flush();
    let looked = looked.lock().unwrap_or_else(PoisonError::into_inner).take();
    let cache = looked.zip(node.cache.as_ref()).map(|(looked, cache)| match looked {
        Looked { is_hit: true, .. } => CacheUse::Hit,
        Looked { hash, .. } => CacheUse::Keep { hash, ttl_ms: cache.ttl_ms },
    });
    let prompt = asked.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (&outcome, job.lease.handle.cause()) {
        // what was under way when the process had to drain runs again elsewhere, without a penalty
        (Outcome::Failed { error, .. }, Some(StopCause::Drain)) if error.class == ErrorClass::Cancelled => {
            Outcome::HandedBack.into()
        }
        _ => Ended { outcome, cache, prompt },
    }
}

/// Has the step done in a task of its own, so that one which does not hear its stop, or does not even yield, is given up
/// when its grace is over: its future is dropped, and its connections with it.
async fn perform(runtime: &Arc<Runtime>, work: Job, context: StepContext) -> Outcome {
    let (task, node, stop) = (context.guard.task_id, work.node.clone(), context.lease.stop.clone());
    let providers = runtime.providers.clone();
    let step = tokio::spawn(async move { bursar_workers::run(&work, &context, &providers).await });
    let mut step = AbortOnDropHandle::new(step);
    let given_up = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    let ended = tokio::select! {
        biased;
        ended = &mut step => ended,
        () = given_up => {
            tracing::error!(%task, node, "a step did not hear its stop and is given up");
            runtime.engine.metrics().steps_given_up.inc();
            let message = format!("the step went on for {} ms after it was told to stop", limits::STOP_GRACE_MS);
            return failed(StepError::new(ErrorClass::Cancelled, "stop_ignored", message));
        }
    };
    ended.unwrap_or_else(|_| {
        tracing::error!(%task, node, "a step panicked");
        failed(StepError::new(ErrorClass::Retryable, "step_panicked", "the step ended by a defect of its own"))
    })
}

fn failed(error: StepError) -> Outcome {
    Outcome::Failed { error, calls: Vec::new() }
}

/// Settles, for as long as the lease lives. An outcome that can't be stored fails the task by that name.
async fn settle(runtime: &Runtime, job: &ClaimedJob, request: SettleRequest) -> Option<Settled> {
    let guard = request.guard.clone();
    let mut settle = Settle::of(&job.claimed, request, job.claimed.reach(&job.definition));
    let still_ours = || job.lease.handle.cause() != Some(StopCause::LeaseLost);
    let metrics = runtime.engine.metrics();
    for _ in 0..2 {
        match runtime.engine.settle(settle.clone(), still_ours).await {
            Ok(settled) => {
                metrics.settles.inc();
                return Some(settled);
            }
            Err(SettleError::Refused(bursar_domain::flow::Refusal::StaleFence { .. })) => {
                metrics.stale_settles.inc();
                tracing::info!(task = %guard.task_id, fence = guard.fence, "a late settle was refused");
                runtime.engine.record_late(job.claimed.mission_id, guard.task_id, &settle.request.outcome).await;
                return None;
            }
            Err(SettleError::Unavailable(error)) => {
                tracing::warn!(task = %guard.task_id, error, "not settled in time; the task will run again");
                return None;
            }
            Err(error) => {
                tracing::error!(task = %guard.task_id, %error, "the outcome can't be settled");
                let reason = format!("the step's result can't be stored: {error}");
                settle.request.outcome = failed(StepError::new(ErrorClass::Permanent, "result_refused", reason));
                settle.request.handoff = None;
                settle.request.cache = None;
            }
        }
    }
    None
}

/// What a step sees of the engine.
struct StepContext {
    runtime: Arc<Runtime>,
    mission_id: bursar_domain::id::MissionId,
    price_book_id: bursar_domain::id::PriceBookId,
    ancestors: Vec<bursar_domain::id::TaskId>,
    guard: Guard,
    lease: LeaseHandle,
    say: Arc<Say>,
    tenant_id: bursar_domain::id::TenantId,
    /// What its calls took from the rates.
    rated: Rated,
    /// Whether no attempt was before this one.
    is_first: bool,
    /// What was looked for among earlier outputs.
    looked: Arc<Mutex<Option<Looked>>>,
    /// What the agent was asked, where it is to remember that.
    asked: Arc<Mutex<Option<String>>>,
}

/// A look for an earlier output.
struct Looked {
    hash: String,
    is_hit: bool,
}

impl StepContext {
    fn new(runtime: Arc<Runtime>, job: &ClaimedJob, node: String, guard: Guard) -> Self {
        let say = Say {
            relay: runtime.engine.relay().clone(),
            mission_id: job.claimed.mission_id,
            task_id: guard.task_id,
            node,
            attempt: job.claimed.attempt,
            pending: Mutex::default(),
        };
        Self {
            mission_id: job.claimed.mission_id,
            price_book_id: job.claimed.price_book_id,
            ancestors: job.claimed.ancestors.clone().unwrap_or_default(),
            lease: job.lease.handle.clone(),
            say: Arc::new(say),
            tenant_id: job.claimed.tenant_id,
            rated: Rated::of(job.claimed.tenant_id),
            is_first: job.claimed.attempt <= 1,
            looked: Arc::default(),
            asked: Arc::default(),
            guard,
            runtime,
        }
    }
}

#[async_trait]
impl Context for StepContext {
    fn cancelled(&self) -> &CancellationToken {
        &self.lease.stop
    }

    async fn reserve(&self, call: CallRequest) -> Result<CallPermit, CallRefusal> {
        let engine = &self.runtime.engine;
        let answer = async {
            self.rated.may_ask(engine, &self.guard, self.is_first, &call).await?;
            let (guard, above) = (self.guard.clone(), self.ancestors.clone());
            let answer = engine.reserve(guard, self.mission_id, above, call, &self.lease.stop).await;
            self.rated.granted(engine, &answer).await;
            answer
        };
        let answer = answer.await;
        engine.metrics().note_reservation(&answer);
        answer
    }

    async fn call_ended(&self, call: &FinishedCall, end: CallEnd<'_>) {
        self.rated.ended(&self.runtime.engine, call, end).await;
    }

    async fn begin_tools(&self, request: ToolRequest) -> Result<Vec<ToolPermit>, CallRefusal> {
        self.runtime.engine.begin_tools(self.guard.clone(), self.mission_id, request, &self.lease.stop).await
    }

    async fn end_tool(&self, end: ToolEnd) -> Result<(), CallRefusal> {
        self.runtime.engine.end_tool(self.guard.clone(), self.mission_id, end, &self.lease.stop).await
    }

    async fn said(&self, after: i64, upto: i64) -> Result<Vec<String>, CallRefusal> {
        let store = self.runtime.engine.store();
        let look = || store.said(self.mission_id, (after, upto), limits::MAX_MESSAGES_TOLD);
        let said = patience::read(&self.lease.stop, look).await;
        let said = said.map_err(|error| CallRefusal::Unavailable(error.to_string()))?;
        if !said.is_empty() {
            // what comes out of a conversation that went on is not what its beginning leads to
            self.looked.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        Ok(said)
    }

    fn remember(&self, prompt: String) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(prompt);
    }

    async fn kept_output(&self, hash: &str) -> Option<serde_json::Value> {
        let engine = &self.runtime.engine;
        let found = engine.store().kept_output(self.tenant_id, hash, engine.clock().now()).await;
        // a store that does not answer keeps nobody from doing the work
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "earlier outputs can't be read");
            None
        });
        let looked = Looked { hash: hash.to_owned(), is_hit: found.is_some() };
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(looked);
        found
    }

    fn delta(&self, text: &str) {
        Say::say(&self.say, text);
    }

    fn tokenizer(&self, model: &str) -> (Option<String>, u32) {
        self.runtime.engine.tokenizer(self.price_book_id, model)
    }
}

/// Produced text on its way out: small pieces are gathered.
struct Say {
    relay: crate::stream::Relay,
    mission_id: bursar_domain::id::MissionId,
    task_id: bursar_domain::id::TaskId,
    node: String,
    attempt: i32,
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    text: String,
    next_index: u64,
    is_scheduled: bool,
}

impl Say {
    fn say(this: &Arc<Self>, text: &str) {
        let mut pending = this.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.text.push_str(text);
        if !pending.is_scheduled {
            pending.is_scheduled = true;
            let this = this.clone();
            tokio::spawn(async move {
                tokio::time::sleep(DELTA_PAUSE).await;
                this.flush();
            });
        }
    }

    fn flush(&self) {
        let (index, text) = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.is_scheduled = false;
            if pending.text.is_empty() {
                return;
            }
            let index = pending.next_index;
            pending.next_index = index.saturating_add(1);
            (index, std::mem::take(&mut pending.text))
        };
        let body =
            FrameBody::Delta { task_id: self.task_id, node: self.node.clone(), attempt: self.attempt, index, text };
        self.relay.publish(Frame { mission_id: self.mission_id, body });
    }
}
