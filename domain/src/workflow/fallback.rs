//! Fallbacks as edges of the graph: a fallback comes after the node that it stands in for, and whoever needs that node
//! waits for the fallback too. So nothing but the graph decides when either is over.
//!
//! Works on positions of drafts; what a fallback means while a run goes on is decided in `flow`.

use std::collections::{BTreeMap, BTreeSet};

use super::definition::unknown_node;
use super::graph::Graph;
use super::problem::{Problem, Problems};
use super::step::Draft;
use super::{Definition, Opening};
use crate::limits::MAX_FALLBACKS_IN_LINE;

/// For each node, by position, the one that stands in for it when it fails. Lines of them end.
pub(super) struct Fallbacks {
    of: Vec<Option<usize>>,
    origins: Vec<Option<usize>>,
}

impl Fallbacks {
    /// Resolves what the nodes name. A node is the fallback of one other at most, and a line of them ends.
    pub(super) fn resolve(drafts: &[Draft<'_>], position_of: &BTreeMap<&str, usize>, problems: &mut Problems) -> Self {
        let mut found = Self { of: vec![None; drafts.len()], origins: vec![None; drafts.len()] };
        for (position, draft) in drafts.iter().enumerate() {
            let Some((key, at)) = &draft.fallback else { continue };
            let Some(fallback) = position_of.get(key).copied() else {
                problems.push(unknown_node(key, at, position_of.keys().copied()));
                continue;
            };
            let first = found.origin_of(fallback).and_then(|origin| drafts.get(origin));
            let problem = if fallback == position {
                Some(("self_fallback", format!("`{key}` cannot stand in for itself")))
            } else if draft.needs.iter().any(|(need, _)| need == key) {
                Some(("needed_fallback", format!("`{key}` comes before this node, and stands in for it only after it")))
            } else {
                first.map(|first| ("shared_fallback", format!("`{key}` is the fallback of `{}` already", first.key)))
            };
            if let Some((code, message)) = problem {
                problems.add(at, code, message);
                continue;
            }
            found.link(position, Some(fallback));
        }
        found.end_lines(drafts, problems);
        found
    }

    fn link(&mut self, position: usize, fallback: Option<usize>) {
        let old = self.of.get_mut(position).and_then(|place| std::mem::replace(place, fallback));
        for (target, origin) in [(old, None), (fallback, Some(position))] {
            if let Some(place) = target.and_then(|target| self.origins.get_mut(target)) {
                *place = origin;
            }
        }
    }

    /// Takes circles and lines that are too long apart, and says so.
    fn end_lines(&mut self, drafts: &[Draft<'_>], problems: &mut Problems) {
        let mut seen = BTreeSet::new();
        for position in 0..drafts.len() {
            let circle = self.circle_of(position);
            if !circle.is_empty() && circle.iter().all(|member| seen.insert(*member)) {
                problems.push(explain_circle(&circle, drafts));
            }
        }
        for position in &seen {
            self.link(*position, None);
        }
        for (position, draft) in drafts.iter().enumerate().filter(|(_, draft)| draft.fallback.is_some()) {
            let is_first = self.origin_of(position).is_none();
            if is_first && self.line(position).count() > MAX_FALLBACKS_IN_LINE {
                let at = draft.fallback.as_ref().map(|(_, at)| at.clone()).unwrap_or_default();
                let message = format!("at most {MAX_FALLBACKS_IN_LINE} nodes stand in for one after another");
                problems.add(at, "too_many", message);
            }
        }
    }

    /// The circle of fallbacks that the node is on, if any.
    fn circle_of(&self, position: usize) -> Vec<usize> {
        let mut circle = vec![position];
        let mut next = self.of(position);
        while let Some(member) = next.filter(|member| *member != position) {
            if circle.len() > self.of.len() {
                return Vec::new();
            }
            circle.push(member);
            next = self.of(member);
        }
        if next.is_some() { circle } else { Vec::new() }
    }

    /// Whether no node has one.
    pub(super) fn is_empty(&self) -> bool {
        self.of.iter().all(Option::is_none)
    }

    /// The fallback of a node.
    pub(super) fn of(&self, position: usize) -> Option<usize> {
        self.of.get(position).copied().flatten()
    }

    /// The node that this one is the fallback of.
    pub(super) fn origin_of(&self, position: usize) -> Option<usize> {
        self.origins.get(position).copied().flatten()
    }

    /// Who stands in for a node, and for who stands in for it, and so on.
    pub(super) fn line(&self, position: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.of(position), |next| self.of(*next))
    }

    /// The needs with those that fallbacks bring.
    pub(super) fn imply(&self, written: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let all = |(position, written): (usize, &Vec<usize>)| {
            let mut needs = Vec::with_capacity(written.len());
            let own = written.iter().copied().chain(self.origin_of(position));
            for need in own.flat_map(|need| {
                // who stands in for a need later than this node itself does comes after it
                std::iter::once(need).chain(self.line(need).take_while(|next| *next != position))
            }) {
                if !needs.contains(&need) {
                    needs.push(need);
                }
            }
            needs
        };
        written.iter().enumerate().map(all).collect()
    }

    /// Refuses fallbacks that come before the nodes that they stand in for. `graph` knows only the written needs.
    /// Whether there were none.
    pub(super) fn come_after(&self, drafts: &[Draft<'_>], graph: &Graph, problems: &mut Problems) -> bool {
        let mut all = true;
        for (position, draft) in drafts.iter().enumerate() {
            let Some((fallback, (key, at))) = self.of(position).zip(draft.fallback.as_ref()) else { continue };
            if graph.ancestors.get(position).is_some_and(|before| before.has(fallback)) {
                all = false;
                let message = format!("`{key}` comes before this node, and stands in for it only after it");
                problems.add(at, "needed_fallback", message);
            }
        }
        all
    }

    /// Where the fallback stands that makes a cycle of what was written without one.
    pub(super) fn cause_of(&self, cycle: &[usize], written: &[Vec<usize>], drafts: &[Draft<'_>]) -> Option<String> {
        let pairs = cycle.iter().zip(cycle.iter().skip(1).chain(cycle.first()));
        let mut implied =
            pairs.filter(|(position, next)| !written.get(**position).is_some_and(|needs| needs.contains(next)));
        let (position, next) = implied.next()?;
        let origin = self.origin_of(*position).filter(|origin| origin == next).or_else(|| self.origin_of(*next))?;
        drafts.get(origin)?.fallback.as_ref().map(|(_, at)| at.clone())
    }
}

/// Names the circle from its smallest key on, and points at what that node says.
fn explain_circle(circle: &[usize], drafts: &[Draft<'_>]) -> Problem {
    let mut members: Vec<&Draft<'_>> = circle.iter().filter_map(|position| drafts.get(*position)).collect();
    let smallest = members.iter().enumerate().min_by_key(|(_, draft)| draft.key).map_or(0, |(place, _)| place);
    members.rotate_left(smallest);
    let at = members.first().and_then(|first| first.fallback.as_ref()).map(|(_, at)| at.clone());
    let keys: Vec<&str> = members.iter().map(|draft| draft.key).chain(members.first().map(|draft| draft.key)).collect();
    let message = format!("these nodes stand in for each other in a circle: {}", keys.join(" → "));
    Problem::new(at.unwrap_or_else(|| "/nodes".to_owned()), "cycle", message)
}

impl Definition {
    /// Who stands in for a node when it fails, and for who stands in for it, and so on.
    pub fn stand_ins(&self, index: u32) -> impl Iterator<Item = u32> {
        let of = |index: u32| self.node(index).and_then(|node| node.fallback);
        std::iter::successors(of(index), move |next| of(*next))
    }

    /// The nodes that a node may stand in for, from the one that names it on.
    pub fn stands_in_for(&self, index: u32) -> impl Iterator<Item = u32> {
        let origin = |index: u32| self.node(index).and_then(|node| node.stands_in_for);
        std::iter::successors(origin(index), move |next| origin(*next))
    }

    /// The nodes on whose results an opening depends: those that it names, and those that may stand in for them.
    pub fn read_by<'o>(&'o self, opening: &'o Opening) -> impl Iterator<Item = u32> + 'o {
        opening.nodes.iter().flat_map(|index| std::iter::once(*index).chain(self.stand_ins(*index)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::workflow::{Syntax, parse, parse_value};

    fn keys(definition: &Definition, indexes: impl IntoIterator<Item = u32>) -> Vec<&str> {
        indexes.into_iter().map(|index| definition.node(index).unwrap().key.as_str()).collect()
    }

    #[test]
    fn who_needs_a_node_waits_for_all_that_may_stand_in_for_it() {
        let text = "workflow: w
nodes:
  a: { transform: 1, on_error: { fallback: b } }
  b: { needs: [q], transform: '{{ nodes.a.output.error.code }}', on_error: { fallback: c } }
  c: { transform: 1 }
  d: { needs: [a], transform: '{{ nodes.a.output }}', on_error: continue }
  e: { needs: [b], transform: 1 }
  q: { transform: 1 }
";
        let definition = parse(text, Syntax::Yaml).unwrap();
        let needs = |key: &str| keys(&definition, definition.node_by_key(key).unwrap().needs.iter().copied());
        assert_eq!((needs("a"), needs("b"), needs("c")), (vec![], vec!["q", "a"], vec!["b"]));
        assert_eq!((needs("d"), needs("e")), (vec!["a", "b", "c"], vec!["b", "c"]));
        let index = |key: &str| definition.node_by_key(key).unwrap().index;
        assert_eq!(keys(&definition, definition.stand_ins(index("a"))), ["b", "c"]);
        assert_eq!(keys(&definition, definition.stands_in_for(index("c"))), ["b", "a"]);
        let read = Opening { nodes: vec![index("a"), index("q")], ..Opening::default() };
        assert_eq!(keys(&definition, definition.read_by(&read)), ["a", "b", "c", "q"]);
        let reach = definition.reach_of_end(index("b"));
        assert_eq!(keys(&definition, reach.before), ["a", "b"], "and those of what its end may end");
        assert!(definition.outputs.keys().eq(["d", "e"]), "who stands in is read as the node that failed");
        assert_eq!(parse_value(&definition.source).unwrap(), definition);
    }

    #[test]
    fn a_leaf_stays_one_whoever_stands_in_for_it() {
        let text = "workflow: w\nnodes: { a: { transform: 1, on_error: { fallback: b } }, b: { transform: 1 } }";
        let definition = parse(text, Syntax::Yaml).unwrap();
        assert!(definition.outputs.keys().eq(["a"]));
    }

    #[test]
    fn a_line_of_fallbacks_has_an_end() {
        let text = |count: usize| {
            let node =
                |number: usize| format!("  n{number}: {{ transform: 1, on_error: {{ fallback: n{} }} }}\n", number + 1);
            let nodes: String = (0..count).map(node).collect();
            format!("workflow: w\nnodes:\n{nodes}  n{count}: {{ transform: 1 }}\n")
        };
        assert!(parse(&text(MAX_FALLBACKS_IN_LINE), Syntax::Yaml).is_ok());
        let problems = parse(&text(MAX_FALLBACKS_IN_LINE + 1), Syntax::Yaml).unwrap_err();
        let shown: Vec<_> = problems.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect();
        assert_eq!(shown, [("/nodes/n0/on_error/fallback", "too_many")]);
    }

    #[test]
    fn what_is_taken_from_an_output_may_be_its_error_or_of_a_stand_in() {
        let text = |field: &str| {
            format!(
                "workflow: w
agents: {{ x: {{ instructions: i, model: m, output: {{ schema: {{ properties: {{ good: {{}} }} }} }} }} }}
nodes:
  a: {{ agent: x, prompt: p, on_error: {{ fallback: b }} }}
  b: {{ agent: x, prompt: '{{{{ nodes.a.output.error.code }}}}', output: {{ schema: {{ properties: {{ other: {{}} }} }} }} }}
  c: {{ needs: [a], transform: '{{{{ nodes.a.output.{field} }}}}' }}
"
            )
        };
        for (field, is_known) in [("good", true), ("other", true), ("error", true), ("odd", false)] {
            assert_eq!(parse(&text(field), Syntax::Yaml).is_ok(), is_known, "{field}");
        }
    }
}
