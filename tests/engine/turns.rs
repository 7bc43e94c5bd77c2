//! Tasks that take turns under a key, with many workers racing: never more than may run, and all of them end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bursar_domain::state::{RunState, TaskState};
use bursar_workers::Providers;
use bursar_workers::http::{HttpConfig, HttpService};
use serde_json::json;
use tokio::sync::Notify;

use crate::support::docs::example;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, Queues, World};

on_both_stores!(idle:
    however_many_workers_race_no_more_run_than_may_and_all_end,
    a_vanished_worker_gives_its_turn_back,
    the_example_of_taking_turns_runs_as_it_says,
);

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// A service that counts how many of its requests are under way.
#[derive(Clone, Default)]
struct Counter {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
    full: Arc<Notify>,
}

impl Counter {
    async fn start(&self) -> String {
        let counter = self.clone();
        let answer = move || {
            let counter = counter.clone();
            async move {
                let now = counter.now.fetch_add(1, Ordering::SeqCst) + 1;
                counter.most.fetch_max(now, Ordering::SeqCst);
                // until as many are here as may, or for a while
                if now >= 3 {
                    counter.full.notify_waiters();
                } else {
                    let _ = tokio::time::timeout(Duration::from_millis(30), counter.full.notified()).await;
                }
                counter.now.fetch_sub(1, Ordering::SeqCst);
                counter.all.fetch_add(1, Ordering::SeqCst);
                "done"
            }
        };
        let app = axum::Router::new().fallback(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        host
    }
}

fn calling(host: &str) -> Providers {
    bursar::boot::install_crypto();
    let config =
        HttpConfig { allow: vec![host.to_owned()], allow_private: true, timeout_ms: 5_000, ..HttpConfig::default() };
    Providers::builder().http(HttpService::new(config).unwrap()).build().unwrap()
}

async fn however_many_workers_race_no_more_run_than_may_and_all_end(mut world: World) {
    let counter = Counter::default();
    let host = counter.start().await;
    let yaml = format!(
        "{{workflow: w, flat_fee: 0, inputs: {{type: object}}, nodes: {{a: {{http: {{url: 'http://{host}/'}}, \
          concurrency: {{key: 'desk {{{{ inputs.desk }}}}', max: 3}}}}, b: {{needs: [a], http: {{url: 'http://{host}/'}}, \
          concurrency: {{key: 'desk {{{{ inputs.desk }}}}', max: 3}}}}}}}}"
    );
    let workflow = world.put(&yaml).await;
    // two processes, each with many more slots than there are turns
    world.process.work_with(calling(&host), 16, LEASE);
    let mut other = match world.place.url() {
        url if url.starts_with("sqlite") => None,
        _ => Some(world.another_process().await),
    };
    if let Some(other) = &mut other {
        other.work_with(calling(&host), 16, LEASE);
    }
    let submits = (0..25).map(|_| world.submit_with(workflow.id, json!({"desk": 1})));
    let missions = futures::future::join_all(submits).await;
    for mission in missions {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    }
    assert_eq!(counter.most.load(Ordering::SeqCst), 3, "no more than may, and as many as may");
    assert_eq!(counter.all.load(Ordering::SeqCst), 50);
    world.balances().await;
    if let Some(other) = other {
        other.stop().await;
    }
}

async fn a_vanished_worker_gives_its_turn_back(mut world: World) {
    let counter = Counter::default();
    let host = counter.start().await;
    let yaml = format!(
        "{{workflow: w, flat_fee: 0, nodes: {{a: {{http: {{url: 'http://{host}/'}}, concurrency: {{key: k, max: 1}}}}}}}}"
    );
    let workflow = world.put(&yaml).await;
    let missions = world.submit_many(workflow.id, 3).await;
    // somebody takes the first and is never heard of again
    let first = world.task(missions[0], "a").await.id;
    let claim = bursar::store::Claim {
        tasks: vec![first],
        worker_id: bursar::clock::new_id(),
        token: "lost".to_owned(),
        lease_ms: 1_500,
        now: world.engine().clock().now(),
    };
    assert_eq!(world.store().claim(&claim).await.unwrap().len(), 1);
    world.process.work_with(calling(&host), 4, LEASE);
    let told = |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains("waits for its turn"));
    let waits = |task: &bursar::store::read::TaskView| task.state == TaskState::Ready && told(&task.status_reason);
    world.task_when(missions[1], "a", "kept back", waits).await;
    for mission in missions {
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    }
    assert_eq!(counter.most.load(Ordering::SeqCst), 1);
}

async fn the_example_of_taking_turns_runs_as_it_says(mut world: World) {
    world.process.work(8);
    let workflow = world.put(&example("gentle")).await;
    let submits = (0..4).map(|number| world.submit_with(workflow.id, json!({"customer": format!("c{}", number % 2)})));
    for mission in futures::future::join_all(submits).await {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    }
    world.balances().await;
}
