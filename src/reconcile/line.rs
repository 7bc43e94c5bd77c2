//! The queue beside the store, pool by pool.
//!
//! The two can't be read at one moment: a task that is claimed in between looks lost to the one or the other. So whatever
//! differs is looked at once more a little later, and only what differs both times is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::report::{PoolComparison, QueuePart, Sample};
use super::{MOST_COMPARED, QUEUE_WITHIN};
use crate::clock::Clock;
use crate::queue::{Question, Queue, QueueError};
use crate::store::{Store, StoreError};

/// How long after a difference it is looked at again: many times what a claim or a push takes, and less than a sweep
/// needs to put it right unseen.
const SECOND_LOOK: Duration = Duration::from_millis(600);
/// Pools that have no task yet may have something in the queue: these are the format's own.
const OWN_POOLS: [&str; 4] = ["agent", "default", "exec", "http"];
/// How far back a worker's word counts about which pools there are, in ms.
const WORKERS_SINCE_MS: i64 = 3_600_000;
/// Pools that are compared at most.
const MOST_POOLS: usize = 256;

/// One look at a pool.
#[derive(Debug, Default)]
struct Look {
    ready: i64,
    waiting: u64,
    popped: u64,
    stands: bool,
    leases: u64,
    running: u64,
    is_whole: bool,
    /// Known to the queue, not ready in the store.
    stale: BTreeSet<String>,
    /// Ready in the store, not known to the queue.
    unknown: BTreeSet<String>,
    /// The queue counts them as running, no lease says so.
    without_lease: BTreeSet<String>,
    /// Under a lease, and the queue does not count them.
    uncounted: BTreeSet<String>,
}

impl Look {
    /// Whether the pool was emptied and something is ready.
    fn was_emptied(&self) -> bool {
        !self.stands && self.ready > 0
    }

    fn differs(&self) -> bool {
        self.was_emptied()
            || [&self.stale, &self.unknown, &self.without_lease, &self.uncounted].iter().any(|ids| !ids.is_empty())
    }

    /// What differed before and differs still.
    fn after(mut self, before: &Self) -> Self {
        for (now, then) in [
            (&mut self.stale, &before.stale),
            (&mut self.unknown, &before.unknown),
            (&mut self.without_lease, &before.without_lease),
            (&mut self.uncounted, &before.uncounted),
        ] {
            now.retain(|id| then.contains(id));
        }
        self.stands |= before.stands;
        self
    }

    fn told(self, pool: String) -> PoolComparison {
        PoolComparison {
            pool,
            ready: self.ready,
            waiting: self.waiting,
            popped: self.popped,
            epoch_stands: self.stands,
            leases: self.leases,
            running: self.running,
            compared_all: self.is_whole,
            was_emptied: self.was_emptied(),
            stale: Sample::of(self.stale),
            unknown: Sample::of(self.unknown),
            running_without_lease: Sample::of(self.without_lease),
            leases_uncounted: Sample::of(self.uncounted),
            advice: Vec::new(),
        }
        .with_advice()
    }
}

/// Why a pool could not be looked at.
enum Missed {
    Store(StoreError),
    Queue(QueueError),
}

impl From<StoreError> for Missed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Compares every pool that has tasks, workers or a name of the format's own. What could not be looked at is put into
/// `missed`; nothing is returned where the queue does not answer at all.
pub async fn compare(
    store: &std::sync::Arc<dyn Store>,
    queue: &dyn Queue,
    clock: &Clock,
    missed: &mut Vec<String>,
) -> Result<Option<QueuePart>, StoreError> {
    let pools = pools(store, clock).await?;
    if pools.len() > MOST_POOLS {
        missed.push(format!("{} pools beyond the first {MOST_POOLS}", pools.len().saturating_sub(MOST_POOLS)));
    }
    let mut looks: BTreeMap<String, Look> = BTreeMap::new();
    for pool in pools.into_iter().take(MOST_POOLS) {
        match look(store, queue, clock, &pool).await {
            Ok(found) => {
                looks.insert(pool, found);
            }
            Err(Missed::Store(error)) => return Err(error),
            Err(Missed::Queue(error)) => {
                missed.push(format!("{error}; the store serves meanwhile, look again when `bursar doctor` is content"));
                return Ok(None);
            }
        }
    }
    if looks.values().any(Look::differs) {
        tokio::time::sleep(SECOND_LOOK).await;
        for (pool, before) in looks.iter_mut().filter(|(_, look)| look.differs()) {
            match look(store, queue, clock, pool).await {
                Ok(again) => *before = again.after(before),
                Err(Missed::Store(error)) => return Err(error),
                Err(Missed::Queue(error)) => {
                    missed.push(format!(
                        "{error} at the second look at pool `{pool}`; what differed at the first is told"
                    ));
                }
            }
        }
    }
    let pools = looks.into_iter().map(|(pool, look)| look.told(pool)).filter(|pool| !pool.is_empty()).collect();
    Ok(Some(QueuePart { kind: queue.name(), pools }))
}

async fn pools(store: &std::sync::Arc<dyn Store>, clock: &Clock) -> Result<BTreeSet<String>, StoreError> {
    let mut pools: BTreeSet<String> = OWN_POOLS.map(str::to_owned).into();
    pools.extend(store.pools().await?.into_iter().map(|pool| pool.pool));
    for worker in store.workers(clock.now().plus_ms(-WORKERS_SINCE_MS)).await? {
        pools.extend(worker.pools.as_object().into_iter().flat_map(|pools| pools.keys().cloned()));
    }
    Ok(pools)
}

/// One look: the store, then the queue, then the store once more about what only the queue named.
async fn look(store: &std::sync::Arc<dyn Store>, queue: &dyn Queue, clock: &Clock, pool: &str) -> Result<Look, Missed> {
    let most = i64::try_from(MOST_COMPARED).unwrap_or(i64::MAX);
    let counts = store.ready_counts(clock.now()).await?;
    let ready = counts.iter().find(|(known, _)| known == pool).map_or(0, |(_, ready)| *ready);
    let rows = if ready == 0 { Vec::new() } else { store.ready_tasks(pool, clock.now(), most).await? };
    let rows: Vec<_> = rows.into_iter().take(MOST_COMPARED).map(|row| (row.tenant_id, row.id)).collect();
    let leases = store.live_leases(pool, clock.now(), most).await?;
    let tenants: BTreeSet<_> = leases.iter().map(|lease| lease.tenant_id).collect();
    let tenants: Vec<_> = tenants.into_iter().collect();
    let question = Question { ready: &rows, tenants: &tenants, most: MOST_COMPARED };
    let asked = tokio::time::timeout(QUEUE_WITHIN, queue.look(pool, &question)).await;
    let late = || QueueError(format!("no answer about pool `{pool}` within {} s", QUEUE_WITHIN.as_secs()));
    let said = asked.unwrap_or_else(|_| Err(late())).map_err(Missed::Queue)?;
    let known: Vec<String> = said.waiting.ids.iter().chain(&said.popped.ids).cloned().collect();
    let still_ready: BTreeSet<String> = store.ready_of(pool, &known).await?.into_iter().collect();
    let leased: BTreeSet<String> = store.leased_of(pool, &said.running.ids, clock.now()).await?.into_iter().collect();
    let counted: BTreeSet<&String> = said.running.ids.iter().collect();
    let named_all = |known: &crate::queue::Known| known.count <= known.ids.len() as u64;
    let is_whole = [&said.waiting, &said.popped, &said.running].into_iter().all(named_all)
        && ready <= most
        && leases.len() < MOST_COMPARED;
    // what is popped or waits counts as running for a moment, too
    let in_line: BTreeSet<&String> = known.iter().collect();
    let without_lease = said.running.ids.iter().filter(|id| !leased.contains(*id) && !in_line.contains(id));
    let uncounted = leases.iter().filter(|lease| named_all(&said.running) && !counted.contains(&lease.id));
    Ok(Look {
        ready,
        waiting: said.waiting.count,
        popped: said.popped.count,
        stands: said.stands,
        leases: leases.len() as u64,
        running: said.running.count,
        is_whole,
        without_lease: without_lease.cloned().collect(),
        uncounted: uncounted.map(|lease| lease.id.clone()).collect(),
        unknown: said.unknown.iter().map(ToString::to_string).collect(),
        stale: known.iter().filter(|id| !still_ready.contains(*id)).cloned().collect(),
    })
}
