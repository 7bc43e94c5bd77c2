//! The tables that a working set is loaded from and written to, as data, and the statements made from it.
//!
//! A row comes out of a store as one JSON object whose keys are the column names. It goes in as such an object to
//! SQLite, which takes it apart with `json_each`, and by columns to Postgres, which takes `unnest`. Reads that only
//! show things are in `read/`.

use std::fmt::Write as _;

/// How a column is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// A JSON document.
    Json,
}

impl Kind {
    /// The type of an array that carries such values to Postgres, the widest of the kind.
    fn array(self) -> &'static str {
        match self {
            Self::Text | Self::Json => "text[]",
            Self::Int => "bigint[]",
            Self::Bool => "boolean[]",
        }
    }
}

/// When a column is written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Written once, with the row.
    Once,
    /// Written with every change.
    Always,
    /// Written when the working set has a value; a value that exists is never erased.
    IfPresent,
    /// As `Once`, and never loaded into a working set (payloads).
    OnceUnread,
    /// As `IfPresent`, and never loaded into a working set (payloads).
    IfPresentUnread,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name, in the table and in the row's JSON.
    pub name: &'static str,
    /// How it is stored.
    pub kind: Kind,
    /// When it is written and read.
    pub mode: Mode,
}

/// One table of the working set.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns; the first is the key by which rows are updated.
    pub columns: &'static [Column],
}

macro_rules! table {
    ($const:ident, $name:literal, $($column:ident $kind:ident $mode:ident),* $(,)?) => {
        #[doc = concat!("Table `", $name, "`.")]
        pub static $const: Table = Table {
            name: $name,
            columns: &[$(Column { name: stringify!($column), kind: Kind::$kind, mode: Mode::$mode }),*],
        };
    };
}

table!(MISSIONS, "missions",
    id Text Once, tenant_id Text Once, wallet_id Text Once, workflow_id Text Always, run_id Text Always,
    input Json OnceUnread, metadata Json OnceUnread, idempotency_key Text OnceUnread, request_hash Text Once,
    priority Int Always, budget_ucr Int Always, on_exhausted Text Always, last_seq Int Always,
    tasks_total Int Always, tasks_done Int Always, held_ucr Int Always, spent_ucr Int Always,
    created_at Int Once, updated_at Int Always, tags Json OnceUnread, project_id Text Once,
    last_message Int Always, last_said Int Always);

table!(RUNS, "runs",
    id Text Once, tenant_id Text Once, mission_id Text Once, workflow_id Text Once, price_book_id Text Once,
    number Int Once, state Text Always, status_reason Text Always, error Json Always, fee_ucr Int Once,
    fee_hold_id Text Always, deadline_at Int Always, created_at Int Once, started_at Int IfPresent, ended_at Int Always,
    retries Int Always, input Json OnceUnread, order_key Text Always, order_hash Text Always, fingerprint Text Always,
    pruned Int Once, heard Int Once);

table!(TASKS, "tasks",
    id Text Once, tenant_id Text Once, mission_id Text Once, run_id Text Once, workflow_id Text Once,
    node Text Once, node_index Int Once, kind Text Once, pool Text Once, priority Int Once,
    state Text Always, wait Text Always, status_reason Text Always, remaining_needs Int Always,
    input_bytes Int Always, attempt Int Always, failures Int Always, losses Int Always, fence Int Always,
    lease_token Text Always, lease_until Int Always, worker_id Text Always, ready_at Int Always,
    due_at Int Always, started_at Int Always, ended_at Int Always, priced Bool Once, hold_id Text Always,
    holds Int Always, output Json IfPresentUnread, error Json Always, stand_in_id Text Always, cost_ucr Int Always,
    units_ucr Int Always, usage Json Always, created_at Int Once, shown Text IfPresentUnread,
    decision Json Always, deadline_at Int Always, node_at Int Once, base Int Once, ancestors Json Once,
    parent_id Text Once, layer Int Once, item Int Once, bound Json Once, fan Json Always,
    concurrency_key Text IfPresent, concurrency_max Int IfPresent, held_since Int Always,
    heard Int IfPresent);

table!(ATTEMPTS, "attempts",
    task_id Text Once, tenant_id Text Once, number Int Once, outcome Text Once, worker_id Text Once,
    error Json Once, started_at Int Once, ended_at Int Once);

table!(EVENTS, "events",
    mission_id Text Once, seq Int Once, tenant_id Text Once, run_id Text Once, kind Text Once,
    task_id Text Once, node Text Once, attempt Int Once, data Json Once, at Int Once);

table!(WALLETS, "wallets",
    id Text Once, tenant_id Text Once, available_ucr Int Always, held_ucr Int Always, debt_ucr Int Always,
    frozen Bool Always, created_at Int Once, overrun Text Always, charge_failed Text Always,
    day_limit_ucr Int Always, month_limit_ucr Int Always, mission_limit_ucr Int Always, day Int Always,
    day_spent_ucr Int Always, month Int Always, month_spent_ucr Int Always, queue_from Int Always, queue_until Int Always);

table!(GRANTS, "grants",
    id Text Once, wallet_id Text Once, tenant_id Text Once, kind Text Once, priority Int Once,
    amount_ucr Int Once, remaining_ucr Int Always, expires_at Int Once, expired Bool Always,
    reason Text Once, created_at Int Once, cost_basis_uusd Int Once);

table!(HOLDS, "holds",
    id Text Once, wallet_id Text Once, tenant_id Text Once, owner_kind Text Once, owner_id Text Once,
    mission_id Text Once, state Text Always, amount_ucr Int Always, reserved_ucr Int Always,
    used_ucr Int Always, captured_ucr Int Always, returned_ucr Int Always, slices Json Always,
    resizes Int Always, created_at Int Once, closed_at Int Always, expires_at Int Once, refunded_ucr Int Always,
    overrun_ucr Int Always);

table!(OPS, "ops",
    id Text Once, wallet_id Text Once, tenant_id Text Once, kind Text Once, key Text Once,
    request_hash Text Once, legs Json Once, mission_id Text Once, task_id Text Once, actor Text Once,
    available_after_ucr Int Once, created_at Int Once, reason Text Once);

table!(CALLS, "usage_calls",
    id Text Once, tenant_id Text Once, mission_id Text Once, run_id Text Once, task_id Text Once,
    hold_id Text Once, attempt Int Once, number Int Once, request_hash Text Once, provider Text Once,
    model Text Once, state Text Always, reserved_ucr Int Always, cost_ucr Int Always, billable Bool Always,
    estimated Bool Always, usage Json Always, response Json IfPresentUnread, duration_ms Int Always,
    first_token_ms Int Always, created_at Int Once, ended_at Int Always, estimated_input_tokens Int Once,
    heard Int Once);

table!(TOOL_CALLS, "tool_calls",
    id Text Once, tenant_id Text Once, mission_id Text Once, run_id Text Once, task_id Text Once,
    attempt Int Once, number Int Once, request_hash Text Once, tool Text Once, effects Text Once,
    state Text Always, result Text IfPresent, is_error Bool Always, duration_ms Int Always,
    created_at Int Once, ended_at Int Always);

table!(SIGNALS, "signals",
    id Text Once, tenant_id Text Once, mission_id Text Once, name Text Once, key Text Once, request_hash Text Once,
    payload Json Once, task_id Text Always, received_at Int Once, delivered_at Int Always);

table!(MESSAGES, "messages",
    id Text Once, tenant_id Text Once, mission_id Text Once, run_id Text Once, number Int Once, role Text Once,
    author Text Once, task_id Text Once, content Text Once, prompt Text OnceUnread, metadata Json Once, key Text Once,
    request_hash Text Once, effect Text Once, created_at Int Once);

table!(DEDUPE_KEYS, "dedupe_keys",
    id Text Once, tenant_id Text Once, key Text Once, mission_id Text Always, run_id Text Always,
    taken_until Int Always);

table!(WORKFLOWS, "workflows",
    id Text Once, tenant_id Text Once, name Text Once, version Int Once, content_hash Text Once, definition Json Once,
    created_at Int Once, planned_by Text Once);

table!(KEPT_OUTPUTS, "kept_outputs",
    task_id Text Once, tenant_id Text Once, hash Text Once, created_at Int Once, expires_at Int Once);

table!(SCHEDULES, "schedules",
    id Text Once, tenant_id Text Once, name Text Always, cron Text Always, zone Text Always, workflow Text Always,
    input Json IfPresentUnread, budget_ucr Int Always, on_exhausted Text Always, priority Int Always,
    tags Json Always, overlap Text Always, catch_up Text Always, jitter_ms Int Always, paused Bool Always,
    next_at Int Always, due_at Int Always, waiting_for Int Always, last_fired_at Int Always,
    last_mission_id Text Always, last_error Json Always, fired Int Always, skipped Int Always,
    refused Int Always, version Int Always, created_at Int Once, updated_at Int Always);

/// Columns, of any table or read, that hold JSON documents.
pub const JSON_COLUMNS: &[&str] = &[
    "input",
    "metadata",
    "tags",
    "error",
    "last_error",
    "output",
    "usage",
    "data",
    "slices",
    "legs",
    "response",
    "pools",
    "definition",
    "content",
    "body",
    "columns",
    "decision",
    "payload",
    "rows",
    "buckets",
    "ancestors",
    "bound",
    "fan",
];
/// Columns, of any table or read, that hold true or false.
pub const BOOL_COLUMNS: &[&str] =
    &["priced", "frozen", "expired", "billable", "estimated", "draining", "active", "simulated", "is_error", "paused"];

/// The expression for what a task (`t`) handed on. A map's list is not stored twice: it is made of what its items did.
/// Nor is what a stand-in did: a task that failed hands that on, and before it is over its own error.
pub fn output_sql(dialect: Dialect, t: &str) -> String {
    let (own, of_stand_in) = (own_output_sql(dialect, t), own_output_sql(dialect, "stand_in"));
    let object = match dialect {
        Dialect::Postgres => "json_build_object",
        Dialect::Sqlite => "json_object",
    };
    let error = ["class", "code", "message"].map(|field| format!("'{field}', {t}.error ->> '{field}'")).join(", ");
    format!(
        "case when {t}.stand_in_id is null then {own}
           else (
             select case when stand_in.ended_at is null then {object}('error', {object}({error})) else {of_stand_in} end
             from tasks stand_in
             where stand_in.id = {t}.stand_in_id
           ) end"
    )
}

fn own_output_sql(dialect: Dialect, t: &str) -> String {
    let list = match dialect {
        Dialect::Postgres => {
            "select coalesce(json_agg(coalesce(item.output, 'null'::json) order by item.item), '[]'::json) from tasks item"
        }
        Dialect::Sqlite => {
            "select json_group_array(json(coalesce(item.output, 'null')) order by item.item) from tasks item"
        }
    };
    format!(
        "case when {t}.kind = 'map' and {t}.state = 'succeeded' and {t}.fan is not null
           then ({list} where item.parent_id = {t}.id and item.layer > 0) else {t}.output end"
    )
}

/// The expression for what the nodes of a workflow see as `inputs`, of a mission (`m`) and its latest run (`r`): what that
/// run was given, or what the first child of the task made whose scope begins with the number `base`.
pub fn input_sql(base: &str) -> String {
    format!(
        "case when {base} = 0 then coalesce(r.input, m.input) else (
           select made.output from tasks inner_first
           join tasks made on made.parent_id = inner_first.parent_id and made.item = 0 and made.layer > 0
           where inner_first.run_id = m.run_id and inner_first.node_index = {base}) end"
    )
}

/// How an engine takes many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `unnest` of one array for each column.
    Postgres,
    /// `json_each` of a JSON array of objects.
    Sqlite,
}

impl Table {
    fn names(&self, wanted: impl Fn(&Column) -> bool) -> Vec<&'static str> {
        self.columns.iter().filter(|column| wanted(column)).map(|column| column.name).collect()
    }

    /// The columns that a statement writes, the key first.
    pub fn written(&self, is_insert: bool) -> Vec<&'static Column> {
        let is_written = |(index, column): &(usize, &Column)| {
            is_insert || *index == 0 || !matches!(column.mode, Mode::Once | Mode::OnceUnread)
        };
        self.columns.iter().enumerate().filter(is_written).map(|(_, column)| column).collect()
    }

    /// `(select … from <parameters>)`: rows as a relation with these columns. Postgres takes one array for each
    /// column, from the given parameter on; SQLite takes one JSON array of objects.
    fn relation(columns: &[&Column], dialect: Dialect, parameter: usize) -> String {
        let list = |text: &dyn Fn((usize, &Column)) -> String| {
            columns.iter().enumerate().map(|(index, column)| text((index, column))).collect::<Vec<_>>().join(", ")
        };
        match dialect {
            Dialect::Postgres => {
                let names = list(&|(_, column)| column.name.to_owned());
                let arrays =
                    list(&|(index, column)| format!("${}::{}", parameter.saturating_add(index), column.kind.array()));
                let typed = list(&|(_, column)| match column.kind {
                    Kind::Json => format!("{0}::json as {0}", column.name),
                    Kind::Text | Kind::Int | Kind::Bool => column.name.to_owned(),
                });
                format!("(select {typed} from unnest({arrays}) as sent ({names}))")
            }
            Dialect::Sqlite => {
                let values = list(&|(_, column)| match column.kind {
                    // `->` keeps a document as it is; `->>` would take the quotes off a text and make a number of true
                    Kind::Json => format!("nullif(value -> '$.{0}', 'null') as {0}", column.name),
                    Kind::Text | Kind::Int | Kind::Bool => format!("value ->> '$.{0}' as {0}", column.name),
                });
                format!("(select {values} from json_each(${parameter}))")
            }
        }
    }

    /// The statement that inserts rows, sent from the given parameter on.
    pub fn insert(&self, dialect: Dialect, parameter: usize) -> String {
        let columns = self.names(|_| true).join(", ");
        let rows = Self::relation(&self.written(true), dialect, parameter);
        format!("insert into {} ({columns}) select {columns} from {rows} as sent", self.name)
    }

    /// The statement that updates rows by their key, sent from the given parameter on.
    pub fn update(&self, dialect: Dialect, parameter: usize) -> String {
        let mut sets = String::new();
        for column in self.columns {
            let name = column.name;
            let comma = if sets.is_empty() { "" } else { ", " };
            let _ = match column.mode {
                Mode::Once | Mode::OnceUnread => Ok(()),
                Mode::Always => write!(sets, "{comma}{name} = changed.{name}"),
                Mode::IfPresent | Mode::IfPresentUnread => {
                    write!(sets, "{comma}{name} = coalesce(changed.{name}, {}.{name})", self.name)
                }
            };
        }
        let key = self.columns.first().map_or("id", |column| column.name);
        let rows = Self::relation(&self.written(false), dialect, parameter);
        format!("update {0} set {sets} from {rows} as changed where {0}.{key} = changed.{key}", self.name)
    }

    /// The list of columns that a working set loads; payloads are null unless `payloads`.
    pub fn loaded(&self, payloads: bool) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| match column.mode {
                Mode::OnceUnread | Mode::IfPresentUnread if !payloads => format!("null as {}", column.name),
                _ => column.name.to_owned(),
            })
            .collect();
        columns.join(", ")
    }

    /// A SQLite expression that makes the JSON object of a row.
    pub fn sqlite_object(&self, payloads: bool) -> String {
        let fields: Vec<String> = self
            .columns
            .iter()
            .map(|column| {
                let name = column.name;
                let unread = matches!(column.mode, Mode::OnceUnread | Mode::IfPresentUnread) && !payloads;
                match column.kind {
                    _ if unread => format!("'{name}', null"),
                    Kind::Text | Kind::Int => format!("'{name}', {name}"),
                    Kind::Bool => format!("'{name}', json(iif({name}, 'true', 'false'))"),
                    Kind::Json => format!("'{name}', json({name})"),
                }
            })
            .collect();
        format!("json_object({})", fields.join(", "))
    }
}
