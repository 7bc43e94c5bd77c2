//! Reads what becomes of a run when one of its nodes fails for good.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::{Problem, did_you_mean};
use super::reader::{Fields, wrong_type};

/// What becomes of a run when one of its nodes fails for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails with it.
    #[default]
    Fail,
    /// The nodes that need it go on, as if it had been skipped: its output is null.
    Skip,
    /// The nodes that need it go on, and see `{"error": {"class", "code", "message"}}` as its output.
    Continue,
    /// Another node of the workflow stands in for it: the nodes that need it go on once that is over, and see what came
    /// out of that as its output.
    Fallback,
}

/// The words of `on_error`.
pub(super) const WORDS: [&str; 3] = ["fail", "skip", "continue"];

/// What `on_error` says: what becomes of the run and, for a fallback, the node's key with the pointer to it.
pub(super) type Handling<'v> = (OnError, Option<(&'v str, String)>);

/// Reads `on_error` of a node; `None` where nothing is said, and where what is said is a problem.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>) -> Option<Handling<'v>> {
    match fields.value("on_error")? {
        Value::Object(_) => {
            let mut section = fields.section("on_error")?;
            if !section.has_any(&["fallback"]) {
                section.missing("fallback", "it is the node that runs when this one fails");
            }
            let node = section.text("fallback", usize::MAX);
            let at = section.at("fallback");
            section.close(&[]);
            Some((OnError::Fallback, Some((node?, at))))
        }
        _ => read_word(fields, "fail, skip, continue or a fallback").map(|word| (word, None)),
    }
}

/// Reads `on_error` of the defaults, which names no node: a fallback stands in for one.
pub(super) fn read_default(fields: &mut Fields<'_, '_>) -> Option<OnError> {
    read_word(fields, "fail, skip or continue")
}

fn read_word(fields: &mut Fields<'_, '_>, expected: &str) -> Option<OnError> {
    let value = fields.value("on_error")?;
    let at = fields.at("on_error");
    match value {
        Value::String(word) => match word.as_str() {
            "fail" => return Some(OnError::Fail),
            "skip" => return Some(OnError::Skip),
            "continue" => return Some(OnError::Continue),
            other => {
                let message = format!("`on_error` must be one of: {}", WORDS.join(", "));
                fields.problems.push(Problem::new(at, "unknown_choice", message).with_hint(did_you_mean(other, WORDS)));
            }
        },
        other => fields.problems.push(wrong_type(at, expected, other)),
    }
    None
}
