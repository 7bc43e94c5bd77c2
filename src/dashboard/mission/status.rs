//! The head of a mission's page: its state and why, how far it is, what it costs, and the way to end it.

use bursar_domain::credits::Ucr;
use maud::{Markup, html};

use super::super::session::Viewer;
use super::super::show;
use super::output::simulated_nodes;
use super::{Shown, control};
use crate::store::read::MissionView;

/// Units of width of the meter's drawing.
const METER_WIDTH: i128 = 1_000;

/// What stands in the browser's tab.
pub(super) fn title(mission: &MissionView) -> String {
    format!("{} · {}", mission.state.as_str(), mission.workflow_name)
}

/// The head of the page.
pub(super) fn section(viewer: &Viewer, shown: &Shown) -> Markup {
    let mission = &shown.mission;
    let id = mission.id.to_string();
    let announced =
        format!("Mission {}, {} of {} tasks ended", mission.state.as_str(), mission.tasks_done, mission.tasks_total);
    html! {
        section #status.card data-swap aria-label="Mission" data-seq=(mission.last_seq)
            data-title={ (title(mission)) " · Bursar" } data-announce=(announced) {
            div.mission-head {
                div {
                    p.crumbs { a href="/dashboard/missions" { "Missions" } " / " code.id { (id) } }
                    h1 {
                        (mission.workflow_name) " " span.muted { "v" (mission.workflow_version) }
                        " " (show::run_badge(mission.state))
                        @if !simulated_nodes(shown).is_empty() { " " (show::simulated()) }
                    }
                    @if let Some(reason) = &mission.status_reason { p.reason { (show::with_code(reason)) } }
                }
                @if viewer.may_change() { (control::forms(&id, mission.state, &shown.definition.nodes)) }
            }
            div.facts-row {
                (progress(mission))
                (meter(mission))
            }
            (facts(viewer, shown))
        }
    }
}

fn progress(mission: &MissionView) -> Markup {
    html! {
        div.fact-wide {
            h2.small { "Progress" }
            (show::progress(mission.tasks_done, mission.tasks_total, mission.state, "wide"))
            p.muted { (show::number(mission.tasks_done)) " of " (show::number(mission.tasks_total)) " tasks ended" }
        }
    }
}

/// Spent and held against the budget, as one bar and in words.
fn meter(mission: &MissionView) -> Markup {
    let used = mission.spent_ucr.saturating_add(mission.held_ucr);
    let whole = mission.budget_ucr.map_or(used, |budget| budget.max(used));
    let share = |part: Ucr| {
        let share = i128::from(part.get()) * METER_WIDTH / i128::from(whole.get().max(1));
        // what is there at all can be seen
        if part.is_positive() { share.clamp(4, METER_WIDTH) } else { 0 }
    };
    let (spent, held) = (share(mission.spent_ucr), share(mission.held_ucr));
    let budget =
        mission.budget_ucr.map_or_else(|| "no budget".to_owned(), |budget| format!("budget {}", show::credits(budget)));
    html! {
        div.fact-wide {
            h2.small { "Credits" }
            svg.meter viewBox={ "0 0 " (METER_WIDTH) " 10" } preserveAspectRatio="none" aria-hidden="true" {
                rect.meter-all x="0" y="0" width=(METER_WIDTH) height="10" {}
                rect.meter-spent x="0" y="0" width=(spent) height="10" {}
                rect.meter-held x=(spent) y="0" width=(held) height="10" {}
            }
            p.meter-words {
                span.key-spent { "spent " strong { (show::credits(mission.spent_ucr)) } }
                span.key-held { "held " strong { (show::credits(mission.held_ucr)) } }
                span.muted { (budget) }
            }
        }
    }
}

fn facts(viewer: &Viewer, shown: &Shown) -> Markup {
    let mission = &shown.mission;
    let took = match mission.ended_at {
        Some(ended) => html! { (show::duration(ended.since_ms(mission.created_at))) },
        None => show::growing(mission.created_at, shown.now),
    };
    let tokens = shown.tasks.iter().filter_map(|task| task.usage.as_ref());
    let (input, output) = tokens.fold((0_u64, 0_u64), |(input, output), usage| {
        (input.saturating_add(usage.input_tokens), output.saturating_add(usage.output_tokens))
    });
    html! {
        dl.facts {
            div { dt { "Submitted" } dd { (show::ago(mission.created_at, shown.now)) } }
            div { dt { "Took" } dd { (took) } }
            div { dt { "Tokens in / out" } dd { (show::number(input)) " / " (show::number(output)) } }
            @if mission.fee_ucr.is_positive() { div { dt { "Flat fee" } dd { (show::credits(mission.fee_ucr)) } } }
            @if let Some(deadline) = mission.deadline_at.filter(|_| mission.ended_at.is_none()) {
                div { dt { "Deadline in" } dd { (show::duration(deadline.since_ms(shown.now))) } }
            }
            @if let Some(project) = mission.project_id {
                div { dt { "Project" } dd {
                    a href={ "/dashboard/missions?project=" (project) } { (show::short_id(&project.to_string())) }
                } }
            }
            div { dt { "Run" } dd { (mission.run_number) " " (show::short_id(&mission.run_id.to_string())) } }
            @if viewer.is_admin() { div { dt { "Tenant" } dd { (show::short_id(&mission.tenant_id.to_string())) } } }
        }
    }
}
