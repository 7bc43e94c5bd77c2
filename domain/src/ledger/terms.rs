//! The terms of a wallet: whether it is frozen, what it may spend, who pays for failures and overruns.

use crate::credits::Ucr;
use crate::id::WalletId;
use crate::record::{ChargeFailed, Overrun};
use crate::working_set::WorkingSet;

use super::LedgerRefusal;

/// What is to change; `None` leaves a term as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Whether it makes new holds.
    pub frozen: Option<bool>,
    /// What happens with a charge beyond a hold.
    pub overrun: Option<Overrun>,
    /// Whether attempts that failed are charged.
    pub charge_failed: Option<ChargeFailed>,
    /// The most in a UTC day; `Some(None)` lifts the limit.
    pub day_limit: Option<Option<Ucr>>,
    /// The most in a UTC month.
    pub month_limit: Option<Option<Ucr>>,
    /// The most for one mission.
    pub mission_limit: Option<Option<Ucr>>,
}

/// Changes the terms. What runs goes on: a frozen wallet's tasks settle, and holds above a new limit stay.
pub fn set_terms(set: &mut WorkingSet, id: WalletId, terms: &Terms) -> Result<(), LedgerRefusal> {
    for limit in [terms.day_limit, terms.month_limit, terms.mission_limit].into_iter().flatten().flatten() {
        if limit < Ucr::ZERO {
            return Err(LedgerRefusal::AmountNotPositive(limit));
        }
    }
    let wallet = set.wallets.change(id).ok_or(LedgerRefusal::UnknownWallet(id))?;
    wallet.frozen = terms.frozen.unwrap_or(wallet.frozen);
    wallet.overrun = terms.overrun.unwrap_or(wallet.overrun);
    wallet.charge_failed = terms.charge_failed.unwrap_or(wallet.charge_failed);
    wallet.day_limit_ucr = terms.day_limit.unwrap_or(wallet.day_limit_ucr);
    wallet.month_limit_ucr = terms.month_limit.unwrap_or(wallet.month_limit_ucr);
    wallet.mission_limit_ucr = terms.mission_limit.unwrap_or(wallet.mission_limit_ucr);
    Ok(())
}
