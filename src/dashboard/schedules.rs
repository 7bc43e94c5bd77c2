//! Schedules: when they fire next, what the last firing made, why it did not; paused, resumed and run by hand.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::id::ScheduleId;
use bursar_domain::record::Schedule;
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use crate::engine::ScheduleError;

const PER_PAGE: usize = 25;

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    before: String,
    #[serde(default)]
    part: Option<String>,
}

/// The list, or its live part.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let before: Option<ScheduleId> = asked.before.parse().ok();
    let store = dashboard.app.engine.store();
    let mut schedules = store.schedules(viewer.scope(), before, PER_PAGE as i64 + 1).await?;
    let older = schedules.len() > PER_PAGE;
    schedules.truncate(PER_PAGE);
    let now = dashboard.now();
    let list = list(&viewer, &schedules, before, older, now);
    if asked.part.is_some() {
        return Ok(list);
    }
    let parts = before.map_or_else(String::new, |id| format!("before={id}&"));
    let fresh = Fresh::Poll { parts: format!("/dashboard/schedules?{parts}part=live"), every_ms: 5_000 };
    let body = html! {
        div.title-row { h1 { "Schedules" } }
        (list)
    };
    Ok(shell::page(&viewer, Place::Schedules, "Schedules", now.ms(), &fresh, &body))
}

fn list(viewer: &Viewer, schedules: &[Schedule], before: Option<ScheduleId>, older: bool, now: Timestamp) -> Markup {
    html! {
        section #list.card data-swap aria-label="Schedules" {
            @if schedules.is_empty() {
                p.empty { "No schedules here. " code { "bursar schedule create" } " makes one." }
            } @else {
                div.scroll #schedules-scroll tabindex="0" role="region" aria-label="Schedules" {
                    table {
                        thead { tr {
                            th scope="col" { "Schedule" } th scope="col" { "State" } th scope="col" { "When" }
                            th scope="col" { "Next" } th scope="col" { "Last" }
                            th.n scope="col" { "Made" } th.n scope="col" { "Skipped" } th.n scope="col" { "Refused" }
                            @if viewer.is_admin() { th scope="col" { "Tenant" } }
                            @if viewer.may_change() { th scope="col" { "Do" } }
                        } }
                        tbody { @for schedule in schedules { (row(viewer, schedule, now)) } }
                    }
                }
            }
            nav.paging aria-label="More schedules" {
                @if before.is_some() { a href="/dashboard/schedules" rel="prev" { "← Newest" } }
                @if let Some(last) = schedules.last().filter(|_| older) {
                    a href={ "/dashboard/schedules?before=" (last.id) } rel="next" { "Older →" }
                }
            }
        }
    }
}

fn row(viewer: &Viewer, schedule: &Schedule, now: Timestamp) -> Markup {
    let error = schedule.last_error.as_ref().filter(|error| error.is_object());
    let text = |error: &Value, key: &str| error[key].as_str().unwrap_or_default().to_owned();
    html! {
        tr {
            th scope="row" id={ "of-" (schedule.id) } {
                (show::cut(&schedule.name, 60)) " " (show::short_id(&schedule.id.to_string()))
                div.reason { "submits " code { (show::cut(&schedule.workflow, 80)) } }
            }
            td { @if schedule.paused { "paused" } @else { "active" } }
            td {
                code { (show::cut(&schedule.cron, 60)) }
                div.reason { (schedule.zone) ", overlap " (word(&schedule.overlap)) }
            }
            td {
                @match schedule.next_at { Some(at) => { (show::date_time(at)) } None => { "—" } }
                @if let Some(at) = schedule.waiting_for {
                    div.reason { "that of " (show::date_time(at)) " waits for the last mission" }
                }
            }
            td {
                @if let Some(id) = schedule.last_mission_id {
                    a href={ "/dashboard/missions/" (id) } { (show::short_id(&id.to_string())) }
                }
                @if let Some(at) = schedule.last_fired_at { " " (show::ago(at, now)) }
                @if let Some(error) = error {
                    div.reason { strong { (text(error, "code")) } " " (show::cut(&text(error, "message"), 140)) }
                }
            }
            td.n { (show::number(schedule.fired)) }
            td.n { (show::number(schedule.skipped)) }
            td.n { (show::number(schedule.refused)) }
            @if viewer.is_admin() { td { (show::short_id(&schedule.tenant_id.to_string())) } }
            @if viewer.may_change() { td { (buttons(schedule)) } }
        }
    }
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn buttons(schedule: &Schedule) -> Markup {
    let (act, name) = if schedule.paused { ("resume", "Resume") } else { ("pause", "Pause") };
    html! {
        @for (act, name) in [(act, name), ("run", "Run now")] {
            form method="post" action={ "/dashboard/schedules/" (schedule.id) "/" (act) } {
                button.quiet type="submit" aria-describedby={ "of-" (schedule.id) } { (name) }
            }
        }
    }
}

/// Pauses, resumes or runs a schedule, then shows what came of it.
pub(super) async fn act(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path((id, act)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let id: ScheduleId = id.parse().map_err(|_| Failure::NotFound)?;
    let engine = &dashboard.app.engine;
    let schedule = engine.store().schedule(viewer.scope(), id).await?.ok_or(Failure::NotFound)?;
    if !viewer.may_change() {
        return Err(Failure::Forbidden("A worker's key may look, not change."));
    }
    let tenant = schedule.tenant_id;
    let changed = match act.as_str() {
        "pause" => engine.change_schedule(tenant, id, |row| row.paused = true).await,
        "resume" => engine.change_schedule(tenant, id, |row| row.paused = false).await,
        "run" => match engine.run_schedule(tenant, id, None).await {
            Ok(Ok(made)) => {
                return Ok(Redirect::to(&format!("/dashboard/missions/{}", made.mission_id)).into_response());
            }
            Ok(Err(error)) => {
                return Err(Failure::Refused(StatusCode::CONFLICT, format!("The mission was not submitted: {error}.")));
            }
            Err(error) => Err(error),
        },
        _ => return Err(Failure::NotFound),
    };
    match changed {
        Ok(_) => Ok(Redirect::to("/dashboard/schedules").into_response()),
        Err(ScheduleError::NotFound) => Err(Failure::NotFound),
        Err(ScheduleError::Store(error)) => Err(error.into()),
        Err(error) => Err(Failure::Refused(StatusCode::CONFLICT, format!("The schedule was not changed: {error}."))),
    }
}
