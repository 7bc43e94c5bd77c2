//! A redrive in two steps: a page that shows what trying a group of dead letters again would do, with the nodes and the
//! credits, and the button that orders it.

use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Plan, PlannedNode};
use bursar_domain::limits::{MAX_REDRIVES, MAX_REDRIVES_PER_SECOND, MAX_REHEARSED};
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use crate::clock::new_token;
use crate::engine::{RedriveError, RedriveOrder, Rehearsal, Rehearsed};

/// Missions a second that the form begins with.
const USUAL_PER_SECOND: i64 = 5;
/// Missions listed one by one on the page between the wish and the deed.
const MOST_LISTED: usize = 50;

/// How fast, how many, and what makes pressing the button twice the same as once.
#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    per_second: i64,
    limit: i64,
    #[serde(default)]
    key: Option<String>,
}

/// The form that asks for a rehearsal.
pub(super) fn form(fingerprint: &str) -> Markup {
    html! {
        form.filter method="get" action={ "/dashboard/dead-letters/" (fingerprint) "/redrive" } {
            label {
                span { "Missions a second" }
                input type="number" name="per_second" value=(USUAL_PER_SECOND) min="1" max=(MAX_REDRIVES_PER_SECOND)
                    required;
            }
            label {
                span { "At most" }
                input type="number" name="limit" value=(MAX_REDRIVES) min="1" max=(MAX_REDRIVES) required;
            }
            button type="submit" { "See what a redrive would do" }
        }
    }
}

fn ordered(viewer: &Viewer, fingerprint: String, wish: Wish) -> Result<RedriveOrder, Failure> {
    if !viewer.may_change() {
        return Err(Failure::Forbidden("A worker's key may look, not change."));
    }
    let Wish { per_second, limit, key } = wish;
    if !(1..=MAX_REDRIVES_PER_SECOND).contains(&per_second) || !(1..=MAX_REDRIVES).contains(&limit) {
        let why = format!(
            "A redrive tries 1 to {MAX_REDRIVES_PER_SECOND} missions a second again, {} in all at most.",
            show::number(MAX_REDRIVES)
        );
        return Err(Failure::Refused(StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let idempotency_key = key.filter(|key| (1..=64).contains(&key.len()));
    Ok(RedriveOrder {
        owner_id: viewer.key.tenant_id,
        actor: viewer.key.id,
        tenant_id: viewer.scope(),
        fingerprint,
        per_second,
        limit,
        idempotency_key,
    })
}

fn refused(error: RedriveError) -> Failure {
    match error {
        RedriveError::NoGroup => Failure::NotFound,
        RedriveError::KeyReused => Failure::Refused(StatusCode::CONFLICT, "This form was sent before.".to_owned()),
        RedriveError::Store(error) => error.into(),
    }
}

/// Shows what a redrive would do.
pub(super) async fn ask(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(fingerprint): Path<String>,
    Query(wish): Query<Wish>,
) -> Result<Markup, Failure> {
    let order = ordered(&viewer, fingerprint, wish)?;
    let rehearsal = dashboard.app.engine.rehearse_redrive(&order, MAX_REHEARSED).await.map_err(refused)?;
    let body = page(&viewer, &order, &rehearsal);
    Ok(shell::page(&viewer, Place::DeadLetters, "Redrive", dashboard.now().ms(), &Fresh::Never, &body))
}

/// Orders the redrive, then shows its progress.
pub(super) async fn order(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(fingerprint): Path<String>,
    Form(wish): Form<Wish>,
) -> Result<Response, Failure> {
    let order = ordered(&viewer, fingerprint, wish)?;
    let (action, _) = dashboard.app.engine.order_redrive(&order).await.map_err(refused)?;
    Ok(Redirect::to(&format!("/dashboard/bulk-actions/{}", action.id)).into_response())
}

fn sum(plans: &[&Plan], cost: fn(&PlannedNode) -> Ucr) -> Ucr {
    let fees: Ucr = plans.iter().map(|plan| plan.fee).sum();
    plans.iter().flat_map(|plan| &plan.nodes).map(cost).sum::<Ucr>().saturating_add(fees)
}

fn page(viewer: &Viewer, order: &RedriveOrder, rehearsal: &Rehearsal) -> Markup {
    let path = format!("/dashboard/dead-letters/{}", order.fingerprint);
    let looked_at = rehearsal.missions.len();
    let go = |mission: &&Rehearsed| mission.hindrance.is_none();
    let plans: Vec<&Plan> = rehearsal.missions.iter().filter(go).filter_map(|mission| mission.plan.as_ref()).collect();
    let hold: Ucr = plans.iter().map(|plan| plan.hold_needed).sum();
    html! {
        section.card aria-label="Redrive" {
            p.crumbs { a href="/dashboard/dead-letters" { "Dead letters" } " / " a href=(path) { code { (order.fingerprint) } } }
            h1 { "Redrive" }
            p {
                (show::number(plans.len())) " of " (show::number(looked_at)) " missions would be tried again, "
                (show::number(order.per_second)) " a second."
                @if rehearsal.total > looked_at as i64 {
                    " " (show::number(rehearsal.total)) " are meant; these are the oldest of them."
                }
            }
            dl.facts {
                div { dt { "Held at once, if none ended" } dd { (show::credits(hold)) } }
                div { dt { "Expected" } dd { (show::credits(sum(&plans, |node| node.expected))) } }
                div { dt { "From … to" } dd {
                    (show::credits(sum(&plans, |node| node.low))) " … " (show::credits(sum(&plans, |node| node.high)))
                } }
            }
            (missions(viewer, &rehearsal.missions))
            form method="post" action={ (path) "/redrive" } {
                input type="hidden" name="per_second" value=(order.per_second);
                input type="hidden" name="limit" value=(order.limit);
                input type="hidden" name="key" value=(new_token());
                button type="submit" { "Redrive " (show::number(rehearsal.total)) " missions" }
            }
        }
    }
}

fn missions(viewer: &Viewer, missions: &[Rehearsed]) -> Markup {
    html! {
        div.scroll #rehearsed-scroll tabindex="0" role="region" aria-label="Missions" {
            table {
                thead { tr {
                    th scope="col" { "Mission" } th scope="col" { "Nodes that run" }
                    th.n scope="col" { "Hold" } th.n scope="col" { "Expected" } th scope="col" { "Refused because" }
                    @if viewer.is_admin() { th scope="col" { "Tenant" } }
                } }
                tbody { @for mission in missions.iter().take(MOST_LISTED) { (row(viewer, mission)) } }
            }
        }
        @if missions.len() > MOST_LISTED { p.muted { "The first " (MOST_LISTED) " of them are listed." } }
    }
}

fn row(viewer: &Viewer, mission: &Rehearsed) -> Markup {
    let nodes: Vec<&str> = mission.plan.iter().flat_map(|plan| &plan.nodes).map(|node| node.node.as_str()).collect();
    html! {
        tr {
            th scope="row" {
                a href={ "/dashboard/missions/" (mission.mission_id) } { (show::short_id(&mission.mission_id.to_string())) }
            }
            td { code { (show::cut(&nodes.join(", "), 120)) } }
            @match &mission.plan {
                Some(plan) => {
                    td.n { (show::credits(plan.hold_needed)) }
                    td.n { (show::credits(sum(&[plan], |node| node.expected))) }
                }
                None => { td.n { "—" } td.n { "—" } }
            }
            td { @if let Some(hindrance) = &mission.hindrance { (show::cut(&hindrance.message, 200)) } }
            @if viewer.is_admin() { td { (show::short_id(&mission.tenant_id.to_string())) } }
        }
    }
}
