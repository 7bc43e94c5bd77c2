//! A server in this process: store, queue, workers, sweep and listener, with two tenants and an admin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bursar::clock::{Clock, new_id};
use bursar::engine::{Engine, PoolConfig, Sweeper, WorkerPool};
use bursar::http::{self, App, HttpSettings, Patience};
use bursar::queue::MemoryQueue;
use bursar::store::{self, ApiKey, Role};
use bursar::stream::{Hub, Relay};
use bursar_domain::credits::Ucr;
use bursar_domain::id::{TenantId, WalletId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::pricing::PriceBook;
use bursar_domain::record::GrantKind;
use bursar_workers::Providers;
use bursar_workers::providers::SimulatedConfig;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Credits that each tenant begins with.
pub const CREDITS: i64 = 100;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body, if the status is the expected one.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    /// Checks that it is a problem with this status and code.
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text);
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["type"], format!("/problems/{code}"));
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"), "{body}");
        assert!(body["title"].is_string() && body["detail"].is_string() && body["retryable"].is_boolean(), "{body}");
        body
    }
}

/// The secrets of one tenant.
pub struct Tenant {
    pub id: TenantId,
    pub key: String,
}

pub struct Server {
    pub base: String,
    pub client: reqwest::Client,
    pub engine: Engine,
    /// The tenant that the short methods speak for.
    pub ours: Tenant,
    pub other: Tenant,
    /// An admin's key (of a tenant of its own).
    pub admin: String,
    pub stop: CancellationToken,
    pub listener: Option<JoinHandle<()>>,
    folder: PathBuf,
    _workers: Option<WorkerPool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How to start a server.
pub struct Setup {
    /// Slots for agents; with none, agent tasks stay ready.
    pub agent_slots: usize,
    pub patience: Patience,
}

impl Default for Setup {
    fn default() -> Self {
        Self { agent_slots: 4, patience: Patience::default() }
    }
}

async fn engine(folder: &std::path::Path) -> Engine {
    std::fs::create_dir_all(folder).unwrap();
    let store = store::open(&format!("sqlite://{}", folder.join("bursar.db").display()), 4).await.unwrap();
    store.migrate().await.unwrap();
    let relay = Relay::local(Arc::new(Hub::default()));
    let engine = Engine::new(store, Arc::new(MemoryQueue::default()), relay, Arc::new(Clock::new()));
    let prices: Value = toml::from_str(include_str!("../../prices/default.toml")).unwrap();
    engine.activate_prices(&PriceBook::from_value(prices).unwrap()).await.unwrap();
    engine
}

async fn tenant(engine: &Engine, name: &str, role: Role) -> Tenant {
    let (id, wallet): (TenantId, WalletId) = (new_id(), new_id());
    let now = engine.clock().now();
    engine.store().add_tenant(id, name, now).await.unwrap();
    engine.open_wallet(wallet, id).await.unwrap();
    let grant = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet,
        kind: GrantKind::Paid,
        priority: 50,
        amount: Ucr::from_credits(CREDITS),
        expires_at: None,
        reason: None,
        cost_basis_uusd: None,
        actor: None,
        reference: "start".to_owned(),
    };
    engine.grant(&grant).await.unwrap();
    Tenant { id, key: key(engine, id, role).await }
}

/// A new key of a tenant.
pub async fn key(engine: &Engine, tenant_id: TenantId, role: Role) -> String {
    let (secret, prefix, hash) = http::new_secret();
    let created_at = engine.clock().now();
    let key = ApiKey { id: new_id(), tenant_id, name: "test".to_owned(), prefix, role, created_at, revoked_at: None };
    engine.store().add_key(&key, &hash).await.unwrap();
    secret
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("bursar-http-{}", uuid::Uuid::now_v7()));
        let engine = engine(&folder).await;
        let ours = tenant(&engine, "ours", Role::User).await;
        let other = tenant(&engine, "other", Role::User).await;
        let admin = tenant(&engine, "operators", Role::Admin).await.key;

        let stop = CancellationToken::new();
        let lease = Duration::from_secs(15);
        let simulated = SimulatedConfig { word_delay_ms: 0 };
        let providers = Arc::new(Providers::builder().simulated_with(simulated).build().unwrap());
        let mut pools = vec![PoolConfig { name: "default".to_owned(), slots: 4 }];
        if setup.agent_slots > 0 {
            pools.push(PoolConfig { name: "agent".to_owned(), slots: setup.agent_slots });
        }
        let workers = WorkerPool::start(&engine, providers, &pools, "test".to_owned(), lease);
        tokio::spawn(Sweeper::new(engine.clone(), lease).run(stop.clone()));

        let settings = HttpSettings {
            public_url: "https://bursar.example".to_owned(),
            top_up_url: Some("https://shop.example/credits".to_owned()),
            session_secret: [7; 32],
        };
        let app = App { engine: engine.clone(), settings: Arc::new(settings) };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", socket.local_addr().unwrap());
        let router = http::router(app.clone()).merge(http::metrics_router(app));
        let grace = Duration::from_secs(5);
        let listener = tokio::spawn(http::serve_with(socket, router, stop.clone(), grace, setup.patience));
        let server = Self {
            base,
            client: reqwest::Client::new(),
            engine,
            ours,
            other,
            admin,
            stop,
            listener: Some(listener),
            folder,
            _workers: Some(workers),
        };
        server.put_workflows().await;
        server
    }

    async fn put_workflows(&self) {
        for key in [&self.ours.key, &self.admin] {
            for workflow in [note(), talk(), dear()] {
                let path = format!("/v1/workflows/{}", workflow["workflow"].as_str().unwrap());
                let request = self.request(Method::PUT, &path).bearer_auth(key).json(&workflow);
                self.send(request).await.expect(201);
            }
        }
    }

    /// A request without a credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(&self.ours.key)).await
    }

    pub async fn get_with(&self, path: &str, name: &'static str, value: &str) -> Answer {
        let request = self.request(Method::GET, path).bearer_auth(&self.ours.key);
        self.send(request.header(HeaderName::from_static(name), value)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).bearer_auth(&self.ours.key).json(body)).await
    }

    pub async fn admin_get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(&self.admin)).await
    }

    /// Submits and waits for the end.
    pub async fn run(&self, workflow: &str, input: &Value) -> Value {
        let body = json!({"workflow": workflow, "input": input});
        self.post("/v1/missions?wait=25", &body).await.expect(202)
    }

    /// Submits without waiting; the mission's id.
    pub async fn submit(&self, workflow: &str, input: &Value) -> String {
        let mission = self.post("/v1/missions", &json!({"workflow": workflow, "input": input})).await.expect(202);
        mission["id"].as_str().unwrap().to_owned()
    }

    /// The mission as soon as it is over.
    pub async fn finished(&self, id: &str) -> Value {
        self.long_poll(id, |mission| mission["ended_at"].is_string()).await
    }

    /// The mission as soon as it is as wished.
    pub async fn long_poll(&self, id: &str, is_as_wished: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/missions/{id}?wait=20");
        let mut etag = "\"none\"".to_owned();
        for _ in 0..50 {
            let answer = self.get_with(&path, "if-none-match", &etag).await;
            if answer.status == StatusCode::OK && is_as_wished(&answer.json()) {
                return answer.json();
            }
            answer.header("etag").unwrap().clone_into(&mut etag);
        }
        panic!("{id} never became as wished")
    }
}

/// Costs nothing, needs no model.
pub fn note() -> Value {
    json!({
        "workflow": "note",
        "inputs": {
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": {"type": "string", "maxLength": 50}},
        },
        "flat_fee": "0",
        "nodes": {"card": {"transform": {"to": "{{ inputs.name }}", "list": ["a", "b"]}}},
        "outputs": {"to": "nodes.card.output.to", "second": "nodes.card.output.list.1", "gone": "nodes.card.output.no"},
    })
}

/// A priced model call, then a step that shapes the answer.
pub fn talk() -> Value {
    json!({
        "workflow": "talk",
        "flat_fee": "2",
        "agents": {"writer": {"instructions": "You write.", "model": "simulated-small", "max_output_tokens": 200}},
        "nodes": {
            "write": {"agent": "writer", "prompt": "{{ inputs.prompt }}", "retry": {"max_attempts": 2, "backoff": {"initial": "1ms"}}},
            "card": {"needs": ["write"], "transform": {"text": "{{ nodes.write.output }}"}},
        },
        "outputs": {"text": "nodes.card.output.text"},
    })
}

/// More than anybody has.
pub fn dear() -> Value {
    let mut workflow = note();
    workflow["workflow"] = json!("dear");
    workflow["flat_fee"] = json!("1000.5");
    workflow
}
