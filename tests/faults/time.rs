//! Time that goes wrong: a process whose clock is off, a database whose clock jumps, deadlines that pass while the result
//! is on its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bursar_domain::state::{RunState, TaskState};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use super::{PATIENCE, ending};
use crate::support::eventually;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Queues, World};

const HOUR_MS: i64 = 60 * 60 * 1_000;

/// Steps that outlast a heartbeat, so that each lease is renewed while time jumps.
const LONG: &str = "
workflow: long
flat_fee: 0
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  ask: { agent: a, prompt: '[[simulate delay_ms=4000 tokens=3]]' }
  last: { needs: [ask], transform: { x: 1 }, units: { step: 1 } }
";

const NAP: &str = "{workflow: nap, flat_fee: 1, nodes: {nap: {sleep: 200ms}, last: {needs: [nap], transform: 1}}}";

async fn running(world: &World, count: i64) {
    eventually("they run", PATIENCE, async || {
        let rows = world.store().rows("select count(*) as n from tasks where state = 'running'", &[]).await.ok()?;
        (rows[0]["n"].as_i64() >= Some(count)).then_some(())
    })
    .await;
}

/// What was taken from a worker: tasks that needed more than one attempt.
async fn taken(world: &World) -> Vec<Value> {
    world.store().rows("select id, node, attempt, state from tasks where attempt > 1", &[]).await.unwrap()
}

async fn all_succeed(world: &World, missions: &[bursar_domain::id::MissionId]) {
    for mission in missions {
        let over = world.finished(*mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{over:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_clock_is_ten_minutes_off_finds_the_right_time_and_takes_nothing_from_healthy_workers() {
    let mut world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(1_000).await;
    // it has no workers, and so no heartbeats that would tell it the time
    let other = world.another_process().await;
    world.process.work(16);
    let workflow = world.put(LONG).await;
    for off_ms in [HOUR_MS / 6, -HOUR_MS / 6] {
        let missions = world.submit_many(workflow.id, 12).await;
        running(&world, 12).await;
        let clock = other.engine.clock();
        clock.synchronise(clock.now().plus_ms(off_ms), Instant::now());
        eventually("its time is right again", PATIENCE, async || {
            let off = clock.now().since_ms(world.store().time().await.ok()?);
            (off.abs() < 500).then_some(())
        })
        .await;
        all_succeed(&world, &missions).await;
    }
    assert_eq!(taken(&world).await, [Value::Null; 0], "no lease was taken early");
    ending::holds(world.store()).await;
    other.stop().await;
}

/// Puts a clock of the test's own before that of the database: all new connections are told its time.
async fn own_clock(desk: &mut PgConnection) {
    let sql = "
        create schema skew;
        create table skew.offsets (ms bigint not null);
        insert into skew.offsets values (0);
        create function skew.clock_timestamp() returns timestamptz language sql volatile as
          'select pg_catalog.clock_timestamp() + make_interval(secs => (select ms from skew.offsets) / 1000.0)';
        do $$ begin
          execute format('alter database %I set search_path = skew, public, pg_catalog', current_database());
        end $$";
    sqlx::raw_sql(sql).execute(desk).await.unwrap();
}

async fn jump(desk: &mut PgConnection, to_ms: i64, world: &World) {
    sqlx::query("update skew.offsets set ms = $1").bind(to_ms).execute(desk).await.unwrap();
    eventually("the process follows", PATIENCE, async || {
        let off = world.engine().clock().now().since_ms(world.store().time().await.ok()?);
        (off.abs() < 500).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_clock_jumps_by_an_hour_and_back_costs_no_attempt_and_stops_no_later_timer() {
    let mut world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(1_000).await;
    let mut desk = PgConnection::connect(&world.place.url()).await.unwrap();
    own_clock(&mut desk).await;
    // with connections that see the clock
    let process = world.another_process().await;
    std::mem::replace(&mut world.process, process).stop().await;
    world.process.work(16);
    let (long, nap) = (world.put(LONG).await, world.put(NAP).await);
    for (jumps, to_ms) in [HOUR_MS, 0, -HOUR_MS].into_iter().enumerate() {
        let missions = world.submit_many(long.id, 8).await;
        running(&world, 8).await;
        jump(&mut desk, to_ms, &world).await;
        let began = Instant::now();
        all_succeed(&world, &world.submit_many(nap.id, 5).await).await;
        println!("jump {jumps}: sleeps of 200 ms took {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        all_succeed(&world, &missions).await;
    }
    assert_eq!(taken(&world).await, [Value::Null; 0], "no lease was taken from a healthy worker");
    ending::holds(world.store()).await;
}

/// How each task of the missions ended, and that it did so once, in its events and in the ledger.
async fn each_ended_once(world: &World) -> BTreeMap<String, i64> {
    let store = world.store();
    for (what, sql) in [
        (
            "a task has two ends",
            "select task_id, count(*) as times from events
             where kind in ('task.succeeded', 'task.failed', 'task.cancelled', 'task.expired') group by task_id
             having count(*) > 1",
        ),
        (
            "a hold was settled and released, or one of them twice",
            "select task_id, count(*) as times from ops where kind in ('settle', 'release') and task_id is not null
             group by task_id having count(*) > 1",
        ),
        (
            "a task that did not succeed was charged",
            "select id, state, cost_ucr from tasks where state <> 'succeeded' and cost_ucr <> 0",
        ),
    ] {
        let rows = store.rows(sql, &[]).await.unwrap();
        assert!(rows.is_empty(), "{what}: {rows:?}");
    }
    let rows = store.rows("select state, count(*) as n from tasks where node = 'ask' group by state", &[]).await;
    rows.unwrap().iter().map(|row| (row["state"].as_str().unwrap().to_owned(), row["n"].as_i64().unwrap())).collect()
}

on_both_stores!(World::on:
    hundreds_of_settles_that_race_their_deadlines_each_end_in_one_way_and_move_their_hold_once,
);

async fn hundreds_of_settles_that_race_their_deadlines_each_end_in_one_way_and_move_their_hold_once(world: World) {
    let text = |name: &str, of_node: &str, of_run: &str| {
        format!(
            "{{workflow: {name}, flat_fee: 0{of_run}, agents: {{a: {{instructions: be kind, model: simulated-small, \
             max_output_tokens: 20}}}}, nodes: {{ask: {{agent: a, prompt: '{{{{ inputs.note }}}}'{of_node}}}, \
             last: {{needs: [ask], transform: 1}}}}}}"
        )
    };
    let node = world.put(&text("by-node", ", deadline: 200ms", "")).await;
    let run = world.put(&text("by-run", "", ", deadline: 200ms")).await;
    // somebody else's sweep ends them as well
    let other = match world.place {
        crate::support::stores::Place::Database(_) => Some(world.another_process().await),
        crate::support::stores::Place::Folder(_) => None,
    };
    for round in 0..25 {
        // eight at a time, as many as there are slots: ends come from well before the deadline to behind it
        let submits = (0..8).map(|number| {
            let workflow = if number % 2 == 0 { node.id } else { run.id };
            let delay_ms = 20 + number * 100 + round * 4;
            world.submit_with(workflow, json!({"note": format!("[[simulate delay_ms={delay_ms} tokens=2]]")}))
        });
        for mission in futures::future::join_all(submits).await {
            let over = world.finished(mission).await;
            assert!(over.held_ucr.is_zero(), "{over:?}");
            let ask = world.task(mission, "ask").await;
            let is_whole = (ask.state == TaskState::Succeeded) || over.state != RunState::Succeeded;
            assert!(is_whole, "{over:?} {ask:?}");
        }
    }
    ending::holds(world.store()).await;
    let ends = each_ended_once(&world).await;
    println!("{ends:?}");
    assert!(ends.len() > 1, "both sides win some: {ends:?}");
    if let Some(other) = other {
        other.stop().await;
    }
}
