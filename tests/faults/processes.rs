//! An installation as operators run it: a server and workers as processes, on a database and a Redis of their own.

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::chaos::ChaosProxy;
use crate::support::database::TestDatabase;
use crate::support::eventually;
use crate::support::redis::TestRedis;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// The rows of a list answer.
pub(super) fn items(page: &Value) -> Vec<Value> {
    page["data"].as_array().expect("a list has data").clone()
}

/// A running worker process.
pub(super) struct WorkerProcess(Child);

impl WorkerProcess {
    /// Sends it a signal by name.
    pub(super) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().unwrap().success());
    }
}

pub(super) struct Installation {
    /// The URL of the database that its processes share.
    database_url: String,
    /// The database, where it is of this installation alone.
    _database: Option<TestDatabase>,
    /// How the server reaches it.
    server_url: String,
    pub(super) redis: TestRedis,
    port: u16,
    server: Child,
    workers: Vec<u32>,
    key: String,
    environment: Vec<(String, String)>,
    http: reqwest::Client,
}

/// The program itself.
pub(super) fn bursar() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.stdin(Stdio::null()).env("RUST_LOG", "warn");
    command
}

/// An admin key of a tenant.
fn key_of(url: &str, tenant: &str) -> String {
    let key = bursar()
        .args(["keys", "create", "--tenant", tenant, "--role", "admin"])
        .env("DATABASE_URL", url)
        .output()
        .unwrap();
    String::from_utf8(key.stdout).unwrap().trim().to_owned()
}

impl Installation {
    /// Migrates, makes an admin key, starts the server, gives credits.
    pub(super) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same, with a server that has this in its environment.
    pub(super) async fn start_with(environment: &[(&str, &str)]) -> Self {
        let database = TestDatabase::empty().await;
        let url = database.url.clone();
        Self::start_on(url.clone(), Some(database), url, environment).await
    }

    /// The same on an empty database of a server of one's own.
    pub(super) async fn start_at(url: String, environment: &[(&str, &str)]) -> Self {
        Self::start_on(url.clone(), None, url, environment).await
    }

    /// The same, with a server that reaches its database through a proxy.
    pub(super) async fn start_behind_a_proxy(environment: &[(&str, &str)]) -> (Self, ChaosProxy) {
        let database = TestDatabase::empty().await;
        let proxy = ChaosProxy::before(&database.url).await;
        let url = database.url.clone();
        let installation = Self::start_on(url, Some(database), proxy.url().to_owned(), environment).await;
        (installation, proxy)
    }

    async fn start_on(
        database_url: String,
        database: Option<TestDatabase>,
        server_url: String,
        environment: &[(&str, &str)],
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let redis = TestRedis::start().await;
        let migrated =
            bursar().arg("migrate").env("DATABASE_URL", &database_url).stdout(Stdio::null()).status().unwrap();
        assert!(migrated.success());
        let key = key_of(&database_url, "acme");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let server = Self::server(&server_url, &redis, port, &environment);
        let http = reqwest::Client::new();
        let installation = Self {
            database_url,
            _database: database,
            server_url,
            redis,
            port,
            server,
            workers: Vec::new(),
            key,
            environment,
            http,
        };
        installation.ready().await;
        installation.grant().await;
        installation
    }

    /// Speaks for another tenant from now on, one with credits.
    pub(super) async fn speak_for(&mut self, tenant: &str) {
        self.key = key_of(&self.database_url, tenant);
        self.grant().await;
    }

    async fn grant(&self) {
        let granted = self
            .http
            .post(self.address("/v1/wallet/grants"))
            .bearer_auth(&self.key)
            .header("Idempotency-Key", "first")
            .json(&json!({"amount": "100000", "kind": "paid"}))
            .send()
            .await
            .unwrap();
        assert!(granted.status().is_success(), "{:?}", granted.text().await);
    }

    fn server(url: &str, redis: &TestRedis, port: u16, environment: &[(String, String)]) -> Child {
        bursar()
            .args(["server", "--port", &port.to_string()])
            .env("DATABASE_URL", url)
            .env("REDIS_URL", redis.url())
            .env("BURSAR_BIND", "127.0.0.1")
            .envs(environment.iter().cloned())
            .spawn()
            .unwrap()
    }

    fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn ready(&self) {
        eventually("the server is ready", START_DEADLINE, || async {
            let answer = self.http.get(self.address("/readyz")).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Starts a worker process.
    pub(super) fn worker(&mut self, environment: &[(&str, &str)]) -> WorkerProcess {
        self.worker_of(&["agent", "default"], environment)
    }

    /// Starts a worker process of these pools.
    pub(super) fn worker_of(&mut self, pools: &[&str], environment: &[(&str, &str)]) -> WorkerProcess {
        let child = bursar()
            .arg("worker")
            .args(pools.iter().flat_map(|pool| ["--pool".to_owned(), format!("{pool}=16")]))
            .env("DATABASE_URL", &self.database_url)
            .env("REDIS_URL", self.redis.url())
            .envs(environment.iter().copied())
            .spawn()
            .unwrap();
        self.workers.push(child.id());
        WorkerProcess(child)
    }

    /// SIGKILL: no last word.
    pub(super) fn kill_nine(&mut self, mut worker: WorkerProcess) {
        worker.0.kill().unwrap();
        worker.0.wait().unwrap();
        self.workers.retain(|pid| *pid != worker.0.id());
    }

    /// SIGTERM, and waits for the end.
    pub(super) fn terminate(&mut self, mut worker: WorkerProcess) {
        let pid = worker.0.id();
        assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
        assert!(worker.0.wait().unwrap().success(), "a worker that is asked to stop ends in order");
        self.workers.retain(|other| *other != pid);
    }

    /// SIGKILL of the server.
    pub(super) fn kill_server(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// SIGKILL of the server, unless it is dead, and a new one at the same address.
    pub(super) async fn restart_server(&mut self) {
        self.kill_server();
        self.server = Self::server(&self.server_url, &self.redis, self.port, &self.environment);
        self.ready().await;
    }

    /// SIGTERM of the server; how it ended, and how long that took.
    pub(super) async fn terminate_server(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        assert!(Command::new("kill").args(["-TERM", &self.server.id().to_string()]).status().unwrap().success());
        let server = std::sync::Mutex::new(&mut self.server);
        let ended = eventually("the server ends", START_DEADLINE, async || server.lock().unwrap().try_wait().unwrap());
        (ended.await, began.elapsed())
    }

    /// The database that its processes share.
    pub(super) fn database_url(&self) -> &str {
        &self.database_url
    }

    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(self.address(path)).bearer_auth(&self.key).send().await.ok()?;
        answer.status().is_success().then_some(())?;
        answer.json().await.ok()
    }

    /// A request for a mission's stream, after the last event that its client has.
    pub(super) fn stream(&self, mission: &str, after: Option<i64>) -> reqwest::RequestBuilder {
        let request = self.http.get(self.address(&format!("/v1/missions/{mission}/stream"))).bearer_auth(&self.key);
        after.into_iter().fold(request, |request, seq| request.header("Last-Event-ID", seq))
    }

    /// Posts; the status and the answer.
    pub(super) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.address(path)).bearer_auth(&self.key).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A request by the tenant's key.
    pub(super) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.address(path)).bearer_auth(&self.key)
    }

    /// Posts under a key until it is answered by a rule and not by an outage; the status and the answer.
    pub(super) async fn insist(&self, path: &str, body: &Value, key: &str) -> (u16, Value) {
        eventually("the server answers", START_DEADLINE * 2, || async {
            let request = self.http.post(self.address(path)).bearer_auth(&self.key).header("Idempotency-Key", key);
            let answer = request.json(body).send().await.ok()?;
            let status = answer.status().as_u16();
            let is_outage = matches!(status, 408 | 429 | 503);
            if is_outage { None } else { Some((status, answer.json().await.ok()?)) }
        })
        .await
    }

    pub(super) async fn put(&self, name: &str, yaml: &str) {
        let put = self
            .http
            .put(self.address(&format!("/v1/workflows/{name}")))
            .bearer_auth(&self.key)
            .header("Content-Type", "application/yaml")
            .body(yaml.to_owned())
            .send()
            .await
            .unwrap();
        assert!(put.status().is_success(), "{:?}", put.text().await);
    }

    fn submit_request(&self, workflow: &str, input: Value, key: Option<&str>) -> reqwest::RequestBuilder {
        let mut request = self
            .http
            .post(self.address("/v1/missions"))
            .bearer_auth(&self.key)
            .json(&json!({"workflow": workflow, "input": input}));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        request
    }

    /// Submits a mission; its id.
    pub(super) async fn submit(&self, workflow: &str, input: Value, key: Option<&str>) -> String {
        let answer = self.submit_request(workflow, input, key).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{status} {body:#}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// Submits without waiting for the answer, which may never come.
    pub(super) fn submit_hastily(&self, workflow: &str, input: Value, key: &str) -> tokio::task::JoinHandle<()> {
        let request = self.submit_request(workflow, input, Some(key));
        tokio::spawn(async move { drop(request.send().await) })
    }

    /// `bursar verify` finds nothing.
    pub(super) fn verify(&self) {
        let output = bursar().arg("verify").env("DATABASE_URL", &self.database_url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        for pid in &self.workers {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}
