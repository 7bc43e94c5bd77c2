//! Retry and fork in two steps: a page that shows what would happen, with the nodes and the credits, and the button that
//! makes it so.

use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{ForkRequest, PlannedNode, Preview};
use bursar_domain::id::MissionId;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::shell::{self, Fresh, Place};
use super::super::show;
use super::super::state::Dashboard;
use super::control::{answer, changeable};
use crate::engine::{ControlError, ForkError, ForkWish};

/// From which node a fork runs anew.
#[derive(Debug, Deserialize)]
pub(in crate::dashboard) struct From {
    from: String,
}

/// Shows what a retry would do.
pub(in crate::dashboard) async fn ask_retry(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Markup, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    let preview = dashboard.app.engine.preview_retry(id).await.map_err(|error| refused("retried", error))?;
    Ok(page(&viewer, &dashboard, id, "Retry", &preview, None))
}

/// Retries the mission, then shows it.
pub(in crate::dashboard) async fn retry(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    answer(id, "retried", dashboard.app.engine.retry(id, None).await.map(drop))
}

/// Shows what a fork would do.
pub(in crate::dashboard) async fn ask_fork(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Query(From { from }): Query<From>,
) -> Result<Markup, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    let request = request(&dashboard, id, &from).await?;
    let preview = dashboard.app.engine.preview_fork(&request).await.map_err(|error| refused("forked", error))?;
    Ok(page(&viewer, &dashboard, id, "Fork", &preview, Some(&from)))
}

/// Forks the mission, then shows it.
pub(in crate::dashboard) async fn fork(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Form(From { from }): Form<From>,
) -> Result<Response, Failure> {
    let id = changeable(&dashboard, &viewer, &id).await?;
    let request = request(&dashboard, id, &from).await?;
    answer(id, "forked", dashboard.app.engine.fork(&request, None).await.map(drop))
}

async fn request(dashboard: &Dashboard, id: MissionId, from: &str) -> Result<ForkRequest, Failure> {
    let wish = ForkWish { from_node: from.to_owned(), ..ForkWish::default() };
    dashboard.app.engine.fork_request(id, &wish).await.map_err(|error| match error {
        ForkError::NoMission => Failure::NotFound,
        ForkError::Store(error) => error.into(),
        other => Failure::Refused(StatusCode::CONFLICT, format!("The mission can't be forked so: {other}.")),
    })
}

fn refused(what: &str, error: ControlError) -> Failure {
    match error {
        ControlError::Refused(refusal) => {
            Failure::Refused(StatusCode::CONFLICT, format!("The mission can't be {what}: {refusal}."))
        }
        ControlError::Store(error) => error.into(),
    }
}

/// The page between the wish and the deed.
fn page(
    viewer: &Viewer,
    dashboard: &Dashboard,
    id: MissionId,
    word: &str,
    preview: &Preview,
    from: Option<&str>,
) -> Markup {
    let path = format!("/dashboard/missions/{id}");
    let action = format!("{path}/{}", word.to_lowercase());
    let plan = &preview.plan;
    let sum = |cost: fn(&PlannedNode) -> Ucr| plan.nodes.iter().map(cost).sum::<Ucr>().saturating_add(plan.fee);
    let (low, expected, high) = (sum(|node| node.low), sum(|node| node.expected), sum(|node| node.high));
    let body = html! {
        section.card aria-label=(word) {
            p.crumbs { a href="/dashboard/missions" { "Missions" } " / " a href=(path) { code.id { (id) } } }
            h1 { (word) @if let Some(from) = from { " from " code { (from) } } }
            p { (show::number(plan.nodes.len())) " tasks run, " (show::number(plan.kept)) " keep what came out of them." }
            dl.facts {
                div { dt { "Held at once" } dd { (show::credits(plan.hold_needed)) } }
                div { dt { "Expected" } dd { (show::credits(expected)) } }
                div { dt { "From … to" } dd { (show::credits(low)) " … " (show::credits(high)) } }
                div { dt { "Flat fee" } dd { (show::credits(plan.fee)) } }
            }
            table {
                thead { tr { th { "Node" } th { "Kind" } th { "Begins" } th.n { "Hold" } th.n { "Expected" } } }
                tbody {
                    @for node in &plan.nodes {
                        tr {
                            th scope="row" { code { (node.node) } }
                            td { (node.kind) }
                            td { @if node.begins { "at once" } @else { "later" } }
                            td.n { (show::credits(node.hold)) }
                            td.n { (show::credits(node.expected)) }
                        }
                    }
                }
            }
            @if let Some(refusal) = &preview.refusal {
                p.reason { "It would be refused now: " (refusal) "." }
            } @else {
                form method="post" action=(action) {
                    @if let Some(from) = from { input type="hidden" name="from" value=(from); }
                    button type="submit" { (word) " it" }
                }
            }
        }
    };
    shell::page(viewer, Place::Missions, word, dashboard.now().ms(), &Fresh::Never, &body)
}
