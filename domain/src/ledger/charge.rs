//! A hold ends: settled (charge and return in ONE operation with ONE key) or released.

use crate::credits::Ucr;
use crate::id::{HoldId, OpId};
use crate::record::{Account, HoldState, Leg, OpKind, Overrun, Slice};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

use super::draw::{plan_draw, take, total};
use super::hold::send_home;
use super::limit::count_spent;
use super::{LedgerRefusal, Posting, Subject, post};

/// What is charged when a hold settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// For what was used; may be zero.
    Usage(Ucr),
    /// A flat fee.
    Fee(Ucr),
    /// For what a task used that failed, where the wallet's policy charges that.
    Failure(Ucr),
}

/// What a settle did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Charged from the hold.
    pub captured: Ucr,
    /// Given back.
    pub returned: Ucr,
    /// Charged beyond the hold, from other grants.
    pub overrun: Ucr,
    /// Charged beyond everything: now owed.
    pub debt: Ucr,
}

impl Settled {
    /// Everything that was charged.
    pub fn charged(self) -> Ucr {
        [self.captured, self.overrun, self.debt].into_iter().sum()
    }
}

/// Splits a hold's slices, in draw order, into what is captured and what goes home.
pub(super) fn split(slices: &[Slice], capture: Ucr) -> (Vec<Slice>, Vec<Slice>) {
    let mut missing = capture;
    let (mut captured, mut home) = (Vec::new(), Vec::new());
    for slice in slices {
        let taken = missing.min(slice.amount);
        missing = missing.minus_or_zero(taken);
        if taken.is_positive() {
            captured.push(Slice { grant: slice.grant, amount: taken });
        }
        if slice.amount > taken {
            home.push(Slice { grant: slice.grant, amount: slice.amount.minus_or_zero(taken) });
        }
    }
    (captured, home)
}

/// Closes a hold with a charge. What comes after a hold's own deadline is charged once, all of it beyond the hold.
///
/// Never fails for lack of credits: what the hold does not cover is an overrun.
pub fn settle(
    set: &mut WorkingSet,
    id: HoldId,
    op_id: OpId,
    charge: Charge,
    subject: Subject,
    now: Timestamp,
) -> Result<Settled, LedgerRefusal> {
    let row = set.holds.get(id).ok_or(LedgerRefusal::UnknownHold(id))?;
    let is_late = row.state == HoldState::Expired;
    if row.state != HoldState::Open && !(is_late && row.overrun_ucr.is_zero()) {
        return Err(LedgerRefusal::HoldClosed(id));
    }
    let (amount, sink) = match charge {
        Charge::Usage(amount) | Charge::Failure(amount) => (amount, Account::Usage),
        Charge::Fee(amount) => (amount, Account::Fee),
    };
    let wallet_id = row.wallet_id;
    let (captured, home) = if is_late { (Vec::new(), Vec::new()) } else { split(&row.slices, amount) };
    let (captured_ucr, returned_ucr) = (total(&captured), total(&home));

    let mut legs = vec![Leg(Account::Hold(id), sink, captured_ucr)];
    if let Some(wallet) = set.wallets.change(wallet_id) {
        wallet.held_ucr = wallet.held_ucr.minus_or_zero(captured_ucr);
    }
    legs.extend(send_home(set, wallet_id, id, &home, now));
    let beyond = amount.minus_or_zero(captured_ucr);
    let (overrun, debt) = charge_beyond(set, wallet_id, sink, beyond, &mut legs, now);
    if !is_late {
        close(set, id, HoldState::Settled, captured_ucr, returned_ucr, now);
    }
    if let Some(row) = set.holds.change(id) {
        row.overrun_ucr = overrun.saturating_add(debt);
    }
    let settled = Settled { captured: captured_ucr, returned: returned_ucr, overrun, debt };
    if let Some(wallet) = set.wallets.change(wallet_id) {
        count_spent(wallet, settled.charged(), now);
    }
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::Settle,
        key: format!("settle:{id}"),
        request_hash: amount.get().to_string(),
        legs,
        subject,
        actor: None,
        reason: reason_of(charge, beyond, settled),
        now,
    };
    post(set, posting);
    Ok(settled)
}

/// What is out of the ordinary about a settle, in fixed words: `bursar verify` looks for them.
fn reason_of(charge: Charge, beyond: Ucr, settled: Settled) -> Option<String> {
    let absorbed = beyond > settled.overrun.saturating_add(settled.debt);
    let reason = match (charge, absorbed) {
        (Charge::Failure(_), false) => "failed, charged by policy",
        (Charge::Failure(_), true) => "failed, charged by policy; overrun absorbed",
        (Charge::Usage(_) | Charge::Fee(_), true) => "overrun absorbed",
        (Charge::Usage(_) | Charge::Fee(_), false) => return None,
    };
    Some(reason.to_owned())
}

/// Takes what a hold did not cover from other grants, then as debt; or not at all, as the wallet's policy says.
fn charge_beyond(
    set: &mut WorkingSet,
    wallet_id: crate::id::WalletId,
    sink: Account,
    beyond: Ucr,
    legs: &mut Vec<Leg>,
    now: Timestamp,
) -> (Ucr, Ucr) {
    let absorbs = set.wallets.get(wallet_id).is_some_and(|wallet| wallet.overrun == Overrun::Absorb);
    if absorbs || !beyond.is_positive() {
        return (Ucr::ZERO, Ucr::ZERO);
    }
    let drawn = plan_draw(set, wallet_id, beyond, now);
    take(set, wallet_id, &drawn);
    legs.extend(drawn.iter().map(|slice| Leg(Account::Grant(slice.grant), sink, slice.amount)));
    let overrun = total(&drawn);
    let debt = beyond.minus_or_zero(overrun);
    legs.push(Leg(Account::Debt, sink, debt));
    if let Some(wallet) = set.wallets.change(wallet_id) {
        wallet.debt_ucr = wallet.debt_ucr.saturating_add(debt);
    }
    (overrun, debt)
}

/// Closes a hold without a charge: all of it goes home.
pub fn release(
    set: &mut WorkingSet,
    id: HoldId,
    op_id: OpId,
    subject: Subject,
    now: Timestamp,
) -> Result<Ucr, LedgerRefusal> {
    let row = set.holds.get(id).ok_or(LedgerRefusal::UnknownHold(id))?;
    if row.state != HoldState::Open {
        return Err(LedgerRefusal::HoldClosed(id));
    }
    let (wallet_id, slices) = (row.wallet_id, row.slices.clone());
    let returned = total(&slices);
    let legs = send_home(set, wallet_id, id, &slices, now);
    close(set, id, HoldState::Released, Ucr::ZERO, returned, now);
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::Release,
        key: format!("settle:{id}"),
        request_hash: "release".to_owned(),
        legs,
        subject,
        actor: None,
        reason: None,
        now,
    };
    post(set, posting);
    Ok(returned)
}

/// Gives a hold back whose own deadline passed. Returns what went back; nothing twice.
pub fn expire_hold(set: &mut WorkingSet, id: HoldId, op_id: OpId, now: Timestamp) -> Option<Ucr> {
    let row = set.holds.get(id)?;
    let is_over = row.state == HoldState::Open && row.expires_at.is_some_and(|deadline| deadline <= now);
    if !is_over {
        return None;
    }
    let (wallet_id, slices) = (row.wallet_id, row.slices.clone());
    let subject = Subject { mission_id: row.mission_id, task_id: None };
    let returned = total(&slices);
    let legs = send_home(set, wallet_id, id, &slices, now);
    close(set, id, HoldState::Expired, Ucr::ZERO, returned, now);
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::Expire,
        key: format!("expire:{id}"),
        request_hash: String::new(),
        legs,
        subject,
        actor: None,
        reason: None,
        now,
    };
    post(set, posting);
    Some(returned)
}

fn close(set: &mut WorkingSet, id: HoldId, state: HoldState, captured: Ucr, returned: Ucr, now: Timestamp) {
    if let Some(row) = set.holds.change(id) {
        row.state = state;
        row.captured_ucr = captured;
        row.returned_ucr = returned;
        row.reserved_ucr = Ucr::ZERO;
        row.closed_at = Some(now);
    }
}
