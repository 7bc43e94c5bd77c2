//! A private installation for tests of the whole: a Postgres, a Redis, a server and workers of this very executable, in a
//! temporary folder, on ports of their own.
//!
//! It must never reach anything that it did not start: no variable of ours gets to its processes, and everything ends
//! with it, however it ends.

mod folder;
mod postgres;
mod process;
mod redis;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

pub(super) use self::postgres::Postgres;
pub(super) use self::process::{Process, until};
pub(super) use self::redis::Redis;
use folder::Folder;
use process::{finished, free_port, logged, program};

/// How long a server may take until it is ready.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the services are whose private copies are started.
#[derive(Debug, Clone, Args)]
pub(super) struct Services {
    /// The folder of Postgres' programs (initdb, `pg_ctl`); the newest that is installed by default.
    #[arg(long, value_name = "DIR")]
    postgres_bin: Option<PathBuf>,
    /// As whom Postgres runs where we are root, which it refuses.
    #[arg(long, value_name = "USER", default_value = "postgres")]
    postgres_user: String,
    /// The Redis server.
    #[arg(long, value_name = "FILE", default_value = "redis-server")]
    redis_server: PathBuf,
}

/// Who may do everything for one tenant.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    pub(super) key: String,
}

/// What runs.
#[derive(Debug)]
pub(super) struct Installation {
    pub(super) postgres: Postgres,
    pub(super) redis: Redis,
    pub(super) server: Option<Process>,
    pub(super) workers: Vec<Process>,
    /// Slots of each worker's pools.
    pools: Vec<String>,
    lease: String,
    port: u16,
    executable: PathBuf,
    started: usize,
    folder: Folder,
}

impl Installation {
    /// Starts the services and makes the schema; nobody serves or works yet.
    pub(super) async fn open(services: &Services, lease: &str, slots: usize) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("the path of this program")?;
        let folder = Folder::make()?;
        let bin = services.postgres_bin.as_deref();
        let postgres = Postgres::start(folder.path(), bin, &services.postgres_user).await?;
        let redis = Redis::start(folder.path(), &services.redis_server).await?;
        let port = free_port()?;
        let settings = format!("[tools.http_get]\nallow = [\"127.0.0.1:{port}\"]\nallow_private = true\n");
        std::fs::write(folder.path().join("bursar.toml"), settings)?;
        let pools = ["agent", "default", "http"].map(|pool| format!("{pool}={slots}")).to_vec();
        let lease = lease.to_owned();
        let (server, workers) = (None, Vec::new());
        let site = Self { postgres, redis, server, workers, pools, lease, port, executable, started: 0, folder };
        finished(site.command().arg("migrate")).await?;
        Ok(site)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files stay when this ends.
    pub(super) fn keep(&self) -> anyhow::Result<()> {
        self.folder.keep()
    }

    /// The base of the server's URLs.
    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The simulated provider's own books.
    pub(super) fn journal(&self) -> PathBuf {
        self.folder().join("journal")
    }

    /// This executable on this installation.
    fn command(&self) -> tokio::process::Command {
        let mut command = program(&self.executable, self.folder());
        command
            .env("BURSAR_CONFIG", self.folder().join("bursar.toml"))
            .env("DATABASE_URL", self.postgres.url())
            .env("REDIS_URL", self.redis.url())
            .env("BURSAR_BIND", "127.0.0.1")
            .env("BURSAR_LEASE", &self.lease)
            .env("BURSAR_GRACE", "3s")
            .env("BURSAR_SIMULATED_WORD_MS", "2")
            .env("BURSAR_SIMULATED_JOURNAL", self.journal())
            .env("BURSAR_SESSION_SECRET", "a private installation that nobody else can reach")
            .env("RUST_LOG", "warn");
        command
    }

    /// A tenant with an admin key.
    pub(super) async fn tenant(&self, name: &str) -> anyhow::Result<Tenant> {
        let words = ["keys", "create", "--tenant", name, "--role", "admin", "--json"];
        let made: Value = serde_json::from_str(&finished(self.command().args(words)).await?)?;
        let key = made["secret"].as_str().context("a key has a secret")?;
        Ok(Tenant { key: key.to_owned() })
    }

    /// Starts the server and waits until it is ready.
    pub(super) async fn serve(&mut self, http: &reqwest::Client) -> anyhow::Result<()> {
        self.restart_server().await?;
        self.ready(http).await
    }

    /// Starts the server and does not wait for it.
    pub(super) async fn restart_server(&mut self) -> anyhow::Result<()> {
        let mut command = self.command();
        command.args(["server", "--port", &self.port.to_string()]);
        logged(&mut command, self.folder(), "server")?;
        self.server = Some(Process::start(&mut command)?);
        Ok(())
    }

    /// Waits until the server is ready; one that ended, because the database was away, is started again.
    pub(super) async fn ready(&mut self, http: &reqwest::Client) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < deadline {
            let asked = http.get(format!("{}/readyz", self.address())).timeout(Duration::from_secs(3)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            self.revive().await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("the server is not ready after {} s; see {}/logs", PATIENCE.as_secs(), self.folder().display())
    }

    /// A supervisor's part: whoever ended by itself is started again. How many had.
    pub(super) async fn revive(&mut self) -> anyhow::Result<usize> {
        let mut revived = 0;
        if self.server.as_mut().is_some_and(Process::has_ended) {
            self.restart_server().await?;
            revived += 1;
        }
        let before = self.workers.len();
        self.workers.retain_mut(|worker| !worker.has_ended());
        for _ in self.workers.len()..before {
            self.work().await?;
            revived += 1;
        }
        Ok(revived)
    }

    /// Starts one more worker.
    pub(super) async fn work(&mut self) -> anyhow::Result<()> {
        self.started += 1;
        let mut command = self.command();
        command.arg("worker").args(self.pools.iter().flat_map(|pool| ["--pool", pool]));
        logged(&mut command, self.folder(), &format!("worker-{}", self.started))?;
        self.workers.push(Process::start(&mut command)?);
        Ok(())
    }
}
