//! Reads what makes one node many tasks: `map`, `repeat` and `review`.
//!
//! A node may have all three: each item of a map is repeated, each repetition is reviewed. They are layers around what
//! the node does, from the outside in. How tasks are made of them is decided in `flow`.

use serde_json::Value;

use super::condition;
use super::name::IDENTIFIER;
use super::nested::Nested;
use super::output::OutputSchema;
use super::plan::{self, Plan};
use super::reader::Fields;
use super::scan::{Mention, RESERVED, ROOTS};
use super::step::{self, Seen, Surroundings};
use super::template;
use super::{Action, AgentStep, Node};
use crate::limits::{MAX_CONDITION_BYTES, MAX_PARALLEL_ITEMS, MAX_PROMPT_BYTES, MAX_ROUNDS};

/// How many items of a map are worked on at once unless the definition says otherwise.
const DEFAULT_PARALLEL: u32 = 16;

/// One way in which a node becomes many tasks.
#[derive(Debug, Clone, PartialEq)]
pub enum Layer {
    /// Once for each item of a list.
    Map(Map),
    /// Again until it is good.
    Repeat(Repeat),
    /// Again until a reviewer accepts it.
    Review(Review),
    /// Once, to plan; then the tasks of the plan.
    Plan(Plan),
    /// Once, to compute an input; then the tasks of another workflow.
    Workflow(Nested),
}

impl Layer {
    /// Its key in the definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Map(_) => "map",
            Self::Repeat(_) => "repeat",
            Self::Review(_) => "review",
            Self::Plan(_) => "plan",
            Self::Workflow(_) => "workflow",
        }
    }

    /// What runs because of it besides the node itself: the reviewer's part, the steps that a plan may have, the nodes
    /// of another workflow.
    pub fn others(&self) -> &[Node] {
        match self {
            Self::Review(review) => std::slice::from_ref(&*review.judge),
            Self::Plan(plan) => &plan.staff,
            Self::Workflow(nested) => nested.of.as_ref().map_or(&[], |(_, definition)| &definition.nodes),
            Self::Map(_) | Self::Repeat(_) => &[],
        }
    }

    /// Whether what it makes is a workflow inside of the run, besides a first task.
    pub fn is_scope(&self) -> bool {
        matches!(self, Self::Plan(_) | Self::Workflow(_))
    }

    pub(super) fn nested_mut(&mut self) -> Option<&mut Nested> {
        if let Self::Workflow(nested) = self { Some(nested) } else { None }
    }
}

impl Node {
    /// The workflow that runs in place of the node, where one does.
    pub fn nested(&self) -> Option<&Nested> {
        match self.layers.last() {
            Some(Layer::Workflow(nested)) => Some(nested),
            _ => None,
        }
    }

    /// The kind of node, as its key in the definition.
    pub fn kind(&self) -> &'static str {
        self.layers.last().filter(|layer| layer.is_scope()).map_or_else(|| self.action.kind(), Layer::kind)
    }

    /// The node and everything that runs because of it, nodes of other workflows included.
    pub fn all_work(&self) -> Vec<&Self> {
        let mut work = vec![self];
        for other in self.layers.iter().flat_map(Layer::others) {
            work.extend(other.all_work());
        }
        work
    }
}

/// `map`: the node is done once for each item of a list, and hands on the list of what came of them, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// The expression that gives the items.
    pub over: String,
    /// What an item is called in templates.
    pub item: String,
    /// The template of an item's key; without one its number is its key.
    pub key: Option<String>,
    /// The expression that gives the keys of the items which must be over before an item begins.
    pub after: Option<String>,
    /// How many items may be under way at once.
    pub max_parallel: u32,
    /// What becomes of the map when an item fails for good.
    pub on_item_error: OnItemError,
}

/// What becomes of a map when one of its items fails for good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnItemError {
    /// No further item begins and the node fails.
    #[default]
    FailFast,
    /// The item's output is null.
    Skip,
    /// The item's output is `{"error": {"class", "code", "message"}}`.
    Continue,
}

/// `repeat`: the node is done again until an expression over its output holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The expression; it sees `output` and `repeat.iteration` besides what conditions see.
    pub until: String,
    /// The most iterations.
    pub max: u32,
    /// What happens when the last one does not satisfy either.
    pub on_max: OnMax,
}

/// `review`: another agent judges what the node made, which is made again until it is accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// The node as its reviewer does it: an agent's step.
    pub judge: Box<Node>,
    /// The expression over the reviewer's answer: its fields are variables.
    pub accept: String,
    /// The most rounds of a draft and its review.
    pub max: u32,
    /// What happens when the last draft is not accepted either.
    pub on_max: OnMax,
}

/// What happens when a loop comes to its last round without what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMax {
    /// What was made last is taken.
    #[default]
    Accept,
    /// The node fails.
    Fail,
}

/// The judge of a review before its node is put together.
#[derive(Debug, Clone)]
pub(super) struct Judge(pub(super) Box<AgentStep>);

/// A layer before its node is put together.
#[derive(Debug, Clone)]
pub(super) enum Draft {
    Map(Map),
    Repeat(Repeat),
    Review { judge: Judge, accept: String, max: u32, on_max: OnMax },
    Plan(plan::Draft),
    Workflow(Nested),
}

/// What a node's layers say.
#[derive(Debug, Default)]
pub(super) struct Loops<'v> {
    /// From the outside in.
    pub(super) layers: Vec<Draft>,
    /// What must be known to tell the items of the map.
    pub(super) spread: Vec<(Mention<'v>, String)>,
    /// What must be known to tell whether a loop is over.
    pub(super) verdict: Vec<(Mention<'v>, String)>,
}

/// Reads `map`, `repeat` and `review`. The names that they bind, and what the reviewer is told, go to `seen`.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, around: &Surroundings<'v>, seen: &mut Seen<'v>) -> Loops<'v> {
    let mut loops = Loops::default();
    read_map(fields, &mut loops, seen);
    read_repeat(fields, &mut loops, seen);
    read_review(fields, around, &mut loops, seen);
    loops
}

fn read_map<'v>(fields: &mut Fields<'v, '_>, loops: &mut Loops<'v>, seen: &mut Seen<'v>) {
    let Some(mut section) = fields.section("map") else { return };
    let item = section.name("as", &IDENTIFIER).unwrap_or("item");
    let is_taken = RESERVED.contains(&item) || ["map", "repeat", "review", "output", "loop"].contains(&item);
    if is_taken || template::environment().globals().any(|(name, _)| name == item) {
        let at = section.at("as");
        section.problems.add(at, "reserved_name", format!("`{item}` means something else in templates"));
    }
    seen.roots.extend([item, "map"]);
    let over = if section.has_any(&["over"]) {
        expression(&mut section, "over", &[], &mut loops.spread)
    } else {
        section.missing("over", "it is the expression that gives the list of items, e.g. `nodes.plan.output.files`");
        None
    };
    let key = section.text("key", MAX_CONDITION_BYTES);
    if let Some(key) = key {
        let at = section.at("key");
        condition::read_template_with(key, &at, &[item, "map"], &mut loops.spread, section.problems);
    }
    let after = expression(&mut section, "after", &[item, "map"], &mut loops.spread);
    let max_parallel = section.whole("max_parallel", 1..=MAX_PARALLEL_ITEMS).and_then(|most| u32::try_from(most).ok());
    let words =
        [("fail_fast", OnItemError::FailFast), ("skip", OnItemError::Skip), ("continue", OnItemError::Continue)];
    let on_item_error = section.choice("on_item_error", &words).unwrap_or_default();
    section.close(&["budget"]);
    if let Some(over) = over {
        loops.layers.push(Draft::Map(Map {
            over,
            item: item.to_owned(),
            key: key.map(str::to_owned),
            after,
            max_parallel: max_parallel.unwrap_or(DEFAULT_PARALLEL),
            on_item_error,
        }));
    }
}

fn read_repeat<'v>(fields: &mut Fields<'v, '_>, loops: &mut Loops<'v>, seen: &mut Seen<'v>) {
    let outer: Vec<&str> = seen.roots.iter().copied().skip(ROOTS.len()).collect();
    let Some(mut section) = fields.section("repeat") else { return };
    seen.roots.push("repeat");
    let known = [outer.as_slice(), &["repeat", "output"]].concat();
    let until = if section.has_any(&["until"]) {
        expression(&mut section, "until", &known, &mut loops.verdict)
    } else {
        section.missing("until", "it is the expression that ends the loop, e.g. `output.done`");
        None
    };
    let max = rounds(&mut section, "it is the most iterations");
    let on_max = on_max(&mut section);
    section.close(&[]);
    if let (Some(until), Some(max)) = (until, max) {
        loops.layers.push(Draft::Repeat(Repeat { until, max, on_max }));
    }
}

fn read_review<'v>(fields: &mut Fields<'v, '_>, around: &Surroundings<'v>, loops: &mut Loops<'v>, seen: &mut Seen<'v>) {
    let asked = fields.value("prompt").and_then(Value::as_str);
    let outer: Vec<&str> = seen.roots.iter().copied().skip(ROOTS.len()).collect();
    let Some(mut section) = fields.section("review") else { return };
    seen.roots.push("review");
    let own = section.text("prompt", MAX_PROMPT_BYTES);
    if let Some(own) = own {
        let at = section.at("prompt");
        step::read_template(own, &at, seen, section.problems);
    }
    let prompt = own.map_or_else(|| usual_prompt(asked), str::to_owned);
    let judge = step::read_reviewer(&mut section, around, prompt);
    let answer = judge.as_ref().and_then(|judge| judge.output.as_ref());
    let accept = if section.has_any(&["accept"]) {
        // without a reviewer nobody knows what it answers
        let is_known = section.value("accept").is_some() && judge.is_some();
        is_known.then(|| read_accept(&mut section, &outer, answer, loops)).flatten()
    } else {
        section.missing("accept", "it is the expression over the reviewer's answer, e.g. `verdict == 'LGTM'`");
        None
    };
    let max = rounds(&mut section, "it is the most rounds of a draft and its review");
    let on_max = on_max(&mut section);
    section.close(&[]);
    if let (Some(judge), Some(accept), Some(max)) = (judge, accept, max) {
        loops.layers.push(Draft::Review { judge: Judge(Box::new(judge)), accept, max, on_max });
    }
}

/// Reads `accept`: the fields of the reviewer's answer, as far as its schema lists them, are variables.
fn read_accept<'v>(
    section: &mut Fields<'v, '_>,
    outer: &[&str],
    answer: Option<&OutputSchema>,
    loops: &mut Loops<'v>,
) -> Option<String> {
    let listed: Vec<String> = answer.map(OutputSchema::fields).unwrap_or_default();
    let fields: Vec<&str> = listed.iter().map(String::as_str).collect();
    let known = [outer, &["review", "output"], &fields].concat();
    expression(section, "accept", &known, &mut loops.verdict)
}

/// What a reviewer is told unless the definition says otherwise: what was asked, and the draft.
fn usual_prompt(asked: Option<&str>) -> String {
    let draft = "# The draft\n\n{{ review.draft }}\n";
    match asked {
        Some(asked) => {
            format!("Review a draft that was made for the following task.\n\n# The task\n\n{asked}\n\n{draft}")
        }
        None => format!("Review this draft.\n\n{draft}"),
    }
}

fn rounds(section: &mut Fields<'_, '_>, what: &str) -> Option<u32> {
    if !section.has_any(&["max"]) {
        section.missing("max", what);
    }
    section.whole("max", 1..=MAX_ROUNDS).and_then(|max| u32::try_from(max).ok())
}

fn on_max(section: &mut Fields<'_, '_>) -> OnMax {
    section.choice("on_max", &[("accept", OnMax::Accept), ("fail", OnMax::Fail)]).unwrap_or_default()
}

/// Reads an expression that may use `known` besides what conditions see.
fn expression<'v>(
    section: &mut Fields<'v, '_>,
    key: &'static str,
    known: &[&str],
    mentions: &mut Vec<(Mention<'v>, String)>,
) -> Option<String> {
    let text = section.text(key, MAX_CONDITION_BYTES)?;
    let at = section.at(key);
    condition::read_expression(text, key, &at, known, mentions, section.problems).then(|| text.to_owned())
}

/// The layers of a node, with what other agents do of it made of the node itself.
pub(super) fn put_together(drafts: &[Draft], node: &Node) -> Vec<Layer> {
    let part = |name: &str, step: &AgentStep| Node {
        key: format!("{}.{name}", node.key),
        dependents: Vec::new(),
        when: None,
        action: Action::Agent(step.clone()),
        pool: step::AGENT_POOL.to_owned(),
        units: std::collections::BTreeMap::new(),
        layers: Vec::new(),
        ..node.clone()
    };
    let layer = |draft: &Draft| match draft {
        Draft::Map(map) => Layer::Map(map.clone()),
        Draft::Repeat(repeat) => Layer::Repeat(repeat.clone()),
        Draft::Review { judge, accept, max, on_max } => {
            let judge = Box::new(part("review", &judge.0));
            Layer::Review(Review { judge, accept: accept.clone(), max: *max, on_max: *on_max })
        }
        Draft::Plan(draft) => Layer::Plan(Plan {
            form: draft.form.clone(),
            staff: draft.staff.iter().map(|step| part(&step.agent, step)).collect(),
        }),
        Draft::Workflow(nested) => Layer::Workflow(nested.clone()),
    };
    drafts.iter().map(layer).collect()
}
