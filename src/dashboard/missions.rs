//! The list of missions: filters and the place in the list stand in the address, so that they can be kept and sent.

use axum::extract::{Query, State};
use bursar_domain::id::{MissionId, ProjectId};
use bursar_domain::state::RunState;
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place, escape_query};
use super::show;
use super::state::Dashboard;
use crate::store::read::{MissionFilter, MissionView};
use crate::store::{Project, ProjectFilter};

const PER_PAGE: usize = 25;
/// Projects that the filter offers: the newest.
const MOST_PROJECTS: i64 = 100;
/// The filter for everything that is not over.
const LIVE: &str = "live";

/// What the address asks for. Empty and unknown values filter nothing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    state: String,
    #[serde(default)]
    workflow: String,
    #[serde(default)]
    project: String,
    #[serde(default)]
    before: String,
    #[serde(default)]
    part: Option<String>,
}

impl Asked {
    fn states(&self) -> Vec<RunState> {
        if self.state == LIVE {
            return RunState::ALL.into_iter().filter(|state| !state.is_final()).collect();
        }
        RunState::from_name(&self.state).into_iter().collect()
    }

    fn project(&self) -> Option<ProjectId> {
        self.project.parse().ok()
    }

    fn before(&self) -> Option<MissionId> {
        self.before.parse().ok()
    }

    /// The address of the same list at another place.
    fn address(&self, before: Option<MissionId>, part: bool) -> String {
        let mut fields = Vec::new();
        if !self.states().is_empty() {
            fields.push(format!("state={}", self.state));
        }
        if !self.workflow.is_empty() {
            fields.push(format!("workflow={}", escape_query(&self.workflow)));
        }
        fields.extend(self.project().map(|id| format!("project={id}")));
        fields.extend(before.map(|id| format!("before={id}")));
        if part {
            fields.push("part=live".to_owned());
        }
        let query = if fields.is_empty() { String::new() } else { format!("?{}", fields.join("&")) };
        format!("/dashboard/missions{query}")
    }
}

/// The page, or its live part.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let filter = MissionFilter {
        tenant: viewer.scope(),
        states: asked.states(),
        workflow: Some(asked.workflow.clone()).filter(|name| !name.is_empty()),
        project: asked.project(),
        before: asked.before(),
        limit: PER_PAGE as i64 + 1,
    };
    let mut missions = dashboard.app.engine.store().missions(&filter).await?;
    let older = missions.len() > PER_PAGE;
    missions.truncate(PER_PAGE);
    let now = dashboard.now();
    let list = list(&viewer, &asked, &missions, older, now);
    if asked.part.is_some() {
        return Ok(list);
    }
    let some = ProjectFilter { tenant: viewer.scope(), limit: MOST_PROJECTS, ..ProjectFilter::default() };
    let projects = dashboard.app.engine.store().projects(&some).await?;
    let fresh = Fresh::Poll { parts: asked.address(asked.before(), true), every_ms: 3_000 };
    let body = html! {
        div.title-row { h1 { "Missions" } }
        (filters(&asked, &projects))
        (list)
    };
    Ok(shell::page(&viewer, Place::Missions, "Missions", now.ms(), &fresh, &body))
}

fn filters(asked: &Asked, projects: &[Project]) -> Markup {
    let states = [(LIVE, "in progress")].into_iter().chain(RunState::ALL.map(|state| (state.as_str(), state.as_str())));
    html! {
        form.filters method="get" action="/dashboard/missions" role="search" aria-label="Filter missions" {
            label {
                span { "State" }
                select name="state" data-submit {
                    option value="" { "any" }
                    @for (value, word) in states { option value=(value) selected[value == asked.state] { (word) } }
                }
            }
            label {
                span { "Workflow" }
                input type="search" name="workflow" value=(asked.workflow) placeholder="any" maxlength="64" autocomplete="off"
                    spellcheck="false";
            }
            @if !projects.is_empty() || asked.project().is_some() {
                label {
                    span { "Project" }
                    select name="project" data-submit {
                        option value="" { "any" }
                        @for project in projects {
                            option value=(project.id) selected[Some(project.id) == asked.project()] {
                                (show::cut(&project.name, 60))
                            }
                        }
                        @if let Some(id) = asked.project().filter(|id| projects.iter().all(|known| known.id != *id)) {
                            option value=(id) selected { (id) }
                        }
                    }
                }
            }
            button type="submit" { "Filter" }
            @if !asked.states().is_empty() || !asked.workflow.is_empty() || asked.project().is_some() {
                a href="/dashboard/missions" { "Clear" }
            }
        }
    }
}

fn list(viewer: &Viewer, asked: &Asked, missions: &[MissionView], older: bool, now: Timestamp) -> Markup {
    html! {
        section #list.card data-swap aria-label="Missions" {
            (table(viewer, missions, now))
            nav.paging aria-label="More missions" {
                @if asked.before().is_some() { a href=(asked.address(None, false)) rel="prev" { "← Newest" } }
                @if let Some(last) = missions.last().filter(|_| older) {
                    a href=(asked.address(Some(last.id), false)) rel="next" { "Older →" }
                }
            }
        }
    }
}

/// Missions as a table.
pub(super) fn table(viewer: &Viewer, missions: &[MissionView], now: Timestamp) -> Markup {
    html! {
        @if missions.is_empty() { p.empty { "No missions here." } }
        @else {
            div.scroll #missions-scroll tabindex="0" role="region" aria-label="Missions" {
                table.missions {
                    thead { tr {
                        th scope="col" { "Mission" } th scope="col" { "State" } th scope="col" { "Progress" }
                        th.n scope="col" { "Held" } th.n scope="col" { "Spent" } th.n scope="col" { "Took" }
                        th.n scope="col" { "Submitted" }
                        @if viewer.is_admin() { th scope="col" { "Tenant" } }
                    } }
                    tbody { @for mission in missions { (row(viewer, mission, now)) } }
                }
            }
        }
    }
}

fn row(viewer: &Viewer, mission: &MissionView, now: Timestamp) -> Markup {
    let id = mission.id.to_string();
    html! {
        tr {
            th scope="row" {
                a id={ "to-" (id) } href={ "/dashboard/missions/" (id) } { (mission.workflow_name) }
                " " span.muted { "v" (mission.workflow_version) } " " (show::short_id(&id))
                @if let Some(reason) = &mission.status_reason { div.reason { (show::with_code(&show::cut(reason, 140))) } }
            }
            td { (show::run_badge(mission.state)) }
            td {
                span.progress {
                    (show::progress(mission.tasks_done, mission.tasks_total, mission.state, ""))
                    span.muted { (mission.tasks_done) " / " (mission.tasks_total) }
                }
            }
            td.n { (show::credits(mission.held_ucr)) }
            td.n { (show::credits(mission.spent_ucr)) }
            td.n {
                @match mission.ended_at {
                    Some(ended) => { (show::duration(ended.since_ms(mission.created_at))) }
                    None => { (show::growing(mission.created_at, now)) }
                }
            }
            td.n { (show::ago(mission.created_at, now)) }
            @if viewer.is_admin() { td { (show::short_id(&mission.tenant_id.to_string())) } }
        }
    }
}
