//! No connection to the database is free: other programs have all that Postgres gives out, or those of a process stand
//! in line behind a lock. Whoever asks is told so, with a time to come again, and what was accepted goes on by itself.

use std::time::{Duration, Instant};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::processes::{Installation, items};
use super::{PATIENCE, TEAM, all_succeed, each_task_was_billed_once, ending};
use crate::support::cluster::Cluster;
use crate::support::eventually;
use crate::support::hand::SINGLE;
use crate::support::stores::Storage;
use crate::support::world::{Queues, World};

/// The longest that anybody waits for an answer: a lock is waited for up to 10 s, a connection up to 10 s, before and
/// after; proxies give up at 30 s.
const LONGEST: Duration = Duration::from_secs(30);
const WORKER: [(&str, &str); 4] =
    [("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "40"), ("BURSAR_DB_CONNECTIONS", "4"), ("RUST_LOG", "error")];
const SERVER: [(&str, &str); 2] = [("BURSAR_DB_CONNECTIONS", "4"), ("RUST_LOG", "error")];

/// An answer, and how long it took.
#[derive(Debug)]
struct Answer {
    status: u16,
    retry_after: Option<u64>,
    body: Value,
    took: Duration,
}

async fn ask(request: RequestBuilder) -> Answer {
    let began = Instant::now();
    let answer = request.send().await.expect("there is an answer");
    let retry_after = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let status = answer.status().as_u16();
    let body = answer.json().await.unwrap();
    Answer { status, retry_after, body, took: began.elapsed() }
}

fn is_honest(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(matches!(answer.body["code"].as_str(), Some("store-unavailable" | "overloaded")), "{answer:?}");
    assert_eq!(answer.body["retryable"], true, "{answer:?}");
    assert!(answer.retry_after.is_some_and(|seconds| seconds >= 1), "{answer:?}");
    assert!(answer.took < LONGEST, "{answer:?}");
}

fn order(installation: &Installation, key: &str) -> RequestBuilder {
    let body = json!({"workflow": "team", "input": {"what": key}});
    installation.request(Method::POST, "/v1/missions").header("Idempotency-Key", key).json(&body)
}

/// The same orders again, now that there is room: each key has one mission, and no other is there.
async fn reordered(installation: &Installation, keys: &[String], missions: &mut Vec<String>) {
    for key in keys {
        let body = json!({"workflow": "team", "input": {"what": key}});
        let (status, made) = installation.insist("/v1/missions", &body, key).await;
        assert!(matches!(status, 200 | 202), "{status} {made:#}");
        missions.push(made["id"].as_str().unwrap().to_owned());
    }
    let listed = items(&installation.get("/v1/missions?limit=100").await.unwrap());
    assert_eq!(listed.len(), missions.len(), "each key one mission");
}

async fn some_run(installation: &Installation) {
    eventually("tasks run", PATIENCE, async || {
        let workers = installation.get("/v1/admin/workers").await?;
        items(&workers).iter().any(|worker| worker["running"].as_i64() > Some(0)).then_some(())
    })
    .await;
}

/// Ends the sessions of all Bursar processes and takes their places, until nobody else has one or gets one.
async fn take_all(url: &str) -> Vec<PgConnection> {
    let mut desk = PgConnection::connect(url).await.unwrap();
    let mut taken = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        while let Ok(connection) = PgConnection::connect(url).await {
            taken.push(connection);
        }
        let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                      where application_name = 'bursar' and pid <> pg_backend_pid()";
        let others: i64 = sqlx::query_scalar(others).fetch_one(&mut desk).await.unwrap();
        if others == 0 {
            taken.push(desk);
            return taken;
        }
        assert!(Instant::now() < deadline, "somebody else was always quicker");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_a_free_connection_is_said_and_missions_go_on_by_themselves_when_there_is_one() {
    let cluster = Cluster::start_with("-c max_connections=40").await;
    let mut installation = Installation::start_at(cluster.url(), &SERVER).await;
    installation.put("team", TEAM).await;
    let worker = installation.worker(&WORKER);
    let mut missions = Vec::new();
    for number in 0..12 {
        missions.push(installation.submit("team", json!({"what": number}), None).await);
    }
    some_run(&installation).await;
    let taken = take_all(&cluster.url()).await;
    println!("{} connections are somebody else's", taken.len());
    let keys: Vec<String> = (0..6).map(|number| format!("order-{number}")).collect();
    let mut requests: Vec<RequestBuilder> = keys.iter().map(|key| order(&installation, key)).collect();
    for path in ["/v1/missions", "/v1/wallet", &format!("/v1/missions/{}", missions[0]), "/readyz"] {
        requests.push(installation.request(Method::GET, path));
    }
    let (answers, alive) = tokio::join!(
        futures::future::join_all(requests.into_iter().map(ask)),
        ask(installation.request(Method::GET, "/livez"))
    );
    assert!(alive.status == 200 && alive.took < Duration::from_secs(3), "{alive:?}");
    answers.iter().for_each(is_honest);
    println!("the slowest 503 took {} ms", answers.iter().map(|answer| answer.took).max().unwrap().as_millis());
    // longer than leases last
    let mut taken = taken;
    let desk = tokio::sync::Mutex::new(taken.pop().unwrap());
    let lost = "select count(*) from tasks where state = 'running' and lease_until > extract(epoch from now()) * 1000";
    eventually("the leases ran out", PATIENCE, async || {
        let live: i64 = sqlx::query_scalar(lost).fetch_one(&mut *desk.lock().await).await.unwrap();
        (live == 0).then_some(())
    })
    .await;
    drop(desk);
    drop(taken);
    reordered(&installation, &keys, &mut missions).await;
    all_succeed(&installation, &missions).await;
    each_task_was_billed_once(&installation, &missions).await;
    ending::holds_at(&cluster.url()).await;
    installation.terminate(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_connections_all_wait_for_a_lock_answers_reads_and_says_so_to_writes() {
    let mut installation = Installation::start_with(&SERVER).await;
    installation.put("team", TEAM).await;
    let worker = installation.worker(&WORKER);
    let mut missions = Vec::new();
    for number in 0..4 {
        missions.push(installation.submit("team", json!({"what": number}), None).await);
    }
    some_run(&installation).await;
    let mut outside = PgConnection::connect(installation.database_url()).await.unwrap();
    let mut held = outside.begin().await.unwrap();
    sqlx::query("select 1 from wallets for update").execute(&mut *held).await.unwrap();
    let keys: Vec<String> = (0..12).map(|number| format!("order-{number}")).collect();
    let grant = installation.request(Method::POST, "/v1/wallet/grants").header("Idempotency-Key", "later");
    let grant = grant.json(&json!({"amount": "1", "kind": "paid"}));
    let writes = keys.iter().map(|key| order(&installation, key)).chain([grant]).map(ask);
    let mut writes = std::pin::pin!(futures::future::join_all(writes));
    let mut reads = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let answers = loop {
        let read = async {
            ticks.tick().await;
            ask(installation.request(Method::GET, &format!("/v1/missions/{}", missions[0]))).await
        };
        tokio::select! {
            biased;
            answers = &mut writes => break answers,
            read = read => {
                assert!(read.status == 200 && read.took < Duration::from_secs(3), "{read:?}");
                reads += 1;
            }
        }
    };
    answers.iter().for_each(is_honest);
    let slowest = answers.iter().map(|answer| answer.took).max().unwrap();
    println!("{reads} reads meanwhile; the slowest 503 took {} ms", slowest.as_millis());
    assert!(reads > 10, "{reads}");
    held.rollback().await.unwrap();
    reordered(&installation, &keys, &mut missions).await;
    all_succeed(&installation, &missions).await;
    each_task_was_billed_once(&installation, &missions).await;
    ending::holds_at(installation.database_url()).await;
    installation.terminate(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_that_nobody_waits_for_any_more_when_the_lock_is_gone_is_left_undone() {
    let world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(10).await;
    let workflow = world.put(SINGLE).await;
    let mut outside = PgConnection::connect(&world.place.url()).await.unwrap();
    let mut held = outside.begin().await.unwrap();
    sqlx::query("select 1 from wallets for update").execute(&mut *held).await.unwrap();
    let mut begun = Box::pin(world.submit(workflow.id));
    let desk = tokio::sync::Mutex::new(PgConnection::connect(&world.place.url()).await.unwrap());
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let stands = eventually("the first stands at the lock", PATIENCE, async || {
        let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut *desk.lock().await).await.unwrap();
        (waiting > 0).then_some(())
    });
    tokio::select! {
        () = stands => {}
        mission = &mut begun => panic!("{mission} is made under a lock"),
    }
    // this one stands in line behind it and then leaves
    let mut leaving = Box::pin(world.submit(workflow.id));
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut leaving).await.is_err());
    drop(leaving);
    held.rollback().await.unwrap();
    let last = world.submit(workflow.id).await;
    let first = begun.await;
    let mut missions: Vec<String> = Vec::new();
    for row in world.store().rows("select id from missions order by id", &[]).await.unwrap() {
        missions.push(row["id"].as_str().unwrap().to_owned());
    }
    let mut expected = [first.to_string(), last.to_string()];
    expected.sort();
    assert_eq!(missions, expected);
    world.balances().await;
}
