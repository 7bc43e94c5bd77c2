//! Processes of a private installation: started with nothing of our environment, their words in a file, killed by signal.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::folder::MARK;

/// Where the standard programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A program that is to run in the folder. It sees none of our variables, so that nothing of a real installation, neither
/// its database nor its keys, can reach it.
pub(super) fn program(path: impl AsRef<Path>, folder: &Path) -> Command {
    let mut command = Command::new(path.as_ref());
    command
        .env_clear()
        .env("PATH", PATH)
        .env(MARK, folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// What it says goes to the end of a file in the folder.
pub(super) fn logged(command: &mut Command, folder: &Path, name: &str) -> anyhow::Result<()> {
    let log = File::options().create(true).append(true).open(folder.join("logs").join(name))?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

/// Runs a program to its end; what it printed.
pub(super) async fn finished(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().await.with_context(|| format!("{command:?} can't be started"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Sends a signal, `-KILL` or the like. One that is gone already is no failure.
pub(super) async fn signal(name: &str, processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(name).args(numbers).stderr(Stdio::null()).status().await;
}

/// A process that we started, until it is taken down.
#[derive(Debug)]
pub(in crate::cli) struct Process {
    child: Child,
    /// Its number.
    pub(in crate::cli) pid: u32,
}

impl Process {
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("{command:?} can't be started"))?;
        let pid = child.id().context("it ended at once")?;
        Ok(Self { child, pid })
    }

    /// Whether it ended by itself.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL: no last word.
    pub(in crate::cli) async fn kill_nine(mut self) {
        let _ = self.child.kill().await;
    }

    /// SIGTERM, and waits for the end. Whether it ended in order and in time.
    pub(in crate::cli) async fn terminate(mut self, within: Duration) -> bool {
        signal("-TERM", &[self.pid]).await;
        if let Ok(Ok(status)) = tokio::time::timeout(within, self.child.wait()).await {
            return status.success();
        }
        let _ = self.child.kill().await;
        false
    }
}

/// Asks again and again until there is an answer.
pub(in crate::cli) async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {} s", within.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A port below the range that the system hands out for outgoing connections, so that nobody takes it while its server is
/// down.
pub(super) fn free_port() -> anyhow::Result<u16> {
    for _ in 0..200 {
        let port = 20_000 + rand::random::<u16>() % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 20000 and 32000")
}
