//! Reads YAML or JSON text into a JSON value and refuses what the usual readers let pass: duplicate keys, deep
//! nesting, alias bombs, characters no database stores. Says where, as a JSON pointer.
//!
//! Knows nothing about workflows. A value that was parsed elsewhere goes through the same checks ([`recheck`]).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Syntax;
use super::problem::{Problem, Problems, below};
use crate::limits::{
    MAX_DEFINITION_BYTES, MAX_DEFINITION_DEPTH, MAX_DEFINITION_VALUES, MAX_KEY_BYTES, MAX_YAML_ALIASES,
};

/// Reads the text. Problems that leave a usable value (duplicate keys: the first one counts) go to `problems`;
/// `None` means that there is no value to go on with, and `problems` says why.
pub(super) fn read(text: &str, syntax: Syntax, problems: &mut Problems) -> Option<Value> {
    if text.len() > MAX_DEFINITION_BYTES {
        problems.push(too_large(String::new()));
        return None;
    }
    let mut reading = Reading::new(problems);
    let result = match syntax {
        Syntax::Json => read_json(text, &mut reading),
        Syntax::Yaml => {
            let read = |yaml: serde_saphyr::Deserializer<'_, '_>| Seed(&mut reading).deserialize(yaml);
            serde_saphyr::with_deserializer_from_str_with_options(text, yaml_options(), read)
                .map_err(|error| explain_yaml(&error))
        }
    };
    reading.end(result)
}

/// Applies the same limits to a value that was parsed elsewhere (where duplicate keys are already lost).
pub(super) fn recheck(value: &Value, problems: &mut Problems) -> Option<Value> {
    let mut reading = Reading::new(problems);
    let result = Seed(&mut reading).deserialize(value).map_err(|error| ("syntax", error.to_string()));
    reading.end(result)
}

/// A code and a message.
type Refusal = (&'static str, String);

fn read_json(text: &str, reading: &mut Reading<'_>) -> Result<Value, Refusal> {
    let mut json = serde_json::Deserializer::from_str(text);
    Seed(reading)
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| ("syntax", format!("this is not valid JSON: {error}")))
}

fn explain_yaml(error: &serde_saphyr::Error) -> Refusal {
    use serde_saphyr::{Error, budget::BudgetBreach};
    let line = error.location().map_or(0, |location| location.line());
    match error {
        Error::AliasError { error, .. } => explain_yaml(error),
        Error::MergeKeyNotAllowed { .. } => {
            ("merge_key", format!("line {line}: merge keys (`<<`) are not part of YAML 1.2; write the fields out"))
        }
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            ("syntax", format!("line {line}: a definition is one YAML document, here another begins"))
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            ("too_large", "the YAML has too many values, anchors or aliases".to_owned())
        }
        _ => ("syntax", format!("this is not valid YAML: {error}")),
    }
}

fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // A few more than allowed: the parser looks ahead, and the visitor below, which knows the pointer, should
            // be the one to refuse.
            max_depth: MAX_DEFINITION_DEPTH.saturating_add(4),
            max_documents: 1,
            max_events: MAX_DEFINITION_VALUES.saturating_mul(4),
            max_nodes: MAX_DEFINITION_VALUES.saturating_mul(2),
            max_aliases: MAX_YAML_ALIASES,
            max_anchors: MAX_YAML_ALIASES,
            max_recorded_anchor_events: MAX_DEFINITION_VALUES,
            max_recorded_anchor_bytes: MAX_DEFINITION_BYTES,
            max_total_scalar_bytes: MAX_DEFINITION_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_DEFINITION_VALUES.saturating_mul(2),
            max_replay_stack_depth: MAX_DEFINITION_DEPTH,
        },
        // The visitor below sees both entries and reports the second with its pointer.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        // `<<` is not part of YAML 1.2, and what it overrides is easily misread.
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        // YAML 1.2: `on`, `yes` and `1_000` are text.
        strict_booleans: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn too_large(pointer: String) -> Problem {
    let (bytes, values) = (MAX_DEFINITION_BYTES, MAX_DEFINITION_VALUES);
    let message = format!("a definition has at most {bytes} bytes and {values} values, with aliases expanded");
    Problem::new(pointer, "too_large", message)
}

/// Where the reader stands and what it has used up.
struct Reading<'p> {
    path: Vec<String>,
    bytes: usize,
    values: usize,
    problems: &'p mut Problems,
    /// Why reading was stopped by a limit, as opposed to by the parser.
    stopped: Option<Problem>,
}

impl<'p> Reading<'p> {
    fn new(problems: &'p mut Problems) -> Self {
        Self { path: Vec::new(), bytes: 0, values: 0, problems, stopped: None }
    }

    fn pointer(&self) -> String {
        self.path.iter().fold(String::new(), |pointer, step| below(&pointer, step))
    }

    fn end(self, result: Result<Value, Refusal>) -> Option<Value> {
        match result {
            Ok(value) => Some(value),
            Err((code, message)) => {
                let pointer = self.pointer();
                let problem = self.stopped.unwrap_or_else(|| Problem::new(pointer, code, message));
                self.problems.push(problem);
                None
            }
        }
    }

    fn stop<E: serde::de::Error>(&mut self, problem: Problem) -> E {
        self.stopped = Some(problem);
        E::custom("a limit was reached")
    }

    /// Counts a value and its text before anything is allocated for it.
    fn count<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.values = self.values.saturating_add(1);
        if self.bytes > MAX_DEFINITION_BYTES || self.values > MAX_DEFINITION_VALUES {
            return Err(self.stop(too_large(self.pointer())));
        }
        Ok(())
    }

    fn open<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.count(2)?;
        if self.path.len() >= MAX_DEFINITION_DEPTH {
            let message = format!("lists and mappings nest at most {MAX_DEFINITION_DEPTH} deep");
            return Err(self.stop(Problem::new(self.pointer(), "too_deep", message)));
        }
        Ok(())
    }

    fn refuse_nul(&mut self, text: &str) {
        if text.contains('\0') {
            let message = "text must not contain the character U+0000, which databases cannot store";
            self.problems.add(self.pointer(), "nul_character", message);
        }
    }

    /// Checks a key and steps below it. Whether the key is new is the caller's business.
    fn enter<E: serde::de::Error>(&mut self, key: &str) -> Result<(), E> {
        self.count(key.len())?;
        if key.len() > MAX_KEY_BYTES {
            let message = format!("keys have at most {MAX_KEY_BYTES} bytes");
            return Err(self.stop(Problem::new(self.pointer(), "too_long", message)));
        }
        self.path.push(key.to_owned());
        self.refuse_nul(key);
        Ok(())
    }
}

/// Reads one value of any type.
struct Seed<'r, 'p>(&'r mut Reading<'p>);

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a number, true, false, null, a list or a mapping")
    }

    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Value, E> {
        self.0.count(1)?;
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        self.0.count(1)?;
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        self.0.count(1)?;
        Ok(Value::Number(number.into()))
    }

    // tidy(layers): JSON's own numbers pass through untouched; nothing here calculates with them.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        self.0.count(1)?;
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.count(text.len())?;
        self.0.refuse_nul(text);
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.count(1)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let reading = self.0;
        reading.open()?;
        let mut list = Vec::new();
        loop {
            reading.path.push(list.len().to_string());
            let item = items.next_element_seed(Seed(reading))?;
            reading.path.pop();
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let reading = self.0;
        reading.open()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            reading.enter(&key)?;
            let value = entries.next_value_seed(Seed(reading))?;
            if map.contains_key(&key) {
                let message = format!("the key `{key}` is given twice");
                reading.problems.add(reading.pointer(), "duplicate_key", message);
            } else {
                map.insert(key, value);
            }
            reading.path.pop();
        }
        Ok(Value::Object(map))
    }
}

/// Reads one key. Only text is one: what YAML takes for a number or for null must be put in quotes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is text (put it in quotes)")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        Ok(key.to_owned())
    }
}
