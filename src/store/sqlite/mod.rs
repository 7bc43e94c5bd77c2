//! The embedded engine: one SQLite file in WAL mode, one writer, several readers, no service at all.

mod leases;
mod snapshot;
mod transact;
mod turns;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::time::Timestamp;
use serde_json::{Map, Value};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo, ValueRef};

use super::batch::{Arg, expand};
use super::schema::{BOOL_COLUMNS, JSON_COLUMNS};
use super::{Beat, Claim, Claimed, Decide, Dialect, LeaseFate, SchemaFit, Store, StoreCounters, StoreError, Want, fit};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// The newest migration that this program knows.
fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// How much of the file a connection keeps in memory, in KiB, negative as SQLite wants it. Together with those of the four
/// readers that is all: a process grows until they are full, however much work there was.
const WRITER_CACHE: &str = "-65536";
const READER_CACHE: &str = "-8192";

/// A SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    /// The one connection that writes; waiting for it is the queue of writers.
    writer: SqlitePool,
    /// Connections that only read; WAL lets them read while one writes.
    readers: SqlitePool,
    commits: AtomicU64,
    round_trips: AtomicU64,
}

impl SqliteStore {
    /// Opens the file, making it and its folder when they do not exist.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| {
                StoreError::Unavailable(format!("the folder {} can't be made: {error}", folder.display()))
            })?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .pragma("cache_size", WRITER_CACHE)
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", "4000")
            .statement_cache_capacity(256);
        let pool = |most: u32| {
            SqlitePoolOptions::new()
                .max_connections(most)
                .min_connections(1)
                .acquire_timeout(Duration::from_secs(30))
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let options = options.pragma("query_only", "on").pragma("cache_size", READER_CACHE);
        let readers = pool(4).connect_with(options).await?;
        Ok(Self { writer, readers, commits: AtomicU64::new(0), round_trips: AtomicU64::new(0) })
    }

    /// The number of the newest migration, 0 before the first, and the floor of the schema where it has one.
    async fn schema_versions(&self) -> Result<(i64, Option<i64>), StoreError> {
        let there = "select count(*) from sqlite_master where type = 'table' and name = $1";
        let has = async |table: &str| sqlx::query_scalar(there).bind(table).fetch_one(&self.readers).await;
        let (migrations, floors): (i64, i64) = (has("_sqlx_migrations").await?, has("schema_floor").await?);
        if migrations == 0 {
            return Ok((0, None));
        }
        let newest = "select coalesce(max(version), 0) from _sqlx_migrations where success";
        let applied: i64 = sqlx::query_scalar(newest).fetch_one(&self.readers).await?;
        let floor = "select oldest_program from schema_floor";
        let oldest = if floors > 0 { sqlx::query_scalar(floor).fetch_optional(&self.readers).await? } else { None };
        Ok((applied, oldest))
    }

    fn count(&self, commits: u64, round_trips: u64) {
        self.commits.fetch_add(commits, Ordering::Relaxed);
        self.round_trips.fetch_add(round_trips, Ordering::Relaxed);
    }
}

type SqliteQuery<'q> = sqlx::query::Query<'q, sqlx::Sqlite, SqliteArguments>;

fn bind<'q>(mut query: SqliteQuery<'q>, args: &[Arg]) -> SqliteQuery<'q> {
    for arg in args {
        query = match arg {
            Arg::Text(text) => query.bind(text.clone()),
            Arg::Int(number) => query.bind(*number),
            Arg::Json(value) => query.bind(value.to_string()),
        };
    }
    query
}

/// One row as an object by column name; JSON and boolean columns are known by their names.
fn row_to_value(row: &SqliteRow) -> Result<Value, StoreError> {
    let mut object = Map::new();
    for column in row.columns() {
        let (index, name) = (column.ordinal(), column.name());
        let raw = row.try_get_raw(index)?;
        let value = if raw.is_null() {
            Value::Null
        } else if raw.type_info().name() == "INTEGER" {
            let number: i64 = row.try_get_unchecked(index)?;
            if BOOL_COLUMNS.contains(&name) { Value::from(number != 0) } else { Value::from(number) }
        } else {
            let text: String = row.try_get_unchecked(index)?;
            if JSON_COLUMNS.contains(&name) {
                serde_json::from_str(&text).map_err(|error| StoreError::Corrupt(format!("{name}: {error}")))?
            } else {
                Value::from(text)
            }
        };
        object.insert(name.to_owned(), value);
    }
    Ok(Value::Object(object))
}

#[async_trait]
impl Store for SqliteStore {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn transact(&self, want: &Want, decide: &mut Decide<'_>) -> Result<(), StoreError> {
        transact::transact(self, want, decide).await
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        leases::claim(self, claim).await
    }

    async fn beat(&self, beat: &Beat) -> Result<Vec<LeaseFate>, StoreError> {
        leases::beat(self, beat).await
    }

    async fn rows(&self, sql: &str, args: &[Arg]) -> Result<Vec<Value>, StoreError> {
        let text = expand(Dialect::Sqlite, sql);
        let rows = bind(sqlx::query(AssertSqlSafe(text)), args).fetch_all(&self.readers).await?;
        self.count(0, 1);
        rows.iter().map(row_to_value).collect()
    }

    async fn snapshot_rows(&self, queries: &[(&str, &[Arg])], within: Duration) -> Result<Vec<Vec<Value>>, StoreError> {
        snapshot::snapshot_rows(self, queries, within).await
    }

    async fn execute(&self, sql: &str, args: &[Arg]) -> Result<u64, StoreError> {
        let text = expand(Dialect::Sqlite, sql);
        let done = bind(sqlx::query(AssertSqlSafe(text)), args).execute(&self.writer).await?;
        self.count(1, 1);
        Ok(done.rows_affected())
    }

    async fn execute_all(&self, statements: &[(&str, &[Arg])]) -> Result<Vec<u64>, StoreError> {
        let mut tx = self.writer.begin_with("begin immediate").await?;
        let mut touched = Vec::with_capacity(statements.len());
        for (sql, args) in statements {
            let text = expand(Dialect::Sqlite, sql);
            touched.push(bind(sqlx::query(AssertSqlSafe(text)), args).execute(&mut *tx).await?.rows_affected());
        }
        tx.commit().await?;
        self.count(1, (statements.len() as u64).saturating_add(2));
        Ok(touched)
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        let ms: i64 = sqlx::query_scalar("select cast((julianday('now') - 2440587.5) * 86400000.0 as integer)")
            .fetch_one(&self.readers)
            .await?;
        Ok(Timestamp::from_ms(ms))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let (applied, oldest_program) = self.schema_versions().await?;
        if applied > known_schema() {
            return fit::compare(applied, oldest_program, known_schema()).map(drop);
        }
        MIGRATIONS.run(&self.writer).await.map_err(|error| StoreError::Schema(error.to_string()))
    }

    async fn check_schema(&self) -> Result<SchemaFit, StoreError> {
        let (applied, oldest_program) = self.schema_versions().await?;
        fit::compare(applied, oldest_program, known_schema())
    }

    async fn written_rows(&self) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar("select total_changes()").fetch_one(&self.writer).await?)
    }

    fn counters(&self) -> StoreCounters {
        StoreCounters {
            commits: self.commits.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            retries: 0,
        }
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
