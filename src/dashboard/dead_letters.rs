//! Dead letters: missions that failed, grouped by what their failures have in common, and each group's missions.

use axum::extract::{Path, Query, State};
use bursar_domain::id::{BulkActionId, MissionId};
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use crate::store::BulkScope;
use crate::store::read::DeadLetterGroup;

/// Groups shown: those with the latest failures.
const MOST_GROUPS: i64 = 100;
const PER_PAGE: usize = 25;
/// Redrives shown with a group: the latest.
const MOST_ACTIONS: i64 = 5;

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    before: String,
    #[serde(default)]
    part: Option<String>,
}

fn told(group: &DeadLetterGroup, key: &str) -> String {
    let error = group.error.as_ref();
    error.and_then(|error| error.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// All groups, or their live part.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let groups = dashboard.app.engine.store().dead_letters(viewer.scope(), None, MOST_GROUPS).await?;
    let now = dashboard.now();
    let list = html! {
        section #list.card data-swap aria-label="Dead letters" {
            @if groups.is_empty() { p.empty { "No mission failed, or all were tried again." } }
            @else { (table(&groups, now)) }
        }
    };
    if asked.part.is_some() {
        return Ok(list);
    }
    let fresh = Fresh::Poll { parts: "/dashboard/dead-letters?part=live".to_owned(), every_ms: 5_000 };
    let body = html! {
        div.title-row { h1 { "Dead letters" } a href="/dashboard/bulk-actions" { "Redrives" } }
        (list)
    };
    Ok(shell::page(&viewer, Place::DeadLetters, "Dead letters", now.ms(), &fresh, &body))
}

fn table(groups: &[DeadLetterGroup], now: Timestamp) -> Markup {
    html! {
        div.scroll #groups-scroll tabindex="0" role="region" aria-label="Groups of failed missions" {
            table {
                thead { tr {
                    th scope="col" { "Failure" } th scope="col" { "Where" }
                    th.n scope="col" { "Missions" } th.n scope="col" { "First" } th.n scope="col" { "Last" }
                } }
                tbody { @for group in groups { tr {
                    th scope="row" {
                        a href={ "/dashboard/dead-letters/" (group.fingerprint) } { (show::cut(&told(group, "code"), 60)) }
                        div.reason { (show::cut(&told(group, "message"), 200)) }
                    }
                    td { (show::cut(&group.workflow, 64)) " · " code { (show::cut(&told(group, "node"), 64)) } }
                    td.n { (show::number(group.missions)) }
                    td.n { (show::ago(group.first_at, now)) }
                    td.n { (show::ago(group.last_at, now)) }
                } } }
            }
        }
    }
}

/// One group with its missions.
pub(super) async fn group(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(fingerprint): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let store = dashboard.app.engine.store();
    let group = store.dead_letter_group(viewer.scope(), &fingerprint).await?.ok_or(Failure::NotFound)?;
    let before: Option<MissionId> = asked.before.parse().ok();
    let mut missions = store.dead_missions(viewer.scope(), &fingerprint, before, PER_PAGE as i64 + 1).await?;
    let older = missions.len() > PER_PAGE;
    missions.truncate(PER_PAGE);
    let scope = BulkScope::of(viewer.scope());
    let actions = store.bulk_actions(scope, Some(&fingerprint), None, MOST_ACTIONS).await?;
    let ids: Vec<BulkActionId> = actions.iter().map(|action| action.id).collect();
    let counts = store.bulk_counts(&ids).await?;
    let now = dashboard.now();
    let path = format!("/dashboard/dead-letters/{}", group.fingerprint);
    let body = html! {
        div.title-row { h1 { (show::cut(&told(&group, "code"), 60)) } }
        p { a href="/dashboard/dead-letters" { "← Dead letters" } " · " code { (group.fingerprint) } }
        section.card aria-label="Failure" {
            div.card-head {
                h2 { (group.workflow) " · " code { (told(&group, "node")) } }
                span.muted { (show::number(group.missions)) " missions" }
            }
            p { (show::cut(&told(&group, "message"), 1_000)) }
            @if viewer.may_change() { (super::redrive::form(&group.fingerprint)) }
        }
        @if !actions.is_empty() {
            section.card aria-label="Redrives" {
                div.card-head { h2 { "Redrives" } }
                (super::bulk_actions::table(&viewer, &actions, &counts, now))
            }
        }
        section #list.card aria-label="Missions" {
            (super::missions::table(&viewer, &missions, now))
            nav.paging aria-label="More missions" {
                @if before.is_some() { a href=(path) rel="prev" { "← Newest" } }
                @if let Some(last) = missions.last().filter(|_| older) {
                    a href={ (path) "?before=" (last.id) } rel="next" { "Older →" }
                }
            }
        }
    };
    Ok(shell::page(&viewer, Place::DeadLetters, "Dead letters", now.ms(), &Fresh::Never, &body))
}
