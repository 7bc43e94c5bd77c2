//! What a decision changed, by table, ready for the statements of `schema`.

use bursar_domain::working_set::{Rows, WorkingSet};
use serde::Serialize;

use super::StoreError;
use super::columns::Columns;
use super::schema::{
    ATTEMPTS, CALLS, DEDUPE_KEYS, Dialect, EVENTS, GRANTS, HOLDS, KEPT_OUTPUTS, Kind, MESSAGES, MISSIONS, OPS, RUNS,
    SCHEDULES, SIGNALS, TASKS, TOOL_CALLS, Table, WALLETS, WORKFLOWS,
};

/// One statement to run: rows to insert into or to update in one table.
#[derive(Debug)]
pub(super) struct Write {
    table: &'static Table,
    is_insert: bool,
    /// The rows.
    pub(super) rows: Sent,
    /// How many.
    pub(super) count: usize,
}

/// Rows as an engine takes them.
#[derive(Debug)]
pub(super) enum Sent {
    /// For SQLite: a JSON array of objects.
    Json(String),
    /// For Postgres: one array for each column.
    Columns(Columns),
}

impl Write {
    /// The statement, with the rows from the given parameter on.
    pub(super) fn sql(&self, parameter: usize) -> String {
        let dialect = match self.rows {
            Sent::Json(_) => Dialect::Sqlite,
            Sent::Columns(_) => Dialect::Postgres,
        };
        if self.is_insert { self.table.insert(dialect, parameter) } else { self.table.update(dialect, parameter) }
    }
}

/// Everything that must be written, parents before children.
pub(super) fn writes(set: &WorkingSet, dialect: Dialect) -> Result<Vec<Write>, StoreError> {
    let mut writes = Writes { dialect, all: Vec::new() };
    writes.both(&WALLETS, &set.wallets)?;
    writes.both(&GRANTS, &set.grants)?;
    writes.both(&MISSIONS, &set.missions)?;
    writes.both(&RUNS, &set.runs)?;
    writes.push(&WORKFLOWS, true, set.planned.iter())?;
    writes.both(&TASKS, &set.tasks)?;
    writes.both(&HOLDS, &set.holds)?;
    writes.both(&CALLS, &set.calls)?;
    writes.both(&TOOL_CALLS, &set.tool_runs)?;
    writes.both(&SIGNALS, &set.signals)?;
    writes.both(&MESSAGES, &set.messages)?;
    writes.both(&DEDUPE_KEYS, &set.dedupe_keys)?;
    writes.both(&SCHEDULES, &set.schedules)?;
    writes.push(&OPS, true, set.ops.iter())?;
    writes.push(&EVENTS, true, set.events.iter())?;
    writes.push(&ATTEMPTS, true, set.attempts.iter())?;
    writes.push(&KEPT_OUTPUTS, true, set.kept.iter())?;
    Ok(writes.all)
}

struct Writes {
    dialect: Dialect,
    all: Vec<Write>,
}

impl Writes {
    fn both<K: Ord + Copy, V: Serialize>(
        &mut self,
        table: &'static Table,
        rows: &Rows<K, V>,
    ) -> Result<(), StoreError> {
        self.push(table, true, rows.added())?;
        self.push(table, false, rows.changed())
    }

    fn push<'a, V: Serialize + 'a>(
        &mut self,
        table: &'static Table,
        is_insert: bool,
        rows: impl Iterator<Item = &'a V>,
    ) -> Result<(), StoreError> {
        let rows: Vec<&V> = rows.collect();
        if rows.is_empty() {
            return Ok(());
        }
        let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("{}: {error}", table.name));
        let (sent, has_nul) = match self.dialect {
            Dialect::Sqlite => {
                let text = serde_json::to_string(&rows).map_err(corrupt)?;
                let has_nul = has_nul(&text);
                (Sent::Json(text), has_nul)
            }
            Dialect::Postgres => {
                let columns = Columns::of(table.written(is_insert), rows.iter().copied()).map_err(corrupt)?;
                let has_nul =
                    columns.any_text(Kind::Text, |text| text.contains('\0')) || columns.any_text(Kind::Json, has_nul);
                (Sent::Columns(columns), has_nul)
            }
        };
        if has_nul {
            return Err(StoreError::Refused(format!(
                "a NUL character (U+0000) in a row of {} can't be stored",
                table.name
            )));
        }
        self.all.push(Write { table, is_insert, rows: sent, count: rows.len() });
        Ok(())
    }
}

/// Whether a text in the JSON holds U+0000. Postgres can't store it; what one engine refuses, both refuse.
fn has_nul(json: &str) -> bool {
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let escape = rest.get(at..).unwrap_or_default();
        if escape.starts_with("\\u0000") {
            return true;
        }
        // past the escape's letter, so that an escaped backslash does not begin another escape
        rest = escape.get(2..).unwrap_or_default();
    }
    false
}

/// Puts one loaded row, a JSON text, into the working set.
pub(super) fn load_row(set: &mut WorkingSet, table: &str, body: &str) -> Result<(), StoreError> {
    match table {
        "missions" => {
            let row: bursar_domain::record::Mission = parse(table, body)?;
            set.missions.load(row.id, row);
        }
        "runs" => {
            let row: bursar_domain::record::Run = parse(table, body)?;
            set.runs.load(row.id, row);
        }
        "tasks" => set.load_task(parse(table, body)?),
        "usage_calls" => set.load_call(parse(table, body)?),
        "tool_calls" => {
            let row: bursar_domain::record::ToolRun = parse(table, body)?;
            set.tool_runs.load(row.id, row);
        }
        "signals" => {
            let row: bursar_domain::record::Signal = parse(table, body)?;
            set.signals.load(row.id, row);
        }
        "messages" => {
            let row: bursar_domain::record::Message = parse(table, body)?;
            set.messages.load(row.id, row);
        }
        "holds" => {
            let row: bursar_domain::record::Hold = parse(table, body)?;
            set.holds.load(row.id, row);
        }
        "dedupe_keys" => set.load_dedupe_key(parse(table, body)?),
        "schedules" => {
            let row: bursar_domain::record::Schedule = parse(table, body)?;
            set.schedules.load(row.id, row);
        }
        "grants" => set.load_grant(parse(table, body)?),
        "wallets" => {
            let row: bursar_domain::record::Wallet = parse(table, body)?;
            set.wallets.load(row.id, row);
        }
        "ops" => {
            let row: bursar_domain::record::Op = parse(table, body)?;
            set.known_ops.insert((row.wallet_id, row.key.clone()), row);
        }
        other => return load_read(set, other, body),
    }
    Ok(())
}

/// Puts what a decision reads and does not change into the working set.
fn load_read(set: &mut WorkingSet, table: &str, body: &str) -> Result<(), StoreError> {
    match table {
        "queues" => {
            let row: bursar_domain::record::TenantQueue = parse(table, body)?;
            set.queues.insert(row.tenant_id, row);
        }
        "results" => {
            #[derive(serde::Deserialize)]
            struct Read {
                run_id: bursar_domain::id::RunId,
                node_index: i32,
                output: serde_json::Value,
            }
            let row: Read = parse(table, body)?;
            set.results.insert((row.run_id, row.node_index), row.output);
        }
        "item_results" => {
            #[derive(serde::Deserialize)]
            struct Read {
                parent_id: bursar_domain::id::TaskId,
                item: i32,
                output: serde_json::Value,
            }
            let row: Read = parse(table, body)?;
            set.item_results.insert((row.parent_id, row.item), row.output);
        }
        "inputs" => {
            #[derive(serde::Deserialize)]
            struct Read {
                id: bursar_domain::id::MissionId,
                base: i32,
                input: serde_json::Value,
            }
            let row: Read = parse(table, body)?;
            set.inputs.insert((row.id, row.base), row.input);
        }
        other => return Err(StoreError::Corrupt(format!("unknown table {other}"))),
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(table: &str, body: &str) -> Result<T, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Corrupt(format!("{table}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::has_nul;

    #[test]
    fn a_nul_is_told_from_its_spelling() {
        assert!(has_nul(r#"["a\u0000b"]"#));
        assert!(has_nul(r#"["\\\u0000"]"#));
        assert!(!has_nul(r#"["\\u0000"]"#));
        assert!(!has_nul(r#"["\n\u0001 u0000 ä"]"#));
        assert!(!has_nul(""));
    }
}
