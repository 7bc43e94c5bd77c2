//! `bursar worker`: pools of slots. As many processes as wanted, on as many machines.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::{self, Config};
use crate::engine::{Engine, PoolConfig, WorkerPool};

/// Options of `bursar worker`.
#[derive(Debug, Args)]
pub struct Worker {
    /// A pool and its slots, e.g. `agent=64`; may be given several times [default: agent=64 default=64 http=64, and exec=64 where programs run].
    #[arg(long = "pool", value_name = "NAME=SLOTS", value_parser = parse_pool)]
    pools: Vec<PoolConfig>,
}

/// Reads `agent=64`.
pub(super) fn parse_pool(text: &str) -> Result<PoolConfig, String> {
    let (name, slots) = text.split_once('=').ok_or("write NAME=SLOTS, e.g. agent=64")?;
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(is_name) {
        return Err(format!("`{name}` is no pool: use 1 to 32 of a-z, 0-9 and -"));
    }
    let slots: usize = slots.parse().map_err(|_| format!("`{slots}` is no number of slots"))?;
    if !(1..=4_096).contains(&slots) {
        return Err("a pool has 1 to 4096 slots; more work needs more processes".to_owned());
    }
    Ok(PoolConfig { name: name.to_owned(), slots })
}

/// The pools that are served when none is named: those that the format uses by default. Programs only where they run.
pub(super) fn default_pools(config: &Config, slots: usize) -> Vec<PoolConfig> {
    let pools = ["agent", "default", "http"].into_iter().chain(config.exec.enabled.then_some("exec"));
    pools.map(|name| PoolConfig { name: name.to_owned(), slots }).collect()
}

impl Worker {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        super::start_logs("info");
        let url = super::database_url(&config)?;
        if url.starts_with("sqlite://") {
            bail!("the embedded store is for one process: use `bursar dev` or `bursar server --with-workers`");
        }
        if config.redis_url.is_none() {
            tracing::warn!("REDIS_URL is not set: this worker asks the database for work once a second");
        }
        let stop = CancellationToken::new();
        let engine = boot::engine(&config, &url, &stop).await?;
        boot::check_schema(&engine).await?;
        let pools = if self.pools.is_empty() { default_pools(&config, 64) } else { self.pools };
        let workers = start(&engine, &config, &pools, &stop)?;
        tracing::info!(worker = %workers.worker_id(), ?pools, "working");
        boot::stop_signal().await;
        drain(workers, &config).await?;
        stop.cancel();
        engine.store().close().await;
        Ok(ExitCode::SUCCESS)
    }
}

/// Starts pools and a sweeper.
pub(super) fn start(
    engine: &Engine,
    config: &Config,
    pools: &[PoolConfig],
    stop: &CancellationToken,
) -> anyhow::Result<WorkerPool> {
    boot::warm_up();
    let providers = Arc::new(boot::providers(config)?);
    let lease = boot::lease(config).context("lease")?;
    let workers = WorkerPool::start(engine, providers, pools, config::host_name(), lease);
    boot::start_keepers(engine, config, stop)?;
    Ok(workers)
}

/// Lets running steps end, then hands the rest back.
pub(super) async fn drain(workers: WorkerPool, config: &Config) -> anyhow::Result<()> {
    let grace = Duration::from_millis(config.grace_ms()?);
    tracing::info!(?grace, "stopping: no new work, running steps may end");
    let drained = workers.drain(grace).await;
    tracing::info!(handed_back = drained.handed_back, "stopped");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_name_and_its_slots() {
        assert_eq!(parse_pool("agent=64"), Ok(PoolConfig { name: "agent".to_owned(), slots: 64 }));
        for broken in ["agent", "agent=", "agent=0", "agent=many", "=4", "Agent=4", "agent=5000"] {
            assert!(parse_pool(broken).is_err(), "{broken}");
        }
    }
}
