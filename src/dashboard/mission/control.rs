//! What a viewer can do to a mission: cancel, pause, resume, and the ways to retry and fork. Forms on its page, and what they are sent to.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::id::MissionId;
use bursar_domain::state::RunState;
use bursar_domain::workflow::Node;
use maud::{Markup, html};

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::state::Dashboard;
use super::find;
use crate::engine::ControlError;

/// The forms for what can be done to a mission in that state.
pub(super) fn forms(id: &str, state: RunState, nodes: &[Node]) -> Markup {
    html! {
        div.actions {
            @if state.is_live() { (button(id, "pause", "Pause", "Steps in flight go on; nothing new begins.")) }
            @if state == RunState::Paused { (button(id, "resume", "Resume", "What was kept from beginning goes on.")) }
            @if !state.is_final() { (cancel_form(id)) }
            @if matches!(state, RunState::Failed | RunState::Cancelled | RunState::Expired) {
                a.button href={ "/dashboard/missions/" (id) "/retry" } { "Retry…" }
            }
            @if state.is_final() { (fork_form(id, nodes)) }
        }
    }
}

/// One step: what it does can be undone.
fn button(id: &str, action: &str, word: &str, about: &str) -> Markup {
    html! {
        form method="post" action={ "/dashboard/missions/" (id) "/" (action) } {
            button type="submit" title=(about) { (word) }
        }
    }
}

/// Two steps, so that nobody ends a mission by a slip.
fn cancel_form(id: &str) -> Markup {
    html! {
        details #cancel.confirm {
            summary.button { "Cancel mission" }
            form method="post" action={ "/dashboard/missions/" (id) "/cancel" } {
                p { "Steps in flight are stopped; what they used is recorded." }
                button.danger type="submit" { "Yes, cancel it" }
            }
        }
    }
}

/// The first of two steps: from which node on. What that would do is shown next.
fn fork_form(id: &str, nodes: &[Node]) -> Markup {
    html! {
        details.confirm {
            summary.button { "Fork…" }
            form method="get" action={ "/dashboard/missions/" (id) "/fork" } {
                label {
                    "Run anew from "
                    select name="from" { @for node in nodes { option value=(node.key) { (node.key) } } }
                }
                button type="submit" { "Show what that does" }
            }
        }
    }
}

/// The mission, if this viewer may change it.
pub(super) async fn changeable(dashboard: &Dashboard, viewer: &Viewer, id: &str) -> Result<MissionId, Failure> {
    let id: MissionId = id.parse().map_err(|_| Failure::NotFound)?;
    find(dashboard, viewer, id).await?;
    if !viewer.may_change() {
        return Err(Failure::Forbidden("A worker's key may look, not change."));
    }
    Ok(id)
}

/// What was done, shown on the mission's page; or why it was not.
pub(super) fn answer(id: MissionId, what: &str, done: Result<(), ControlError>) -> Result<Response, Failure> {
    match done {
        Ok(()) => Ok(Redirect::to(&format!("/dashboard/missions/{id}")).into_response()),
        Err(ControlError::Refused(refusal)) => {
            Err(Failure::Refused(StatusCode::CONFLICT, format!("The mission was not {what}: {refusal}.")))
        }
        Err(ControlError::Store(error)) => Err(error.into()),
    }
}

fn by(viewer: &Viewer, what: &str) -> String {
    format!("{what} in the dashboard with the key {}…", viewer.key.prefix)
}

/// Cancels the mission, then shows it.
pub(in crate::dashboard) async fn cancel(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    answer(id, "cancelled", dashboard.app.engine.cancel(id, Some(&by(&viewer, "cancelled"))).await)
}

/// Pauses the mission, then shows it.
pub(in crate::dashboard) async fn pause(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    answer(id, "paused", dashboard.app.engine.pause(id, Some(&by(&viewer, "paused"))).await)
}

/// Resumes the mission, then shows it.
pub(in crate::dashboard) async fn resume(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    answer(id, "resumed", dashboard.app.engine.resume(id).await)
}
