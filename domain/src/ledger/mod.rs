//! The two-phase ledger: grant, hold, top up, shrink, settle, release, expire, refund, adjust, write off.
//!
//! Each function takes the loaded rows, refuses by name before it changes anything, or posts ONE immutable
//! operation with its legs and moves the balances accordingly. The shape is that of two-phase transfers
//! (reserve, then capture or void) as in [TigerBeetle](https://docs.tigerbeetle.com/coding/two-phase-transfers/).

mod charge;
mod correct;
mod draw;
mod grant;
mod hold;
mod limit;
mod terms;

#[cfg(test)]
mod tests;

pub use charge::{Charge, Settled, expire_hold, release, settle, settle_key};
pub use correct::{Correction, adjust, adjust_key, origins, refund, refund_key, write_off, write_off_key};
pub use draw::{draw_order, spendable};
pub use grant::{GrantRequest, expire, grant, open_wallet};
pub use hold::{HoldRequest, check_room, hold, shrink, top_up};
pub use limit::{Period, crosses_alert, spent_now};
pub use terms::{Terms, set_terms};

use crate::credits::Ucr;
use crate::id::{HoldId, MissionId, OpId, TaskId, WalletId};
use crate::record::{Leg, Op, OpKind};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

/// Why the ledger refuses an operation, in the order of the checks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerRefusal {
    /// The wallet does not exist (or was not loaded).
    #[error("wallet {0} does not exist")]
    UnknownWallet(WalletId),
    /// The hold does not exist (or was not loaded).
    #[error("hold {0} does not exist")]
    UnknownHold(HoldId),
    /// The amount is zero or negative.
    #[error("the amount must be greater than zero, got {0}")]
    AmountNotPositive(Ucr),
    /// The sum would not fit.
    #[error("the amount is too large for the wallet's balance")]
    AmountOverflow,
    /// The same key was used for something else.
    #[error("`{0}` was posted before with another content")]
    KeyReused(String),
    /// A grant that would be over before it is given.
    #[error("the grant would have expired already")]
    ExpiredAlready,
    /// The hold is closed.
    #[error("hold {0} is closed")]
    HoldClosed(HoldId),
    /// The wallet makes no new holds until it is thawed.
    #[error("the wallet is frozen")]
    WalletFrozen,
    /// A limit of the wallet does not allow it.
    #[error("the wallet may spend {limit} credits in a {}: {room} are left and {required} are needed", period.as_str())]
    OverLimit {
        /// Which limit.
        period: Period,
        /// The limit.
        limit: Ucr,
        /// What is left of it.
        room: Ucr,
        /// What is needed.
        required: Ucr,
    },
    /// More is to be given back than was charged.
    #[error("{wanted} credits are to be refunded and {charged} of the charge are left")]
    NotRefundable {
        /// What can be refunded.
        charged: Ucr,
        /// What was asked.
        wanted: Ucr,
    },
    /// More debt is to be given up than there is.
    #[error("{wanted} credits of debt are to be written off and the wallet owes {debt}")]
    NotOwed {
        /// What is owed.
        debt: Ucr,
        /// What was asked.
        wanted: Ucr,
    },
    /// A correction by hand without a name or a reason.
    #[error("a correction needs an actor and a reason")]
    Unexplained,
    /// The wallet owes credits; the next grant repays them first.
    #[error("the wallet owes {0} credits")]
    InDebt(Ucr),
    /// Not enough credits.
    #[error("{required} credits are needed and {available} are available")]
    Insufficient {
        /// What the operation needs.
        required: Ucr,
        /// What could be drawn.
        available: Ucr,
    },
}

/// What an operation belongs to, besides its wallet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject {
    /// The mission it counts against.
    pub mission_id: Option<MissionId>,
    /// The task it is for.
    pub task_id: Option<TaskId>,
}

/// What is posted: everything of an [`Op`] that is not derived from the wallet.
struct Posting {
    id: OpId,
    wallet_id: WalletId,
    kind: OpKind,
    key: String,
    request_hash: String,
    legs: Vec<Leg>,
    subject: Subject,
    actor: Option<String>,
    reason: Option<String>,
    now: Timestamp,
}

/// The operation that was posted under the key before: `None` when there is none, a refusal when it says otherwise.
fn posted<'a>(set: &'a WorkingSet, wallet: WalletId, key: &str, hash: &str) -> Result<Option<&'a Op>, LedgerRefusal> {
    let same_key = |op: &&Op| op.wallet_id == wallet && op.key == key;
    let known = set.known_ops.get(&(wallet, key.to_owned())).or_else(|| set.ops.iter().find(same_key));
    match known {
        Some(op) if op.request_hash != hash => Err(LedgerRefusal::KeyReused(key.to_owned())),
        known => Ok(known),
    }
}

/// Refuses credits that would not fit: what is held comes back some day, so it counts.
fn check_total(set: &WorkingSet, id: WalletId, amount: Ucr) -> Result<(), LedgerRefusal> {
    let wallet = set.wallets.get(id).ok_or(LedgerRefusal::UnknownWallet(id))?;
    let total = wallet.available_ucr.checked_add(wallet.held_ucr).and_then(|sum| sum.checked_add(amount));
    total.map(drop).ok_or(LedgerRefusal::AmountOverflow)
}

/// Appends the operation. Called last, after the balances moved.
fn post(set: &mut WorkingSet, posting: Posting) {
    let Some(wallet) = set.wallets.get(posting.wallet_id) else { return };
    set.ops.push(Op {
        id: posting.id,
        wallet_id: posting.wallet_id,
        tenant_id: wallet.tenant_id,
        kind: posting.kind,
        key: posting.key,
        request_hash: posting.request_hash,
        legs: posting.legs.into_iter().filter(|leg| leg.2.is_positive()).collect(),
        mission_id: posting.subject.mission_id,
        task_id: posting.subject.task_id,
        actor: posting.actor,
        available_after_ucr: wallet.available_ucr,
        created_at: posting.now,
        reason: posting.reason,
    });
}
