//! Reads the tables of a price book and collects every problem with its JSON pointer.
//!
//! A person who fixes a price file should see all of its mistakes at once, so nothing here stops at the first:
//! what is refused is noted and answered with [`Refused`]. It must not guess: unknown keys and wrong types are
//! problems.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;

use super::usd;

/// One mistake in a price book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct PriceProblem {
    /// Where it is: a JSON pointer into the value given, empty for the whole.
    pub pointer: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

/// Something could not be read, and the reason is among the problems.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused;

/// The problems found so far, shared by all tables of one book.
#[derive(Default)]
pub(super) struct Problems(RefCell<Vec<PriceProblem>>);

impl Problems {
    /// Notes a problem.
    pub(super) fn add(&self, pointer: &str, message: impl Into<String>) {
        self.0.borrow_mut().push(PriceProblem { pointer: pointer.to_owned(), message: message.into() });
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// All problems, in the order in which they were found.
    pub(super) fn into_vec(self) -> Vec<PriceProblem> {
        self.0.into_inner()
    }
}

/// An object whose keys are taken one by one; [`Table::close`] reports those that nobody asked for.
pub(super) struct Table<'v> {
    pointer: String,
    entries: BTreeMap<&'v str, &'v Value>,
    known: Vec<&'static str>,
    problems: &'v Problems,
}

impl<'v> Table<'v> {
    /// The object at `pointer`; refuses anything else.
    pub(super) fn open(value: &'v Value, pointer: String, problems: &'v Problems) -> Result<Self, Refused> {
        let Some(object) = value.as_object() else {
            problems.add(&pointer, format!("expected a table, found {}", kind(value)));
            return Err(Refused);
        };
        let entries = object.iter().map(|(key, value)| (key.as_str(), value)).collect();
        Ok(Self { pointer, entries, known: Vec::new(), problems })
    }

    /// Where this table is.
    pub(super) fn pointer(&self) -> String {
        self.pointer.clone()
    }

    /// Where its problems go, for checks that outlive the table.
    pub(super) const fn problems(&self) -> &'v Problems {
        self.problems
    }

    /// Reports a problem with the value of `key`.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.problems.add(&child(&self.pointer, key), message);
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<T, Refused> {
        match self.take(key) {
            Some(value) => self.convert(key, value, read),
            None => Err(self.missing(key)),
        }
    }

    /// The value of a key that may be absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>, Refused> {
        match self.take(key) {
            Some(value) => self.convert(key, value, read).map(Some),
            None => Ok(None),
        }
    }

    /// The table under a key that may be absent.
    pub(super) fn table(&mut self, key: &'static str) -> Result<Option<Self>, Refused> {
        let Some(value) = self.take(key) else { return Ok(None) };
        Self::open(value, child(&self.pointer, key), self.problems).map(Some)
    }

    /// The table under a key that must be there.
    pub(super) fn required_table(&mut self, key: &'static str) -> Result<Self, Refused> {
        self.table(key)?.ok_or_else(|| self.missing(key))
    }

    /// The tables of the array under a key, none when it is absent.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Result<Self, Refused>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.problem(key, format!("expected an array of tables, found {}", kind(value)));
            return Vec::new();
        };
        let pointer = child(&self.pointer, key);
        let open = |(at, item)| Self::open(item, child(&pointer, &usize::to_string(&at)), self.problems);
        items.iter().enumerate().map(open).collect()
    }

    /// All entries of a table whose keys are names; those refused are reported and left out.
    pub(super) fn named<T>(mut self, read: impl Fn(&Value) -> Result<T, String>) -> BTreeMap<String, T> {
        let mut entries = BTreeMap::new();
        for (key, value) in std::mem::take(&mut self.entries) {
            if let Err(message) = check_name(key) {
                self.problem(key, message);
            } else if let Ok(read) = self.convert(key, value, &read) {
                entries.insert(key.to_owned(), read);
            }
        }
        entries
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn close(self) {
        let known = self.known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        for key in self.entries.keys() {
            self.problem(key, format!("unknown key; known here: {known}"));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'v Value> {
        self.known.push(key);
        self.entries.remove(key)
    }

    fn convert<T>(&self, key: &str, value: &Value, read: impl Fn(&Value) -> Result<T, String>) -> Result<T, Refused> {
        read(value).map_err(|message| {
            self.problem(key, message);
            Refused
        })
    }

    fn missing(&self, key: &str) -> Refused {
        self.problems.add(&self.pointer, format!("`{key}` is missing"));
        Refused
    }
}

/// The pointer of `key` below `pointer` (RFC 6901).
pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// Text for people: not empty, at most 500 characters.
pub(super) fn text(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("expected text, found {}", kind(value)))?;
    match text.chars().count() {
        0 => Err("must not be empty".to_owned()),
        1..=500 => Ok(text.to_owned()),
        length => Err(format!("is {length} characters long; at most 500 are allowed")),
    }
}

/// A name that stands in requests, keys and rows: 1 to 200 characters, no blanks, no control characters.
pub(super) fn name(value: &Value) -> Result<String, String> {
    let name = value.as_str().ok_or_else(|| format!("expected a name, found {}", kind(value)))?;
    check_name(name).map(|()| name.to_owned())
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = (1..=200).contains(&name.chars().count());
    if fits && !name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Ok(());
    }
    Err("a name has 1 to 200 characters, none of them blank".to_owned())
}

/// A list of names, in their order.
pub(super) fn names(value: &Value) -> Result<Vec<String>, String> {
    let items = value.as_array().ok_or_else(|| format!("expected an array of names, found {}", kind(value)))?;
    let entry = |(at, item)| name(item).map_err(|message| format!("entry {at}: {message}"));
    items.iter().enumerate().map(entry).collect()
}

/// A price in USD as text, in pico-USD. Zero is refused: nothing used is free, and no credit is worth nothing.
pub(super) fn price(value: &Value) -> Result<u64, String> {
    let text =
        value.as_str().ok_or_else(|| format!("expected a price as text such as \"0.40\", found {}", kind(value)))?;
    match usd::parse(text)? {
        0 => Err("must be more than zero: nothing used is free".to_owned()),
        pico_usd => Ok(pico_usd),
    }
}

/// For how many units a price is: a power of ten up to 1,000,000,000, as digits or `1K`, `1M`.
pub(super) fn per(value: &Value) -> Result<u64, String> {
    let digits = match value.as_str() {
        Some("1K") => "1000",
        Some("1M") => "1000000",
        Some(text) if text.len() <= 20 => text,
        Some(_) => "…",
        None => return Err(format!("expected text such as \"1M\", found {}", kind(value))),
    };
    std::iter::successors(Some(1_u64), |power| power.checked_mul(10))
        .take(10)
        .find(|power| power.to_string() == digits)
        .ok_or_else(|| {
            format!(
                "`{digits}` is not a number of units: write \"1\", \"1K\", \"1M\" or another power of ten up to \
                 1000000000"
            )
        })
}

/// A whole number, written as an integer or as its digits in text.
pub(super) fn count(value: &Value) -> Result<u64, String> {
    let number = match value {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        other => other.as_u64(),
    };
    number.ok_or_else(|| match value {
        Value::Number(number) => format!("`{number}` is not a whole number of 0 or more"),
        Value::String(text) => format!("`{}` is not a whole number of 0 or more", cut(text)),
        other => format!("expected a whole number, found {}", kind(other)),
    })
}

/// A whole number of at least one.
pub(super) fn positive(value: &Value) -> Result<u64, String> {
    match count(value)? {
        0 => Err("must be at least 1".to_owned()),
        count => Ok(count),
    }
}

/// A date as `YYYY-MM-DD`.
pub(super) fn date(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    let digits =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u32>().ok()).flatten();
    let parts = text.split('-').map(|part| (part.len(), digits(part))).collect::<Vec<_>>();
    match parts.as_slice() {
        [(4, Some(_)), (2, Some(1..=12)), (2, Some(1..=31))] => Ok(text),
        _ => Err(format!("`{}` is not a date such as \"2026-11-23\"", cut(&text))),
    }
}

/// The beginning of a text, enough to recognise it in a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(60).collect()
}

/// What a value is, in the words of TOML and JSON.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "a table",
    }
}
