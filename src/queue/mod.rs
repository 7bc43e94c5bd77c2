//! The queue: a fast, disposable index of ready tasks. Ids only.
//!
//! Ready rows in the store are the promise; what stands here only makes it quick. Losing all of it costs latency,
//! never work. Two implementations: Redis, and in process. `backend` is the way into apalis.
//!
//! Who is next: the tenant with the least running beside its weight, among equals the one whose turn it is. A tenant's own
//! tasks go by age, each point of priority worth a minute of it.

pub mod backend;
mod look;
mod memory;
mod redis;
mod ring;
mod standby;

pub use look::{Known, MOST_TENANTS, Question, QueueLook};
pub use memory::MemoryQueue;
pub use redis::RedisQueue;
pub use standby::Standby;

use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::id::{TaskId, TenantId};
use bursar_domain::limits::PRIORITY_POINT_MS;
use bursar_domain::time::Timestamp;

/// Tenants that one pop looks at, those whose turn comes first: as many as it takes tasks at most, so that each of them can
/// be served. Whoever is behind them comes into sight as these are served.
const LOOK: usize = 64;

/// How far a tenant's turn moves back when it is served, divided by its weight. Whole numbers below 2^53 for some 10^12
/// servings; weights over half of it are as one another where shares are even.
const TURN_STEP: i64 = 1_000;

/// How long a popped task may stay unconfirmed before it comes back.
const POPPED_MS: i64 = 2_000;

/// How far the turn of a tenant of this weight moves back.
fn step_of(weight: u16) -> i64 {
    TURN_STEP.checked_div(i64::from(weight)).unwrap_or(TURN_STEP).max(1)
}

/// A ready task as the queue knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyTask {
    /// The task.
    pub task_id: TaskId,
    /// Its owner: tenants are served in turn.
    pub tenant_id: TenantId,
    /// Its pool.
    pub pool: String,
    /// How much of the workers its tenant gets beside others, 1 at least.
    pub weight: u16,
    /// Higher goes first among the tenant's own: a point is worth a minute of waiting.
    pub priority: i16,
    /// Older goes first among equals.
    pub ready_at: Timestamp,
}

impl ReadyTask {
    /// Orders a tenant's tasks: lower goes first. Exact as an f64 (below 2^53). The store orders by the same.
    fn score(&self) -> i64 {
        self.ready_at.ms().saturating_sub(i64::from(self.priority).saturating_mul(PRIORITY_POINT_MS))
    }
}

/// A task that runs, as far as the order of tenants is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The task.
    pub task_id: TaskId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// Its pool.
    pub pool: String,
    /// For how long it counts, in ms, unless it is renewed or ends.
    pub lease_ms: i64,
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

    /// Takes at most `most` tasks of a pool, tenants by their shares; waits up to `wait` for one. What was taken must be
    /// confirmed, else it comes back after two seconds.
    async fn pop(&self, pool: &str, most: usize, wait: Duration) -> Result<Vec<TaskId>, QueueError>;

    /// Forgets tasks that were popped: the store answered for them. `granted` run from now on.
    async fn confirm(&self, pool: &str, tasks: &[TaskId], granted: &[Running]) -> Result<(), QueueError>;

    /// Takes note that a task runs that was not popped. Told to others with the next pop or renewal.
    fn begin(&self, running: Running);

    /// Takes note that a task runs no more. Told to others with the next pop or renewal.
    fn end(&self, pool: &str, tenant: TenantId, task: TaskId);

    /// Prolongs what still runs. What is not known to run stays unknown: it may have ended meanwhile.
    async fn renew(&self, running: &[Running]) -> Result<(), QueueError>;

    /// Sets weights of tenants in a pool; those of tenants that push come with their tasks.
    async fn weigh(&self, pool: &str, weights: &[(TenantId, u16)]) -> Result<(), QueueError>;

    /// How many tasks of a pool it knows, popped ones included.
    async fn depth(&self, pool: &str) -> Result<u64, QueueError>;

    /// What it knows of a pool, to be compared with the store; changes nothing. Bounded: it counts everything of at most
    /// [`MOST_TENANTS`] tenants and names no more than was asked for.
    async fn look(&self, pool: &str, question: &Question<'_>) -> Result<QueueLook, QueueError>;

    /// Whether it answers.
    async fn ping(&self) -> Result<(), QueueError>;

    /// `redis` or `memory`, for health and metrics.
    fn name(&self) -> &'static str;
}
