//! Workflows as people write them, and what the engine makes of them.
//!
//! A definition is YAML or JSON text. [`parse`] reads it strictly (`strict`), takes it apart field by field
//! (`reader`, `definition`, `step`), compiles the schema of its inputs (`schema`), checks its templates
//! (`template`, `scan`) and links its nodes to a graph (`graph`). Either everything holds and there is a
//! [`Definition`], or all that is wrong comes back as [`Problem`]s with JSON pointers.
//!
//! Nodes are numbered in an order in which they could run, the smaller key first among equals. The numbers depend
//! on the content alone, not on the order in which it was written or stored.
//!
//! A new kind of node is a variant of [`Action`] and a reader in `step`; nothing here knows how a step is done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

use crate::credits::Ucr;
use crate::retry::RetryPolicy;

mod approval;
mod cache;
mod concurrency;
pub mod condition;
mod definition;
mod duration;
mod exec;
mod fallback;
mod graph;
mod hears;
mod http;
mod json_schema;
mod layers;
mod mcp_name;
mod memory;
mod misplaced;
mod models;
mod name;
mod nested;
mod on_error;
mod output;
mod output_path;
mod plan;
mod problem;
mod reach;
mod reader;
mod retry_on;
mod scan;
mod schema;
mod signal;
mod spread;
mod step;
mod strict;
pub mod template;
mod wait;

#[cfg(test)]
mod broken_scope_tests;
#[cfg(test)]
mod broken_tests;
#[cfg(test)]
mod mutation_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod sample_tests;

pub use approval::{Approval, OnExpire, OnReject};
pub use cache::Cache;
pub use concurrency::Concurrency;
pub use duration::{parse_ms as parse_duration_ms, show as show_duration_ms};
pub use exec::ExecStep;
pub use hears::Hears;
pub use http::{HttpBody, HttpHeader, HttpMethod, HttpStep};
pub use json_schema::json_schema;
pub use layers::{Layer, Map, OnItemError, OnMax, Repeat, Review};
pub use mcp_name::{is_mcp_server, mcp_tool};
pub use memory::{Memory, MemoryKind};
pub use nested::{Nested, ParentClose, WorkflowRef};
pub use on_error::OnError;
pub use output::OutputSchema;
pub use output_path::OutputPath;
pub use plan::{Plan, PlanForm};
pub use problem::Problem;
pub use reach::{Opening, Reach};
pub use schema::Schema;
pub use signal::{OnSilence, SignalWait};
pub use spread::{Item, SpreadError, item_values, spread};
pub use template::TemplateError;
pub use wait::Wait;

/// How the text of a definition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syntax {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
}

/// A workflow that was checked whole: what a run of it does never depends on anything that is not in here.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The workflow's name: 1 to 64 of `a-z`, `0-9` and `-`.
    pub name: String,
    /// What it does, for people.
    pub description: Option<String>,
    /// The JSON Schema of a mission's input.
    pub inputs: Option<Value>,
    /// What a mission may spend, unless the mission says less.
    pub budget: Option<Budget>,
    /// What a mission costs besides what its nodes use; `None` is the server's default.
    pub flat_fee: Option<Ucr>,
    /// How long a mission may take, in milliseconds.
    pub deadline_ms: Option<i64>,
    /// The nodes, each at the place of its index.
    pub nodes: Vec<Node>,
    /// What a run hands back, by name. By default the outputs of the nodes that nothing was written to depend on and
    /// that stand in for none, by their keys.
    pub outputs: BTreeMap<String, OutputPath>,
    /// Nodes, those of the workflows inside included, each as often as it is named; saturating. Counted when they are
    /// linked.
    pub size: u64,
    /// How many workflows are inside of each other, this one included.
    pub depth: u32,
    /// The whole definition as canonical JSON (keys sorted), from which [`parse_value`] rebuilds it.
    pub source: Value,
    check: schema::InputCheck,
    kept: memory::Kept,
}

/// What a mission or a node may spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The most it may spend.
    pub credits: Ucr,
    /// What happens when that is spent. By default the mission pauses.
    pub on_exhausted: OnExhausted,
}

/// What happens to a mission whose budget is spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExhausted {
    /// It waits until somebody raises the budget or cancels it.
    #[default]
    Pause,
    /// It fails.
    Fail,
}

/// One step of a workflow.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name in the definition, in templates and in paths.
    pub key: String,
    /// Its place in [`Definition::nodes`].
    pub index: u32,
    /// The nodes that must have ended before this one starts: those that were written, in their order, each followed by
    /// those that may stand in for it, and the node that it stands in for itself.
    pub needs: Vec<u32>,
    /// The nodes that need this one, ascending.
    pub dependents: Vec<u32>,
    /// The nodes, all of them ancestors, whose outputs the templates of this one read, ascending. A template that
    /// reads `nodes` as a whole or under a computed key sees the direct needs and those that are named elsewhere.
    pub uses: Vec<u32>,
    /// What its templates read of what was said to the mission.
    pub hears: Hears,
    /// The condition under which it runs, an expression (see [`condition::holds`]); `None` is always.
    pub when: Option<String>,
    /// What must be known before it may begin.
    pub opening: Opening,
    /// What must be known to tell the items of its map.
    pub spread: Opening,
    /// What must be known to tell whether its loop is over, besides what was made in it.
    pub verdict: Opening,
    /// What makes it many tasks, from the outside in.
    pub layers: Vec<Layer>,
    /// What it does.
    pub action: Action,
    /// For how long its output may be used again; `None` is never.
    pub cache: Option<Cache>,
    /// How many tasks may run at once that share something with it; `None` is any number.
    pub concurrency: Option<Concurrency>,
    /// The pool of workers that does it: 1 to 32 of `a-z`, `0-9` and `-`.
    pub pool: String,
    /// From -100 to 100; larger goes first.
    pub priority: i16,
    /// How often it is tried.
    pub retry: RetryPolicy,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: i64,
    /// How long all of it may take from when its needs are done, whatever it waits for, in milliseconds.
    pub deadline_ms: Option<i64>,
    /// What becomes of the run when it fails.
    pub on_error: OnError,
    /// The node that stands in for it when it fails; `Some` with [`OnError::Fallback`] alone.
    pub fallback: Option<u32>,
    /// The node that it stands in for. It runs when that fails, and is skipped otherwise.
    pub stands_in_for: Option<u32>,
    /// Units of the price book that are billed when the node succeeds, besides tokens.
    pub units: BTreeMap<String, u64>,
    /// The most that it may spend, all of its attempts together.
    pub budget: Option<Budget>,
}

/// Which task of a node: the node's own, or one that a layer made of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The node's index.
    pub index: u32,
    /// How many of the node's layers are around the task; 0 for the node's own.
    pub layer: u32,
    /// Its number in the innermost of these: a map's item, a repetition, or twice the round of a review, plus one for
    /// the reviewer's part.
    pub item: u32,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask a model.
    Agent(AgentStep),
    /// Compute a JSON value from templates.
    Transform(TransformStep),
    /// Call a service.
    Http(HttpStep),
    /// Run a program.
    Exec(ExecStep),
    /// Wait. Takes no worker.
    Wait(Wait),
}

impl Action {
    /// The kind of node, as its key in the definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent",
            Self::Transform(_) => "transform",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Wait(wait) => wait.kind(),
        }
    }

    /// The pool of workers that does it, unless the node names another.
    pub fn default_pool(&self) -> &'static str {
        match self {
            Self::Agent(_) => step::AGENT_POOL,
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Transform(_) | Self::Wait(_) => "default",
        }
    }
}

/// A question to a model. What the node leaves out was taken from its agent, then from the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentStep {
    /// The agent's name.
    pub agent: String,
    /// The agent's instructions: plain text, not a template.
    pub instructions: String,
    /// The model's name as in the price book.
    pub model: String,
    /// Models that are asked in turn where that one does not answer, by their names in the price book.
    pub fallbacks: Vec<String>,
    /// The template of the prompt.
    pub prompt: String,
    /// The most output tokens one call may produce.
    pub max_output_tokens: u64,
    /// The sampling temperature, from 0 to 2; `None` leaves it to the provider.
    pub temperature: Option<Number>,
    /// What the answer must be; without it the answer is any text.
    pub output: Option<OutputSchema>,
    /// The tools it may call, by the names that the workers know them by.
    pub tools: Vec<String>,
    /// How many answers may move the conversation on; one that asks for tools must not be the last.
    pub max_turns: u32,
    /// How many tool calls the step may make altogether.
    pub max_tool_calls: u32,
    /// What it remembers when it begins.
    pub memory: Option<Memory>,
}

impl AgentStep {
    /// All models that it may ask, in the order in which they are.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.model.as_str()).chain(self.fallbacks.iter().map(String::as_str))
    }
}

/// A JSON value to compute.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformStep {
    /// The value; every string in it is a template (see [`template::render_value`]).
    pub output: Value,
}

/// Reads and checks a definition. Errors: everything that is wrong, at least one problem and at most
/// [`crate::limits::MAX_PROBLEMS`].
pub fn parse(text: &str, syntax: Syntax) -> Result<Definition, Vec<Problem>> {
    let mut problems = problem::Problems::default();
    let value = strict::read(text, syntax, &mut problems);
    let definition = value.and_then(|value| definition::build(&value, &mut problems));
    problems.or(definition)
}

/// Checks a definition that was read already, such as [`Definition::source`]. Errors: as [`parse`].
pub fn parse_value(value: &Value) -> Result<Definition, Vec<Problem>> {
    let mut problems = problem::Problems::default();
    let value = strict::recheck(value, &mut problems);
    let definition = value.and_then(|value| definition::build(&value, &mut problems));
    problems.or(definition)
}

impl Definition {
    /// SHA-256 of the canonical JSON, as 64 hexadecimal digits. Equal for equal content, however it was written.
    pub fn content_hash(&self) -> String {
        let digest = Sha256::digest(self.source.to_string().as_bytes());
        digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The node with this index.
    pub fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(index).ok()?)
    }

    /// What a task does: the node itself, or its reviewer's part of it.
    pub fn node_for(&self, place: Place) -> Option<&Node> {
        let node = self.node(place.index)?;
        let within = usize::try_from(place.layer.checked_sub(1).unwrap_or(u32::MAX)).ok()?;
        match node.layers.get(within) {
            Some(Layer::Review(review)) if place.item % 2 == 1 => Some(&review.judge),
            _ => Some(node),
        }
    }

    /// The nodes whose outputs a run of it hands back.
    pub fn handed_back(&self) -> impl Iterator<Item = u32> + '_ {
        self.outputs.values().filter_map(|path| Some(self.node_by_key(path.nodes())?.index))
    }

    /// The node with this key.
    pub fn node_by_key(&self, key: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.key == key)
    }

    /// Checks a mission's input by the schema; without one, any mapping is an input. Errors: what is wrong, with
    /// pointers into the input; messages never repeat its values.
    pub fn check_input(&self, input: &Value) -> Result<(), Vec<Problem>> {
        self.check.check(input)
    }
}
