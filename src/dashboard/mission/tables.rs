//! The tables of a mission's page: tasks, calls, events.

use bursar_domain::credits::Ucr;
use bursar_domain::state::TaskState;
use bursar_domain::usage::Usage;
use maud::{Markup, html};
use serde_json::Value;

use super::super::show;
use super::Shown;
use super::output::{SIMULATED, model};
use crate::store::read::{CallView, EventView, TaskView};

/// A table inside a card, scrolled sideways where it does not fit.
fn table(id: &str, title: &str, empty: Option<&str>, note: &Markup, rows: &Markup) -> Markup {
    html! {
        section.card id=(id) data-swap aria-labelledby={ (id) "-title" } {
            div.card-head { h2 id={ (id) "-title" } { (title) } (note) }
            @if let Some(empty) = empty { p.empty { (empty) } }
            @else {
                div.scroll id={ (id) "-scroll" } tabindex="0" role="region" aria-labelledby={ (id) "-title" } {
                    table { (rows) }
                }
            }
        }
    }
}

fn heads(heads: &[(&str, bool)]) -> Markup {
    html! {
        thead { tr { @for (head, is_number) in heads { th.n[*is_number] scope="col" { (head) } } } }
    }
}

/// Tasks in the order of the workflow.
pub(super) fn tasks(shown: &Shown) -> Markup {
    let total = shown.mission.tasks_total;
    let note = html! {
        @if total > shown.tasks.len() as i64 {
            span.muted { "the first " (shown.tasks.len()) " of " (show::number(total)) }
        }
    };
    let head = [
        ("Node", false),
        ("State", false),
        ("Try", true),
        ("Waited", true),
        ("Ran", true),
        ("Held", true),
        ("Estimate", true),
        ("Cost", true),
        ("Tokens in / out", true),
        ("Model", false),
    ];
    let rows = html! {
        (heads(&head))
        tbody {
            @for task in shown.tasks.iter().filter(|task| task.parent_id.is_none()) {
                (task_row(shown, task))
                @if task.fan.is_some() { (family_row(shown, task, head.len())) }
            }
        }
    };
    table("tasks", "Tasks", shown.tasks.is_empty().then_some("No tasks."), &note, &rows)
}

fn task_row(shown: &Shown, task: &TaskView) -> Markup {
    // a final state's reason is its error's message, a running one's its state: both stand there already
    let says_more = (task.error.is_none() || !task.state.is_final()) && task.state != TaskState::Running;
    let reason = task.status_reason.as_deref().filter(|_| says_more);
    html! {
        tr id={ "task-" (task.node) } tabindex="-1" {
            th scope="row" {
                code { (task.node) } @if task.kind != "agent" { " " span.muted { (task.kind) } }
                @if let Some(reason) = reason { div.reason { (show::with_code(&show::cut(reason, 300))) } }
                @if let Some(error) = &task.error {
                    div.error { (show::with_code(&show::cut(&error.message, 300))) " " code { (error.code) } }
                }
            }
            td {
                (show::task_badge(task.state))
                @if task.state == TaskState::Retrying && let Some(due) = task.due_at {
                    div.muted { "in " (show::duration(due.since_ms(shown.now))) }
                }
            }
            td.n { @if task.attempt > 0 { (task.attempt) } @else { "–" } }
            td.n { (waited(shown, task)) }
            td.n { (ran(shown, task)) }
            td.n { (amount(task.held_ucr)) }
            td.n { (estimate(task)) }
            td.n { (amount(task.whole_cost())) }
            td.n { (tokens(task.usage.as_ref())) }
            td { @if let Some(model) = model(shown, task) { code { (model) } } @else { "–" } }
        }
    }
}

/// The tasks that were made of one, folded: how many stand how, and each of those that were read.
fn family_row(shown: &Shown, task: &TaskView, columns: usize) -> Markup {
    let Some(fan) = &task.fan else { return html! {} };
    let total = fan.total.unwrap_or(fan.made);
    let id = format!("family-{}", task.id);
    html! {
        tr {
            td colspan=(columns) {
                details.family id=(id) {
                    summary {
                        (show::number(i64::from(fan.done))) " of " (show::number(i64::from(total))) " tasks of "
                        code { (task.node) } " ended"
                        @if fan.open() > 0 { ", " (show::number(i64::from(fan.open()))) " under way" }
                    }
                    (children(shown, task))
                }
            }
        }
    }
}

fn children(shown: &Shown, parent: &TaskView) -> Markup {
    let own: Vec<&TaskView> = shown.tasks.iter().filter(|task| task.parent_id == Some(parent.id)).collect();
    let made = parent.fan.as_ref().map_or(0, |fan| i64::from(fan.made));
    html! {
        ul {
            @for task in &own {
                li {
                    code { (child_name(parent, task)) } " " (show::task_badge(task.state))
                    @if task.attempt > 1 { " " span.muted { "try " (task.attempt) } }
                    @if task.cost_ucr.is_positive() { " " (show::credits(task.cost_ucr)) " credits" }
                    @if let Some(error) = &task.error { " " span.error { (show::with_code(&show::cut(&error.message, 200))) } }
                    @if task.fan.is_some() { (children(shown, task)) }
                }
            }
        }
        @if made > own.len() as i64 {
            p.muted { "and " (show::number(made.saturating_sub(own.len() as i64))) " more" }
        }
    }
}

/// What people call one of many: an item by its key, a round by what it is.
fn child_name(parent: &TaskView, task: &TaskView) -> String {
    match (parent.kind.as_str(), task.item_key()) {
        ("map", Some(key)) => show::cut(key, 80),
        ("review", _) if task.item % 2 == 1 => format!("review {}", task.item / 2 + 1),
        ("review", _) => format!("draft {}", task.item / 2 + 1),
        ("plan", _) if task.item == 0 => "the plan".to_owned(),
        ("workflow", _) if task.item == 0 => "the input".to_owned(),
        ("plan" | "workflow", _) => task.node.clone(),
        _ => format!("round {}", task.item + 1),
    }
}

fn waited(shown: &Shown, task: &TaskView) -> Markup {
    match (task.ready_at, task.started_at, task.state) {
        (Some(ready), _, TaskState::Ready | TaskState::Waiting | TaskState::Retrying) => {
            show::growing(ready, shown.now)
        }
        (Some(ready), Some(started), _) => html! { (show::duration(started.since_ms(ready))) },
        _ => html! { "–" },
    }
}

fn ran(shown: &Shown, task: &TaskView) -> Markup {
    match (task.started_at, task.ended_at, task.state) {
        (Some(started), _, TaskState::Running) => show::growing(started, shown.now),
        (Some(started), Some(ended), _) => html! { (show::duration(ended.since_ms(started))) },
        _ => html! { "–" },
    }
}

/// What the hold was made with, and how much of it was charged.
fn estimate(task: &TaskView) -> Markup {
    let Some(estimate) = task.estimate_ucr.filter(|estimate| estimate.is_positive()) else {
        return html! { span.muted { "–" } };
    };
    let percent = i128::from(task.cost_ucr.get()).saturating_mul(100) / i128::from(estimate.get());
    html! {
        (show::credits(estimate))
        @if task.state == TaskState::Succeeded { div.muted { (show::number(percent)) " % charged" } }
    }
}

fn amount(amount: Ucr) -> Markup {
    html! { @if amount.is_zero() { span.muted { "–" } } @else { (show::credits(amount)) } }
}

fn tokens(usage: Option<&Usage>) -> Markup {
    html! {
        @if let Some(usage) = usage { (show::number(usage.input_tokens)) " / " (show::number(usage.output_tokens)) }
        @else { span.muted { "–" } }
    }
}

/// Calls to providers, as they were recorded.
pub(super) fn calls(shown: &Shown) -> Markup {
    let head = [
        ("Node", false),
        ("Call", true),
        ("Provider and model", false),
        ("State", false),
        ("Tokens in / out", true),
        ("Cost", true),
        ("Billed", false),
        ("First token", true),
        ("Took", true),
    ];
    let rows = html! {
        (heads(&head))
        tbody { @for call in &shown.calls { (call_row(shown, call)) } }
    };
    let empty = shown.calls.is_empty().then_some("No provider was called.");
    table("calls", "Usage", empty, &html! {}, &rows)
}

fn call_row(shown: &Shown, call: &CallView) -> Markup {
    let node = shown.tasks.iter().find(|task| task.id == call.task_id).map_or("?", |task| task.node.as_str());
    let class = match call.state.as_str() {
        "done" => "s-succeeded",
        "sent" => "s-running",
        "failed" | "lost" => "s-failed",
        _ => "s-cancelled",
    };
    let time = |ms: Option<i64>| ms.map_or_else(|| "–".to_owned(), show::duration);
    html! {
        tr {
            th scope="row" { code { (node) } }
            td.n { (call.attempt) "." (call.number) }
            td {
                (call.provider) " · " code { (call.model) }
                @if call.provider == SIMULATED { " " (show::simulated()) }
            }
            td { span class={ "badge " (class) } { (call.state) } }
            td.n { (tokens(call.usage.as_ref())) @if call.estimated { " " abbr title="Counted by us: the provider reported nothing." { "est." } } }
            td.n { (amount(call.cost_ucr)) }
            td { @if call.billable { "yes" } @else { span.muted { "no" } } }
            td.n { (time(call.first_token_ms)) }
            td.n { (time(call.duration_ms)) }
        }
    }
}

/// The latest events, the newest first.
pub(super) fn events(shown: &Shown) -> Markup {
    let head = [("No.", true), ("Time (UTC)", false), ("Event", false), ("Node", false), ("What it says", false)];
    let rows = html! {
        (heads(&head))
        tbody { @for event in shown.events.iter().rev() { (event_row(event)) } }
    };
    let note = html! {
        @if shown.mission.last_seq > shown.events.len() as i64 {
            span.muted { "the latest " (shown.events.len()) " of " (show::number(shown.mission.last_seq)) }
        }
    };
    table("events", "Events", shown.events.is_empty().then_some("No events."), &note, &rows)
}

fn event_row(event: &EventView) -> Markup {
    html! {
        tr {
            td.n.muted { (event.seq) }
            td { (show::time_of_day(event.at)) }
            th scope="row" { (event.kind) }
            td { @if let Some(node) = &event.node { code { (node) } } @if let Some(attempt) = event.attempt.filter(|attempt| *attempt > 1) { span.muted { " try " (attempt) } } }
            td.says { (show::with_code(&says(&event.data))) }
        }
    }
}

/// What an event carries, in a few words; fields it does not know are left to the API.
fn says(data: &Value) -> String {
    let text = |field: &str| data.get(field).and_then(Value::as_str);
    let mut words = Vec::new();
    if let Some(error) = data.get("error") {
        words.extend(error.get("message").and_then(Value::as_str).map(str::to_owned));
    }
    words.extend(text("reason").map(str::to_owned));
    if let Some(ms) = data.get("duration_ms").and_then(Value::as_i64) {
        words.push(format!("took {}", show::duration(ms)));
    }
    if let Some(ms) = data.get("delay_ms").and_then(Value::as_i64) {
        words.push(format!("tries again in {}", show::duration(ms)));
    }
    if let Some(credits) = text("credits").and_then(|credits| credits.parse::<Ucr>().ok()) {
        words.push(format!("{} credits", show::credits(credits)));
    }
    if let Some(tasks) = data.get("tasks").and_then(Value::as_i64) {
        words.push(format!("{} tasks", show::number(tasks)));
    }
    show::cut(&words.join(" · "), 300)
}
