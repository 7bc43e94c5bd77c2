//! The queue: a fast, disposable index of ready tasks. Ids only.
//!
//! Ready rows in the store are the promise; what stands here only makes it quick. Losing all of it costs latency,
//! never work. Two implementations: Redis, and in process. `backend` is the way into apalis.

pub mod backend;
mod memory;
mod redis;
mod ring;

pub use memory::MemoryQueue;
pub use redis::RedisQueue;

use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::id::{TaskId, TenantId};
use bursar_domain::time::Timestamp;

/// A ready task as the queue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyTask {
    /// The task.
    pub task_id: TaskId,
    /// Its owner: tenants are served in turn.
    pub tenant_id: TenantId,
    /// Its pool.
    pub pool: String,
    /// Higher goes first among the tenant's own.
    pub priority: i16,
    /// Older goes first among equals.
    pub ready_at: Timestamp,
}

impl ReadyTask {
    /// Orders a tenant's tasks: lower goes first. Exact as an f64 (below 2^53).
    fn score(&self) -> i64 {
        const PRIORITY_STEP: i64 = 10_000_000_000_000;
        self.ready_at.ms().saturating_sub(i64::from(self.priority).saturating_mul(PRIORITY_STEP))
    }
}

/// Why the queue can't be used now. The store serves meanwhile.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the queue is unavailable: {0}")]
pub struct QueueError(pub String);

/// The index of ready tasks.
#[async_trait]
pub trait Queue: Send + Sync + std::fmt::Debug {
    /// Adds ready tasks and wakes workers of their pools. Adding one twice is harmless.
    async fn push(&self, tasks: &[ReadyTask]) -> Result<(), QueueError>;

    /// Takes at most `most` tasks of a pool, tenants in turn; waits up to `wait` for one. What was taken must be
    /// confirmed, else it comes back after two seconds.
    async fn pop(&self, pool: &str, most: usize, wait: Duration) -> Result<Vec<TaskId>, QueueError>;

    /// Forgets tasks that were popped: the store answered for them.
    async fn confirm(&self, pool: &str, tasks: &[TaskId]) -> Result<(), QueueError>;

    /// How many tasks of a pool it knows, popped ones included.
    async fn depth(&self, pool: &str) -> Result<u64, QueueError>;

    /// Whether it answers.
    async fn ping(&self) -> Result<(), QueueError>;

    /// `redis` or `memory`, for health and metrics.
    fn name(&self) -> &'static str;
}
