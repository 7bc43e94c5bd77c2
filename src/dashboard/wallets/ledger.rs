//! The ledger of a wallet: each operation with its legs, and what it belongs to. Filters and the place in the list stand
//! in the address, so that they can be kept and sent.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use bursar_domain::id::{MissionId, OpId, TaskId, WalletId};
use bursar_domain::record::{Account, Leg};
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::shell::{self, Fresh, Place, escape_query};
use super::super::show;
use super::super::state::Dashboard;
use super::card;
use crate::calendar::parse_time;
use crate::store::read::{EntryView, OpFilter, OwnedWallet};

const PER_PAGE: usize = 50;

/// What can be chosen, and what it is called.
const KINDS: [&str; 10] =
    ["grant", "hold", "top_up", "shrink", "settle", "release", "expire", "refund", "adjust", "write_off"];

/// What the address asks for. Empty and unknown values filter nothing.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Asked {
    #[serde(default)]
    wallet: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    mission: String,
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    before: String,
}

impl Asked {
    fn kind(&self) -> Option<&str> {
        KINDS.into_iter().find(|kind| *kind == self.kind)
    }

    fn mission(&self) -> Option<MissionId> {
        self.mission.trim().parse().ok()
    }

    fn time(text: &str) -> Option<Timestamp> {
        parse_time(text.trim())
    }

    /// Whether anything is filtered.
    fn filters(&self) -> bool {
        self.kind().is_some()
            || self.mission().is_some()
            || Self::time(&self.from).is_some()
            || Self::time(&self.to).is_some()
    }

    /// The address of the same list at another place.
    fn address(&self, wallet: WalletId, before: Option<OpId>) -> String {
        let mut address = format!("/dashboard/ledger?wallet={wallet}");
        let kind = self.kind().unwrap_or_default().to_owned();
        let mission = self.mission().map(|id| id.to_string()).unwrap_or_default();
        let before = before.map(|id| id.to_string()).unwrap_or_default();
        let fields = [
            ("kind", kind.as_str()),
            ("mission", mission.as_str()),
            ("from", self.from.as_str()),
            ("to", self.to.as_str()),
            ("before", before.as_str()),
        ];
        for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
            address.extend(["&", name, "=", &escape_query(value)]);
        }
        address
    }
}

/// The page.
pub(in crate::dashboard) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let now = dashboard.now();
    let owned = wallet(&viewer, &dashboard, &asked, now).await?;
    let store = dashboard.app.engine.store();
    let filter = OpFilter {
        kinds: asked.kind().map(str::to_owned).into_iter().collect(),
        mission: asked.mission(),
        from: Asked::time(&asked.from),
        to: Asked::time(&asked.to),
        before: asked.before.parse().ok(),
        ..OpFilter::of(owned.wallet.id, PER_PAGE as i64 + 1)
    };
    let mut ops = store.ops(&filter).await?;
    let older = ops.len() > PER_PAGE;
    ops.truncate(PER_PAGE);
    let tasks: Vec<TaskId> = ops.iter().filter_map(|op| op.task_id).collect();
    let nodes: BTreeMap<TaskId, String> = store.nodes_of_tasks(&tasks).await?.into_iter().collect();
    let body = html! {
        div.title-row {
            h1 { "Ledger of " (owned.tenant_name) }
            a href={ "/dashboard/wallets/" (owned.wallet.id) } { "The wallet" }
        }
        (form(&viewer, &asked, owned.wallet.id))
        (list(&asked, &owned, &ops, older, &nodes))
    };
    let title = format!("Ledger of {}", owned.tenant_name);
    Ok(shell::page(&viewer, Place::Ledger, &title, now.ms(), &Fresh::Never, &body))
}

/// The wallet that is asked for, or the viewer's own.
async fn wallet(viewer: &Viewer, dashboard: &Dashboard, asked: &Asked, now: Timestamp) -> Result<OwnedWallet, Failure> {
    let store = dashboard.app.engine.store();
    let id = if asked.wallet.is_empty() {
        store.wallet_of(viewer.key.tenant_id, now).await?.map(|wallet| wallet.id)
    } else {
        asked.wallet.trim().parse().ok()
    };
    let owned = store.owned_wallet(viewer.scope(), id.ok_or(Failure::NotFound)?, now).await?;
    owned.ok_or(Failure::NotFound)
}

fn form(viewer: &Viewer, asked: &Asked, wallet: WalletId) -> Markup {
    html! {
        form.filters method="get" action="/dashboard/ledger" role="search" aria-label="Filter entries" {
            @if viewer.is_admin() {
                label {
                    span { "Wallet" }
                    input type="search" name="wallet" value=(wallet) maxlength="40" autocomplete="off" spellcheck="false";
                }
            } @else { input type="hidden" name="wallet" value=(wallet); }
            label {
                span { "Kind" }
                select name="kind" data-submit {
                    option value="" { "any" }
                    @for kind in KINDS { option value=(kind) selected[kind == asked.kind] { (kind.replace('_', " ")) } }
                }
            }
            label {
                span { "Mission" }
                input type="search" name="mission" value=(asked.mission) placeholder="mis_…" maxlength="40" autocomplete="off"
                    spellcheck="false";
            }
            label { span { "From" } input type="date" name="from" value=(asked.from); }
            label { span { "Before" } input type="date" name="to" value=(asked.to); }
            button type="submit" { "Filter" }
            @if asked.filters() { a href={ "/dashboard/ledger?wallet=" (wallet) } { "Clear" } }
        }
    }
}

fn list(
    asked: &Asked,
    owned: &OwnedWallet,
    ops: &[EntryView],
    older: bool,
    nodes: &BTreeMap<TaskId, String>,
) -> Markup {
    let heads = [
        ("Time (UTC)", false),
        ("Operation", false),
        ("From → to", false),
        ("Available after", true),
        ("Belongs to", false),
        ("By whom and why", false),
    ];
    let wallet = owned.wallet.id;
    let rows = html! { @for op in ops { (row(op, nodes)) } };
    let note = html! {
        nav.paging aria-label="More entries" {
            @if !asked.before.is_empty() { a href=(asked.address(wallet, None)) rel="prev" { "← Newest" } }
            @if let Some(last) = ops.last().filter(|_| older) {
                a href=(asked.address(wallet, Some(last.id))) rel="next" { "Older →" }
            }
        }
    };
    card("entries", "Entries", &note, ops.is_empty().then_some("No entries here."), &heads, &rows)
}

fn row(op: &EntryView, nodes: &BTreeMap<TaskId, String>) -> Markup {
    let legs: Vec<Leg> = Vec::deserialize(&op.legs).unwrap_or_default();
    html! {
        tr id=(op.id) {
            td { (show::date_time(op.created_at)) }
            th scope="row" { (op.kind.replace('_', " ")) div.muted title=(op.key) { code { (show::cut(&op.key, 44)) } } }
            td {
                @for Leg(from, to, amount) in legs {
                    div { (account(from)) " → " (account(to)) " " strong { (show::credits(amount)) } }
                }
            }
            td.n { (show::credits(op.available_after_ucr)) }
            td {
                @if let Some(mission) = op.mission_id {
                    @let page = format!("/dashboard/missions/{mission}");
                    a href=(page) { (show::short_id(&mission.to_string())) }
                    @if let Some(node) = op.task_id.and_then(|task| nodes.get(&task)) {
                        " " a href={ (page) "#task-" (node) } { code { (node) } }
                    }
                }
            }
            td.says {
                @if let Some(actor) = &op.actor { code { (show::cut(actor, 44)) } " " }
                (show::cut(op.reason.as_deref().unwrap_or_default(), 200))
            }
        }
    }
}

fn account(account: Account) -> Markup {
    match account {
        Account::Grant(id) => show::short_id(&id.to_string()),
        Account::Hold(id) => show::short_id(&id.to_string()),
        other => html! { (other) },
    }
}
