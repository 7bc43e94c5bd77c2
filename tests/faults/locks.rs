//! A SQLite file that another program has locked: for longer than Bursar waits for it, or with a reader that never ends.

use std::time::{Duration, Instant};

use bursar::engine::SubmitError;
use bursar_domain::state::RunState;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};

use super::ending;
use crate::support::eventually;
use crate::support::stores::Storage;
use crate::support::world::{Queues, World};

const STEPS: &str = "
workflow: steps
flat_fee: 1
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  ask: { agent: a, prompt: '[[simulate delay_ms=60 tokens=3]]' }
  nap: { needs: [ask], sleep: 50ms }
  last: { needs: [nap], transform: { x: 1 }, units: { step: 1 } }
";

/// How long somebody who waits behind the lock may wait: writers stand in line, each for the busy timeout of 10 s.
const LOCKED: Duration = Duration::from_secs(90);

async fn ended(world: &World) -> i64 {
    let rows = world.store().rows("select count(*) as n from runs where ended_at is not null", &[]).await.unwrap();
    rows[0]["n"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_locked_for_longer_than_the_busy_timeout_refuses_submits_honestly_and_loses_nothing() {
    let mut world = World::new(Storage::Sqlite, Queues::Memory).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let mut missions = Vec::new();
    world.process.work(4);
    let mut other = SqliteConnection::connect(&world.place.url()).await.unwrap();
    for round in 0..2 {
        missions.extend(world.submit_many(workflow.id, 15).await);
        let aim = ended(&world).await + 2;
        eventually("some more end", LOCKED, async || (ended(&world).await >= aim).then_some(())).await;
        sqlx::raw_sql("begin immediate").execute(&mut other).await.unwrap();
        let locked = Instant::now();
        let mut submission = world.submission(workflow.id, json!({}));
        submission.idempotency_key = Some(format!("order-{round}"));
        let refusal = world.try_submit(submission.clone()).await.unwrap_err();
        println!("refused after {:?}: {refusal}", locked.elapsed());
        // what the API answers with 503 and a time to come again
        assert!(matches!(refusal, SubmitError::Store(_, true)), "{refusal:?}");
        assert!(locked.elapsed() < LOCKED, "{:?}", locked.elapsed());
        // who reads is served meanwhile
        assert!(ended(&world).await < 32);
        sqlx::raw_sql("rollback").execute(&mut other).await.unwrap();
        let made = eventually("it is taken again", LOCKED, async || world.try_submit(submission.clone()).await.ok());
        let made = made.await.mission_id;
        // the same key names the same mission
        let again = eventually("it is told again", LOCKED, async || world.try_submit(submission.clone()).await.ok());
        assert_eq!(again.await.mission_id, made);
        missions.push(made);
    }
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
    }
    let rows = world.store().rows("select count(*) as n from missions", &[]).await.unwrap();
    assert_eq!(rows[0]["n"], missions.len(), "what was refused is not there");
    ending::holds(world.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_never_ends_holds_up_no_mission_on_sqlite_and_sees_what_it_began_with() {
    let mut world = World::new(Storage::Sqlite, Queues::Memory).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let mut missions = world.submit_many(workflow.id, 10).await;
    let mut reader = SqliteConnection::connect(&world.place.url()).await.unwrap();
    sqlx::raw_sql("begin").execute(&mut reader).await.unwrap();
    let count = "select count(*) from runs where ended_at is null";
    let before: i64 = sqlx::query_scalar(count).fetch_one(&mut reader).await.unwrap();
    world.process.work(8);
    missions.extend(world.submit_many(workflow.id, 150).await);
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
    }
    let still: i64 = sqlx::query_scalar(count).fetch_one(&mut reader).await.unwrap();
    assert_eq!((before, still), (10, 10), "the reader's snapshot stands");
    ending::holds(world.store()).await;
    sqlx::raw_sql("rollback").execute(&mut reader).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut reader).await.unwrap(), 0);
}
