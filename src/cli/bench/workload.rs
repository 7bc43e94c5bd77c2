//! The workloads. Steps do nothing but return about 100 bytes of JSON, which their children receive.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bursar_domain::flow::Submission;
use bursar_domain::id::WorkflowId;
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::measure::{self, Before};
use super::site::Site;
use crate::clock::new_id;
use crate::stream::FrameBody;

const STEP: &str = "transform: {text: \"about one hundred bytes of text, as a step of an agent would hand to its children, and no more\"}";

fn step(name: &str, needs: &str, priced: bool) -> String {
    let units = if priced { ", units: {step: 1}" } else { "" };
    format!("  {name}: {{{STEP}, needs: [{needs}], pool: POOL{units}}}\n")
}

fn workflow(name: &str, nodes: &[(&str, &str)], priced: bool) -> String {
    let nodes: String = nodes.iter().map(|(node, needs)| step(node, needs, priced)).collect();
    format!("workflow: {name}\nflat_fee: 0\nnodes:\n{nodes}")
}

pub(super) async fn submission(site: &Site, workflow_id: WorkflowId) -> anyhow::Result<Submission> {
    let (price_book_id, _) = site.engine.active_prices().await?.context("no prices")?;
    Ok(Submission {
        mission_id: new_id(),
        run_id: new_id(),
        tenant_id: site.tenant,
        wallet_id: site.wallet,
        workflow_id,
        price_book_id,
        input: json!({}),
        metadata: None,
        tags: Vec::new(),
        idempotency_key: None,
        request_hash: String::new(),
        priority: 0,
        budget_ucr: None,
        on_exhausted: None,
        dedupe: None,
        project_id: None,
    })
}

/// Submits `count` missions, 64 at a time, as that many clients would.
pub(super) async fn submit_many(site: &Site, workflow: WorkflowId, count: usize) -> anyhow::Result<()> {
    let template = submission(site, workflow).await?;
    let mut submits = stream::iter(0..count)
        .map(|_| {
            let mut submission = template.clone();
            submission.mission_id = new_id();
            submission.run_id = new_id();
            site.engine.submit(submission)
        })
        .buffer_unordered(64);
    while let Some(submitted) = submits.next().await {
        submitted?;
    }
    Ok(())
}

/// Waits until no run is live. The store says so, not a counter of ours.
pub(super) async fn all_done(site: &Site, count: usize) -> anyhow::Result<()> {
    let sql = "select state, count(*) as n from runs group by state";
    let deadline = Instant::now() + Duration::from_mins(10);
    loop {
        let rows = site.engine.store().rows(sql, &[]).await?;
        let of = |state: &str| rows.iter().find(|row| row["state"] == state).and_then(|row| row["n"].as_u64());
        if of("succeeded").unwrap_or(0) >= count as u64 {
            return Ok(());
        }
        if let Some(failed) = of("failed") {
            bail!("{failed} missions failed");
        }
        if Instant::now() > deadline {
            bail!("not done after 600 s: {rows:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// W1 and W0: from the first submit to the last completion.
pub(super) async fn diamond(site: &Site, missions: usize, priced: bool) -> anyhow::Result<Value> {
    let nodes = [("a", ""), ("b", "a"), ("c", "a"), ("d", "a"), ("e", "b, c, d")];
    let workflow = site.put(&workflow("diamond", &nodes, priced)).await?;
    let pool = site.work()?;
    let before = Before::take(site).await?;
    let start = Instant::now();
    submit_many(site, workflow, missions).await?;
    let submitted = start.elapsed();
    all_done(site, missions).await?;
    let elapsed = start.elapsed();
    let mut figures = before.figures(site, missions * 5).await?;
    figures["nodes_per_s"] = json!((missions * 5) as f64 / elapsed.as_secs_f64());
    figures["submits_per_s"] = json!(missions as f64 / submitted.as_secs_f64());
    figures["elapsed_s"] = json!(elapsed.as_secs_f64());
    pool.drain(Duration::from_secs(5)).await;
    Ok(figures)
}

/// One mission, from its submit to its end.
async fn one(site: &Site, workflow: WorkflowId) -> anyhow::Result<Duration> {
    let submission = submission(site, workflow).await?;
    let mission = submission.mission_id;
    let mut frames = site.engine.relay().hub().watch(mission).frames;
    let start = Instant::now();
    site.engine.submit(submission).await?;
    loop {
        let frame = tokio::time::timeout(Duration::from_mins(5), frames.recv()).await?;
        // who lags behind may have missed the end
        let Ok(frame) = frame else {
            let view = site.engine.store().mission(None, mission).await?.context("the mission is gone")?;
            if view.state.is_final() {
                return Ok(start.elapsed());
            }
            continue;
        };
        if let FrameBody::Event { event: Some(event), .. } = frame.body
            && event.kind == "mission.succeeded"
        {
            return Ok(start.elapsed());
        }
    }
}

/// W2: the time from a submit to its end, on an idle system.
pub(super) async fn chain(site: &Site, missions: usize) -> anyhow::Result<Value> {
    let workflow = site.put(&workflow("chain", &[("a", ""), ("b", "a"), ("c", "b")], true)).await?;
    let pool = site.work()?;
    let before = Before::take(site).await?;
    let mut times_ms = Vec::with_capacity(missions);
    for _ in 0..missions {
        times_ms.push(one(site, workflow).await?.as_secs_f64() * 1_000.0);
    }
    let mut figures = before.figures(site, missions * 3).await?;
    times_ms.sort_by(f64::total_cmp);
    for (name, percent) in [("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99)] {
        figures[name] = json!(times_ms[(times_ms.len() * percent / 100).min(times_ms.len() - 1)]);
    }
    pool.drain(Duration::from_secs(5)).await;
    Ok(figures)
}

/// W3: submitted while nobody works, then drained.
pub(super) async fn flat(site: &Site, missions: usize) -> anyhow::Result<Value> {
    let workflow = site.put(&workflow("flat", &[("a", "")], true)).await?;
    let before = Before::take(site).await?;
    let start = Instant::now();
    submit_many(site, workflow, missions).await?;
    let submitted = start.elapsed();
    let start = Instant::now();
    let pool = site.work()?;
    all_done(site, missions).await?;
    let drained = start.elapsed();
    let mut figures = before.figures(site, missions).await?;
    figures["submits_per_s"] = json!(missions as f64 / submitted.as_secs_f64());
    figures["drained_per_s"] = json!(missions as f64 / drained.as_secs_f64());
    pool.drain(Duration::from_secs(5)).await;
    Ok(figures)
}

/// Maps: what an item costs in one map of so many items, against the same number of items in maps of a hundred, one map
/// after another; a hundred items are under way at most either way.
pub(super) async fn maps(site: &Site, items: usize) -> anyhow::Result<Value> {
    let workflow = |items: usize| {
        format!(
            "workflow: map-{items}\nflat_fee: 0\nnodes:\n  each: {{{STEP}, pool: POOL, units: {{step: 1}}, \
             map: {{over: range({items}), max_parallel: 100}}}}\n  all: {{transform: \"{{{{ nodes.each.output|length }}}}\", \
             needs: [each], pool: POOL}}\n"
        )
    };
    let (small, large) = (site.put(&workflow(100)).await?, site.put(&workflow(items)).await?);
    let pool = site.work()?;
    let memory = || measure::memory_mb(std::process::id()).unwrap_or_default();
    let count = items.div_ceil(100).max(1);
    let (mut took, idle_mb) = (Duration::ZERO, memory());
    for _ in 0..count {
        took += one(site, small).await?;
    }
    let (in_small, small_mb) = (took.as_secs_f64() * 1_000.0 / (count * 100) as f64, memory());
    let before = Before::take(site).await?;
    let in_large = one(site, large).await?.as_secs_f64() * 1_000.0 / items as f64;
    let mut figures = before.figures(site, items).await?;
    figures["item_in_100_ms"] = json!(in_small);
    figures["item_in_all_ms"] = json!(in_large);
    figures["all_to_100"] = json!(in_large / in_small);
    figures["memory_idle_mb"] = json!(idle_mb);
    figures["memory_after_100_mb"] = json!(small_mb);
    figures["memory_after_all_mb"] = json!(memory());
    pool.drain(Duration::from_secs(5)).await;
    Ok(figures)
}

/// W4: what 20 idle seconds of a process with workers cost.
pub(super) async fn idle(site: &Site) -> anyhow::Result<Value> {
    let pool = site.work()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = measure::cpu_s(std::process::id()).unwrap_or(0.0);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let used = measure::cpu_s(std::process::id()).unwrap_or(0.0) - before;
    pool.drain(Duration::from_secs(5)).await;
    Ok(json!({"idle_cpu_percent": used / 20.0 * 100.0, "memory_mb": measure::memory_mb(std::process::id())}))
}
