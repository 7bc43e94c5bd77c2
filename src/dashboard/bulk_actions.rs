//! Redrives: how far each is, what it did not try again and why, and the button that stops it.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::id::BulkActionId;
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use crate::store::{BulkAction, BulkCount, BulkFigures, BulkScope, BulkState};

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
    let before: Option<BulkActionId> = asked.before.parse().ok();
    let store = dashboard.app.engine.store();
    let scope = BulkScope::of(viewer.scope());
    let mut actions = store.bulk_actions(scope, None, before, PER_PAGE as i64 + 1).await?;
    let older = actions.len() > PER_PAGE;
    actions.truncate(PER_PAGE);
    let ids: Vec<BulkActionId> = actions.iter().map(|action| action.id).collect();
    let counts = store.bulk_counts(&ids).await?;
    let now = dashboard.now();
    let list = html! {
        section #list.card data-swap aria-label="Redrives" {
            @if actions.is_empty() { p.empty { "Nothing was redriven yet. A group of dead letters has a form for it." } }
            @else { (table(&viewer, &actions, &counts, now)) }
            nav.paging aria-label="More redrives" {
                @if before.is_some() { a href="/dashboard/bulk-actions" rel="prev" { "← Newest" } }
                @if let Some(last) = actions.last().filter(|_| older) {
                    a href={ "/dashboard/bulk-actions?before=" (last.id) } rel="next" { "Older →" }
                }
            }
        }
    };
    if asked.part.is_some() {
        return Ok(list);
    }
    let parts = before.map_or_else(String::new, |id| format!("before={id}&"));
    let fresh = Fresh::Poll { parts: format!("/dashboard/bulk-actions?{parts}part=live"), every_ms: 3_000 };
    let body = html! {
        div.title-row { h1 { "Redrives" } a href="/dashboard/dead-letters" { "Dead letters" } }
        (list)
    };
    Ok(shell::page(&viewer, Place::DeadLetters, "Redrives", now.ms(), &fresh, &body))
}

/// Actions as a table.
pub(super) fn table(viewer: &Viewer, actions: &[BulkAction], counts: &[BulkCount], now: Timestamp) -> Markup {
    html! {
        div.scroll #redrives-scroll tabindex="0" role="region" aria-label="Redrives" {
            table {
                thead { tr {
                    th scope="col" { "Redrive" } th scope="col" { "State" } th scope="col" { "Progress" }
                    th.n scope="col" { "Retried" } th.n scope="col" { "Refused" } th.n scope="col" { "Failed" }
                    th.n scope="col" { "Ordered" }
                    @if viewer.is_admin() { th scope="col" { "Tenant" } }
                } }
                tbody { @for action in actions { (row(viewer, action, counts, now)) } }
            }
        }
    }
}

fn row(viewer: &Viewer, action: &BulkAction, counts: &[BulkCount], now: Timestamp) -> Markup {
    let figures = BulkFigures::of(action.id, counts);
    html! {
        tr {
            th scope="row" {
                a href={ "/dashboard/bulk-actions/" (action.id) } { (show::short_id(&action.id.to_string())) }
                div.reason { "of " code { (action.fingerprint) } }
            }
            td { (action.state.as_str()) }
            td { (show::number(figures.done)) " / " (show::number(action.total)) }
            td.n { (show::number(figures.retried)) }
            td.n { (show::number(figures.refused)) }
            td.n { (show::number(figures.failed)) }
            td.n { (show::ago(action.created_at, now)) }
            @if viewer.is_admin() { td { (whose(action)) } }
        }
    }
}

fn whose(action: &BulkAction) -> Markup {
    html! {
        @match action.tenant_id { Some(tenant) => { (show::short_id(&tenant.to_string())) } None => { "all" } }
    }
}

/// One action, or its live part.
pub(super) async fn one(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let action = find(&dashboard, &viewer, &id).await?;
    let counts = dashboard.app.engine.store().bulk_counts(&[action.id]).await?;
    let now = dashboard.now();
    let part = progress(&viewer, &action, &counts, now);
    if asked.part.is_some() {
        return Ok(part);
    }
    let path = format!("/dashboard/dead-letters/{}", action.fingerprint);
    let fresh = match action.state {
        BulkState::Running => {
            Fresh::Poll { parts: format!("/dashboard/bulk-actions/{}?part=live", action.id), every_ms: 1_000 }
        }
        BulkState::Done | BulkState::Aborted => Fresh::Never,
    };
    let body = html! {
        div.title-row { h1 { "Redrive " (show::short_id(&action.id.to_string())) } }
        p {
            a href="/dashboard/bulk-actions" { "← Redrives" } " · of "
            a href=(path) { code { (action.fingerprint) } }
        }
        (part)
    };
    Ok(shell::page(&viewer, Place::DeadLetters, "Redrive", now.ms(), &fresh, &body))
}

fn progress(viewer: &Viewer, action: &BulkAction, counts: &[BulkCount], now: Timestamp) -> Markup {
    let figures = BulkFigures::of(action.id, counts);
    let refusals: Vec<&BulkCount> = counts.iter().filter(|count| count.reason.is_some()).collect();
    html! {
        section #progress.card data-swap aria-label="Progress" {
            div.card-head {
                h2 { (action.state.as_str()) }
                @if viewer.is_admin() { span.muted { "missions of " (whose(action)) } }
            }
            dl.facts {
                div { dt { "Had their turn" } dd { (show::number(figures.done)) " of " (show::number(action.total)) } }
                div { dt { "Retried" } dd { (show::number(figures.retried)) } }
                div { dt { "Refused" } dd { (show::number(figures.refused)) } }
                div { dt { "Failed" } dd { (show::number(figures.failed)) } }
                div { dt { "A second" } dd { (show::number(action.per_second)) } }
                div { dt { "Ordered" } dd { (show::ago(action.created_at, now)) } }
                @if let Some(eta) = action.eta(figures.done, now) {
                    div { dt { "Done in about" } dd { (show::duration(eta.since_ms(now))) } }
                }
                @if let Some(ended) = action.ended_at { div { dt { "Ended" } dd { (show::ago(ended, now)) } } }
            }
            @if !refusals.is_empty() {
                table {
                    thead { tr { th scope="col" { "Not tried again because" } th.n scope="col" { "Missions" } th scope="col" { "For example" } } }
                    tbody { @for count in refusals { tr {
                        th scope="row" { code { (count.reason.as_deref().unwrap_or_default()) } }
                        td.n { (show::number(count.missions)) }
                        td { a href={ "/dashboard/missions/" (count.sample_id) } { (show::short_id(&count.sample_id.to_string())) } }
                    } } }
                }
            }
            @if action.state == BulkState::Running && viewer.may_change() {
                form method="post" action={ "/dashboard/bulk-actions/" (action.id) "/abort" } {
                    button.quiet type="submit" { "Abort" }
                }
            }
        }
    }
}

/// Stops an action, then shows it.
pub(super) async fn abort(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let action = find(&dashboard, &viewer, &id).await?;
    if !viewer.may_change() {
        return Err(Failure::Forbidden("A worker's key may look, not change."));
    }
    let aborted = dashboard.app.engine.abort_bulk_action(action.id).await?;
    if !aborted && find(&dashboard, &viewer, &id).await?.state == BulkState::Done {
        return Err(Failure::Refused(StatusCode::CONFLICT, "The redrive is done.".to_owned()));
    }
    Ok(Redirect::to(&format!("/dashboard/bulk-actions/{}", action.id)).into_response())
}

async fn find(dashboard: &Dashboard, viewer: &Viewer, id: &str) -> Result<BulkAction, Failure> {
    let id: BulkActionId = id.parse().map_err(|_| Failure::NotFound)?;
    let found = dashboard.app.engine.store().bulk_action(BulkScope::of(viewer.scope()), id).await?;
    found.ok_or(Failure::NotFound)
}
