//! What operators see: queues, workers, an overview. Live counts are exact (partial indexes); nothing counts what is done.

use bursar_domain::credits::Ucr;
use bursar_domain::id::TenantId;
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{Store, StoreError, WorkerRow};
use super::{all, first};

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolView {
    /// Its name.
    pub pool: String,
    /// Tasks that may be claimed now.
    pub ready: i64,
    /// Tasks under a lease.
    pub running: i64,
    /// Tasks that wait or will retry.
    pub waiting: i64,
    /// Since when the oldest ready task is ready.
    pub oldest_ready_at: Option<Timestamp>,
}

/// The money of all wallets, and what is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// Available credits of all wallets.
    pub available_ucr: Ucr,
    /// Held credits of all wallets.
    pub held_ucr: Ucr,
    /// Owed credits of all wallets.
    pub debt_ucr: Ucr,
    /// Wallets.
    pub wallets: i64,
}

impl dyn Store {
    /// Whether there is such a tenant.
    pub async fn has_tenant(&self, id: TenantId) -> Result<bool, StoreError> {
        Ok(!self.rows("select id from tenants where id = $1", &[id.into()]).await?.is_empty())
    }

    /// Pools with live tasks.
    pub async fn pools(&self) -> Result<Vec<PoolView>, StoreError> {
        let sql = "
            select pool,
              sum(case when state = 'ready' then 1 else 0 end) as ready,
              sum(case when state = 'running' then 1 else 0 end) as running,
              sum(case when state in ('waiting', 'retrying') then 1 else 0 end) as waiting,
              min(case when state = 'ready' then ready_at end) as oldest_ready_at
            from (
              select pool, state, ready_at from tasks where state = 'ready'
              union all select pool, state, ready_at from tasks where state = 'running'
              union all select pool, state, ready_at from tasks
                where state in ('retrying', 'waiting') and due_at is not null
              union all select pool, state, ready_at from tasks where state = 'waiting' and wait = 'credits'
            ) live
            group by pool order by pool limit 256";
        all(self.rows(sql, &[]).await?)
    }

    /// Worker processes heard of since `since`.
    pub async fn workers(&self, since: Timestamp) -> Result<Vec<WorkerRow>, StoreError> {
        let sql = "
            select id, host, pid, pools, running, version, draining, started_at, seen_at from workers
            where seen_at >= $1
            order by id limit 1000";
        all(self.rows(sql, &[since.into()]).await?)
    }

    /// Sums over all wallets.
    pub async fn overview(&self) -> Result<Option<Overview>, StoreError> {
        let sql = "
            select cast(coalesce(sum(available_ucr), 0) as bigint) as available_ucr,
              cast(coalesce(sum(held_ucr), 0) as bigint) as held_ucr,
              cast(coalesce(sum(debt_ucr), 0) as bigint) as debt_ucr,
              count(*) as wallets
            from wallets";
        first(self.rows(sql, &[]).await?)
    }
}
