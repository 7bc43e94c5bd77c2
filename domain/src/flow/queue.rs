//! How many missions of a tenant may be under way: whatever makes one that is not over asks here first.
//!
//! The count was taken under the lock on the tenant's wallet, which everything holds that begins a run, so that of many
//! at once exactly as many begin as there is room for. Missions may end meanwhile: then one is refused that would have
//! fitted a moment later, never the other way round.

use crate::id::TenantId;

use super::{Refusal, Turn};

/// Refuses when the tenant has as many missions as it may have, those counted that this very decision made. A tenant
/// without a limit has no count.
pub(super) fn check(turn: &Turn<'_>, tenant: TenantId) -> Result<(), Refusal> {
    let Some(queue) = turn.set.queues.get(&tenant) else { return Ok(()) };
    let made = turn.set.runs.added().filter(|run| run.tenant_id == tenant && run.ended_at.is_none()).count();
    let live = queue.live.saturating_add(i64::try_from(made).unwrap_or(i64::MAX));
    if live < queue.most { Ok(()) } else { Err(Refusal::QueueFull { live, most: queue.most }) }
}
