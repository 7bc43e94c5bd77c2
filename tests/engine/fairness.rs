//! Tenants beside one another, end to end: a flood does not push others aside while the store serves, and what the queue
//! believes to run is what runs, with steps that were handed over and workers that died.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bursar::clock::new_id;
use bursar_domain::id::{MissionId, TenantId, WalletId, WorkflowId};
use bursar_domain::state::RunState;
use bursar_workers::Providers;
use bursar_workers::http::{HttpConfig, HttpService};
use serde_json::json;
use tokio::sync::watch;

use crate::support::eventually;
use crate::support::hand::{SINGLE, definition};
use crate::support::redis::TestRedis;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};

on_both_stores!(idle:
    while_redis_is_away_one_task_beside_2000_of_another_tenant_is_in_the_first_claim,
    successors_that_were_handed_over_count_as_running_and_those_of_the_dead_do_not,
);

/// A world with a queue in Redis, credits and no workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Redis).await;
    world.grant(1_000).await;
    world
}

/// Another tenant, with a workflow of its own.
struct Guest {
    tenant: TenantId,
    wallet: WalletId,
    workflow: WorkflowId,
}

impl Guest {
    async fn of(world: &World, yaml: &str) -> Self {
        let (tenant, wallet) = (new_id(), new_id());
        world.store().add_tenant(tenant, "second", world.engine().clock().now()).await.unwrap();
        world.engine().open_wallet(wallet, tenant).await.unwrap();
        let workflow = world.engine().put_workflow(tenant, &definition(yaml)).await.unwrap().workflow.id;
        Self { tenant, wallet, workflow }
    }

    async fn submit(&self, world: &World) -> MissionId {
        let mut one = world.submission(self.workflow, json!({}));
        (one.tenant_id, one.wallet_id) = (self.tenant, self.wallet);
        world.try_submit(one).await.unwrap().mission_id
    }
}

async fn while_redis_is_away_one_task_beside_2000_of_another_tenant_is_in_the_first_claim(mut world: World) {
    let guest = Guest::of(&world, "{workflow: w, flat_fee: 0, nodes: {only: {transform: {x: 1}}}}").await;
    let flood = world.put(SINGLE).await;
    world.submit_many(flood.id, 2_000).await;
    let mission = guest.submit(&world).await;
    world.redis.take().unwrap().kill();
    world.process.work(4);
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let began = world.task(mission, "only").await.started_at.unwrap();
    let sql = "select count(*) as n from tasks where tenant_id = $1 and started_at < $2";
    let rows = world.store().rows(sql, &[world.tenant.into(), began.into()]).await.unwrap();
    assert_eq!(rows[0]["n"], 0, "tasks of the flood that were claimed before");
    let (_, popped, polled) = world.engine().metrics().claim_sources();
    assert!(popped == 0 && polled > 0, "the store served: {popped} {polled}");
    world.process.end().await;
}

/// A service that lets nobody go until it is opened, and knows who came.
#[derive(Clone)]
struct Gate {
    open: watch::Sender<bool>,
    came: Arc<Mutex<Vec<String>>>,
}

impl Gate {
    async fn start() -> (Self, String) {
        let gate = Self { open: watch::Sender::new(false), came: Arc::default() };
        let inside = gate.clone();
        let answer = move |uri: axum::http::Uri| {
            let gate = inside.clone();
            async move {
                gate.came.lock().unwrap().push(uri.path().to_owned());
                let _ = gate.open.subscribe().wait_for(|open| *open).await;
                "done"
            }
        };
        let app = axum::Router::new().fallback(answer);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, app).await });
        (gate, host)
    }

    /// Waits until so many came after the first `known`, and names them.
    async fn newcomers(&self, known: usize, count: usize) -> Vec<String> {
        let look = || async {
            let came = self.came.lock().unwrap().clone();
            (came.len() >= known + count).then(|| came[known..].to_vec())
        };
        eventually("the slots are taken", PATIENCE, look).await
    }
}

fn calling(host: &str) -> Providers {
    bursar::boot::install_crypto();
    let config =
        HttpConfig { allow: vec![host.to_owned()], allow_private: true, timeout_ms: 120_000, ..HttpConfig::default() };
    Providers::builder().http(HttpService::new(config).unwrap()).build().unwrap()
}

/// A step that ends at once and one that is handed over to its worker and stays.
fn stays(host: &str, path: &str) -> String {
    format!(
        "{{workflow: w, flat_fee: 0, nodes: {{first: {{transform: {{x: 1}}, pool: default}}, \
          second: {{needs: [first], pool: default, timeout: 2m, http: {{url: 'http://{host}{path}'}}}}}}}}"
    )
}

async fn until_later(world: &World, after: Duration) {
    let clock = world.engine().clock();
    let due = clock.now().plus_ms(after.as_millis() as i64);
    eventually("time goes on", PATIENCE, || async { (clock.now() >= due).then_some(()) }).await;
}

async fn successors_that_were_handed_over_count_as_running_and_those_of_the_dead_do_not(world: World) {
    let (gate, host) = Gate::start().await;
    let first = world.put(&stays(&host, "/first")).await;
    let guest = Guest::of(&world, &stays(&host, "/second")).await;
    let mut missions = world.submit_many(first.id, 4).await;
    let (url, redis_url) = (world.place.url(), world.redis.as_ref().map(TestRedis::url).unwrap());
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let at = host.clone();
    let started = doomed.spawn(async move {
        let mut process = Process::start(&url, Some(&redis_url)).await;
        process.work_with(calling(&at), 4, LEASE);
        process
    });
    let process = started.await.unwrap();
    gate.newcomers(0, 4).await;
    let (claims, popped, _) = process.engine.metrics().claim_sources();
    assert_eq!((claims, popped), (4, 4), "the second steps were handed over, not popped");

    missions.extend(world.submit_many(first.id, 8).await);
    for _ in 0..8 {
        missions.push(guest.submit(&world).await);
    }
    // what was popped counts no more: its steps are over, and so would their leases be
    until_later(&world, LEASE + Duration::from_millis(500)).await;
    let mut beside = world.another_process().await;
    beside.work_with(calling(&host), 4, LEASE);
    assert_eq!(gate.newcomers(4, 4).await, ["/second"; 4], "the first tenant has four running");

    doomed.shutdown_background();
    let sql = "select count(*) as n from tasks where state = 'running' and tenant_id = $1";
    let taken_away = || async {
        let rows = world.store().rows(sql, &[world.tenant.into()]).await.unwrap();
        (rows[0]["n"] == 0).then_some(())
    };
    eventually("the dead worker's tasks are taken from it", PATIENCE, taken_away).await;
    // the queue heard of the last heartbeat a moment after the store
    until_later(&world, Duration::from_secs(1)).await;
    let mut third = world.another_process().await;
    third.work_with(calling(&host), 4, LEASE);
    assert_eq!(gate.newcomers(8, 4).await, ["/first"; 4], "the first tenant has none running, the second four");

    gate.open.send_replace(true);
    for mission in missions {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    }
    world.balances().await;
    drop(process);
    beside.stop().await;
    third.stop().await;
}
