//! Random workflows and missions: graphs of agents, transforms, waits, questions to people and signals with retries, budgets, fees, deadlines.

use std::fmt::Write as _;

use serde_json::json;

use crate::credits::Ucr;
use crate::flow::testbed::{Dice, World};
use crate::id::MissionId;
use crate::workflow::{Syntax, parse};

/// A workflow as YAML.
pub(super) fn workflow(dice: &mut Dice, name: &str, inner: Option<&str>) -> String {
    let mut text = format!("workflow: {name}\n");
    text.push_str("agents: { a: { instructions: i, model: m, max_output_tokens: 50 } }\n");
    if dice.percent(40) {
        let _ = writeln!(text, "flat_fee: '0.{:02}'", 1 + dice.below(50));
    }
    if dice.percent(30) {
        let policy = if dice.percent(50) { "fail" } else { "pause" };
        let _ = writeln!(text, "budget: {{ credits: '0.{:02}', on_exhausted: {policy} }}", 5 + dice.below(60));
    }
    if dice.percent(15) {
        let _ = writeln!(text, "deadline: {}s", 5 + dice.below(120));
    }
    text.push_str("nodes:\n");
    let nodes = 1 + dice.below(8);
    let fallbacks: Vec<Option<u64>> =
        (0..nodes).map(|index| (index + 1 < nodes && dice.percent(25)).then(|| index + 1 + dice.below(2))).collect();
    let mut plain = text.clone();
    for index in 0..nodes {
        let needs: Vec<String> = (0..index).filter(|_| dice.percent(35)).map(|need| format!("n{need}")).collect();
        let action = match dice.below(14) {
            0..=5 => format!(
                "agent: a, prompt: '{}', pool: {}",
                prompt(dice),
                if dice.percent(50) { "default" } else { "agent" }
            ),
            6..=7 => "transform: 1".to_owned(),
            8 => until(dice),
            9 => approval(dice),
            10 => signal(dice),
            11 => format!("plan: {{ agent: a, agents: [a], max_nodes: 5, depth: {} }}, prompt: p", 1 + dice.below(2)),
            12 => nested(dice, inner),
            _ => format!("sleep: {}s", 1 + dice.below(20)),
        };
        let deadline = if dice.percent(10) { format!(", deadline: {}s", 2 + dice.below(60)) } else { String::new() };
        let is_nested = action.starts_with("workflow");
        let units = if dice.percent(20) && !is_nested { ", units: { step: 1 }" } else { "" };
        let on = if dice.percent(20) { ", on: [retryable]" } else { "" };
        let retry = format!(", retry: {{ max_attempts: {}{on} }}", 1 + dice.below(4));
        // a workflow's nodes say that themselves
        let retry = if is_nested { String::new() } else { retry };
        let when = if dice.percent(25) { format!(", when: \"{}\"", condition(dice, &needs)) } else { String::new() };
        let on_error =
            ["", "", "", ", on_error: skip", ", on_error: continue"][usize::try_from(dice.below(5)).unwrap()];
        let fallback =
            fallbacks[usize::try_from(index).unwrap()].map(|node| format!(", on_error: {{ fallback: n{node} }}"));
        let is_work = ["agent", "transform", "plan", "workflow"].iter().any(|kind| action.starts_with(kind));
        let loops = if is_work { loops(dice, &action) } else { String::new() };
        for (text, on_error) in [(&mut plain, on_error), (&mut text, fallback.as_deref().unwrap_or(on_error))] {
            let _ = writeln!(
                text,
                "  n{index}: {{ needs: [{}], {action}{retry}{units}{when}{on_error}{deadline}{loops} }}",
                needs.join(", ")
            );
        }
    }
    // not every node can stand in for every other one
    if parse(&text, Syntax::Yaml).is_ok() { text } else { plain }
}

/// Another workflow in place of a node.
fn nested(dice: &mut Dice, inner: Option<&str>) -> String {
    let Some(inner) = inner else { return "transform: 2".to_owned() };
    let close = if dice.percent(20) { "abandon" } else { "cancel" };
    format!("workflow: {{ name: {inner}, parent_close: {close} }}")
}

/// What an agent is asked; some hear what was said.
fn prompt(dice: &mut Dice) -> &'static str {
    ["p", "p", "p", "p {{ message|default(1) }}", "{{ messages|length }}"][usize::try_from(dice.below(5)).unwrap()]
}

/// What makes many tasks of a node, sometimes.
fn loops(dice: &mut Dice, action: &str) -> String {
    let mut text = String::new();
    if dice.percent(15) {
        let over = ["[]", "[1]", "['a', 'b', 'c']", "range(7)", "inputs.at"][usize::try_from(dice.below(5)).unwrap()];
        let word = ["fail_fast", "skip", "continue"][usize::try_from(dice.below(3)).unwrap()];
        let after = if dice.percent(30) { ", after: '[map.index - 1] if map.index else []'" } else { "" };
        let most = 1 + dice.below(4);
        let _ = write!(text, ", map: {{ over: \"{over}\", max_parallel: {most}, on_item_error: {word}{after} }}");
    }
    if dice.percent(10) {
        let on_max = if dice.percent(50) { "accept" } else { "fail" };
        let until = "output is none or output|length > 12 and repeat.iteration > 1";
        let _ = write!(text, ", repeat: {{ until: \"{until}\", max: {}, on_max: {on_max} }}", 1 + dice.below(3));
    }
    if action.starts_with("agent") && dice.percent(12) {
        let _ = write!(text, ", review: {{ agent: a, accept: 'output|length > 12', max: {} }}", 1 + dice.below(3));
    }
    if !text.is_empty() && dice.percent(25) {
        let policy = if dice.percent(50) { "fail" } else { "pause" };
        let _ = write!(text, ", budget: {{ credits: '0.{:02}', on_exhausted: {policy} }}", 1 + dice.below(30));
    }
    text
}

/// A node that waits for a time around the beginning of the storm; some never hear of one.
fn until(dice: &mut Dice) -> String {
    if dice.percent(4) {
        return "until: '{{ inputs.nothing }}'".to_owned();
    }
    let minute = 12 + dice.below(4);
    if dice.percent(50) {
        format!("until: '2023-11-14T22:{minute}:20Z'")
    } else {
        "until: '{{ inputs.at }}'".to_owned()
    }
}

/// A decision that a person is asked for; some never hear what about.
fn approval(dice: &mut Dice) -> String {
    let show = if dice.percent(4) { "{{ inputs.nothing }}" } else { "{{ inputs.at }}" };
    let on_expire = ["reject", "approve", "fail"][usize::try_from(dice.below(3)).unwrap()];
    let on_reject = if dice.percent(50) { "fail" } else { "continue" };
    let expires = 5 + dice.below(60);
    format!("approval: {{ show: '{show}', expires: {expires}s, on_expire: {on_expire}, on_reject: {on_reject} }}")
}

/// A wait for one of two signals.
fn signal(dice: &mut Dice) -> String {
    let (number, expires) = (dice.below(2), 5 + dice.below(120));
    let on_expire = if dice.percent(50) { "fail" } else { "continue" };
    format!("signal: {{ name: s{number}, expires: {expires}s, on_expire: {on_expire} }}")
}

/// A condition over the input and what the needs hand on, which is text or null. Some have no answer.
fn condition(dice: &mut Dice, needs: &[String]) -> String {
    let over_input = ["inputs.go", "not inputs.go", "inputs.go|default(true)", "inputs.none|default(false)"];
    let Some(need) = needs.get(usize::try_from(dice.below(8)).unwrap()) else {
        let odd = dice.percent(4);
        return if odd {
            "inputs.nothing".to_owned()
        } else {
            over_input[usize::try_from(dice.below(4)).unwrap()].to_owned()
        };
    };
    match dice.below(10) {
        0..=5 => format!("nodes.{need}.output is none or nodes.{need}.output|length > 8"),
        6..=8 => format!("not nodes.{need}.output"),
        _ => format!("nodes.{need}.output|length > 3"),
    }
}

/// Submits a random mission. `None` when it was refused, which left nothing behind.
pub(super) fn submit(world: &mut World, dice: &mut Dice) -> Option<MissionId> {
    let inner = format!("inner{}", world.facts.workflows.len());
    if dice.percent(50) {
        world.define(&workflow(dice, &inner, None));
    }
    let inner = world.facts.workflows.values().any(|known| known.name == inner).then_some(inner);
    let workflow = world.define(&workflow(dice, "storm", inner.as_deref()));
    let mut submission = world.submission(workflow);
    if dice.percent(20) {
        submission.budget_ucr = Some(Ucr::new(i64::try_from(dice.below(600_000)).unwrap()));
    }
    submission.input = json!({"go": dice.percent(60), "at": "2023-11-14T22:14:00Z"});
    submission.priority = i16::try_from(dice.below(100)).unwrap();
    world.try_submit(&submission).ok()
}
