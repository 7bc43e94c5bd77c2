//! `bursar soak`: hours of use in minutes, and everything that breaks in a year.
//!
//! Starts a private Postgres and Redis, a server and workers of this executable, and gives them random missions over HTTP
//! while a seed decides what is killed, stalled and emptied. The last part of the time is calm, so that everything can end;
//! then the books are compared. It must not touch anything that it did not start.

mod client;
mod errand;
mod faults;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::installation::{Installation, Services};
use crate::boot;
use crate::config::Config;
use crate::store::Store;
use client::{Client, Figures, Load, Told};
use faults::{Done, Fault};
use verdict::Verdict;

/// How long what is under way may take after the last mission was submitted, beyond the calm.
const LAST_PATIENCE: Duration = Duration::from_mins(3);
/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Options of `bursar soak`.
#[derive(Debug, Args)]
pub struct Soak {
    /// How long, in minutes; the last quarter of it, at most a minute, is calm.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Decides what the clients wish and what breaks when; a random one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// What may break: `all`, `none`, or a list such as `worker-killed,redis-flushed`.
    #[arg(long, default_value = "all", value_parser = Kinds::parse)]
    faults: Kinds,
    /// Missions that are under way at once.
    #[arg(long, default_value_t = 48)]
    clients: u64,
    /// Tenants.
    #[arg(long, default_value_t = 4)]
    tenants: usize,
    /// How long a lease lasts.
    #[arg(long, default_value = "4s")]
    lease: String,
    /// Leave the folder behind even if everything holds.
    #[arg(long)]
    keep: bool,
    /// Print one JSON document in the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    services: Services,
}

/// A list of faults, as one value of an option.
#[derive(Debug, Clone)]
struct Kinds(Vec<Fault>);

impl Kinds {
    fn parse(text: &str) -> Result<Self, String> {
        faults::parse(text).map(Self)
    }
}

impl Soak {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        eprintln!("seed {seed}");
        let mut site = Installation::open(&self.services, &self.lease, 24).await?;
        eprintln!("in {}", site.folder().display());
        let outcome = tokio::select! {
            outcome = self.soak(&mut site, seed) => outcome,
            () = boot::stop_signal() => {
                eprintln!("stopped before its time; nothing was judged");
                return Ok(ExitCode::from(130));
            }
        };
        let verdict = match outcome {
            Ok(verdict) => verdict,
            Err(error) => {
                site.keep()?;
                return Err(error.context(format!("seed {seed}, files in {}", site.folder().display())));
            }
        };
        let holds = verdict.wrong.is_empty();
        if !holds || self.keep {
            site.keep()?;
        }
        if self.json {
            let mut shown = verdict.to_json();
            shown["seed"] = json!(seed);
            shown["folder"] = if holds && !self.keep { json!(null) } else { json!(site.folder()) };
            println!("{}", serde_json::to_string_pretty(&shown)?);
        } else {
            println!("{}", verdict.to_text());
            if !holds {
                println!("seed {seed}; files in {}", site.folder().display());
            }
        }
        Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn soak(&self, site: &mut Installation, seed: u64) -> anyhow::Result<Verdict> {
        let http = reqwest::Client::new();
        site.serve(&http).await?;
        site.work().await?;
        site.work().await?;
        let begun = Instant::now();
        let load = Arc::new(self.load(site, &http, seed, begun).await?);
        let engine = boot::engine(
            &Config { redis_url: Some(site.redis.url()), ..Config::default() },
            &site.postgres.url(),
            &CancellationToken::new(),
        )
        .await?;
        let done = Done::default();
        let clients: Vec<_> =
            (0..self.clients).map(|number| tokio::spawn(Client::new(load.clone(), number).work())).collect();
        let length = Duration::from_secs_f64(self.minutes * 60.0);
        let calm_at = begun + length - (length / 4).min(Duration::from_mins(1));
        let (mut told, mut wrong) = (Vec::new(), Vec::new());
        let all = async {
            faults::make(site, &http, (&self.faults.0, seed), calm_at, &done).await?;
            for client in clients {
                let (of_one, wrong_of_one) = client.await?;
                told.extend(of_one);
                wrong.extend(wrong_of_one);
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ended = all => ended?,
            () = tell(begun, length, &load.figures, &done, engine.store()) => {}
        }
        let journal = std::fs::read_to_string(site.journal()).unwrap_or_default();
        let record = done.look();
        let mut verdict = verdict::judge(&engine, &told, &journal, &record).await?;
        verdict.wrong.splice(0..0, wrong);
        add_figures(&mut verdict, &record, &load, begun, &told);
        engine.store().close().await;
        Ok(verdict)
    }

    /// Tenants with credits and workflows, and when what is over.
    async fn load(
        &self,
        site: &Installation,
        http: &reqwest::Client,
        seed: u64,
        begun: Instant,
    ) -> anyhow::Result<Load> {
        let mut tenants = Vec::new();
        for number in 0..self.tenants.max(1) {
            let tenant = site.tenant(&format!("tenant-{number}")).await?;
            let grant = http.post(format!("{}/v1/wallet/grants", site.address())).bearer_auth(&tenant.key);
            let grant = grant.header("Idempotency-Key", "first").json(&json!({"amount": "1000000", "kind": "paid"}));
            accepted(grant).await?;
            for text in errand::WORKFLOWS.split("\n---\n") {
                let name =
                    text.lines().find_map(|line| line.strip_prefix("workflow: ")).context("a workflow has a name")?;
                let put = http.put(format!("{}/v1/workflows/{name}", site.address())).bearer_auth(&tenant.key);
                accepted(put.header("Content-Type", "application/yaml").body(text)).await?;
            }
            tenants.push(tenant);
        }
        let length = Duration::from_secs_f64(self.minutes * 60.0);
        Ok(Load {
            http: http.clone(),
            address: site.address(),
            tenants,
            seed,
            until: begun + length - (length / 8).min(Duration::from_secs(20)),
            deadline: begun + length + LAST_PATIENCE,
            figures: Figures::default(),
        })
    }
}

/// Puts what happened before what was found out.
fn add_figures(verdict: &mut Verdict, record: &faults::Record, load: &Load, begun: Instant, told: &[Told]) {
    let mut figures = vec![
        ("seconds".to_owned(), json!(begun.elapsed().as_secs())),
        ("missions_told".to_owned(), json!(told.len())),
        ("requests_repeated".to_owned(), json!(load.figures.repeated.load(Ordering::Relaxed))),
        ("longest_recovery_of_the_server_ms".to_owned(), json!(record.longest_outage.as_millis() as u64)),
        ("processes_that_ended_by_themselves".to_owned(), json!(record.ended_alone)),
    ];
    figures.extend(record.counts.iter().map(|(fault, count)| (format!("fault_{}", fault.name()), json!(count))));
    figures.append(&mut verdict.figures);
    verdict.figures = figures;
    if record.disorderly > 0 {
        verdict.wrong.push(format!("{} workers did not end in order when they were asked to", record.disorderly));
    }
}

async fn accepted(request: reqwest::RequestBuilder) -> anyhow::Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "{status}: {}", answer.text().await.unwrap_or_default());
    Ok(())
}

/// Says every few seconds how far it is: a bar on a terminal, lines otherwise. Never ends.
async fn tell(begun: Instant, length: Duration, figures: &Figures, done: &Done, store: &Arc<dyn Store>) {
    let bar = indicatif::ProgressBar::new(length.as_secs());
    bar.set_style(
        indicatif::ProgressStyle::with_template("{wide_bar} {pos}/{len} s  {msg}")
            .unwrap_or_else(|_| indicatif::ProgressStyle::default_bar()),
    );
    let mut ticks = interval(TOLD_EVERY);
    let mut tasks = 0;
    loop {
        ticks.tick().await;
        // while the database is down the last figure stands
        let ended = store.rows("select count(*) as n from tasks where ended_at is not null", &[]);
        if let Ok(Ok(rows)) = tokio::time::timeout(Duration::from_secs(2), ended).await {
            tasks = rows.first().and_then(|row| row["n"].as_u64()).unwrap_or(tasks);
        }
        let [submitted, over] = [&figures.submitted, &figures.over].map(|count| count.load(Ordering::Relaxed));
        let faults: Vec<String> =
            done.look().counts.iter().map(|(fault, count)| format!("{} {count}", fault.name())).collect();
        let words = format!("missions {over}/{submitted}, tasks {tasks}, faults: {}", faults.join(", "));
        bar.set_position(begun.elapsed().as_secs().min(length.as_secs()));
        bar.set_message(words.clone());
        if bar.is_hidden() {
            eprintln!("{:>5} s  {words}", begun.elapsed().as_secs());
        }
    }
}
