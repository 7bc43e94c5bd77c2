//! A Postgres server of one's own with the durability of production, to be killed as a power cut would.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::process::{finished, free_port, program, signal, until};

const PATIENCE: Duration = Duration::from_mins(1);

/// Where distributions put the programs of the server, a folder per major version.
const HOMES: [&str; 2] = ["/usr/lib/postgresql", "/usr/pgsql"];

/// A running server, or its address while it is down.
#[derive(Debug)]
pub(in crate::cli) struct Postgres {
    folder: PathBuf,
    bin: PathBuf,
    /// As whom it runs: the server refuses root.
    user: Option<String>,
    port: u16,
}

impl Postgres {
    pub(super) async fn start(folder: &Path, bin: Option<&Path>, user: &str) -> anyhow::Result<Self> {
        let bin = bin.map(Path::to_owned).or_else(newest).context(
            "no Postgres server was found in /usr/lib/postgresql: install it, or name its folder with --postgres-bin",
        )?;
        let is_root = finished(Command::new("id").arg("-u")).await? == "0";
        let own = folder.join("postgres");
        if is_root {
            finished(Command::new("chown").arg(user).arg(&own)).await.context("root needs --postgres-user")?;
        }
        let user = is_root.then(|| user.to_owned());
        let server = Self { folder: folder.to_owned(), bin, user, port: free_port()? };
        let mut init = server.owner("initdb");
        init.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"]).arg(server.data());
        finished(&mut init).await?;
        server.launch().await?;
        Ok(server)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("postgres/data")
    }

    /// The URL of its own database.
    pub(in crate::cli) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// One of its programs, run by who owns the data.
    fn owner(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match &self.user {
            None => program(path, &self.folder),
            Some(user) => {
                let mut command = program("runuser", &self.folder);
                command.args(["-u", user, "--"]).arg(path);
                command
            }
        };
        command.current_dir(self.folder.join("postgres"));
        command
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let settings = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c max_connections=200 -c fsync=on \
             -c full_page_writes=on -c synchronous_commit=on -c timezone=UTC",
            self.port,
            self.folder.join("postgres").display()
        );
        until("Postgres starts", PATIENCE, async || {
            let mut command = self.owner("pg_ctl");
            command.args(["start", "-s", "-w", "-t", "60", "-o", &settings, "-D"]).arg(self.data());
            command.arg("-l").arg(self.folder.join("postgres/log")).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().await.ok()?.success().then_some(())
        })
        .await
    }

    /// SIGKILL of the server and of each of its processes at once: nothing is flushed, nobody says good-bye.
    pub(in crate::cli) async fn kill_nine(&self) -> anyhow::Result<()> {
        let file = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&file).context("Postgres is not running")?;
        let Some(postmaster) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
            bail!("{} holds no number", file.display());
        };
        let mut processes = vec![postmaster];
        processes.extend(children(postmaster));
        signal("-KILL", &processes).await;
        until("all of Postgres is gone", PATIENCE, async || {
            processes.iter().all(|process| !is_alive(*process)).then_some(())
        })
        .await?;
        // the number may live on as somebody else's
        Ok(std::fs::remove_file(file)?)
    }

    /// Starts it again at the same address, with what it had made durable.
    pub(in crate::cli) async fn start_again(&self) -> anyhow::Result<()> {
        self.launch().await
    }
}

/// The programs of the newest version that is installed.
fn newest() -> Option<PathBuf> {
    let versions = HOMES.iter().filter_map(|home| std::fs::read_dir(home).ok()).flatten().flatten();
    let found = versions.filter_map(|version| {
        let number = version.file_name().to_str()?.parse::<u32>().ok()?;
        let bin = version.path().join("bin");
        bin.join("initdb").exists().then_some((number, bin))
    });
    found.max().map(|(_, bin)| bin)
}

/// The state and the parent of a process.
fn status(process: &str) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // the name stands in brackets and may hold anything
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let processes = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_child = |name: &String| status(name).is_some_and(|(_, of)| of == parent);
    processes.filter(is_child).filter_map(|name| name.parse().ok()).collect()
}

/// Whether a process is there and is not a dead one that waits to be buried.
fn is_alive(process: u32) -> bool {
    status(&process.to_string()).is_some_and(|(state, _)| state != 'Z')
}
