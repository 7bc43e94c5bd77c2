//! A Redis server of one's own, to be emptied, stalled and killed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::process::{Process, free_port, logged, program, signal, until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running server, or its address while it is down.
#[derive(Debug)]
pub(in crate::cli) struct Redis {
    folder: PathBuf,
    server: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Redis {
    pub(super) async fn start(folder: &Path, server: &Path) -> anyhow::Result<Self> {
        let mut redis =
            Self { folder: folder.to_owned(), server: server.to_owned(), port: free_port()?, process: None };
        redis.start_again().await?;
        Ok(redis)
    }

    pub(in crate::cli) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it at its address, with what it had written down.
    pub(in crate::cli) async fn start_again(&mut self) -> anyhow::Result<()> {
        let mut command = program(&self.server, &self.folder);
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--daemonize", "no", "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(self.folder.join("redis"));
        logged(&mut command, &self.folder, "redis")?;
        let process = Process::start(&mut command).context("install Redis, or name it with --redis-server")?;
        self.process = Some(process);
        until("Redis answers", PATIENCE, async || self.ask("PING", &[]).await.ok()).await
    }

    /// One command, over a connection of its own.
    async fn ask(&self, command: &str, words: &[&str]) -> anyhow::Result<()> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command).arg(words).query_async::<redis::Value>(&mut connection).await?;
        Ok(())
    }

    /// Loses everything it has.
    pub(in crate::cli) async fn flush(&self) -> anyhow::Result<()> {
        self.ask("FLUSHALL", &[]).await
    }

    /// SIGKILL.
    pub(in crate::cli) async fn kill_nine(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill_nine().await;
        }
    }

    /// It keeps its connections and answers nobody, for so long.
    pub(in crate::cli) async fn stall(&self, lasts: Duration) {
        let Some(process) = &self.process else { return };
        signal("-STOP", &[process.pid]).await;
        tokio::time::sleep(lasts).await;
        signal("-CONT", &[process.pid]).await;
    }
}
