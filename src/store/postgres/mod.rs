//! The production engine: Postgres 15 or newer, set-based statements, at most five round trips per transaction.

mod leases;
mod snapshot;
mod transact;
mod turns;

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::time::Timestamp;
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::batch::{Arg, expand};
use super::{Beat, Claim, Claimed, Decide, Dialect, LeaseFate, SchemaFit, Store, StoreCounters, StoreError, Want, fit};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// The newest migration that this program knows.
fn known_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

/// A pool of connections to Postgres.
#[derive(Debug)]
pub struct PostgresStore {
    /// Decisions: everything that must be durable when it returns.
    pool: PgPool,
    /// Reads that show things, and small writes beside the life of a job.
    desk: PgPool,
    /// Claims and heartbeats: nothing outside depends on them, so their commits are not waited for
    /// (`synchronous_commit = off`); a crash forgets at most the last half second of them.
    hasty: PgPool,
    commits: AtomicU64,
    round_trips: AtomicU64,
    retries: AtomicU64,
}

/// Everything here names its rows by key, in tables that grow without end. A plan made while a table was empty, or
/// before it was analysed, must not read all of it for ever: indexes and nested loops. Decisions and claims are also
/// planned only once; reads with optional filters are not. The auditor, who does read everything, undoes this.
const INDEXED: [(&str, &str); 3] = [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off")];

impl PostgresStore {
    /// Connects; fails when the server does not answer within ten seconds.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::Unavailable(format!("DATABASE_URL is not valid: {error}")))?
            .application_name("bursar")
            .options([("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "60s"), ("jit", "off")]);
        let pool = |options: PgConnectOptions, most: u32| {
            PgPoolOptions::new()
                .max_connections(most)
                .acquire_timeout(Duration::from_secs(10))
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        let desk = options.options(INDEXED);
        let hot = desk.clone().options([("plan_cache_mode", "force_generic_plan")]);
        let hasty = hot.clone().options([("synchronous_commit", "off")]);
        let store = Self {
            pool: pool(hot, connections.div_ceil(2).max(2)),
            desk: pool(desk, connections.div_ceil(4).max(2)),
            hasty: pool(hasty, connections.div_ceil(4).max(2)),
            commits: AtomicU64::new(0),
            round_trips: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        };
        store.time().await?;
        Ok(store)
    }

    /// The number of the newest migration, 0 before the first, and the floor of the schema where it has one.
    async fn schema_versions(&self) -> Result<(i64, Option<i64>), StoreError> {
        let there = "select to_regclass('_sqlx_migrations') is not null, to_regclass('schema_floor') is not null";
        let (is_made, has_floor): (bool, bool) = sqlx::query_as(there).fetch_one(&self.desk).await?;
        if !is_made {
            return Ok((0, None));
        }
        let newest = "select coalesce(max(version), 0) from _sqlx_migrations where success";
        let applied: i64 = sqlx::query_scalar(newest).fetch_one(&self.desk).await?;
        let floor = "select oldest_program from schema_floor";
        let oldest = if has_floor { sqlx::query_scalar(floor).fetch_optional(&self.desk).await? } else { None };
        Ok((applied, oldest))
    }

    fn count(&self, commits: u64, round_trips: u64) {
        self.commits.fetch_add(commits, Ordering::Relaxed);
        self.round_trips.fetch_add(round_trips, Ordering::Relaxed);
    }
}

type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, PgArguments>;

fn bind<'q>(mut query: PgQuery<'q>, args: &[Arg]) -> PgQuery<'q> {
    for arg in args {
        query = match arg {
            Arg::Text(text) => query.bind(text.clone()),
            Arg::Int(number) => query.bind(*number),
            Arg::Json(value) => query.bind(value.to_string()),
        };
    }
    query
}

/// A query whose rows come as one JSON object each.
fn as_json(sql: &str) -> String {
    format!("select row_to_json(q)::text from ({}) q", expand(Dialect::Postgres, sql))
}

fn values(rows: &[PgRow]) -> Result<Vec<Value>, StoreError> {
    rows.iter()
        .map(|row| {
            let body: &str = row.try_get(0)?;
            serde_json::from_str(body).map_err(|error| StoreError::Corrupt(error.to_string()))
        })
        .collect()
}

#[async_trait]
impl Store for PostgresStore {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
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
        let rows = bind(sqlx::query(AssertSqlSafe(as_json(sql))), args).fetch_all(&self.desk).await?;
        self.count(0, 1);
        values(&rows)
    }

    async fn snapshot_rows(&self, queries: &[(&str, &[Arg])], within: Duration) -> Result<Vec<Vec<Value>>, StoreError> {
        snapshot::snapshot_rows(self, queries, within).await
    }

    async fn execute(&self, sql: &str, args: &[Arg]) -> Result<u64, StoreError> {
        let text = expand(Dialect::Postgres, sql);
        let done = bind(sqlx::query(AssertSqlSafe(text)), args).execute(&self.desk).await?;
        self.count(1, 1);
        Ok(done.rows_affected())
    }

    async fn execute_all(&self, statements: &[(&str, &[Arg])]) -> Result<Vec<u64>, StoreError> {
        let mut tx = self.desk.begin().await?;
        let mut touched = Vec::with_capacity(statements.len());
        for (sql, args) in statements {
            let text = expand(Dialect::Postgres, sql);
            touched.push(bind(sqlx::query(AssertSqlSafe(text)), args).execute(&mut *tx).await?.rows_affected());
        }
        tx.commit().await?;
        self.count(1, (statements.len() as u64).saturating_add(2));
        Ok(touched)
    }

    async fn time(&self) -> Result<Timestamp, StoreError> {
        let ms: i64 = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000)::bigint")
            .fetch_one(&self.desk)
            .await?;
        Ok(Timestamp::from_ms(ms))
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let (applied, oldest_program) = self.schema_versions().await?;
        if applied > known_schema() {
            return fit::compare(applied, oldest_program, known_schema()).map(drop);
        }
        MIGRATIONS.run(&self.desk).await.map_err(|error| StoreError::Schema(error.to_string()))
    }

    async fn check_schema(&self) -> Result<SchemaFit, StoreError> {
        let (applied, oldest_program) = self.schema_versions().await?;
        fit::compare(applied, oldest_program, known_schema())
    }

    async fn written_rows(&self) -> Result<Option<i64>, StoreError> {
        let sql = "select sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint from pg_stat_user_tables";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.desk).await?)
    }

    fn counters(&self) -> StoreCounters {
        StoreCounters {
            commits: self.commits.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }

    async fn close(&self) {
        self.pool.close().await;
        self.desk.close().await;
        self.hasty.close().await;
    }
}
