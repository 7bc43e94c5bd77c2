//! The queue in process: for the embedded default, where one process does everything.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bursar_domain::id::{TaskId, TenantId};
use tokio::sync::Notify;

use super::ring::Ring;
use super::{Question, Queue, QueueError, QueueLook, ReadyTask, Running};

#[derive(Debug, Default)]
struct Pool {
    ring: Mutex<Ring>,
    pushed: Notify,
}

/// Ready tasks in memory. Empty after a start: the sweep fills it from the store.
#[derive(Debug)]
pub struct MemoryQueue {
    /// What the time of its rings counts from.
    since: Instant,
    pools: Mutex<HashMap<String, std::sync::Arc<Pool>>>,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self { since: Instant::now(), pools: Mutex::default() }
    }
}

impl MemoryQueue {
    fn now_ms(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn with<T>(&self, pool: &str, work: impl FnOnce(&mut Ring) -> T) -> T {
        let pool = self.pool(pool);
        let mut ring = pool.ring.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut ring)
    }

    fn pool(&self, name: &str) -> std::sync::Arc<Pool> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.entry(name.to_owned()).or_default().clone()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, tasks: &[ReadyTask]) -> Result<(), QueueError> {
        for task in tasks {
            let pool = self.pool(&task.pool);
            pool.ring.lock().unwrap_or_else(PoisonError::into_inner).push(task);
            pool.pushed.notify_one();
        }
        Ok(())
    }

    async fn pop(&self, pool: &str, most: usize, wait: Duration) -> Result<Vec<TaskId>, QueueError> {
        let pool = self.pool(pool);
        let take = || pool.ring.lock().unwrap_or_else(PoisonError::into_inner).pop(most, self.now_ms());
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let tasks = take();
            if !tasks.is_empty() || wait.is_zero() {
                return Ok(tasks);
            }
            // a wake-up may be of a task that somebody else took: then there is still time left
            if tokio::time::timeout_at(deadline, pool.pushed.notified()).await.is_err() {
                return Ok(take());
            }
        }
    }

    async fn confirm(&self, pool: &str, tasks: &[TaskId], granted: &[Running]) -> Result<(), QueueError> {
        // what this process pops it either claims or the sweep finds again: the ring dies with the process
        if !tasks.is_empty() || !granted.is_empty() {
            let now_ms = self.now_ms();
            self.with(pool, |ring| {
                for one in granted {
                    ring.begin(one.tenant_id, one.task_id, now_ms.saturating_add(one.lease_ms));
                }
            });
        }
        Ok(())
    }

    fn begin(&self, running: Running) {
        let until_ms = self.now_ms().saturating_add(running.lease_ms);
        self.with(&running.pool, |ring| ring.begin(running.tenant_id, running.task_id, until_ms));
    }

    fn end(&self, pool: &str, tenant: TenantId, task: TaskId) {
        self.with(pool, |ring| ring.end(tenant, task));
    }

    async fn renew(&self, running: &[Running]) -> Result<(), QueueError> {
        for one in running {
            let until_ms = self.now_ms().saturating_add(one.lease_ms);
            self.with(&one.pool, |ring| ring.renew(one.tenant_id, one.task_id, until_ms));
        }
        Ok(())
    }

    async fn weigh(&self, pool: &str, weights: &[(TenantId, u16)]) -> Result<(), QueueError> {
        self.with(pool, |ring| weights.iter().for_each(|(tenant, weight)| ring.weigh(*tenant, *weight)));
        Ok(())
    }

    async fn depth(&self, pool: &str) -> Result<u64, QueueError> {
        let pool = self.pool(pool);
        let depth = pool.ring.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok(depth as u64)
    }

    async fn look(&self, pool: &str, question: &Question<'_>) -> Result<QueueLook, QueueError> {
        let now_ms = self.now_ms();
        Ok(self.with(pool, |ring| ring.look(question, now_ms)))
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
