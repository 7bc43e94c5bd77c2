//! Puts a definition together: its own fields, its nodes, and what the nodes say about each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::fallback::Fallbacks;
use super::graph::{self, Graph};
use super::hears::Hears;
use super::layers;
use super::memory::Kept;
use super::name::{IDENTIFIER, WORKFLOW};
use super::output;
use super::output_path::OutputPath;
use super::problem::{Problem, Problems, did_you_mean};
use super::reader::{Entry, Fields, wrong_type};
use super::scan::Mention;
use super::schema::{self, InputCheck};
use super::step::{self, Draft, Frame, Surroundings};
use super::{Action, Definition, Node, OnError, Opening, Wait};
use crate::limits::{MAX_AGENTS, MAX_DEADLINE_MS, MAX_DESCRIPTION_BYTES, MAX_NODES, MAX_OUTPUTS};

/// The members of a template's `run` and `task`.
const RUN_KEYS: [&str; 1] = ["id"];
const TASK_KEYS: [&str; 1] = ["attempt"];

/// How many nodes of a cycle a message names.
const SHOWN_OF_CYCLE: usize = 12;

/// Builds the definition. `None` only if `problems` says why; but there may be problems with `Some` as well.
pub(super) fn build(value: &Value, problems: &mut Problems) -> Option<Definition> {
    let mut fields = Fields::open(value, String::new(), problems)?;
    let name = fields.name("workflow", &WORKFLOW);
    if !fields.has_any(&["workflow"]) {
        fields.missing("workflow", "it is the name of the workflow");
    }
    let description = fields.text("description", MAX_DESCRIPTION_BYTES).map(str::to_owned);
    let inputs = fields.value("inputs");
    let check = inputs.map_or(InputCheck::ANY_MAPPING, |schema| {
        let at = fields.at("inputs");
        InputCheck::compile(schema, &at, fields.problems)
    });
    let budget = step::read_budget(&mut fields, "it is the most a mission may spend");
    let flat_fee = fields.credits("flat_fee");
    let deadline_ms = fields.duration_ms("deadline", 1, MAX_DEADLINE_MS);
    let drafts = read_nodes(&mut fields);
    let nodes = link(&drafts, inputs, fields.problems);
    let outputs = read_outputs(&mut fields, &drafts);
    fields.close(&["concurrency", "on_error"]);

    let mut source = value.clone();
    source.sort_all_objects();
    let nodes = nodes?;
    let outputs = outputs.unwrap_or_else(|| default_outputs(&nodes, &drafts));
    let inputs = source.get("inputs").cloned();
    let name = name?.to_owned();
    let kept = Kept::of(&nodes);
    let size = u64::try_from(nodes.len()).unwrap_or(u64::MAX);
    Some(Definition {
        name,
        description,
        inputs,
        budget,
        flat_fee,
        deadline_ms,
        nodes,
        outputs,
        size,
        depth: 1,
        source,
        check,
        kept,
    })
}

fn read_nodes<'v>(fields: &mut Fields<'v, '_>) -> Vec<Draft<'v>> {
    let defaults = step::read_defaults(fields);
    let agents: Vec<Entry<'v>> = fields.entries("agents", &IDENTIFIER, MAX_AGENTS);
    let schemas = output::read_schemas(fields);
    let agent = |entry: &Entry<'v>| (entry.name, step::read_agent_entry(entry, &schemas, fields.problems));
    let agents = agents.iter().map(agent).collect();
    let frame = Frame {
        workflow: fields.value("workflow"),
        defaults: fields.value("defaults"),
        agents: fields.value("agents"),
        schemas: fields.value("schemas"),
    };
    let around = Surroundings { defaults, agents, schemas, frame };
    let none = match fields.value("nodes") {
        None => true,
        Some(nodes) => nodes.as_object().is_some_and(serde_json::Map::is_empty),
    };
    if none {
        let pointer = fields.at("nodes");
        fields.problems.add(pointer, "no_nodes", "a workflow has at least one node");
    }
    let entries = fields.entries("nodes", &IDENTIFIER, MAX_NODES);
    entries.into_iter().filter_map(|entry| step::read(entry, &around, fields.problems)).collect()
}

/// Resolves what nodes say about each other. `None` if there is no graph or a node could not be made out.
fn link(drafts: &[Draft<'_>], inputs: Option<&Value>, problems: &mut Problems) -> Option<Vec<Node>> {
    let position_of: BTreeMap<&str, usize> =
        drafts.iter().enumerate().map(|(position, draft)| (draft.key, position)).collect();
    let needs: Vec<Vec<usize>> = drafts.iter().map(|draft| resolve_needs(draft, &position_of, problems)).collect();
    let mut rank = vec![0_usize; drafts.len()];
    for (ranked, position) in position_of.values().enumerate() {
        if let Some(place) = rank.get_mut(*position) {
            *place = ranked;
        }
    }
    let fallbacks = Fallbacks::resolve(drafts, &position_of, problems);
    let graph = link_with(&fallbacks, &needs, &rank, drafts, problems);
    let mut mentioned = |of: for<'a, 'v> fn(&'a Draft<'v>) -> &'a [(Mention<'v>, String)]| -> Vec<BTreeSet<usize>> {
        let used = |(position, draft)| {
            let direct: Vec<usize> =
                needs.get(position).into_iter().flatten().copied().chain(fallbacks.origin_of(position)).collect();
            let (graph, fallbacks) = (graph.as_ref(), &fallbacks);
            let known = Known { drafts, position_of: &position_of, graph, fallbacks, inputs, position, direct };
            of(draft).iter().flat_map(|(mention, at)| known.check(mention, at, problems)).collect()
        };
        drafts.iter().enumerate().map(used).collect()
    };
    let (uses, decides) = (mentioned(|draft| &draft.mentions), mentioned(|draft| &draft.opening));
    let (spreads, judges) = (mentioned(|draft| &draft.loops.spread), mentioned(|draft| &draft.loops.verdict));
    number(drafts, &Edges { needs: fallbacks.imply(&needs), fallbacks, uses, decides, spreads, judges }, &graph?)
}

/// The graph of the written needs and of those that fallbacks bring. `None` where there is none, and a problem says why.
fn link_with(
    fallbacks: &Fallbacks,
    written: &[Vec<usize>],
    rank: &[usize],
    drafts: &[Draft<'_>],
    problems: &mut Problems,
) -> Option<Graph> {
    let cycles = match graph::link(written, rank) {
        Ok(plain) if fallbacks.is_empty() => return Some(plain),
        Ok(plain) if !fallbacks.come_after(drafts, &plain, problems) => return None,
        Ok(_) => match graph::link(&fallbacks.imply(written), rank) {
            Ok(graph) => return Some(graph),
            Err(cycles) => cycles,
        },
        Err(cycles) => cycles,
    };
    for cycle in &cycles {
        let mut problem = explain_cycle(cycle, drafts);
        if let Some(at) = fallbacks.cause_of(cycle, written, drafts) {
            problem.pointer = at;
            problem.message.push_str("; a fallback comes after its node and before what needs that node");
        }
        problems.push(problem);
    }
    None
}

/// What nodes say about each other, by position.
struct Edges {
    needs: Vec<Vec<usize>>,
    fallbacks: Fallbacks,
    /// The nodes that a node's templates read.
    uses: Vec<BTreeSet<usize>>,
    /// The nodes by which it is decided whether a node runs.
    decides: Vec<BTreeSet<usize>>,
    /// The nodes that tell the items of a map.
    spreads: Vec<BTreeSet<usize>>,
    /// The nodes that decide whether a loop is over.
    judges: Vec<BTreeSet<usize>>,
}

fn resolve_needs(draft: &Draft<'_>, position_of: &BTreeMap<&str, usize>, problems: &mut Problems) -> Vec<usize> {
    let mut needs = Vec::with_capacity(draft.needs.len());
    for (need, at) in &draft.needs {
        match position_of.get(need) {
            Some(_) if *need == draft.key => problems.add(at, "self_need", format!("`{need}` needs itself")),
            Some(position) => needs.push(*position),
            None => problems.push(unknown_node(need, at, position_of.keys().copied())),
        }
    }
    needs
}

pub(super) fn unknown_node<'k>(key: &str, at: &str, keys: impl Iterator<Item = &'k str>) -> Problem {
    let shown: String = key.chars().take(64).collect();
    let problem = Problem::new(at, "unknown_node", format!("there is no node `{shown}`"));
    problem.with_hint(did_you_mean(key, keys))
}

/// Names the cycle from its smallest key on, and points at that node's need.
fn explain_cycle(cycle: &[usize], drafts: &[Draft<'_>]) -> Problem {
    let mut members: Vec<&Draft<'_>> = cycle.iter().filter_map(|position| drafts.get(*position)).collect();
    let smallest = members.iter().enumerate().min_by_key(|(_, draft)| draft.key).map_or(0, |(place, _)| place);
    members.rotate_left(smallest);
    let mut keys: Vec<&str> = members.iter().map(|draft| draft.key).take(SHOWN_OF_CYCLE).collect();
    if members.len() > SHOWN_OF_CYCLE {
        keys.push("…");
    }
    keys.extend(members.first().map(|draft| draft.key));
    let pointer = members.first().and_then(|first| {
        let next = members.get(1)?.key;
        first.needs.iter().find(|(need, _)| *need == next).map(|(_, at)| at.clone())
    });
    let message = format!("these nodes need each other in a circle: {}", keys.join(" → "));
    Problem::new(pointer.unwrap_or_else(|| "/nodes".to_owned()), "cycle", message)
}

/// What the templates of one node may refer to.
struct Known<'k> {
    drafts: &'k [Draft<'k>],
    position_of: &'k BTreeMap<&'k str, usize>,
    graph: Option<&'k Graph>,
    inputs: Option<&'k Value>,
    fallbacks: &'k Fallbacks,
    position: usize,
    direct: Vec<usize>,
}

impl Known<'_> {
    /// The nodes whose outputs the mention reads.
    fn check(&self, mention: &Mention<'_>, at: &str, problems: &mut Problems) -> Vec<usize> {
        match (mention.root, mention.key) {
            ("nodes", None) => return self.direct.clone(),
            ("nodes", Some(key)) => return self.check_node(key, mention, at, problems).into_iter().collect(),
            ("inputs", Some(key)) => {
                if let Some(schema) = self.inputs.filter(|schema| !schema::may_have(schema, key)) {
                    let message = format!("line {}: `inputs` has no property `{key}` in its schema", mention.line);
                    let hint = did_you_mean(key, schema::listed(schema));
                    problems.push(Problem::new(at, "unknown_input", message).with_hint(hint));
                }
            }
            ("run", Some(key)) if !RUN_KEYS.contains(&key) => problems.push(unknown_member(mention, key, at, "id")),
            ("task", Some(key)) if !TASK_KEYS.contains(&key) => {
                problems.push(unknown_member(mention, key, at, "attempt"));
            }
            _ => {}
        }
        Vec::new()
    }

    fn check_node(&self, key: &str, mention: &Mention<'_>, at: &str, problems: &mut Problems) -> Option<usize> {
        let line = mention.line;
        let Some(position) = self.position_of.get(key).copied() else {
            let mut problem = unknown_node(key, at, self.position_of.keys().copied());
            problem.message = format!("line {line}: {}", problem.message);
            problems.push(problem);
            return None;
        };
        if let Some(then) = mention.then.filter(|then| *then != "output") {
            let message = format!("line {line}: `nodes.{key}.{then}` does not exist");
            let hint = format!("write `nodes.{key}.output.{then}`");
            problems.push(Problem::new(at, "unknown_variable", message).with_hint(hint));
        }
        if let Some(field) = mention.field.filter(|_| mention.then == Some("output"))
            && let Some(problem) = self.unknown_field(position, field, at)
        {
            problems.push(Problem { message: format!("line {line}: {}", problem.message), ..problem });
        }
        if position == self.position {
            problems.add(at, "own_output", format!("line {line}: a node cannot use its own output"));
            return None;
        }
        let ancestors = self.graph.and_then(|graph| graph.ancestors.get(self.position))?;
        if !ancestors.has(position) {
            let message = format!("line {line}: `{key}` does not come before this node");
            let hint = format!("add `{key}` to `needs`");
            problems.push(Problem::new(at, "not_upstream", message).with_hint(hint));
            return None;
        }
        Some(position)
    }

    /// The problem with a field that neither the node's output nor that of who stands in for it can have. A failure has
    /// an `error`.
    fn unknown_field(&self, position: usize, field: &str, at: &str) -> Option<Problem> {
        let draft = self.drafts.get(position)?;
        if field == "error" && matches!(draft.on_error, OnError::Continue | OnError::Fallback) {
            return None;
        }
        let problem = unknown_field(draft, field, at)?;
        let mut others = self.fallbacks.line(position).filter_map(|other| self.drafts.get(other));
        others.all(|other| unknown_field(other, field, at).is_some()).then_some(problem)
    }
}

/// The problem with a field that a node's output, as its schema knows it, can't have.
fn unknown_field(draft: &Draft<'_>, field: &str, at: &str) -> Option<Problem> {
    let Some(Action::Agent(step)) = &draft.action else { return None };
    let output = step.output.as_ref().filter(|output| !schema::may_have(&output.schema, field))?;
    let message = format!("the output of `{}` has no property `{field}` in its schema", draft.key);
    Some(Problem::new(at, "unknown_output", message).with_hint(did_you_mean(field, schema::listed(&output.schema))))
}

fn unknown_member(mention: &Mention<'_>, key: &str, at: &str, known: &str) -> Problem {
    let message = format!("line {}: `{}.{key}` does not exist", mention.line, mention.root);
    Problem::new(at, "unknown_variable", message).with_hint(format!("known here: {known}"))
}

/// Turns drafts into nodes, each at the place of its index.
fn number(drafts: &[Draft<'_>], edges: &Edges, graph: &Graph) -> Option<Vec<Node>> {
    let mut index_of = vec![0_u32; drafts.len()];
    for (index, position) in graph.order.iter().enumerate() {
        *index_of.get_mut(*position)? = u32::try_from(index).ok()?;
    }
    let dependents = graph::dependents(&edges.needs);
    let indexes = |positions: &[usize]| -> Option<Vec<u32>> {
        positions.iter().map(|position| index_of.get(*position).copied()).collect()
    };
    let ascending = |positions: &BTreeSet<usize>| -> Option<Vec<u32>> {
        let mut indexes = indexes(&positions.iter().copied().collect::<Vec<_>>())?;
        indexes.sort_unstable();
        Some(indexes)
    };
    let node = |position: &usize| {
        let draft = drafts.get(*position)?;
        let mut dependents = indexes(dependents.get(*position)?)?;
        dependents.sort_unstable();
        let opening = |mentions: &[(Mention<'_>, String)], edges: &[BTreeSet<usize>]| {
            let input = mentions.iter().any(|(mention, _)| mention.root == "inputs");
            Some(Opening { input, nodes: ascending(edges.get(*position)?)?, signals: false })
        };
        let signals = matches!(draft.action, Some(Action::Wait(Wait::Signal(_))));
        let mut node = Node {
            key: draft.key.to_owned(),
            index: index_of.get(*position).copied()?,
            needs: indexes(edges.needs.get(*position)?)?,
            dependents,
            uses: ascending(edges.uses.get(*position)?)?,
            hears: Hears::of(&draft.mentions),
            when: draft.when.map(str::to_owned),
            opening: Opening { signals, ..opening(&draft.opening, &edges.decides)? },
            spread: opening(&draft.loops.spread, &edges.spreads)?,
            verdict: opening(&draft.loops.verdict, &edges.judges)?,
            action: draft.action.clone()?,
            cache: draft.cache.clone(),
            concurrency: draft.concurrency.clone(),
            pool: draft.pool.clone(),
            priority: draft.priority,
            retry: draft.retry,
            timeout_ms: draft.timeout_ms,
            deadline_ms: draft.deadline_ms,
            on_error: draft.on_error,
            fallback: indexes(edges.fallbacks.of(*position).as_slice())?.first().copied(),
            stands_in_for: indexes(edges.fallbacks.origin_of(*position).as_slice())?.first().copied(),
            units: draft.units.clone(),
            budget: draft.budget,
            layers: Vec::new(),
        };
        node.layers = layers::put_together(&draft.loops.layers, &node);
        Some(node)
    };
    graph.order.iter().map(node).collect()
}

fn read_outputs(fields: &mut Fields<'_, '_>, drafts: &[Draft<'_>]) -> Option<BTreeMap<String, OutputPath>> {
    fields.value("outputs")?;
    let mut outputs = BTreeMap::new();
    for entry in fields.entries("outputs", &IDENTIFIER, MAX_OUTPUTS) {
        let Some(text) = entry.value.as_str() else {
            fields.problems.push(wrong_type(entry.at, "a path such as nodes.summary.output", entry.value));
            continue;
        };
        let Some(path) = OutputPath::parse(text) else {
            let message = "an output is a path such as nodes.summary.output or nodes.summary.output.title";
            fields.problems.add(entry.at, "invalid_path", message);
            continue;
        };
        match drafts.iter().find(|draft| draft.key == path.nodes()) {
            None => fields.problems.push(unknown_node(path.nodes(), &entry.at, drafts.iter().map(|draft| draft.key))),
            Some(draft) => {
                // what stands in for the node may hand on something else
                let field = path.field().filter(|_| draft.fallback.is_none());
                if let Some(problem) = field.and_then(|field| unknown_field(draft, field, &entry.at)) {
                    fields.problems.push(problem);
                }
            }
        }
        outputs.insert(entry.name.to_owned(), path);
    }
    Some(outputs)
}

/// The outputs of the nodes that nothing was written to need. Who stands in for another node is read as that one.
fn default_outputs(nodes: &[Node], drafts: &[Draft<'_>]) -> BTreeMap<String, OutputPath> {
    let needed: BTreeSet<&str> = drafts.iter().flat_map(|draft| &draft.needs).map(|(key, _)| *key).collect();
    let is_last = |node: &&Node| node.stands_in_for.is_none() && !needed.contains(node.key.as_str());
    nodes.iter().filter(is_last).map(|node| (node.key.clone(), OutputPath::whole(&node.key))).collect()
}
