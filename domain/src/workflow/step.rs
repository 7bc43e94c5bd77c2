//! Reads one node: its kind, its modifiers and its templates.
//!
//! Everything a node can be is listed here. What refers to other nodes is only noted; `definition` resolves it
//! when all nodes are known.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::approval;
use super::cache::{self, Cache};
use super::concurrency::{self, Concurrency};
use super::condition;
use super::layers::{self, Loops};
use super::mcp_name::{claims_to_be_mcp, mcp_tool};
use super::memory::{self, Memory};
use super::models;
use super::name::{POOL, TOOL, UNIT};
use super::on_error::{self, OnError};
use super::output::{OutputSchema, Schemas, read_output};
use super::problem::{Problem, Problems, below, did_you_mean};
use super::reader::{Entry, Fields, whole_number, wrong_type};
use super::retry_on;
use super::scan::{Mention, ROOTS};
use super::signal;
use super::template::{self, TemplateError};
use super::wait::{self, Wait};
use super::{Action, AgentStep, Budget, OnExhausted, TransformStep};
use super::{exec, http, misplaced, nested, plan};
use crate::credits::Ucr;
use crate::limits::{
    MAX_ATTEMPTS, MAX_BACKOFF_FACTOR, MAX_DEADLINE_MS, MAX_NEEDS_PER_NODE, MAX_OUTPUT_TOKENS, MAX_PRIORITY,
    MAX_PROMPT_BYTES, MAX_TIMEOUT_MS, MAX_TOOL_CALLS, MAX_TOOLS, MAX_TRANSFORM_TEMPLATES, MAX_TURNS, MAX_UNIT_QUANTITY,
    MAX_UNITS_PER_NODE,
};
use crate::retry::RetryPolicy;

/// One attempt may take ten minutes unless the definition says otherwise.
const DEFAULT_TIMEOUT_MS: i64 = 10 * 60 * 1_000;

/// A call may produce so many tokens unless the definition says otherwise.
const DEFAULT_MAX_OUTPUT_TOKENS: u64 = 1_024;

/// A step may take so many turns unless the definition says otherwise.
const DEFAULT_MAX_TURNS: u32 = 16;

/// A step may make so many tool calls unless the definition says otherwise.
const DEFAULT_MAX_TOOL_CALLS: u32 = 64;

/// Who does the steps of agents unless the definition says otherwise.
pub(super) const AGENT_POOL: &str = "agent";

/// The kinds of nodes, as their keys.
const KINDS: [&str; 10] =
    ["agent", "transform", "http", "exec", "sleep", "until", "approval", "signal", "workflow", "plan"];

/// Kinds of nodes that a later version will know.
const LATER_KINDS: [&str; 2] = ["external", "retrieve"];

/// Keys that only nodes with an agent have.
const AGENT_KEYS: [&str; 10] = [
    "prompt",
    "model",
    "models",
    "max_output_tokens",
    "temperature",
    "max_turns",
    "max_tool_calls",
    "memory",
    "output",
    "tools",
];

/// What may be set for a call on the node, on its agent and in the defaults.
#[derive(Debug, Clone, Default)]
#[expect(clippy::option_option, reason = "`memory: none` takes an agent's memory away; nothing said leaves it")]
pub(super) struct CallSettings {
    models: Option<Vec<String>>,
    max_output_tokens: Option<u64>,
    temperature: Option<Number>,
    max_turns: Option<u32>,
    max_tool_calls: Option<u32>,
    memory: Option<Option<Memory>>,
}

impl CallSettings {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Self {
        Self {
            models: models::read(fields),
            max_output_tokens: fields.whole("max_output_tokens", 1..=MAX_OUTPUT_TOKENS).map(i64::unsigned_abs),
            temperature: fields.temperature("temperature"),
            max_turns: fields.whole("max_turns", 1..=MAX_TURNS).and_then(|turns| u32::try_from(turns).ok()),
            max_tool_calls: fields
                .whole("max_tool_calls", 0..=MAX_TOOL_CALLS)
                .and_then(|calls| u32::try_from(calls).ok()),
            memory: memory::read(fields),
        }
    }

    /// These settings; what is left out is taken from `further`.
    fn or(self, further: &Self) -> Self {
        Self {
            models: self.models.or_else(|| further.models.clone()),
            max_output_tokens: self.max_output_tokens.or(further.max_output_tokens),
            temperature: self.temperature.or_else(|| further.temperature.clone()),
            max_turns: self.max_turns.or(further.max_turns),
            max_tool_calls: self.max_tool_calls.or(further.max_tool_calls),
            memory: self.memory.or(further.memory),
        }
    }
}

/// What holds for all nodes that do not say otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    pub(super) call: CallSettings,
    pub(super) timeout_ms: Option<i64>,
    pub(super) deadline_ms: Option<i64>,
    pub(super) retry: RetryPolicy,
    pub(super) on_error: OnError,
}

/// An agent that nodes may name.
#[derive(Debug, Clone, Default)]
pub(super) struct Agent {
    pub(super) instructions: String,
    pub(super) call: CallSettings,
    pub(super) output: Option<OutputSchema>,
    pub(super) tools: Option<Vec<String>>,
}

/// What nodes are read with.
pub(super) struct Surroundings<'v> {
    pub(super) defaults: Defaults,
    pub(super) agents: BTreeMap<&'v str, Agent>,
    pub(super) schemas: Schemas<'v>,
    /// What of the definition surrounds plans.
    pub(super) frame: Frame<'v>,
}

/// What of a definition surrounds its nodes, as it was written.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame<'v> {
    pub(super) workflow: Option<&'v Value>,
    pub(super) defaults: Option<&'v Value>,
    pub(super) agents: Option<&'v Value>,
    pub(super) schemas: Option<&'v Value>,
}

/// What the templates of a node see, and what they mention of it.
#[derive(Debug, Default)]
pub(super) struct Seen<'v> {
    /// The names at the top of what they see.
    pub(super) roots: Vec<&'v str>,
    /// What is mentioned, with the pointers to the templates.
    pub(super) mentions: Vec<(Mention<'v>, String)>,
}

/// A node before its references are resolved.
#[derive(Debug)]
pub(super) struct Draft<'v> {
    pub(super) key: &'v str,
    /// Keys of the nodes it needs, with the pointers to where they stand.
    pub(super) needs: Vec<(&'v str, String)>,
    /// What its templates mention, with the pointers to the templates.
    pub(super) mentions: Vec<(Mention<'v>, String)>,
    /// The condition under which it runs.
    pub(super) when: Option<&'v str>,
    /// What must be known before it begins, with the pointers to the texts that say so.
    pub(super) opening: Vec<(Mention<'v>, String)>,
    /// What it does; `None` when that could not be made out, and a problem says why.
    pub(super) action: Option<Action>,
    pub(super) cache: Option<Cache>,
    pub(super) concurrency: Option<Concurrency>,
    pub(super) pool: String,
    pub(super) priority: i16,
    pub(super) retry: RetryPolicy,
    pub(super) timeout_ms: i64,
    pub(super) deadline_ms: Option<i64>,
    pub(super) on_error: OnError,
    /// The key of the node that stands in for it when it fails, with the pointer to where it stands.
    pub(super) fallback: Option<(&'v str, String)>,
    pub(super) units: BTreeMap<String, u64>,
    pub(super) budget: Option<Budget>,
    /// What makes it many tasks.
    pub(super) loops: Loops<'v>,
}

/// Reads one node.
pub(super) fn read<'v>(entry: Entry<'v>, around: &Surroundings<'v>, problems: &mut Problems) -> Option<Draft<'v>> {
    let mut fields = Fields::open(entry.value, entry.at, problems)?;
    let needs = read_needs(&mut fields);
    let mut seen = Seen { roots: ROOTS.to_vec(), mentions: Vec::new() };
    let mut opening = Vec::new();
    let when = condition::read(&mut fields, &mut opening);
    let mut loops = layers::read(&mut fields, around, &mut seen);
    let (action, inner) = read_action(&mut fields, around, &mut seen, &mut opening).unzip();
    loops.layers.extend(inner.flatten());
    let cache = cache::read(&mut fields, action.as_ref(), &mut seen);
    let concurrency = concurrency::read(&mut fields, action.as_ref(), &mut opening);
    let (on_error, fallback) = on_error::read(&mut fields).unwrap_or((around.defaults.on_error, None));
    let default_pool = action.as_ref().map_or("default", Action::default_pool);
    let draft = Draft {
        key: entry.name,
        needs,
        mentions: seen.mentions,
        when,
        opening,
        action,
        cache,
        concurrency,
        pool: fields.name("pool", &POOL).unwrap_or(default_pool).to_owned(),
        priority: fields
            .whole("priority", -MAX_PRIORITY..=MAX_PRIORITY)
            .and_then(|priority| i16::try_from(priority).ok())
            .unwrap_or_default(),
        retry: read_retry(&mut fields, around.defaults.retry),
        timeout_ms: fields
            .duration_ms("timeout", 1, MAX_TIMEOUT_MS)
            .or(around.defaults.timeout_ms)
            .unwrap_or(DEFAULT_TIMEOUT_MS),
        deadline_ms: fields.duration_ms("deadline", 1, MAX_DEADLINE_MS).or(around.defaults.deadline_ms),
        on_error,
        fallback,
        units: read_units(&mut fields),
        budget: read_budget(&mut fields, "it is the most a node may spend"),
        loops,
    };
    misplaced::refuse(&mut fields, draft.action.as_ref());
    fields.close(&LATER_KINDS);
    Some(draft)
}

fn read_needs<'v>(fields: &mut Fields<'v, '_>) -> Vec<(&'v str, String)> {
    let Some(value) = fields.value("needs") else {
        return Vec::new();
    };
    let at = fields.at("needs");
    let Value::Array(items) = value else {
        fields.problems.push(wrong_type(at, "a list of node keys", value));
        return Vec::new();
    };
    if items.len() > MAX_NEEDS_PER_NODE {
        let message = format!("a node has at most {MAX_NEEDS_PER_NODE} needs, this has {}", items.len());
        fields.problems.add(at, "too_many", message);
        return Vec::new();
    }
    let mut needs: Vec<(&'v str, String)> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = below(&at, index);
        match item.as_str() {
            None => fields.problems.push(wrong_type(at, "a node key", item)),
            Some(need) if needs.iter().any(|(seen, _)| *seen == need) => {
                fields.problems.add(at, "duplicate_need", format!("`{need}` is needed twice"));
            }
            Some(need) => needs.push((need, at)),
        }
    }
    needs
}

fn read_action<'v>(
    fields: &mut Fields<'v, '_>,
    around: &Surroundings<'v>,
    seen: &mut Seen<'v>,
    opening: &mut Vec<(Mention<'v>, String)>,
) -> Option<(Action, Option<layers::Draft>)> {
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| fields.has_any(&[kind])).collect();
    let unsupported = fields.has_any(&LATER_KINDS);
    let alone = |action| (action, None);
    let action = match kinds.as_slice() {
        ["agent"] => return read_agent(fields, around, seen).map(|step| (Action::Agent(step), None)),
        ["plan"] => {
            let (draft, step) = plan::read(fields, around, seen)?;
            return Some((Action::Agent(step), Some(layers::Draft::Plan(draft))));
        }
        ["workflow"] => {
            let read = nested::read(fields, seen);
            read.map(|(nested, input)| (Action::Transform(input), Some(layers::Draft::Workflow(nested))))
        }
        ["transform"] => read_transform(fields, seen).map(Action::Transform).map(alone),
        ["http"] => http::read(fields, seen).map(Action::Http).map(alone),
        ["exec"] => exec::read(fields, seen).map(Action::Exec).map(alone),
        ["sleep"] => wait::read_sleep(fields).map(Action::Wait).map(alone),
        ["until"] => wait::read_until(fields, opening).map(Action::Wait).map(alone),
        ["approval"] => approval::read(fields, opening).map(Wait::Approval).map(Action::Wait).map(alone),
        ["signal"] => signal::read(fields).map(Wait::Signal).map(Action::Wait).map(alone),
        [] if !unsupported => {
            let message = format!("a node must have one of: {}", KINDS.join(", "));
            let hint = fields.has_any(&["prompt"]).then(|| "`prompt` goes with `agent: <name>`".to_owned());
            let pointer = fields.here();
            fields.problems.push(Problem::new(pointer, "no_kind", message).with_hint(hint));
            None
        }
        [] => None,
        several => {
            let message = format!("a node is of one kind, this has: {}", several.join(", "));
            let pointer = fields.here();
            fields.problems.add(pointer, "several_kinds", message);
            None
        }
    };
    let judged = kinds.len() == 1;
    for key in KINDS.into_iter().chain(AGENT_KEYS) {
        let present = fields.value(key).is_some();
        if present && judged && AGENT_KEYS.contains(&key) {
            let pointer = fields.at(key);
            fields.problems.add(pointer, "misplaced_key", format!("`{key}` belongs to nodes with an `agent`"));
        }
    }
    action
}

fn read_agent<'v>(fields: &mut Fields<'v, '_>, around: &Surroundings<'v>, seen: &mut Seen<'v>) -> Option<AgentStep> {
    let agent = read_agent_name(fields, around, "it is the agent that is asked");
    let prompt = read_prompt(fields, seen);
    let own = CallSettings::read(fields);
    let output = read_output(fields, &around.schemas);
    let tools = read_tools(fields);
    let (name, agent) = agent?;
    let step = put_together(fields, around, (name, agent), own, prompt)?;
    Some(AgentStep {
        output: output.or_else(|| agent.output.clone()),
        tools: tools.or_else(|| agent.tools.clone()).unwrap_or_default(),
        ..step
    })
}

/// Reads `prompt`, a template.
pub(super) fn read_prompt<'v>(fields: &mut Fields<'v, '_>, seen: &mut Seen<'v>) -> Option<String> {
    let prompt = fields.text("prompt", MAX_PROMPT_BYTES);
    if !fields.has_any(&["prompt"]) {
        fields.missing("prompt", "it says what to ask the agent");
    }
    let prompt = prompt?;
    let at = fields.at("prompt");
    read_template(prompt, &at, seen, fields.problems);
    Some(prompt.to_owned())
}

/// Reads who reviews, with what may be said about the reviewer's calls; what it answers is the agent's, or a verdict.
pub(super) fn read_reviewer<'v>(
    fields: &mut Fields<'v, '_>,
    around: &Surroundings<'v>,
    prompt: String,
) -> Option<AgentStep> {
    let agent = read_agent_name(fields, around, "it is the agent that reviews");
    let own = CallSettings::read(fields);
    let (name, agent) = agent?;
    let step = put_together(fields, around, (name, agent), own, Some(prompt))?;
    let output = agent.output.clone().unwrap_or_else(|| OutputSchema::of_reviewer(fields.problems));
    Some(AgentStep { output: Some(output), tools: agent.tools.clone().unwrap_or_default(), ..step })
}

/// Reads `agent`, the name of one; `why` tells what it is for.
pub(super) fn read_agent_name<'a, 'v>(
    fields: &mut Fields<'v, '_>,
    around: &'a Surroundings<'v>,
    why: &str,
) -> Option<(&'v str, &'a Agent)> {
    if !fields.has_any(&["agent"]) {
        fields.missing("agent", why);
    }
    let name = fields.text("agent", usize::MAX)?;
    let agent = around.agents.get(name);
    if agent.is_none() {
        let hint = did_you_mean(name, around.agents.keys().copied());
        let shown: String = name.chars().take(64).collect();
        let problem = Problem::new(fields.at("agent"), "unknown_agent", format!("there is no agent `{shown}`"));
        fields.problems.push(problem.with_hint(hint));
    }
    Some((name, agent?))
}

/// A step of the agent, without output and tools. `None` without a model or a prompt.
pub(super) fn put_together(
    fields: &mut Fields<'_, '_>,
    around: &Surroundings<'_>,
    (name, agent): (&str, &Agent),
    own: CallSettings,
    prompt: Option<String>,
) -> Option<AgentStep> {
    let call = own.or(&agent.call).or(&around.defaults.call);
    if call.models.is_none() && !fields.has_any(&["model", "models"]) {
        let pointer = fields.at("model");
        let message = format!("no model: set `model` or `models` on this node, on the agent `{name}` or in `defaults`");
        fields.problems.add(pointer, "missing_model", message);
    }
    let mut models = call.models?.into_iter();
    let model = models.next()?;
    Some(AgentStep {
        agent: name.to_owned(),
        instructions: agent.instructions.clone(),
        model,
        fallbacks: models.collect(),
        prompt: prompt?,
        max_output_tokens: call.max_output_tokens.unwrap_or(DEFAULT_MAX_OUTPUT_TOKENS),
        temperature: call.temperature,
        output: None,
        tools: Vec::new(),
        max_turns: call.max_turns.unwrap_or(DEFAULT_MAX_TURNS),
        max_tool_calls: call.max_tool_calls.unwrap_or(DEFAULT_MAX_TOOL_CALLS),
        memory: call.memory.flatten(),
    })
}

/// Reads `tools`, a list of names, each once. `None` when there is no such key; an empty list takes an agent's away.
pub(super) fn read_tools(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let value = fields.value("tools")?;
    let at = fields.at("tools");
    let Value::Array(items) = value else {
        fields.problems.push(wrong_type(at, "a list of tool names", value));
        return None;
    };
    if items.len() > MAX_TOOLS {
        let message = format!("an agent has at most {MAX_TOOLS} tools, this has {}", items.len());
        fields.problems.add(at, "too_many", message);
        return None;
    }
    let mut tools: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = below(&at, index);
        match item.as_str() {
            None => fields.problems.push(wrong_type(at, "the name of a tool", item)),
            Some(name) if !TOOL.allows(name) => {
                fields.problems.add(at, "invalid_name", format!("a tool's name must be {}", TOOL.says));
            }
            Some(name) if claims_to_be_mcp(name) && mcp_tool(name).is_none() => {
                let message = "a tool of an MCP server is named `mcp__SERVER__TOOL`";
                fields.problems.add(at, "invalid_name", message);
            }
            Some(name) if tools.iter().any(|known| known == name) => {
                fields.problems.add(at, "duplicate_tool", format!("the tool `{name}` is named twice"));
            }
            Some(name) => tools.push(name.to_owned()),
        }
    }
    Some(tools)
}

fn read_transform<'v>(fields: &mut Fields<'v, '_>, seen: &mut Seen<'v>) -> Option<TransformStep> {
    let value = fields.value("transform")?;
    let at = fields.at("transform");
    read_values(value, &at, seen, fields.problems)
}

/// Reads a value whose texts are templates.
pub(super) fn read_values<'v>(
    value: &'v Value,
    at: &str,
    seen: &mut Seen<'v>,
    problems: &mut Problems,
) -> Option<TransformStep> {
    let mut templates = Vec::new();
    collect_templates(value, at, &mut templates);
    if templates.len() > MAX_TRANSFORM_TEMPLATES {
        let message =
            format!("a transform has at most {MAX_TRANSFORM_TEMPLATES} templates, this has {}", templates.len());
        problems.add(at, "too_many", message);
        return None;
    }
    for (text, at) in templates {
        if text.len() > MAX_PROMPT_BYTES {
            problems.add(at, "too_long", format!("a template has at most {MAX_PROMPT_BYTES} bytes"));
        } else {
            read_template(text, &at, seen, problems);
        }
    }
    let mut output = value.clone();
    output.sort_all_objects();
    Some(TransformStep { output })
}

pub(super) fn collect_templates<'v>(value: &'v Value, at: &str, templates: &mut Vec<(&'v str, String)>) {
    match value {
        Value::String(text) if text.contains('{') => templates.push((text, at.to_owned())),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect_templates(item, &below(at, index), templates));
        }
        Value::Object(map) => map.iter().for_each(|(key, item)| collect_templates(item, &below(at, key), templates)),
        _ => {}
    }
}

/// Checks a template as far as that goes without knowing the other nodes.
pub(super) fn read_template<'v>(text: &'v str, at: &str, seen: &mut Seen<'v>, problems: &mut Problems) {
    let found = match template::inspect(text) {
        Ok(found) => found,
        Err(error) => {
            let too_complex = matches!(error, TemplateError::TooComplex { .. });
            let code = if too_complex { "template_too_complex" } else { "template_syntax" };
            problems.add(at, code, error.to_string());
            return;
        }
    };
    found.report(at, "template", &seen.roots, problems);
    seen.mentions.extend(found.scan.mentions.into_iter().map(|mention| (mention, at.to_owned())));
}

/// Reads `retry`; what it leaves out is taken from `base`.
pub(super) fn read_retry(fields: &mut Fields<'_, '_>, base: RetryPolicy) -> RetryPolicy {
    let Some(mut retry) = fields.section("retry") else {
        return base;
    };
    let attempts = retry.whole("max_attempts", 1..=MAX_ATTEMPTS).and_then(|attempts| u32::try_from(attempts).ok());
    let mut policy = RetryPolicy { max_attempts: attempts.unwrap_or(base.max_attempts), ..base };
    if let Some(mut backoff) = retry.section("backoff") {
        let factor = backoff.whole("factor", 1..=MAX_BACKOFF_FACTOR).and_then(|factor| u32::try_from(factor).ok());
        policy = RetryPolicy {
            initial_ms: backoff.duration_ms("initial", 0, MAX_TIMEOUT_MS).unwrap_or(base.initial_ms),
            factor: factor.unwrap_or(base.factor),
            max_ms: backoff.duration_ms("max", 0, MAX_TIMEOUT_MS).unwrap_or(base.max_ms),
            jitter: backoff.flag("jitter").unwrap_or(base.jitter),
            ..policy
        };
        if policy.initial_ms > policy.max_ms {
            let pointer = backoff.here();
            let message = "the first pause (`initial`) is longer than the longest one (`max`)";
            backoff.problems.add(pointer, "out_of_range", message);
        }
        backoff.close(&[]);
    }
    policy.on = retry_on::read(&mut retry, base.on);
    retry.close(&[]);
    policy
}

/// Reads `budget: { credits, on_exhausted }`.
pub(super) fn read_budget(fields: &mut Fields<'_, '_>, what: &str) -> Option<Budget> {
    let mut section = fields.section("budget")?;
    if !section.has_any(&["credits"]) {
        section.missing("credits", what);
    }
    let credits = section.credits("credits");
    if credits == Some(Ucr::ZERO) {
        let pointer = section.at("credits");
        section.problems.add(pointer, "out_of_range", "`credits` must be more than zero");
    }
    let words = [("pause", OnExhausted::Pause), ("fail", OnExhausted::Fail)];
    let on_exhausted = section.choice("on_exhausted", &words).unwrap_or_default();
    section.close(&[]);
    credits.map(|credits| Budget { credits, on_exhausted })
}

fn read_units(fields: &mut Fields<'_, '_>) -> BTreeMap<String, u64> {
    let most = i64::try_from(MAX_UNIT_QUANTITY).unwrap_or(i64::MAX);
    let mut units = BTreeMap::new();
    for entry in fields.entries("units", &UNIT, MAX_UNITS_PER_NODE) {
        let what = format!("the quantity of `{}`", entry.name);
        if let Some(quantity) = whole_number(entry.value, &entry.at, &what, 1..=most, fields.problems) {
            units.insert(entry.name.to_owned(), quantity.unsigned_abs());
        }
    }
    units
}

/// Reads one agent.
pub(super) fn read_agent_entry(entry: &Entry<'_>, schemas: &Schemas<'_>, problems: &mut Problems) -> Agent {
    let Some(mut fields) = Fields::open(entry.value, entry.at.clone(), problems) else {
        return Agent::default();
    };
    if !fields.has_any(&["instructions"]) {
        fields.missing("instructions", "they tell the agent who it is");
    }
    let agent = Agent {
        instructions: fields.text("instructions", MAX_PROMPT_BYTES).unwrap_or_default().to_owned(),
        call: CallSettings::read(&mut fields),
        output: read_output(&mut fields, schemas),
        tools: read_tools(&mut fields),
    };
    fields.close(&["budget", "knowledge"]);
    agent
}

/// Reads the defaults of all nodes.
pub(super) fn read_defaults(fields: &mut Fields<'_, '_>) -> Defaults {
    let Some(mut section) = fields.section("defaults") else {
        return Defaults::default();
    };
    let defaults = Defaults {
        call: CallSettings::read(&mut section),
        timeout_ms: section.duration_ms("timeout", 1, MAX_TIMEOUT_MS),
        deadline_ms: section.duration_ms("deadline", 1, MAX_DEADLINE_MS),
        retry: read_retry(&mut section, RetryPolicy::default()),
        on_error: on_error::read_default(&mut section).unwrap_or_default(),
    };
    section.close(&["cache", "concurrency"]);
    defaults
}
