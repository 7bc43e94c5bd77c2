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
}

/// The words of `on_error`.
pub(super) const WORDS: [&str; 3] = ["fail", "skip", "continue"];

/// Reads `on_error`; `None` where nothing is said, and where what is said is a problem.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<OnError> {
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
        Value::Object(map) if map.contains_key("fallback") => {
            let message = "`fallback` is not supported by this version";
            fields.problems.add(super::problem::below(&at, "fallback"), "unsupported", message);
        }
        other => fields.problems.push(wrong_type(at, "fail, skip or continue", other)),
    }
    None
}
