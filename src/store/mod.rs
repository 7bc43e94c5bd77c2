//! The store: what is true, kept. One trait, two engines (Postgres, embedded SQLite), one conformance suite.
//!
//! An engine loads rows under locks, lets pure code decide, writes exactly what changed, and commits:
//! [`Store::transact`]. It makes no decision of its own. Claims and heartbeats are guarded batch updates.
//! Whatever only shows things is portable SQL in `read/`.

mod batch;
mod bulk;
mod catalog;
mod changes;
mod columns;
mod error;
mod estimates;
mod fit;
mod leases;
mod links;
pub mod postgres;
mod projects;
mod prune;
pub mod read;
mod schema;
pub mod sqlite;
mod want;

pub use bulk::{BulkAction, BulkCount, BulkFigures, BulkItem, BulkNote, BulkOutcome, BulkScope, BulkState};
pub use catalog::{ApiKey, Role, WorkerRow};
pub use error::{Conflict, StoreError};
pub use estimates::{LearnedFactor, LearnedNode};
pub use fit::SchemaFit;
pub use leases::{Beat, Claim, Claimed, LeaseFate};
pub use links::CallbackLink;
pub use projects::{Project, ProjectFilter};
pub use prune::{Prunable, Pruned};
pub use want::{Journals, Want};

use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::time::Timestamp;
use bursar_domain::working_set::WorkingSet;
use serde_json::Value;

pub use batch::Arg;
pub use schema::Dialect;

/// What a store did since the process started; `bursar bench` and the metrics show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct StoreCounters {
    /// Transactions and single statements that committed.
    pub commits: u64,
    /// Statements that waited for an answer of the database.
    pub round_trips: u64,
    /// Transactions that were tried again after a deadlock or a serialization failure.
    pub retries: u64,
}

/// What changes a working set: pure, and callable again from the start.
pub type Decide<'d> = dyn FnMut(&mut WorkingSet) + Send + 'd;

/// A durable store. All methods may be called from many tasks at once.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Which engine it is.
    fn dialect(&self) -> Dialect;

    /// Loads what is wanted under locks, lets `decide` change it, writes what changed, commits durably.
    ///
    /// `decide` may be called again from the start when the database asks to retry. When it leaves the working
    /// set unchanged, nothing is written.
    async fn transact(&self, want: &Want, decide: &mut Decide<'_>) -> Result<(), StoreError>;

    /// Takes ready tasks: those that are still ready and whose run is live, and no others.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, StoreError>;

    /// Extends leases; tells the fate of those that can't be extended or must stop.
    async fn beat(&self, beat: &Beat) -> Result<Vec<LeaseFate>, StoreError>;

    /// Runs a portable query that only reads. `{list:n}` in the text stands for the elements of the JSON array
    /// in parameter n, `{pairs:n}` for pairs (columns `a`, `b`), `{each:x}` for the elements of the JSON array in
    /// column x (column `value`), `{rows:n}` for those in parameter n. Each row is an object by column name.
    async fn rows(&self, sql: &str, args: &[Arg]) -> Result<Vec<Value>, StoreError>;

    /// Runs portable queries as [`Store::rows`] does, all on ONE snapshot of the store: what commits meanwhile is
    /// seen by all of them or by none. Refused when they take longer than `within` altogether.
    async fn snapshot_rows(&self, queries: &[(&str, &[Arg])], within: Duration) -> Result<Vec<Vec<Value>>, StoreError>;

    /// Runs one portable statement that writes, durably. Returns how many rows it touched.
    async fn execute(&self, sql: &str, args: &[Arg]) -> Result<u64, StoreError>;

    /// Runs portable statements that write, one after the other in one transaction, durably: each sees what the ones
    /// before it did, and what others committed until it begins. Returns how many rows each touched.
    async fn execute_all(&self, statements: &[(&str, &[Arg])]) -> Result<Vec<u64>, StoreError>;

    /// The store's clock.
    async fn time(&self) -> Result<Timestamp, StoreError>;

    /// Creates or updates the schema. One that a newer program has extended, and that this program may use, stays.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// Refuses a schema that is older than this program, or newer and not for it; tells which one it is.
    async fn check_schema(&self) -> Result<SchemaFit, StoreError>;

    /// Rows inserted, updated and deleted so far, as the database itself counts them.
    async fn written_rows(&self) -> Result<Option<i64>, StoreError>;

    /// What it did so far.
    fn counters(&self) -> StoreCounters;

    /// Closes its connections after what runs has ended.
    async fn close(&self);
}

/// Opens the store that a URL names: `postgres://…` or `sqlite://path`.
pub async fn open(url: &str, connections: u32) -> Result<std::sync::Arc<dyn Store>, StoreError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(std::sync::Arc::new(postgres::PostgresStore::connect(url, connections).await?))
    } else if let Some(path) = url.strip_prefix("sqlite://") {
        Ok(std::sync::Arc::new(sqlite::SqliteStore::open(std::path::Path::new(path)).await?))
    } else {
        Err(StoreError::BadUrl)
    }
}

/// What a snapshot that was cut off says.
fn too_slow(within: Duration) -> StoreError {
    StoreError::Refused(format!("the reads did not end within {} ms", within.as_millis()))
}
