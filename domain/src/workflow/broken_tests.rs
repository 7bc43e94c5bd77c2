//! Definitions that are broken in one way each, with the exact place and words of the refusal.
//!
//! A row of a table reads `what the text says ¦ pointer ¦ code ¦ message ¦ hint`, `⏎` for a line's end. The text
//! around it is sound, so the one problem is all there may be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(clippy::needless_raw_string_hashes, reason = "all tables are quoted alike")]

use super::problem::Problems;
use super::{Problem, Syntax, json_schema, parse, parse_value, strict};
use crate::limits::{
    MAX_DEFINITION_BYTES, MAX_KEY_BYTES, MAX_NEEDS_PER_NODE, MAX_NODES, MAX_PROBLEMS, MAX_PROMPT_BYTES,
};

fn problems(text: &str, syntax: Syntax) -> Vec<Problem> {
    parse(text, syntax).map(|definition| definition.name).expect_err(text)
}

/// Checks each row of a table: `around` puts what it says into a whole definition.
pub(super) fn check(table: &str, syntax: Syntax, around: impl Fn(&str) -> String) {
    let published = jsonschema::validator_for(&json_schema()).unwrap();
    for row in table.trim_matches('\n').lines() {
        let (says, expected) = row.split_once(" ¦ ").expect(row);
        let found = problems(&around(&says.replace('⏎', "\n")), syntax);
        let shown: Vec<String> = found.iter().map(show).collect();
        assert_eq!(shown, [expected], "{says}");
        if OF_THE_SHAPE.contains(&found[0].code) {
            let definition = strict::read(&around(&says.replace('⏎', "\n")), syntax, &mut Problems::default()).unwrap();
            assert!(!published.is_valid(&definition), "the published schema accepts {says}");
        }
    }
}

/// What the published schema refuses as well. The others are about meaning, sizes in bytes, or one text among others.
const OF_THE_SHAPE: [&str; 11] = [
    "invalid_duration",
    "invalid_name",
    "missing",
    "misplaced_key",
    "no_kind",
    "no_nodes",
    "several_kinds",
    "unknown_choice",
    "unknown_key",
    "unsupported",
    "wrong_type",
];

fn show(problem: &Problem) -> String {
    let Problem { pointer, code, message, hint } = problem;
    let hint = hint.as_ref().map(|hint| format!(" ¦ {hint}")).unwrap_or_default();
    format!("{pointer} ¦ {code} ¦ {message}{hint}").replace('\0', "\\0")
}

#[test]
fn text_that_is_no_definition() {
    let rows = r#"
 ¦  ¦ wrong_type ¦ expected a mapping, found nothing
- 1 ¦  ¦ wrong_type ¦ expected a mapping, found a list
a: [ ¦ /a/0 ¦ syntax ¦ this is not valid YAML: unclosed bracket '[' at line 1, column 4
a: b: c ¦  ¦ syntax ¦ this is not valid YAML: mapping values are not allowed in this context at line 1, column 5
a: 1⏎---⏎b: 2 ¦  ¦ syntax ¦ line 2: a definition is one YAML document, here another begins
b: { c: *nowhere } ¦ /b/c ¦ syntax ¦ this is not valid YAML: alias references unknown anchor at line 1, column 9
a: &b { x: 1 }⏎c: { <<: *b } ¦ /c ¦ merge_key ¦ line 2: merge keys (`<<`) are not part of YAML 1.2; write the fields out
a: !custom 1 ¦ /a ¦ syntax ¦ this is not valid YAML: unsupported tag `!custom` at line 1, column 12
a: [.nan] ¦ /a/0 ¦ syntax ¦ this is not valid YAML: non-finite float `.nan` rejected by the configured policy at line 1, column 5
a: { 1: x } ¦ /a ¦ syntax ¦ this is not valid YAML: invalid type: integer `1`, expected a key that is text (put it in quotes) at line 1, column 6
? [1]⏎: 2 ¦  ¦ syntax ¦ this is not valid YAML: invalid type: sequence, expected a key that is text (put it in quotes) at line 1, column 3
a: { ¦ /a ¦ syntax ¦ this is not valid YAML: unclosed bracket '{' at line 1, column 4
a: " ¦ /a ¦ syntax ¦ this is not valid YAML: unclosed quote at line 1, column 4
"#;
    check(rows, Syntax::Yaml, str::to_owned);
    let rows = r#"
 ¦  ¦ syntax ¦ this is not valid JSON: EOF while parsing a value at line 1 column 0
[1 ¦ /1 ¦ syntax ¦ this is not valid JSON: EOF while parsing a list at line 1 column 2
{"a":1,} ¦  ¦ syntax ¦ this is not valid JSON: trailing comma at line 1 column 8
{} {} ¦  ¦ syntax ¦ this is not valid JSON: trailing characters at line 1 column 4
{"a": 1e999} ¦ /a ¦ syntax ¦ this is not valid JSON: number out of range at line 1 column 11
{"a": NaN} ¦ /a ¦ syntax ¦ this is not valid JSON: expected value at line 1 column 7
"text" ¦  ¦ wrong_type ¦ expected a mapping, found text
"#;
    check(rows, Syntax::Json, str::to_owned);
}

#[test]
fn duplicate_keys_are_refused_in_both_syntaxes() {
    let rows = r#"
workflow: v ¦ /workflow ¦ duplicate_key ¦ the key `workflow` is given twice
nodes: {} ¦ /nodes ¦ duplicate_key ¦ the key `nodes` is given twice
inputs: { type: object, "type": object } ¦ /inputs/type ¦ duplicate_key ¦ the key `type` is given twice
"#;
    check(rows, Syntax::Yaml, |says| format!("workflow: w\nnodes: {{ a: {{ sleep: 1s }} }}\n{says}\n"));
    let rows = r#"
{"workflow": "w", "nodes": {"a": {"sleep": "1s", "sleep": "2s"}}} ¦ /nodes/a/sleep ¦ duplicate_key ¦ the key `sleep` is given twice
{"workflow": "w", "nodes": {"a": {"sleep": "1s", "\u0073leep": "2s"}}} ¦ /nodes/a/sleep ¦ duplicate_key ¦ the key `sleep` is given twice
{"workflow": "w", "nodes": {"a": {"transform": {"x~/y": 1, "x~/y": 1}}}} ¦ /nodes/a/transform/x~0~1y ¦ duplicate_key ¦ the key `x~/y` is given twice
"#;
    check(rows, Syntax::Json, str::to_owned);
}

#[test]
fn fields_of_the_definition() {
    let rows = r#"
x-custom: 1 ¦ /x-custom ¦ unknown_key ¦ unknown key `x-custom` ¦ known here: workflow, description, inputs, budget, flat_fee, deadline, defaults, agents, schemas, nodes, outputs
ouputs: {} ¦ /ouputs ¦ unknown_key ¦ unknown key `ouputs` ¦ did you mean `outputs`?
schemas: [] ¦ /schemas ¦ wrong_type ¦ expected a mapping, found a list
schemas: { a-b: {} } ¦ /schemas/a-b ¦ invalid_name ¦ names in `schemas` must be 1 to 64 letters, digits and _, a letter first
schemas: { Plan: { type: objekt } } ¦ /schemas/Plan/type ¦ invalid_schema ¦ this is not a usable JSON Schema: value is not valid under any of the schemas listed in the 'anyOf' keyword
schemas: { Plan: { $ref: '#/$defs/x' } } ¦ /schemas/Plan/$ref ¦ unsupported_schema ¦ `$ref: #/$defs/x` leads to nothing in this schema
description: 5 ¦ /description ¦ wrong_type ¦ expected text, found a number
inputs: [1] ¦ /inputs ¦ wrong_type ¦ expected a JSON Schema (a mapping), found a list
inputs: { type: objekt } ¦ /inputs/type ¦ invalid_schema ¦ this is not a usable JSON Schema: value is not valid under any of the schemas listed in the 'anyOf' keyword
inputs: { $ref: '#' } ¦ /inputs/$ref ¦ unsupported_schema ¦ `$ref: #` leads back to itself
budget: 300 ¦ /budget ¦ wrong_type ¦ expected a mapping, found a number
budget: {} ¦ /budget/credits ¦ missing ¦ `credits` is missing: it is the most a mission may spend
budget: { credits: 12.5 } ¦ /budget/credits ¦ invalid_credits ¦ `credits` must be a whole number or a decimal in quotes, so that it stays exact ¦ write "12.5"
budget: { credits: '0.0000001' } ¦ /budget/credits ¦ invalid_credits ¦ `0.0000001` has more than six decimal places: the smallest amount is 0.000001 credits
budget: { credits: 0 } ¦ /budget/credits ¦ out_of_range ¦ `credits` must be more than zero
budget: { credits: 5, on_exhausted: paus } ¦ /budget/on_exhausted ¦ unknown_choice ¦ `on_exhausted` must be one of: pause, fail ¦ did you mean `pause`?
budget: { credits: 5, limit: 1 } ¦ /budget/limit ¦ unknown_key ¦ unknown key `limit` ¦ known here: credits, on_exhausted
flat_fee: -1 ¦ /flat_fee ¦ out_of_range ¦ `flat_fee` must not be negative
flat_fee: [1] ¦ /flat_fee ¦ wrong_type ¦ expected an amount of credits, found a list
deadline: 30 ¦ /deadline ¦ invalid_duration ¦ `deadline` must be a duration such as 500ms, 30s, 10m, 2h or 1d ¦ write `30s` for seconds
deadline: 31d ¦ /deadline ¦ out_of_range ¦ `deadline` must be from 1ms to 30d
defaults: { timeout: 25h } ¦ /defaults/timeout ¦ out_of_range ¦ `timeout` must be from 1ms to 1d
defaults: { max_output_tokens: 1000001 } ¦ /defaults/max_output_tokens ¦ out_of_range ¦ `max_output_tokens` must be a whole number from 1 to 1000000
defaults: { temperature: 2.5 } ¦ /defaults/temperature ¦ out_of_range ¦ `temperature` must be a number from 0 to 2 with at most six decimals
defaults: { max_tool_calls: 257 } ¦ /defaults/max_tool_calls ¦ out_of_range ¦ `max_tool_calls` must be a whole number from 0 to 256
defaults: { models: [a, a] } ¦ /defaults/models/1 ¦ duplicate_model ¦ the model `a` is named twice
defaults: { on_error: { fallback: a } } ¦ /defaults/on_error ¦ wrong_type ¦ expected fail, skip or continue, found a mapping
defaults: { on_error: ignore } ¦ /defaults/on_error ¦ unknown_choice ¦ `on_error` must be one of: fail, skip, continue
defaults: { cache: {} } ¦ /defaults/cache ¦ unsupported ¦ `cache` is not supported by this version
outputs: { x: inputs.idea } ¦ /outputs/x ¦ invalid_path ¦ an output is a path such as nodes.summary.output or nodes.summary.output.title
outputs: { x: nodes.aa.output } ¦ /outputs/x ¦ unknown_node ¦ there is no node `aa` ¦ did you mean `a`?
"#;
    check(rows, Syntax::Yaml, |says| format!("workflow: w\nnodes: {{ a: {{ sleep: 1s }} }}\n{says}\n"));
    let rows = r#"
nodes: { a: { sleep: 1s } } ¦ /workflow ¦ missing ¦ `workflow` is missing: it is the name of the workflow
workflow: My Flow⏎nodes: { a: { sleep: 1s } } ¦ /workflow ¦ invalid_name ¦ `workflow` must be 1 to 64 of the characters a-z, 0-9 and -
workflow: w ¦ /nodes ¦ no_nodes ¦ a workflow has at least one node
workflow: w⏎nodes: {} ¦ /nodes ¦ no_nodes ¦ a workflow has at least one node
workflow: w⏎nodes: [a] ¦ /nodes ¦ wrong_type ¦ expected a mapping, found a list
"#;
    check(rows, Syntax::Yaml, str::to_owned);
}

#[test]
fn fields_of_agents() {
    let rows = r#"
Writer: { instructions: x } ¦ /agents/Writer ¦ invalid_name ¦ names in `agents` must be 1 to 64 of the characters a-z, 0-9 and _, a letter first
b: {} ¦ /agents/b/instructions ¦ missing ¦ `instructions` is missing: they tell the agent who it is
b: text ¦ /agents/b ¦ wrong_type ¦ expected a mapping, found text
b: { instructions: x, memory: agents } ¦ /agents/b/memory ¦ unknown_choice ¦ `memory` must be one of: none, agent, mission ¦ did you mean `agent`?
b: { instructions: x, memory: [] } ¦ /agents/b/memory ¦ wrong_type ¦ expected a mapping, found a list
b: { instructions: x, memory: {} } ¦ /agents/b/memory/kind ¦ missing ¦ `kind` is missing: it says what is remembered: none, agent or mission
b: { instructions: x, memory: { kind: mission, tokens: 0 } } ¦ /agents/b/memory/tokens ¦ out_of_range ¦ `tokens` must be a whole number from 1 to 100000
b: { instructions: x, memory: { kind: agent, last: 5 } } ¦ /agents/b/memory/last ¦ unknown_key ¦ unknown key `last` ¦ known here: kind, tokens
b: { instructions: x, tools: http_get } ¦ /agents/b/tools ¦ wrong_type ¦ expected a list of tool names, found text
b: { instructions: x, tools: [http_get, 'http get'] } ¦ /agents/b/tools/1 ¦ invalid_name ¦ a tool's name must be 1 to 64 letters, digits, _ and -, a letter first
b: { instructions: x, tools: [mcp__files, mcp__files__read] } ¦ /agents/b/tools/0 ¦ invalid_name ¦ a tool of an MCP server is named `mcp__SERVER__TOOL`
b: { instructions: x, tools: [a, b, a] } ¦ /agents/b/tools/2 ¦ duplicate_tool ¦ the tool `a` is named twice
b: { instructions: x, modell: y } ¦ /agents/b/modell ¦ unknown_key ¦ unknown key `modell` ¦ did you mean `model`?
b: { instructions: x, model: m, models: [n] } ¦ /agents/b/models ¦ several_models ¦ `model` names one model and `models` a list: give one of them
b: { instructions: x, models: m } ¦ /agents/b/models ¦ wrong_type ¦ expected a list of models, found text
b: { instructions: x, models: [] } ¦ /agents/b/models ¦ out_of_range ¦ `models` names 1 to 5 models, this names 0
b: { instructions: x, models: [a, b, c, d, e, f] } ¦ /agents/b/models ¦ out_of_range ¦ `models` names 1 to 5 models, this names 6
b: { instructions: x, models: [m, 5] } ¦ /agents/b/models/1 ¦ wrong_type ¦ expected the name of a model, found a number
b: { instructions: x, models: [m, gpt 4] } ¦ /agents/b/models/1 ¦ invalid_name ¦ a model's name must be 1 to 128 visible ASCII characters without spaces
b: { instructions: x, model: gpt 4 } ¦ /agents/b/model ¦ invalid_name ¦ `model` must be 1 to 128 visible ASCII characters without spaces
"#;
    check(rows, Syntax::Yaml, |says| format!("workflow: w\nnodes: {{ a: {{ sleep: 1s }} }}\nagents:\n  {says}\n"));
}

/// `says` is the inside of node `a`; before it comes node `first`, apart from both stands `other`.
pub(super) fn around_node(says: &str) -> String {
    format!(
        "workflow: w
inputs: {{ type: object, properties: {{ idea: {{}} }} }}
schemas: {{ Plan: {{ type: object, properties: {{ files: {{ type: array }} }} }} }}
agents: {{ writer: {{ instructions: Write., model: m }}, blank: {{ instructions: x }} }}
nodes:
  first: {{ sleep: 1s }}
  a: {{ {says} }}
  other: {{ sleep: 1s }}
"
    )
}

#[test]
fn fields_of_nodes() {
    let rows = r#"
sleep: 1s, map: { over: "[1]" } ¦ /nodes/a/map ¦ misplaced_key ¦ `map` does not go with a node that waits
transform: 1, map: {} ¦ /nodes/a/map/over ¦ missing ¦ `over` is missing: it is the expression that gives the list of items, e.g. `nodes.plan.output.files`
transform: 1, map: { over: '{{ inputs.idea }}' } ¦ /nodes/a/map/over ¦ condition_syntax ¦ `over` is an expression, not a template ¦ write the expression without braces, e.g. `inputs.count > 3`
transform: 1, map: { over: nodes.first.output } ¦ /nodes/a/map/over ¦ not_upstream ¦ line 1: `first` does not come before this node ¦ add `first` to `needs`
transform: 1, map: { over: inputs.ides } ¦ /nodes/a/map/over ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
transform: 1, map: { over: item } ¦ /nodes/a/map/over ¦ unknown_variable ¦ the condition uses `item`, which does not exist ¦ known here: inputs, nodes
transform: 1, map: { over: "[1]", as: inputs } ¦ /nodes/a/map/as ¦ reserved_name ¦ `inputs` means something else in templates
transform: 1, map: { over: "[1]", as: range } ¦ /nodes/a/map/as ¦ reserved_name ¦ `range` means something else in templates
transform: 1, map: { over: "[1]", max_parallel: 0 } ¦ /nodes/a/map/max_parallel ¦ out_of_range ¦ `max_parallel` must be a whole number from 1 to 1000
transform: 1, map: { over: "[1]", on_item_error: ignore } ¦ /nodes/a/map/on_item_error ¦ unknown_choice ¦ `on_item_error` must be one of: fail_fast, skip, continue
transform: 1, map: { over: "[1]", key: '{{ itm }}' } ¦ /nodes/a/map/key ¦ unknown_variable ¦ the template uses `itm`, which does not exist ¦ did you mean `item`?
transform: 1, map: { over: "[1]", after: task.attempt } ¦ /nodes/a/map/after ¦ unknown_variable ¦ line 1: this condition does not know `task` ¦ known here: inputs, nodes, item, map
transform: '{{ file }}', map: { over: "[1]" } ¦ /nodes/a/transform ¦ unknown_variable ¦ the template uses `file`, which does not exist ¦ known here: inputs, nodes, run, task, message, messages, item, map
transform: 1, repeat: { max: 3 } ¦ /nodes/a/repeat/until ¦ missing ¦ `until` is missing: it is the expression that ends the loop, e.g. `output.done`
transform: 1, repeat: { until: output } ¦ /nodes/a/repeat/max ¦ missing ¦ `max` is missing: it is the most iterations
transform: 1, repeat: { until: output, max: 101 } ¦ /nodes/a/repeat/max ¦ out_of_range ¦ `max` must be a whole number from 1 to 100
transform: 1, repeat: { until: outptu, max: 3 } ¦ /nodes/a/repeat/until ¦ unknown_variable ¦ the condition uses `outptu`, which does not exist ¦ did you mean `output`?
transform: 1, repeat: { until: output, max: 3, on_max: give_up } ¦ /nodes/a/repeat/on_max ¦ unknown_choice ¦ `on_max` must be one of: accept, fail
agent: writer, prompt: x, review: { accept: verdict, max: 2 } ¦ /nodes/a/review/agent ¦ missing ¦ `agent` is missing: it is the agent that reviews
agent: writer, prompt: x, review: { agent: writer, max: 2 } ¦ /nodes/a/review/accept ¦ missing ¦ `accept` is missing: it is the expression over the reviewer's answer, e.g. `verdict == 'LGTM'`
agent: writer, prompt: x, review: { agent: write, accept: verdict, max: 2 } ¦ /nodes/a/review/agent ¦ unknown_agent ¦ there is no agent `write` ¦ did you mean `writer`?
agent: writer, prompt: x, review: { agent: writer, accept: verdit, max: 2 } ¦ /nodes/a/review/accept ¦ unknown_variable ¦ the condition uses `verdit`, which does not exist ¦ did you mean `verdict`?
agent: writer, prompt: x, review: { agent: writer, accept: verdict, max: 2, prompt: '{{ draft }}' } ¦ /nodes/a/review/prompt ¦ unknown_variable ¦ the template uses `draft`, which does not exist ¦ known here: inputs, nodes, run, task, message, messages, review
agent: writer, prompt: x, review: { agent: blank, accept: verdict, max: 2 } ¦ /nodes/a/review/model ¦ missing_model ¦ no model: set `model` or `models` on this node, on the agent `blank` or in `defaults`
sleep: 1s, on_error: ignore ¦ /nodes/a/on_error ¦ unknown_choice ¦ `on_error` must be one of: fail, skip, continue
sleep: 1s, on_error: contine ¦ /nodes/a/on_error ¦ unknown_choice ¦ `on_error` must be one of: fail, skip, continue ¦ did you mean `continue`?
sleep: 1s, on_error: true ¦ /nodes/a/on_error ¦ wrong_type ¦ expected fail, skip, continue or a fallback, found true or false
sleep: 1s, on_error: {} ¦ /nodes/a/on_error/fallback ¦ missing ¦ `fallback` is missing: it is the node that runs when this one fails
sleep: 1s, on_error: { fallback: 1 } ¦ /nodes/a/on_error/fallback ¦ wrong_type ¦ expected text, found a number
sleep: 1s, on_error: { fallback: firts } ¦ /nodes/a/on_error/fallback ¦ unknown_node ¦ there is no node `firts` ¦ did you mean `first`?
sleep: 1s, on_error: { fallback: a } ¦ /nodes/a/on_error/fallback ¦ self_fallback ¦ `a` cannot stand in for itself
sleep: 1s, on_error: { fallback: first, node: x } ¦ /nodes/a/on_error/node ¦ unknown_key ¦ unknown key `node` ¦ known here: fallback
sleep: 1s, retry: { on: lost } ¦ /nodes/a/retry/on ¦ wrong_type ¦ expected a list of error classes, found text
sleep: 1s, retry: { on: [lost, 1] } ¦ /nodes/a/retry/on/1 ¦ wrong_type ¦ expected an error class, found a number
sleep: 1s, retry: { on: [rate_limit] } ¦ /nodes/a/retry/on/0 ¦ unknown_choice ¦ an error class must be one of: retryable, rate_limited, cancelled, lost ¦ did you mean `rate_limited`?
sleep: 1s, retry: { on: [lost, permanent] } ¦ /nodes/a/retry/on/1 ¦ never_retried ¦ a permanent error is never tried again: no attempt would end differently
sleep: 1s, retry: { on: [budget] } ¦ /nodes/a/retry/on/0 ¦ never_retried ¦ a task that lacks credits is never tried again: it waits or fails as `on_exhausted` says
sleep: 1s, until: '2026-08-01T09:30:00Z' ¦ /nodes/a ¦ several_kinds ¦ a node is of one kind, this has: sleep, until
until: tomorrow ¦ /nodes/a/until ¦ invalid_time ¦ `until` must be a time such as 2026-08-01T09:30:00Z, or a template that becomes one ¦ for what the input says, write "{{ inputs.start_at }}"
until: '2026-02-29T09:30:00Z' ¦ /nodes/a/until ¦ invalid_time ¦ `until` must be a time such as 2026-08-01T09:30:00Z, or a template that becomes one ¦ for what the input says, write "{{ inputs.start_at }}"
until: 5 ¦ /nodes/a/until ¦ wrong_type ¦ expected text, found a number
until: '{{ inputs.ides }}' ¦ /nodes/a/until ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
until: '{{ nodes.first.output }}' ¦ /nodes/a/until ¦ not_upstream ¦ line 1: `first` does not come before this node ¦ add `first` to `needs`
until: '{{ task.attempt }}' ¦ /nodes/a/until ¦ unknown_variable ¦ line 1: this template does not know `task` ¦ known here: inputs, nodes
until: '{{ inputs.idea' ¦ /nodes/a/until ¦ template_syntax ¦ line 1: unexpected end of input, expected end of variable block
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn more_fields_of_nodes() {
    let rows = r#"
agent: writer, prompt: x, promt: y ¦ /nodes/a/promt ¦ unknown_key ¦ unknown key `promt` ¦ did you mean `prompt`?
sleep: 1s, a/b~c: 1 ¦ /nodes/a/a~1b~0c ¦ unknown_key ¦ unknown key `a/b~c` ¦ known here: needs, when, map, repeat, prompt, review, sleep, agent, transform, http, exec, until, approval, signal, workflow, plan, model, models, max_output_tokens, temperature, max_turns, max_tool_calls, memory, output, tools, cache, concurrency, on_error, pool, priority, retry, timeout, deadline, units, budget
needs: [first] ¦ /nodes/a ¦ no_kind ¦ a node must have one of: agent, transform, http, exec, sleep, until, approval, signal, workflow, plan
prompt: x ¦ /nodes/a ¦ no_kind ¦ a node must have one of: agent, transform, http, exec, sleep, until, approval, signal, workflow, plan ¦ `prompt` goes with `agent: <name>`
agent: writer, prompt: x, sleep: 1s ¦ /nodes/a ¦ several_kinds ¦ a node is of one kind, this has: agent, sleep
agent: writer, prompt: x, output: Plan ¦ /nodes/a/output ¦ wrong_type ¦ expected a mapping, found text
agent: writer, prompt: x, output: { repair: 1 } ¦ /nodes/a/output/schema ¦ missing ¦ `schema` is missing: it is the name of one of the `schemas`, or a JSON Schema in place
agent: writer, prompt: x, output: { schema: Plam } ¦ /nodes/a/output/schema ¦ unknown_schema ¦ there is no schema `Plam` ¦ did you mean `Plan`?
agent: writer, prompt: x, output: { schema: [] } ¦ /nodes/a/output/schema ¦ wrong_type ¦ expected the name of a schema or a JSON Schema, found a list
agent: writer, prompt: x, output: { schema: Plan, repair: 11 } ¦ /nodes/a/output/repair ¦ out_of_range ¦ `repair` must be a whole number from 0 to 10
agent: writer, prompt: x, output: { schema: Plan, repairs: 1 } ¦ /nodes/a/output/repairs ¦ unknown_key ¦ unknown key `repairs` ¦ did you mean `repair`?
agent: writer, prompt: x, output: { schema: { type: objekt } } ¦ /nodes/a/output/schema/type ¦ invalid_schema ¦ this is not a usable JSON Schema: value is not valid under any of the schemas listed in the 'anyOf' keyword
transform: x, output: { schema: Plan } ¦ /nodes/a/output ¦ misplaced_key ¦ `output` belongs to nodes with an `agent`
agent: writer, prompt: x, tools: [5] ¦ /nodes/a/tools/0 ¦ wrong_type ¦ expected the name of a tool, found a number
sleep: 1s, tools: [] ¦ /nodes/a/tools ¦ misplaced_key ¦ `tools` belongs to nodes with an `agent`
agent: writer, prompt: x, max_turns: 0 ¦ /nodes/a/max_turns ¦ out_of_range ¦ `max_turns` must be a whole number from 1 to 100
sleep: 1s, max_tool_calls: 3 ¦ /nodes/a/max_tool_calls ¦ misplaced_key ¦ `max_tool_calls` belongs to nodes with an `agent`
sleep: 1s, models: [m] ¦ /nodes/a/models ¦ misplaced_key ¦ `models` belongs to nodes with an `agent`
sleep: 1s, prompt: x ¦ /nodes/a/prompt ¦ misplaced_key ¦ `prompt` belongs to nodes with an `agent`
agent: writer ¦ /nodes/a/prompt ¦ missing ¦ `prompt` is missing: it says what to ask the agent
agent: write, prompt: x ¦ /nodes/a/agent ¦ unknown_agent ¦ there is no agent `write` ¦ did you mean `writer`?
agent: blank, prompt: x ¦ /nodes/a/model ¦ missing_model ¦ no model: set `model` or `models` on this node, on the agent `blank` or in `defaults`
agent: writer, prompt: [x] ¦ /nodes/a/prompt ¦ wrong_type ¦ expected text, found a list
agent: writer, prompt: x, max_output_tokens: 0 ¦ /nodes/a/max_output_tokens ¦ out_of_range ¦ `max_output_tokens` must be a whole number from 1 to 1000000
agent: writer, prompt: x, max_output_tokens: 1.5 ¦ /nodes/a/max_output_tokens ¦ out_of_range ¦ `max_output_tokens` must be a whole number from 1 to 1000000
agent: writer, prompt: x, temperature: warm ¦ /nodes/a/temperature ¦ out_of_range ¦ `temperature` must be a number from 0 to 2 with at most six decimals
sleep: forever ¦ /nodes/a/sleep ¦ invalid_duration ¦ `sleep` must be a duration such as 500ms, 30s, 10m, 2h or 1d
sleep: 0s ¦ /nodes/a/sleep ¦ out_of_range ¦ `sleep` must be from 1ms to 30d
sleep: 1s, deadline: 31d ¦ /nodes/a/deadline ¦ out_of_range ¦ `deadline` must be from 1ms to 30d
sleep: 1s, timeout: 2d ¦ /nodes/a/timeout ¦ out_of_range ¦ `timeout` must be from 1ms to 1d
sleep: 1s, priority: 101 ¦ /nodes/a/priority ¦ out_of_range ¦ `priority` must be a whole number from -100 to 100
sleep: 1s, pool: GPU ¦ /nodes/a/pool ¦ invalid_name ¦ `pool` must be 1 to 32 of the characters a-z, 0-9 and -
sleep: 1s, retry: 3 ¦ /nodes/a/retry ¦ wrong_type ¦ expected a mapping, found a number
sleep: 1s, retry: { max_attempts: 21 } ¦ /nodes/a/retry/max_attempts ¦ out_of_range ¦ `max_attempts` must be a whole number from 1 to 20
sleep: 1s, retry: { backoff: { factor: 11 } } ¦ /nodes/a/retry/backoff/factor ¦ out_of_range ¦ `factor` must be a whole number from 1 to 10
sleep: 1s, retry: { backoff: { jitter: maybe } } ¦ /nodes/a/retry/backoff/jitter ¦ wrong_type ¦ expected true or false, found text
sleep: 1s, retry: { backoff: { initial: 2m } } ¦ /nodes/a/retry/backoff ¦ out_of_range ¦ the first pause (`initial`) is longer than the longest one (`max`)
sleep: 1s, units: { page: 0 } ¦ /nodes/a/units/page ¦ out_of_range ¦ the quantity of `page` must be a whole number from 1 to 1000000000
sleep: 1s, units: { 'a b': 1 } ¦ /nodes/a/units/a b ¦ invalid_name ¦ names in `units` must be 1 to 64 of the characters a-z, 0-9, _, - and ., a letter or digit first
sleep: 1s, units: { page: many } ¦ /nodes/a/units/page ¦ wrong_type ¦ expected a whole number, found text
 ¦ /nodes/a ¦ no_kind ¦ a node must have one of: agent, transform, http, exec, sleep, until, approval, signal, workflow, plan
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn fields_of_nodes_that_take_turns_or_are_done_once() {
    let rows = r#"
transform: x, cache: 1h ¦ /nodes/a/cache ¦ wrong_type ¦ expected a mapping, found text
transform: x, cache: {} ¦ /nodes/a/cache/ttl ¦ missing ¦ `ttl` is missing: it says for how long an output may be used again
transform: x, cache: { ttl: 31d } ¦ /nodes/a/cache/ttl ¦ out_of_range ¦ `ttl` must be from 1ms to 30d
transform: x, cache: { ttl: 1h, key: '{{ inputs.ides }}' } ¦ /nodes/a/cache/key ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
transform: x, cache: { ttl: 1h, scope: all } ¦ /nodes/a/cache/scope ¦ unknown_key ¦ unknown key `scope` ¦ known here: ttl, key
sleep: 1s, cache: { ttl: 1h } ¦ /nodes/a/cache ¦ not_cacheable ¦ only outputs of nodes with `agent`, `http` or `transform` are used again
transform: x, concurrency: 3 ¦ /nodes/a/concurrency ¦ wrong_type ¦ expected a mapping, found a number
transform: x, concurrency: { max: 1 } ¦ /nodes/a/concurrency/key ¦ missing ¦ `key` is missing: it says what the tasks share that must not run at the same time
transform: x, concurrency: { key: k } ¦ /nodes/a/concurrency/max ¦ missing ¦ `max` is missing: it is how many of them may run at once
transform: x, concurrency: { key: '', max: 1 } ¦ /nodes/a/concurrency/key ¦ no_key ¦ the `key` is empty
transform: x, concurrency: { key: k, max: 0 } ¦ /nodes/a/concurrency/max ¦ out_of_range ¦ `max` must be a whole number from 1 to 10000
transform: x, concurrency: { key: '{{ inputs.ides }}', max: 1 } ¦ /nodes/a/concurrency/key ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
transform: x, concurrency: { key: '{{ run.id }}', max: 1 } ¦ /nodes/a/concurrency/key ¦ unknown_variable ¦ line 1: this template does not know `run` ¦ known here: inputs, nodes
transform: x, concurrency: { key: '{{ nodes.first.output }}', max: 1 } ¦ /nodes/a/concurrency/key ¦ not_upstream ¦ line 1: `first` does not come before this node ¦ add `first` to `needs`
agent: writer, prompt: x, memory: agent, cache: { ttl: 1h } ¦ /nodes/a/cache ¦ not_cacheable ¦ what an agent answers that remembers depends on what was said: `cache` does not go with `memory`
transform: x, memory: agent ¦ /nodes/a/memory ¦ misplaced_key ¦ `memory` belongs to nodes with an `agent`
transform: x, cache: { ttl: 1h }, repeat: { until: output, max: 2 } ¦ /nodes/a/cache ¦ not_cacheable ¦ a round that took an earlier one's output would change nothing: `cache` goes with neither `repeat` nor `review`
transform: x, concurrency: { key: k, max: 1 }, map: { over: '[1]' } ¦ /nodes/a/concurrency ¦ one_of_many ¦ `concurrency` goes with neither `map` nor `repeat` nor `review`; for items there is `max_parallel`
sleep: 1s, concurrency: { key: k, max: 1 } ¦ /nodes/a/concurrency ¦ no_worker ¦ no worker does this node, so that any number of them may wait at once
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn decisions_of_people() {
    let rows = r#"
approval: { } ¦ /nodes/a/approval/show ¦ missing ¦ `show` is missing: it is what whoever decides is shown
approval: yes please ¦ /nodes/a/approval ¦ wrong_type ¦ expected a mapping, found text
approval: { show: x, expires: 31d } ¦ /nodes/a/approval/expires ¦ out_of_range ¦ `expires` must be from 1ms to 30d
approval: { show: x, on_expire: aprove } ¦ /nodes/a/approval/on_expire ¦ unknown_choice ¦ `on_expire` must be one of: reject, approve, fail ¦ did you mean `approve`?
approval: { show: x, on_reject: skip } ¦ /nodes/a/approval/on_reject ¦ unknown_choice ¦ `on_reject` must be one of: fail, continue
approval: { show: x, expire: 1h } ¦ /nodes/a/approval/expire ¦ unknown_key ¦ unknown key `expire` ¦ did you mean `expires`?
approval: { show: '{{ nodes.other.output }}' } ¦ /nodes/a/approval/show ¦ not_upstream ¦ line 1: `other` does not come before this node ¦ add `other` to `needs`
approval: { show: '{{ task.attempt }}' } ¦ /nodes/a/approval/show ¦ unknown_variable ¦ line 1: this template does not know `task` ¦ known here: inputs, nodes
approval: { show: x }, sleep: 1s ¦ /nodes/a ¦ several_kinds ¦ a node is of one kind, this has: sleep, approval
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn signals_from_outside() {
    let rows = r#"
signal: paid ¦ /nodes/a/signal ¦ wrong_type ¦ expected a mapping, found text
signal: { expires: 1h } ¦ /nodes/a/signal/name ¦ missing ¦ `name` is missing: it is the signal to wait for
signal: { name: Paid } ¦ /nodes/a/signal/name ¦ invalid_name ¦ `name` must be 1 to 64 of the characters a-z, 0-9, _ and -, a letter first
signal: { name: paid, expires: 0s } ¦ /nodes/a/signal/expires ¦ out_of_range ¦ `expires` must be from 1ms to 30d
signal: { name: paid, on_expire: skip } ¦ /nodes/a/signal/on_expire ¦ unknown_choice ¦ `on_expire` must be one of: fail, continue
signal: { name: paid, expire: 1h } ¦ /nodes/a/signal/expire ¦ unknown_key ¦ unknown key `expire` ¦ did you mean `expires`?
signal: { name: paid }, until: '2026-08-01T09:30:00Z' ¦ /nodes/a ¦ several_kinds ¦ a node is of one kind, this has: until, signal
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn fields_of_nodes_that_call_services_or_run_programs() {
    let rows = r#"
http: { method: GET } ¦ /nodes/a/http/url ¦ missing ¦ `url` is missing: it says what to call
http: 'https://example.com' ¦ /nodes/a/http ¦ wrong_type ¦ expected a mapping, found text
http: { url: example.com } ¦ /nodes/a/http/url ¦ invalid_url ¦ `url` must begin with http:// or https://
http: { url: 'https://x/{{ inputs.ides }}' } ¦ /nodes/a/http/url ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
http: { url: 'https://x/', method: get } ¦ /nodes/a/http/method ¦ unknown_choice ¦ `method` must be one of: GET, HEAD, POST, PUT, PATCH, DELETE
http: { url: 'https://x/', headers: { Host: y } } ¦ /nodes/a/http/headers/Host ¦ reserved_header ¦ the header `host` is set by the client itself
http: { url: 'https://x/', headers: { X-A: y, x-a: z } } ¦ /nodes/a/http/headers/x-a ¦ duplicate_header ¦ the header `x-a` is given twice
http: { url: 'https://x/', headers: { 'x a': y } } ¦ /nodes/a/http/headers/x a ¦ invalid_name ¦ names in `headers` must be 1 to 64 letters, digits, - and _
http: { url: 'https://x/', headers: { x-a: 5 } } ¦ /nodes/a/http/headers/x-a ¦ wrong_type ¦ expected text or { secret: NAME }, found a number
http: { url: 'https://x/', headers: { x-a: {} } } ¦ /nodes/a/http/headers/x-a/secret ¦ missing ¦ `secret` is missing: it names a secret that the operator configured
http: { url: 'https://x/', headers: { x-a: { secret: 'b c' } } } ¦ /nodes/a/http/headers/x-a/secret ¦ invalid_name ¦ `secret` must be 1 to 64 letters, digits, _ and -, a letter first
http: { url: 'https://x/', headers: { x-a: '{{ nodes.first.output }}' } } ¦ /nodes/a/http/headers/x-a ¦ not_upstream ¦ line 1: `first` does not come before this node ¦ add `first` to `needs`
http: { url: 'https://x/', query: { a: [1] } } ¦ /nodes/a/http/query/a ¦ wrong_type ¦ expected text, a number, true or false, found a list
http: { url: 'https://x/', body: x } ¦ /nodes/a/http/body ¦ unexpected_body ¦ a GET request carries no `body`
http: { url: 'https://x/', method: POST, body: { a: ['{{ inputs.ides }}'] } } ¦ /nodes/a/http/body/a/0 ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
http: { url: 'https://x/', expect: 200 } ¦ /nodes/a/http/expect ¦ wrong_type ¦ expected a list of statuses such as 2xx and 404, found a number
http: { url: 'https://x/', expect: [2xx, 1xx] } ¦ /nodes/a/http/expect/1 ¦ invalid_status ¦ a status is a number from 200 to 599, or a class such as 2xx
http: { url: 'https://x/', max_bytes: 1048577 } ¦ /nodes/a/http/max_bytes ¦ out_of_range ¦ `max_bytes` must be a whole number from 1 to 1048576
http: { url: 'https://x/', retries: 3 } ¦ /nodes/a/http/retries ¦ unknown_key ¦ unknown key `retries` ¦ known here: method, url, query, headers, body, expect, max_bytes
http: { url: 'https://x/' }, prompt: x ¦ /nodes/a/prompt ¦ misplaced_key ¦ `prompt` belongs to nodes with an `agent`
exec: { stdin: x } ¦ /nodes/a/exec/command ¦ missing ¦ `command` is missing: it is the program and its arguments, as a list
exec: { command: 'ls -l' } ¦ /nodes/a/exec/command ¦ wrong_type ¦ expected a list: the program and its arguments, found text
exec: { command: [] } ¦ /nodes/a/exec/command ¦ out_of_range ¦ `command` has 1 to 128 parts, this has 0
exec: { command: [ls, 5] } ¦ /nodes/a/exec/command/1 ¦ wrong_type ¦ expected text, found a number
exec: { command: [ls, '{{ inputs.ides }}'] } ¦ /nodes/a/exec/command/1 ¦ unknown_input ¦ line 1: `inputs` has no property `ides` in its schema ¦ did you mean `idea`?
exec: { command: [ls], env: { '1A': x } } ¦ /nodes/a/exec/env/1A ¦ invalid_name ¦ names in `env` must be 1 to 64 letters, digits and _, no digit first
exec: { command: [ls], ok_codes: [0, 256] } ¦ /nodes/a/exec/ok_codes/1 ¦ out_of_range ¦ an exit code is a number from 0 to 255
exec: { command: [ls], timeout: 5 } ¦ /nodes/a/exec/timeout ¦ invalid_duration ¦ `timeout` must be a duration such as 500ms, 30s, 10m, 2h or 1d ¦ write `5s` for seconds
exec: { command: [ls], shell: true } ¦ /nodes/a/exec/shell ¦ unknown_key ¦ unknown key `shell` ¦ known here: command, stdin, env, timeout, ok_codes
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn text_that_databases_cannot_store() {
    let rows = r#"
transform: "a\0b" ¦ /nodes/a/transform ¦ nul_character ¦ text must not contain the character U+0000, which databases cannot store
transform: { "a\0b": 1 } ¦ /nodes/a/transform/a\0b ¦ nul_character ¦ text must not contain the character U+0000, which databases cannot store
"#;
    check(rows, Syntax::Yaml, around_node);
}

#[test]
fn what_nodes_say_about_each_other() {
    let rows = r#"
sleep: 1s, needs: first ¦ /nodes/a/needs ¦ wrong_type ¦ expected a list of node keys, found text
sleep: 1s, needs: [first, 5] ¦ /nodes/a/needs/1 ¦ wrong_type ¦ expected a node key, found a number
sleep: 1s, needs: [first, a] ¦ /nodes/a/needs/1 ¦ self_need ¦ `a` needs itself
sleep: 1s, needs: [first, other, first] ¦ /nodes/a/needs/2 ¦ duplicate_need ¦ `first` is needed twice
sleep: 1s, needs: [frist] ¦ /nodes/a/needs/0 ¦ unknown_node ¦ there is no node `frist` ¦ did you mean `first`?
transform: '{{ nodes.other.output }}' ¦ /nodes/a/transform ¦ not_upstream ¦ line 1: `other` does not come before this node ¦ add `other` to `needs`
transform: ['{{ nodes.a.output }}'] ¦ /nodes/a/transform/0 ¦ own_output ¦ line 1: a node cannot use its own output
transform: { x: "\n{{ nodes['frist'] }}" } ¦ /nodes/a/transform/x ¦ unknown_node ¦ line 2: there is no node `frist` ¦ did you mean `first`?
needs: [first], transform: '{{ nodes.first.title }}' ¦ /nodes/a/transform ¦ unknown_variable ¦ line 1: `nodes.first.title` does not exist ¦ write `nodes.first.output.title`
"#;
    check(rows, Syntax::Yaml, around_node);
    let rows = r#"
a: { sleep: 1s, needs: [b] }⏎  b: { sleep: 1s, needs: [a] } ¦ /nodes/a/needs/0 ¦ cycle ¦ these nodes need each other in a circle: a → b → a
a: { sleep: 1s, needs: [b], on_error: { fallback: b } }⏎  b: { sleep: 1s } ¦ /nodes/a/on_error/fallback ¦ needed_fallback ¦ `b` comes before this node, and stands in for it only after it
a: { sleep: 1s, needs: [b], on_error: { fallback: c } }⏎  b: { sleep: 1s, needs: [c] }⏎  c: { sleep: 1s } ¦ /nodes/a/on_error/fallback ¦ needed_fallback ¦ `c` comes before this node, and stands in for it only after it
a: { sleep: 1s, on_error: { fallback: c } }⏎  b: { sleep: 1s, on_error: { fallback: c } }⏎  c: { sleep: 1s } ¦ /nodes/b/on_error/fallback ¦ shared_fallback ¦ `c` is the fallback of `a` already
b: { sleep: 1s, on_error: { fallback: a } }⏎  a: { sleep: 1s, on_error: { fallback: b } } ¦ /nodes/a/on_error/fallback ¦ cycle ¦ these nodes stand in for each other in a circle: a → b → a
a: { sleep: 1s, on_error: { fallback: b } }⏎  b: { sleep: 1s, needs: [c] }⏎  c: { sleep: 1s, needs: [a] } ¦ /nodes/a/on_error/fallback ¦ cycle ¦ these nodes need each other in a circle: b → c → b; a fallback comes after its node and before what needs that node
z: { sleep: 1s, needs: [c] }⏎  c: { sleep: 1s, needs: [ok, b] }⏎  b: { sleep: 1s, needs: [z] }⏎  ok: { sleep: 1s }⏎  later: { sleep: 1s, needs: [z] } ¦ /nodes/b/needs/0 ¦ cycle ¦ these nodes need each other in a circle: b → z → c → b
A1: { sleep: 1s } ¦ /nodes/A1 ¦ invalid_name ¦ names in `nodes` must be 1 to 64 of the characters a-z, 0-9 and _, a letter first
"#;
    check(rows, Syntax::Yaml, |says| format!("workflow: w\nnodes:\n  {says}\n"));
}

#[test]
fn what_is_taken_from_outputs_with_a_schema() {
    let rows = r#"
nodes.plan.output.file }}'⏎outputs: {} ¦ /nodes/b/transform ¦ unknown_output ¦ line 1: the output of `plan` has no property `file` in its schema ¦ did you mean `files`?
nodes[''plan''].output["fils"] }}'⏎outputs: {} ¦ /nodes/b/transform ¦ unknown_output ¦ line 1: the output of `plan` has no property `fils` in its schema ¦ did you mean `files`?
nodes.plan.output.files[0].any }}'⏎outputs: { x: nodes.plan.output.title.x } ¦ /outputs/x ¦ unknown_output ¦ the output of `plan` has no property `title` in its schema
nodes.free.output.any }}'⏎outputs: { x: nodes.free.output.any, y: nodes.plan.output.files.0, z: nodes.frei.output } ¦ /outputs/z ¦ unknown_node ¦ there is no node `frei` ¦ did you mean `free`?
"#;
    check(rows, Syntax::Yaml, |says| {
        format!(
            "workflow: w
schemas: {{ Plan: {{ type: object, properties: {{ files: {{ type: array }} }} }} }}
agents: {{ writer: {{ instructions: Write., model: m, output: {{ schema: Plan }} }} }}
nodes:
  plan: {{ agent: writer, prompt: x }}
  free: {{ agent: writer, prompt: x, output: {{ schema: {{ type: object }} }} }}
  b:
    needs: [plan, free]
    transform: '{{{{ {says}
"
        )
    });
}

#[test]
fn templates() {
    let rows = r#"
{{ inputs.idea ¦ /nodes/a/prompt ¦ template_syntax ¦ line 1: unexpected end of input, expected end of variable block
\n\n{% if inputs.idea %} ¦ /nodes/a/prompt ¦ template_syntax ¦ line 3: unexpected end of input, expected end of block
{% include 'x' %} ¦ /nodes/a/prompt ¦ template_syntax ¦ line 1: unknown statement include
{% macro x() %}{% endmacro %} ¦ /nodes/a/prompt ¦ template_syntax ¦ line 1: unknown statement macro
{{ input.idea }} ¦ /nodes/a/prompt ¦ unknown_variable ¦ the template uses `input`, which does not exist ¦ did you mean `inputs`?
{{ now() }} ¦ /nodes/a/prompt ¦ unknown_variable ¦ the template uses `now`, which does not exist ¦ known here: inputs, nodes, run, task, message, messages
{{ inputs.ideas }} ¦ /nodes/a/prompt ¦ unknown_input ¦ line 1: `inputs` has no property `ideas` in its schema ¦ did you mean `idea`?
{{ run.ids }} ¦ /nodes/a/prompt ¦ unknown_variable ¦ line 1: `run.ids` does not exist ¦ known here: id
\n{{ inputs.idea|uper }} ¦ /nodes/a/prompt ¦ unknown_filter ¦ line 2: there is no filter `uper`
{% if inputs.idea is strange %}{% endif %} ¦ /nodes/a/prompt ¦ unknown_test ¦ line 1: there is no test `strange`
{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %} ¦ /nodes/a/prompt ¦ template_too_complex ¦ line 1: recursive loops are not allowed
"#;
    check(rows, Syntax::Yaml, |says| around_node(&format!("agent: writer, prompt: \"{says}\"")));
}

#[test]
fn conditions() {
    let rows = r#"
true ¦ /nodes/a/when ¦ wrong_type ¦ expected text, found true or false
" " ¦ /nodes/a/when ¦ no_condition ¦ `when` is an expression, this one is empty
"{{ inputs.idea }}" ¦ /nodes/a/when ¦ condition_syntax ¦ `when` is an expression, not a template ¦ write the expression without braces, e.g. `inputs.count > 3`
"inputs.idea ==" ¦ /nodes/a/when ¦ condition_syntax ¦ line 1: unexpected end of input, expected expression
"inputs.idea inputs.idea" ¦ /nodes/a/when ¦ condition_syntax ¦ line 1: unexpected input after expression
"input.idea" ¦ /nodes/a/when ¦ unknown_variable ¦ the condition uses `input`, which does not exist ¦ did you mean `inputs`?
"idea" ¦ /nodes/a/when ¦ unknown_variable ¦ the condition uses `idea`, which does not exist ¦ known here: inputs, nodes
"inputs.ideas" ¦ /nodes/a/when ¦ unknown_input ¦ line 1: `inputs` has no property `ideas` in its schema ¦ did you mean `idea`?
"messages|length > 1" ¦ /nodes/a/when ¦ unknown_variable ¦ the condition uses `messages`, which does not exist ¦ known here: inputs, nodes
"run.id == '1'" ¦ /nodes/a/when ¦ unknown_variable ¦ line 1: this condition does not know `run` ¦ known here: inputs, nodes
"task.attempt > 1" ¦ /nodes/a/when ¦ unknown_variable ¦ line 1: this condition does not know `task` ¦ known here: inputs, nodes
"nodes.frist.output" ¦ /nodes/a/when ¦ unknown_node ¦ line 1: there is no node `frist` ¦ did you mean `first`?
"nodes.first.output" ¦ /nodes/a/when ¦ not_upstream ¦ line 1: `first` does not come before this node ¦ add `first` to `needs`
"nodes.a.output" ¦ /nodes/a/when ¦ own_output ¦ line 1: a node cannot use its own output
"inputs.idea|uper" ¦ /nodes/a/when ¦ unknown_filter ¦ line 1: there is no filter `uper`
"inputs.idea is strange" ¦ /nodes/a/when ¦ unknown_test ¦ line 1: there is no test `strange`
"now()" ¦ /nodes/a/when ¦ unknown_variable ¦ the condition uses `now`, which does not exist ¦ known here: inputs, nodes
"#;
    check(rows, Syntax::Yaml, |says| around_node(&format!("sleep: 1s, when: {says}")));
    let chain = around_node(&format!("sleep: 1s, when: '1{}'", "+1".repeat(200)));
    assert_eq!(
        problems(&chain, Syntax::Yaml),
        [Problem::new("/nodes/a/when", "template_too_complex", "line 1: one tag has at most 256 tokens")]
    );
}

#[test]
fn sizes() {
    let sleeps =
        |count: usize| (0..count).map(|number| format!("  n{number}: {{ sleep: 1s }}")).collect::<Vec<_>>().join("\n");
    let needs = |count: usize| (0..count).map(|number| format!("n{number}")).collect::<Vec<_>>().join(", ");
    let many_nodes = format!("workflow: w\nnodes:\n{}", sleeps(MAX_NODES + 1));
    let many_needs = format!(
        "workflow: w\nnodes:\n{}\n  a: {{ sleep: 1s, needs: [{}] }}\n",
        sleeps(257),
        needs(MAX_NEEDS_PER_NODE + 1)
    );
    let long_prompt = around_node(&format!("agent: writer, prompt: {}", "x".repeat(MAX_PROMPT_BYTES + 1)));
    let templates = around_node(&format!("transform: [{}]", "'{{ 1 }}', ".repeat(257)));
    let rows: [(String, &str, &str, &str); 9] = [
        (
            " ".repeat(MAX_DEFINITION_BYTES + 1),
            "",
            "too_large",
            "a definition has at most 1048576 bytes and 50000 values, with aliases expanded",
        ),
        (
            format!("a: [{}]", "0,".repeat(60_000)),
            "/a/49997",
            "too_large",
            "a definition has at most 1048576 bytes and 50000 values, with aliases expanded",
        ),
        (
            format!("a: &x {}\nb: [*x, *x]", "x".repeat(500_000)),
            "/b/1",
            "too_large",
            "the YAML has too many values, anchors or aliases",
        ),
        (
            format!("a: &x 1\nb: [{}]", "*x, ".repeat(300)),
            "/b/256",
            "too_large",
            "the YAML has too many values, anchors or aliases",
        ),
        (format!("{}: 1", "k".repeat(MAX_KEY_BYTES + 1)), "", "too_long", "keys have at most 256 bytes"),
        (many_nodes, "/nodes", "too_many", "`nodes` has 1001 entries, at most 1000 are allowed"),
        (many_needs, "/nodes/a/needs", "too_many", "a node has at most 256 needs, this has 257"),
        (long_prompt, "/nodes/a/prompt", "too_long", "`prompt` has 65537 bytes, at most 65536 are allowed"),
        (templates, "/nodes/a/transform", "too_many", "a transform has at most 256 templates, this has 257"),
    ];
    for (text, pointer, code, message) in rows {
        assert_eq!(problems(&text, Syntax::Yaml), [Problem::new(pointer, code, message)]);
    }
    let value = serde_json::json!({"a": ["x".repeat(MAX_DEFINITION_BYTES)]});
    assert_eq!(
        parse_value(&value).unwrap_err()[0].pointer,
        "/a/0",
        "the limit holds for values that were parsed elsewhere"
    );
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(33), close.repeat(33));
    let nested = problems(&deep("[", "]"), Syntax::Json);
    assert_eq!(nested, [Problem::new("/0".repeat(32), "too_deep", "lists and mappings nest at most 32 deep")]);
    assert_eq!(problems(&deep("[", "]"), Syntax::Yaml), nested);
}

#[test]
fn an_alias_bomb_is_refused_before_it_expands() {
    let levels = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut lines = vec!["z: &z [x, x, x, x, x, x, x, x]".to_owned()];
    let mut below = "z";
    for level in levels {
        lines.push(format!("{level}: &{level} [{}]", vec![format!("*{below}"); 8].join(", ")));
        below = level;
    }
    let found = problems(&lines.join("\n"), Syntax::Yaml);
    assert_eq!(found.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["too_large"]);
}

#[test]
fn all_problems_come_at_once() {
    let text = "
workflow: W
budget: { credits: -1 }
nodes:
  b: { sleep: soon, needs: [c] }
  b: { sleep: 1s }
  a: { agent: nobody }
extra: 1
";
    let found = problems(text, Syntax::Yaml);
    let places: Vec<(&str, &str)> = found.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect();
    assert_eq!(
        places,
        [
            ("/nodes/b", "duplicate_key"),
            ("/workflow", "invalid_name"),
            ("/budget/credits", "out_of_range"),
            ("/nodes/b/sleep", "invalid_duration"),
            ("/nodes/a/agent", "unknown_agent"),
            ("/nodes/a/prompt", "missing"),
            ("/nodes/b/needs/0", "unknown_node"),
            ("/extra", "unknown_key"),
        ]
    );
    let hundred: Vec<String> = (0..100).map(|number| format!("k{number}: 1")).collect();
    assert_eq!(problems(&hundred.join("\n"), Syntax::Yaml).len(), MAX_PROBLEMS);
}
