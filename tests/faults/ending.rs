//! How every fault must end: each mission final or waiting for something that it names, the books in order, each task
//! billed at most once and exactly what its recorded calls and units say, no event missing, no hold without an owner.

use std::sync::Arc;

use bursar::store::Store;

use super::PATIENCE;
use crate::support::eventually;
use crate::support::world::balances;

/// What must find nothing, beside the balances.
const BROKEN: &[(&str, &str)] = &[
    (
        "a mission is neither over nor waits for something that it names",
        "select id, state, status_reason from runs
         where ended_at is null and (state <> 'waiting' or status_reason is null)",
    ),
    (
        "a call was billed twice",
        "select task_id, number, count(*) as times from usage_calls where billable group by task_id, number
         having count(*) > 1",
    ),
    (
        "a task ended twice",
        "select task_id, count(*) as times from events where kind = 'task.succeeded' group by task_id
         having count(*) > 1",
    ),
];

/// Waits until nothing moves any more, and checks all of it.
pub(super) async fn holds(store: &Arc<dyn Store>) {
    let moving = "select count(*) as n from tasks t join runs r on r.id = t.run_id
                  where t.state in ('ready', 'running', 'retrying')
                     or (r.ended_at is null and r.state in ('failing', 'cancelling', 'queued'))";
    eventually("nothing moves any more", PATIENCE, async || {
        let rows = store.rows(moving, &[]).await.ok()?;
        (rows[0]["n"] == 0).then_some(())
    })
    .await;
    for (what, sql) in BROKEN {
        let rows = store.rows(sql, &[]).await.unwrap();
        assert!(rows.is_empty(), "{what}: {rows:?}");
    }
    balances(store).await;
    let report = bursar::verify::verify(store).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
}

/// The same, of a database that processes work on.
pub(super) async fn holds_at(url: &str) {
    let store = bursar::store::open(url, 2).await.unwrap();
    holds(&store).await;
    store.close().await;
}
