//! `bursar wallet import`: reads the file, says what it would change, changes it. Exits 1 when anything is wrong with
//! the file; then nothing was written.

use std::fs::File;
use std::io::{BufReader, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::Config;
use crate::engine::Engine;
use crate::import::{self, Fault, Plan, Written};

/// Faults that are printed; nobody reads more.
const MOST_SHOWN: usize = 50;

/// Options of `bursar wallet import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The CSV file.
    file: PathBuf,
    /// Check everything, change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The folder of `bursar dev` to import into, where `DATABASE_URL` is not set.
    #[arg(long, value_name = "DIR", default_value = ".bursar")]
    data: PathBuf,
}

impl Import {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let file = File::open(&self.file).with_context(|| format!("{} can't be read", self.file.display()))?;
        let embedded = self.data.join("bursar.db");
        let url = match &config.database_url {
            None if embedded.exists() => format!("sqlite://{}", embedded.display()),
            _ => super::super::database_url(config)?,
        };
        let without_redis = Config { redis_url: None, ..config.clone() };
        let engine = boot::engine(&without_redis, &url, &CancellationToken::new()).await?;
        engine.store().check_schema().await?;
        let done = self.import(&engine, file).await;
        engine.store().close().await;
        done
    }

    async fn import(&self, engine: &Engine, file: File) -> anyhow::Result<ExitCode> {
        let rows = match import::read(BufReader::new(file), engine.clock().now()) {
            Ok(rows) => rows,
            Err(faults) => return Ok(refuse(&self.file, &faults)),
        };
        let plan = match import::plan(engine, rows).await? {
            Ok(plan) => plan,
            Err(faults) => return Ok(refuse(&self.file, &faults)),
        };
        if self.dry_run {
            self.tell(&plan, None)?;
            return Ok(ExitCode::SUCCESS);
        }
        let progress = progress(plan.new.len());
        let written = plan.write(engine, || progress.inc(1)).await;
        progress.finish_and_clear();
        let written = written.map_err(|(line, error)| {
            let words = "the lines dated before it are written; the same command goes on behind them";
            anyhow::anyhow!("line {line}: {error}\n  {words}")
        })?;
        self.tell(&plan, Some(written))?;
        Ok(ExitCode::SUCCESS)
    }

    fn tell(&self, plan: &Plan, written: Option<Written>) -> anyhow::Result<()> {
        let is_dry = written.is_none();
        let (grants, amount) = written.map_or((plan.new.len(), plan.amount()), |done| (done.grants, done.amount));
        if self.json {
            let told = json!({
                "dry_run": is_dry, "grants": grants, "amount": amount.to_string(), "known": plan.known,
                "tenants": plan.tenants, "new_tenants": plan.new_tenants,
            });
            println!("{}", serde_json::to_string_pretty(&told)?);
            return Ok(());
        }
        let verb = if is_dry { "would give" } else { "gave" };
        println!("{verb} {amount} credits in {grants} grants; {} lines were imported before", plan.known);
        println!("{} tenants, of which {} are new", plan.tenants, plan.new_tenants.len());
        Ok(())
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress(lines: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} lines, {eta} to go");
    let bar = ProgressBar::new(lines as u64);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn refuse(file: &Path, faults: &[Fault]) -> ExitCode {
    for fault in faults.iter().take(MOST_SHOWN) {
        eprintln!("{}: {fault}", file.display());
    }
    if faults.len() > MOST_SHOWN {
        eprintln!("… and {} more", faults.len().saturating_sub(MOST_SHOWN));
    }
    eprintln!("error: {} things are wrong with the file; nothing was imported", faults.len());
    ExitCode::FAILURE
}
