//! Several reads of one moment: a read transaction, which WAL keeps at the state that its first read saw.
//!
//! Writers go on meanwhile; only the checkpoint waits, so the log grows until the deadline at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::{SqliteStore, bind, row_to_value};
use crate::store::batch::{Arg, expand};
use crate::store::error::is_cancelled;
use crate::store::{Dialect, StoreError, too_slow};

/// Steps of the virtual machine between two looks at the clock: well below a millisecond.
const STEPS_PER_LOOK: i32 = 10_000;

/// Takes the deadline off the connection when the snapshot is over, also when nobody waits for it any more.
struct Armed(Arc<AtomicBool>);

impl Drop for Armed {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs the queries one after the other, all of them within `within`.
pub(super) async fn snapshot_rows(
    store: &SqliteStore,
    queries: &[(&str, &[Arg])],
    within: Duration,
) -> Result<Vec<Vec<Value>>, StoreError> {
    let deadline = Instant::now() + within;
    let mut tx = store.readers.begin().await?;
    let armed = Armed(Arc::new(AtomicBool::new(true)));
    let is_armed = armed.0.clone();
    let may_go_on = move || !is_armed.load(Ordering::Relaxed) || Instant::now() < deadline;
    tx.lock_handle().await?.set_progress_handler(STEPS_PER_LOOK, may_go_on);
    let mut answers = Vec::with_capacity(queries.len());
    for (sql, args) in queries {
        let text = expand(Dialect::Sqlite, sql);
        let rows = bind(sqlx::query(AssertSqlSafe(text)), args).fetch_all(&mut *tx).await;
        let rows = rows.map_err(|error| if is_cancelled(&error) { too_slow(within) } else { error.into() })?;
        answers.push(rows.iter().map(row_to_value).collect::<Result<Vec<_>, _>>()?);
    }
    drop(armed);
    tx.commit().await?;
    store.count(0, (queries.len() as u64).saturating_add(2));
    Ok(answers)
}
