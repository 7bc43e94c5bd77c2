//! What a wallet may spend in a UTC day and month: counted with every charge, asked before every hold.
//!
//! What is held counts as spent, for it may be. A period that is over starts again at zero; refunds do not give room
//! back, so that nobody spends the same limit twice in one period.

use crate::credits::Ucr;
use crate::record::Wallet;
use crate::time::Timestamp;

use super::LedgerRefusal;

/// A limit of a wallet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// A UTC day.
    Day,
    /// A UTC month.
    Month,
}

impl Period {
    /// `day` or `month`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// Of a limit this part in a hundred is spent when somebody should look.
const ALERT_PERCENT: i64 = 80;

/// What was charged in the wallet's present day and month.
pub fn spent_now(wallet: &Wallet, now: Timestamp) -> [(Period, Ucr, Option<Ucr>); 2] {
    let of = |is_present: bool, spent: Ucr| if is_present { spent } else { Ucr::ZERO };
    [
        (Period::Day, of(wallet.day == now.day(), wallet.day_spent_ucr), wallet.day_limit_ucr),
        (Period::Month, of(wallet.month == now.month(), wallet.month_spent_ucr), wallet.month_limit_ucr),
    ]
}

/// Refuses when `amount` more would not fit into the day's or month's limit.
pub(super) fn check_limits(wallet: &Wallet, amount: Ucr, now: Timestamp) -> Result<(), LedgerRefusal> {
    for (period, spent, limit) in spent_now(wallet, now) {
        let Some(limit) = limit else { continue };
        let room = limit.minus_or_zero(spent.saturating_add(wallet.held_ucr));
        if room < amount {
            return Err(LedgerRefusal::OverLimit { period, limit, room, required: amount });
        }
    }
    Ok(())
}

/// Counts a charge.
pub(super) fn count_spent(wallet: &mut Wallet, amount: Ucr, now: Timestamp) {
    let [(_, day, _), (_, month, _)] = spent_now(wallet, now);
    (wallet.day, wallet.month) = (now.day(), now.month());
    wallet.day_spent_ucr = day.saturating_add(amount);
    wallet.month_spent_ucr = month.saturating_add(amount);
}

/// Whether spending grew from `before` to `after` past the part of the limit at which somebody should look.
pub fn crosses_alert(before: Ucr, after: Ucr, limit: Ucr) -> bool {
    let alarmed = |spent: Ucr| i128::from(spent.get()) * 100 >= i128::from(limit.get()) * i128::from(ALERT_PERCENT);
    limit.is_positive() && !alarmed(before) && alarmed(after)
}
