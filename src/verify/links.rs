//! Links: rows that refer to rows which do not exist, and operations that say nothing (I7).
//!
//! Rows that are written with every task have no foreign keys, because each would cost a lock and a look-up; what
//! the database does not guarantee there is looked for here.

use super::{Family, Part, check};

/// A column that names a row of another table.
struct Link {
    table: &'static str,
    /// What names a row of the table, as an expression over it.
    name: &'static str,
    column: &'static str,
    target: &'static str,
    /// Where the column means this target.
    when: &'static str,
}

const fn link(table: &'static str, column: &'static str, target: &'static str) -> Link {
    Link { table, name: "id", column, target, when: "1 = 1" }
}

const LINKS: [Link; 25] = [
    link("ops", "wallet_id", "wallets"),
    link("ops", "mission_id", "missions"),
    link("ops", "task_id", "tasks"),
    link("grants", "wallet_id", "wallets"),
    link("holds", "wallet_id", "wallets"),
    link("holds", "mission_id", "missions"),
    Link { when: "owner_kind = 'task'", ..link("holds", "owner_id", "tasks") },
    Link { when: "owner_kind = 'fee'", ..link("holds", "owner_id", "runs") },
    link("missions", "wallet_id", "wallets"),
    link("missions", "run_id", "runs"),
    link("missions", "workflow_id", "workflows"),
    link("runs", "mission_id", "missions"),
    link("runs", "workflow_id", "workflows"),
    link("runs", "price_book_id", "price_books"),
    link("runs", "fee_hold_id", "holds"),
    link("tasks", "mission_id", "missions"),
    link("tasks", "run_id", "runs"),
    link("tasks", "hold_id", "holds"),
    link("usage_calls", "task_id", "tasks"),
    link("usage_calls", "hold_id", "holds"),
    link("tool_calls", "task_id", "tasks"),
    link("signals", "mission_id", "missions"),
    link("signals", "task_id", "tasks"),
    Link { name: "mission_id || '/' || seq", ..link("events", "mission_id", "missions") },
    Link { name: "task_id || '/' || number", ..link("attempts", "task_id", "tasks") },
];

impl Link {
    /// The select that finds the dangling ones.
    fn sql(&self) -> String {
        let Self { table, name, column, target, when } = self;
        format!(
            "select '{table} ' || c.name || ': {column} ' || c.link || ' does not exist in {target}' as what
             from (select {name} as name, {column} as link from {table} where {when} and {column} is not null) c
             left join {target} r on r.id = c.link
             where r.id is null"
        )
    }
}

/// I7: an operation says what it moved.
const EMPTY: &str = "
    select 'operation ' || o.id || ' (' || o.key || ') has no legs' as what
    from ops o
    where json_array_length(o.legs) = 0";

/// I7: an operation belongs to the tenant whose wallet it moves.
const FOREIGN: &str = "
    select 'operation ' || o.id || ' (' || o.key || ') belongs to tenant ' || o.tenant_id || ', its wallet '
      || o.wallet_id || ' to ' || w.tenant_id as what
    from ops o
    join wallets w on w.id = o.wallet_id
    where w.tenant_id <> o.tenant_id";

/// Everything about links.
pub(super) fn family() -> Family {
    let mut parts: Vec<Part> = LINKS.iter().map(|link| check("I7", link.sql())).collect();
    parts.push(check("I7", EMPTY));
    parts.push(check("I7", FOREIGN));
    Family { shared: "", parts }
}
