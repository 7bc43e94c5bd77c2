//! Reads how many tasks may run at once that share something, such as a customer or a repository.

use super::Action;
use super::condition;
use super::reader::Fields;
use super::scan::Mention;
use crate::limits::{MAX_CONCURRENCY, MAX_CONDITION_BYTES};

/// How many tasks of the tenant with the same key may run at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concurrency {
    /// The key, a template (see [`condition::render`]) over what is known when the task becomes ready.
    pub key: String,
    /// How many may run.
    pub max: u32,
}

/// Reads `concurrency` and notes what its key refers to.
pub(super) fn read<'v>(
    fields: &mut Fields<'v, '_>,
    action: Option<&Action>,
    mentions: &mut Vec<(Mention<'v>, String)>,
) -> Option<Concurrency> {
    let at = fields.at("concurrency");
    let mut section = fields.section("concurrency")?;
    if !section.has_any(&["key"]) {
        section.missing("key", "it says what the tasks share that must not run at the same time");
    }
    if !section.has_any(&["max"]) {
        section.missing("max", "it is how many of them may run at once");
    }
    let key = section.text("key", MAX_CONDITION_BYTES);
    if let Some(key) = key {
        let at = section.at("key");
        if key.trim().is_empty() {
            section.problems.add(at, "no_key", "the `key` is empty");
        } else {
            condition::read_template(key, &at, mentions, section.problems);
        }
    }
    let max = section.whole("max", 1..=MAX_CONCURRENCY).and_then(|max| u32::try_from(max).ok());
    section.close(&[]);
    if action.is_some_and(|action| matches!(action, Action::Wait(_))) {
        fields.problems.add(at, "no_worker", "no worker does this node, so that any number of them may wait at once");
    } else if fields.has_any(&["map", "repeat", "review"]) {
        let message =
            "`concurrency` goes with neither `map` nor `repeat` nor `review`; for items there is `max_parallel`";
        fields.problems.add(at, "one_of_many", message);
    }
    Some(Concurrency { key: key?.to_owned(), max: max? })
}
