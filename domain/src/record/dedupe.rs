//! Rows of dedupe keys: the clients' own names for what must not be done twice, each with the mission that has it.

use serde::{Deserialize, Serialize};

use crate::id::{DedupeKeyId, MissionId, RunId, TenantId};
use crate::time::Timestamp;

/// A dedupe key and who has it. There is one row for each key that a tenant ever used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupeKey {
    /// The row's id.
    pub id: DedupeKeyId,
    /// Whose key it is.
    pub tenant_id: TenantId,
    /// The key; unique among the tenant's.
    pub key: String,
    /// The mission that took it last.
    pub mission_id: MissionId,
    /// That mission's first run.
    pub run_id: RunId,
    /// Until when it is taken, even if the mission is over before.
    pub taken_until: Timestamp,
    /// Whether the mission still runs. Not a column: it is looked up under the lock on the row.
    pub live: bool,
}
