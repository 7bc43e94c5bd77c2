//! The order in which grants are spent, and drawing an amount from them.

use crate::credits::Ucr;
use crate::id::WalletId;
use crate::record::{Grant, Slice};
use crate::time::Timestamp;
use crate::working_set::WorkingSet;

/// Whether something may be drawn from the grant at `now`: exact at its deadline, whatever a sweep did.
fn is_spendable(grant: &Grant, now: Timestamp) -> bool {
    !grant.expired && grant.remaining_ucr.is_positive() && grant.expires_at.is_none_or(|deadline| deadline > now)
}

/// The wallet's spendable grants in draw order: priority, earliest expiry (none last), free before paid, id.
pub fn draw_order(set: &WorkingSet, wallet: WalletId, now: Timestamp) -> Vec<&Grant> {
    let mut grants: Vec<&Grant> = set.grants_of(wallet).filter(|grant| is_spendable(grant, now)).collect();
    grants.sort_by_key(|grant| {
        let expiry = grant.expires_at.map_or(i64::MAX, Timestamp::ms);
        (grant.priority, expiry, !grant.kind.is_free(), grant.id)
    });
    grants
}

/// What could be drawn from the wallet at `now`, in µcr.
pub fn spendable(set: &WorkingSet, wallet: WalletId, now: Timestamp) -> Ucr {
    set.grants_of(wallet).filter(|grant| is_spendable(grant, now)).map(|grant| grant.remaining_ucr).sum()
}

/// The slices that make up `amount` or, when the grants have less, all they have. Changes nothing.
pub(super) fn plan_draw(set: &WorkingSet, wallet: WalletId, amount: Ucr, now: Timestamp) -> Vec<Slice> {
    let mut missing = amount;
    let mut slices = Vec::new();
    for grant in draw_order(set, wallet, now) {
        if !missing.is_positive() {
            break;
        }
        let taken = missing.min(grant.remaining_ucr);
        missing = missing.minus_or_zero(taken);
        slices.push(Slice { grant: grant.id, amount: taken });
    }
    slices
}

/// Takes the slices out of their grants and out of the wallet's available credits.
pub(super) fn take(set: &mut WorkingSet, wallet: WalletId, slices: &[Slice]) {
    for slice in slices {
        if let Some(grant) = set.grants.change(slice.grant) {
            grant.remaining_ucr = grant.remaining_ucr.minus_or_zero(slice.amount);
        }
        if let Some(wallet) = set.wallets.change(wallet) {
            wallet.available_ucr = wallet.available_ucr.minus_or_zero(slice.amount);
        }
    }
}

/// The sum of the slices.
pub(super) fn total(slices: &[Slice]) -> Ucr {
    slices.iter().map(|slice| slice.amount).sum()
}
