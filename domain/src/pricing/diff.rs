//! What differs between two price books, as a person reads it: which thing, which field, before and after.
//!
//! It compares the canonical forms, so order and notation never show up as a change. It judges nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::PriceBook;

/// One difference between two books.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What changed: `model gpt-5`, `unit page`, `sell` or `fallback`.
    pub subject: String,
    /// Which field, e.g. `rates.output` or `tier.above_200000.rates.input`; empty when the whole thing came or went.
    pub field: String,
    /// What it was; none when it came.
    pub before: Option<String>,
    /// What it is now; none when it went.
    pub after: Option<String>,
}

impl PriceBook {
    /// What changes from this book to `newer`, by subject and field. The names of the books are not compared.
    pub fn diff(&self, newer: &Self) -> Vec<Change> {
        let (before, after) = (subjects(self), subjects(newer));
        let mut changes = Vec::new();
        for (subject, fields) in &before {
            match after.get(subject) {
                Some(now) => changes.extend(changed(subject, fields, now)),
                None => changes.push(whole(subject, Some(fields), None)),
            }
        }
        let came = after.iter().filter(|(subject, _)| !before.contains_key(*subject));
        changes.extend(came.map(|(subject, fields)| whole(subject, None, Some(fields))));
        changes.sort();
        changes
    }
}

type Fields = BTreeMap<String, String>;

/// Every thing that a book is made of, with its fields.
fn subjects(book: &PriceBook) -> BTreeMap<String, Fields> {
    let canonical = book.to_value();
    let mut subjects = BTreeMap::new();
    for part in ["sell", "fallback"] {
        subjects.extend(canonical.get(part).map(|value| (part.to_owned(), fields(value))));
    }
    for kind in ["model", "unit"] {
        for item in canonical.get(kind).and_then(Value::as_array).into_iter().flatten() {
            let name = item.get("name").and_then(Value::as_str).unwrap_or_default();
            subjects.insert(format!("{kind} {name}"), fields(item));
        }
    }
    subjects
}

fn fields(value: &Value) -> Fields {
    let mut fields = Fields::new();
    flatten(String::new(), value, &mut fields);
    fields
}

fn flatten(path: String, value: &Value, fields: &mut Fields) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| flatten(below(key), value, fields)),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let words = items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
            fields.insert(path, words);
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(below(&label(at, item)), item, fields));
        }
        Value::String(text) => drop(fields.insert(path, text.clone())),
        other => drop(fields.insert(path, other.to_string())),
    }
}

/// What tells an entry of a list apart: a variant's name, a tier's threshold, else its place.
fn label(at: usize, item: &Value) -> String {
    let text = |key| item.get(key).and_then(Value::as_str);
    let above = || text("above_input_tokens").map(|tokens| format!("above_{tokens}"));
    text("name").map(str::to_owned).or_else(above).unwrap_or_else(|| at.to_string())
}

fn changed<'f>(subject: &'f str, before: &'f Fields, after: &'f Fields) -> impl Iterator<Item = Change> + 'f {
    let gone = before.keys();
    let came = after.keys().filter(|field| !before.contains_key(*field));
    gone.chain(came).filter(|field| before.get(*field) != after.get(*field)).map(move |field| Change {
        subject: subject.to_owned(),
        field: field.clone(),
        before: before.get(field).cloned(),
        after: after.get(field).cloned(),
    })
}

/// A thing that came or went, told by its prices.
fn whole(subject: &str, before: Option<&Fields>, after: Option<&Fields>) -> Change {
    let told = |fields: &Fields| {
        let prices =
            fields.iter().filter(|(field, _)| field.starts_with("rates.") || *field == "price" || *field == "per");
        let prices = prices.map(|(field, price)| format!("{} {price}", field.trim_start_matches("rates.")));
        prices.collect::<Vec<_>>().join(", ")
    };
    Change { subject: subject.to_owned(), field: String::new(), before: before.map(told), after: after.map(told) }
}
