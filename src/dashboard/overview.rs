//! The overview: what is queued, who works, what credits there are, and what is wrong right now.
//!
//! An admin sees the whole system. A tenant sees its own missions and wallet, and of the system only whether
//! somebody listens to the pools that its missions need.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Query, State};
use bursar_domain::credits::Ucr;
use bursar_domain::state::RunState;
use bursar_domain::time::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::missions;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use super::verdict::{self, Level, Money, PoolLoad, Verdict};
use crate::store::WorkerRow;
use crate::store::read::{MissionFilter, MissionView};

/// Missions looked at.
const LATEST: i64 = 50;
/// Missions shown.
const SHOWN: usize = 10;
/// Decisions counted at most.
const MOST_COUNTED: i64 = 1_000;
/// For how long a worker that fell silent is still shown.
const REMEMBER_MS: i64 = 120_000;

/// Whether the whole page is asked for, or its live part.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Part {
    #[serde(default)]
    part: Option<String>,
}

impl Part {
    /// Whether only the live part is asked for.
    pub(super) fn is_live(&self) -> bool {
        self.part.is_some()
    }
}

/// What the page shows.
struct Shown {
    now: Timestamp,
    money: Money,
    verdicts: Vec<Verdict>,
    latest: Vec<MissionView>,
    /// How many decisions somebody is asked for.
    to_decide: i64,
    /// Queues and workers, for those who may see them.
    system: Option<(BTreeMap<String, PoolLoad>, Vec<WorkerRow>)>,
}

/// The page, or its live part.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(part): Query<Part>,
) -> Result<Markup, Failure> {
    let shown = load(&viewer, &dashboard).await?;
    let parts = parts(&viewer, &shown);
    if part.is_live() {
        return Ok(parts);
    }
    let fresh = Fresh::Poll { parts: "/dashboard?part=live".to_owned(), every_ms: 2_000 };
    let body = html! { h1.unseen { "Overview" } (parts) };
    Ok(shell::page(&viewer, Place::Overview, "Overview", shown.now.ms(), &fresh, &body))
}

async fn load(viewer: &Viewer, dashboard: &Dashboard) -> Result<Shown, Failure> {
    let store = dashboard.app.engine.store();
    let now = dashboard.now();
    let filter = MissionFilter { tenant: viewer.scope(), limit: LATEST, ..MissionFilter::default() };
    let latest = store.missions(&filter).await?;
    let to_decide = store.count_open_approvals(viewer.scope(), MOST_COUNTED).await?;
    let workers = store.workers(now.plus_ms(-REMEMBER_MS)).await?;
    if viewer.is_admin() {
        let sums = store.overview().await?;
        let money = sums.as_ref().map_or_else(Money::default, |sums| Money {
            available: sums.available_ucr,
            held: sums.held_ucr,
            debt: sums.debt_ucr,
            frozen: false,
        });
        let loads = verdict::loads(&store.pools().await?, &workers, now);
        let mut verdicts = verdict::of_system(&loads, &workers, now);
        if sums.is_some_and(|sums| sums.wallets > 0) {
            verdicts.extend(verdict::of_money(&money, "all wallets together are"));
        }
        let verdicts = verdict::ranked(verdicts);
        return Ok(Shown { now, money, verdicts, latest, to_decide, system: Some((loads, workers)) });
    }
    let wallet = store.wallet_of(viewer.key.tenant_id, now).await?;
    let money = wallet.as_ref().map_or_else(Money::default, |wallet| Money {
        available: wallet.available_ucr,
        held: wallet.held_ucr,
        debt: wallet.debt_ucr,
        frozen: wallet.frozen,
    });
    let mut verdicts = unserved(dashboard, &latest, &workers, now).await?;
    verdicts.extend(verdict::of_money(&money, "your wallet is"));
    Ok(Shown { now, money, verdicts: verdict::ranked(verdicts), latest, to_decide, system: None })
}

/// Pools that the tenant's missions in progress use and that no live worker listens to.
async fn unserved(
    dashboard: &Dashboard,
    latest: &[MissionView],
    workers: &[WorkerRow],
    now: Timestamp,
) -> Result<Vec<Verdict>, Failure> {
    let live = workers.iter().filter(|worker| verdict::is_live(worker, now) && !worker.draining);
    let served: BTreeSet<&str> = live.flat_map(verdict::slots_of).map(|(pool, _)| pool).collect();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    for mission in latest.iter().filter(|mission| mission.state.is_live()) {
        let Some(definition) = dashboard.app.engine.definition(mission.workflow_id).await? else { continue };
        let pools: BTreeSet<&str> = definition.nodes.iter().map(|node| node.pool.as_str()).collect();
        for pool in pools.into_iter().filter(|pool| !served.contains(pool)) {
            *missing.entry(pool.to_owned()).or_default() += 1;
        }
    }
    let say = |(pool, missions): (String, usize)| {
        let those = if missions == 1 {
            "a mission in progress uses".to_owned()
        } else {
            format!("{missions} missions in progress use")
        };
        Verdict { level: Level::Bad, text: format!("no worker listens to `{pool}`, which {those}") }
    };
    Ok(missing.into_iter().map(say).collect())
}

fn parts(viewer: &Viewer, shown: &Shown) -> Markup {
    html! {
        (verdicts(&shown.verdicts))
        (tiles(shown))
        @if let Some((loads, workers)) = &shown.system {
            (queues(loads))
            (worker_table(workers, shown.now))
        }
        section #latest.card data-swap aria-labelledby="latest-title" {
            div.card-head {
                h2 #latest-title { "Latest missions" }
                a href="/dashboard/missions" { "All missions" }
            }
            (missions::table(viewer, shown.latest.get(..SHOWN).unwrap_or(&shown.latest), shown.now))
        }
    }
}

/// Verdicts as a list.
pub(super) fn verdicts(verdicts: &[Verdict]) -> Markup {
    html! {
        section #verdicts data-swap aria-label="Verdicts" {
            ul.verdicts {
                @for verdict in verdicts {
                    @let (class, word) = match verdict.level {
                        Level::Fine => ("fine", "Fine"),
                        Level::Note => ("note", "Note"),
                        Level::Warning => ("warning", "Warning"),
                        Level::Bad => ("bad", "Problem"),
                    };
                    li class={ "verdict " (class) } { strong { (word) } span { (show::with_code(&verdict.text)) } }
                }
            }
        }
    }
}

fn tiles(shown: &Shown) -> Markup {
    let in_progress = shown.latest.iter().filter(|mission| !mission.state.is_final()).count();
    let failed = shown.latest.iter().filter(|mission| mission.state == RunState::Failed).count();
    html! {
        section #tiles.tiles data-swap aria-label="Figures" {
            @match &shown.system {
                Some((loads, workers)) => { (system_tiles(loads, workers, shown.now)) }
                None => {
                    (tile("In progress", &show::number(in_progress), "of your latest missions", ""))
                    (tile("Failed", &show::number(failed), "of your latest missions", if failed > 0 { "hot" } else { "" }))
                }
            }
            (to_decide(shown.to_decide))
            (purse("Available", shown.money.available, "credits", ""))
            (purse("Held", shown.money.held, "credits, for work in progress", ""))
            (purse("Debt", shown.money.debt, "credits", if shown.money.debt.is_positive() { "hot" } else { "" }))
        }
    }
}

/// How many decisions wait for somebody; nothing where none does.
fn to_decide(open: i64) -> Markup {
    let more = if open >= MOST_COUNTED { "+" } else { "" };
    html! {
        @if open > 0 { (tile("To decide", &format!("{}{more}", show::number(open)), "waiting for a person", "hot")) }
    }
}

fn system_tiles(loads: &BTreeMap<String, PoolLoad>, workers: &[WorkerRow], now: Timestamp) -> Markup {
    let sum = |figure: fn(&PoolLoad) -> i64| loads.values().map(figure).sum::<i64>();
    let oldest = loads.values().filter_map(|load| load.oldest_ms).max();
    let oldest = oldest.map_or_else(|| "nothing waits".to_owned(), |ms| format!("oldest waits {}", show::duration(ms)));
    let live = workers.iter().filter(|worker| verdict::is_live(worker, now)).count();
    let slots = sum(|load| load.slots);
    html! {
        (tile("Ready", &show::number(sum(|load| load.ready)), &oldest, ""))
        (tile("Running", &show::number(sum(|load| load.running)), &format!("of {} slots", show::number(slots)), ""))
        (tile("Waiting", &show::number(sum(|load| load.waiting)), "for retries, timers, credits", ""))
        (tile("Workers", &show::number(live), if live == 1 { "process is live" } else { "processes are live" }, ""))
    }
}

fn tile(name: &str, figure: &str, about: &str, class: &str) -> Markup {
    tile_with(name, &html! { (figure) }, about, class)
}

/// Credits to the cent, which fits; the exact amount for those who ask.
pub(super) fn purse(name: &str, amount: Ucr, about: &str, class: &str) -> Markup {
    tile_with(name, &html! { span title=(show::credits(amount)) { (show::cents(amount)) } }, about, class)
}

fn tile_with(name: &str, figure: &Markup, about: &str, class: &str) -> Markup {
    html! {
        div class={ "tile " (class) } {
            p.tile-name { (name) }
            p.tile-figure { (figure) }
            p.tile-about { (about) }
        }
    }
}

fn queues(loads: &BTreeMap<String, PoolLoad>) -> Markup {
    html! {
        section #queues.card data-swap aria-labelledby="queues-title" {
            h2 #queues-title { "Queues" }
            @if loads.is_empty() { p.empty { "No pool has tasks or workers." } }
            @else {
                div.scroll #queues-scroll tabindex="0" role="region" aria-labelledby="queues-title" {
                    table {
                        thead { tr {
                            th scope="col" { "Pool" } th.n scope="col" { "Ready" } th.n scope="col" { "Running" }
                            th.n scope="col" { "Waiting" } th.n scope="col" { "Oldest ready" }
                            th.n scope="col" { "Workers" } th scope="col" { "Slots in use" }
                        } }
                        tbody { @for (name, load) in loads { (queue(name, load)) } }
                    }
                }
            }
        }
    }
}

fn queue(name: &str, load: &PoolLoad) -> Markup {
    let oldest = load.oldest_ms.map_or_else(|| "–".to_owned(), show::duration);
    html! {
        tr {
            th scope="row" { code { (name) } }
            td.n { (show::number(load.ready)) }
            td.n { (show::number(load.running)) }
            td.n { (show::number(load.waiting)) }
            td.n { (oldest) }
            td.n { (show::number(load.workers)) @if load.draining > 0 { span.muted { " +" (load.draining) " draining" } } }
            td {
                @if load.slots > 0 {
                    span.progress {
                        progress value=(load.running.min(load.slots)) max=(load.slots) aria-label={ "slots of " (name) " in use" } {}
                        span.muted { (load.running) " / " (show::number(load.slots)) }
                    }
                } @else { span.hot { "nobody listens" } }
            }
        }
    }
}

fn worker_table(workers: &[WorkerRow], now: Timestamp) -> Markup {
    html! {
        section #workers.card data-swap aria-labelledby="workers-title" {
            h2 #workers-title { "Workers" }
            @if workers.is_empty() { p.empty { "No worker is running. Start one with " code { "bursar worker --pool agent=16" } "." } }
            @else {
                div.scroll #workers-scroll tabindex="0" role="region" aria-labelledby="workers-title" {
                    table {
                        thead { tr {
                            th scope="col" { "Host" } th scope="col" { "State" } th scope="col" { "Pools" }
                            th.n scope="col" { "Running" } th.n scope="col" { "Up since" } th.n scope="col" { "Heard of" }
                            th scope="col" { "Version" }
                        } }
                        tbody { @for worker in workers { (worker_row(worker, now)) } }
                    }
                }
            }
        }
    }
}

fn worker_row(worker: &WorkerRow, now: Timestamp) -> Markup {
    let (class, word) = match (verdict::is_live(worker, now), worker.draining) {
        (false, _) => ("s-failed", "silent"),
        (true, true) => ("s-retrying", "draining"),
        (true, false) => ("s-succeeded", "live"),
    };
    html! {
        tr {
            th scope="row" title=(worker.id) { (worker.host) " " span.muted { "pid " (worker.pid) } }
            td { span class={ "badge " (class) } { (word) } }
            td { @for (pool, slots) in verdict::slots_of(worker) { span.pool { code { (pool) } " × " (slots) } " " } }
            td.n { (show::number(worker.running)) }
            td.n { (show::ago(worker.started_at, now)) }
            td.n { (show::ago(worker.seen_at, now)) }
            td { (worker.version) }
        }
    }
}
