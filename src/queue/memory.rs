//! The queue in process: for the embedded default, where one process does everything.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::id::TaskId;
use tokio::sync::Notify;

use super::ring::Ring;
use super::{Queue, QueueError, ReadyTask};

#[derive(Debug, Default)]
struct Pool {
    ring: Mutex<Ring>,
    pushed: Notify,
}

/// Ready tasks in memory. Empty after a start: the sweep fills it from the store.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    pools: Mutex<HashMap<String, std::sync::Arc<Pool>>>,
}

impl MemoryQueue {
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
        let take = || pool.ring.lock().unwrap_or_else(PoisonError::into_inner).pop(most);
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

    async fn confirm(&self, _pool: &str, _tasks: &[TaskId]) -> Result<(), QueueError> {
        // what this process pops it either claims or the sweep finds again: the ring dies with the process
        Ok(())
    }

    async fn depth(&self, pool: &str) -> Result<u64, QueueError> {
        let pool = self.pool(pool);
        let depth = pool.ring.lock().unwrap_or_else(PoisonError::into_inner).len();
        Ok(depth as u64)
    }

    async fn ping(&self) -> Result<(), QueueError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}
