//! Recovery: how long what ran on a worker that was killed waits until it runs again, on another one. Real processes on a
//! Postgres and a Redis of their own; the store says who runs what.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::cli::installation::{Installation, Services, Tenant, until};
use crate::store::{self, Store};

/// Tasks that run on the worker that is killed.
const TASKS: usize = 100;
/// How long one of them takes: longer than any recovery.
const STEP_MS: u64 = 120_000;
const PATIENCE: Duration = Duration::from_mins(2);

struct Bench {
    site: Installation,
    tenant: Tenant,
    http: reqwest::Client,
    store: std::sync::Arc<dyn Store>,
}

/// Kills a worker with a hundred running tasks so many times: the median and the longest time in seconds until the last of
/// them ran again. `tell` is called after each.
pub(super) async fn measure(services: &Services, lease: &str, repeat: usize, tell: impl Fn()) -> anyhow::Result<Value> {
    let mut bench = Bench::open(services, lease).await?;
    let mut times_s = Vec::with_capacity(repeat);
    for number in 0..repeat.max(1) {
        times_s.push(bench.once(number).await?.as_secs_f64());
        tell();
    }
    let report = crate::verify::verify(&bench.store).await?;
    ensure!(report.is_clean(), "the ledger is not clean after the run:\n{}", report.to_text());
    bench.store.close().await;
    times_s.sort_by(f64::total_cmp);
    let [least, median, most] = [0, times_s.len() / 2, times_s.len() - 1].map(|at| times_s.get(at).copied());
    Ok(
        json!({"tasks": TASKS, "kills": times_s.len(), "lease": lease, "least_s": least, "median_s": median, "max_s": most}),
    )
}

impl Bench {
    async fn open(services: &Services, lease: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let mut site = Installation::open(services, lease, TASKS + 28).await?;
        site.serve(&http).await?;
        let tenant = site.tenant("bench").await?;
        let store = store::open(&site.postgres.url(), 2).await?;
        let bench = Self { site, tenant, http, store };
        let grant = json!({"amount": "1000000", "kind": "paid"});
        bench.post("/v1/wallet/grants", &grant, "first").await?;
        let workflow = format!(
            "workflow: long\nflat_fee: 0\ninputs: {{ type: object }}\nagents: {{ a: {{ instructions: You wait., model: simulated-small, \
             max_output_tokens: 20 }} }}\nnodes:\n  each: {{ agent: a, prompt: \"{{{{ item }}}} of {{{{ inputs.number }}}} \
             [[simulate delay_ms={STEP_MS} tokens=2]]\", map: {{ over: range({TASKS}), max_parallel: {TASKS} }} }}\n"
        );
        let put = bench.http.put(format!("{}/v1/workflows/long", bench.site.address())).bearer_auth(&bench.tenant.key);
        let put = put.header("Content-Type", "application/yaml").body(workflow).send().await?;
        ensure!(put.status().is_success(), "{}", put.text().await?);
        Ok(bench)
    }

    async fn post(&self, path: &str, body: &Value, key: &str) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.site.address())).bearer_auth(&self.tenant.key);
        let answer = request.header("Idempotency-Key", key).json(body).send().await?;
        let (status, body) = (answer.status(), answer.json::<Value>().await?);
        ensure!(status.is_success(), "{path}: {status} {body}");
        Ok(body)
    }

    /// One kill: a worker alone gets all tasks, another one comes, the first one dies.
    async fn once(&mut self, number: usize) -> anyhow::Result<Duration> {
        while let Some(worker) = self.site.workers.pop() {
            worker.kill_nine().await;
        }
        self.site.work().await?;
        let mission = json!({"workflow": "long", "input": {"number": number}});
        let mission = self.post("/v1/missions", &mission, &format!("kill-{number}")).await?;
        let id = mission["id"].as_str().context("a mission has an id")?.to_owned();
        until("all tasks run", PATIENCE, async || self.running(None).await.filter(|(_, count)| *count == TASKS))
            .await?;
        let (victim, _) = self.running(None).await.context("the tasks run")?;
        self.site.work().await?;
        let is_there =
            "select count(*) as n from workers where started_at > (select started_at from workers where id = $1)";
        until("another worker is there", PATIENCE, async || {
            let rows = self.store.rows(is_there, &[victim.as_str().into()]).await.ok()?;
            rows.first()?["n"].as_u64().filter(|count| *count > 0)
        })
        .await?;
        let process = self.site.workers.remove(0);
        let killed = Instant::now();
        process.kill_nine().await;
        until("all tasks run again", PATIENCE, async || {
            self.running(Some(&victim)).await.filter(|(_, count)| *count == TASKS)
        })
        .await?;
        let took = killed.elapsed();
        self.post(&format!("/v1/missions/{id}/cancel"), &json!({}), &format!("end-{number}")).await?;
        until("the mission is over", PATIENCE, async || {
            let rows = self.store.rows("select count(*) as n from runs where ended_at is null", &[]).await.ok()?;
            (rows.first()?["n"] == 0).then_some(())
        })
        .await?;
        Ok(took)
    }

    /// The worker that runs most tasks, that one left out, and how many.
    async fn running(&self, but: Option<&str>) -> Option<(String, usize)> {
        let sql = "select worker_id, count(*) as n from tasks where state = 'running' and worker_id <> $1
          group by worker_id order by count(*) desc limit 1";
        let rows = self.store.rows(sql, &[but.unwrap_or_default().into()]).await.ok()?;
        let first = rows.first()?;
        Some((first["worker_id"].as_str()?.to_owned(), usize::try_from(first["n"].as_u64()?).ok()?))
    }
}
