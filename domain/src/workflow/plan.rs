//! `plan`: an agent breaks a task down into steps, and other agents do them.
//!
//! The planner's answer is a list of steps; [`Plan::assemble`] makes the definition of a workflow of it, or says what
//! is wrong, in words that the planner is sent back with. A plan can only name the agents that the node lists, and its
//! prompts are plain text, no templates: what a step is told of others is what it `needs`.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::name::IDENTIFIER;
use super::output::OutputSchema;
use super::problem::{Problem, below, did_you_mean};
use super::reader::{Fields, wrong_type};
use super::step::{self, Frame, Seen, Surroundings};
use super::{AgentStep, Definition, Node};
use crate::limits::{MAX_NEEDS_PER_NODE, MAX_PLAN_DEPTH, MAX_PLAN_NODES, MAX_PLAN_PROMPT_CHARS, MAX_REPAIRS};

/// How many steps a plan may have unless the definition says otherwise.
const DEFAULT_NODES: u32 = 12;
/// How often a planner may mend its plan unless the definition says otherwise.
const DEFAULT_REPAIRS: u32 = 2;
/// How much of an agent's instructions a planner is told, in characters.
const TOLD_OF_AGENT: usize = 300;

/// What a node's plans may be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How plans are read.
    pub form: Arc<PlanForm>,
    /// The listed agents' steps, to be priced and foretold: each as a node without a prompt.
    pub staff: Vec<Node>,
}

/// How plans are read: what they may name, and what surrounds their steps.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanForm {
    /// The planner.
    pub planner: String,
    /// The agents that steps may name.
    pub agents: Vec<String>,
    /// The most steps.
    pub max_nodes: u32,
    /// How many levels of plans there may be; 1 is no plan inside of a plan.
    pub depth: u32,
    /// The definition without its nodes: `{"workflow", "defaults", "agents", "schemas"}`, with the agents that plans need.
    pub frame: Value,
}

/// What `plan` says before the node is put together.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) form: Arc<PlanForm>,
    pub(super) staff: Vec<AgentStep>,
}

/// Reads `plan: { agent, agents, max_nodes, depth, repair }` with what else says how the planner is asked.
pub(super) fn read<'v>(
    fields: &mut Fields<'v, '_>,
    around: &Surroundings<'v>,
    seen: &mut Seen<'v>,
) -> Option<(Draft, AgentStep)> {
    let mut section = fields.section("plan")?;
    let planner = step::read_agent_name(&mut section, around, "it is the agent that plans");
    let agents = read_agents(&mut section, around);
    let max_nodes = section.whole("max_nodes", 1..=MAX_PLAN_NODES).and_then(|most| u32::try_from(most).ok());
    let depth = section.whole("depth", 1..=MAX_PLAN_DEPTH).and_then(|depth| u32::try_from(depth).ok());
    let repairs = section.whole("repair", 0..=MAX_REPAIRS).and_then(|repairs| u32::try_from(repairs).ok());
    section.close(&[]);
    let prompt = step::read_prompt(fields, seen);
    let own = step::CallSettings::read(fields);
    let tools = step::read_tools(fields);
    let (name, agent) = planner?;
    let asked = step::put_together(fields, around, (name, agent), own, prompt)?;
    let agents = agents?;
    let mut staff = Vec::with_capacity(agents.len());
    for listed in &agents {
        let agent = around.agents.get(listed.as_str())?;
        let plain = step::CallSettings::default();
        let done = step::put_together(fields, around, (listed, agent), plain, Some(String::new()))?;
        let tools = agent.tools.clone().unwrap_or_default();
        staff.push(AgentStep { output: agent.output.clone(), tools, ..done });
    }
    let form = Arc::new(PlanForm {
        planner: name.to_owned(),
        max_nodes: max_nodes.unwrap_or(DEFAULT_NODES),
        depth: depth.unwrap_or(1),
        frame: frame_of(&around.frame, &agents),
        agents,
    });
    let told = staff.iter().map(|step| (step.agent.as_str(), step.instructions.as_str()));
    let instructions = format!("{}\n\n{}", asked.instructions, form.how_to_plan(told));
    let output = OutputSchema::of_plan(form.clone(), repairs.unwrap_or(DEFAULT_REPAIRS), fields.problems);
    let tools = tools.or_else(|| agent.tools.clone()).unwrap_or_default();
    let step = AgentStep { instructions: instructions.trim_start().to_owned(), output: Some(output), tools, ..asked };
    Some((Draft { form, staff }, step))
}

/// What surrounds the steps of a plan: of the definition's agents, those that it may name.
fn frame_of(definition: &Frame<'_>, agents: &[String]) -> Value {
    let mut frame = Map::new();
    let mut keep = |name: &str, value: Option<&Value>| {
        frame.extend(value.map(|value| (name.to_owned(), value.clone())));
    };
    keep("workflow", definition.workflow);
    keep("defaults", definition.defaults);
    keep("schemas", definition.schemas);
    let known = definition.agents.and_then(Value::as_object).into_iter().flatten();
    let listed: Map<String, Value> =
        known.filter(|(name, _)| agents.contains(name)).map(|(name, agent)| (name.clone(), agent.clone())).collect();
    keep("agents", Some(&Value::Object(listed)));
    let mut frame = Value::Object(frame);
    frame.sort_all_objects();
    frame
}

fn read_agents<'v>(section: &mut Fields<'v, '_>, around: &Surroundings<'v>) -> Option<Vec<String>> {
    if !section.has_any(&["agents"]) {
        section.missing("agents", "they are the agents that the steps of a plan may name");
    }
    let value = section.value("agents")?;
    let at = section.at("agents");
    let Value::Array(items) = value else {
        section.problems.push(wrong_type(at, "a list of agents", value));
        return None;
    };
    if items.is_empty() {
        section.problems.add(at, "too_few", "a plan's steps need at least one agent");
        return None;
    }
    let mut agents: Vec<String> = Vec::with_capacity(items.len());
    let mut all_known = true;
    for (index, item) in items.iter().enumerate() {
        let at = below(&at, index);
        let Some(name) = item.as_str() else {
            section.problems.push(wrong_type(at, "the name of an agent", item));
            return None;
        };
        if agents.iter().any(|known| known == name) {
            section.problems.add(at, "duplicate_agent", format!("the agent `{name}` is listed twice"));
        } else if around.agents.contains_key(name) {
            agents.push(name.to_owned());
        } else {
            let shown: String = name.chars().take(64).collect();
            let problem = Problem::new(at, "unknown_agent", format!("there is no agent `{shown}`"));
            section.problems.push(problem.with_hint(did_you_mean(name, around.agents.keys().copied())));
            all_known = false;
        }
    }
    all_known.then_some(agents)
}

impl PlanForm {
    /// The JSON Schema of a plan.
    pub(super) fn schema(&self) -> Value {
        let mut step = json!({
            "agent": {"description": "who does it", "enum": self.agents, "type": "string"},
            "key": {
                "description": "what the step is called: lower case letters, digits and _, a letter first",
                "pattern": "^[a-z][a-z0-9_]{0,31}$",
                "type": "string",
            },
            "needs": {
                "default": [],
                "description": "the keys of the steps whose results it is given",
                "items": {"type": "string"},
                "maxItems": MAX_NEEDS_PER_NODE.min(usize::try_from(self.max_nodes).unwrap_or(usize::MAX)),
                "type": "array",
            },
            "prompt": {
                "description": "what the agent is asked, whole: it sees nothing else but the results of `needs`",
                "maxLength": MAX_PLAN_PROMPT_CHARS,
                "minLength": 1,
                "type": "string",
            },
        });
        if self.depth > 1
            && let Some(fields) = step.as_object_mut()
        {
            let told = "whether the agent is to break the step down further instead of doing it";
            fields.insert("plan".to_owned(), json!({"default": false, "description": told, "type": "boolean"}));
        }
        json!({
            "additionalProperties": false,
            "properties": {"nodes": {
                "items": {
                    "additionalProperties": false,
                    "properties": step,
                    "required": ["key", "agent", "prompt"],
                    "type": "object",
                },
                "maxItems": self.max_nodes,
                "minItems": 1,
                "type": "array",
            }},
            "required": ["nodes"],
            "type": "object",
        })
    }

    /// What a planner is told besides its own instructions.
    fn how_to_plan<'a>(&self, staff: impl Iterator<Item = (&'a str, &'a str)>) -> String {
        let mut text = format!(
            "Break the task down into at most {} steps. Each step has a `key`, the `agent` that does it, a `prompt` that \
             tells the agent everything it must know, and in `needs` the keys of the steps whose results it is given. \
             Steps that need nothing of each other are done side by side. The agents are:",
            self.max_nodes
        );
        for (name, instructions) in staff {
            let about: String = instructions.chars().take(TOLD_OF_AGENT).collect();
            text.push_str("\n- ");
            text.push_str(name);
            text.push_str(": ");
            text.push_str(&about.replace('\n', " "));
        }
        text
    }

    /// The definition of the workflow that a plan stands for. Errors: what is wrong, by places in the plan or by the keys
    /// of its steps.
    pub fn assemble(&self, plan: &Value) -> Result<Definition, Vec<Problem>> {
        let steps = plan.get("nodes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut problems = Vec::new();
        let mut nodes = Map::new();
        if steps.len() > usize::try_from(self.max_nodes).unwrap_or(usize::MAX) {
            let message = format!("a plan has at most {} steps, this has {}", self.max_nodes, steps.len());
            return Err(vec![Problem::new("/nodes", "too_many", message)]);
        }
        for (index, step) in steps.iter().enumerate() {
            let at = format!("/nodes/{index}");
            let text = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
            let (key, agent) = (text("key"), text("agent"));
            if !IDENTIFIER.allows(key) {
                let message = format!("a step's key must be {}", IDENTIFIER.says);
                problems.push(Problem::new(format!("{at}/key"), "invalid_name", message));
            } else if !self.agents.iter().any(|known| known == agent) {
                let message = format!("the agents are: {}", self.agents.join(", "));
                problems.push(Problem::new(format!("{at}/agent"), "unknown_agent", message));
            } else if nodes.insert(key.to_owned(), self.node(step, agent)).is_some() {
                let message = format!("two steps have the key `{key}`");
                problems.push(Problem::new(format!("{at}/key"), "duplicate_key", message));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut definition = self.frame.clone();
        if let Some(fields) = definition.as_object_mut() {
            fields.insert("nodes".to_owned(), Value::Object(nodes));
        }
        super::parse_value(&definition)
    }

    /// A step as a node.
    fn node(&self, step: &Value, agent: &str) -> Value {
        let needs: Vec<&str> =
            step.get("needs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let asked = step.get("prompt").and_then(Value::as_str).unwrap_or_default();
        // plain text: as a literal it is no template, whatever it looks like
        let mut prompt = format!("{{{{ {} }}}}", json!(asked));
        for need in needs.iter().filter(|need| IDENTIFIER.allows(need)) {
            // writing to a String can't fail
            let _ = write!(prompt, "\n\n# What `{need}` came to\n\n{{{{ nodes.{need}.output }}}}");
        }
        let is_plan = self.depth > 1 && step.get("plan") == Some(&Value::Bool(true));
        if !is_plan {
            return json!({"agent": agent, "needs": needs, "prompt": prompt});
        }
        let depth = self.depth.saturating_sub(1);
        let plan = json!({"agent": agent, "agents": self.agents, "max_nodes": self.max_nodes, "depth": depth});
        json!({"plan": plan, "needs": needs, "prompt": prompt})
    }
}
