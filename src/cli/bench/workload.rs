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

async fn submission(site: &Site, workflow_id: WorkflowId) -> anyhow::Result<Submission> {
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
    })
}

/// Submits `count` missions, 64 at a time, as that many clients would.
async fn submit_many(site: &Site, workflow: WorkflowId, count: usize) -> anyhow::Result<()> {
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
async fn all_done(site: &Site, count: usize) -> anyhow::Result<()> {
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

/// W2: the time from a submit to its end, on an idle system.
pub(super) async fn chain(site: &Site, missions: usize) -> anyhow::Result<Value> {
    let workflow = site.put(&workflow("chain", &[("a", ""), ("b", "a"), ("c", "b")], true)).await?;
    let pool = site.work()?;
    let before = Before::take(site).await?;
    let mut times_ms = Vec::with_capacity(missions);
    for _ in 0..missions {
        let submission = submission(site, workflow).await?;
        let mut frames = site.engine.relay().hub().watch(submission.mission_id).frames;
        let start = Instant::now();
        site.engine.submit(submission).await?;
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(30), frames.recv()).await??;
            if let FrameBody::Event { event: Some(event), .. } = frame.body
                && event.kind == "mission.succeeded"
            {
                break;
            }
        }
        times_ms.push(start.elapsed().as_secs_f64() * 1_000.0);
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
