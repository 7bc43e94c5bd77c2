//! Scratch.
use std::sync::Arc;
use std::time::Duration;
use bursar::clock::{Clock, new_id, new_token};
use bursar::engine::{Engine, PoolConfig, Sweeper, WorkerPool};
use bursar::http::{App, HttpSettings};
use bursar::queue::MemoryQueue;
use bursar::store::{ApiKey, Role, Store};
use bursar::stream::{Hub, Relay};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Submission;
use bursar_domain::ledger::GrantRequest;
use bursar_domain::pricing::PriceBook;
use bursar_domain::record::GrantKind;
use bursar_domain::workflow::{Syntax, parse};
use bursar_workers::Providers;
use bursar_workers::providers::SimulatedConfig;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const HALF: &str = "
workflow: press-review
nodes:
  collect: { transform: { ok: 'yes' } }
  headlines: { needs: [collect], prompt: 'a [[simulate tokens=90]]', model: simulated-small }
  translate: { needs: [headlines], prompt: 'b [[simulate fail=permanent]]', model: simulated-small }
  fact-check: { needs: [headlines], prompt: 'c [[simulate fail=retryable times=2]]', model: simulated-large }
  publish: { needs: [translate, fact-check, collect], transform: { x: 'y' } }
";
const WIDE: &str = "
workflow: wide-research
nodes:
  outline: { prompt: 'a [[simulate tokens=40]]', model: simulated-small }
  source-1: { needs: [outline], prompt: 'b [[simulate tokens=900]]', model: simulated-small }
  source-2: { needs: [outline], prompt: 'c [[simulate tokens=700]]', model: simulated-small }
  source-3: { needs: [outline], prompt: 'd [[simulate tokens=60]]', model: simulated-large }
  source-4: { needs: [outline], prompt: 'e [[simulate fail=retryable times=3]]', model: simulated-large }
  pictures: { needs: [outline], pool: gpu, prompt: 'f', model: simulated-large }
  pause: { needs: [source-3], sleep: 10m }
  merge: { needs: [source-1, source-2, source-3, source-4], prompt: 'g', model: simulated-large }
  layout: { needs: [merge, pictures, pause], transform: { x: '1' } }
  a-rather-long-name-of-a-node: { needs: [layout, outline], transform: { x: '1' } }
";

#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().init();
    let store: Arc<dyn Store> = bursar::store::open("sqlite:///tmp/scratch/dash.db", 4).await.unwrap();
    store.migrate().await.unwrap();
    let clock = Arc::new(Clock::new());
    let engine = Engine::new(store, Arc::new(MemoryQueue::default()), Relay::local(Arc::new(Hub::default())), clock);
    let prices: Value = toml::from_str(include_str!("../prices/default.toml")).unwrap();
    engine.activate_prices(&PriceBook::from_value(prices).unwrap()).await.unwrap();
    let providers = Arc::new(Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 120 }).build().unwrap());
    let pools = [("agent", 8), ("default", 4)].map(|(name, slots)| PoolConfig { name: name.to_owned(), slots });
    let pool = WorkerPool::start(&engine, providers, &pools, "box-1.example".to_owned(), Duration::from_secs(15));
    let stop = CancellationToken::new();
    tokio::spawn(Sweeper::new(engine.clone(), Duration::from_secs(15)).run(stop.clone()));
    let settings = HttpSettings { public_url: "http://localhost:8099".into(), top_up_url: None, session_secret: [7; 32] };
    let app = App { engine: engine.clone(), settings: Arc::new(settings) };
    let (tenant, wallet) = (new_id(), new_id());
    engine.store().add_tenant(tenant, "demo", engine.clock().now()).await.unwrap();
    engine.open_wallet(wallet, tenant).await.unwrap();
    let grant = GrantRequest { id: new_id(), op_id: new_id(), wallet_id: wallet, kind: GrantKind::Paid, priority: 50,
        amount: Ucr::from_credits(1_000), expires_at: None, reason: None, actor: None, reference: "x".into() };
    engine.grant(&grant).await.unwrap();
    for role in [Role::Admin, Role::User] {
        let secret = format!("bsk_test_{}", new_token());
        let key = ApiKey { id: new_id(), tenant_id: tenant, name: format!("demo {}", role.as_str()), prefix: secret[..12].to_owned(), role,
            created_at: engine.clock().now(), revoked_at: None };
        engine.store().add_key(&key, &format!("{:x}", Sha256::digest(secret.as_bytes()))).await.unwrap();
        std::fs::write(format!("/tmp/scratch/key-{}", role.as_str()), &secret).unwrap();
        println!("{}", bursar::dashboard::login_link(&app, &key, "/dashboard/missions"));
    }
    let company = include_str!("../workflows/software-company.yaml").replace("gpt-4.1-mini", "simulated-small").replace("gpt-4.1", "simulated-large");
    let submit = async |yaml: &str, input: Value| {
        let definition = parse(yaml, Syntax::Yaml).unwrap_or_else(|p| panic!("{p:?}"));
        let put = engine.put_workflow(tenant, &definition).await.unwrap();
        let (price_book_id, _) = engine.active_prices().await.unwrap().unwrap();
        let id = new_id();
        engine.submit(Submission { mission_id: id, run_id: new_id(), tenant_id: tenant, wallet_id: wallet, workflow_id: put.workflow.id,
            price_book_id, input, metadata: None, idempotency_key: None, request_hash: String::new(), priority: 0, budget_ucr: None, on_exhausted: None }).await.unwrap();
        id
    };
    let done = submit(&company, json!({"idea": "a chess clock for three players"})).await;
    let failed = submit(HALF, json!({})).await;
    std::fs::write("/tmp/scratch/ids", format!("{done}\n{failed}\n")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8099").await.unwrap();
    let router = bursar::dashboard::router(app);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    loop {
        // a fresh mission whenever asked for
        if std::fs::remove_file("/tmp/scratch/more").is_ok() {
            let id = submit(WIDE, json!({})).await;
            let second = submit(&company, json!({"idea": "a kitchen scale"})).await;
            std::fs::write("/tmp/scratch/running", format!("{id}\n{second}\n")).unwrap();
        }
        if std::fs::exists("/tmp/scratch/stop").unwrap() { break }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    drop(pool);
}
