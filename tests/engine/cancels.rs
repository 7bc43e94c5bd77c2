//! Cancels: however a mission is cancelled, it ends within seconds, its connections are dropped, its holds are closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bursar::stream::FrameBody;
use bursar_domain::credits::Ucr;
use bursar_domain::id::{MissionId, WorkflowId};
use bursar_domain::outcome::ToolEffects;
use bursar_domain::state::{RunState, TaskState};
use bursar_workers::Providers;
use bursar_workers::providers::{Models, OpenAiConfig, SimulatedConfig};
use bursar_workers::tools::{Tool, ToolError, Tools};
use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};

use crate::support::hand::SeededChance;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};
use crate::support::{endless::Endless, eventually};

/// How soon a cancelled mission must be over.
const SOON: Duration = Duration::from_secs(5);
/// Missions that are cancelled on Postgres.
const MISSIONS: u64 = 1_000;
/// How many of them are under way at the same time.
const AT_ONCE: usize = 50;

on_both_stores!(World::on:
    a_node_that_the_run_can_do_without_stops_nobody,
    a_step_that_does_not_hear_its_stop_is_given_up,
);

/// Two steps that never end, on a provider over HTTP and on the simulated one, beside a sleep, before a third.
const ENDLESS: &str = "{workflow: endless, flat_fee: 1, \
    agents: {far: {instructions: be kind, model: gpt-4.1-mini, max_output_tokens: 400}, \
             near: {instructions: be kind, model: simulated-small, max_output_tokens: 400}}, \
    nodes: {begin: {transform: {x: 1}}, nap: {sleep: 1h}, \
            far: {agent: far, prompt: 'talk without end'}, \
            near: {needs: [begin], agent: near, prompt: 'talk [[simulate tokens=300 stall after_tokens=40 delay_ms=5]]'}, \
            then: {needs: [far, near], agent: near, prompt: 'sum up'}}}";

fn providers(endless: &Endless) -> Providers {
    bursar::boot::install_crypto();
    let far = OpenAiConfig {
        models: Models::Listed(vec!["gpt-4.1-mini".to_owned()]),
        ..OpenAiConfig::new("far", endless.url())
    };
    Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).openai(far).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_missions_cancelled_at_any_moment_end_within_five_seconds() {
    cancel_many(Storage::Postgres, Queues::Redis, MISSIONS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missions_cancelled_at_any_moment_on_sqlite_end_within_five_seconds() {
    cancel_many(Storage::Sqlite, Queues::Memory, 100).await;
}

async fn cancel_many(storage: Storage, queues: Queues, count: u64) {
    let mut world = World::new(storage, queues).await;
    world.grant(100_000).await;
    let endless = Endless::start().await;
    let mut others: Vec<Process> = Vec::new();
    // on Postgres the process that cancels has no workers: the stop must get across
    if storage == Storage::Postgres {
        for _ in 0..2 {
            let mut other = world.another_process().await;
            other.work_with(providers(&endless), 60, LEASE);
            others.push(other);
        }
    } else {
        world.process.work_with(providers(&endless), 60, LEASE);
    }
    let workflow = world.put(ENDLESS).await.id;
    let took = stream::iter(0..count)
        .map(|seed| cancel_one(&world, workflow, seed))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let slowest = took.iter().max().copied().unwrap();
    eventually("the provider sees every connection dropped", SOON, || async { (endless.open() == 0).then_some(()) })
        .await;
    assert!(endless.served() > usize::try_from(count / 4).unwrap(), "{} calls met their cancel", endless.served());
    money_is_right(&world, count).await;
    world.balances().await;
    println!("{count} missions, {} calls, the slowest end took {} ms", endless.served(), slowest.as_millis());
    for other in others {
        other.stop().await;
    }
}

/// Submits a mission and cancels it after some number of things happened in it, perhaps none; how long its end took.
async fn cancel_one(world: &World, workflow: WorkflowId, seed: u64) -> Duration {
    let submission = world.submission(workflow, json!({}));
    let mission = submission.mission_id;
    let mut watch = world.engine().relay().hub().watch(mission);
    world.try_submit(submission).await.unwrap();
    for _ in 0..SeededChance::new(seed).below(16) {
        // what is said gets across as hints: a hint that is lost is no reason to wait for ever
        if tokio::time::timeout(Duration::from_millis(400), watch.frames.recv()).await.is_err() {
            break;
        }
    }
    let asked = Instant::now();
    world.engine().cancel(mission, None).await.unwrap();
    let is_over = |frame: &FrameBody| matches!(frame, FrameBody::Event { event: Some(event), .. } if event.kind == "mission.cancelled");
    while asked.elapsed() < SOON {
        match tokio::time::timeout(Duration::from_millis(500), watch.frames.recv()).await {
            Ok(Ok(frame)) if is_over(&frame.body) => break,
            Ok(Ok(_)) => {}
            _ if world.mission(mission).await.state.is_final() => break,
            _ => {}
        }
    }
    let took = asked.elapsed();
    let over = world.mission(mission).await;
    assert_eq!(over.state, RunState::Cancelled, "mission {seed} was not over {} ms after its cancel", took.as_millis());
    assert!(took < SOON, "mission {seed} took {} ms", took.as_millis());
    took
}

/// Nothing is held; what was used is charged and nothing else; nobody waits for an answer any more.
async fn money_is_right(world: &World, count: u64) {
    let one = async |sql: &str| world.store().rows(sql, &[]).await.unwrap()[0]["n"].as_i64().unwrap();
    assert_eq!(one("select count(*) as n from runs where state = 'cancelled'").await, i64::try_from(count).unwrap());
    assert_eq!(one("select count(*) as n from holds where state = 'open'").await, 0);
    assert_eq!(one("select count(*) as n from usage_calls where state = 'sent'").await, 0);
    let settled =
        "select count(*) as n from usage_calls where state in ('done', 'failed') and not billable and cost_ucr > 0";
    assert_eq!(one(settled).await, 0, "what was used is charged");
    let charged = one("select coalesce(sum(cost_ucr), 0) as n from usage_calls where billable").await;
    let wallet = world.store().wallet(None, world.wallet, world.engine().clock().now()).await.unwrap().unwrap();
    assert_eq!(wallet.held_ucr, Ucr::ZERO);
    assert_eq!(wallet.available_ucr.get(), 100_000_000_000 - charged, "no fee, and nothing beyond what was used");
    assert!(charged > 0);
}

/// Processes that have no Redis between them: nobody tells the worker but the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_another_process_without_redis() {
    let mut world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(100).await;
    world.process.work(4);
    let other = world.another_process().await;
    let mission = world
        .run(&ENDLESS.replace("gpt-4.1-mini", "simulated-large").replace("without end'", "[[simulate stall]]'"))
        .await;
    world.task_when(mission, "far", "running", |task| task.state == TaskState::Running).await;
    let asked = Instant::now();
    other.engine.cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    assert!(asked.elapsed() < SOON, "{} ms", asked.elapsed().as_millis());
    world.balances().await;
    other.stop().await;
}

async fn a_node_that_the_run_can_do_without_stops_nobody(world: World) {
    let text = "{workflow: loose, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, \
                nodes: {bad: {agent: a, on_error: skip, prompt: '[[simulate fail=permanent]]'}, \
                        slow: {agent: a, prompt: 'x [[simulate tokens=20 delay_ms=400]]', retry: {max_attempts: 1}}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, world.task(mission, "slow").await.state), (RunState::Succeeded, TaskState::Succeeded));
    assert_eq!(world.task(mission, "bad").await.state, TaskState::Failed);
    world.balances().await;
}

/// A tool that blocks its thread until the test is over, whatever it is told.
#[derive(Debug)]
struct Deaf {
    parameters: Value,
    entered: Arc<AtomicUsize>,
    release: Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>,
}

#[async_trait]
impl Tool for Deaf {
    fn name(&self) -> &'static str {
        "deaf"
    }

    fn description(&self) -> &'static str {
        "hears nothing"
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn effects(&self) -> ToolEffects {
        ToolEffects::None
    }

    async fn call(&self, _: &Value) -> Result<String, ToolError> {
        self.entered.fetch_add(1, Ordering::SeqCst);
        let (released, signal) = &*self.release;
        let guard = released.lock().unwrap();
        drop(signal.wait_while(guard, |released| !*released).unwrap());
        Ok("at last".to_owned())
    }
}

async fn a_step_that_does_not_hear_its_stop_is_given_up(mut world: World) {
    world.process.drain(PATIENCE).await;
    let (entered, release) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let deaf = Deaf { parameters: json!({"type": "object"}), entered: entered.clone(), release: Arc::clone(&release) };
    let tools = Tools::default().with(Arc::new(deaf)).unwrap();
    let simulated = SimulatedConfig { word_delay_ms: 0 };
    let providers = Providers::builder().simulated_with(simulated).tools(tools).build().unwrap();
    world.process.work_with(providers, 2, LEASE);
    let text = "{workflow: deaf, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50, tools: [deaf]}}, \
                nodes: {one: {agent: a, prompt: 'x [[simulate tool=deaf args={} tokens=5]]'}}}";
    let mission = world.run(text).await;
    eventually("the tool runs", PATIENCE, || async { (entered.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    let asked = Instant::now();
    world.engine().cancel(mission, None).await.unwrap();
    let over = world.finished(mission).await;
    let took = asked.elapsed();
    *release.0.lock().unwrap() = true;
    release.1.notify_all();
    assert_eq!((over.state, over.held_ucr), (RunState::Cancelled, Ucr::ZERO));
    assert!(took < SOON, "{} ms", took.as_millis());
    let calls: BTreeMap<String, bool> = world
        .store()
        .calls_of_run(over.run_id, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|call| (call.state, call.billable))
        .collect();
    assert_eq!(calls, BTreeMap::from([("done".to_owned(), true)]), "what was journaled before is charged");
    world.balances().await;
    // its slot is free for others
    let next: MissionId = world.run("{workflow: next, nodes: {a: {transform: 1}}}").await;
    assert_eq!(world.finished(next).await.state, RunState::Succeeded);
}
