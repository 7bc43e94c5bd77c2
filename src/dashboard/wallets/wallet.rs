//! One wallet: what it has, what it may spend, which grants are drawn next, what is held for whom, what was gained and
//! spent, and which models used it up.

use axum::extract::{Path, Query, State};
use bursar_domain::id::WalletId;
use bursar_domain::record::{ChargeFailed, Overrun};
use bursar_domain::time::Timestamp;
use maud::{Markup, html};

use super::super::failure::Failure;
use super::super::overview::{Part, purse, verdicts};
use super::super::session::Viewer;
use super::super::shell::{self, Fresh, Place};
use super::super::show;
use super::super::state::Dashboard;
use super::super::verdict::{self, Level, Money, Verdict};
use super::{amount, card, signed, use_of};
use crate::calendar::Month;
use crate::http::{AlertCode, alerts};
use crate::store::read::{
    GrantView, HoldPurpose, OpFilter, OwnedWallet, TransactionView, UsageBy, UsageFilter, UsageView, WalletView,
};

/// Grants and holds read for one page.
const MOST_ROWS: i64 = 100;
/// Transactions shown: the latest.
const LATEST: i64 = 25;

/// What the page shows.
struct Shown {
    now: Timestamp,
    owned: OwnedWallet,
    grants: Vec<GrantView>,
    holds: Vec<HoldPurpose>,
    transactions: Vec<TransactionView>,
    models: Vec<UsageView>,
}

/// The page, or its live part.
pub(in crate::dashboard) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
    Query(part): Query<Part>,
) -> Result<Markup, Failure> {
    let id: WalletId = id.parse().map_err(|_| Failure::NotFound)?;
    let shown = load(&viewer, &dashboard, id).await?;
    let parts = parts(&shown);
    if part.is_live() {
        return Ok(parts);
    }
    let fresh = Fresh::Poll { parts: format!("/dashboard/wallets/{id}?part=live"), every_ms: 5_000 };
    let body = html! {
        div.title-row {
            div {
                p.crumbs { a href="/dashboard/wallets" { "Wallets" } " / " code { (id) } }
                h1 { "Wallet of " (shown.owned.tenant_name) }
            }
            a href={ "/dashboard/ledger?wallet=" (id) } { "Its ledger" }
        }
        (parts)
    };
    let title = format!("Wallet of {}", shown.owned.tenant_name);
    Ok(shell::page(&viewer, Place::Wallets, &title, shown.now.ms(), &fresh, &body))
}

async fn load(viewer: &Viewer, dashboard: &Dashboard, id: WalletId) -> Result<Shown, Failure> {
    let store = dashboard.app.engine.store();
    let now = dashboard.now();
    let owned = store.owned_wallet(viewer.scope(), id, now).await?.ok_or(Failure::NotFound)?;
    let of_month = UsageFilter {
        tenant: owned.wallet.tenant_id,
        wallet: id,
        by: UsageBy::Model,
        from: Month::of(now).start(),
        to: now.plus_ms(1),
        after: None,
        limit: MOST_ROWS,
    };
    let transactions = OpFilter { only_transactions: true, ..OpFilter::of(id, LATEST) };
    Ok(Shown {
        now,
        grants: store.grants_in_draw_order(id, now, MOST_ROWS).await?,
        holds: store.holds_with_purpose(id, MOST_ROWS).await?,
        transactions: store.transactions(&transactions).await?,
        models: store.usage(&of_month).await?,
        owned,
    })
}

fn parts(shown: &Shown) -> Markup {
    let wallet = &shown.owned.wallet;
    html! {
        (verdicts(&judged(wallet)))
        section #tiles.tiles data-swap aria-label="Figures" {
            (purse("Available", wallet.available_ucr, "credits", ""))
            (purse("Held", wallet.held_ucr, "credits, for work in progress", ""))
            (purse("Debt", wallet.debt_ucr, "credits", if wallet.debt_ucr.is_positive() { "hot" } else { "" }))
            (purse("Spent today", wallet.day_spent_ucr, "credits, by UTC", ""))
            (purse("Spent this month", wallet.month_spent_ucr, "credits, by UTC", ""))
        }
        (rules(wallet))
        (grants(shown))
        (holds(shown))
        (transactions(shown))
        (models(shown))
    }
}

/// What to look at, the worst first.
fn judged(wallet: &WalletView) -> Vec<Verdict> {
    let money =
        Money { available: wallet.available_ucr, held: wallet.held_ucr, debt: wallet.debt_ucr, frozen: wallet.frozen };
    let mut found = verdict::of_money(&money, "this wallet is");
    let is_empty = !wallet.available_ucr.is_positive();
    for alert in alerts(wallet).iter().filter(|alert| alert.code != AlertCode::LowBalance || !is_empty) {
        let what = match alert.code {
            AlertCode::DayLimit => "of the day's limit is used",
            AlertCode::MonthLimit => "of the month's limit is used",
            AlertCode::LowBalance => "of what there was this month is charged or held",
        };
        found.push(Verdict { level: Level::Warning, text: format!("{} % {what}", alert.used_percent) });
    }
    verdict::ranked(found)
}

fn rules(wallet: &WalletView) -> Markup {
    let overrun = match wallet.overrun {
        Overrun::Debt => "is taken from other grants, then owed",
        Overrun::Absorb => "is paid by the platform",
    };
    let failed = match wallet.charge_failed {
        ChargeFailed::Never => "are never charged",
        ChargeFailed::Fault => "are charged when the step was at fault",
        ChargeFailed::Always => "are charged",
    };
    html! {
        section #rules.card data-swap aria-labelledby="rules-title" {
            h2 #rules-title { "Limits and policies" }
            dl.facts {
                div { dt { "Limit of a day" } dd {
                    (limit(wallet.day_limit_ucr)) " " (use_of(wallet.day_spent_ucr, wallet.day_limit_ucr, "used of the day's limit"))
                } }
                div { dt { "Limit of a month" } dd {
                    (limit(wallet.month_limit_ucr)) " " (use_of(wallet.month_spent_ucr, wallet.month_limit_ucr, "used of the month's limit"))
                } }
                div { dt { "Limit of a mission" } dd { @if wallet.mission_limit_ucr.is_some() { (limit(wallet.mission_limit_ucr)) } @else { span.muted { "no limit" } } } }
                div { dt { "What a task uses beyond its hold" } dd { (overrun) } }
                div { dt { "Attempts that failed" } dd { (failed) } }
            }
        }
    }
}

fn limit(limit: Option<bursar_domain::credits::Ucr>) -> Markup {
    html! { @if let Some(limit) = limit { (show::credits(limit)) } }
}

fn grants(shown: &Shown) -> Markup {
    let heads = [
        ("Drawn", true),
        ("Grant", false),
        ("Kind", false),
        ("Priority", true),
        ("Left", true),
        ("Given", true),
        ("Expires", false),
        ("Why", false),
    ];
    let rows = html! {
        @for (place, grant) in shown.grants.iter().enumerate() {
            tr {
                td.n { (place + 1) }
                th scope="row" { (show::short_id(&grant.id.to_string())) }
                td { (grant.kind) }
                td.n { (grant.priority) }
                td.n { (show::credits(grant.remaining_ucr)) }
                td.n { (show::credits(grant.amount_ucr)) }
                td { @match grant.expires_at { Some(at) => { (show::date_time(at)) } None => { span.muted { "never" } } } }
                td.says { (show::cut(grant.reason.as_deref().unwrap_or_default(), 200)) }
            }
        }
    };
    let empty = shown.grants.is_empty().then_some("Nothing can be drawn from.");
    card("grants", "Grants, in the order in which they are drawn", &html! {}, empty, &heads, &rows)
}

fn holds(shown: &Shown) -> Markup {
    let heads = [("Hold", false), ("For", false), ("Holds", true), ("In flight", true), ("Used", true), ("Made", true)];
    let rows = html! {
        @for HoldPurpose { hold, node, workflow_name } in &shown.holds {
            tr {
                th scope="row" { (show::short_id(&hold.id.to_string())) }
                td {
                    @match (hold.owner_kind.as_str(), node) {
                        ("fee", _) => { "flat fee" }
                        (_, Some(node)) => { code { (node) } }
                        (kind, None) => { (kind) " " code { (show::cut(&hold.owner_id, 40)) } }
                    }
                    @if let Some(mission) = hold.mission_id {
                        " of "
                        a href={ "/dashboard/missions/" (mission) } { (workflow_name.as_deref().unwrap_or("a mission")) }
                        " " (show::short_id(&mission.to_string()))
                    }
                }
                td.n { (show::credits(hold.amount_ucr)) }
                td.n { (amount(hold.reserved_ucr)) }
                td.n { (amount(hold.used_ucr)) }
                td.n { (show::ago(hold.created_at, shown.now)) }
            }
        }
    };
    let empty = shown.holds.is_empty().then_some("Nothing is held.");
    card("holds", "Open holds", &html! {}, empty, &heads, &rows)
}

fn transactions(shown: &Shown) -> Markup {
    let heads = [
        ("Time (UTC)", false),
        ("What", false),
        ("Amount", true),
        ("Available after", true),
        ("Mission", false),
        ("Reference", false),
        ("Why", false),
    ];
    let rows = html! {
        @for row in &shown.transactions {
            tr {
                td { (show::date_time(row.op.created_at)) }
                th scope="row" { (row.kind()) }
                td.n { (signed(row.amount_ucr)) }
                td.n { (show::credits(row.op.available_after_ucr)) }
                td { @if let Some(mission) = row.op.mission_id { a href={ "/dashboard/missions/" (mission) } { (show::short_id(&mission.to_string())) } } }
                td { code { (show::cut(row.reference(), 48)) } }
                td.says { (show::cut(row.op.reason.as_deref().unwrap_or_default(), 200)) }
            }
        }
    };
    let empty = shown.transactions.is_empty().then_some("Nothing was gained or spent yet.");
    let note = html! { a href={ "/dashboard/ledger?wallet=" (shown.owned.wallet.id) } { "All entries" } };
    card("transactions", "Latest transactions", &note, empty, &heads, &rows)
}

fn models(shown: &Shown) -> Markup {
    let heads = [
        ("Model", false),
        ("Calls", true),
        ("Tokens in", true),
        ("Cached", true),
        ("Out", true),
        ("Reasoning", true),
        ("Billed", true),
        ("Paid by the platform", true),
        ("Not decided", true),
    ];
    let rows = html! {
        @for model in &shown.models {
            tr {
                th scope="row" { code { (model.group) } }
                td.n { (show::number(model.calls)) }
                td.n { (show::number(model.input_tokens)) }
                td.n { (show::number(model.cache_read_tokens)) }
                td.n { (show::number(model.output_tokens)) }
                td.n { (show::number(model.reasoning_tokens)) }
                td.n { (amount(model.billed_ucr)) }
                td.n { (amount(model.unbilled_ucr)) }
                td.n { (amount(model.pending_ucr)) }
            }
        }
    };
    let empty = shown.models.is_empty().then_some("No model was called this month.");
    card("models", &format!("Usage by model in {}", Month::of(shown.now)), &html! {}, empty, &heads, &rows)
}
