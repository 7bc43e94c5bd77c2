//! All wallets for operators, newest first; a tenant sees its own.

use axum::extract::{Query, State};
use bursar_domain::id::WalletId;
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::failure::Failure;
use super::super::session::Viewer;
use super::super::shell::{self, Fresh, Place};
use super::super::show;
use super::super::state::Dashboard;
use super::{amount, card, use_of};
use crate::store::read::OwnedWallet;

const PER_PAGE: usize = 50;

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(in crate::dashboard) struct Asked {
    #[serde(default)]
    before: String,
    #[serde(default)]
    part: Option<String>,
}

/// The page, or its live part.
pub(in crate::dashboard) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let now = dashboard.now();
    let before: Option<WalletId> = asked.before.parse().ok();
    let store = dashboard.app.engine.store();
    let mut wallets = store.wallets(viewer.scope(), before, now, PER_PAGE as i64 + 1).await?;
    let older = wallets.len() > PER_PAGE;
    wallets.truncate(PER_PAGE);
    let list = list(&wallets, before, older, now);
    if asked.part.is_some() {
        return Ok(list);
    }
    let place = before.map(|id| format!("&before={id}")).unwrap_or_default();
    let fresh = Fresh::Poll { parts: format!("/dashboard/wallets?part=live{place}"), every_ms: 5_000 };
    let body = html! { div.title-row { h1 { "Wallets" } } (list) };
    Ok(shell::page(&viewer, Place::Wallets, "Wallets", now.ms(), &fresh, &body))
}

fn list(wallets: &[OwnedWallet], before: Option<WalletId>, older: bool, now: Timestamp) -> Markup {
    let heads = [
        ("Tenant", false),
        ("Available", true),
        ("Held", true),
        ("Debt", true),
        ("State", false),
        ("Of the day's limit", false),
        ("Of the month's limit", false),
        ("Spent this month", true),
        ("Opened", true),
    ];
    let rows = html! { @for wallet in wallets { (row(wallet, now)) } };
    let note = html! {
        nav.paging aria-label="More wallets" {
            @if before.is_some() { a href="/dashboard/wallets" rel="prev" { "← Newest" } }
            @if let Some(last) = wallets.last().filter(|_| older) {
                a href={ "/dashboard/wallets?before=" (last.wallet.id) } rel="next" { "Older →" }
            }
        }
    };
    card("wallets", "All wallets", &note, wallets.is_empty().then_some("No wallets here."), &heads, &rows)
}

fn row(owned: &OwnedWallet, now: Timestamp) -> Markup {
    let wallet = &owned.wallet;
    let id = wallet.id.to_string();
    html! {
        tr {
            th scope="row" { a href={ "/dashboard/wallets/" (id) } { (owned.tenant_name) } " " (show::short_id(&id)) }
            td.n { (show::credits(wallet.available_ucr)) }
            td.n { (amount(wallet.held_ucr)) }
            td.n { @if wallet.debt_ucr.is_positive() { span.hot { (show::credits(wallet.debt_ucr)) } } @else { (amount(wallet.debt_ucr)) } }
            td { @if wallet.frozen { span.badge.s-failed { "frozen" } } @else { span.badge.s-succeeded { "open" } } }
            td { (use_of(wallet.day_spent_ucr, wallet.day_limit_ucr, "used of the day's limit")) }
            td { (use_of(wallet.month_spent_ucr, wallet.month_limit_ucr, "used of the month's limit")) }
            td.n { (amount(wallet.month_spent_ucr)) }
            td.n { (show::ago(wallet.created_at, now)) }
        }
    }
}
