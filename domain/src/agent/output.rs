//! Structured output: an answer's text becomes a JSON value that the schema allows, or words about what is wrong.
//!
//! The words name places and rules. What the model said is repeated neither to it nor in an error.

use serde_json::Value;

use super::answer::Answer;
use crate::limits::MAX_VIOLATION_CHARS;
use crate::workflow::OutputSchema;

/// Violations that are told at once: nobody mends more in one go.
const MOST_VIOLATIONS: usize = 10;

/// Characters of a path into the answer, whose keys are the model's own.
const MOST_PATH_CHARS: usize = 100;

/// The value that the answer stands for. Errors: what is wrong with it, one line each, bounded.
pub(super) fn read(wanted: &OutputSchema, answer: &Answer) -> Result<Value, String> {
    let parsed: Result<Value, _> = serde_json::from_str(without_fence(&answer.text));
    let mut value = match parsed {
        Ok(value) => value,
        Err(_) if answer.finish_reason == "length" => {
            return Err("- the answer was cut off at the output limit before its JSON was complete".to_owned());
        }
        Err(error) => return Err(format!("- the answer is no JSON value: {error}")),
    };
    replace_nul(&mut value);
    let Err(problems) = wanted.check(&value) else { return Ok(value) };
    let line = |problem: &crate::workflow::Problem| {
        let path: String = problem.pointer.chars().take(MOST_PATH_CHARS).collect();
        let place = if path.is_empty() { "(the whole value)".to_owned() } else { path };
        format!("- {place}: {}", problem.message)
    };
    let lines: Vec<String> = problems.iter().take(MOST_VIOLATIONS).map(line).collect();
    Err(lines.join("\n").chars().take(MAX_VIOLATION_CHARS).collect())
}

/// What the model is told about an answer that does not do.
pub(super) fn send_back(violations: &str) -> String {
    format!(
        "Your answer does not match the JSON schema that it must match:\n{violations}\n\
         Answer again with the whole, corrected JSON value and nothing else."
    )
}

/// Why the step fails when no repair is left.
pub(super) fn give_up(wanted: &OutputSchema, repairs: u32, violations: &str) -> String {
    format!("after {repairs} repairs the answer still does not match the schema `{}`:\n{violations}", wanted.name)
}

/// The text inside of a Markdown code fence, if all of the text is one: models add them unasked.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    inner.map_or(text, |inner| {
        let (language, body) = inner.split_once('\n').unwrap_or(("", inner));
        if language.trim().chars().all(char::is_alphanumeric) { body } else { inner }
    })
}

/// Replaces U+0000, which no database stores in a text, by U+FFFD.
fn replace_nul(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('\0') => *text = text.replace('\0', "\u{FFFD}"),
        Value::Array(items) => items.iter_mut().for_each(replace_nul),
        Value::Object(fields) => {
            if fields.keys().any(|key| key.contains('\0')) {
                let renamed = std::mem::take(fields).into_iter();
                *fields = renamed.map(|(key, value)| (key.replace('\0', "\u{FFFD}"), value)).collect();
            }
            fields.values_mut().for_each(replace_nul);
        }
        _ => {}
    }
}
