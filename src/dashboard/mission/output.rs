//! What a mission says while it runs and what came out of it. What the simulated model made up is labelled, and so is
//! everything that was made from it.

use std::collections::BTreeSet;

use bursar_domain::state::TaskState;
use bursar_domain::workflow::{Action, Layer};
use maud::{Markup, html};
use serde_json::Value;

use super::super::show;
use super::Shown;
use crate::store::read::TaskView;

/// Letters of one output that are shown.
const MOST_LETTERS: usize = 60_000;
/// The name under which the simulated provider answers; no other can take it.
pub(super) const SIMULATED: &str = "simulated";

/// The model that a task asks, if it asks one.
pub(super) fn model<'s>(shown: &'s Shown, task: &TaskView) -> Option<&'s str> {
    if is_of_other_workflow(shown, task) {
        return None;
    }
    let node = shown.definition.node_by_key(&task.node)?;
    let reviews = || shown.tasks.iter().any(|parent| task.parent_id == Some(parent.id) && parent.kind == "review");
    let judge = node.layers.iter().find_map(|layer| match layer {
        Layer::Review(review) => Some(&*review.judge),
        _ => None,
    });
    let judge = judge.filter(|_| task.item % 2 == 1 && reviews());
    let node = judge.unwrap_or(node);
    match &node.action {
        Action::Agent(step) => Some(&step.model),
        Action::Transform(_) | Action::Http(_) | Action::Exec(_) | Action::Wait(_) => None,
    }
}

/// Whether the task is of a workflow inside of the run, whose nodes the page does not know.
fn is_of_other_workflow(shown: &Shown, task: &TaskView) -> bool {
    let Some(parent) = shown.tasks.iter().find(|parent| task.parent_id == Some(parent.id)) else { return false };
    let is_inside = matches!(parent.kind.as_str(), "plan" | "workflow") && task.item > 0;
    is_inside || is_of_other_workflow(shown, parent)
}

/// Nodes whose outputs are simulated, or made from what is.
pub(super) fn simulated_nodes(shown: &Shown) -> BTreeSet<u32> {
    let mut simulated = BTreeSet::new();
    // nodes are numbered after everything they use
    for (node, task) in shown.definition.nodes.iter().zip(&shown.tasks) {
        let made_from = task.output.is_some() && node.uses.iter().any(|used| simulated.contains(used));
        if made_from || is_simulated(shown, task) {
            simulated.insert(node.index);
        }
    }
    simulated
}

/// Whether a task asked the simulated model: its calls say who answered; where none are at hand, the model's name does.
fn is_simulated(shown: &Shown, task: &TaskView) -> bool {
    let mut calls = shown.calls.iter().filter(|call| call.task_id == task.id).peekable();
    if calls.peek().is_some() {
        return calls.any(|call| call.provider == SIMULATED);
    }
    task.state.is_final() && model(shown, task).is_some_and(|model| model.starts_with("simulated-"))
}

/// What running steps say, word by word.
pub(super) fn said(shown: &Shown) -> Markup {
    let speaking: Vec<(&TaskView, &str)> = shown
        .tasks
        .iter()
        .filter(|task| task.state == TaskState::Running)
        .filter_map(|task| Some((task, model(shown, task)?)))
        .collect();
    html! {
        section #said data-swap aria-label="What running steps say" {
            @for (task, model) in speaking {
                article.card.speech {
                    div.card-head {
                        h2 { (task.node) " " span.muted { (model) } }
                        @if is_simulated(shown, task) { (show::simulated()) }
                        span.muted { span data-words=(task.id) { "0" } " pieces · " @if let Some(since) = task.started_at { (show::growing(since, shown.now)) } }
                    }
                    pre.words data-said=(task.id) data-attempt=(task.attempt) tabindex="0" aria-label={ "text of " (task.node) } {}
                }
            }
        }
    }
}

/// What came out, once the mission is over.
pub(super) fn results(shown: &Shown) -> Markup {
    let simulated = simulated_nodes(shown);
    let output_of = |key: &str| {
        let task = shown.tasks.iter().find(|task| task.node == key)?;
        Some((task.output.as_ref()?, simulated.contains(&u32::try_from(task.node_index).ok()?)))
    };
    let results = shown.definition.outputs.iter().filter_map(|(name, path)| {
        let (output, simulated) = output_of(path.nodes())?;
        Some((name, path.resolve(output), simulated))
    });
    let results: Vec<_> = results.collect();
    html! {
        section #results data-swap aria-label="Output" {
            @if let Some(error) = &shown.mission.error { (failure(error)) }
            @if !results.is_empty() {
                div.card {
                    h2 { "Output" }
                    @for (name, value, simulated) in &results { (result(name, value, *simulated, results.len() == 1)) }
                }
            }
        }
    }
}

fn failure(error: &Value) -> Markup {
    let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
    html! {
        div.card.failure {
            h2 { "Error" }
            p { (show::with_code(text("message"))) }
            p.muted {
                @if !text("node").is_empty() { "node " code { (text("node")) } " · " }
                "code " code { (text("code")) }
                @if !text("class").is_empty() { " · " (text("class")) }
            }
        }
    }
}

fn result(name: &str, value: &Value, simulated: bool, open: bool) -> Markup {
    let (text, whole) = readable(value);
    html! {
        details.result id={ "result-" (name) } open[open] {
            summary {
                strong { (name) } " "
                @if simulated { (show::simulated()) " " }
                span.muted { (show::number(text.chars().count())) " characters" @if !whole { ", the beginning" } }
            }
            pre tabindex="0" aria-label={ "output " (name) } { (text) }
        }
    }
}

/// A text as it is, an answer's text, or JSON; and whether it is shown whole.
fn readable(value: &Value) -> (String, bool) {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("text") {
            Some(Value::String(text)) => text.clone(),
            _ => serde_json::to_string_pretty(value).unwrap_or_default(),
        },
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    let whole = text.chars().count() <= MOST_LETTERS;
    (show::cut(&text, MOST_LETTERS), whole)
}
