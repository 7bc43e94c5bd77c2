//! One transaction: begin and lock the missions, load everything, decide, write everything, commit.
//!
//! Four round trips. The missions are locked in the statement that begins, so that the snapshot of the second
//! one sees all that earlier holders of these missions committed: whoever changes a task, a hold or a run holds
//! its mission. Tasks (claims and heartbeats touch them without the mission), grants and wallets (shared between
//! missions) are locked by the load itself, in this order and each by ascending id.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use bursar_domain::working_set::WorkingSet;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row};

use super::PostgresStore;
use crate::store::changes::{Write, load_row, writes};
use crate::store::error::asks_to_retry;
use crate::store::schema::{CALLS, Dialect, GRANTS, HOLDS, MISSIONS, OPS, RUNS, TASKS, WALLETS};
use crate::store::{Decide, Journals, StoreError, Want};

/// How often a transaction is run again when the database asks for it.
const MAX_TRIES: u32 = 12;

/// Loads all kinds of rows in one statement, one JSON text per row. The scalar counts force the order of the
/// locks: Postgres evaluates them (and so the relation they count) before it reads the next relation.
fn load_sql(journals: Journals) -> String {
    let (missions, runs, tasks) = (MISSIONS.loaded(false), RUNS.loaded(false), TASKS.loaded(false));
    let (holds, grants, wallets) = (HOLDS.loaded(false), GRANTS.loaded(false), WALLETS.loaded(false));
    let (calls, ops) = (CALLS.loaded(journals == Journals::Open), OPS.loaded(false));
    format!(
        "with wanted as materialized (
           select id, mission_id from tasks where id = any($1)
           union
           select t.id, t.mission_id
           from unnest($2::text[], $3::int[]) as n (run_id, node_index)
           join tasks t on t.run_id = n.run_id and t.node_index = n.node_index
         ),
         m as materialized (
           select {missions} from missions
           where id in (select unnest($4::text[]) union select mission_id from wanted)
         ),
         r as materialized (select {runs} from runs where id in (select run_id from m)),
         t as materialized (
           select {tasks} from tasks where id in (select id from wanted) order by id for update
         ),
         h as materialized (
           select {holds} from holds
           where (select count(*) from t) >= 0
             and id in (select hold_id from t union select fee_hold_id from r)
         ),
         purses as materialized (select unnest($5::text[]) as id union select wallet_id from m),
         g as materialized (
           select {grants} from grants
           where (select count(*) from h) >= 0
             and id in (
               select id from grants where wallet_id in (select id from purses) and remaining_ucr > 0
               union
               select unnest($9::text[])
               union
               select slice.value ->> 'grant' from h, json_array_elements(h.slices) slice (value)
             )
           order by id for update
         ),
         w as materialized (
           select {wallets} from wallets
           where (select count(*) from g) >= 0 and id in (select id from purses)
           order by id for update
         ),
         c as (
           select {calls} from usage_calls
           where id in (
             select id from usage_calls where task_id in (select id from t) and state in ('sent', 'done')
             union
             select unnest($6::text[])
           )
         ),
         o as (
           select {ops} from ops
           where (wallet_id, key) in (select k.wallet_id, k.key from unnest($7::text[], $8::text[]) as k (wallet_id, key))
         )
         select 'wallets', row_to_json(w)::text from w
         union all select 'grants', row_to_json(g)::text from g
         union all select 'missions', row_to_json(m)::text from m
         union all select 'runs', row_to_json(r)::text from r
         union all select 'tasks', row_to_json(t)::text from t
         union all select 'holds', row_to_json(h)::text from h
         union all select 'usage_calls', row_to_json(c)::text from c
         union all select 'ops', row_to_json(o)::text from o"
    )
}

static LOAD: LazyLock<String> = LazyLock::new(|| load_sql(Journals::Closed));
static LOAD_WITH_JOURNALS: LazyLock<String> = LazyLock::new(|| load_sql(Journals::Open));

/// `begin`, with the locks on the missions in the same message. Ids are base32 and need no quoting.
fn begin_sql(want: &Want) -> String {
    let quoted = |texts: BTreeSet<String>| texts.into_iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
    let missions = quoted(want.missions.iter().map(ToString::to_string).collect());
    let tasks = quoted(want.tasks.iter().map(ToString::to_string).collect());
    // an `or` of the two ways would read every mission there is
    let ids = match (missions.is_empty(), tasks.is_empty()) {
        (true, true) => return "begin".to_owned(),
        (false, true) => missions,
        (true, false) => format!("select mission_id from tasks where id in ({tasks})"),
        (false, false) => {
            format!("select unnest(array[{missions}]) union select mission_id from tasks where id in ({tasks})")
        }
    };
    format!("begin; select 1 from missions where id in ({ids}) order by id for update")
}

fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// All writes in one statement: data-modifying CTEs, each executed once and to its end.
fn apply_sql(writes: &[Write]) -> String {
    let parts: Vec<String> = writes
        .iter()
        .enumerate()
        .map(|(index, write)| format!("w{index} as ({})", write.sql(Dialect::Postgres, index.saturating_add(1))))
        .collect();
    format!("with {} select 1", parts.join(",\n"))
}

pub(super) async fn transact(store: &PostgresStore, want: &Want, decide: &mut Decide<'_>) -> Result<(), StoreError> {
    for _ in 0..MAX_TRIES {
        match attempt(store, want, decide).await {
            Err(Failed::Database(error)) if asks_to_retry(&error) => {
                store.retries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Err(Failed::Database(error)) => return Err(error.into()),
            Err(Failed::Store(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
    Err(StoreError::Contention(MAX_TRIES))
}

enum Failed {
    Database(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A connection on its way into a transaction. It begins and waits for locks in one message: when that fails or is
/// given up half-way, the server is inside of a transaction that the driver knows nothing about, and whoever got
/// the connection next would inherit it with its locks. Such a connection is closed.
struct Beginning {
    connection: PoolConnection<Postgres>,
    has_begun: bool,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if !self.has_begun {
            self.connection.close_on_drop();
        }
    }
}

/// A crash before the commit leaves nothing behind; a crash after it leaves everything, and the caller, who never
/// heard of it, may repeat the call: settles, submits and grants recognise themselves.
async fn attempt(store: &PostgresStore, want: &Want, decide: &mut Decide<'_>) -> Result<(), Failed> {
    let mut beginning = Beginning { connection: store.pool.acquire().await?, has_begun: false };
    let mut tx = beginning.connection.begin_with(AssertSqlSafe(begin_sql(want))).await?;
    beginning.has_begun = true;
    let sql = if want.journals == Journals::Open { &LOAD_WITH_JOURNALS } else { &LOAD };
    let (runs, indexes): (Vec<String>, Vec<i32>) =
        want.nodes.iter().map(|(run, index)| (run.to_string(), *index)).unzip();
    let (op_wallets, op_keys): (Vec<String>, Vec<String>) =
        want.op_keys.iter().map(|(wallet, key)| (wallet.to_string(), key.clone())).unzip();
    let rows = sqlx::query(sql.as_str())
        .bind(texts(&want.tasks))
        .bind(runs)
        .bind(indexes)
        .bind(texts(&want.missions))
        .bind(texts(&want.wallets))
        .bind(texts(&want.calls))
        .bind(op_wallets)
        .bind(op_keys)
        .bind(texts(&want.grants))
        .fetch_all(&mut *tx)
        .await?;
    let mut set = WorkingSet::default();
    for row in rows {
        let (table, body): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        load_row(&mut set, table, body)?;
    }
    decide(&mut set);
    let writes = writes(&set)?;
    if writes.is_empty() {
        tx.rollback().await?;
        store.count(0, 3);
        return Ok(());
    }
    let sql = apply_sql(&writes);
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for write in &writes {
        query = query.bind(write.rows.clone());
    }
    query.execute(&mut *tx).await?;
    tx.commit().await?;
    store.count(1, 4);
    Ok(())
}
