//! A hold ends: settled (charge and return in ONE operation with ONE key) or released.

use crate::credits::Ucr;
use crate::id::{HoldId, OpId};
use crate::record::{Account, HoldState, Leg, Op, OpKind, Overrun, Slice};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

use super::draw::{plan_draw, take, total};
use super::hold::send_home;
use super::limit::count_spent;
use super::{LedgerRefusal, Posting, Subject, post, posted};

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

    /// What a posted settle did, by its legs.
    fn of(op: &Op) -> Self {
        let sum = |is_part: fn(Account, Account) -> bool| {
            op.legs.iter().filter(|leg| is_part(leg.0, leg.1)).map(|leg| leg.2).sum()
        };
        Self {
            captured: sum(|from, to| matches!((from, to), (Account::Hold(_), Account::Usage | Account::Fee))),
            returned: sum(|from, to| matches!((from, to), (Account::Hold(_), Account::Grant(_) | Account::Breakage))),
            overrun: sum(|from, _| matches!(from, Account::Grant(_))),
            debt: sum(|from, _| from == Account::Debt),
        }
    }
}

/// The ledger key under which a hold is closed, whichever way.
pub fn settle_key(hold: HoldId) -> String {
    format!("settle:{hold}")
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
/// Never fails for lack of credits: what the hold does not cover is an overrun. The same again, where the first time's
/// operation was loaded, changes nothing and returns what the first time did.
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
    let (Charge::Usage(amount) | Charge::Failure(amount) | Charge::Fee(amount)) = charge;
    let (wallet_id, request_hash) = (row.wallet_id, amount.get().to_string());
    if row.state != HoldState::Open
        && let Some(op) = posted(set, wallet_id, &settle_key(id), &request_hash)?
    {
        return Ok(Settled::of(op));
    }
    if row.state != HoldState::Open && !(is_late && row.overrun_ucr.is_zero()) {
        return Err(LedgerRefusal::HoldClosed(id));
    }
    let sink = if matches!(charge, Charge::Fee(_)) { Account::Fee } else { Account::Usage };
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
        key: settle_key(id),
        request_hash,
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

/// What the key of a hold was used for when it closed without a charge.
const RELEASED: &str = "release";

/// Closes a hold without a charge: all of it goes home. Returns what went, also when it did before and that operation
/// was loaded.
pub fn release(
    set: &mut WorkingSet,
    id: HoldId,
    op_id: OpId,
    subject: Subject,
    now: Timestamp,
) -> Result<Ucr, LedgerRefusal> {
    let row = set.holds.get(id).ok_or(LedgerRefusal::UnknownHold(id))?;
    if row.state != HoldState::Open {
        let known = posted(set, row.wallet_id, &settle_key(id), RELEASED)?;
        return known.map(|_| row.returned_ucr).ok_or(LedgerRefusal::HoldClosed(id));
    }
    let (wallet_id, slices) = (row.wallet_id, row.slices.clone());
    let returned = total(&slices);
    let legs = send_home(set, wallet_id, id, &slices, now);
    close(set, id, HoldState::Released, Ucr::ZERO, returned, now);
    let posting = Posting {
        id: op_id,
        wallet_id,
        kind: OpKind::Release,
        key: settle_key(id),
        request_hash: RELEASED.to_owned(),
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
