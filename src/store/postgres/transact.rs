//! One transaction: begin and lock the missions, load the work, load the money, decide, write everything, commit.
//!
//! Five round trips. The missions are locked in the statement that begins, so that the snapshot of the second
//! one sees all that earlier holders of these missions committed: whoever changes a task, a hold or a run holds
//! its mission. Tasks (claims and heartbeats touch them without the mission), grants and wallets (shared between
//! missions) are locked by the loads, in this order and each by ascending id. The money comes last and alone:
//! from there to the commit all transactions of one wallet stand in line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bursar_domain::time::Timestamp;
use bursar_domain::working_set::WorkingSet;
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row, Transaction};

use super::PostgresStore;
use crate::store::changes::{Sent, Write, load_row, writes};
use crate::store::columns::Values;
use crate::store::error::asks_to_retry;
use crate::store::schema::{
    CALLS, Dialect, GRANTS, HOLDS, MESSAGES, MISSIONS, OPS, RUNS, SCHEDULES, SIGNALS, TASKS, TOOL_CALLS, WALLETS,
    input_sql, output_sql,
};
use crate::store::want::CHUNK;
use crate::store::{Decide, Journals, StoreError, Want};

/// How often a transaction is run again when the database asks for it.
const MAX_TRIES: u32 = 12;

/// Loads the work, one JSON text per row: everything that the locks on the missions protect, and the tasks with
/// locks of their own. Nothing of it waits for, or is done under, the locks on the money. The scalar counts force
/// the order of evaluation: Postgres counts a relation before it reads the next one.
///
/// With `families`, items of families are loaded as well, and locked like all tasks.
///
/// With `reads`, what nodes handed on and what missions were given is read as well. Who is over does not change, and
/// whoever ends a task holds its mission: it needs no locks.
///
/// With `latest`, so are tasks of missions' latest runs by their state.
fn work_sql(parts: Parts) -> String {
    let (missions, runs, tasks) = (MISSIONS.loaded(false), RUNS.loaded(false), TASKS.loaded(false));
    let (holds, calls) = (HOLDS.loaded(false), CALLS.loaded(parts.journals == Journals::Open));
    // parameters are numbered without gaps, in the order in which `load_work` binds them
    let mut next = 5_usize;
    let mut parameter = || {
        next = next.saturating_add(1);
        format!("${next}")
    };
    let read = if parts.reads { read_sql(&mut parameter) } else { String::new() };
    let latest = if parts.latest { latest_sql(&mut parameter) } else { String::new() };
    let family = if parts.families { family_sql(&mut parameter) } else { String::new() };
    format!(
        "with wanted as materialized (
           select id from tasks where id = any($1)
           union
           select t.id
           from unnest($2::text[], $3::int[]) as n (run_id, node_index)
           join tasks t on t.run_id = n.run_id and t.node_index = n.node_index
           {latest}
           {family}
         ),
         m as materialized (
           select {missions} from missions where id = any($4)
         ),
         r as materialized (select {runs} from runs where id in (select run_id from m)),
         t as materialized (
           select {tasks} from tasks where id in (select id from wanted) order by id for update
         ),
         h as (
           select {holds} from holds
           where (select count(*) from t) >= 0
             and id in (select hold_id from t union select fee_hold_id from r)
         ),
         c as (
           select {calls} from usage_calls
           where id in (
             select id from usage_calls where task_id in (select id from t) and state <> 'lost'
             union
             select unnest($5::text[])
           )
         )
         select 'missions', row_to_json(m)::text from m
         union all select 'runs', row_to_json(r)::text from r
         union all select 'tasks', row_to_json(t)::text from t
         union all select 'holds', row_to_json(h)::text from h
         union all select 'usage_calls', row_to_json(c)::text from c
         {read}"
    )
}

/// What a decision reads and mostly does not change: results, inputs, and signals and messages, which whoever receives or
/// takes them holds the mission of. Takes eleven parameters.
fn read_sql(parameter: &mut dyn FnMut() -> String) -> String {
    let output = output_sql(Dialect::Postgres, "t");
    let (runs, indexes) = (parameter(), parameter());
    let (inputs, bases, input) = (parameter(), parameter(), input_sql("n.base"));
    let (parents, items) = (parameter(), parameter());
    let (takers, senders, keys) = (parameter(), parameter(), parameter());
    let (talkers, talk_keys) = (parameter(), parameter());
    let (signals, messages) = (SIGNALS.loaded(true), MESSAGES.loaded(false));
    format!(
        "union all
         select 'results', json_build_object('run_id', t.run_id, 'node_index', t.node_index, 'output', {output})::text
         from unnest({runs}::text[], {indexes}::int[]) as n (run_id, node_index)
         join tasks t on t.run_id = n.run_id and t.node_index = n.node_index
         where t.state in ('succeeded', 'skipped', 'failed')
         union all
         select 'inputs', json_build_object('id', m.id, 'base', n.base, 'input', {input})::text
         from unnest({inputs}::text[], {bases}::int[]) as n (mission_id, base)
         join missions m on m.id = n.mission_id
         join runs r on r.id = m.run_id
         union all
         select 'item_results', json_build_object('parent_id', t.parent_id, 'item', t.item, 'output', {output})::text
         from unnest({parents}::text[], {items}::int[]) as n (parent_id, item)
         join tasks t on t.parent_id = n.parent_id and t.item = n.item and t.layer > 0
         where t.state = 'succeeded'
         union all
         select 'signals', row_to_json(s)::text
         from (
           select {signals} from signals
           where id in (
             select id from signals where mission_id = any({takers}::text[]) and task_id is null
             union
             select s.id
             from unnest({senders}::text[], {keys}::text[]) as n (mission_id, key)
             join signals s on s.mission_id = n.mission_id and s.key = n.key
           )
         ) s
         union all
         select 'messages', row_to_json(s)::text
         from (
           select {messages} from messages
           where id in (
             select s.id
             from unnest({talkers}::text[], {talk_keys}::text[]) as n (mission_id, key)
             join messages s on s.mission_id = n.mission_id and s.key = n.key
           )
         ) s"
    )
}

/// Tasks of missions' latest runs by their state, with the tasks above them. Takes two parameters.
fn latest_sql(parameter: &mut dyn FnMut() -> String) -> String {
    let (missions, states) = (parameter(), parameter());
    format!(
        "union
         select t.id
         from unnest({missions}::text[], {states}::text[]) as n (mission_id, state)
         join missions m on m.id = n.mission_id
         join tasks t on t.run_id = m.run_id and t.state = n.state
         union
         select above.id
         from unnest({missions}::text[], {states}::text[]) as n (mission_id, state)
         join missions m on m.id = n.mission_id
         join tasks t on t.run_id = m.run_id and t.state = n.state
         cross join lateral json_array_elements_text(t.ancestors) above (id)"
    )
}

/// The items of families that a decision may change: the next that may begin, named ones, and those nobody works on.
/// And tasks by the secrets of their leases. Takes six parameters.
fn family_sql(parameter: &mut dyn FnMut() -> String) -> String {
    let (heirs, most, parents, items, idle) = (parameter(), parameter(), parameter(), parameter(), parameter());
    let handed = parameter();
    format!(
        "union
         select s.id
         from unnest({heirs}::text[], {most}::int[]) as n (parent_id, most)
         cross join lateral (
           select id from tasks
           where parent_id = n.parent_id and layer > 0 and state = 'pending' and remaining_needs = 0
           order by item limit n.most
         ) s
         union
         select t.id
         from unnest({parents}::text[], {items}::int[]) as n (parent_id, item)
         join tasks t on t.parent_id = n.parent_id and t.item = n.item and t.layer > 0
         union
         select s.id
         from unnest({idle}::text[]) as n (parent_id)
         cross join lateral (
           select id from tasks
           where parent_id = n.parent_id and layer > 0 and ended_at is null and state <> 'running'
           order by item limit {CHUNK}
         ) s
         union
         select s.id
         from unnest({idle}::text[]) as n (parent_id)
         cross join lateral (
           select id from tasks
           where parent_id = n.parent_id and layer = 0 and ended_at is null and state <> 'running'
           order by item limit {CHUNK}
         ) s
         union
         select id from tasks where state = 'running' and lease_token = any({handed}::text[])"
    )
}

/// Loads the money: holds of nobody's task, grants, then wallets, all locked until the end; and operations under
/// known keys. Where a run may begin, also how many missions the wallets' tenants may have.
fn money_sql() -> String {
    let (grants, wallets, ops) = (GRANTS.loaded(false), WALLETS.loaded(false), OPS.loaded(false));
    let holds = HOLDS.loaded(false);
    format!(
        "with h as materialized (
           select {holds} from holds
           where id in (
             select unnest($5::text[])
             union
             select id from holds
             where state = 'open' and expires_at <= $6
               -- as an expression, so that the search begins at what is overdue and not at all that ever was open
               and wallet_id || '' = any($1)
           )
           order by id for update
         ),
         g as materialized (
           select {grants} from grants
           where (select count(*) from h) >= 0
             and id in (
               select id from grants where wallet_id = any($1) and remaining_ucr > 0
               union
               select unnest($2::text[])
               union
               select slice.value ->> 'grant' from h, json_array_elements(h.slices) slice (value)
             )
           order by id for update
         ),
         w as materialized (
           select {wallets} from wallets
           where (select count(*) from g) >= 0 and id = any($1)
           order by id for update
         ),
         o as (
           select {ops} from ops
           -- the wallet as an expression, so that the search begins at the key and not at all of the wallet
           where (wallet_id || '', key) in (
             select k.wallet_id, k.key from unnest($3::text[], $4::text[]) as k (wallet_id, key)
           )
         )
         select 'wallets', row_to_json(w)::text from w
         union all select 'grants', row_to_json(g)::text from g
         union all select 'holds', row_to_json(h)::text from h
         union all select 'ops', row_to_json(o)::text from o
         union all
         select 'queues', json_build_object('tenant_id', n.id, 'live', 0, 'most', coalesce(n.max_queued, $8))::text
         from tenants n
         where $7
           and n.id in (select tenant_id from w)
           and coalesce(n.max_queued, $8) is not null"
    )
}

/// What a load of the work has beyond what every load has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Parts {
    journals: Journals,
    reads: bool,
    latest: bool,
    families: bool,
}

impl Parts {
    fn of(want: &Want) -> Self {
        Self {
            journals: want.journals,
            reads: want.reads(),
            latest: !want.latest.is_empty(),
            families: want.has_families(),
        }
    }
}

/// The loads of the work, by their parts.
static WORK: LazyLock<BTreeMap<Parts, String>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for bits in 0..16_u8 {
        let has = |bit: u8| bits & bit != 0;
        let journals = if has(1) { Journals::Open } else { Journals::Closed };
        let parts = Parts { journals, reads: has(2), latest: has(4), families: has(8) };
        all.insert(parts, work_sql(parts));
    }
    all
});
static MONEY: LazyLock<String> = LazyLock::new(money_sql);

static TOOLS: LazyLock<String> = LazyLock::new(|| {
    let tools = TOOL_CALLS.loaded(true);
    format!(
        "select 'tool_calls', row_to_json(k)::text
         from (
           select {tools} from tool_calls
           where (task_id, number) in (
             select n.task_id, n.number from unnest($1::text[], $2::int[]) as n (task_id, number)
           )
         ) k"
    )
});

/// The missions of tenants that have a limit. A statement after the one that locks their wallets, so that its snapshot
/// sees what the holders before us committed.
const QUEUES: &str = "
  select 'queues', json_build_object('tenant_id', n.tenant_id, 'most', n.most, 'live', (
    select count(*) from runs where tenant_id = n.tenant_id and ended_at is null))::text
  from unnest($1::text[], $2::bigint[]) as n (tenant_id, most)";

/// Dedupe keys: locked in one statement, read in the next, whose snapshot sees what the holders before us committed.
const LOCK_KEYS: &str = "
  select 1 from dedupe_keys
  where (tenant_id, key) in (select n.tenant_id, n.key from unnest($1::text[], $2::text[]) as n (tenant_id, key))
  order by id for update";
const KEYS: &str = "
  select 'dedupe_keys', json_build_object(
    'id', d.id, 'tenant_id', d.tenant_id, 'key', d.key, 'mission_id', d.mission_id, 'run_id', d.run_id,
    'taken_until', d.taken_until, 'live', r.id is not null and r.ended_at is null)::text
  from unnest($1::text[], $2::text[]) as n (tenant_id, key)
  join dedupe_keys d on d.tenant_id = n.tenant_id and d.key = n.key
  left join missions m on m.id = d.mission_id
  left join runs r on r.id = m.run_id";

static TIMETABLE: LazyLock<String> = LazyLock::new(|| {
    let schedules = SCHEDULES.loaded(false);
    format!(
        "select 'schedules', row_to_json(s)::text
         from (select {schedules} from schedules where id = any($1) order by id for update) s"
    )
});

/// `begin`, with the locks on the missions in the same message. Ids are base32 and need no quoting.
fn begin_sql(want: &Want) -> String {
    let missions: BTreeSet<String> = want.missions.iter().map(|id| format!("'{id}'")).collect();
    if missions.is_empty() {
        return "begin".to_owned();
    }
    let missions = Vec::from_iter(missions).join(",");
    format!("begin; select 1 from missions where id in ({missions}) order by id for update")
}

fn texts<'i, T: ToString + 'i>(ids: impl IntoIterator<Item = &'i T>) -> Vec<String> {
    ids.into_iter().map(ToString::to_string).collect()
}

/// Pairs as two arrays.
fn columns<'p, T: ToString + 'p>(pairs: impl IntoIterator<Item = &'p (T, i32)>) -> (Vec<String>, Vec<i32>) {
    pairs.into_iter().map(|(id, number)| (id.to_string(), *number)).unzip()
}

/// All writes in one statement: data-modifying CTEs, each executed once and to its end.
fn apply_sql(writes: &[Write]) -> String {
    let mut parameter = 1_usize;
    let mut parts = Vec::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        parts.push(format!("w{index} as ({})", write.sql(parameter)));
        parameter = parameter.saturating_add(arrays(write).len());
    }
    format!("with {} select 1", parts.join(",\n"))
}

fn arrays(write: &Write) -> &[Values] {
    match &write.rows {
        Sent::Columns(columns) => &columns.values,
        Sent::Json(_) => &[],
    }
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

async fn load_work(tx: &mut Transaction<'_, Postgres>, want: &Want, set: &mut WorkingSet) -> Result<(), Failed> {
    let parts = Parts::of(want);
    let sql = WORK.get(&parts).map(String::as_str).unwrap_or_default();
    let (runs, indexes) = columns(&want.nodes);
    let mut query = sqlx::query(sql)
        .bind(texts(&want.tasks))
        .bind(runs)
        .bind(indexes)
        .bind(texts(&want.missions))
        .bind(texts(&want.calls));
    if parts.reads {
        let (runs, indexes) = columns(&want.results);
        let (parents, items) = columns(&want.item_results);
        let (missions, bases) = columns(&want.inputs);
        query = query.bind(runs).bind(indexes).bind(missions).bind(bases).bind(parents).bind(items);
        let (missions, keys): (Vec<String>, Vec<String>) =
            want.signal_keys.iter().map(|(mission, key)| (mission.to_string(), key.clone())).unzip();
        query = query.bind(texts(&want.signals)).bind(missions).bind(keys);
        let (missions, keys): (Vec<String>, Vec<String>) =
            want.message_keys.iter().map(|(mission, key)| (mission.to_string(), key.clone())).unzip();
        query = query.bind(missions).bind(keys);
    }
    if parts.latest {
        let (missions, states): (Vec<String>, Vec<&str>) =
            want.latest_words().map(|(mission, state)| (mission.to_string(), state)).unzip();
        query = query.bind(missions).bind(states);
    }
    if parts.families {
        let (heirs, most): (Vec<String>, Vec<i32>) =
            want.heirs.iter().map(|(parent, most)| (parent.to_string(), *most)).unzip();
        let (parents, items) = columns(&want.items);
        query =
            query.bind(heirs).bind(most).bind(parents).bind(items).bind(texts(&want.idle)).bind(texts(&want.handed));
    }
    load(tx, query, set).await?;
    set.signals_of.extend(&want.signals);
    set.idle_of.extend(&want.idle);
    Ok(want.covers(set)?)
}

/// Tool calls, under the locks on their tasks. A trip of its own: few batches ask for any.
async fn load_tool_calls(tx: &mut Transaction<'_, Postgres>, want: &Want, set: &mut WorkingSet) -> Result<(), Failed> {
    let (tasks, numbers) = columns(&want.tool_calls);
    load(tx, sqlx::query(TOOLS.as_str()).bind(tasks).bind(numbers), set).await
}

/// The wallets that are wanted and those of the loaded missions, with every grant that has something left or that a
/// loaded hold drew from.
async fn load_money(tx: &mut Transaction<'_, Postgres>, want: &Want, set: &mut WorkingSet) -> Result<(), Failed> {
    let purses: BTreeSet<String> = set
        .missions
        .iter()
        .map(|mission| mission.wallet_id)
        .chain(want.wallets.iter().copied())
        .map(|id| id.to_string())
        .collect();
    let origins: BTreeSet<String> = set
        .holds
        .iter()
        .flat_map(|hold| hold.slices.iter().map(|slice| slice.grant))
        .chain(want.grants.iter().copied())
        .map(|id| id.to_string())
        .collect();
    let (op_wallets, op_keys): (Vec<String>, Vec<String>) =
        want.op_keys.iter().map(|(wallet, key)| (wallet.to_string(), key.clone())).unzip();
    let query = sqlx::query(MONEY.as_str())
        .bind(Vec::from_iter(purses))
        .bind(Vec::from_iter(origins))
        .bind(op_wallets)
        .bind(op_keys)
        .bind(texts(&want.holds))
        .bind(want.now.map(Timestamp::ms))
        .bind(want.begins)
        .bind(want.max_queued);
    load(tx, query, set).await
}

/// How many missions those tenants have that have a limit. One trip more, for them alone.
async fn load_queues(tx: &mut Transaction<'_, Postgres>, set: &mut WorkingSet) -> Result<(), Failed> {
    let (tenants, most): (Vec<String>, Vec<i64>) =
        set.queues.values().map(|queue| (queue.tenant_id.to_string(), queue.most)).unzip();
    load(tx, sqlx::query(QUEUES).bind(tenants).bind(most), set).await
}

/// Dedupe keys, under locks of their own. Two trips more: few batches ask for any.
async fn load_keys(tx: &mut Transaction<'_, Postgres>, want: &Want, set: &mut WorkingSet) -> Result<(), Failed> {
    let (tenants, keys): (Vec<String>, Vec<String>) =
        want.dedupe_keys.iter().map(|(tenant, key)| (tenant.to_string(), key.clone())).unzip();
    sqlx::query(LOCK_KEYS).bind(&tenants).bind(&keys).execute(&mut **tx).await?;
    load(tx, sqlx::query(KEYS).bind(tenants).bind(keys), set).await
}

async fn load(
    tx: &mut Transaction<'_, Postgres>,
    query: sqlx::query::Query<'_, Postgres, PgArguments>,
    set: &mut WorkingSet,
) -> Result<(), Failed> {
    for row in query.fetch_all(&mut **tx).await? {
        let (table, body): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        load_row(set, table, body)?;
    }
    Ok(())
}

/// A crash before the commit leaves nothing behind; a crash after it leaves everything, and the caller, who never
/// heard of it, may repeat the call: settles, submits and grants recognise themselves.
async fn attempt(store: &PostgresStore, want: &Want, decide: &mut Decide<'_>) -> Result<(), Failed> {
    let mut beginning = Beginning { connection: store.pool.acquire().await?, has_begun: false };
    let mut tx = beginning.connection.begin_with(AssertSqlSafe(begin_sql(want))).await?;
    beginning.has_begun = true;
    let mut set = WorkingSet::default();
    let mut trips = 3;
    if !(want.tasks.is_empty() && want.nodes.is_empty() && want.missions.is_empty() && want.calls.is_empty()) {
        load_work(&mut tx, want, &mut set).await?;
        trips += 1;
    }
    if !want.tool_calls.is_empty() {
        load_tool_calls(&mut tx, want, &mut set).await?;
        trips += 1;
    }
    load_money(&mut tx, want, &mut set).await?;
    if !set.queues.is_empty() {
        load_queues(&mut tx, &mut set).await?;
        trips += 1;
    }
    if !want.dedupe_keys.is_empty() {
        load_keys(&mut tx, want, &mut set).await?;
        trips += 2;
    }
    if !want.schedules.is_empty() {
        load(&mut tx, sqlx::query(TIMETABLE.as_str()).bind(texts(&want.schedules)), &mut set).await?;
        trips += 1;
    }
    decide(&mut set);
    let writes = writes(&set, Dialect::Postgres)?;
    if writes.is_empty() {
        tx.rollback().await?;
        store.count(0, trips);
        return Ok(());
    }
    let sql = apply_sql(&writes);
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for values in writes.iter().flat_map(arrays) {
        query = match values {
            Values::Texts(values) => query.bind(values),
            Values::Ints(values) => query.bind(values),
            Values::Bools(values) => query.bind(values),
        };
    }
    query.execute(&mut *tx).await?;
    tx.commit().await?;
    store.count(1, trips.saturating_add(1));
    Ok(())
}
