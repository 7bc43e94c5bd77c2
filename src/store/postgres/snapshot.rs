//! Several reads of one moment: a read-only transaction whose first statement fixes what all of them see.
//!
//! It locks nothing that writers want, so it may run beside them for as long as its deadline allows.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::{PostgresStore, as_json, bind, values};
use crate::store::batch::Arg;
use crate::store::error::is_cancelled;
use crate::store::{StoreError, too_slow};

/// Big aggregates of one reader may take this much memory per step before they go to disk. And unlike everyone else's,
/// its queries do read whole tables: the settings that keep the others on indexes are undone.
const BEGIN: &str = "begin isolation level repeatable read read only; set local work_mem = '64MB'; \
    set local enable_seqscan = on; set local enable_hashjoin = on; set local enable_mergejoin = on";

/// Runs the queries one after the other; each gets what the ones before it left of `within`.
pub(super) async fn snapshot_rows(
    store: &PostgresStore,
    queries: &[(&str, &[Arg])],
    within: Duration,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let deadline = Instant::now() + within;
    let mut tx = store.desk.begin_with(BEGIN).await?;
    let mut answers = Vec::with_capacity(queries.len());
    for (sql, args) in queries {
        let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        if left_ms == 0 {
            return Err(too_slow(within));
        }
        let limit = format!("set local statement_timeout = {left_ms}");
        sqlx::query(AssertSqlSafe(limit)).execute(&mut *tx).await?;
        let rows = bind(sqlx::query(AssertSqlSafe(as_json(sql))), args).fetch_all(&mut *tx).await;
        let rows = rows.map_err(|error| if is_cancelled(&error) { too_slow(within) } else { error.into() })?;
        answers.push(values(&rows)?);
    }
    tx.commit().await?;
    store.count(0, (queries.len() as u64).saturating_mul(2).saturating_add(2));
    Ok(answers)
}
