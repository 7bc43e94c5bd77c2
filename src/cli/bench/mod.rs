//! `bursar bench`: workloads of the field, measured on this machine, on both storages.
//!
//! Every repetition gets a database of its own (a temporary SQLite file, or a database made on the server that
//! `DATABASE_URL` names and dropped afterwards) and pools of its own name. Work is submitted through the engine, in
//! process, and afterwards the ledger is verified: a figure counts only when all is done and billed exactly.

mod fairness;
mod measure;
mod money;
mod recovery;
mod site;
mod workload;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::cli::installation::Services;
use crate::config::Config;
use site::Site;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Diamond: workflows of five nodes (1 → 3 → 1), each node held and settled.
    W1,
    /// The diamond without prices.
    W0,
    /// Chain: on an idle system, chains of three nodes one after another.
    W2,
    /// Flat: single-node workflows, submitted while nobody works, then drained.
    W3,
    /// Idle: what an idle process costs.
    W4,
    /// Maps: one of 10,000 items against 100 of 100 items, each item held and settled.
    Map,
    /// Fairness: how long a small tenant's tasks wait on 16 slots, alone and beside 10,000 missions of another tenant.
    Fairness,
    /// Money alone: cycles of hold and settle on one wallet.
    Wallet,
    /// The same over 1,000 wallets.
    Wallets,
    /// Recovery: kill -9 of a worker with 100 running tasks, until the last runs again. Only when named; starts a Postgres
    /// and a Redis of its own.
    Recovery,
}

/// Where to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Storage {
    /// The embedded store.
    Sqlite,
    /// `DATABASE_URL` and, where set, `REDIS_URL`.
    Postgres,
}

/// Options of `bursar bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The workloads to run; all of them when none is named.
    #[arg(value_enum, ignore_case = true)]
    workloads: Vec<Workload>,
    /// The storage; `postgres` uses `DATABASE_URL` and `REDIS_URL`.
    #[arg(long, value_enum, default_value = "sqlite")]
    storage: Storage,
    /// Missions per repetition (default: W1 2,000, W2 200, W3 20,000), items of a map (10,000), or cycles (20,000).
    #[arg(long)]
    missions: Option<usize>,
    /// Slots of the pool.
    #[arg(long, default_value_t = 512)]
    slots: usize,
    /// Repetitions; medians are shown [default: 3, of a recovery 10].
    #[arg(long)]
    repeat: Option<usize>,
    /// How long a lease lasts (recovery alone).
    #[arg(long, default_value = "15s")]
    lease: String,
    #[command(flatten)]
    services: Services,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

impl Bench {
    /// Runs the workloads and prints what was measured.
    pub async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let all = [
            Workload::W1,
            Workload::W0,
            Workload::W2,
            Workload::W3,
            Workload::W4,
            Workload::Map,
            Workload::Fairness,
            Workload::Wallet,
            Workload::Wallets,
        ];
        let wanted = if self.workloads.is_empty() { all.to_vec() } else { self.workloads.clone() };
        let progress = indicatif::ProgressBar::new(
            wanted.iter().map(|workload| self.repetitions(*workload)).sum::<usize>() as u64,
        );
        let mut results = Vec::new();
        for workload in wanted {
            if workload == Workload::Recovery {
                let repeat = self.repetitions(workload);
                let measured = recovery::measure(&self.services, &self.lease, repeat, || progress.inc(1)).await?;
                if !self.json {
                    progress.suspend(|| print_result("Recovery", Storage::Postgres, &measured));
                }
                results.push(
                    json!({"workload": "Recovery", "storage": "postgres", "repetitions": repeat, "median": measured}),
                );
                continue;
            }
            let repetitions = self.repetitions(workload);
            let mut runs = Vec::new();
            for _ in 0..repetitions {
                let slots = if workload == Workload::Fairness { self.slots.min(16) } else { self.slots };
                let site = Site::open(self.storage == Storage::Postgres, config, slots).await?;
                let outcome = self.once(workload, &site).await;
                site.close().await?;
                runs.push(outcome.with_context(|| format!("{workload:?}"))?);
                progress.inc(1);
            }
            let name = format!("{workload:?}");
            let median = measure::median_of(&runs);
            if !self.json {
                progress.suspend(|| print_result(&name, self.storage, &median));
            }
            results.push(json!({"workload": name, "storage": format!("{:?}", self.storage).to_lowercase(),
                "repetitions": runs.len(), "median": median}));
        }
        progress.finish_and_clear();
        if self.json {
            println!("{}", serde_json::to_string_pretty(&results)?);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn repetitions(&self, workload: Workload) -> usize {
        match workload {
            Workload::W4 => 1,
            Workload::Recovery => self.repeat.unwrap_or(10).max(1),
            _ => self.repeat.unwrap_or(3).max(1),
        }
    }

    async fn once(&self, workload: Workload, site: &Site) -> anyhow::Result<Value> {
        let missions = |default: usize| self.missions.unwrap_or(default);
        let mut measured = match workload {
            Workload::W1 => workload::diamond(site, missions(2_000), true).await?,
            Workload::W0 => workload::diamond(site, missions(2_000), false).await?,
            Workload::W2 => workload::chain(site, missions(200)).await?,
            Workload::W3 => workload::flat(site, missions(20_000)).await?,
            Workload::W4 => workload::idle(site).await?,
            Workload::Map => workload::maps(site, missions(10_000)).await?,
            Workload::Fairness => fairness::fairness(site, missions(10_000)).await?,
            Workload::Wallet => money::cycles(site, 1, missions(20_000)).await?,
            Workload::Wallets => money::cycles(site, 1_000, missions(20_000)).await?,
            Workload::Recovery => bail!("a recovery has a site of its own"),
        };
        let begun = Instant::now();
        let report = crate::verify::verify(site.engine.store()).await?;
        measured["verify_s"] = json!(begun.elapsed().as_secs_f64());
        if let Some((_, entries)) = report.figures.iter().find(|(name, _)| name == "entries") {
            measured["entries"] = json!(entries.parse::<u64>()?);
        }
        if !report.is_clean() {
            bail!("the ledger is not clean after the run:\n{}", report.to_text());
        }
        Ok(measured)
    }
}

fn print_result(name: &str, storage: Storage, median: &Value) {
    println!("{name} on {}", format!("{storage:?}").to_lowercase());
    let Some(figures) = median.as_object() else { return };
    for (figure, value) in figures {
        match value.as_f64() {
            Some(number) if number.fract() != 0.0 => println!("  {figure:<28} {number:>12.2}"),
            Some(number) => println!("  {figure:<28} {number:>12.0}"),
            None => println!("  {figure:<28} {value:>12}"),
        }
    }
}
