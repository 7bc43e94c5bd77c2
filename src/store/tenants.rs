//! Tenants: whose the work is, how much of the workers each gets beside others, and how many missions it may have.
//!
//! Settings of operators. Nothing here decides; who is served next is the queue's business, and a submit is refused
//! where submits are decided.

use bursar_domain::id::TenantId;
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{Arg, Store, StoreError};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique.
    pub name: String,
    /// How much of the workers it gets beside others: 1 to [`MAX_TENANT_WEIGHT`](bursar_domain::limits::MAX_TENANT_WEIGHT).
    pub weight: u16,
    /// How many missions that are not over it may have; `None` is any number.
    pub max_queued: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What to change of a tenant; `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// How much of the workers it gets.
    pub weight: Option<u16>,
    /// How many missions that are not over it may have; `Some(None)` is any number.
    #[allow(clippy::option_option, reason = "what stays, what is lifted and what is set are three wishes")]
    pub max_queued: Option<Option<i64>>,
}

const TENANT: &str = "select id, name, weight, max_queued, created_at from tenants";

fn all(rows: Vec<Value>) -> Result<Vec<Tenant>, StoreError> {
    let parse = |row| serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()));
    rows.into_iter().map(parse).collect()
}

impl dyn Store {
    /// One tenant.
    pub async fn tenant(&self, id: TenantId) -> Result<Option<Tenant>, StoreError> {
        Ok(all(self.rows(&format!("{TENANT} where id = $1"), &[id.into()]).await?)?.into_iter().next())
    }

    /// Tenants, newest first, older than `before`.
    pub async fn tenants(&self, before: Option<TenantId>, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        let sql = format!("{TENANT} where ($1 is null or id < $1) order by id desc limit $2");
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(&sql, &[before, limit.into()]).await?)
    }

    /// Tenants whose weight is not 1, at most `limit`.
    pub async fn weighted_tenants(&self, limit: i64) -> Result<Vec<Tenant>, StoreError> {
        all(self.rows(&format!("{TENANT} where weight <> 1 order by id limit $1"), &[limit.into()]).await?)
    }

    /// Changes a tenant's settings; whether it exists.
    pub async fn change_tenant(&self, id: TenantId, change: TenantChange) -> Result<bool, StoreError> {
        let sql = "
            update tenants
            set weight = coalesce($2, weight), max_queued = case when $3 = 1 then $4 else max_queued end
            where id = $1";
        let args = [
            id.into(),
            Arg::Int(change.weight.map(i64::from)),
            i64::from(change.max_queued.is_some()).into(),
            Arg::Int(change.max_queued.flatten()),
        ];
        Ok(self.execute(sql, &args).await? > 0)
    }
}
