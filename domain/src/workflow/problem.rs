//! What is wrong with a definition or an input: where, what, and what was probably meant.
//!
//! All problems of one text are collected, so that it is mended in one round. A problem names keys, rules and
//! limits; it never repeats prompts or input values, because problems travel to logs and error bodies.

use std::fmt;

use serde::Serialize;

use crate::limits::MAX_PROBLEMS;

/// One thing that is wrong, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// JSON pointer (RFC 6901) to the place; empty for the whole text. A missing key is pointed at where it should be.
    pub pointer: String,
    /// A stable code in `snake_case`, e.g. `unknown_key`.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What was probably meant or what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(pointer: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, message: message.into(), hint: None }
    }

    /// The same problem with a hint, where there is one.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() { "(whole text)" } else { &self.pointer };
        write!(f, "{place}: {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// Collects problems in the order they are found, at most [`MAX_PROBLEMS`].
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    /// Keeps the problem, unless there are enough already.
    pub(super) fn push(&mut self, problem: Problem) {
        if !self.is_full() {
            self.0.push(problem);
        }
    }

    /// Keeps a problem without a hint.
    pub(super) fn add(&mut self, pointer: impl Into<String>, code: &'static str, message: impl Into<String>) {
        self.push(Problem::new(pointer, code, message));
    }

    /// Whether more would be dropped: then looking for hints is not worth the work.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    /// The value if nothing is wrong, else everything that is.
    pub(super) fn or<T>(self, value: Option<T>) -> Result<T, Vec<Problem>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ if self.0.is_empty() => Err(vec![Problem::new("", "incomplete", "the definition is incomplete")]),
            _ => Err(self.0),
        }
    }
}

/// The pointer to `step` (a key or an index) below `parent`.
pub(super) fn below(parent: &str, step: impl fmt::Display) -> String {
    let step = step.to_string().replace('~', "~0").replace('/', "~1");
    format!("{parent}/{step}")
}

/// "did you mean …?" when one of the candidates is within a small edit distance of what was written.
pub(super) fn did_you_mean<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let letters = written.chars().count();
    let allowed = if letters <= 3 { 1 } else { 2 };
    candidates
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(letters) <= allowed)
        .map(|candidate| (strsim::osa_distance(written, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_escapes_what_pointers_reserve() {
        assert_eq!(below("/nodes", "a/b~c"), "/nodes/a~1b~0c");
        assert_eq!(below("", 3), "/3");
    }

    #[test]
    fn a_hint_needs_a_close_candidate() {
        let known = ["prompt", "agent", "needs"];
        assert_eq!(did_you_mean("promt", known), Some("did you mean `prompt`?".to_owned()));
        assert_eq!(did_you_mean("nedes", known), Some("did you mean `needs`?".to_owned()));
        assert_eq!(did_you_mean("budget", known), None);
        assert_eq!(did_you_mean("x", ["ab", "abc"]), None);
    }

    #[test]
    fn no_more_problems_are_kept_than_anyone_reads() {
        let mut problems = Problems::default();
        (0..200).for_each(|number| problems.add("", "test", number.to_string()));
        assert_eq!(problems.or(Some(())).map_err(|kept| kept.len()), Err(MAX_PROBLEMS));
    }

    #[test]
    fn a_problem_reads_as_one_line() {
        let problem = Problem::new("/nodes/a", "unknown_key", "unknown key `promt`");
        assert_eq!(problem.to_string(), "/nodes/a: unknown key `promt`");
        let hinted = problem.with_hint(Some("did you mean `prompt`?".to_owned()));
        assert_eq!(hinted.to_string(), "/nodes/a: unknown key `promt` (did you mean `prompt`?)");
    }
}
