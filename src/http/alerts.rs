//! What the owner of a wallet should look at: limits that are nearly used up, and credits that run out. Derived from
//! the wallet's own row whenever somebody looks; it decides nothing.

use bursar_domain::credits::Ucr;
use serde::Serialize;
use utoipa::ToSchema;

use super::types::Amount;
use crate::store::read::WalletView;

/// The part of a limit, in per cent, from which on it is worth an alert.
const ALERT_PERCENT: i64 = 80;

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertCode {
    /// The limit of the UTC day.
    DayLimit,
    /// The limit of the UTC month.
    MonthLimit,
    /// Of what there was this month (available, held and charged), at least 80 % is charged or held.
    LowBalance,
}

/// Something that the owner of a wallet should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Alert {
    /// What it is about.
    pub code: AlertCode,
    /// How much of it is used, in per cent, rounded down.
    pub used_percent: i64,
    /// What is used.
    used: Amount,
    /// Of how much.
    limit: Amount,
}

/// What is used of a limit, in whole per cent, rounded down; a limit of nothing is used up.
pub fn share_used(used: Ucr, limit: Ucr) -> i64 {
    let share = (i128::from(used.get()) * 100).checked_div(i128::from(limit.get())).unwrap_or(100);
    i64::try_from(share).unwrap_or(i64::MAX)
}

/// The alerts of a wallet.
pub fn alerts(wallet: &WalletView) -> Vec<Alert> {
    let gone = wallet.held_ucr.saturating_add(wallet.month_spent_ucr);
    let had = gone.saturating_add(wallet.available_ucr);
    let figures = [
        (AlertCode::DayLimit, wallet.day_spent_ucr, wallet.day_limit_ucr),
        (AlertCode::MonthLimit, wallet.month_spent_ucr, wallet.month_limit_ucr),
        (AlertCode::LowBalance, gone, Some(had)),
    ];
    let with_limit = figures.into_iter().filter_map(|(code, used, limit)| Some((code, used, limit?)));
    with_limit
        .map(|(code, used, limit)| Alert {
            code,
            used_percent: share_used(used, limit),
            used: used.into(),
            limit: limit.into(),
        })
        .filter(|alert| alert.used_percent >= ALERT_PERCENT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::new_id;
    use bursar_domain::record::{ChargeFailed, Overrun};
    use bursar_domain::time::Timestamp;

    fn wallet(available: i64, held: i64, spent: i64) -> WalletView {
        WalletView {
            id: new_id(),
            tenant_id: new_id(),
            available_ucr: Ucr::new(available),
            held_ucr: Ucr::new(held),
            debt_ucr: Ucr::ZERO,
            frozen: false,
            created_at: Timestamp::from_ms(0),
            overrun: Overrun::Debt,
            charge_failed: ChargeFailed::Never,
            day_limit_ucr: None,
            month_limit_ucr: None,
            mission_limit_ucr: None,
            day_spent_ucr: Ucr::new(spent),
            month_spent_ucr: Ucr::new(spent),
        }
    }

    fn codes(wallet: &WalletView) -> Vec<AlertCode> {
        alerts(wallet).iter().map(|alert| alert.code).collect()
    }

    #[test]
    fn a_limit_alerts_from_eighty_per_cent_on() {
        let below = WalletView { day_limit_ucr: Some(Ucr::new(101)), ..wallet(1_000, 0, 80) };
        assert_eq!(codes(&below), []);
        let reached = WalletView { day_limit_ucr: Some(Ucr::new(100)), ..below.clone() };
        assert_eq!(codes(&reached), [AlertCode::DayLimit]);
        let both = WalletView { month_limit_ucr: Some(Ucr::ZERO), ..reached };
        assert_eq!(codes(&both), [AlertCode::DayLimit, AlertCode::MonthLimit], "a limit of nothing is used up");
    }

    #[test]
    fn a_balance_is_low_when_a_fifth_of_it_is_left() {
        assert_eq!(codes(&wallet(21, 20, 59)), []);
        assert_eq!(codes(&wallet(20, 20, 60)), [AlertCode::LowBalance]);
        assert_eq!(codes(&wallet(0, 0, 0)), [AlertCode::LowBalance], "there is nothing");
        assert_eq!(share_used(Ucr::MAX, Ucr::new(1)), i64::MAX);
    }
}
