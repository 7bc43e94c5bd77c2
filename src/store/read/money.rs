//! Wallets, grants, holds and entries as they are shown.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{GrantId, HoldId, MissionId, OpId, TaskId, TenantId, WalletId};
use bursar_domain::record::{Account, ChargeFailed, Leg, Overrun};
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{Arg, Store, StoreError};
use super::{all, first};
use crate::calendar;

/// A wallet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalletView {
    /// Its id.
    pub id: WalletId,
    /// Its owner.
    pub tenant_id: TenantId,
    /// What can be held or spent now: grants whose deadline passed do not count, swept or not.
    pub available_ucr: Ucr,
    /// What is held.
    pub held_ucr: Ucr,
    /// What is owed.
    pub debt_ucr: Ucr,
    /// Whether it makes no new holds.
    pub frozen: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// What happens with a charge beyond a hold.
    pub overrun: Overrun,
    /// Whether attempts that failed are charged.
    pub charge_failed: ChargeFailed,
    /// The most that may be spent in a UTC day.
    pub day_limit_ucr: Option<Ucr>,
    /// The most that may be spent in a UTC month.
    pub month_limit_ucr: Option<Ucr>,
    /// The most that one mission may spend.
    pub mission_limit_ucr: Option<Ucr>,
    /// What was charged today: nothing when the counter is of another day.
    pub day_spent_ucr: Ucr,
    /// What was charged this month.
    pub month_spent_ucr: Ucr,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Its id.
    pub id: GrantId,
    /// `promo`, `included`, `paid`, `refund` or `adjust`.
    pub kind: String,
    /// 0 is spent first.
    pub priority: i64,
    /// What was given.
    pub amount_ucr: Ucr,
    /// What is left.
    pub remaining_ucr: Ucr,
    /// From when it can't be spent.
    pub expires_at: Option<Timestamp>,
    /// Whether its rest was written off.
    pub expired: bool,
    /// Why it was given.
    pub reason: Option<String>,
    /// When it was given.
    pub created_at: Timestamp,
}

/// An open hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// Its id.
    pub id: HoldId,
    /// `task`, `fee` or `call`.
    pub owner_kind: String,
    /// The owner's id.
    pub owner_id: String,
    /// The mission it counts against.
    pub mission_id: Option<MissionId>,
    /// What it holds.
    pub amount_ucr: Ucr,
    /// The part promised to calls in flight.
    pub reserved_ucr: Ucr,
    /// The part that finished calls used.
    pub used_ucr: Ucr,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it closes by itself.
    pub expires_at: Option<Timestamp>,
}

/// A ledger operation with its legs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryView {
    /// Its id.
    pub id: OpId,
    /// What it is.
    pub kind: String,
    /// Its natural key.
    pub key: String,
    /// `[[source, destination, µcr], …]`.
    pub legs: Value,
    /// The mission it belongs to.
    pub mission_id: Option<MissionId>,
    /// The task it belongs to.
    pub task_id: Option<TaskId>,
    /// Who did it.
    pub actor: Option<String>,
    /// Available credits after it.
    pub available_after_ucr: Ucr,
    /// When it was posted.
    pub created_at: Timestamp,
    /// Why, where a person said so.
    pub reason: Option<String>,
}

/// Parameters: 1 is now, 2 its day since 1970, 3 its month since 1970.
pub(super) const WALLET: &str = "
select w.id, w.tenant_id, w.held_ucr, w.debt_ucr, w.frozen, w.created_at,
  w.available_ucr - coalesce(cast((
    select sum(g.remaining_ucr) from grants g
    where g.wallet_id = w.id and not g.expired and g.expires_at <= $1) as bigint), 0) as available_ucr,
  w.overrun, w.charge_failed, w.day_limit_ucr, w.month_limit_ucr, w.mission_limit_ucr,
  case when w.day = $2 then w.day_spent_ucr else 0 end as day_spent_ucr,
  case when w.month = $3 then w.month_spent_ucr else 0 end as month_spent_ucr";

/// The parameters of [`WALLET`], then the others.
pub(super) fn at<const N: usize>(now: Timestamp, others: [Arg; N]) -> Vec<Arg> {
    let day = i64::from(calendar::day_number(now));
    let month = i64::from(calendar::Month::of(now).number());
    [now.into(), day.into(), month.into()].into_iter().chain(others).collect()
}

impl dyn Store {
    /// A tenant's main wallet: its oldest.
    pub async fn wallet_of(&self, tenant: TenantId, now: Timestamp) -> Result<Option<WalletView>, StoreError> {
        let sql = format!("{WALLET} from wallets w where w.tenant_id = $4 order by w.id limit 1");
        first(self.rows(&sql, &at(now, [tenant.into()])).await?)
    }

    /// One wallet.
    pub async fn wallet(
        &self,
        tenant: Option<TenantId>,
        id: WalletId,
        now: Timestamp,
    ) -> Result<Option<WalletView>, StoreError> {
        let sql = format!("{WALLET} from wallets w where w.id = $4 and ($5 is null or w.tenant_id = $5)");
        let tenant = Arg::Text(tenant.map(|id| id.to_string()));
        first(self.rows(&sql, &at(now, [id.into(), tenant])).await?)
    }

    /// One grant; the tenant was checked with the wallet.
    pub async fn grant(&self, id: GrantId) -> Result<Option<GrantView>, StoreError> {
        let sql = "
            select id, kind, priority, amount_ucr, remaining_ucr, expires_at, expired, reason, created_at from grants
            where id = $1";
        first(self.rows(sql, &[id.into()]).await?)
    }

    /// A wallet's grants, newest first, older than `before`.
    pub async fn grants(
        &self,
        wallet: WalletId,
        before: Option<GrantId>,
        limit: i64,
    ) -> Result<Vec<GrantView>, StoreError> {
        let sql = "
            select id, kind, priority, amount_ucr, remaining_ucr, expires_at, expired, reason, created_at from grants
            where wallet_id = $1 and ($2 is null or id < $2)
            order by id desc limit $3";
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(sql, &[wallet.into(), before, limit.into()]).await?)
    }

    /// A wallet's open holds, newest first, older than `before`.
    pub async fn open_holds(
        &self,
        wallet: WalletId,
        before: Option<HoldId>,
        limit: i64,
    ) -> Result<Vec<HoldView>, StoreError> {
        let sql = "
            select id, owner_kind, owner_id, mission_id, amount_ucr, reserved_ucr, used_ucr, created_at, expires_at
            from holds
            where wallet_id = $1 and state = 'open' and ($2 is null or id < $2)
            order by id desc limit $3";
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(sql, &[wallet.into(), before, limit.into()]).await?)
    }

    /// One operation of a wallet.
    pub async fn entry(&self, wallet: WalletId, id: OpId) -> Result<Option<EntryView>, StoreError> {
        let sql = "
            select id, kind, key, legs, mission_id, task_id, actor, reason, available_after_ucr, created_at from ops
            where wallet_id = $1 and id = $2";
        first(self.rows(sql, &[wallet.into(), id.into()]).await?)
    }

    /// The last hold that was made for a task.
    pub async fn hold_of(&self, task: TaskId) -> Result<Option<HoldId>, StoreError> {
        #[derive(Deserialize)]
        struct Row {
            legs: Vec<Leg>,
        }
        let sql = "
            select o.legs
            from tasks t
            join missions m on m.id = t.mission_id
            join ops o on o.wallet_id = m.wallet_id and o.key = 'hold:' || t.id || ':' || t.holds
            where t.id = $1";
        let row = first::<Row>(self.rows(sql, &[task.into()]).await?)?;
        let to_hold = |leg: &Leg| if let Account::Hold(id) = leg.1 { Some(id) } else { None };
        Ok(row.and_then(|row| row.legs.iter().find_map(to_hold)))
    }

    /// A wallet's ledger operations, newest first, older than `before`.
    pub async fn entries(
        &self,
        wallet: WalletId,
        before: Option<OpId>,
        limit: i64,
    ) -> Result<Vec<EntryView>, StoreError> {
        let sql = "
            select id, kind, key, legs, mission_id, task_id, actor, reason, available_after_ucr, created_at from ops
            where wallet_id = $1 and ($2 is null or id < $2)
            order by id desc limit $3";
        let before = Arg::Text(before.map(|id| id.to_string()));
        all(self.rows(sql, &[wallet.into(), before, limit.into()]).await?)
    }
}
