//! A wallet's ledger with filters, and what each operation did to the owner's credits.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{GrantId, MissionId, OpId, TaskId, WalletId};
use bursar_domain::record::{Account, Leg};
use bursar_domain::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::super::{Arg, Store, StoreError};
use super::all;
use super::money::EntryView;

/// Which operations of a wallet to list.
#[derive(Debug, Clone)]
pub struct OpFilter {
    /// Whose.
    pub wallet: WalletId,
    /// Only those that changed what the owner has, with what is held and owed: holds and what goes home are left out.
    pub only_transactions: bool,
    /// Only of these kinds; empty is all.
    pub kinds: Vec<String>,
    /// Only of this mission.
    pub mission: Option<MissionId>,
    /// Only of this task.
    pub task: Option<TaskId>,
    /// Only posted at or after.
    pub from: Option<Timestamp>,
    /// Only posted before.
    pub to: Option<Timestamp>,
    /// Only older than this one (keyset).
    pub before: Option<OpId>,
    /// How many at most.
    pub limit: i64,
}

impl OpFilter {
    /// All operations of a wallet, the newest `limit`.
    pub fn of(wallet: WalletId, limit: i64) -> Self {
        Self {
            wallet,
            only_transactions: false,
            kinds: Vec::new(),
            mission: None,
            task: None,
            from: None,
            to: None,
            before: None,
            limit,
        }
    }
}

/// What legs did to a wallet. Amounts are signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// To what can be held or spent.
    pub available_ucr: i128,
    /// To what is held.
    pub held_ucr: i128,
    /// To what is owed.
    pub debt_ucr: i128,
}

impl Change {
    /// What all legs did together.
    pub fn of(legs: &[Leg]) -> Self {
        let mut change = Self::default();
        for Leg(from, to, amount) in legs {
            change.add(*from, amount.get(), -1);
            change.add(*to, amount.get(), 1);
        }
        change
    }

    fn add(&mut self, account: Account, amount: i64, sign: i128) {
        let amount = i128::from(amount) * sign;
        match account {
            Account::Grant(_) => self.available_ucr += amount,
            Account::Hold(_) => self.held_ucr += amount,
            // what enters the debt account is repaid, what leaves it is owed
            Account::Debt => self.debt_ucr -= amount,
            Account::Issue
            | Account::Usage
            | Account::Fee
            | Account::Breakage
            | Account::Writeoff
            | Account::Adjust => {}
        }
    }

    /// To available + held − debt: what the owner has gained or lost.
    pub const fn total_ucr(self) -> i128 {
        self.available_ucr + self.held_ucr - self.debt_ucr
    }
}

/// An amount that was summed wide, as it is stored.
pub(super) fn narrow(sum: i128) -> Result<Ucr, StoreError> {
    let amount =
        i64::try_from(sum).map_err(|_| StoreError::Corrupt(format!("{sum} µcr is more than a wallet holds")))?;
    Ok(Ucr::new(amount))
}

/// One operation as the owner of the wallet sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionView {
    /// The operation with its legs.
    pub op: EntryView,
    /// What the owner gained (positive) or lost (negative): the change of available + held − debt.
    pub amount_ucr: Ucr,
    /// What it did to the available credits alone.
    pub available_change_ucr: Ucr,
}

impl TransactionView {
    fn of(op: EntryView) -> Result<Self, StoreError> {
        let legs: Vec<Leg> = Vec::deserialize(&op.legs).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let change = Change::of(&legs);
        Ok(Self { amount_ucr: narrow(change.total_ucr())?, available_change_ucr: narrow(change.available_ucr)?, op })
    }

    /// What the owner calls it: a settle is a `charge`, the others keep their kind.
    pub fn kind(&self) -> &str {
        if self.op.kind == "settle" { "charge" } else { &self.op.kind }
    }

    /// The ledger key without the word before it: an invoice's number, a hold's id.
    pub fn reference(&self) -> &str {
        self.op.key.split_once(':').map_or(self.op.key.as_str(), |(_, reference)| reference)
    }
}

/// What was granted under a reference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GrantedView {
    /// The wallet.
    pub wallet_id: WalletId,
    /// The ledger key, `grant:<reference>`.
    pub key: String,
    /// The grant.
    pub id: GrantId,
    /// Where it came from.
    pub kind: String,
    /// 0 is spent first.
    pub priority: i16,
    /// How much.
    pub amount_ucr: Ucr,
    /// From when it can't be spent.
    pub expires_at: Option<Timestamp>,
}

/// What touches an account outside of the wallet changes what the owner has; nothing else does. About half of a
/// ledger does: written as a plain condition, Postgres takes it for rare and reads a whole wallet for every page.
const CROSSES: &str = r#"case
    when cast(o.legs as text) like '%"issue"%' or cast(o.legs as text) like '%"usage"%'
      or cast(o.legs as text) like '%"fee"%' or cast(o.legs as text) like '%"breakage"%'
      or cast(o.legs as text) like '%"writeoff"%' or cast(o.legs as text) like '%"adjust"%' then 1 else 0 end"#;

impl dyn Store {
    /// A wallet's operations, newest first.
    pub async fn ops(&self, filter: &OpFilter) -> Result<Vec<EntryView>, StoreError> {
        let sql = format!(
            "select o.id, o.kind, o.key, o.legs, o.mission_id, o.task_id, o.actor, o.available_after_ucr, o.created_at,
               o.reason
             from ops o
             where o.wallet_id = $1
               and ($2 is null or o.id < $2)
               and ($3 = 0 or {CROSSES} <> 0)
               and ($4 = 1 or o.kind in {{list:5}})
               and ($6 is null or o.mission_id = $6)
               and ($7 is null or o.task_id = $7)
               and ($8 = 0 or o.created_at >= $9)
               and ($10 = 0 or o.created_at < $11)
             order by o.id desc limit $12"
        );
        let args = [
            filter.wallet.into(),
            Arg::Text(filter.before.map(|id| id.to_string())),
            i64::from(filter.only_transactions).into(),
            i64::from(filter.kinds.is_empty()).into(),
            json!(filter.kinds).into(),
            Arg::Text(filter.mission.map(|id| id.to_string())),
            Arg::Text(filter.task.map(|id| id.to_string())),
            i64::from(filter.from.is_some()).into(),
            filter.from.unwrap_or_default().into(),
            i64::from(filter.to.is_some()).into(),
            filter.to.unwrap_or_default().into(),
            filter.limit.into(),
        ];
        all(self.rows(&sql, &args).await?)
    }

    /// A wallet's operations as its owner sees them, newest first.
    pub async fn transactions(&self, filter: &OpFilter) -> Result<Vec<TransactionView>, StoreError> {
        self.ops(filter).await?.into_iter().map(TransactionView::of).collect()
    }

    /// What was granted under those references: pairs of a wallet and a ledger key.
    pub async fn granted(&self, keys: &[(WalletId, String)]) -> Result<Vec<GrantedView>, StoreError> {
        let sql = "
            select o.wallet_id, o.key, g.id, g.kind, g.priority, g.amount_ucr, g.expires_at
            from {pairs:1} k
            join ops o on o.wallet_id = k.a and o.key = k.b
            join grants g on g.id = substr(o.legs -> 0 ->> 1, 7)";
        all(self.rows(sql, &[json!(keys).into()]).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_crosses_the_border_of_a_wallet_is_gained_or_lost() {
        let grant = Account::Grant(GrantId::from_uuid(uuid::Uuid::from_u128(1)));
        let hold = Account::Hold(bursar_domain::id::HoldId::from_uuid(uuid::Uuid::from_u128(2)));
        let leg = |from, to| [Leg(from, to, Ucr::new(5))];
        for (legs, total) in [
            (leg(Account::Issue, grant), 5),
            (leg(grant, hold), 0),
            (leg(hold, grant), 0),
            (leg(hold, Account::Usage), -5),
            (leg(hold, Account::Fee), -5),
            (leg(Account::Debt, Account::Usage), -5),
            (leg(grant, Account::Debt), 0),
            (leg(Account::Usage, grant), 5),
            (leg(Account::Fee, Account::Debt), 5),
            (leg(Account::Adjust, grant), 5),
            (leg(grant, Account::Adjust), -5),
            (leg(Account::Writeoff, Account::Debt), 5),
            (leg(grant, Account::Breakage), -5),
            (leg(hold, Account::Breakage), -5),
        ] {
            assert_eq!(Change::of(&legs).total_ucr(), total, "{legs:?}");
        }
    }
}
