//! A whole Bursar in one test: a store and a queue of its own, and any number of "processes" on them, each an engine
//! with workers and a sweep, with the simulated provider at full speed.

use std::sync::Arc;
use std::time::Duration;

use bursar::clock::{Clock, new_id};
use bursar::engine::{Engine, PoolConfig, SubmitError, Submitted, Sweeper, WorkerPool};
use bursar::link::RedisLink;
use bursar::queue::{MemoryQueue, Queue, RedisQueue};
use bursar::rates::{RateLimits, Rates};
use bursar::store::Store;
use bursar::store::read::{MissionView, TaskView, WorkflowView};
use bursar::stream::{Hub, Relay};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Submission;
use bursar_domain::id::{MissionId, PriceBookId, TenantId, WalletId, WorkflowId};
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use bursar_workers::Providers;
use bursar_workers::providers::SimulatedConfig;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::hand::definition;
use super::redis::TestRedis;
use super::stores::{Place, Storage};
use super::{default_prices, eventually};

/// How long leases last in these tests: short, but long enough for a heartbeat on a busy machine.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where ready tasks are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queues {
    /// In process.
    Memory,
    /// In a Redis of the test's own.
    Redis,
}

/// Store, queue, a tenant with a wallet, and one engine on them.
#[derive(Debug)]
pub(crate) struct World {
    // dropped in this order: first what uses the store, then the store's place
    /// The first process.
    pub(crate) process: Process,
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Its wallet.
    pub(crate) wallet: WalletId,
    /// The active prices.
    pub(crate) prices: PriceBookId,
    /// The Redis, where there is one.
    pub(crate) redis: Option<TestRedis>,
    /// Where the store lives.
    pub(crate) place: Place,
}

/// What one process of a deployment has: an engine, a sweep, and workers once they are started.
#[derive(Debug)]
pub(crate) struct Process {
    /// The engine.
    pub(crate) engine: Engine,
    workers: Option<WorkerPool>,
    sweep: JoinHandle<()>,
    stop: CancellationToken,
}

impl Process {
    /// An engine and its sweep on a store and a queue; no workers yet.
    pub(crate) async fn start(database_url: &str, redis_url: Option<&str>) -> Self {
        Self::start_limited(database_url, redis_url, RateLimits::default()).await
    }

    /// The same, with limits.
    pub(crate) async fn start_limited(database_url: &str, redis_url: Option<&str>, limits: RateLimits) -> Self {
        let store = bursar::store::open(database_url, 8).await.unwrap();
        let clock = Arc::new(Clock::new());
        let asked = std::time::Instant::now();
        clock.synchronise(store.time().await.unwrap(), asked);
        let stop = CancellationToken::new();
        let hub = Arc::new(Hub::default());
        let (queue, relay, rates): (Arc<dyn Queue>, Relay, Rates) = match redis_url {
            None => (Arc::new(MemoryQueue::default()), Relay::local(hub), Rates::local(limits)),
            Some(url) => {
                let link = RedisLink::new(url).unwrap();
                let queue = Arc::new(RedisQueue::new(link.clone(), clock.clone()));
                (queue, Relay::through_redis(hub, link.clone(), stop.clone()), Rates::shared(limits, link))
            }
        };
        let engine = Engine::new(store, queue, relay, clock);
        engine.know_rates(rates);
        let sweep = tokio::spawn(Sweeper::new(engine.clone(), LEASE).run(stop.clone()));
        Self { engine, workers: None, sweep, stop }
    }

    /// Starts workers: `slots` of each pool that the format uses by default.
    pub(crate) fn work(&mut self, slots: usize) {
        self.work_with_lease(slots, LEASE);
    }

    /// Starts workers with leases of their own length.
    pub(crate) fn work_with_lease(&mut self, slots: usize, lease: Duration) {
        let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).build().unwrap();
        self.work_with(providers, slots, lease);
    }

    /// Starts workers with providers and tools of their own.
    pub(crate) fn work_with(&mut self, providers: Providers, slots: usize, lease: Duration) {
        let pools = ["default", "agent", "http", "exec"].map(|name| PoolConfig { name: name.to_owned(), slots });
        let workers = WorkerPool::start(&self.engine, Arc::new(providers), &pools, "test".to_owned(), lease);
        self.workers = Some(workers);
    }

    /// Drains its workers.
    pub(crate) async fn drain(&mut self, grace: Duration) -> bursar::engine::Drained {
        self.workers.take().expect("it has workers").drain(grace).await
    }

    /// The id of its workers.
    pub(crate) fn worker_id(&self) -> bursar_domain::id::WorkerId {
        self.workers.as_ref().expect("it has workers").worker_id()
    }

    /// Ends its sweep: from now on time brings nothing.
    pub(crate) async fn stop_sweep(&mut self) {
        self.stop.cancel();
        let _ = (&mut self.sweep).await;
    }

    /// Ends everything in order.
    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    /// Ends everything in order; only good to be replaced afterwards.
    pub(crate) async fn end(&mut self) {
        if let Some(workers) = self.workers.take() {
            workers.drain(Duration::from_secs(5)).await;
        }
        self.stop.cancel();
        let _ = (&mut self.sweep).await;
        self.engine.store().close().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// A fresh world without workers.
    pub(crate) async fn new(storage: Storage, queues: Queues) -> Self {
        let place = Place::migrated(storage).await;
        let redis = match queues {
            Queues::Memory => None,
            Queues::Redis => Some(TestRedis::start().await),
        };
        let process = Process::start(&place.url(), redis.as_ref().map(TestRedis::url).as_deref()).await;
        let engine = process.engine.clone();
        let (tenant, wallet) = (new_id(), new_id());
        engine.store().add_tenant(tenant, "first", engine.clock().now()).await.unwrap();
        engine.open_wallet(wallet, tenant).await.unwrap();
        engine.activate_prices(&default_prices()).await.unwrap();
        let (prices, _) = engine.active_prices().await.unwrap().expect("they were activated");
        Self { process, tenant, wallet, prices, redis, place }
    }

    /// A fresh world with workers and 1,000 credits.
    pub(crate) async fn working(storage: Storage, queues: Queues) -> Self {
        let mut world = Self::new(storage, queues).await;
        world.grant(1_000).await;
        world.process.work(8);
        world
    }

    /// A world of that storage with workers and credits, its queue in memory.
    pub(crate) async fn on(storage: Storage) -> Self {
        Self::working(storage, Queues::Memory).await
    }

    /// Another process on the same store and queue.
    pub(crate) async fn another_process(&self) -> Process {
        Process::start(&self.place.url(), self.redis.as_ref().map(TestRedis::url).as_deref()).await
    }

    /// The first engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.process.engine
    }

    /// The store.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.process.engine.store()
    }

    /// Gives credits to the wallet.
    pub(crate) async fn grant(&self, credits: i64) {
        let id = new_id();
        let request = GrantRequest {
            id,
            op_id: new_id(),
            wallet_id: self.wallet,
            kind: GrantKind::Paid,
            priority: 50,
            amount: Ucr::from_credits(credits),
            expires_at: None,
            reason: None,
            cost_basis_uusd: None,
            actor: None,
            reference: id.to_string(),
        };
        self.engine().grant(&request).await.unwrap();
    }

    /// Puts a workflow from its YAML.
    pub(crate) async fn put(&self, yaml: &str) -> WorkflowView {
        self.engine().put_workflow(self.tenant, &definition(yaml)).await.unwrap().workflow
    }

    /// A mission that is not submitted yet.
    pub(crate) fn submission(&self, workflow: WorkflowId, input: Value) -> Submission {
        Submission {
            mission_id: new_id(),
            run_id: new_id(),
            tenant_id: self.tenant,
            wallet_id: self.wallet,
            workflow_id: workflow,
            price_book_id: self.prices,
            input,
            metadata: None,
            tags: Vec::new(),
            idempotency_key: None,
            request_hash: "hash".to_owned(),
            priority: 0,
            budget_ucr: None,
            on_exhausted: None,
            dedupe: None,
            project_id: None,
        }
    }

    /// Submits.
    pub(crate) async fn try_submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        self.engine().submit(submission).await
    }

    /// Submits a mission without input.
    pub(crate) async fn submit(&self, workflow: WorkflowId) -> MissionId {
        self.submit_with(workflow, json!({})).await
    }

    /// Submits a mission.
    pub(crate) async fn submit_with(&self, workflow: WorkflowId, input: Value) -> MissionId {
        self.try_submit(self.submission(workflow, input)).await.unwrap().mission_id
    }

    /// Puts a workflow and submits one mission of it.
    pub(crate) async fn run(&self, yaml: &str) -> MissionId {
        let workflow = self.put(yaml).await;
        self.submit(workflow.id).await
    }

    /// Submits many missions at the same time.
    pub(crate) async fn submit_many(&self, workflow: WorkflowId, count: usize) -> Vec<MissionId> {
        let submits = (0..count).map(|_| self.submit(workflow));
        futures::future::join_all(submits).await
    }

    /// A mission as it stands.
    pub(crate) async fn mission(&self, id: MissionId) -> MissionView {
        self.store().mission(None, id).await.unwrap().expect("the mission exists")
    }

    /// Waits until a mission is over.
    pub(crate) async fn finished(&self, id: MissionId) -> MissionView {
        let over = || async {
            let mission = self.store().mission(None, id).await.ok()??;
            mission.state.is_final().then_some(mission)
        };
        eventually("the mission ends", PATIENCE, over).await
    }

    /// Waits until a mission's task of that node fulfils a condition.
    pub(crate) async fn task_when(
        &self,
        mission: MissionId,
        node: &str,
        what: &str,
        condition: impl Fn(&TaskView) -> bool,
    ) -> TaskView {
        let look = || async { Some(self.task(mission, node).await).filter(&condition) };
        eventually(&format!("`{node}` is {what}"), PATIENCE, look).await
    }

    /// The task of a node, with its output.
    pub(crate) async fn task(&self, mission: MissionId, node: &str) -> TaskView {
        let tasks = self.tasks(mission).await;
        tasks.into_iter().find(|task| task.node == node).unwrap_or_else(|| panic!("node `{node}` exists"))
    }

    /// A mission's tasks in the order of the workflow, with their outputs.
    pub(crate) async fn tasks(&self, mission: MissionId) -> Vec<TaskView> {
        let run = self.mission(mission).await.run_id;
        self.store().tasks_of_run(run, true, 1_000).await.unwrap()
    }

    /// Recomputes the money from the ledger's entries, in SQL of its own: wallets, grants and holds agree with them,
    /// nothing is held that has no live owner, and each mission was charged what its operations say.
    pub(crate) async fn balances(&self) {
        balances(self.store()).await;
    }
}

/// See [`World::balances`].
pub(crate) async fn balances(store: &Arc<dyn Store>) {
    for (what, sql) in VIOLATIONS {
        let rows = store.rows(sql, &[]).await.unwrap();
        assert!(rows.is_empty(), "{what}: {rows:?}");
    }
}

/// What must find nothing.
const VIOLATIONS: &[(&str, &str)] = &[
    (
        "a wallet differs from its entries",
        "select w.id, w.available_ucr, w.held_ucr from wallets w
         where w.available_ucr <>
             (select coalesce(sum(case when e.destination like 'grant:%' then e.amount_ucr else 0 end)
                - sum(case when e.source like 'grant:%' then e.amount_ucr else 0 end), 0)
              from entries e where e.wallet_id = w.id)
           or w.held_ucr <>
             (select coalesce(sum(case when e.destination like 'hold:%' then e.amount_ucr else 0 end)
                - sum(case when e.source like 'hold:%' then e.amount_ucr else 0 end), 0)
              from entries e where e.wallet_id = w.id)",
    ),
    (
        "a wallet differs from its grants and holds",
        "select w.id from wallets w
         where w.available_ucr <> (select coalesce(sum(g.remaining_ucr), 0) from grants g where g.wallet_id = w.id)
           or w.held_ucr <>
             (select coalesce(sum(h.amount_ucr), 0) from holds h where h.wallet_id = w.id and h.state = 'open')",
    ),
    (
        "an open hold has no live owner",
        "select h.id from holds h
         where h.state = 'open'
           and not exists (select 1 from tasks t where t.hold_id = h.id and t.ended_at is null)
           and not exists (select 1 from runs r where r.fee_hold_id = h.id and r.ended_at is null)",
    ),
    (
        "a hold promises calls that are not in flight",
        "select h.id from holds h
         where h.reserved_ucr <> (select coalesce(sum(c.reserved_ucr), 0) from usage_calls c where c.hold_id = h.id)",
    ),
    (
        "a mission's charge differs from its operations",
        "select m.id, m.spent_ucr from missions m
         where m.spent_ucr <> (
           select coalesce(sum(e.amount_ucr), 0) from entries e
           where e.mission_id = m.id and e.destination in ('usage', 'fee'))",
    ),
    (
        "a task's charge differs from its operations or its billed calls",
        "select t.id, t.cost_ucr from tasks t
         where t.cost_ucr <> (
             select coalesce(sum(e.amount_ucr), 0) from entries e
             where e.task_id = t.id and e.destination = 'usage')
           or t.cost_ucr <> t.units_ucr + (
             select coalesce(sum(c.cost_ucr), 0) from usage_calls c where c.task_id = t.id and c.billable)",
    ),
    (
        "a mission's counters differ from its tasks",
        "select m.id from missions m
         where m.tasks_done <> (select count(*) from tasks t where t.run_id = m.run_id and t.ended_at is not null)
           or m.tasks_total <> (select count(*) from tasks t where t.run_id = m.run_id)
           or m.held_ucr <> (
             select coalesce(sum(h.amount_ucr), 0) from holds h where h.mission_id = m.id and h.state = 'open')",
    ),
    (
        "an event log has a gap",
        "select m.id, m.last_seq from missions m
         where m.last_seq <> (select count(*) from events e where e.mission_id = m.id)
           or m.last_seq <> (select max(e.seq) from events e where e.mission_id = m.id)",
    ),
];
