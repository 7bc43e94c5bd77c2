//! What is asked of the store when the queue is compared with it: tasks by id, leases of a pool.

use bursar_domain::id::TenantId;
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::super::{Store, StoreError};
use super::all;

/// A task under a lease.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LeaseRow {
    /// The task's id, as it stands in the queue, too.
    pub id: String,
    /// Its owner.
    pub tenant_id: TenantId,
}

impl dyn Store {
    /// Tasks of a pool under a lease that has not run out, the first of them by id.
    pub async fn live_leases(&self, pool: &str, now: Timestamp, most: i64) -> Result<Vec<LeaseRow>, StoreError> {
        let sql = "
            select id, tenant_id from tasks
            where state = 'running' and lease_until > $2 and pool = $1
            order by id limit $3";
        all(self.rows(sql, &[pool.into(), now.into(), most.into()]).await?)
    }

    /// Which of these are ready in that pool, kept back ones included. What is no task's id is in no pool.
    pub async fn ready_of(&self, pool: &str, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let sql = "select id from tasks where id in {list:1} and state || '' = 'ready' and pool = $2";
        self.ids(sql, &[json!(ids).into(), pool.into()]).await
    }

    /// Which of these run in that pool under a lease that has not run out.
    pub async fn leased_of(&self, pool: &str, ids: &[String], now: Timestamp) -> Result<Vec<String>, StoreError> {
        let sql = "
            select id from tasks
            where id in {list:1} and state || '' = 'running' and lease_until > $3 and pool = $2";
        self.ids(sql, &[json!(ids).into(), pool.into(), now.into()]).await
    }

    async fn ids(&self, sql: &str, args: &[super::super::Arg]) -> Result<Vec<String>, StoreError> {
        let rows = self.rows(sql, args).await?;
        Ok(rows.iter().filter_map(|row| row["id"].as_str().map(str::to_owned)).collect())
    }
}
