//! How many missions a tenant has that are not over, beside how many it may have. Counted for a decision, never written.

use serde::Deserialize;

use crate::id::TenantId;

/// A tenant's queue, where it has a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct TenantQueue {
    /// Whose.
    pub tenant_id: TenantId,
    /// Missions that are not over.
    pub live: i64,
    /// How many it may have.
    pub most: i64,
}
