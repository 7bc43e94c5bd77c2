//! A database that stops statements, ends sessions, meets others in the wrong order, or has no room left: nothing is
//! called bad that is only late, and all goes on by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bursar_domain::state::RunState;
use sqlx::{Connection as _, PgConnection};

use super::ending;
use crate::support::eventually;
use crate::support::stores::Storage;
use crate::support::world::{PATIENCE, Queues, World};

const STEPS: &str = "
workflow: steps
flat_fee: 1
# an outage at the moment of a reservation costs an attempt
defaults: { retry: { max_attempts: 8, backoff: { initial: 10ms } } }
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  first: { transform: { x: 1 }, units: { step: 1 } }
  ask: { needs: [first], agent: a, prompt: '[[simulate delay_ms=20 tokens=3]]' }
  last: { needs: [ask], transform: { x: 1 }, units: { step: 1 } }
";

/// Stops a statement (as a statement timeout does) or ends the session of those that work, again and again.
async fn disturb(url: String, is_over: Arc<AtomicBool>) -> (i64, i64) {
    let mut desk = PgConnection::connect(&url).await.unwrap();
    let (mut cancelled, mut ended) = (0, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(15));
    let others = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                  and application_name = 'bursar' and state <> 'idle' and random() < ";
    let cancel = format!("select count(pg_cancel_backend(pid)) {others} 0.3");
    let end = format!("select count(pg_terminate_backend(pid)) {others} 0.3");
    while !is_over.load(Ordering::SeqCst) {
        for round in 0..5 {
            ticks.tick().await;
            let sql = if round == 4 { &end } else { &cancel };
            let hit: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(sql.clone())).fetch_one(&mut desk).await.unwrap();
            *(if round == 4 { &mut ended } else { &mut cancelled }) += hit;
        }
    }
    (cancelled, ended)
}

/// Locks the money first and the missions then, the wrong way round, again and again; how often it met somebody and lost.
async fn meet(url: String, is_over: Arc<AtomicBool>) -> u64 {
    let mut desk = PgConnection::connect(&url).await.unwrap();
    let mut lost = 0;
    sqlx::raw_sql("set deadlock_timeout = '20ms'").execute(&mut desk).await.unwrap();
    while !is_over.load(Ordering::SeqCst) {
        let sql = "begin; select 1 from wallets for update; select 1 from missions order by id desc for update";
        lost += u64::from(sqlx::raw_sql(sql).execute(&mut desk).await.is_err());
        sqlx::raw_sql("rollback").execute(&mut desk).await.unwrap();
        tokio::task::yield_now().await;
    }
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_are_stopped_sessions_that_end_and_deadlocks_fail_no_mission() {
    let mut world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let missions = world.submit_many(workflow.id, 60).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let disturbing = tokio::spawn(disturb(world.place.url(), is_over.clone()));
    let meeting = tokio::spawn(meet(world.place.url(), is_over.clone()));
    world.process.work(8);
    // in the end without disturbance, so that it ends on any machine
    let store = bursar::store::open(&world.place.url(), 2).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(8), async {
        for mission in &missions {
            world.finished(*mission).await;
        }
    })
    .await;
    is_over.store(true, Ordering::SeqCst);
    let (cancelled, ended) = disturbing.await.unwrap();
    let lost = meeting.await.unwrap();
    println!("{cancelled} statements stopped, {ended} sessions ended, {lost} deadlocks of the other side");
    for mission in &missions {
        let over = world.finished(*mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{over:?}");
    }
    assert!(cancelled > 5 && ended > 0, "{cancelled} {ended}");
    ending::holds(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_sqlite_is_said_and_nothing_is_lost_when_there_is_room_again() {
    let mut world = World::new(Storage::Sqlite, Queues::Memory).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let missions = world.submit_many(workflow.id, 20).await;
    // on the one connection that writes: no page more than there are
    world.store().execute("pragma max_page_count = 1", &[]).await.unwrap();
    world.process.work(8);
    let full = eventually("the disk is full", PATIENCE, async || {
        let submission = world.submission(workflow.id, serde_json::json!({"text": "x".repeat(20_000)}));
        world.try_submit(submission).await.err()
    })
    .await;
    assert!(full.to_string().contains("full"), "{full}");
    let failed = world.store().rows("select id from tasks where state = 'failed'", &[]).await.unwrap();
    assert!(failed.is_empty(), "no result is bad because there is no room for it: {failed:?}");
    world.store().execute("pragma max_page_count = 1073741823", &[]).await.unwrap();
    for mission in &missions {
        let over = world.finished(*mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{over:?}");
    }
    ending::holds(world.store()).await;
}
