//! What a decision about a node must see of the others: what lets it begin, and how far its end reaches.
//!
//! When a node ends, its dependents count down. One that may end in the same breath, because its condition does not
//! hold, because it fails before it starts or because its signal came before it, reaches on to its own dependents. Whoever loads rows for a decision asks here which.

use std::collections::{BTreeSet, VecDeque};

use super::{Definition, Layer, Node, OnError, Place};
use crate::limits::MAX_REACH;

/// What must be known before a node may begin. Empty for nodes that begin as soon as their needs are done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Opening {
    /// Whether it depends on the mission's input.
    pub input: bool,
    /// The nodes, all of them ancestors, on whose results it depends, ascending.
    pub nodes: Vec<u32>,
    /// Whether it may take a signal that came before it.
    pub signals: bool,
}

/// What must be loaded to end a node, or to let one begin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Nodes whose tasks may change, the node itself left out: its dependents, and further ones.
    pub nodes: Vec<u32>,
    /// Nodes for which one of these stands in: what came of them is decided with it.
    pub before: BTreeSet<u32>,
    /// Nodes whose results decide what begins.
    pub results: BTreeSet<u32>,
    /// Whether the mission's input decides too.
    pub input: bool,
    /// Whether signals that nobody took yet decide too.
    pub signals: bool,
    /// Whether a failure of the node reaches as far as its success does.
    pub of_failure: bool,
}

impl Node {
    /// Whether it may be over in the transaction that lets it begin, so that its dependents are part of that decision.
    pub fn may_end_at_once(&self) -> bool {
        self.when.is_some() || self.on_error != OnError::Fail || self.opening.signals || self.stands_in_for.is_some()
    }

    /// Whether its first layer is a map, so that nothing of it runs before its items are known.
    pub fn is_spread(&self) -> bool {
        matches!(self.layers.first(), Some(Layer::Map(_)))
    }
}

impl Reach {
    fn needs_for(&mut self, definition: &Definition, node: &Node) {
        self.results.extend(definition.read_by(&node.opening));
        self.input |= node.opening.input;
        self.signals |= node.opening.signals;
        self.before.extend(definition.stands_in_for(node.index));
    }
}

impl Definition {
    /// What must be loaded when the node ends. All of its dependents are in it; of what may end with those, about
    /// [`MAX_REACH`] nodes.
    pub fn reach_of_end(&self, index: u32) -> Reach {
        let mut reach = Reach::default();
        let Some(node) = self.node(index) else { return reach };
        reach.of_failure = node.on_error != OnError::Fail;
        reach.before.extend(self.stands_in_for(index));
        let mut seen: BTreeSet<u32> = node.dependents.iter().copied().collect();
        let mut open: VecDeque<u32> = node.dependents.iter().copied().collect();
        while let Some(index) = open.pop_front() {
            reach.nodes.push(index);
            let Some(next) = self.node(index) else { continue };
            reach.needs_for(self, next);
            if !next.may_end_at_once() || seen.len() >= node.dependents.len().saturating_add(MAX_REACH) {
                continue;
            }
            open.extend(next.dependents.iter().copied().filter(|further| seen.insert(*further)));
        }
        reach
    }

    /// What must be loaded to let the node begin, or end, by itself.
    pub fn reach_of_start(&self, index: u32) -> Reach {
        let mut reach = self.reach_of_end(index);
        if let Some(node) = self.node(index) {
            reach.needs_for(self, node);
        }
        reach
    }

    /// What must be loaded to decide about the tasks that were made of a task, which may end it.
    pub fn reach_of_children(&self, place: Place) -> Reach {
        let mut reach = if place.layer == 0 { self.reach_of_end(place.index) } else { Reach::default() };
        if let Some(node) = self.node(place.index) {
            reach.results.extend(self.read_by(&node.verdict));
            reach.input |= node.verdict.input;
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::workflow::{Syntax, parse};

    fn definition(nodes: &str) -> Definition {
        parse(&format!("workflow: w\nnodes:\n{nodes}"), Syntax::Yaml).unwrap()
    }

    #[test]
    fn without_conditions_only_the_dependents_are_reached() {
        let plain = definition(
            "  a: { transform: 1 }\n  b: { needs: [a], transform: 1 }\n  c: { needs: [a, b], transform: '{{ nodes.a.output }}' }\n",
        );
        let reach = plain.reach_of_end(0);
        assert_eq!((reach.nodes, reach.results.len(), reach.input), (vec![1, 2], 0, false));
        assert_eq!(plain.reach_of_start(1), Reach { nodes: vec![2], ..Reach::default() });
    }

    #[test]
    fn a_condition_lets_the_end_reach_on() {
        let text = "  a: { transform: 1 }
  b: { needs: [a], when: nodes.a.output, transform: 1 }
  c: { needs: [b], transform: 1 }
  d: { needs: [c], transform: 1 }
  e: { needs: [b], when: inputs.x and nodes.a.output, transform: 1 }
  f: { needs: [e], transform: 1 }
";
        let chained = definition(text);
        let keys = |reach: &Reach| -> Vec<String> {
            reach.nodes.iter().map(|index| chained.node(*index).unwrap().key.clone()).collect()
        };
        let reach = chained.reach_of_end(chained.node_by_key("a").unwrap().index);
        assert_eq!(keys(&reach), ["b", "c", "e", "f"], "d waits for c, which runs");
        assert_eq!((reach.results.into_iter().collect::<Vec<_>>(), reach.input), (vec![0], true));
        let own = chained.reach_of_start(chained.node_by_key("e").unwrap().index);
        assert_eq!((keys(&own), own.input), (vec!["f".to_owned()], true));
    }

    #[test]
    fn a_long_chain_of_conditions_is_reached_in_part() {
        let link =
            |number| format!("  n{number:04}: {{ needs: [n{:04}], when: inputs.x, transform: 1 }}\n", number - 1);
        let links: String = (1..900).map(link).collect();
        let chain = definition(&format!("  n0000: {{ transform: 1 }}\n{links}"));
        assert_eq!(chain.reach_of_end(0).nodes.len(), 1 + MAX_REACH);
        assert_eq!(chain.reach_of_end(800).nodes.len(), 99);
    }
}
