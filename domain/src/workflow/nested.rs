//! `workflow`: another workflow runs in place of a node.
//!
//! Which version that is, is pinned when the definition is put: a run never depends on what is put later, and no
//! workflow can run inside of itself. What the other workflow is given is a value of templates, computed like a
//! `transform`; what it hands back is the node's output.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::name::WORKFLOW;
use super::problem::Problem;
use super::reader::{Fields, wrong_type};
use super::step::{Seen, read_values};
use super::{Definition, TransformStep};
use crate::id::WorkflowId;

/// Another workflow in place of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Nested {
    /// Its name.
    pub name: String,
    /// Its version; `None` until the definition is put.
    pub version: Option<i64>,
    /// What becomes of it when the run ends before it.
    pub parent_close: ParentClose,
    /// The version itself, where the definition was linked with it (see [`Definition::link`]).
    pub of: Option<(WorkflowId, Arc<Definition>)>,
}

/// What becomes of a nested workflow when the run ends before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ParentClose {
    /// It is a part of the run and ends with it.
    #[default]
    Cancel,
    /// It is a mission of its own; the node does not wait for it.
    Abandon,
}

/// A workflow that a definition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRef {
    /// The key of the node that names it.
    pub node: String,
    /// Where it is named.
    pub pointer: String,
    /// Its name.
    pub name: String,
    /// Its version, where one is named.
    pub version: Option<i64>,
}

/// Reads `workflow: name@3`, or `workflow: { name, inputs, parent_close }`, with the step that computes its input.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, seen: &mut Seen<'v>) -> Option<(Nested, TransformStep)> {
    let at = fields.at("workflow");
    match fields.value("workflow")? {
        Value::String(text) => {
            let (name, version) = read_ref(text, at, fields)?;
            let nested = Nested { name, version, parent_close: ParentClose::default(), of: None };
            Some((nested, TransformStep { output: json!({}) }))
        }
        Value::Object(_) => {
            let mut section = fields.section("workflow")?;
            if !section.has_any(&["name"]) {
                section.missing("name", "it is the workflow that runs, `name` or `name@3`");
            }
            let at = section.at("name");
            let named = section.text("name", usize::MAX).and_then(|text| read_ref(text, at, &mut section));
            let input = match section.value("inputs") {
                None => Some(TransformStep { output: json!({}) }),
                Some(value @ Value::Object(_)) => {
                    let at = section.at("inputs");
                    read_values(value, &at, seen, section.problems)
                }
                Some(other) => {
                    let at = section.at("inputs");
                    section.problems.push(wrong_type(at, "a mapping", other));
                    None
                }
            };
            let words = [("cancel", ParentClose::Cancel), ("abandon", ParentClose::Abandon)];
            let parent_close = section.choice("parent_close", &words).unwrap_or_default();
            section.close(&[]);
            let (name, version) = named?;
            Some((Nested { name, version, parent_close, of: None }, input?))
        }
        other => {
            fields.problems.push(wrong_type(at, "the name of a workflow, or a mapping", other));
            None
        }
    }
}

fn read_ref(text: &str, at: String, fields: &mut Fields<'_, '_>) -> Option<(String, Option<i64>)> {
    let (name, version) = match text.split_once('@') {
        None => (text, None),
        Some((name, version)) => (name, Some(version.parse::<i64>().ok().filter(|version| *version > 0))),
    };
    if !WORKFLOW.allows(name) || version == Some(None) {
        let message = format!("expected a workflow's name, or name@version; a name is {}", WORKFLOW.says);
        fields.problems.push(Problem::new(at, "invalid_name", message));
        return None;
    }
    Some((name.to_owned(), version.flatten()))
}

impl Definition {
    /// The workflows that run inside of this one, by the nodes that they run in place of.
    pub fn nested(&self) -> impl Iterator<Item = WorkflowRef> + '_ {
        self.nodes.iter().filter_map(|node| {
            let nested = node.nested()?;
            let is_short =
                self.node_value(&node.key).and_then(|node| node.get("workflow")).is_some_and(Value::is_string);
            let rest = if is_short { "" } else { "/name" };
            let pointer = format!("/nodes/{}/workflow{rest}", node.key);
            Some(WorkflowRef { node: node.key.clone(), pointer, name: nested.name.clone(), version: nested.version })
        })
    }

    /// The definition's source with the versions of nested workflows filled in, given for each node's key.
    pub fn pinned_source(&self, versions: &Map<String, Value>) -> Value {
        let mut source = self.source.clone();
        for (key, version) in versions {
            let place = source.get_mut("nodes").and_then(|nodes| nodes.get_mut(key));
            let Some(place) = place.and_then(|node| node.get_mut("workflow")) else { continue };
            let place = if place.is_string() { Some(place) } else { place.get_mut("name") };
            if let Some(place) = place {
                let name = place.as_str().and_then(|text| text.split('@').next()).unwrap_or_default();
                *place = Value::String(format!("{name}@{version}"));
            }
        }
        source
    }

    /// Gives every nested workflow its definition; `find` is asked by name and version. Those that it does not know stay
    /// without. Those that are given are linked themselves.
    pub fn link(&mut self, find: impl Fn(&str, Option<i64>) -> Option<(WorkflowId, Arc<Definition>)>) {
        for node in &mut self.nodes {
            if let Some(nested) = node.layers.iter_mut().find_map(super::Layer::nested_mut) {
                nested.of = find(&nested.name, nested.version);
            }
        }
        let inside = self.nodes.iter().filter_map(|node| Some(&node.nested()?.of.as_ref()?.1));
        let (mut size, mut depth) = (u64::try_from(self.nodes.len()).unwrap_or(u64::MAX), 0);
        for inner in inside {
            size = size.saturating_add(inner.size);
            depth = inner.depth.max(depth);
        }
        (self.size, self.depth) = (size, depth.saturating_add(1));
    }

    fn node_value(&self, key: &str) -> Option<&Value> {
        self.source.get("nodes")?.get(key)
    }
}
