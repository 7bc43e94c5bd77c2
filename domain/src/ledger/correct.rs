//! Corrections: charges are refunded, balances adjusted by hand, debt given up. Nothing is edited; each is a new
//! operation, under a key of its own that is used once for ever.

use crate::credits::Ucr;
use crate::id::{GrantId, HoldId, OpId, WalletId};
use crate::record::{Account, Grant, GrantKind, HoldState, Leg, Op, OpKind, Slice};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

use super::charge::split;
use super::draw::{plan_draw, spendable, take, total};
use super::grant::{repay_debt, revive};
use super::{LedgerRefusal, Posting, Subject, check_total, post, posted, settle_key};

/// Who corrects, why, and under which key.
#[derive(Debug, Clone)]
pub struct Correction {
    /// The operation's id.
    pub op_id: OpId,
    /// For credits that can't go home: the id of a new grant.
    pub grant_id: GrantId,
    /// Whose credits.
    pub wallet_id: WalletId,
    /// The natural key without its prefix.
    pub reference: String,
    /// Who does it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Correction {
    fn check(&self, set: &WorkingSet) -> Result<(), LedgerRefusal> {
        set.wallets.get(self.wallet_id).ok_or(LedgerRefusal::UnknownWallet(self.wallet_id))?;
        if self.actor.trim().is_empty() || self.reason.trim().is_empty() {
            return Err(LedgerRefusal::Unexplained);
        }
        Ok(())
    }

    fn posting(
        &self,
        kind: OpKind,
        key: String,
        hash: String,
        legs: Vec<Leg>,
        subject: Subject,
        now: Timestamp,
    ) -> Posting {
        Posting {
            id: self.op_id,
            wallet_id: self.wallet_id,
            kind,
            key,
            request_hash: hash,
            legs,
            subject,
            actor: Some(self.actor.clone()),
            reason: Some(self.reason.clone()),
            now,
        }
    }
}

/// The ledger key of a refund.
pub fn refund_key(reference: &str) -> String {
    format!("refund:{reference}")
}

/// Gives part of a settled charge back, in the reverse of the order in which it was taken: debt first, then what
/// came from other grants, then what the hold held, its last slice first. What came from a grant that expired
/// meanwhile becomes a new grant of kind `refund`. Returns the operation's id, on a replay that of the first time.
///
/// The settle's own operation (`settle:<hold>`) must be loaded, its legs say what really happened; and so must the
/// grants of [`origins`], or what came from them would not go home.
pub fn refund(
    set: &mut WorkingSet,
    correction: &Correction,
    hold: HoldId,
    amount: Ucr,
    now: Timestamp,
) -> Result<OpId, LedgerRefusal> {
    correction.check(set)?;
    let row = set.holds.get(hold).filter(|row| row.wallet_id == correction.wallet_id);
    let row = row.ok_or(LedgerRefusal::UnknownHold(hold))?;
    if !amount.is_positive() {
        return Err(LedgerRefusal::AmountNotPositive(amount));
    }
    let (key, hash) = (refund_key(&correction.reference), format!("{hold}/{}", amount.get()));
    if let Some(op) = posted(set, correction.wallet_id, &key, &hash)? {
        return Ok(op.id);
    }
    let charged = row.captured_ucr.saturating_add(row.overrun_ucr);
    let left = charged.minus_or_zero(row.refunded_ucr);
    if row.state == HoldState::Open || left < amount {
        return Err(LedgerRefusal::NotRefundable { charged: left, wanted: amount });
    }
    check_total(set, correction.wallet_id, amount)?;
    let settle = set
        .known_ops
        .get(&(correction.wallet_id, settle_key(hold)))
        .cloned()
        .ok_or(LedgerRefusal::UnknownHold(hold))?;
    let (captured, _) = split(&row.slices, row.captured_ucr);
    let (sources, sink) = taken(&settle, &captured);
    let due = part(&sources, row.refunded_ucr, amount);
    let subject = Subject { mission_id: settle.mission_id, task_id: settle.task_id };

    let legs = give_back(set, correction, sink, &due, now);
    if let Some(row) = set.holds.change(hold) {
        row.refunded_ucr = row.refunded_ucr.saturating_add(amount);
    }
    post(set, correction.posting(OpKind::Refund, key, hash, legs, subject, now));
    Ok(correction.op_id)
}

/// The grants that a hold's charge took from beyond the hold, as far as its settle is loaded: a refund needs them.
pub fn origins(set: &WorkingSet, wallet: WalletId, hold: HoldId) -> Vec<GrantId> {
    let settle = set.known_ops.get(&(wallet, settle_key(hold)));
    let beyond = |leg: &Leg| match (leg.0, leg.1) {
        (Account::Grant(grant), Account::Usage | Account::Fee) => Some(grant),
        _ => None,
    };
    settle.iter().flat_map(|op| op.legs.iter().filter_map(beyond)).collect()
}

/// What a settle took, last first, and into which account it went.
fn taken(settle: &Op, captured: &[Slice]) -> (Vec<(Option<GrantId>, Ucr)>, Account) {
    let mut sink = Account::Usage;
    let mut sources: Vec<(Option<GrantId>, Ucr)> =
        captured.iter().map(|slice| (Some(slice.grant), slice.amount)).collect();
    for Leg(from, to, amount) in &settle.legs {
        match (from, to) {
            (Account::Hold(_), Account::Usage | Account::Fee) => sink = *to,
            (Account::Grant(grant), Account::Usage | Account::Fee) => {
                sink = *to;
                sources.push((Some(*grant), *amount));
            }
            (Account::Debt, Account::Usage | Account::Fee) => {
                sink = *to;
                sources.push((None, *amount));
            }
            _ => {}
        }
    }
    sources.reverse();
    (sources, sink)
}

/// The part of the sources after the first `skip` and up to `amount` more.
fn part(sources: &[(Option<GrantId>, Ucr)], skip: Ucr, amount: Ucr) -> Vec<(Option<GrantId>, Ucr)> {
    let (mut skip, mut missing) = (skip, amount);
    let mut parts = Vec::new();
    for (source, size) in sources {
        let skipped = skip.min(*size);
        skip = skip.minus_or_zero(skipped);
        let taken = missing.min(size.minus_or_zero(skipped));
        missing = missing.minus_or_zero(taken);
        if taken.is_positive() {
            parts.push((*source, taken));
        }
    }
    parts
}

fn give_back(
    set: &mut WorkingSet,
    correction: &Correction,
    sink: Account,
    due: &[(Option<GrantId>, Ucr)],
    now: Timestamp,
) -> Vec<Leg> {
    let mut legs = Vec::new();
    let mut homeless = Ucr::ZERO;
    let mut touched = Vec::new();
    for (source, amount) in due {
        let owed = set.wallets.get(correction.wallet_id).map(|wallet| wallet.debt_ucr).unwrap_or_default();
        // debt that was repaid meanwhile was repaid with credits: they come back as a new grant
        let paid_off = if source.is_none() { owed.min(*amount) } else { Ucr::ZERO };
        if paid_off.is_positive() {
            legs.push(Leg(sink, Account::Debt, paid_off));
            if let Some(wallet) = set.wallets.change(correction.wallet_id) {
                wallet.debt_ucr = wallet.debt_ucr.minus_or_zero(paid_off);
            }
        }
        let rest = amount.minus_or_zero(paid_off);
        match source {
            Some(grant) if revive(set, correction.wallet_id, *grant, rest, now) => {
                legs.push(Leg(sink, Account::Grant(*grant), rest));
                touched.push(*grant);
            }
            _ => homeless = homeless.saturating_add(rest),
        }
    }
    if homeless.is_positive() {
        add_grant(set, correction, GrantKind::Refund, homeless, now);
        legs.push(Leg(sink, Account::Grant(correction.grant_id), homeless));
        touched.push(correction.grant_id);
    }
    for grant in touched {
        legs.extend(repay_debt(set, correction.wallet_id, grant));
    }
    legs
}

fn add_grant(set: &mut WorkingSet, correction: &Correction, kind: GrantKind, amount: Ucr, now: Timestamp) {
    let Some(wallet) = set.wallets.change(correction.wallet_id) else { return };
    wallet.available_ucr = wallet.available_ucr.saturating_add(amount);
    let tenant_id = wallet.tenant_id;
    set.add_grant(Grant {
        id: correction.grant_id,
        wallet_id: correction.wallet_id,
        tenant_id,
        kind,
        priority: 50,
        amount_ucr: amount,
        remaining_ucr: amount,
        expires_at: None,
        expired: false,
        reason: Some(correction.reason.clone()),
        created_at: now,
        cost_basis_uusd: Some(0),
    });
}

/// The ledger key of an adjustment.
pub fn adjust_key(reference: &str) -> String {
    format!("adjust:{reference}")
}

/// Corrects a balance by hand. More than zero becomes a grant of kind `adjust` (debt is repaid from it first); less
/// than zero is taken from the grants in draw order, never more than there is. Returns the operation's id.
pub fn adjust(
    set: &mut WorkingSet,
    correction: &Correction,
    amount: Ucr,
    now: Timestamp,
) -> Result<OpId, LedgerRefusal> {
    correction.check(set)?;
    if amount.is_zero() {
        return Err(LedgerRefusal::AmountNotPositive(amount));
    }
    let (key, hash) = (adjust_key(&correction.reference), amount.get().to_string());
    if let Some(op) = posted(set, correction.wallet_id, &key, &hash)? {
        return Ok(op.id);
    }
    let legs = if amount.is_positive() {
        check_total(set, correction.wallet_id, amount)?;
        add_grant(set, correction, GrantKind::Adjust, amount, now);
        let mut legs = vec![Leg(Account::Adjust, Account::Grant(correction.grant_id), amount)];
        legs.extend(repay_debt(set, correction.wallet_id, correction.grant_id));
        legs
    } else {
        let required = Ucr::ZERO.checked_sub(amount).ok_or(LedgerRefusal::AmountOverflow)?;
        let available = spendable(set, correction.wallet_id, now);
        if available < required {
            return Err(LedgerRefusal::Insufficient { required, available });
        }
        let slices = plan_draw(set, correction.wallet_id, required, now);
        debug_assert_eq!(total(&slices), required);
        take(set, correction.wallet_id, &slices);
        slices.iter().map(|slice| Leg(Account::Grant(slice.grant), Account::Adjust, slice.amount)).collect()
    };
    post(set, correction.posting(OpKind::Adjust, key, hash, legs, Subject::default(), now));
    Ok(correction.op_id)
}

/// The ledger key of a write-off.
pub fn write_off_key(reference: &str) -> String {
    format!("writeoff:{reference}")
}

/// Gives up debt: what the wallet owes, or less. Returns the operation's id.
pub fn write_off(
    set: &mut WorkingSet,
    correction: &Correction,
    amount: Ucr,
    now: Timestamp,
) -> Result<OpId, LedgerRefusal> {
    correction.check(set)?;
    if !amount.is_positive() {
        return Err(LedgerRefusal::AmountNotPositive(amount));
    }
    let (key, hash) = (write_off_key(&correction.reference), amount.get().to_string());
    if let Some(op) = posted(set, correction.wallet_id, &key, &hash)? {
        return Ok(op.id);
    }
    let debt = set.wallets.get(correction.wallet_id).map(|wallet| wallet.debt_ucr).unwrap_or_default();
    if debt < amount {
        return Err(LedgerRefusal::NotOwed { debt, wanted: amount });
    }
    if let Some(wallet) = set.wallets.change(correction.wallet_id) {
        wallet.debt_ucr = debt.minus_or_zero(amount);
    }
    let legs = vec![Leg(Account::Writeoff, Account::Debt, amount)];
    post(set, correction.posting(OpKind::WriteOff, key, hash, legs, Subject::default(), now));
    Ok(correction.op_id)
}
