//! Wallets as operators look at them: all of them, with their tenants, what their grants are drawn for next, and what
//! their holds are for.

use bursar_domain::id::{TaskId, TenantId, WalletId};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::super::{Arg, Store, StoreError};
use super::money::{self, GrantView, HoldView, WalletView};
use super::{all, first};

/// A wallet with its owner's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OwnedWallet {
    /// The wallet.
    #[serde(flatten)]
    pub wallet: WalletView,
    /// What the tenant is called.
    pub tenant_name: String,
}

/// An open hold with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HoldPurpose {
    /// The hold.
    #[serde(flatten)]
    pub hold: HoldView,
    /// The task's node, where it is a task's.
    pub node: Option<String>,
    /// The name of the mission's workflow, where there is a mission.
    pub workflow_name: Option<String>,
}

impl dyn Store {
    /// Wallets with their tenants, newest first, older than `before`; `None` for the tenant is all.
    pub async fn wallets(
        &self,
        tenant: Option<TenantId>,
        before: Option<WalletId>,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OwnedWallet>, StoreError> {
        let sql = format!(
            "{}, t.name as tenant_name
             from wallets w
             join tenants t on t.id = w.tenant_id
             where ($4 is null or w.tenant_id = $4) and ($5 is null or w.id < $5)
             order by w.id desc limit $6",
            money::WALLET
        );
        let tenant = Arg::Text(tenant.map(|id| id.to_string()));
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(&sql, &money::at(now, [tenant, before, limit.into()])).await?)
    }

    /// One wallet with its tenant.
    pub async fn owned_wallet(
        &self,
        tenant: Option<TenantId>,
        id: WalletId,
        now: Timestamp,
    ) -> Result<Option<OwnedWallet>, StoreError> {
        let sql = format!(
            "{}, t.name as tenant_name
             from wallets w
             join tenants t on t.id = w.tenant_id
             where w.id = $4 and ($5 is null or w.tenant_id = $5)",
            money::WALLET
        );
        let tenant = Arg::Text(tenant.map(|id| id.to_string()));
        first(self.rows(&sql, &money::at(now, [id.into(), tenant])).await?)
    }

    /// Grants that can be drawn from now, the one that is drawn first at the head, at most `limit`.
    pub async fn grants_in_draw_order(
        &self,
        wallet: WalletId,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<GrantView>, StoreError> {
        let sql = "
            select id, kind, priority, amount_ucr, remaining_ucr, expires_at, expired, reason, created_at from grants
            where wallet_id = $1 and remaining_ucr > 0 and not expired and (expires_at is null or expires_at > $2)
            order by priority, case when expires_at is null then 1 else 0 end, expires_at,
              case when kind = 'paid' then 1 else 0 end, id
            limit $3";
        all(self.rows(sql, &[wallet.into(), now.into(), limit.into()]).await?)
    }

    /// The nodes of tasks.
    pub async fn nodes_of_tasks(&self, tasks: &[TaskId]) -> Result<Vec<(TaskId, String)>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            id: TaskId,
            node: String,
        }
        let rows = self.rows("select id, node from tasks where id in {list:1}", &[json!(tasks).into()]).await?;
        Ok(all::<Row>(rows)?.into_iter().map(|row| (row.id, row.node)).collect())
    }

    /// Open holds with what they are for, newest first, at most `limit`.
    pub async fn holds_with_purpose(&self, wallet: WalletId, limit: i64) -> Result<Vec<HoldPurpose>, StoreError> {
        let sql = "
            select h.id, h.owner_kind, h.owner_id, h.mission_id, h.amount_ucr, h.reserved_ucr, h.used_ucr, h.created_at,
              h.expires_at, t.node, f.name as workflow_name
            from holds h
            left join tasks t on t.id = h.owner_id
            left join missions m on m.id = h.mission_id
            left join workflows f on f.id = m.workflow_id
            where h.wallet_id = $1 and h.state = 'open'
            order by h.id desc limit $2";
        all(self.rows(sql, &[wallet.into(), limit.into()]).await?)
    }
}
