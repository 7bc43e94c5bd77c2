//! One transaction: `begin immediate` takes the one writer's place, so nothing needs a lock of its own.

use std::sync::LazyLock;

use bursar_domain::working_set::WorkingSet;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::SqliteStore;
use crate::store::changes::{Sent, load_row, writes};
use crate::store::schema::{
    CALLS, Dialect, GRANTS, HOLDS, MESSAGES, MISSIONS, OPS, RUNS, SCHEDULES, SIGNALS, TASKS, TOOL_CALLS, WALLETS,
    input_sql, output_sql,
};
use crate::store::want::{CHUNK, json_list};
use crate::store::{Decide, Journals, StoreError, Want};

/// The loads of one transaction: what they read and the statement, parameters as bound in [`load`].
struct Loads {
    missions: String,
    runs: String,
    tasks: String,
    nodes: String,
    heirs: String,
    items: String,
    idle: String,
    handed: String,
    latest: String,
    results: String,
    item_results: String,
    inputs: String,
    holds: String,
    overdue: String,
    grants: String,
    wallets: String,
    calls: [String; 2],
    tools: String,
    signals: String,
    signal_keys: String,
    message_keys: String,
    ops: String,
    keys: String,
    schedules: String,
    queues: String,
}

static LOADS: LazyLock<Loads> = LazyLock::new(|| {
    let list = |n: usize| format!("(select value from json_each(${n}))");
    let pairs = "(select value ->> 0 as a, value ->> 1 as b from json_each($1))";
    let (task, call) = (TASKS.sqlite_object(false), |open: bool| CALLS.sqlite_object(open));
    let output = output_sql(Dialect::Sqlite, "t");
    let calls = |open: bool| {
        format!(
            "select {} from usage_calls where task_id in {} and state <> 'lost' or id in {}",
            call(open),
            list(1),
            list(2)
        )
    };
    Loads {
        tasks: format!("select {task} from tasks where id in {}", list(1)),
        // a join, because SQLite searches an `in` of pairs of different types by the first column only
        nodes: format!("select {task} from {pairs} n join tasks on run_id = n.a and node_index = n.b"),
        heirs: format!(
            "select {task} from tasks
             where parent_id = (select value from json_each($1)) and layer > 0 and state = 'pending' and remaining_needs = 0
             order by item limit (select value from json_each($2))"
        ),
        items: format!("select {task} from {pairs} n join tasks on parent_id = n.a and item = n.b and layer > 0"),
        idle: format!(
            "select {task} from tasks where id in (
               select id from (
                 select id from tasks
                 where parent_id = (select value from json_each($1)) and layer > 0 and ended_at is null and state <> 'running'
                 order by item limit {CHUNK})
               union all
               select id from (
                 select id from tasks
                 where parent_id = (select value from json_each($1)) and layer = 0 and ended_at is null and state <> 'running'
                 order by item limit {CHUNK}))"
        ),
        handed: format!("select {task} from tasks where state = 'running' and lease_token in {}", list(1)),
        latest: format!(
            "select {task} from tasks where id in (
               select t.id
               from {pairs} n
               join missions m on m.id = n.a
               join tasks t on t.run_id = m.run_id and t.state = n.b
               union
               select above.value
               from {pairs} n
               join missions m on m.id = n.a
               join tasks t on t.run_id = m.run_id and t.state = n.b
               join json_each(t.ancestors) above)"
        ),
        results: format!(
            "select json_object('run_id', t.run_id, 'node_index', t.node_index, 'output', json({output}))
             from {pairs} n join tasks t on t.run_id = n.a and t.node_index = n.b
             where t.state in ('succeeded', 'skipped', 'failed')"
        ),
        item_results: format!(
            "select json_object('parent_id', t.parent_id, 'item', t.item, 'output', json({output}))
             from {pairs} n join tasks t on t.parent_id = n.a and t.item = n.b and t.layer > 0
             where t.state = 'succeeded'"
        ),
        inputs: format!(
            "select json_object('id', m.id, 'base', n.b, 'input', json({}))
             from {pairs} n join missions m on m.id = n.a join runs r on r.id = m.run_id",
            input_sql("n.b")
        ),
        missions: format!("select {} from missions where id in {}", MISSIONS.sqlite_object(false), list(1)),
        runs: format!("select {} from runs where id in {}", RUNS.sqlite_object(false), list(1)),
        holds: format!("select {} from holds where id in {}", HOLDS.sqlite_object(false), list(1)),
        overdue: format!(
            "select {} from holds where state = 'open' and expires_at <= (select value from json_each($1))
               and wallet_id in {}",
            HOLDS.sqlite_object(false),
            list(2)
        ),
        grants: format!(
            "select {} from grants where wallet_id in {} and remaining_ucr > 0 or id in {}",
            GRANTS.sqlite_object(false),
            list(1),
            list(2)
        ),
        wallets: format!("select {} from wallets where id in {}", WALLETS.sqlite_object(false), list(1)),
        calls: [calls(false), calls(true)],
        tools: format!(
            "select {} from {pairs} n join tool_calls on task_id = n.a and number = n.b",
            TOOL_CALLS.sqlite_object(true)
        ),
        signals: format!(
            "select {} from signals where task_id is null and mission_id in {}",
            SIGNALS.sqlite_object(true),
            list(1)
        ),
        signal_keys: format!(
            "select {} from {pairs} n join signals on mission_id = n.a and key = n.b",
            SIGNALS.sqlite_object(true)
        ),
        message_keys: format!(
            "select {} from {pairs} n join messages on mission_id = n.a and key = n.b",
            MESSAGES.sqlite_object(false)
        ),
        keys: format!(
            "select json_object('id', d.id, 'tenant_id', d.tenant_id, 'key', d.key, 'mission_id', d.mission_id,
               'run_id', d.run_id, 'taken_until', d.taken_until,
               'live', json(iif(r.id is not null and r.ended_at is null, 'true', 'false')))
             from {pairs} n
             join dedupe_keys d on d.tenant_id = n.a and d.key = n.b
             left join missions m on m.id = d.mission_id
             left join runs r on r.id = m.run_id"
        ),
        schedules: format!("select {} from schedules where id in {}", SCHEDULES.sqlite_object(false), list(1)),
        queues: format!(
            "select json_object('tenant_id', n.id, 'most', n.most, 'live', (
               select count(*) from runs where tenant_id = n.id and ended_at is null))
             from (
               select id, coalesce(max_queued, (select value from json_each($2))) as most
               from tenants
               where id in (select tenant_id from wallets where id in {})
             ) n
             where n.most is not null",
            list(1)
        ),
        ops: format!("select {} from ops where (wallet_id, key) in {pairs}", OPS.sqlite_object(false)),
    }
});

pub(super) async fn transact(store: &SqliteStore, want: &Want, decide: &mut Decide<'_>) -> Result<(), StoreError> {
    let mut tx = store.writer.begin_with("begin immediate").await?;
    let mut set = WorkingSet::default();
    load(&mut tx, want, &mut set).await?;
    decide(&mut set);
    let writes = writes(&set, Dialect::Sqlite)?;
    if writes.is_empty() {
        tx.rollback().await?;
        store.count(0, 3);
        return Ok(());
    }
    for write in &writes {
        let Sent::Json(rows) = &write.rows else { continue };
        let done = sqlx::query(AssertSqlSafe(write.sql(1))).bind(rows.clone()).execute(&mut *tx).await?;
        if done.rows_affected() != write.count as u64 {
            return Err(StoreError::Corrupt(format!("wrote {} rows of {}", done.rows_affected(), write.count)));
        }
    }
    tx.commit().await?;
    store.count(1, 4);
    Ok(())
}

async fn fetch(
    connection: &mut SqliteConnection,
    set: &mut WorkingSet,
    table: &str,
    sql: &'static str,
    lists: &[&str],
) -> Result<(), StoreError> {
    if lists.iter().all(|list| *list == "[]") {
        return Ok(());
    }
    let mut query = sqlx::query(sql);
    for list in lists {
        query = query.bind((*list).to_owned());
    }
    for row in query.fetch_all(connection).await? {
        load_row(set, table, row.try_get::<&str, _>(0)?)?;
    }
    Ok(())
}

async fn load(connection: &mut SqliteConnection, want: &Want, set: &mut WorkingSet) -> Result<(), StoreError> {
    let sql = &*LOADS;
    fetch(connection, set, "tasks", &sql.tasks, &[&json_list(&want.tasks)]).await?;
    fetch(connection, set, "tasks", &sql.nodes, &[&json_list(&want.nodes)]).await?;
    // one by one: a limit can't be taken from another row here
    for (parent, most) in &want.heirs {
        fetch(connection, set, "tasks", &sql.heirs, &[&json_list([parent]), &json_list([most])]).await?;
    }
    for parent in &want.idle {
        fetch(connection, set, "tasks", &sql.idle, &[&json_list([parent])]).await?;
    }
    if !want.handed.is_empty() {
        fetch(connection, set, "tasks", &sql.handed, &[&json_list(&want.handed)]).await?;
    }
    fetch(connection, set, "tasks", &sql.items, &[&json_list(&want.items)]).await?;
    fetch(connection, set, "item_results", &sql.item_results, &[&json_list(&want.item_results)]).await?;
    fetch(connection, set, "tasks", &sql.latest, &[&json_list(want.latest_words())]).await?;
    fetch(connection, set, "results", &sql.results, &[&json_list(&want.results)]).await?;
    fetch(connection, set, "inputs", &sql.inputs, &[&json_list(&want.inputs)]).await?;

    fetch(connection, set, "signals", &sql.signals, &[&json_list(&want.signals)]).await?;
    fetch(connection, set, "signals", &sql.signal_keys, &[&json_list(&want.signal_keys)]).await?;
    set.signals_of.extend(&want.signals);
    set.idle_of.extend(&want.idle);
    fetch(connection, set, "messages", &sql.message_keys, &[&json_list(&want.message_keys)]).await?;

    want.covers(set)?;
    fetch(connection, set, "missions", &sql.missions, &[&json_list(&want.missions)]).await?;
    let runs: Vec<_> = set.missions.iter().map(|mission| mission.run_id).collect();
    fetch(connection, set, "runs", &sql.runs, &[&json_list(&runs)]).await?;

    let mut holds: Vec<_> = set.tasks.iter().filter_map(|task| task.hold_id).collect();
    holds.extend(set.runs.iter().filter_map(|run| run.fee_hold_id));
    fetch(connection, set, "holds", &sql.holds, &[&json_list(&holds)]).await?;
    let mut wallets = want.wallets.clone();
    wallets.extend(set.missions.iter().map(|mission| mission.wallet_id));
    wallets.sort_unstable();
    wallets.dedup();
    fetch(connection, set, "holds", &sql.holds, &[&json_list(&want.holds)]).await?;
    if let Some(now) = want.now {
        fetch(connection, set, "holds", &sql.overdue, &[&json_list([now]), &json_list(&wallets)]).await?;
    }
    let mut grants: Vec<_> = set.holds.iter().flat_map(|hold| hold.slices.iter().map(|slice| slice.grant)).collect();
    grants.extend(&want.grants);
    let wallets = json_list(&wallets);
    fetch(connection, set, "grants", &sql.grants, &[&wallets, &json_list(&grants)]).await?;
    fetch(connection, set, "wallets", &sql.wallets, &[&wallets]).await?;
    if want.begins {
        fetch(connection, set, "queues", &sql.queues, &[&wallets, &json_list([want.max_queued])]).await?;
    }

    let priced: Vec<_> = set.tasks.iter().filter(|task| task.kind == "agent").map(|task| task.id).collect();
    let calls = &sql.calls[usize::from(want.journals == Journals::Open)];
    fetch(connection, set, "usage_calls", calls, &[&json_list(&priced), &json_list(&want.calls)]).await?;
    fetch(connection, set, "tool_calls", &sql.tools, &[&json_list(&want.tool_calls)]).await?;
    fetch(connection, set, "dedupe_keys", &sql.keys, &[&json_list(&want.dedupe_keys)]).await?;
    fetch(connection, set, "schedules", &sql.schedules, &[&json_list(&want.schedules)]).await?;
    fetch(connection, set, "ops", &sql.ops, &[&json_list(&want.op_keys)]).await
}
