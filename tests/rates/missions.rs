//! Missions under limits: two engines as two processes, and a provider over HTTP that says what it is told to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use bursar::engine::Engine;
use bursar::rates::{Ask, RateLimits};
use bursar_domain::state::{RunState, TaskState, WaitCause};
use bursar_workers::Providers;
use bursar_workers::providers::{Models, OpenAiConfig, SimulatedConfig};

use super::limits;
use crate::support::redis::TestRedis;
use crate::support::stores::Storage;
use crate::support::world::{LEASE, Process, Queues, World};

/// A step that asks one model once.
fn step(models: &str, extra: &str) -> String {
    format!(
        "{{workflow: one, flat_fee: 0, agents: {{a: {{instructions: be kind, models: [{models}], max_output_tokens: 5}}}}, \
         nodes: {{ask: {{agent: a, prompt: '[[simulate tokens=3]]'{extra}}}}}}}"
    )
}

/// A world whose process has these limits, and another one beside it.
async fn two(limits: RateLimits) -> (World, Process) {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let (url, redis) = (world.place.url(), world.redis.as_ref().map(TestRedis::url));
    let other = Process::start_limited(&url, redis.as_deref(), limits.clone()).await;
    world.process.end().await;
    world.process = Process::start_limited(&url, redis.as_deref(), limits).await;
    (world, other)
}

/// Takes all that the simulated provider's bucket holds.
async fn drain(engine: &Engine, world: &World) {
    for number in 0.. {
        let (provider, model) = ("simulated".to_owned(), "simulated-small".to_owned());
        let ask = Ask { provider, model, tenant: world.tenant, tokens: 1, caller: format!("drain {number}") };
        if let Err(refused) = engine.rates().ask(&ask).await {
            engine.rates().give_up(&refused.place.expect("there is a line")).await;
            return;
        }
    }
}

/// What a small provider streams for one word.
const ANSWER: &str = "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"gpt-4.1-mini\",\
        \"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"},\"finish_reason\":\"stop\"}]}\n\n\
        data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"gpt-4.1-mini\",\"choices\":[],\
        \"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":10}}\n\ndata: [DONE]\n\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_tasks_come_back_at_their_own_times_and_use_what_the_limit_allows() {
    const MISSIONS: usize = 60;
    let (mut world, mut other) = two(limits("simulated", Some(600), None)).await;
    let workflow = world.put(&step("simulated-small", "")).await;
    drain(world.engine(), &world).await;
    let began = Instant::now();
    let missions = world.submit_many(workflow.id, MISSIONS).await;
    world.process.work(16);
    other.work(16);
    let last = *missions.last().unwrap();
    let parked = world.task_when(last, "ask", "parked", |task| task.state == TaskState::Waiting).await;
    assert_eq!(parked.wait, Some(WaitCause::RateLimit));
    let reason = parked.status_reason.unwrap();
    let words = "waits for the rate limit of provider `simulated`: 600 requests a minute, next at about 2";
    assert!(reason.starts_with(words), "{reason}");
    let mut attempts = 0;
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
        let task = world.task(*mission, "ask").await;
        assert_eq!(task.failures, 0, "waiting is no failure");
        attempts += task.attempt;
    }
    let took = began.elapsed();
    println!("{MISSIONS} calls at 600 a minute took {} ms, {attempts} attempts", took.as_millis());
    let ideal_ms = MISSIONS as u128 * 100;
    assert!(took.as_millis() >= ideal_ms * 9 / 10, "never faster than the limit: {took:?}");
    assert!(took.as_millis() <= ideal_ms * 10 / 9, "at least 90 % of the limit: {took:?}");
    assert!(attempts <= 3 * MISSIONS as i64, "no storm of refusals: {attempts} attempts");
    world.balances().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushall_under_a_limit_loses_no_work() {
    let (mut world, mut other) = two(limits("simulated", Some(600), None)).await;
    let workflow = world.put(&step("simulated-small", "")).await;
    drain(world.engine(), &world).await;
    let missions = world.submit_many(workflow.id, 40).await;
    world.process.work(8);
    other.work(8);
    world.finished(missions[0]).await;
    world.redis.as_ref().unwrap().flush().await;
    for mission in missions {
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
        assert_eq!(world.task(mission, "ask").await.failures, 0);
    }
    world.balances().await;
    other.stop().await;
}

/// A provider that answers with the statuses it is given, then with an answer.
#[derive(Clone, Default)]
struct Far {
    statuses: Arc<Mutex<Vec<u16>>>,
    served: Arc<AtomicUsize>,
}

impl Far {
    /// Providers with it, as `far`.
    async fn start(&self, statuses: &[u16]) -> Providers {
        bursar::boot::install_crypto();
        *self.statuses.lock().unwrap() = statuses.to_vec();
        let far = self.clone();
        let answer = move || {
            far.served.fetch_add(1, Ordering::SeqCst);
            let status = far.statuses.lock().unwrap().pop().unwrap_or(200);
            std::future::ready(reply(status))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let site = Router::new().route("/v1/chat/completions", post(answer));
        tokio::spawn(async move { axum::serve(listener, site).await });
        let models = Models::Listed(vec!["gpt-4.1-mini".to_owned()]);
        let far = OpenAiConfig { models, ..OpenAiConfig::new("far", &url) };
        Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).openai(far).build().unwrap()
    }
}

fn reply(status: u16) -> Response {
    if status != 200 {
        let refused = Response::builder().status(status).header("retry-after", "4");
        return refused.body(Body::from("{\"error\": {\"message\": \"not now\"}}")).unwrap();
    }
    Response::builder().header("content-type", "text/event-stream").body(Body::from(ANSWER)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_429_pauses_the_key_for_a_task_of_another_process() {
    let (mut world, mut other) = two(RateLimits::default()).await;
    let far = Far::default();
    let providers = far.start(&[429]).await;
    world.process.work_with(providers.clone(), 4, LEASE);
    let workflow = world.put(&step("gpt-4.1-mini", "")).await;
    let first = world.submit(workflow.id).await;
    world.task_when(first, "ask", "parked", |task| task.state == TaskState::Waiting).await;
    // whoever takes the second has never spoken to the provider
    world.process.drain(Duration::from_secs(5)).await;
    other.work_with(providers, 4, LEASE);
    let second = world.submit(workflow.id).await;
    let parked = world.task_when(second, "ask", "parked", |task| task.state == TaskState::Waiting).await;
    assert_eq!(far.served.load(Ordering::SeqCst), 1, "the second was refused before it sent anything");
    let reason = parked.status_reason.unwrap();
    assert!(reason.starts_with("provider `far` asked everybody who uses its key to wait, next at about"), "{reason}");
    for mission in [first, second] {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
        assert_eq!(world.task(mission, "ask").await.failures, 0, "waiting consumes no attempt");
    }
    assert_eq!(far.served.load(Ordering::SeqCst), 3);
    world.balances().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_breaker_is_open_tasks_wait_or_ask_their_next_model_and_deadlines_end_them() {
    let (mut world, other) = two(RateLimits::default()).await;
    let far = Far::default();
    let providers = far.start(&[500; 50]).await;
    world.process.work_with(providers, 4, LEASE);
    let failing =
        world.put(&step("gpt-4.1-mini", ", retry: {max_attempts: 20, backoff: {initial: 1ms, max: 1ms}}")).await;
    let mission = world.submit(failing.id).await;
    let parked = |task: &bursar::store::read::TaskView| task.state == TaskState::Waiting;
    let parked = world.task_when(mission, "ask", "parked", parked).await;
    assert_eq!((parked.failures, far.served.load(Ordering::SeqCst)), (5, 5), "{:?}", parked.status_reason);
    let reason = parked.status_reason.unwrap();
    assert!(reason.starts_with("provider `far` failed several times in a row and is left alone"), "{reason}");
    let with_fallback =
        world.run(&step("gpt-4.1-mini, simulated-small", "").replace("workflow: one", "workflow: two")).await;
    assert_eq!(world.finished(with_fallback).await.state, RunState::Succeeded);
    assert_eq!(far.served.load(Ordering::SeqCst), 5, "the open breaker was not passed");
    let late = step("gpt-4.1-mini", "").replace("workflow: one", "workflow: late, deadline: 2s");
    let late = world.run(&late).await;
    assert_eq!(world.finished(late).await.state, RunState::Expired);
    world.balances().await;
    other.stop().await;
}
