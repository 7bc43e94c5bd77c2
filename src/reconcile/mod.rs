//! Reconciliation: does the queue know what the store knows, and does the ledger say what usage says?
//!
//! Two comparisons in one report, for operators. Nothing is changed, and everything is bounded: the limits stand below and
//! in the report. Which rows are right is never decided here: the store is, and the ledger's own auditor is `verify`.

mod line;
mod report;

pub use line::compare;
pub use report::{
    Bounds, MoneyDifference, MoneyPart, PoolComparison, QueuePart, Reconciliation, Sample, TenantComparison,
};

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::queue::Queue;
use crate::store::{Store, StoreError};
use crate::verify::by_tenant;

/// Ids of each kind that are compared per pool: the store and the queue answer for as many within a fraction of a second.
pub const MOST_COMPARED: usize = 5_000;
/// Ids of a kind that are named.
pub const MOST_NAMED: usize = 20;
/// How long the queue may take to answer for one pool.
pub const QUEUE_WITHIN: Duration = Duration::from_secs(5);
/// How long ledger and usage may take: the ledger is read from its beginning, a million entries in some seconds.
pub const MONEY_WITHIN: Duration = Duration::from_secs(20);

/// Compares queue with store and ledger with usage. Without a queue (that of another process's memory can't be seen) only
/// the money.
///
/// Fails when the store can't be read. A queue that does not answer, or a ledger that is too long for the time, is said in
/// the report.
pub async fn reconcile(
    store: &Arc<dyn Store>,
    queue: Option<&Arc<dyn Queue>>,
    clock: &Clock,
) -> Result<Reconciliation, StoreError> {
    let mut missed = Vec::new();
    let queue = match queue {
        None => None,
        Some(queue) => compare(store, queue.as_ref(), clock, &mut missed).await?,
    };
    let money = match by_tenant(store, MONEY_WITHIN).await {
        Ok(found) => Some(MoneyPart::of(found)),
        Err(StoreError::Refused(why)) => {
            missed.push(format!("ledger and usage: {why}; run `bursar verify`, which has ten minutes"));
            None
        }
        Err(error) => return Err(error),
    };
    Ok(Reconciliation::of(queue, money, missed))
}
