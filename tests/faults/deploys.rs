//! Deploys: a newer version beside an older one, workers and server replaced one after the other under load.

use std::sync::Arc;

use bursar::store::{self, Store};
use serde_json::json;

use super::processes::{Installation, WorkerProcess};
use super::{PATIENCE, TEAM, all_succeed, each_task_was_billed_once};
use crate::support::eventually;

/// More than one worker has slots, so that two of them share it.
const WAVE: usize = 24;
const ENVIRONMENT: [(&str, &str); 2] = [("BURSAR_SIMULATED_WORD_MS", "100"), ("BURSAR_GRACE", "100ms")];

/// What the migration of the next version does here: it only adds.
const NEXT_SCHEMA: [&str; 4] = [
    "alter table tasks add column patience bigint not null default 3",
    "alter table missions add column mood text",
    "alter table usage_calls add column weather text",
    "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
     select 9999, description, success, checksum, execution_time from _sqlx_migrations limit 1",
];

async fn wave(installation: &Installation, missions: &mut Vec<String>) {
    for number in 0..WAVE {
        missions.push(installation.submit("team", json!({"what": format!("thing {number}")}), None).await);
    }
}

/// Waits until two workers are in the middle of something.
async fn two_busy(store: &Arc<dyn Store>) {
    eventually("two workers have running tasks", PATIENCE, || async {
        let busy = store.rows("select distinct worker_id from tasks where state = 'running'", &[]).await.ok()?;
        (busy.len() >= 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn workers_and_server_replaced_one_by_one_across_a_migration_fail_nothing() {
    let mut installation = Installation::start().await;
    installation.put("team", TEAM).await;
    // program N on schema N
    let mut workers: Vec<WorkerProcess> = (0..2).map(|_| installation.worker(&ENVIRONMENT)).collect();
    let mut missions = Vec::new();
    let store = store::open(installation.database_url(), 2).await.unwrap();
    wave(&installation, &mut missions).await;
    two_busy(&store).await;
    // the next version migrates first: program N on schema N + 1, without a restart
    for sql in NEXT_SCHEMA {
        store.execute(sql, &[]).await.unwrap();
    }
    // each worker is asked to leave in the middle of its steps, and another begins beside the one that is left
    for _ in 0..workers.len() {
        wave(&installation, &mut missions).await;
        two_busy(&store).await;
        installation.terminate(workers.remove(0));
        workers.push(installation.worker(&ENVIRONMENT));
    }
    installation.restart_server().await;
    wave(&installation, &mut missions).await;
    all_succeed(&installation, &missions).await;
    each_task_was_billed_once(&installation, &missions).await;
    let penalties = "select id from tasks where failures > 0 or losses > 0";
    assert!(store.rows(penalties, &[]).await.unwrap().is_empty(), "no attempt is used up by a deploy");
    let handed_back = store.rows("select task_id, outcome from attempts", &[]).await.unwrap();
    assert!(!handed_back.is_empty(), "somebody was in the middle of a step");
    assert!(handed_back.iter().all(|attempt| attempt["outcome"] == "handed_back"), "{handed_back:?}");
    store.close().await;
    for worker in workers {
        installation.terminate(worker);
    }
    installation.verify();
}
