//! Paths to what a run hands back: `nodes.prd.output.title`, `nodes.plan.output.files.0.path`.
//!
//! A path names one node and steps into its output by key or by index. It cannot compute anything; a
//! `transform` node does that.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::name::IDENTIFIER;

/// Where one named output of a run comes from. Serialises as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutputPath {
    node: String,
    steps: Vec<String>,
}

impl OutputPath {
    /// The whole output of a node.
    pub(super) fn whole(node: &str) -> Self {
        Self { node: node.to_owned(), steps: Vec::new() }
    }

    /// Reads `nodes.<node>.output`, followed by any number of `.<key or index>`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut steps = text.split('.');
        let (root, node, output) = (steps.next()?, steps.next()?, steps.next()?);
        let steps: Vec<String> = steps.map(str::to_owned).collect();
        let well_formed = root == "nodes" && output == "output" && IDENTIFIER.allows(node);
        (well_formed && steps.iter().all(|step| is_step(step))).then(|| Self { node: node.to_owned(), steps })
    }

    /// The key of the node whose output this is.
    pub fn nodes(&self) -> &str {
        &self.node
    }

    /// The first step into the node's output.
    pub(super) fn field(&self) -> Option<&str> {
        self.steps.first().map(String::as_str)
    }

    /// The value at this path in the node's output; null where the path leads nowhere.
    pub fn resolve<'v>(&self, output_of_node: &'v Value) -> Value {
        let step_into = |value: &'v Value, step: &String| match value {
            Value::Object(fields) => fields.get(step),
            Value::Array(items) => step.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        };
        self.steps.iter().try_fold(output_of_node, step_into).cloned().unwrap_or_default()
    }
}

fn is_step(step: &str) -> bool {
    !step.is_empty() && step.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
}

impl fmt::Display for OutputPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nodes.{}.output", self.node)?;
        self.steps.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

impl Serialize for OutputPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_steps_into_mappings_and_lists() {
        let output = json!({"files": [{"path": "a.rs"}, {"path": "b.rs"}], "title": "x"});
        for (path, value) in [
            ("nodes.plan.output", output.clone()),
            ("nodes.plan.output.title", json!("x")),
            ("nodes.plan.output.files.1.path", json!("b.rs")),
            ("nodes.plan.output.files.2.path", Value::Null),
            ("nodes.plan.output.title.deeper", Value::Null),
            ("nodes.plan.output.nothing", Value::Null),
        ] {
            let parsed = OutputPath::parse(path).unwrap();
            assert_eq!(parsed.nodes(), "plan");
            assert_eq!(parsed.resolve(&output), value, "{path}");
            assert_eq!(parsed.to_string(), path);
        }
    }

    #[test]
    fn what_is_no_path_is_none() {
        for path in [
            "",
            "nodes",
            "nodes.a",
            "nodes.a.result",
            "inputs.a.output",
            "nodes.A.output",
            "nodes.a.output.",
            "nodes.a.output.x y",
        ] {
            assert_eq!(OutputPath::parse(path), None, "{path}");
        }
    }
}
