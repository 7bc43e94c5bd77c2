//! Credits are reserved: a hold is made, topped up, shrunk.

use crate::credits::Ucr;
use crate::id::{HoldId, OpId, WalletId};
use crate::record::{Account, Hold, HoldOwner, HoldState, Leg, OpKind, Slice};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

use super::draw::{plan_draw, spendable, take, total};
use super::grant::revive;
use super::limit::check_limits;
use super::{LedgerRefusal, Posting, Subject, post};

/// What a new hold needs.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    /// The new hold's id.
    pub id: HoldId,
    /// The operation's id.
    pub op_id: OpId,
    /// Whose credits.
    pub wallet_id: WalletId,
    /// What kind of owner.
    pub owner_kind: HoldOwner,
    /// The owner's id.
    pub owner_id: String,
    /// How often the owner held before: numbers the key `hold:<owner>:<n>`.
    pub number: i32,
    /// How much, greater than zero.
    pub amount: Ucr,
    /// What it is for.
    pub subject: Subject,
    /// When it gives itself back; only for calls from outside any mission.
    pub expires_at: Option<Timestamp>,
}

impl HoldRequest {
    /// The ledger key of the operation.
    pub fn key(&self) -> String {
        format!("hold:{}:{}", self.owner_id, self.number)
    }

    fn hash(&self) -> String {
        self.amount.get().to_string()
    }
}

/// Whether `amount` could be held now; refuses by name otherwise. Changes nothing.
pub fn check_room(set: &WorkingSet, wallet: WalletId, amount: Ucr, now: Timestamp) -> Result<(), LedgerRefusal> {
    let row = set.wallets.get(wallet).ok_or(LedgerRefusal::UnknownWallet(wallet))?;
    if !amount.is_positive() {
        return Err(LedgerRefusal::AmountNotPositive(amount));
    }
    if row.frozen {
        return Err(LedgerRefusal::WalletFrozen);
    }
    if row.debt_ucr.is_positive() {
        return Err(LedgerRefusal::InDebt(row.debt_ucr));
    }
    check_limits(row, amount, now)?;
    let available = spendable(set, wallet, now);
    if available < amount {
        return Err(LedgerRefusal::Insufficient { required: amount, available });
    }
    row.held_ucr.checked_add(amount).ok_or(LedgerRefusal::AmountOverflow)?;
    Ok(())
}

fn reserve(
    set: &mut WorkingSet,
    wallet: WalletId,
    hold: HoldId,
    amount: Ucr,
    now: Timestamp,
) -> (Vec<Slice>, Vec<Leg>) {
    let slices = plan_draw(set, wallet, amount, now);
    take(set, wallet, &slices);
    if let Some(wallet) = set.wallets.change(wallet) {
        wallet.held_ucr = wallet.held_ucr.saturating_add(total(&slices));
    }
    let legs = slices.iter().map(|slice| Leg(Account::Grant(slice.grant), Account::Hold(hold), slice.amount)).collect();
    (slices, legs)
}

/// Reserves credits in draw order. Returns the hold's id: on a replay whose operation was loaded that of the first time.
pub fn hold(set: &mut WorkingSet, request: &HoldRequest, now: Timestamp) -> Result<HoldId, LedgerRefusal> {
    if let Some(op) = set.known_ops.get(&(request.wallet_id, request.key())) {
        let first = op.legs.first().map(|leg| leg.1);
        return match first {
            Some(Account::Hold(id)) if op.request_hash == request.hash() => Ok(id),
            _ => Err(LedgerRefusal::KeyReused(request.key())),
        };
    }
    check_room(set, request.wallet_id, request.amount, now)?;
    let tenant_id = match set.wallets.get(request.wallet_id) {
        Some(wallet) => wallet.tenant_id,
        None => return Err(LedgerRefusal::UnknownWallet(request.wallet_id)),
    };
    let (slices, legs) = reserve(set, request.wallet_id, request.id, request.amount, now);
    let row = Hold {
        id: request.id,
        wallet_id: request.wallet_id,
        tenant_id,
        owner_kind: request.owner_kind,
        owner_id: request.owner_id.clone(),
        mission_id: request.subject.mission_id,
        state: HoldState::Open,
        amount_ucr: request.amount,
        reserved_ucr: Ucr::ZERO,
        used_ucr: Ucr::ZERO,
        captured_ucr: Ucr::ZERO,
        returned_ucr: Ucr::ZERO,
        slices,
        resizes: 0,
        created_at: now,
        closed_at: None,
        expires_at: request.expires_at,
        refunded_ucr: Ucr::ZERO,
        overrun_ucr: Ucr::ZERO,
    };
    set.holds.add(request.id, row);
    let posting = Posting {
        id: request.op_id,
        wallet_id: request.wallet_id,
        kind: OpKind::Hold,
        key: request.key(),
        request_hash: request.hash(),
        legs,
        subject: request.subject,
        actor: None,
        reason: None,
        now,
    };
    post(set, posting);
    Ok(request.id)
}

/// Adds to an open hold, in draw order.
pub fn top_up(
    set: &mut WorkingSet,
    id: HoldId,
    op_id: OpId,
    amount: Ucr,
    subject: Subject,
    now: Timestamp,
) -> Result<(), LedgerRefusal> {
    let row = set.holds.get(id).ok_or(LedgerRefusal::UnknownHold(id))?;
    if row.state != HoldState::Open {
        return Err(LedgerRefusal::HoldClosed(id));
    }
    let (wallet_id, number) = (row.wallet_id, row.resizes.saturating_add(1));
    check_room(set, wallet_id, amount, now)?;
    let (slices, legs) = reserve(set, wallet_id, id, amount, now);
    if let Some(row) = set.holds.change(id) {
        row.amount_ucr = row.amount_ucr.saturating_add(amount);
        row.resizes = number;
        for slice in slices {
            match row.slices.iter_mut().find(|known| known.grant == slice.grant) {
                Some(known) => known.amount = known.amount.saturating_add(slice.amount),
                None => row.slices.push(slice),
            }
        }
    }
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::TopUp,
        key: format!("topup:{id}:{number}"),
        request_hash: amount.get().to_string(),
        legs,
        subject,
        actor: None,
        reason: None,
        now,
    };
    post(set, posting);
    Ok(())
}

/// Gives back what a hold has beyond `keep`: the last drawn goes home first.
pub fn shrink(
    set: &mut WorkingSet,
    id: HoldId,
    op_id: OpId,
    keep: Ucr,
    subject: Subject,
    now: Timestamp,
) -> Result<Ucr, LedgerRefusal> {
    let row = set.holds.get(id).ok_or(LedgerRefusal::UnknownHold(id))?;
    if row.state != HoldState::Open {
        return Err(LedgerRefusal::HoldClosed(id));
    }
    let (wallet_id, number) = (row.wallet_id, row.resizes.saturating_add(1));
    let surplus = row.amount_ucr.minus_or_zero(keep);
    if !surplus.is_positive() {
        return Ok(Ucr::ZERO);
    }
    let mut missing = surplus;
    let mut given_back = Vec::new();
    let mut kept = Vec::new();
    for slice in row.slices.iter().rev() {
        let back = missing.min(slice.amount);
        missing = missing.minus_or_zero(back);
        if back.is_positive() {
            given_back.push(Slice { grant: slice.grant, amount: back });
        }
        if slice.amount > back {
            kept.insert(0, Slice { grant: slice.grant, amount: slice.amount.minus_or_zero(back) });
        }
    }
    let legs = send_home(set, wallet_id, id, &given_back, now);
    if let Some(row) = set.holds.change(id) {
        row.amount_ucr = row.amount_ucr.minus_or_zero(surplus);
        row.slices = kept;
        row.resizes = number;
    }
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::Shrink,
        key: format!("shrink:{id}:{number}"),
        request_hash: surplus.get().to_string(),
        legs,
        subject,
        actor: None,
        reason: None,
        now,
    };
    post(set, posting);
    Ok(surplus)
}

/// Returns slices of a hold to their grants, or to breakage where the grant expired meanwhile; moves balances.
pub(super) fn send_home(
    set: &mut WorkingSet,
    wallet_id: WalletId,
    hold: HoldId,
    slices: &[Slice],
    now: Timestamp,
) -> Vec<Leg> {
    let mut legs = Vec::new();
    for slice in slices {
        let went_home = revive(set, wallet_id, slice.grant, slice.amount, now);
        let home = if went_home { Account::Grant(slice.grant) } else { Account::Breakage };
        legs.push(Leg(Account::Hold(hold), home, slice.amount));
        if let Some(wallet) = set.wallets.change(wallet_id) {
            wallet.held_ucr = wallet.held_ucr.minus_or_zero(slice.amount);
        }
    }
    legs
}
