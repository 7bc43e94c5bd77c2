//! A store with an engine on it, of either kind, and real work done there: what the auditor is let loose on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar::clock::{Clock, new_id};
use bursar::engine::{Engine, PoolConfig, Submit, WorkerPool};
use bursar::queue::MemoryQueue;
use bursar::store::{self, Arg, Dialect, Store};
use bursar::stream::{Hub, Relay};
use bursar::verify::{Report, verify};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Submission;
use bursar_domain::id::{MissionId, TenantId, WalletId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::pricing::PriceBook;
use bursar_domain::record::GrantKind;
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::{self, Syntax};
use bursar_workers::Providers;
use bursar_workers::providers::SimulatedConfig;
use serde_json::{Value, json};

/// Two priced steps, one of them with units, and a free one; a fee of two credits.
const WORKFLOW: &str = r#"
workflow: audited
inputs: { type: object, properties: { how: { type: string } } }
flat_fee: 2
defaults:
  model: simulated-large
  max_output_tokens: 200
  retry: { max_attempts: 3, backoff: { initial: 10ms, factor: 1, max: 10ms, jitter: false } }
agents:
  writer: { instructions: "You write." }
nodes:
  draft: { agent: writer, prompt: "Draft. {{ inputs.how }}", units: { step: 3 } }
  review: { needs: [draft], agent: writer, prompt: "Review {{ nodes.draft.output }} {{ inputs.how }}" }
  card: { needs: [review], transform: { text: "{{ nodes.review.output }}" } }
"#;

/// One tenant with a wallet on a store of its own.
pub(super) struct Site {
    pub(super) engine: Engine,
    pub(super) tenant: TenantId,
    pub(super) wallet: WalletId,
    folder: Option<PathBuf>,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Opens a new, empty store of that kind.
async fn empty_store(dialect: Dialect) -> (Arc<dyn Store>, Option<PathBuf>) {
    let name = format!("bursar_verify_{}", bursar::clock::new_token());
    match dialect {
        Dialect::Sqlite => {
            let folder = std::env::temp_dir().join(name);
            let url = format!("sqlite://{}", folder.join("bursar.db").display());
            (store::open(&url, 4).await.unwrap(), Some(folder))
        }
        Dialect::Postgres => {
            let base = std::env::var("BURSAR_TEST_DATABASE_URL")
                .expect("a database to test on: run this through `tests/support/services run --`");
            let server = store::open(&base, 2).await.unwrap();
            server.execute(&format!("create database {name}"), &[]).await.unwrap();
            server.close().await;
            let (address, _) = base.rsplit_once('/').unwrap();
            (store::open(&format!("{address}/{name}"), 6).await.unwrap(), None)
        }
    }
}

impl Site {
    /// A site with 3 credits that were given and expire one day, and 5,000 that were bought.
    pub(super) async fn open(dialect: Dialect) -> Self {
        let (store, folder) = empty_store(dialect).await;
        store.migrate().await.unwrap();
        let clock = Arc::new(Clock::new());
        let asked = Instant::now();
        clock.synchronise(store.time().await.unwrap(), asked);
        let relay = Relay::local(Arc::new(Hub::default()));
        let engine = Engine::new(store, Arc::new(MemoryQueue::default()), relay, clock);
        let book: Value = toml::from_str(include_str!("../../prices/default.toml")).unwrap();
        engine.activate_prices(&PriceBook::from_value(book).unwrap()).await.unwrap();
        let (tenant, wallet) = (new_id(), new_id());
        engine.store().add_tenant(tenant, "acme", engine.clock().now()).await.unwrap();
        engine.open_wallet(wallet, tenant).await.unwrap();
        let site = Self { engine, tenant, wallet, folder };
        site.grant(GrantKind::Promo, 3, Some(86_400_000)).await;
        site.grant(GrantKind::Paid, 5_000, None).await;
        site
    }

    /// A site where one mission succeeded and another was submitted: its fee and its first task hold credits.
    pub(super) async fn with_work(dialect: Dialect) -> Self {
        let site = Self::open(dialect).await;
        let pool = site.workers(4);
        site.submit("[[simulate tokens=40]]").await;
        site.until("select count(*) as n from runs where state <> 'succeeded'").await;
        // once drained it takes nothing new; how long its workers need to end does not matter here
        let _ = tokio::time::timeout(Duration::from_millis(300), pool.drain(Duration::from_secs(5))).await;
        site.submit("[[simulate tokens=40]]").await;
        site
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.engine.store()
    }

    pub(super) async fn grant(&self, kind: GrantKind, credits: i64, lasts_ms: Option<i64>) {
        let request = GrantRequest {
            id: new_id(),
            op_id: new_id(),
            wallet_id: self.wallet,
            kind,
            priority: 50,
            amount: Ucr::from_credits(credits),
            expires_at: lasts_ms.map(|ms| Timestamp::from_ms(self.engine.clock().now().ms() + ms)),
            reason: None,
            cost_basis_uusd: None,
            actor: None,
            reference: bursar::clock::new_token(),
        };
        self.engine.grant(&request).await.unwrap();
    }

    /// Starts workers of all pools that the workflow uses.
    pub(super) fn workers(&self, slots: usize) -> WorkerPool {
        let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).build().unwrap();
        let definition = workflow::parse(WORKFLOW, Syntax::Yaml).unwrap();
        let names: std::collections::BTreeSet<String> = definition.nodes.into_iter().map(|node| node.pool).collect();
        let pools: Vec<PoolConfig> = names.into_iter().map(|name| PoolConfig { name, slots }).collect();
        WorkerPool::start(&self.engine, Arc::new(providers), &pools, "test".to_owned(), Duration::from_secs(15))
    }

    /// Submits a mission whose steps do what `how` tells the simulated model.
    pub(super) async fn submit(&self, how: &str) -> MissionId {
        let definition = workflow::parse(WORKFLOW, Syntax::Yaml).unwrap();
        let put = self.engine.put_workflow(self.tenant, &definition).await.unwrap();
        let (price_book_id, _) = self.engine.active_prices().await.unwrap().unwrap();
        let mission_id = new_id();
        let Submit(submission) = Submit(Submission {
            mission_id,
            run_id: new_id(),
            tenant_id: self.tenant,
            wallet_id: self.wallet,
            workflow_id: put.workflow.id,
            price_book_id,
            input: json!({"how": how}),
            metadata: None,
            tags: Vec::new(),
            idempotency_key: None,
            request_hash: String::new(),
            priority: 0,
            budget_ucr: None,
            on_exhausted: None,
            dedupe: None,
            project_id: None,
        });
        self.engine.submit(submission).await.unwrap();
        mission_id
    }

    /// Waits until a count is zero.
    pub(super) async fn until(&self, sql: &str) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.number(sql).await != 0 {
            assert!(Instant::now() < deadline, "a minute passed: {sql}\n{}", self.unfinished().await);
            ticks.tick().await;
        }
    }

    /// The number in column `n` of the only row.
    pub(super) async fn number(&self, sql: &str) -> i64 {
        self.store().rows(sql, &[]).await.unwrap()[0]["n"].as_i64().unwrap()
    }

    /// The text in column `id` of the first row.
    pub(super) async fn id(&self, sql: &str) -> String {
        let rows = self.store().rows(sql, &[]).await.unwrap();
        rows.first().unwrap_or_else(|| panic!("no row: {sql}"))["id"].as_str().unwrap().to_owned()
    }

    /// Changes rows behind the engine's back; exactly `rows` of them.
    pub(super) async fn tamper(&self, sql: &str, args: &[Arg], rows: u64) {
        assert_eq!(self.store().execute(sql, args).await.unwrap(), rows, "{sql}");
    }

    /// Takes away what protects the ledger.
    pub(super) async fn unprotect_ops(&self) {
        let statements: &[&str] = match self.store().dialect() {
            Dialect::Postgres => &["alter table ops disable trigger all"],
            Dialect::Sqlite => &["drop trigger ops_never_updated", "drop trigger ops_never_deleted"],
        };
        for sql in statements {
            self.store().execute(sql, &[]).await.unwrap();
        }
    }

    /// What has not come to an end, for people who read a failed test.
    pub(super) async fn unfinished(&self) -> String {
        let sql = "
            select t.id, t.node, t.state, t.wait, t.status_reason, t.attempt, t.due_at, t.lease_until, r.state as run
            from runs r
            left join tasks t on t.run_id = r.id and t.ended_at is null
            where r.ended_at is null";
        let rows = self.store().rows(sql, &[]).await.unwrap();
        let lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
        format!("now {}\n{}", self.engine.clock().now().ms(), lines.join("\n"))
    }

    pub(super) async fn verify(&self) -> Report {
        verify(self.store()).await.unwrap()
    }
}
