//! A Postgres server of one's own, to be killed as a power cut would and started again: the shared one of the other
//! tests must live.
//!
//! A shell stands between the test and the server and holds a pipe from the test: however the test ends, the pipe
//! closes and the server goes, with its folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{eventually, service, unique_name};

/// Waits for the end of the test, then kills the server by the number in its own file; its children follow it.
const GUARD: &str = r#"cat >/dev/null; kill -9 "$(head -n 1 "$1/data/postmaster.pid")" 2>/dev/null; rm -rf -- "$1""#;
const PATIENCE: Duration = Duration::from_mins(1);

/// A running server (or, between [`Cluster::kill_nine`] and [`Cluster::start_again`], its address).
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    guard: Child,
    settings: &'static str,
}

impl Cluster {
    /// A fresh server with the durability of production.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with more settings, as `-c name=value`.
    pub(crate) async fn start_with(settings: &'static str) -> Self {
        // the owner of the cluster must be able to enter, and a socket's path is short
        let folder = Path::new("/tmp").join(unique_name("bursar"));
        std::fs::create_dir(&folder).unwrap();
        let user = service("BURSAR_TEST_POSTGRES_OS_USER");
        if !user.is_empty() {
            run(Command::new("chown").arg(&user).arg(&folder));
        }
        let guard = Command::new("sh").args(["-c", GUARD, "guard"]).arg(&folder).stdin(Stdio::piped()).spawn().unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, port, guard, settings };
        let data = cluster.data();
        run(cluster
            .as_owner("initdb")
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(data));
        cluster.launch().await;
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The URL of its own database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// A program of the server, run by the user that owns the cluster: Postgres refuses root.
    fn as_owner(&self, program: &str) -> Command {
        let program = Path::new(&service("BURSAR_TEST_POSTGRES_BIN")).join(program);
        let user = service("BURSAR_TEST_POSTGRES_OS_USER");
        let mut command = if user.is_empty() {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", &user, "--"]).arg(program);
            command
        };
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    async fn launch(&self) {
        let settings = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories={} -c fsync=on -c full_page_writes=on \
             -c synchronous_commit=on -c timezone=UTC {}",
            self.port,
            self.folder.display(),
            self.settings
        );
        let log = self.folder.join("data/log");
        eventually("Postgres starts", PATIENCE, || async {
            let mut command = self.as_owner("pg_ctl");
            command.args(["start", "-s", "-w", "-t", "60", "-o", &settings, "-D"]).arg(self.data()).arg("-l").arg(&log);
            command.status().unwrap().success().then_some(())
        })
        .await;
    }

    /// SIGKILL of the server and of each of its processes at once: nothing is flushed, nobody says good-bye.
    pub(crate) async fn kill_nine(&self) {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: u32 = text.lines().next().unwrap().trim().parse().unwrap();
        let mut processes = vec![postmaster];
        processes.extend(children(postmaster));
        // one that ended by itself meanwhile is no failure
        let _ =
            Command::new("kill").arg("-9").args(processes.iter().map(u32::to_string)).stderr(Stdio::null()).status();
        eventually("all of Postgres is gone", PATIENCE, || async {
            processes.iter().all(|process| !is_alive(*process)).then_some(())
        })
        .await;
        // the number may live on as somebody else's, or as a dead child that nobody buried
        std::fs::remove_file(self.data().join("postmaster.pid")).unwrap();
    }

    /// Starts it again at the same address, with what it had made durable.
    pub(crate) async fn start_again(&self) {
        self.launch().await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// The state and the parent of a process.
fn status(process: &str) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // the name stands in brackets and may hold anything
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_child = |name: &String| status(name).is_some_and(|(_, of)| of == parent);
    processes.filter(is_child).filter_map(|name| name.parse().ok()).collect()
}

/// Whether a process is there and is not a dead one that waits to be buried.
fn is_alive(process: u32) -> bool {
    status(&process.to_string()).is_some_and(|(state, _)| state != 'Z')
}
