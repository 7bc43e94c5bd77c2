//! Reads for how long the output of a node may stand in for doing the same again.

use super::reader::Fields;
use super::step::{Seen, read_template};
use super::{Action, Definition, Place};
use crate::limits::{MAX_CACHE_MS, MAX_CONDITION_BYTES};

/// For how long an output may be used again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Milliseconds.
    pub ttl_ms: i64,
    /// The template of what decides whether a task is the same as an earlier one; `None` is all that its templates
    /// became.
    pub key: Option<String>,
}

/// Reads `cache` and notes what its key refers to.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, action: Option<&Action>, seen: &mut Seen<'v>) -> Option<Cache> {
    let at = fields.at("cache");
    let mut section = fields.section("cache")?;
    if !section.has_any(&["ttl"]) {
        section.missing("ttl", "it says for how long an output may be used again");
    }
    let ttl_ms = section.duration_ms("ttl", 1, MAX_CACHE_MS);
    let key = section.text("key", MAX_CONDITION_BYTES);
    if let Some(key) = key {
        let at = section.at("key");
        read_template(key, &at, seen, section.problems);
    }
    section.close(&[]);
    if action.is_some_and(|action| !matches!(action, Action::Agent(_) | Action::Http(_) | Action::Transform(_))) {
        let message = "only outputs of nodes with `agent`, `http` or `transform` are used again";
        fields.problems.add(at, "not_cacheable", message);
    } else if matches!(action, Some(Action::Agent(step)) if step.memory.is_some()) {
        let message =
            "what an agent answers that remembers depends on what was said: `cache` does not go with `memory`";
        fields.problems.add(at, "not_cacheable", message);
    } else if fields.has_any(&["repeat", "review"]) {
        let message = "a round that took an earlier one's output would change nothing: `cache` goes with neither `repeat` nor `review`";
        fields.problems.add(at, "not_cacheable", message);
    }
    Some(Cache { ttl_ms: ttl_ms?, key: key.map(str::to_owned) })
}

impl Definition {
    /// Everything in the definition that a node's step depends on, as canonical JSON: two nodes with the same, given the
    /// same, do the same.
    pub fn node_source(&self, place: Place) -> String {
        let Some(node) = self.node_for(place) else { return String::new() };
        let part = |name: &str| self.source.get(name).map(ToString::to_string).unwrap_or_default();
        let named = |section: &str, key: &str| {
            let entry = self.source.get(section).and_then(|entries| entries.get(key));
            entry.map(ToString::to_string).unwrap_or_default()
        };
        let agent = match &node.action {
            Action::Agent(step) => named("agents", &step.agent),
            _ => String::new(),
        };
        [named("nodes", &node.key), agent, part("defaults"), part("schemas")].join("\n")
    }
}
