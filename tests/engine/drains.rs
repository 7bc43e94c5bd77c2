//! A process that is asked to leave in the middle of steps of every kind: each is handed back, none of it counts as a
//! failed attempt, and what was bought is not bought again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::routing::get;
use bursar_domain::outcome::ToolEffects;
use bursar_domain::state::{RunState, TaskState};
use bursar_workers::Providers;
use bursar_workers::exec::{ExecConfig, ExecLimits, ExecService};
use bursar_workers::http::{HttpConfig, HttpService};
use bursar_workers::providers::SimulatedConfig;
use bursar_workers::tools::{Tool, ToolError, Tools};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Queues, World};

on_both_stores!(idle:
    steps_of_every_kind_are_handed_back_without_a_penalty_and_buy_nothing_twice,
);

async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// Doors that nobody gets through while they are shut, and how many stand before them.
#[derive(Debug, Clone, Default)]
struct Doors {
    are_open: Arc<AtomicBool>,
    entered: Arc<AtomicUsize>,
}

impl Doors {
    async fn pass(&self) {
        self.entered.fetch_add(1, Ordering::SeqCst);
        if !self.are_open.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

/// A tool behind the doors.
#[derive(Debug)]
struct Slow {
    parameters: Value,
    doors: Doors,
}

#[async_trait]
impl Tool for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn description(&self) -> &'static str {
        "takes its time"
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn effects(&self) -> ToolEffects {
        ToolEffects::None
    }

    async fn call(&self, _: &Value) -> Result<String, ToolError> {
        self.doors.pass().await;
        Ok("at last".to_owned())
    }
}

/// A service behind the doors, and one that is sick the first time; its address.
async fn service(doors: &Doors) -> String {
    let (slow, visits) = (doors.clone(), Arc::new(AtomicUsize::new(0)));
    let sick = async move || match visits.fetch_add(1, Ordering::SeqCst) {
        0 => (axum::http::StatusCode::SERVICE_UNAVAILABLE, "{}"),
        _ => (axum::http::StatusCode::OK, "{}"),
    };
    let app = axum::Router::new()
        .route(
            "/slow",
            get(async move || {
                slow.pass().await;
                "{}"
            }),
        )
        .route("/sick", get(sick));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    host
}

fn providers(host: &str, doors: &Doors, word_delay_ms: u64) -> Providers {
    bursar::boot::install_crypto();
    let http =
        HttpConfig { allow: vec![host.to_owned()], allow_private: true, timeout_ms: 60_000, secrets: BTreeMap::new() };
    let env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
    let exec = ExecConfig { folder: std::env::temp_dir(), env, limits: ExecLimits::default() };
    let slow = Slow { parameters: json!({"type": "object"}), doors: doors.clone() };
    Providers::builder()
        .simulated_with(SimulatedConfig { word_delay_ms })
        .http(HttpService::new(http).unwrap())
        .exec(ExecService::new(exec))
        .tools(Tools::default().with(Arc::new(slow)).unwrap())
        .build()
        .unwrap()
}

/// A node of each kind; none may be tried a second time, but for the one that waits for its second attempt.
fn workflow(host: &str, gate: &str) -> String {
    format!(
        "{{workflow: w, flat_fee: 0, defaults: {{retry: {{max_attempts: 1}}}}, \
          agents: {{a: {{instructions: be kind, model: simulated-small, max_output_tokens: 60, tools: [slow]}}}}, \
          nodes: {{calls: {{http: {{method: GET, url: 'http://{host}/slow'}}}}, \
                   program: {{exec: {{command: [sh, -c, 'test -e {gate} || sleep 50']}}}}, \
                   talks: {{agent: a, prompt: 'talk [[simulate tokens=30]]'}}, \
                   uses: {{agent: a, prompt: 'x [[simulate tool=slow args={{}} tokens=2]]'}}, \
                   retries: {{http: {{method: GET, url: 'http://{host}/sick'}}, retry: {{max_attempts: 2, backoff: {{initial: 4s, jitter: false}}}}}}}}}}"
    )
}

async fn steps_of_every_kind_are_handed_back_without_a_penalty_and_buy_nothing_twice(mut world: World) {
    let doors = Doors::default();
    let host = service(&doors).await;
    let gate = std::env::temp_dir().join(crate::support::unique_name("bursar-gate"));
    world.engine().allow_exec();
    // half a second a word: in the middle of its answer for a while
    world.process.work_with(providers(&host, &doors, 500), 4, LEASE);
    let mission = world.run(&workflow(&host, &gate.display().to_string())).await;
    eventually("all steps are in the middle of it", PATIENCE, || async {
        let tasks = world.tasks(mission).await;
        let running = tasks.iter().filter(|task| task.state == TaskState::Running).count();
        let waits = tasks.iter().any(|task| task.node == "retries" && task.state == TaskState::Retrying);
        (running == 4 && waits && doors.entered.load(Ordering::SeqCst) == 2).then_some(())
    })
    .await;
    let drained = world.process.drain(Duration::from_millis(10)).await;
    assert_eq!(drained.handed_back, 4);
    for task in world.tasks(mission).await {
        let (state, failures) = if task.node == "retries" { (TaskState::Retrying, 1) } else { (TaskState::Ready, 0) };
        // what waits for its time may have become ready meanwhile
        assert!(task.state == state || task.state == TaskState::Ready, "{task:?}");
        assert_eq!(task.failures, failures, "{task:?}");
    }
    doors.are_open.store(true, Ordering::SeqCst);
    std::fs::write(&gate, "open").unwrap();
    world.process.work_with(providers(&host, &doors, 0), 4, LEASE);
    let over = world.finished(mission).await;
    std::fs::remove_file(&gate).unwrap();
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let attempts =
        world.store().rows("select outcome, count(*) as n from attempts group by outcome", &[]).await.unwrap();
    let attempts: BTreeMap<_, _> =
        attempts.iter().map(|row| (row["outcome"].as_str().unwrap(), row["n"].as_i64().unwrap())).collect();
    assert_eq!(attempts, BTreeMap::from([("failed", 1), ("handed_back", 4)]));
    let calls = world.store().calls_of_run(over.run_id, 20).await.unwrap();
    let uses = world.task(mission, "uses").await.id;
    let of_uses: Vec<_> = calls.iter().filter(|call| call.task_id == uses).map(|call| call.state.as_str()).collect();
    assert_eq!(of_uses, ["done", "done"], "the call before the tool was replayed, the one after it bought: {calls:?}");
    world.balances().await;
}
