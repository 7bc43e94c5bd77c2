//! What a node costs the database: rows written, and round trips per batch of settles.

use bursar_domain::state::RunState;
use sqlx::postgres::PgPool;

use crate::support::eventually;
use crate::support::hand::DIAMOND;
use crate::support::stores::Storage;
use crate::support::world::{PATIENCE, Queues, World};

/// Missions of four priced nodes each.
const MISSIONS: usize = 100;
/// The design allows 11; one more is room for the machine: how many settles meet in a batch, and so how often what
/// they share (wallet, grant, mission) is written, depends on its speed.
const MOST_ROWS_PER_NODE: f64 = 12.0;

/// Rows inserted, updated and deleted since the database was made, as Postgres itself counts them. Sessions publish
/// their counts when they end, so nobody else may be connected.
async fn written_rows(database: &PgPool) -> Vec<(String, i64)> {
    let ended = || async {
        let sessions: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'bursar'",
        )
        .fetch_one(database)
        .await
        .unwrap();
        (sessions == 0).then_some(())
    };
    eventually("all sessions of the store ended", PATIENCE, ended).await;
    sqlx::query("select pg_stat_clear_snapshot()").execute(database).await.unwrap();
    sqlx::query_as(
        "select relname::text, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables
         where relname <> 'workers' order by relname",
    )
    .fetch_all(database)
    .await
    .unwrap()
}

/// What both sides of a measurement need: a pool of its own, and the world's process ended in between.
async fn measure(place: &str) -> Vec<(String, i64)> {
    let database = PgPool::connect(place).await.unwrap();
    let rows = written_rows(&database).await;
    database.close().await;
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_writes_few_rows_in_few_round_trips() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let workflow = world.put(DIAMOND).await;
    let url = world.place.url();
    world.process.end().await;
    let before = measure(&url).await;

    world.process = world.another_process().await;
    let counters = world.store().counters();
    let missions = world.submit_many(workflow.id, MISSIONS).await;
    world.process.work(64);
    for mission in missions {
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    }
    world.balances().await;
    let done = world.store().counters();
    world.process.end().await;
    let after = measure(&url).await;

    let nodes = (MISSIONS * 4) as f64;
    let by_table: Vec<(String, f64)> = after
        .iter()
        .zip(&before)
        .map(|((table, now), (_, then))| (table.clone(), (now - then) as f64 / nodes))
        .filter(|(_, rows)| *rows > 0.0)
        .collect();
    let rows: f64 = by_table.iter().map(|(_, rows)| rows).sum();
    let detail: Vec<String> = by_table.iter().map(|(table, rows)| format!("{table} {rows:.2}")).collect();
    println!("{rows:.2} rows per node: {}", detail.join(", "));
    println!("{} commits, {} round trips", done.commits - counters.commits, done.round_trips - counters.round_trips);
    assert!(rows <= MOST_ROWS_PER_NODE, "{rows:.2} rows per node: {}", detail.join(", "));
}
