//! A worker process: pools of slots, each an apalis worker fed by its own pump, sharing one set of leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::*;
use bursar_domain::id::WorkerId;
use bursar_domain::limits;
use bursar_workers::Providers;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::claim::{ClaimedJob, PoolConfig, Pump};
use super::leases::{self, Leases, StopCause};
use super::run::{self, Runtime};
use crate::clock::new_id;
use crate::queue::Standby;
use crate::queue::backend::Feed;

/// The running pools of this process.
#[derive(Debug)]
pub struct WorkerPool {
    runtime: Arc<Runtime>,
    slots: Vec<(Arc<Semaphore>, usize)>,
    workers: Vec<JoinHandle<()>>,
    keeper: JoinHandle<()>,
    stop_keeper: CancellationToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Steps that were stopped and handed back because they did not end in time.
    pub handed_back: usize,
}

impl WorkerPool {
    /// Starts to take work. `host` is shown to operators.
    pub fn start(
        engine: &Engine,
        providers: Arc<Providers>,
        pools: &[PoolConfig],
        host: String,
        lease: Duration,
    ) -> Self {
        let worker_id: WorkerId = new_id();
        let heartbeat = lease.mul_f64(limits::HEARTBEAT_MS as f64 / limits::LEASE_MS as f64);
        let leases = Arc::new(Leases::new(engine.queue().clone(), lease, heartbeat));
        let drain = CancellationToken::new();
        let runtime = Arc::new(Runtime { engine: engine.clone(), providers, leases: leases.clone(), worker_id, drain });
        let slots_by_pool: BTreeMap<&str, usize> = pools.iter().map(|pool| (pool.name.as_str(), pool.slots)).collect();
        let row = leases::worker_row(worker_id, host, serde_json::json!(slots_by_pool), engine.clock().now());
        let stop_keeper = CancellationToken::new();
        let keeper = tokio::spawn(leases::keep(engine.clone(), leases, row, stop_keeper.clone()));
        let mut all_slots = Vec::new();
        let mut workers = Vec::new();
        for pool in pools {
            let slots = Arc::new(Semaphore::new(pool.slots));
            all_slots.push((slots.clone(), pool.slots));
            workers.extend(start_pool(&runtime, pool, slots));
        }
        Self { runtime, slots: all_slots, workers, keeper, stop_keeper }
    }

    /// The id under which operators see this process.
    pub fn worker_id(&self) -> WorkerId {
        self.runtime.worker_id
    }

    /// Takes no new work, lets running steps end within `grace`, then stops them and hands their tasks back.
    pub async fn drain(self, grace: Duration) -> Drained {
        self.runtime.drain.cancel();
        let all_free = async {
            for (slots, most) in &self.slots {
                let _ = slots.acquire_many(u32::try_from(*most).unwrap_or(u32::MAX)).await;
            }
        };
        let mut handed_back = 0;
        let in_time = tokio::time::timeout(grace, all_free).await.is_ok();
        if !in_time {
            handed_back = self.runtime.leases.len();
            self.runtime.leases.stop_where(StopCause::Drain, |_, _, _| true);
        }
        for worker in self.workers {
            // a step that does not even end when it is stopped keeps its lease, which runs out
            let _ = tokio::time::timeout(Duration::from_secs(5), worker).await;
        }
        self.stop_keeper.cancel();
        let _ = self.keeper.await;
        let _ = self.runtime.engine.store().forget_worker(self.runtime.worker_id).await;
        if let Err(error) = self.runtime.engine.fold_lessons().await {
            tracing::debug!(%error, "the last lessons about costs are lost");
        }
        Drained { handed_back }
    }
}

/// Starts one pool: its pump and its apalis worker.
fn start_pool(runtime: &Arc<Runtime>, pool: &PoolConfig, slots: Arc<Semaphore>) -> [JoinHandle<()>; 2] {
    let (jobs, feed) = Feed::<ClaimedJob>::new(pool.slots.max(1));
    let pump = Pump {
        engine: runtime.engine.clone(),
        pool: pool.name.clone(),
        worker_id: runtime.worker_id,
        slots,
        leases: runtime.leases.clone(),
        standby: Standby::default(),
        jobs,
        stop: runtime.drain.clone(),
    };
    let handler = {
        let runtime = runtime.clone();
        move |job: ClaimedJob| run::run(runtime.clone(), job)
    };
    let worker = WorkerBuilder::new(format!("{}-{}", pool.name, runtime.worker_id))
        .backend(feed)
        .parallelize(tokio::spawn)
        .build(handler);
    let name = pool.name.clone();
    let worker = async move {
        if let Err(error) = futures::FutureExt::boxed(worker.run()).await {
            tracing::error!(pool = name, %error, "a pool's worker ended");
        }
    };
    [tokio::spawn(pump.run()), tokio::spawn(worker)]
}
