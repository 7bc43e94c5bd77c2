//! A whole small installation in one process: SQLite, queue, sweep, worker pool, simulated model, dashboard.
//!
//! Missions run for real; tests wait for their frames, never for time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use bursar::clock::{Clock, new_id, new_token};
use bursar::engine::{Engine, PoolConfig, Sweeper, WorkerPool};
use bursar::http::{App, HttpSettings};
use bursar::queue::MemoryQueue;
use bursar::store::{ApiKey, Role, Store};
use bursar::stream::{FrameBody, Hub, Relay, Watch};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Submission;
use bursar_domain::id::{MissionId, ProjectId, TenantId, WalletId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::pricing::PriceBook;
use bursar_domain::record::GrantKind;
use bursar_domain::workflow::{Syntax, parse};
use bursar_workers::Providers;
use bursar_workers::providers::SimulatedConfig;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(15);

/// A tenant with a wallet and a key.
pub struct Tenant {
    pub id: TenantId,
    pub wallet: WalletId,
    pub key: ApiKey,
    pub secret: String,
}

/// The installation. Its file goes with it.
pub struct Site {
    pub app: App,
    pub router: Router,
    file: PathBuf,
    stop: CancellationToken,
    _pool: WorkerPool,
}

/// What the server answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    /// Where it sends the browser.
    pub fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    /// The cookie it sets, as a browser sends it back.
    pub fn cookie(&self) -> String {
        let cookie = self.headers.get(header::SET_COOKIE).expect("a cookie").to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.file.display()));
        }
    }
}

impl Site {
    /// Starts everything; links are made for plain http on localhost.
    pub async fn start() -> Self {
        Self::start_at("http://localhost:8080").await
    }

    /// Starts everything under a public address.
    pub async fn start_at(public_url: &str) -> Self {
        let file = std::env::temp_dir().join(format!("bursar-dashboard-{}.db", new_token()));
        let store: Arc<dyn Store> = bursar::store::open(&format!("sqlite://{}", file.display()), 4).await.unwrap();
        store.migrate().await.unwrap();
        let clock = Arc::new(Clock::new());
        let relay = Relay::local(Arc::new(Hub::default()));
        let engine = Engine::new(store, Arc::new(MemoryQueue::default()), relay, clock);
        let prices: Value = toml::from_str(include_str!("../../prices/default.toml")).unwrap();
        engine.activate_prices(&PriceBook::from_value(prices).unwrap()).await.unwrap();
        let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).build().unwrap();
        let pools = ["agent", "default"].map(|name| PoolConfig { name: name.to_owned(), slots: 8 });
        let pool = WorkerPool::start(&engine, Arc::new(providers), &pools, "test-box".to_owned(), LEASE);
        let stop = CancellationToken::new();
        tokio::spawn(Sweeper::new(engine.clone(), LEASE).run(stop.clone()));
        let settings = HttpSettings { public_url: public_url.to_owned(), top_up_url: None, session_secret: [7; 32] };
        let app = App { engine, settings: Arc::new(settings) };
        let router = bursar::dashboard::router(app.clone());
        Self { app, router, file, stop, _pool: pool }
    }

    /// A tenant with 1,000 credits and a key of the role.
    pub async fn tenant(&self, name: &str, role: Role) -> Tenant {
        let engine = &self.app.engine;
        let (id, wallet) = (new_id(), new_id());
        engine.store().add_tenant(id, name, engine.clock().now()).await.unwrap();
        engine.open_wallet(wallet, id).await.unwrap();
        let grant = GrantRequest {
            id: new_id(),
            op_id: new_id(),
            wallet_id: wallet,
            kind: GrantKind::Paid,
            priority: 50,
            amount: Ucr::from_credits(1_000),
            expires_at: None,
            reason: None,
            cost_basis_uusd: None,
            actor: None,
            reference: name.to_owned(),
        };
        engine.grant(&grant).await.unwrap();
        let secret = format!("bsk_test_{}", new_token());
        let key = ApiKey {
            id: new_id(),
            tenant_id: id,
            name: format!("{name}'s key"),
            prefix: secret[..12].to_owned(),
            role,
            created_at: engine.clock().now(),
            revoked_at: None,
        };
        let hash = format!("{:x}", Sha256::digest(secret.as_bytes()));
        engine.store().add_key(&key, &hash).await.unwrap();
        Tenant { id, wallet, key, secret }
    }

    /// Gives credits.
    pub async fn grant(&self, tenant: &Tenant, credits: i64, priority: i16, reason: &str) {
        let id = new_id();
        let grant = GrantRequest {
            id,
            op_id: new_id(),
            wallet_id: tenant.wallet,
            kind: GrantKind::Promo,
            priority,
            amount: Ucr::from_credits(credits),
            expires_at: None,
            reason: Some(reason.to_owned()),
            cost_basis_uusd: None,
            actor: None,
            reference: id.to_string(),
        };
        self.app.engine.grant(&grant).await.unwrap();
    }

    /// Submits a mission of a workflow written as YAML, watched from before it exists.
    pub async fn submit(&self, tenant: &Tenant, workflow: &str, input: Value) -> (MissionId, Watch) {
        self.submit_into(tenant, workflow, input, None).await
    }

    /// Submits a mission into a project.
    pub async fn submit_into(
        &self,
        tenant: &Tenant,
        workflow: &str,
        input: Value,
        project_id: Option<ProjectId>,
    ) -> (MissionId, Watch) {
        let engine = &self.app.engine;
        let definition = parse(workflow, Syntax::Yaml).unwrap();
        let put = engine.put_workflow(tenant.id, &definition).await.unwrap();
        let (price_book_id, _) = engine.active_prices().await.unwrap().unwrap();
        let mission_id = new_id();
        let watch = engine.relay().hub().watch(mission_id);
        let submission = Submission {
            mission_id,
            run_id: new_id(),
            tenant_id: tenant.id,
            wallet_id: tenant.wallet,
            workflow_id: put.workflow.id,
            price_book_id,
            input,
            metadata: None,
            tags: Vec::new(),
            idempotency_key: None,
            request_hash: String::new(),
            priority: 0,
            budget_ucr: None,
            on_exhausted: None,
            dedupe: None,
            project_id,
        };
        engine.submit(submission).await.unwrap();
        (mission_id, watch)
    }

    /// Runs a mission to its end.
    pub async fn run(&self, tenant: &Tenant, workflow: &str, input: Value) -> MissionId {
        let (id, mut watch) = self.submit(tenant, workflow, input).await;
        self.until_over(id, &mut watch).await;
        id
    }

    /// Waits until the mission is over.
    pub async fn until_over(&self, id: MissionId, watch: &mut Watch) {
        loop {
            let mission = self.app.engine.store().mission(None, id).await.unwrap().unwrap();
            if mission.state.is_final() {
                return;
            }
            until(watch, |body| matches!(body, FrameBody::Event { .. })).await;
        }
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = to_bytes(response.into_body(), 16 << 20).await.unwrap();
        Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Asks for a page, signed in with the cookie.
    pub async fn get(&self, path: &str, cookie: &str) -> Answer {
        let request = Request::get(path).header(header::COOKIE, cookie).body(Body::empty()).unwrap();
        self.send(request).await
    }

    /// Sends a form as our own page does.
    pub async fn post(&self, path: &str, cookie: &str, form: &str) -> Answer {
        let request = Request::post(path)
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", "same-origin");
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    /// Signs in and returns the cookie.
    pub async fn sign_in(&self, tenant: &Tenant) -> String {
        let answer = self.post("/dashboard/login", "", &format!("key={}", tenant.secret)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        answer.cookie()
    }
}

/// Waits for a frame.
pub async fn until(watch: &mut Watch, mut wanted: impl FnMut(&FrameBody) -> bool) {
    let found = async {
        loop {
            if wanted(&watch.frames.recv().await.unwrap().body) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the frame came in time");
}
