//! The workflow as an inline drawing, its nodes coloured by the state of their tasks.
//!
//! Every node is a link to its row in the table of tasks and says its state in words, so that neither colour nor
//! sight is needed.

use std::fmt::Write as _;

use bursar_domain::state::TaskState;
use maud::{Markup, html};

use super::super::show;
use super::layout::{Edge, Layout, MOST_NODES, NODE_HEIGHT, NODE_WIDTH, Point};
use crate::store::read::TaskView;

/// Letters of a node's name that fit.
const NAME_LETTERS: usize = 18;

/// The drawing with its legend.
pub(super) fn section(layout: &Layout, tasks: &[TaskView], total: usize) -> Markup {
    let shown: Vec<(&TaskView, Point)> = tasks.iter().zip(layout.nodes.iter().copied()).collect();
    let is_node = |task: &&TaskView| task.parent_id.is_none();
    let present =
        TaskState::ALL.into_iter().filter(|state| tasks.iter().filter(is_node).any(|task| task.state == *state));
    html! {
        section #graph.card data-swap aria-labelledby="graph-title" {
            div.card-head {
                h2 #graph-title { "Graph" }
                ul.legend aria-label="Legend" {
                    @for state in present {
                        li class={ "s-" (state.as_str()) } { span.swatch {} (state.as_str()) }
                    }
                }
            }
            @if total > MOST_NODES {
                p.muted { "The first " (MOST_NODES) " of " (show::number(total)) " nodes are drawn." }
            }
            div.scroll #graph-scroll tabindex="0" role="region" aria-labelledby="graph-title" {
                svg.graph xmlns="http://www.w3.org/2000/svg" width=(layout.width) height=(layout.height)
                    viewBox={ "0 0 " (layout.width) " " (layout.height) } role="group"
                    aria-label={ (shown.len()) " nodes and " (layout.edges.len()) " edges" } {
                    (arrow())
                    @for edge in &layout.edges { (line(layout, edge, &shown)) }
                    @for (task, corner) in &shown { (node(task, *corner)) }
                }
            }
        }
    }
}

fn arrow() -> Markup {
    html! {
        defs {
            marker #arrow viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto" {
                path.arrow d="M0.5 0.5 7.5 4 0.5 7.5Z" {}
            }
        }
    }
}

fn line(layout: &Layout, edge: &Edge, shown: &[(&TaskView, Point)]) -> Markup {
    let (Some(from), Some(to)) = (layout.nodes.get(edge.from), layout.nodes.get(edge.to)) else { return html! {} };
    let begun = shown.get(edge.from).is_some_and(|(task, _)| task.state.is_final());
    let start = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2);
    let end = (to.0 - 2, to.1 + NODE_HEIGHT / 2);
    let name = |index: usize| shown.get(index).map_or("", |(task, _)| task.node.as_str());
    html! {
        path class={ "edge" @if begun { " passed" } @if edge.is_fallback { " fallback" } } d=(curve(start, &edge.through, end)) marker-end="url(#arrow)"
            data-from=(name(edge.from)) data-to=(name(edge.to)) {
            @if edge.is_fallback { title { (name(edge.to)) " stands in for " (name(edge.from)) " when that fails" } }
        }
    }
}

/// A smooth line that leaves, passes and arrives level; through a lane it runs straight for a node's width.
fn curve(start: Point, through: &[Point], end: Point) -> String {
    let mut path = format!("M{} {}", start.0, start.1);
    let mut at = start;
    let mut bend = |to: Point| {
        let middle = i32::midpoint(at.0, to.0);
        // writing to a String cannot fail
        let _ = write!(path, "C{middle} {} {middle} {} {} {}", at.1, to.1, to.0, to.1);
        at = to;
    };
    for (x, y) in through {
        bend((x - NODE_WIDTH / 2, *y));
        bend((x + NODE_WIDTH / 2, *y));
    }
    bend(end);
    path
}

fn node(task: &TaskView, (x, y): Point) -> Markup {
    let state = task.state.as_str();
    let tries = if task.attempt > 1 { format!(" ×{}", task.attempt) } else { String::new() };
    let charged = task.whole_cost();
    let cost = if charged.is_positive() { show::credits(charged) } else { String::new() };
    let spoken_tries = match (&task.fan, task.attempt) {
        (Some(fan), _) => format!("{} of {} tasks", fan.done, fan.total.unwrap_or(fan.made)),
        (None, 1) => "1 attempt".to_owned(),
        (None, attempts) => format!("{attempts} attempts"),
    };
    let label = format!("{}: {state}, {spoken_tries}, {} credits", task.node, show::credits(charged));
    html! {
        a id={ "node-" (task.node) } class={ "node s-" (state) } href={ "#task-" (task.node) } aria-label=(label) {
            title { (label) }
            rect.box x=(x) y=(y) width=(NODE_WIDTH) height=(NODE_HEIGHT) rx="9" {}
            rect.edge-mark x=(x) y=(y + 9) width="4" height=(NODE_HEIGHT - 18) rx="2" {}
            text.name x=(x + 15) y=(y + 24) { (show::cut(&task.node, NAME_LETTERS)) }
            text.state x=(x + 15) y=(y + 43) { (state) (tries) }
            text.cost x=(x + NODE_WIDTH - 12) y=(y + 43) text-anchor="end" { (cost) }
        }
    }
}
