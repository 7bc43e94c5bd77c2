//! The command line: one executable for operators, scripts and people who try it out.
//!
//! Commands that run the system (`dev`, `server`, `worker`) and that look after its data (`migrate`, `verify`, `reconcile`,
//! `doctor`, `keys`, `prices`) work on the store; commands for users (`mission`, `approval`, `dlq`,
//! `project`, `tenant`, `workflow`, `wallet`) are clients of the HTTP API.

mod approval;
mod bench;
mod client;
mod conversation;
mod dev;
mod dlq;
mod doctor;
mod installation;
mod keys;
mod migrate;
mod mission;
mod prices;
mod project;
mod reconcile;
mod renew;
mod schedule;
mod server;
mod soak;
mod tenant;
mod verify;
mod wallet;
mod watch;
mod why;
mod worker;
mod workflow;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// Try it: API, workers, dashboard and a simulated model in one process on one SQLite file.
    Dev(dev::Dev),
    /// Run the API and the dashboard (with `--with-workers` everything on one machine).
    Server(server::Server),
    /// Run worker pools.
    Worker(worker::Worker),
    /// Create or update the schema, store the price book, and activate it when none is active.
    Migrate,
    /// Recompute the whole ledger from its entries and name every violation.
    Verify(verify::Verify),
    /// Compare the queue with the store and the ledger with usage, and name what differs.
    Reconcile(reconcile::Reconcile),
    /// Check that database, Redis, clock and providers are as they should be.
    Doctor,
    /// Submit, watch, list, get, signal and cancel missions.
    #[command(subcommand)]
    Mission(mission::Mission),
    /// List, show, approve and reject what waits for a person.
    #[command(subcommand)]
    Approval(approval::Approval),
    /// Submit missions again and again: create, list, show, pause, resume, delete and run schedules.
    #[command(subcommand)]
    Schedule(schedule::Schedule),
    /// Containers of missions: create, list, show, archive and delete them.
    #[command(subcommand)]
    Project(project::Project),
    /// Tenants and their shares of the workers: list them, set their weights and limits.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Missions that failed for the same reason: list them, show them, try them again.
    #[command(subcommand)]
    Dlq(dlq::Dlq),
    /// Check and put workflows.
    #[command(subcommand)]
    Workflow(workflow::Workflow),
    /// Show wallets, statements and usage; give credits; import wallets.
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Price books: list, compare, import, try out, activate.
    #[command(subcommand)]
    Prices(prices::Prices),
    /// Create API keys.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Measure: workloads W0–W4 against the embedded store, or against Postgres and Redis.
    Bench(bench::Bench),
    /// Break a private installation again and again under load, then prove that nothing was lost or charged twice.
    Soak(soak::Soak),
    /// Ask the API whether it is ready (for container health checks).
    Healthcheck(client::Target),
    /// Print the OpenAPI document.
    Openapi,
}

/// The words after `bursar` that exist.
pub fn command_names() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
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
        Command::Dev(dev) => dev.run(config).await,
        Command::Server(server) => server.run(config).await,
        Command::Worker(worker) => worker.run(config).await,
        Command::Migrate => migrate::run(&config).await,
        Command::Verify(verify) => verify.run(&config).await,
        Command::Reconcile(reconcile) => reconcile.run(&config).await,
        Command::Doctor => doctor::run(&config).await,
        Command::Mission(mission) => mission.run().await,
        Command::Approval(approval) => approval.run().await,
        Command::Schedule(schedule) => schedule.run().await,
        Command::Project(project) => project.run().await,
        Command::Tenant(tenant) => tenant.run().await,
        Command::Dlq(dlq) => dlq.run().await,
        Command::Workflow(workflow) => workflow.run().await,
        Command::Wallet(wallet) => wallet.run(&config).await,
        Command::Prices(prices) => prices.run(&config).await,
        Command::Keys(keys) => keys.run(&config).await,
        Command::Bench(bench) => bench.run(&config).await,
        Command::Soak(soak) => soak.run().await,
        Command::Healthcheck(target) => client::healthcheck(&target).await,
        Command::Openapi => {
            println!("{}", crate::http::openapi().to_pretty_json()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Starts logging to standard error: pretty on a terminal, JSON lines otherwise. `RUST_LOG` chooses what.
fn start_logs(default: &str) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;
    // these libraries log answers with their content, which may hold prompts and results
    let directives = crate::config::log_filter().unwrap_or_else(|| default.to_owned());
    let filter = EnvFilter::new(format!("{directives},async_openai=off,rmcp=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started =
        if std::io::stderr().is_terminal() { builder.compact().try_init() } else { builder.json().try_init() };
    if let Err(error) = started {
        eprintln!("warning: logs can't be started: {error}");
    }
}

/// The database that a command needs, or what to do about its absence.
fn database_url(config: &Config) -> anyhow::Result<String> {
    config.database_url.clone().ok_or_else(|| {
        anyhow::anyhow!(
            "DATABASE_URL is not set: point it to Postgres (postgres://user:password@host/database) or to a file \
             (sqlite://.bursar/bursar.db), or run `bursar dev`, which needs nothing"
        )
    })
}
