//! A server dies in the middle of a redrive: each mission is retried exactly once.

use std::collections::BTreeSet;

use serde_json::json;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::PATIENCE;
use super::processes::{self, Installation};
use crate::support::eventually;

/// Fails whenever it is tried.
const BROKEN: &str = "
workflow: broken
flat_fee: 1
agents: { a: { instructions: 'You try.', model: simulated-small, max_output_tokens: 20 } }
nodes: { bad: { agent: a, prompt: 'Try. [[simulate fail=permanent]]', retry: { max_attempts: 1 } } }
";

const MISSIONS: i64 = 60;

async fn number(url: &str, sql: &'static str) -> i64 {
    let mut look = PgConnection::connect(url).await.unwrap();
    sqlx::query(sql).fetch_one(&mut look).await.unwrap().get(0)
}

/// Sessions that wait for their notes about a redrive.
async fn waiting(url: &str) -> BTreeSet<i32> {
    let mut look = PgConnection::connect(url).await.unwrap();
    let sql = "select pid from pg_locks where not granted and relation = 'bulk_items'::regclass";
    sqlx::query_scalar(sql).fetch_all(&mut look).await.unwrap().into_iter().collect()
}

const DEAD: &str = "select count(*) from runs where state = 'failed'";
const RETRIED: &str = "select count(*) from runs where retries > 0";

#[tokio::test]
async fn kill_nine_of_the_server_in_mid_redrive_retries_each_mission_exactly_once() {
    let mut installation = Installation::start().await;
    installation.put("broken", BROKEN).await;
    let url = installation.database_url().to_owned();
    let worker = installation.worker(&[("BURSAR_SIMULATED_WORD_MS", "0")]);
    for _ in 0..MISSIONS {
        installation.submit("broken", json!({}), None).await;
    }
    let all_failed = async || (number(&url, DEAD).await == MISSIONS).then_some(());
    eventually("all have failed", PATIENCE, all_failed).await;
    // from here the server alone works on redrives
    installation.terminate(worker);
    let groups = installation.get("/v1/dead-letters").await.unwrap();
    let group = processes::items(&groups)[0].clone();
    assert_eq!(group["missions"], MISSIONS);

    let mut held = PgConnection::connect(&url).await.unwrap();
    let order = json!({"kind": "redrive", "fingerprint": group["fingerprint"], "per_second": 20});
    let (status, made) = installation.post("/v1/admin/bulk-actions", &order).await;
    assert_eq!(status, 202, "{made:#}");
    // from here missions can be retried, and what came of it can't be noted
    sqlx::raw_sql("begin; lock table bulk_items in share mode").execute(&mut held).await.unwrap();
    let mut known = BTreeSet::new();
    for _ in 0..2 {
        // the database does not notice the death of one that waits before its time is over
        let is_stuck = async || {
            let stuck = waiting(&url).await;
            (!stuck.is_subset(&known)).then_some(stuck)
        };
        known.extend(eventually("some were retried, and their note waits", PATIENCE, is_stuck).await);
        assert!(number(&url, RETRIED).await > 0);
        installation.restart_server().await;
    }
    // what was retried has failed again before anybody learns of it
    let worker = installation.worker(&[("BURSAR_SIMULATED_WORD_MS", "0")]);
    eventually("all have failed once more", PATIENCE, all_failed).await;
    sqlx::raw_sql("rollback").execute(&mut held).await.unwrap();
    let path = format!("/v1/admin/bulk-actions/{}", made["id"].as_str().unwrap());
    let progress = async |least: i64| {
        let action = installation.get(&path).await?;
        (action["progress"]["done"].as_i64()? >= least).then_some(action)
    };
    eventually("it goes on", PATIENCE, async || progress(20).await).await;
    installation.restart_server().await;
    let progress = async || {
        let action = installation.get(&path).await?;
        (action["state"] == "done").then_some(action)
    };
    let done = eventually("it is done", PATIENCE, progress).await;
    let figures = json!({"total": MISSIONS, "done": MISSIONS, "retried": MISSIONS, "refused": 0, "failed": 0});
    assert_eq!(done["progress"], figures, "{done:#}");
    eventually("all have failed again", PATIENCE, all_failed).await;
    assert_eq!(number(&url, "select count(*) from runs where retries = 1").await, MISSIONS);
    assert_eq!(number(&url, "select count(*) from events where kind = 'mission.retried'").await, MISSIONS);
    installation.terminate(worker);
    installation.verify();
}
