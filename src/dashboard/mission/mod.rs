//! A mission on one page: where it stands, what it costs, its graph, its tasks, calls and events, what it says and
//! what came out. Everything but the frame is drawn again whenever the feed says that something changed.

mod approvals;
mod control;
mod conversation;
mod graph;
mod layout;
mod live;
mod output;
mod renew;
mod status;
mod tables;
mod why;

pub(super) use approvals::decide;
pub(super) use control::{cancel, pause, resume};
pub(super) use conversation::say;
pub(super) use layout::Layout;
pub(super) use live::live;
pub(super) use renew::{ask_fork, ask_retry, fork, retry};

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Redirect;
use bursar_domain::id::{MissionId, RunId};
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::Definition;
use maud::{Markup, html};

use super::failure::Failure;
use super::overview::Part;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::state::Dashboard;
use crate::engine::{Spoken, WaitingMission};
use crate::store::StoreError;
use crate::store::read::{ApprovalFilter, ApprovalView, CallView, EventView, MessageFilter, MissionView, TaskView};

/// Tasks read for one page.
const MOST_TASKS: i64 = 500;
/// Calls read for one page.
const MOST_CALLS: i64 = 500;
/// Approvals read for one page: each may be long.
const MOST_APPROVALS: i64 = 10;
/// Events shown: the latest.
const MOST_EVENTS: i64 = 100;

/// What the page shows.
struct Shown {
    now: Timestamp,
    mission: MissionView,
    /// What it waits for, unless it is over.
    why: Option<WaitingMission>,
    definition: Arc<Definition>,
    layout: Arc<Layout>,
    /// In the order of the workflow; with outputs when the mission is over.
    tasks: Vec<TaskView>,
    /// The latest of what was said.
    messages: Vec<Spoken>,
    /// What somebody is asked to decide.
    approvals: Vec<ApprovalView>,
    calls: Vec<CallView>,
    events: Vec<EventView>,
}

/// The mission, if it exists for this viewer.
async fn find(dashboard: &Dashboard, viewer: &Viewer, id: MissionId) -> Result<MissionView, Failure> {
    dashboard.app.engine.store().mission(viewer.scope(), id).await?.ok_or(Failure::NotFound)
}

/// The page, or its live part.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Query(part): Query<Part>,
) -> Result<Markup, Failure> {
    let id: MissionId = id.parse().map_err(|_| Failure::NotFound)?;
    let mission = find(&dashboard, &viewer, id).await?;
    let shown = load(&dashboard, mission).await?;
    let parts = parts(&viewer, &shown);
    if part.is_live() {
        return Ok(parts);
    }
    let path = format!("/dashboard/missions/{id}");
    let fresh = if shown.mission.state.is_final() {
        Fresh::Never
    } else {
        Fresh::Feed { parts: format!("{path}?part=live"), feed: format!("{path}/live") }
    };
    let title = status::title(&shown.mission);
    Ok(shell::page(&viewer, Place::Missions, &title, shown.now.ms(), &fresh, &parts))
}

async fn load(dashboard: &Dashboard, mission: MissionView) -> Result<Shown, Failure> {
    let engine = &dashboard.app.engine;
    let definition = engine.definition(mission.workflow_id).await?;
    let definition =
        definition.ok_or_else(|| StoreError::Corrupt(format!("workflow {} does not exist", mission.workflow_id)))?;
    let layout = if let Some(layout) = dashboard.layout(mission.workflow_id) {
        layout
    } else {
        let layout = Arc::new(layout::lay_out(&definition).await);
        dashboard.keep_layout(mission.workflow_id, layout.clone());
        layout
    };
    let over = mission.state.is_final();
    let tasks = engine.store().tasks_of_run(mission.run_id, over, MOST_TASKS).await?;
    let filter = ApprovalFilter {
        mission: Some(mission.id),
        tenant: Some(mission.tenant_id),
        with_shown: true,
        limit: MOST_APPROVALS,
        ..ApprovalFilter::default()
    };
    let approvals = if over { Vec::new() } else { engine.store().open_approvals(&filter).await? };
    let why = if over { None } else { Some(engine.why_mission(&mission).await?) };
    let calls = engine.store().calls_of_run(mission.run_id, MOST_CALLS).await?;
    let before_latest = mission.last_seq.saturating_sub(MOST_EVENTS);
    let events = engine.store().events(mission.id, before_latest, MOST_EVENTS).await?;
    let said = MessageFilter {
        mission: mission.id,
        tenant: Some(mission.tenant_id),
        after: 0,
        upto: i64::MAX,
        latest: true,
        limit: conversation::MOST_MESSAGES,
    };
    let messages = engine.conversation(&said).await?;
    Ok(Shown { now: dashboard.now(), mission, why, definition, layout, tasks, messages, approvals, calls, events })
}

fn parts(viewer: &Viewer, shown: &Shown) -> Markup {
    html! {
        (status::section(viewer, shown))
        (why::section(shown))
        (approvals::section(viewer, shown))
        (conversation::section(viewer, shown))
        (graph::section(&shown.layout, &shown.tasks, shown.definition.nodes.len()))
        (output::said(shown))
        (output::results(shown))
        (tables::tasks(shown))
        (tables::calls(shown))
        (tables::events(shown))
    }
}

/// A run's page is its mission's.
pub(super) async fn run(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Redirect, Failure> {
    let id: RunId = id.parse().map_err(|_| Failure::NotFound)?;
    let mission = dashboard.app.engine.store().mission_of_run(viewer.scope(), id).await?.ok_or(Failure::NotFound)?;
    Ok(Redirect::to(&format!("/dashboard/missions/{}", mission.id)))
}
