//! The command line: one executable for operators, scripts and people who try it out.

mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Durable job queue for AI-agent workflows that bills every token exactly.
#[derive(Debug, Parser)]
#[command(name = "bursar", version, max_term_width = 110)]
pub struct Cli {
    /// A TOML file with settings (also `BURSAR_CONFIG`); the environment goes over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure: workloads W1–W4 against the embedded store, or against Postgres and Redis.
    Bench(bench::Bench),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime can't start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(cli));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    crate::boot::install_crypto();
    let config = Config::load(cli.config.as_deref())?;
    match cli.command {
        Command::Bench(bench) => bench.run(&config).await,
    }
}
