//! Fairness: how long a small tenant's tasks wait on a pool of 16 slots, alone and beside one that queued thousands.

use std::time::{Duration, Instant};

use bursar_domain::id::{MissionId, TenantId, WalletId, WorkflowId};
use serde_json::{Value, json};

use super::site::Site;
use super::workload::{all_done, submission, submit_many};
use crate::clock::new_id;

/// Missions of the small tenant in a phase, and the time from one to the next.
const SMALL: usize = 50;
const PAUSE: Duration = Duration::from_millis(200);

/// A step of about 50 ms that takes a slot.
const WORKFLOW: &str = "workflow: share
flat_fee: 0
agents: {a: {model: simulated-small, instructions: Work., max_output_tokens: 16}}
nodes:
  work: {agent: a, prompt: \"[[simulate tokens=1 delay_ms=25]]\", pool: POOL}
";

/// Waiting times of the small tenant, alone and beside `flood` missions of another, and their ratio.
pub(super) async fn fairness(site: &Site, flood: usize) -> anyhow::Result<Value> {
    let workflow = site.put(WORKFLOW).await?;
    let guest = site.guest("small").await?;
    let of_guest = site.put_for(guest.0, WORKFLOW).await?;
    let pool = site.work()?;
    let alone = phase(site, guest, of_guest).await?;
    // nobody works while the flood comes in: all of it waits when the second phase begins
    pool.drain(Duration::from_secs(5)).await;
    let start = Instant::now();
    submit_many(site, workflow, flood).await?;
    let submitted = start.elapsed();
    let pool = site.work()?;
    let beside = phase(site, guest, of_guest).await?;
    let left = waiting(site, site.tenant).await?;
    all_done(site, flood + SMALL * 2).await?;
    let mut figures = json!({"flood": flood, "flood_submitted_s": submitted.as_secs_f64(), "flood_left": left});
    for (name, alone, beside) in [
        ("wait_p50_ms", at(&alone, 50), at(&beside, 50)),
        ("wait_p95_ms", at(&alone, 95), at(&beside, 95)),
        ("wait_max_ms", at(&alone, 100), at(&beside, 100)),
    ] {
        figures[format!("alone_{name}")] = json!(alone);
        figures[format!("beside_{name}")] = json!(beside);
        figures[format!("ratio_{name}")] = json!(beside / alone.max(1.0));
    }
    pool.drain(Duration::from_secs(5)).await;
    Ok(figures)
}

/// Submits the small tenant's missions one after another and returns how long each task waited, in order of size.
async fn phase(site: &Site, guest: (TenantId, WalletId), workflow: WorkflowId) -> anyhow::Result<Vec<f64>> {
    let mut missions: Vec<MissionId> = Vec::with_capacity(SMALL);
    let mut ticks = tokio::time::interval(PAUSE);
    for _ in 0..SMALL {
        ticks.tick().await;
        let mut one = submission(site, workflow).await?;
        (one.mission_id, one.run_id) = (new_id(), new_id());
        (one.tenant_id, one.wallet_id) = guest;
        missions.push(one.mission_id);
        site.engine.submit(one).await?;
    }
    let deadline = Instant::now() + Duration::from_mins(10);
    loop {
        let waits = waits(site, &missions).await?;
        if waits.len() >= SMALL {
            return Ok(waits);
        }
        anyhow::ensure!(Instant::now() < deadline, "{} of {SMALL} tasks began within 600 s", waits.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn waits(site: &Site, missions: &[MissionId]) -> anyhow::Result<Vec<f64>> {
    let sql = "
        select t.started_at - t.ready_at as wait_ms from tasks t
        where t.mission_id in {list:1} and t.started_at is not null";
    let rows = site.engine.store().rows(sql, &[json!(missions).into()]).await?;
    let mut waits: Vec<f64> = rows.iter().filter_map(|row| row["wait_ms"].as_f64()).collect();
    waits.sort_by(f64::total_cmp);
    Ok(waits)
}

/// How many tasks of a tenant are ready: a flood that ran dry says nothing.
async fn waiting(site: &Site, tenant: TenantId) -> anyhow::Result<u64> {
    let sql = "select count(*) as n from tasks where state = 'ready' and tenant_id = $1";
    let rows = site.engine.store().rows(sql, &[tenant.into()]).await?;
    Ok(rows.first().and_then(|row| row["n"].as_u64()).unwrap_or_default())
}

fn at(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
