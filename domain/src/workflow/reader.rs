//! Takes the fields of one mapping by name, each with its type and bounds, and refuses what is left over.
//!
//! Every getter answers `None` both for an absent field and for one that is wrong; the latter is also put on the
//! list of problems, so that reading goes on and finds the rest.

use std::ops::RangeInclusive;

use serde_json::{Map, Number, Value};

use super::duration;
use super::name::NameRule;
use super::problem::{Problem, Problems, below, did_you_mean};
use crate::credits::Ucr;

/// The fields of one mapping.
pub(super) struct Fields<'v, 'p> {
    map: &'v Map<String, Value>,
    at: String,
    known: Vec<&'static str>,
    /// Where everything that is wrong goes.
    pub(super) problems: &'p mut Problems,
}

impl<'v, 'p> Fields<'v, 'p> {
    /// Opens a mapping at the pointer `at`; anything else is a problem.
    pub(super) fn open(value: &'v Value, at: String, problems: &'p mut Problems) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self { map, at, known: Vec::new(), problems }),
            other => {
                problems.push(wrong_type(at, "a mapping", other));
                None
            }
        }
    }

    /// The pointer to the mapping itself.
    pub(super) fn here(&self) -> String {
        self.at.clone()
    }

    /// The pointer to a field.
    pub(super) fn at(&self, key: &str) -> String {
        below(&self.at, key)
    }

    /// The field as it stands.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.map.get(key)
    }

    /// Whether the mapping has one of the keys, without counting them as known.
    pub(super) fn has_any(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| self.map.contains_key(*key))
    }

    /// Notes that a field must be there.
    pub(super) fn missing(&mut self, key: &str, why: &str) {
        let pointer = self.at(key);
        self.problems.add(pointer, "missing", format!("`{key}` is missing: {why}"));
    }

    /// Text of at most `max_bytes`.
    pub(super) fn text(&mut self, key: &'static str, max_bytes: usize) -> Option<&'v str> {
        let value = self.value(key)?;
        let pointer = self.at(key);
        let Value::String(text) = value else {
            self.problems.push(wrong_type(pointer, "text", value));
            return None;
        };
        if text.len() > max_bytes {
            let message = format!("`{key}` has {} bytes, at most {max_bytes} are allowed", text.len());
            self.problems.add(pointer, "too_long", message);
            return None;
        }
        Some(text)
    }

    /// A name that keeps to the rule.
    pub(super) fn name(&mut self, key: &'static str, rule: &NameRule) -> Option<&'v str> {
        let text = self.text(key, usize::MAX)?;
        if rule.allows(text) {
            return Some(text);
        }
        let pointer = self.at(key);
        self.problems.add(pointer, "invalid_name", format!("`{key}` must be {}", rule.says));
        None
    }

    /// A whole number within the range.
    pub(super) fn whole(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = self.value(key)?;
        let pointer = self.at(key);
        whole_number(value, &pointer, &format!("`{key}`"), range, self.problems)
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.as_bool();
        if flag.is_none() {
            let pointer = self.at(key);
            self.problems.push(wrong_type(pointer, "true or false", value));
        }
        flag
    }

    /// A duration, in milliseconds, of at least `min_ms` and at most `max_ms`.
    pub(super) fn duration_ms(&mut self, key: &'static str, min_ms: i64, max_ms: i64) -> Option<i64> {
        let value = self.value(key)?;
        let pointer = self.at(key);
        let Some(ms) = value.as_str().and_then(duration::parse_ms) else {
            let message = format!("`{key}` must be a duration such as 500ms, 30s, 10m, 2h or 1d");
            let hint = value.as_u64().map(|number| format!("write `{number}s` for seconds"));
            self.problems.push(Problem::new(pointer, "invalid_duration", message).with_hint(hint));
            return None;
        };
        if (min_ms..=max_ms).contains(&ms) {
            return Some(ms);
        }
        let message = format!("`{key}` must be from {} to {}", duration::show(min_ms), duration::show(max_ms));
        self.problems.add(pointer, "out_of_range", message);
        None
    }

    /// An amount of credits, not negative: a whole number or a decimal in quotes.
    pub(super) fn credits(&mut self, key: &'static str) -> Option<Ucr> {
        let value = self.value(key)?;
        let pointer = self.at(key);
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            Value::Number(number) => {
                let message = format!("`{key}` must be a whole number or a decimal in quotes, so that it stays exact");
                let hint = format!("write \"{number}\"");
                self.problems.push(Problem::new(pointer, "invalid_credits", message).with_hint(hint));
                return None;
            }
            other => {
                self.problems.push(wrong_type(pointer, "an amount of credits", other));
                return None;
            }
        };
        match text.parse::<Ucr>() {
            Ok(amount) if amount >= Ucr::ZERO => return Some(amount),
            Ok(_) => self.problems.add(pointer, "out_of_range", format!("`{key}` must not be negative")),
            Err(error) => self.problems.add(pointer, "invalid_credits", error.to_string()),
        }
        None
    }

    /// A sampling temperature from 0 to 2 with at most six decimals, as a number or as text.
    pub(super) fn temperature(&mut self, key: &'static str) -> Option<Number> {
        let value = self.value(key)?;
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        // Amounts are the package's exact decimals: this bounds the number without a float comparison.
        let highest = Ucr::from_credits(2);
        let within = text.parse::<Ucr>().is_ok_and(|exact| exact >= Ucr::ZERO && exact <= highest);
        let number = within.then(|| serde_json::from_str::<Number>(&text).ok()).flatten();
        if number.is_none() {
            let pointer = self.at(key);
            let message = format!("`{key}` must be a number from 0 to 2 with at most six decimals");
            self.problems.add(pointer, "out_of_range", message);
        }
        number
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key, usize::MAX)?;
        if let Some((_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*chosen);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let hint = did_you_mean(text, words.iter().copied());
        let message = format!("`{key}` must be one of: {}", words.join(", "));
        let pointer = self.at(key);
        self.problems.push(Problem::new(pointer, "unknown_choice", message).with_hint(hint));
        None
    }

    /// A mapping with fields of its own.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Fields<'v, '_>> {
        let value = self.value(key)?;
        let at = self.at(key);
        Fields::open(value, at, self.problems)
    }

    /// A mapping from names, which keep to the rule, to whatever they stand for; at most `max` of them.
    /// Entries with a wrong name are kept, so that what they hold is checked as well.
    pub(super) fn entries(&mut self, key: &'static str, rule: &NameRule, max: usize) -> Vec<Entry<'v>> {
        let Some(section) = self.section(key) else {
            return Vec::new();
        };
        if section.map.len() > max {
            let message = format!("`{key}` has {} entries, at most {max} are allowed", section.map.len());
            section.problems.add(section.at, "too_many", message);
            return Vec::new();
        }
        let Fields { map, at, problems, .. } = section;
        let entry = |(name, value): (&'v String, &'v Value)| {
            let at = below(&at, name);
            if !rule.allows(name) {
                problems.add(at.as_str(), "invalid_name", format!("names in `{key}` must be {}", rule.says));
            }
            Entry { name, value, at }
        };
        map.iter().map(entry).collect()
    }

    /// Refuses every key that no getter asked for. `later` are the keys that a later version will know.
    pub(super) fn close(self, later: &[&str]) {
        for key in self.map.keys().filter(|key| !self.known.contains(&key.as_str())) {
            if self.problems.is_full() {
                return;
            }
            let pointer = below(&self.at, key);
            if later.contains(&key.as_str()) {
                self.problems.add(pointer, "unsupported", format!("`{key}` is not supported by this version"));
                continue;
            }
            let known = || format!("known here: {}", self.known.join(", "));
            let hint = did_you_mean(key, self.known.iter().copied()).unwrap_or_else(known);
            self.problems.push(Problem::new(pointer, "unknown_key", format!("unknown key `{key}`")).with_hint(hint));
        }
    }
}

/// One entry of a mapping whose keys are names.
#[derive(Debug, Clone)]
pub(super) struct Entry<'v> {
    /// The key.
    pub(super) name: &'v str,
    /// What it stands for.
    pub(super) value: &'v Value,
    /// The pointer to it.
    pub(super) at: String,
}

/// "expected …, found …".
pub(super) fn wrong_type(pointer: String, expected: &str, found: &Value) -> Problem {
    let found = match found {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    Problem::new(pointer, "wrong_type", format!("expected {expected}, found {found}"))
}

/// A whole number within the range; `what` names it in the message.
pub(super) fn whole_number(
    value: &Value,
    pointer: &str,
    what: &str,
    range: RangeInclusive<i64>,
    problems: &mut Problems,
) -> Option<i64> {
    let Value::Number(number) = value else {
        problems.push(wrong_type(pointer.to_owned(), "a whole number", value));
        return None;
    };
    let whole = number.as_i64().filter(|whole| range.contains(whole));
    if whole.is_none() {
        let message = format!("{what} must be a whole number from {} to {}", range.start(), range.end());
        problems.add(pointer, "out_of_range", message);
    }
    whole
}
