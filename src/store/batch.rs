//! Parameters of portable statements, and the few placeholders that engines write differently.

use serde_json::Value;

use super::schema::Dialect;

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// Text, or null.
    Text(Option<String>),
    /// A whole number, or null.
    Int(Option<i64>),
    /// A JSON document (also lists for `{list:n}` and `{pairs:n}`).
    Json(Value),
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Arg {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<Value> for Arg {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl<K: bursar_domain::id::Kind> From<bursar_domain::id::Id<K>> for Arg {
    fn from(id: bursar_domain::id::Id<K>) -> Self {
        Self::Text(Some(id.to_string()))
    }
}

impl From<bursar_domain::time::Timestamp> for Arg {
    fn from(time: bursar_domain::time::Timestamp) -> Self {
        Self::Int(Some(time.ms()))
    }
}

/// Replaces `{list:n}`, `{pairs:n}`, `{rows:n}`, `{each:x}`, `{output:t}`, `{json:n}` and `{gather:a,b}` by what the engine understands.
pub(super) fn expand(dialect: Dialect, sql: &str) -> String {
    let mut text = String::with_capacity(sql.len().saturating_add(64));
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((inner, tail)) = after.split_once('}') else {
            text.push('{');
            rest = after;
            continue;
        };
        match placeholder(dialect, inner) {
            Some(replaced) => text.push_str(&replaced),
            None => text.extend(["{", inner, "}"]),
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// What stands for one placeholder; `None` when it is none.
fn placeholder(dialect: Dialect, inner: &str) -> Option<String> {
    let (kind, n) = inner.split_once(':')?;
    let text = match (kind, dialect) {
        ("list", Dialect::Postgres) => format!("(select json_array_elements_text(${n}::json))"),
        ("list", Dialect::Sqlite) => format!("(select value from json_each(${n}))"),
        ("pairs", Dialect::Postgres) => {
            format!("(select p.v ->> 0 as a, p.v ->> 1 as b from json_array_elements(${n}::json) p (v))")
        }
        ("pairs", Dialect::Sqlite) => format!("(select value ->> 0 as a, value ->> 1 as b from json_each(${n}))"),
        ("each", Dialect::Postgres) => format!("json_array_elements({n})"),
        ("each", Dialect::Sqlite) => format!("json_each({n})"),
        // the elements of a list of objects, in the column `value`
        ("rows", Dialect::Postgres) => format!("json_array_elements(${n}::json)"),
        ("rows", Dialect::Sqlite) => format!("json_each(${n})"),
        // all rows' pairs as one list
        ("gather", Dialect::Postgres) => format!("coalesce(json_agg(json_build_array({n})), '[]')"),
        ("gather", Dialect::Sqlite) => format!("json_group_array(json_array({n}))"),
        ("output", dialect) => super::schema::output_sql(dialect, n),
        ("json", Dialect::Postgres) => format!("${n}::json"),
        ("json", Dialect::Sqlite) => format!("${n}"),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_what_each_engine_understands() {
        let sql = "select a from t where id in {list:2} and '{}' = '{}'";
        assert_eq!(
            expand(Dialect::Sqlite, sql),
            "select a from t where id in (select value from json_each($2)) and '{}' = '{}'"
        );
        assert!(expand(Dialect::Postgres, sql).contains("json_array_elements_text($2::json)"));
    }
}
