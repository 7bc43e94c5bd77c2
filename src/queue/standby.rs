//! Who is next while the queue is away: the same rule, over what the store says is ready and running.

use std::sync::{Mutex, PoisonError};

use bursar_domain::id::{TaskId, TenantId};

use super::ReadyTask;
use super::ring::Ring;

/// The order of one pool's tenants while the store serves. Remembers whose turn it is from one look to the next.
#[derive(Debug, Default)]
pub struct Standby {
    ring: Mutex<Ring>,
}

impl Standby {
    /// At most `most` of what is `ready`, beside how much of each tenant is `running`.
    pub fn choose(&self, ready: &[ReadyTask], running: &[(TenantId, u64)], most: usize) -> Vec<TaskId> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.learn(ready, running);
        ring.pop(most, 0)
    }
}
