//! What operators see: credits of all tenants, queues with a verdict each, workers.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Admin;
use super::conditional::json;
use super::metrics;
use super::params::Query;
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownWorker, Time};
use crate::store::WorkerRow;
use crate::store::read::PoolView;

/// Workers that were heard of within this time are alive: four heartbeats.
const ALIVE_MS: i64 = 20_000;

/// Everything at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    /// Available credits of all wallets.
    available: Amount,
    /// Held credits of all wallets.
    held: Amount,
    /// Owed credits of all wallets.
    debt: Amount,
    /// How many wallets there are.
    wallets: i64,
    /// Tasks that may be claimed now.
    ready: i64,
    /// Tasks that workers hold.
    running: i64,
    /// Tasks that wait or will retry.
    waiting: i64,
    /// Worker processes that are alive.
    workers: i64,
    /// Slots of workers that take new tasks.
    slots: i64,
    /// Event streams that are open in this process.
    open_streams: i64,
    /// Whether the queue answers; without it the store serves.
    queue_up: bool,
    /// What needs attention, in words; empty is good.
    verdicts: Vec<String>,
}

/// One pool.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolStatus {
    /// Its name.
    pool: String,
    /// Tasks that may be claimed now.
    ready: i64,
    /// Tasks that workers hold.
    running: i64,
    /// Tasks that wait or will retry.
    waiting: i64,
    /// Since how long the oldest ready task is ready.
    oldest_ready_ms: Option<i64>,
    /// Tasks that the queue knows; null while it is away.
    queue_depth: Option<u64>,
    /// Slots of live workers that take new tasks from it.
    slots: i64,
    /// Live workers that listen to it.
    workers: i64,
    /// `ok`, `busy`, `unserved` or `degraded`.
    health: &'static str,
    /// The same in words, with the reason.
    verdict: String,
}

/// All pools that have live tasks or workers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PoolList {
    /// By name.
    data: Vec<PoolStatus>,
}

/// A worker process.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Worker {
    /// Its id.
    id: ShownWorker,
    /// Its machine.
    host: String,
    /// Its process id there.
    pid: i64,
    /// Slots by pool.
    pools: BTreeMap<String, i64>,
    /// Tasks it runs now.
    running: i64,
    /// Which version of the program it is.
    version: String,
    /// Whether it takes no new tasks.
    draining: bool,
    /// When it started.
    started_at: Time,
    /// When it was last heard of.
    seen_at: Time,
}

/// Worker processes that are alive.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WorkerList {
    /// By age.
    data: Vec<Worker>,
}

impl From<WorkerRow> for Worker {
    fn from(row: WorkerRow) -> Self {
        Self {
            id: row.id.into(),
            pools: slots_of(&row),
            host: row.host,
            pid: row.pid,
            running: row.running,
            version: row.version,
            draining: row.draining,
            started_at: row.started_at.into(),
            seen_at: row.seen_at.into(),
        }
    }
}

fn slots_of(worker: &WorkerRow) -> BTreeMap<String, i64> {
    let pools = worker.pools.as_object().into_iter().flatten();
    pools.filter_map(|(pool, slots)| Some((pool.clone(), slots.as_i64()?))).collect()
}

async fn live_workers(site: &Site) -> Result<Vec<WorkerRow>, Problem> {
    Ok(site.store().workers(site.engine().clock().now().plus_ms(-ALIVE_MS)).await?)
}

/// Pools with live tasks, and pools that workers listen to.
async fn pools(site: &Site, workers: &[WorkerRow]) -> Result<Vec<PoolStatus>, Problem> {
    let now = site.engine().clock().now();
    let mut views: BTreeMap<String, PoolView> =
        site.store().pools().await?.into_iter().map(|view| (view.pool.clone(), view)).collect();
    for pool in workers.iter().flat_map(slots_of).map(|(pool, _)| pool) {
        let idle = PoolView { pool: pool.clone(), ready: 0, running: 0, waiting: 0, oldest_ready_at: None };
        views.entry(pool).or_insert(idle);
    }
    let mut list = Vec::with_capacity(views.len());
    for (pool, view) in views {
        let depth = site.engine().queue().depth(&pool).await.ok();
        list.push(PoolStatus::of(&view, workers, depth, now));
    }
    Ok(list)
}

impl PoolStatus {
    fn of(view: &PoolView, workers: &[WorkerRow], queue_depth: Option<u64>, now: Timestamp) -> Self {
        let slots_here = |worker: &WorkerRow| slots_of(worker).get(&view.pool).copied();
        let listening = workers.iter().filter(|worker| !worker.draining);
        let slots: Vec<i64> = listening.filter_map(slots_here).filter(|slots| *slots > 0).collect();
        let mut status = Self {
            pool: view.pool.clone(),
            ready: view.ready,
            running: view.running,
            waiting: view.waiting,
            oldest_ready_ms: view.oldest_ready_at.map(|since| now.since_ms(since).max(0)),
            queue_depth,
            workers: slots.len() as i64,
            slots: slots.iter().sum(),
            health: "ok",
            verdict: String::new(),
        };
        (status.health, status.verdict) = status.judge();
        status
    }

    fn judge(&self) -> (&'static str, String) {
        let Self { pool, ready, running, slots, .. } = self;
        let age_s = self.oldest_ready_ms.unwrap_or(0) / 1_000;
        if *ready > 0 && *slots == 0 {
            ("unserved", format!("{ready} waiting, no worker listens to `{pool}`"))
        } else if *ready > 0 && running >= slots {
            ("busy", format!("{ready} waiting, all {slots} slots of `{pool}` are busy; the oldest waits {age_s} s"))
        } else if self.queue_depth.is_none() {
            ("degraded", "the queue is away: the store serves, with up to a second of delay".to_owned())
        } else {
            ("ok", format!("{running} of {slots} slots of `{pool}` are busy"))
        }
    }
}

/// See everything at a glance
#[utoipa::path(
    get, path = "/v1/admin/overview", operation_id = "admin.overview", tag = "admin",
    responses((status = 200, description = "Credits, tasks, workers, and what needs attention", body = Overview)),
)]
pub(super) async fn overview(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let workers = live_workers(&site).await?;
    let pools = pools(&site, &workers).await?;
    let sums = site.store().overview().await?;
    let sum = |of: fn(&PoolStatus) -> i64| pools.iter().map(of).sum::<i64>();
    let overview = Overview {
        available: sums.as_ref().map(|sums| sums.available_ucr).unwrap_or_default().into(),
        held: sums.as_ref().map(|sums| sums.held_ucr).unwrap_or_default().into(),
        debt: sums.as_ref().map(|sums| sums.debt_ucr).unwrap_or_default().into(),
        wallets: sums.as_ref().map_or(0, |sums| sums.wallets),
        ready: sum(|pool| pool.ready),
        running: sum(|pool| pool.running),
        waiting: sum(|pool| pool.waiting),
        workers: workers.len() as i64,
        slots: sum(|pool| pool.slots),
        open_streams: metrics::open_streams(),
        queue_up: site.engine().queue().ping().await.is_ok(),
        verdicts: pools.into_iter().filter(|pool| pool.health != "ok").map(|pool| pool.verdict).collect(),
    };
    Ok(json(StatusCode::OK, &overview))
}

/// See the queues
#[utoipa::path(
    get, path = "/v1/admin/queues", operation_id = "admin.queues", tag = "admin",
    responses((status = 200, description = "Every pool with a verdict", body = PoolList)),
)]
pub(super) async fn queues(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let workers = live_workers(&site).await?;
    Ok(json(StatusCode::OK, &PoolList { data: pools(&site, &workers).await? }))
}

/// See the workers
#[utoipa::path(
    get, path = "/v1/admin/workers", operation_id = "admin.workers", tag = "admin",
    responses((status = 200, description = "Worker processes that are alive", body = WorkerList)),
)]
pub(super) async fn workers(State(site): State<Site>, _: Admin, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    let workers = live_workers(&site).await?;
    Ok(json(StatusCode::OK, &WorkerList { data: workers.into_iter().map(Worker::from).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn worker(pools: serde_json::Value, draining: bool) -> WorkerRow {
        let at = Timestamp::from_ms(0);
        WorkerRow {
            id: crate::clock::new_id(),
            host: "box".to_owned(),
            pid: 1,
            pools,
            running: 0,
            version: "0".to_owned(),
            draining,
            started_at: at,
            seen_at: at,
        }
    }

    #[test]
    fn a_verdict_names_the_reason() {
        let at = Timestamp::from_ms;
        let view = |ready, running| PoolView {
            pool: "gpu".to_owned(),
            ready,
            running,
            waiting: 0,
            oldest_ready_at: (ready > 0).then(|| at(1_000)),
        };
        let told = |view, workers: &[WorkerRow], depth| PoolStatus::of(&view, workers, depth, at(13_000));
        let status = told(view(12, 0), &[worker(json!({"agent": 4}), false)], Some(12));
        assert_eq!((status.health, status.verdict.as_str()), ("unserved", "12 waiting, no worker listens to `gpu`"));
        let status = told(view(12, 0), &[worker(json!({"gpu": 4}), true)], Some(12));
        assert_eq!(status.health, "unserved", "a draining worker serves nobody new");
        let status = told(view(3, 4), &[worker(json!({"gpu": 4}), false)], Some(3));
        assert_eq!((status.health, status.oldest_ready_ms), ("busy", Some(12_000)));
        assert_eq!(told(view(0, 1), &[worker(json!({"gpu": 4}), false)], None).health, "degraded");
        assert_eq!(told(view(0, 1), &[worker(json!({"gpu": 4}), false)], Some(0)).health, "ok");
    }
}
