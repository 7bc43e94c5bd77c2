//! What a queue says of itself when it is compared with the store. Bounded: counts of everything, ids of a part.

use bursar_domain::id::{TaskId, TenantId};

/// Tenants of a pool that a look at the queue takes into account at most: each costs it two or three small commands.
pub const MOST_TENANTS: usize = 1_024;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'q> {
    /// Ready tasks with their tenants: which of them does it not know?
    pub ready: &'q [(TenantId, TaskId)],
    /// Tenants that have something running by the store's word; those that wait in the queue come by themselves.
    pub tenants: &'q [TenantId],
    /// Ids that are named of each kind at most.
    pub most: usize,
}

/// Entries of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// How many there are.
    pub count: u64,
    /// Some of them, as they stand there: what is no task's id is shown, too.
    pub ids: Vec<String>,
}

/// A pool as the queue knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueLook {
    /// Whether its epoch stands: something was pushed since it was last emptied.
    pub stands: bool,
    /// What waits in it.
    pub waiting: Known,
    /// What was popped and nobody has confirmed yet.
    pub popped: Known,
    /// What it believes to be running, of the tenants that were looked at.
    pub running: Known,
    /// Of the ready tasks that were asked about, those that can't be popped.
    pub unknown: Vec<TaskId>,
}
