//! What a decision changed, as JSON arrays by table, ready for the statements of `schema`.

use bursar_domain::working_set::{Rows, WorkingSet};
use serde::Serialize;

use super::StoreError;
use super::schema::{ATTEMPTS, CALLS, Dialect, EVENTS, GRANTS, HOLDS, MISSIONS, OPS, RUNS, TASKS, Table, WALLETS};

/// One statement to run: rows to insert into or to update in one table.
#[derive(Debug)]
pub(super) struct Write {
    table: &'static Table,
    is_insert: bool,
    /// The rows, a JSON array.
    pub(super) rows: String,
    /// How many.
    pub(super) count: usize,
}

impl Write {
    /// The statement, with the rows in the given parameter.
    pub(super) fn sql(&self, dialect: Dialect, parameter: usize) -> String {
        if self.is_insert { self.table.insert(dialect, parameter) } else { self.table.update(dialect, parameter) }
    }
}

/// Everything that must be written, parents before children.
pub(super) fn writes(set: &WorkingSet) -> Result<Vec<Write>, StoreError> {
    let mut writes = Vec::new();
    both(&mut writes, &WALLETS, &set.wallets)?;
    both(&mut writes, &GRANTS, &set.grants)?;
    both(&mut writes, &MISSIONS, &set.missions)?;
    both(&mut writes, &RUNS, &set.runs)?;
    both(&mut writes, &TASKS, &set.tasks)?;
    both(&mut writes, &HOLDS, &set.holds)?;
    both(&mut writes, &CALLS, &set.calls)?;
    push(&mut writes, &OPS, true, set.ops.iter())?;
    push(&mut writes, &EVENTS, true, set.events.iter())?;
    push(&mut writes, &ATTEMPTS, true, set.attempts.iter())?;
    Ok(writes)
}

fn both<K: Ord + Copy, V: Serialize>(
    writes: &mut Vec<Write>,
    table: &'static Table,
    rows: &Rows<K, V>,
) -> Result<(), StoreError> {
    push(writes, table, true, rows.added())?;
    push(writes, table, false, rows.changed())
}

fn push<'a, V: Serialize + 'a>(
    writes: &mut Vec<Write>,
    table: &'static Table,
    is_insert: bool,
    rows: impl Iterator<Item = &'a V>,
) -> Result<(), StoreError> {
    let rows: Vec<&V> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(&rows).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    if has_nul(&text) {
        return Err(StoreError::Refused(format!(
            "a NUL character (U+0000) in a row of {} can't be stored",
            table.name
        )));
    }
    writes.push(Write { table, is_insert, rows: text, count: rows.len() });
    Ok(())
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
    fn parse<T: serde::de::DeserializeOwned>(table: &str, body: &str) -> Result<T, StoreError> {
        serde_json::from_str(body).map_err(|error| StoreError::Corrupt(format!("{table}: {error}")))
    }
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
        "holds" => {
            let row: bursar_domain::record::Hold = parse(table, body)?;
            set.holds.load(row.id, row);
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
        other => return Err(StoreError::Corrupt(format!("unknown table {other}"))),
    }
    Ok(())
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
