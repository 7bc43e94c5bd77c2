//! A process dies between firing and recording: the schedule fires once.

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, Row as _};

use super::PATIENCE;
use super::processes::Installation;
use crate::support::eventually;

const NOTE: &str = "workflow: note\nflat_fee: 0\nnodes: { card: { transform: { a: 1 } } }";

async fn create(installation: &Installation, cron: &str) -> String {
    installation.put("note", NOTE).await;
    let body = json!({
        "name": "s", "cron": cron, "overlap": "replace", "catch_up": "last", "mission": {"workflow": "note"},
    });
    let (status, made) = installation.post("/v1/schedules", &body).await;
    assert_eq!(status, 201, "{made:#}");
    made["id"].as_str().unwrap().to_owned()
}

async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query(sql).fetch_one(connection).await.unwrap().get(0)
}

async fn schedule(installation: &Installation, id: &str) -> Value {
    installation.get(&format!("/v1/schedules/{id}")).await.expect("the server answers")
}

#[tokio::test]
async fn kill_nine_between_firing_and_recording_fires_once() {
    let mut installation = Installation::start().await;
    let id = create(&installation, "0 0 1 1 *").await;
    let mut held = PgConnection::connect(installation.database_url()).await.unwrap();
    let mut desk = PgConnection::connect(installation.database_url()).await.unwrap();
    // the mission's rows can be written up to its first event, and not beyond
    sqlx::raw_sql("begin; lock table events in exclusive mode").execute(&mut held).await.unwrap();
    sqlx::raw_sql("update schedules set next_at = created_at, due_at = created_at").execute(&mut desk).await.unwrap();
    for _ in 0..2 {
        eventually("the firing is in the middle of its writes", PATIENCE, async || {
            let mut look = PgConnection::connect(installation.database_url()).await.unwrap();
            let stuck = "select count(*) from pg_locks where not granted and relation = 'events'::regclass";
            (number(&mut look, stuck).await > 0).then_some(())
        })
        .await;
        installation.restart_server().await;
    }
    sqlx::raw_sql("rollback").execute(&mut held).await.unwrap();
    let fired = eventually("the schedule has fired", PATIENCE, async || {
        Some(schedule(&installation, &id).await).filter(|row| row["fired"] != 0)
    })
    .await;
    assert_eq!(fired["fired"], 1);
    assert_eq!(number(&mut desk, "select count(*) from missions").await, 1, "one mission for one time");
    installation.verify();
}

#[tokio::test]
async fn servers_that_die_and_come_back_lose_and_double_no_firing_that_was_told() {
    let mut installation = Installation::start().await;
    let id = create(&installation, "* * * * * *").await;
    let worker = installation.worker(&[]);
    for round in 1..=4_i64 {
        eventually("it fires", PATIENCE, async || {
            let row = installation.get(&format!("/v1/schedules/{id}")).await?;
            (row["fired"].as_i64()? >= round * 2).then_some(())
        })
        .await;
        installation.restart_server().await;
    }
    let (_, paused) = installation.post(&format!("/v1/schedules/{id}/pause"), &json!({})).await;
    let mut desk = PgConnection::connect(installation.database_url()).await.unwrap();
    let missions = number(&mut desk, "select count(*) from missions").await;
    let times = number(&mut desk, "select count(distinct metadata ->> 'scheduled_for') from missions").await;
    assert_eq!((paused["fired"].as_i64(), times), (Some(missions), missions), "each firing is one mission of one time");
    installation.kill_nine(worker);
    installation.verify();
}
