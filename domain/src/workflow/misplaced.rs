//! Refuses what a node may say but not beside what else it says.

use super::Action;
use super::reader::Fields;

/// What goes neither with a node that is another workflow nor with one that plans.
const BESIDE_PLAN: [&str; 3] = ["cache", "concurrency", "output"];
/// Besides, what the nodes of another workflow say themselves.
const BESIDE_WORKFLOW: [&str; 6] = ["cache", "concurrency", "pool", "retry", "timeout", "units"];

/// Refuses keys that do not go with the node's kind.
pub(super) fn refuse(fields: &mut Fields<'_, '_>, action: Option<&Action>) {
    if matches!(action, Some(Action::Wait(_))) {
        refuse_loops(fields);
    }
    let (keys, kind): (&[&'static str], _) = if fields.has_any(&["workflow"]) {
        (&BESIDE_WORKFLOW, "workflow")
    } else if fields.has_any(&["plan"]) {
        (&BESIDE_PLAN, "plan")
    } else {
        return;
    };
    for key in keys {
        if fields.value(key).is_some() {
            let pointer = fields.at(key);
            fields.problems.add(pointer, "misplaced_key", format!("`{key}` does not go with `{kind}`"));
        }
    }
}

/// A node that waits is not worth doing twice: nothing comes of it that an expression could judge.
fn refuse_loops(fields: &mut Fields<'_, '_>) {
    for key in ["map", "repeat", "review"] {
        if fields.has_any(&[key]) {
            let pointer = fields.at(key);
            fields.problems.add(pointer, "misplaced_key", format!("`{key}` does not go with a node that waits"));
        }
    }
}
