//! The ledger's auditor: recomputes from the entries what every balance, counter and link must be, and names each
//! row that says otherwise.
//!
//! Its SQL is its own. It must not call the code that wrote the rows, else a defect would hide itself. Everything is
//! read from one snapshot, so that it may run beside a working system, and nothing is changed.

mod balances;
mod charges;
mod links;
mod report;
mod tenants;
mod work;

pub use report::{Report, Violation};
pub use tenants::{ByTenant, MOST_TENANTS, TenantFinding, TenantMoney, by_tenant};

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bursar_domain::credits::Ucr;
use serde_json::Value;

use crate::store::{Arg, Store, StoreError};

/// Violations shown per check; more are only counted as "there are more".
const MOST_PER_CHECK: usize = 100;
/// How long a verification may take: many times what a million entries need on a small machine.
const LONGEST: Duration = Duration::from_mins(10);

/// How a figure is shown.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// A whole number.
    Count,
    /// Micro-credits, shown as credits.
    Credits,
}

/// One thing to find out.
struct Part {
    role: Role,
    /// A select with the one column `what`.
    sql: String,
}

enum Role {
    /// Returns one sentence per offending row.
    Check(&'static str),
    /// Returns one number.
    Figure(&'static str, Unit),
}

/// Parts that share the tables which they aggregate from the entries.
struct Family {
    /// `with … as materialized (…)`, or nothing.
    shared: &'static str,
    parts: Vec<Part>,
}

fn check(invariant: &'static str, sql: impl Into<String>) -> Part {
    Part { role: Role::Check(invariant), sql: sql.into() }
}

fn figure(name: &'static str, unit: Unit, sql: impl Into<String>) -> Part {
    Part { role: Role::Figure(name, unit), sql: sql.into() }
}

impl Family {
    /// All parts in one statement, so that what they share is aggregated once. Rows are `part` and `what`.
    fn sql(&self) -> String {
        let mut text = self.shared.to_owned();
        let limit = MOST_PER_CHECK.saturating_add(1);
        for (index, part) in self.parts.iter().enumerate() {
            let glue = if index == 0 { "" } else { "union all " };
            let sql = &part.sql;
            // a limit on the query itself would make Postgres plan for the first rows, of which there are none
            let found = format!("with found as materialized ({sql}) select what from found limit {limit}");
            let _ = writeln!(text, "{glue}select {index} as part, cast(q.what as text) as what from ({found}) q");
        }
        text
    }

    /// Puts the rows where they belong.
    fn read(&self, rows: &[Value], report: &mut Report) -> Result<(), StoreError> {
        let mut found = vec![0_usize; self.parts.len()];
        for row in rows {
            let index = row["part"].as_u64().and_then(|index| usize::try_from(index).ok());
            let (part, count) = index
                .and_then(|index| self.parts.get(index).zip(found.get_mut(index)))
                .ok_or_else(|| StoreError::Corrupt(format!("a check answered {row}")))?;
            let what = row["what"].as_str().unwrap_or("a row that can't be described").to_owned();
            *count = count.saturating_add(1);
            match part.role {
                Role::Figure(name, unit) => report.figures.push((name.to_owned(), shown(unit, what))),
                Role::Check(_) if *count > MOST_PER_CHECK => report.truncated = true,
                Role::Check(invariant) => report.violations.push(Violation { invariant, what }),
            }
        }
        Ok(())
    }
}

fn shown(unit: Unit, number: String) -> String {
    match (unit, number.parse::<i64>()) {
        (Unit::Credits, Ok(ucr)) => Ucr::new(ucr).to_string(),
        _ => number,
    }
}

/// Checks the invariants I1 to I12 and adds up the figures, all at one moment of the store.
///
/// Fails when the store can't be read, which includes legs that are no legs at all (Postgres refuses to read text
/// as an amount), and when it takes longer than ten minutes.
pub async fn verify(store: &Arc<dyn Store>) -> Result<Report, StoreError> {
    let families = [balances::family(), charges::family(), work::family(), links::family()];
    let texts: Vec<String> = families.iter().map(Family::sql).collect();
    let no_args: &[Arg] = &[];
    let queries: Vec<(&str, &[Arg])> = texts.iter().map(|text| (text.as_str(), no_args)).collect();
    let answers = store.snapshot_rows(&queries, LONGEST).await?;
    let mut report = Report::default();
    for (family, rows) in families.iter().zip(&answers) {
        family.read(rows, &mut report)?;
    }
    report.sort();
    Ok(report)
}
