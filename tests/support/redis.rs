//! A Redis server per test, because the keys of the queue are fixed: started, killed and started again at will.
//!
//! A shell stands between the test and the server and holds a pipe from the test: however the test ends, the pipe
//! closes and the server goes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::embedded::TestFolder;
use super::{eventually, service};

/// Starts the server, says its process id, and ends it when the pipe on its input closes.
const GUARD: &str = r#""$@" </dev/null >/dev/null 2>&1 & server=$!; echo "$server"; cat >/dev/null; kill -9 "$server"; wait "$server" 2>/dev/null"#;
const START_DEADLINE: Duration = Duration::from_secs(10);

/// A running server (or, between [`TestRedis::kill`] and [`TestRedis::start_again`], its address).
#[derive(Debug)]
pub(crate) struct TestRedis {
    port: u16,
    folder: TestFolder,
    guard: Option<Child>,
    process: String,
}

impl TestRedis {
    /// A fresh server.
    pub(crate) async fn start() -> Self {
        for _ in 0..20 {
            let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
            let mut server = Self { port, folder: TestFolder::new(), guard: None, process: String::new() };
            if server.launch().await {
                return server;
            }
        }
        panic!("no free port for Redis");
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills it as a power cut would. Nothing it knew comes back.
    pub(crate) fn kill(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            guard.wait().unwrap();
        }
    }

    /// Starts it again at the same address, empty.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.guard.is_none(), "it runs");
        assert!(self.launch().await, "Redis does not start again on port {}", self.port);
    }

    /// Forgets everything.
    pub(crate) async fn flush(&self) {
        let mut connection = self.connection().await.expect("Redis answers");
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    }

    /// Sends its process a signal: `STOP` lets it hang, `CONT` go on.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.process]).status().unwrap().success());
    }

    /// How many bytes it may keep: with 1 it refuses every write, as one does whose memory is full; 0 is no limit.
    pub(crate) async fn limit_memory(&self, bytes: u64) {
        let mut connection = self.connection().await.expect("Redis answers");
        for (name, value) in [("maxmemory-policy", "noeviction".to_owned()), ("maxmemory", bytes.to_string())] {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut connection).await.unwrap();
        }
    }

    /// A connection of its own.
    pub(crate) async fn connection(&self) -> Option<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.ok()
    }

    /// Whether it came up; not when somebody else has taken the port.
    async fn launch(&mut self) -> bool {
        let mut guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &service("BURSAR_TEST_REDIS_SERVER")])
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--dir", &self.folder.path().display().to_string(), "--daemonize", "no"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let mut line = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = line.trim().to_owned();
        self.guard = Some(guard);
        self.process.clone_from(&process);
        let answered = eventually("Redis answers", START_DEADLINE, || async {
            let alive = Command::new("kill").args(["-0", &process]).stderr(Stdio::null()).status().unwrap().success();
            if !alive {
                return Some(false);
            }
            let mut connection = self.connection().await?;
            let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
            Some(info.contains(&format!("process_id:{process}\r\n")))
        });
        let answered = answered.await;
        if !answered {
            self.kill();
        }
        answered
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        self.kill();
    }
}
