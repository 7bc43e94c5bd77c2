//! A client of the soak: one mission after another over real HTTP, under keys that it repeats until it is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::errand::{Deed, End, Errand};
use crate::cli::installation::Tenant;

/// How long a request may be repeated: longer than any outage that the soak makes.
const PATIENCE: Duration = Duration::from_mins(2);

/// What all clients share.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) http: reqwest::Client,
    pub(super) address: String,
    pub(super) tenants: Vec<Tenant>,
    pub(super) seed: u64,
    /// No mission begins after this.
    pub(super) until: Instant,
    /// Whatever is not over then never will be.
    pub(super) deadline: Instant,
    pub(super) figures: Figures,
}

/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) submitted: AtomicU64,
    pub(super) over: AtomicU64,
    /// Requests that had to be repeated because no answer came.
    pub(super) repeated: AtomicU64,
}

/// A mission and how it ended, as its client was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) workflow: &'static str,
    pub(super) end: End,
    pub(super) status: String,
    pub(super) code: Option<String>,
    /// How often it was retried.
    pub(super) retries: u64,
}

impl Told {
    /// What is wrong about its end.
    pub(super) fn wrong(&self) -> Option<String> {
        let code = self.code.as_deref();
        let is_right = match self.end {
            End::Succeeds => self.status == "succeeded",
            End::FailsWith(expected) => self.status == "failed" && code == Some(expected),
            End::CancelledOrSucceeds => matches!(self.status.as_str(), "cancelled" | "succeeded"),
        };
        (!is_right).then(|| {
            let (id, workflow, status) = (&self.id, self.workflow, &self.status);
            format!("mission {id} ({workflow}) is {status} with {}, not as {:?}", code.unwrap_or("no error"), self.end)
        })
    }
}

/// An answer.
struct Answer {
    status: StatusCode,
    body: Value,
}

/// A client at work.
pub(super) struct Client {
    load: Arc<Load>,
    number: u64,
    dice: StdRng,
}

impl Client {
    pub(super) fn new(load: Arc<Load>, number: u64) -> Self {
        let dice = StdRng::seed_from_u64(load.seed.wrapping_mul(1_000_003).wrapping_add(number));
        Self { load, number, dice }
    }

    /// Does one errand after another until the time is over; what it was told, or what went wrong.
    pub(super) async fn work(mut self) -> (Vec<Told>, Vec<String>) {
        let (mut told, mut wrong) = (Vec::new(), Vec::new());
        let mut count = 0;
        while Instant::now() < self.load.until {
            count += 1;
            let note = format!("soak-{}-{}-{count}", self.load.seed, self.number);
            match self.errand(&note).await {
                Ok(one) => told.push(one),
                Err(error) => wrong.push(format!("{note}: {error:#}")),
            }
            self.load.figures.over.fetch_add(1, Ordering::Relaxed);
        }
        (told, wrong)
    }

    /// One request, until it is answered. What a server that is going or a database that is away says is no answer.
    async fn ask(
        &self,
        tenant: &Tenant,
        method: &Method,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let deadline = Instant::now() + PATIENCE;
        let load = &self.load;
        loop {
            let mut request = load.http.request(method.clone(), format!("{}{path}", load.address));
            request = request.bearer_auth(&tenant.key).timeout(Duration::from_secs(10));
            if *method != Method::GET {
                request = request.json(body);
            }
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            if let Ok(answer) = request.send().await {
                let status = answer.status();
                if !matches!(status.as_u16(), 408 | 429 | 503)
                    && let Ok(body) = answer.json().await
                {
                    ensure!(!status.is_server_error(), "{method} {path}: {status} {body}");
                    return Ok(Answer { status, body });
                }
            }
            load.figures.repeated.fetch_add(1, Ordering::Relaxed);
            ensure!(Instant::now() < deadline, "{method} {path}: no answer within {} s", PATIENCE.as_secs());
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn post(&self, tenant: &Tenant, path: &str, body: &Value, key: Option<&str>) -> anyhow::Result<Answer> {
        self.ask(tenant, &Method::POST, path, body, key).await
    }

    async fn errand(&mut self, note: &str) -> anyhow::Result<Told> {
        let errand = Errand::next(&mut self.dice, note, &self.load.address);
        let number = self.dice.random_range(0..self.load.tenants.len());
        let tenant = self.load.tenants.get(number).context("a tenant")?.clone();
        let asks_twice = self.dice.random_range(0..8) == 0;
        let mut body = json!({"workflow": errand.workflow, "input": errand.input});
        if let Some(budget) = &errand.budget {
            body["budget"] = budget.clone();
        }
        let made = self.post(&tenant, "/v1/missions", &body, Some(note)).await?;
        let id = made.body["id"].as_str().with_context(|| format!("{} {}", made.status, made.body))?.to_owned();
        self.load.figures.submitted.fetch_add(1, Ordering::Relaxed);
        if asks_twice {
            let again = self.post(&tenant, "/v1/missions", &body, Some(note)).await?;
            ensure!(again.body["id"] == id, "the same key made {id} and {}", again.body);
        }
        let path = format!("/v1/missions/{id}");
        let retries = self.act(&errand, &tenant, &path, note).await.with_context(|| id.clone())?;
        let mission = self.over(&tenant, &path).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let status = text(&mission["status"]).with_context(|| format!("no status: {mission}"))?;
        let code = text(&mission["error"]["code"]);
        Ok(Told { id, workflow: errand.workflow, end: errand.end, status, code, retries })
    }

    /// Does to the mission what belongs to the errand; how often it was retried.
    async fn act(&self, errand: &Errand, tenant: &Tenant, path: &str, note: &str) -> anyhow::Result<u64> {
        if errand.deed != Deed::Watch {
            sleep(Duration::from_millis(errand.after_ms)).await;
        }
        match errand.deed {
            Deed::Watch => {}
            Deed::Decide(yes) => self.decide(tenant, path, yes).await?,
            Deed::Signal => {
                let path = format!("{path}/signals/paid");
                let sent = self.post(tenant, &path, &json!({"amount": 5}), Some(note)).await?;
                ensure!(sent.status.is_success(), "{}: {}", sent.status, sent.body);
            }
            Deed::Cancel => {
                let asked = self.post(tenant, &format!("{path}/cancel"), &json!({}), None).await?;
                ensure!(matches!(asked.status.as_u16(), 200 | 409), "{}: {}", asked.status, asked.body);
            }
            Deed::Pause => {
                for what in ["pause", "resume"] {
                    let asked = self.post(tenant, &format!("{path}/{what}"), &json!({}), None).await?;
                    ensure!(matches!(asked.status.as_u16(), 200 | 409), "{}: {}", asked.status, asked.body);
                    sleep(Duration::from_millis(errand.after_ms)).await;
                }
            }
            Deed::RaiseBudget => {
                let wish = json!({"budget": {"max_credits": "5"}});
                let asked = self.ask(tenant, &Method::PATCH, path, &wish, None).await?;
                ensure!(asked.status.is_success(), "{}: {}", asked.status, asked.body);
            }
            Deed::Retry => {
                let mission = self.over(tenant, path).await?;
                // the provider refuses the first attempt alone, and that one may have been lost before it asked
                if mission["status"] == "succeeded" {
                    return Ok(0);
                }
                let asked = self.post(tenant, &format!("{path}/retry"), &json!({}), Some(note)).await?;
                ensure!(asked.status.is_success(), "{}: {}", asked.status, asked.body);
                return Ok(1);
            }
        }
        Ok(0)
    }

    /// Decides the approval as soon as it is asked for.
    async fn decide(&self, tenant: &Tenant, path: &str, yes: bool) -> anyhow::Result<()> {
        let id = path.rsplit('/').next().unwrap_or_default();
        let list = format!("/v1/approvals?mission_id={id}");
        loop {
            let open = self.ask(tenant, &Method::GET, &list, &Value::Null, None).await?;
            if let Some(task) = open.body["data"][0]["id"].as_str() {
                let decision = json!({"decision": if yes { "approved" } else { "rejected" }});
                let made = self.post(tenant, &format!("/v1/approvals/{task}/decide"), &decision, None).await?;
                ensure!(made.status.is_success(), "{}: {}", made.status, made.body);
                return Ok(());
            }
            ensure!(Instant::now() < self.load.deadline, "nobody asks for the approval");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// The mission once it is over.
    async fn over(&self, tenant: &Tenant, path: &str) -> anyhow::Result<Value> {
        let mut pause_ms = 100;
        loop {
            let looked = self.ask(tenant, &Method::GET, path, &Value::Null, None).await?;
            ensure!(looked.status.is_success(), "what was accepted is there: {} {}", looked.status, looked.body);
            if matches!(looked.body["status"].as_str(), Some("succeeded" | "failed" | "cancelled" | "expired")) {
                return Ok(looked.body);
            }
            if Instant::now() >= self.load.deadline {
                bail!("not over in time: {path} is {} ({})", looked.body["status"], looked.body["status_reason"]);
            }
            sleep(Duration::from_millis(pause_ms)).await;
            pause_ms = (pause_ms * 2).min(1_000);
        }
    }
}
