//! Statements: what a wallet had, every kind of movement, what it had then. Made from the entries alone, so that an
//! opening and the movements after it cannot miss the closing.

use bursar_domain::credits::Ucr;
use bursar_domain::id::WalletId;
use bursar_domain::time::Timestamp;
use serde::Deserialize;

use super::super::{Store, StoreError};
use super::all;
use super::ledger::narrow;

/// What a wallet has at one moment, by its entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// What its grants have left; a grant whose deadline passed counts until its rest is written off.
    pub available_ucr: Ucr,
    /// What open holds reserve.
    pub held_ucr: Ucr,
    /// What is owed.
    pub debt_ucr: Ucr,
    /// Available + held − debt.
    pub total_ucr: Ucr,
}

/// The ways in which a wallet's total changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MovementKind {
    /// Credits given.
    Granted,
    /// Charges given back.
    Refunded,
    /// Corrected upwards.
    AdjustedUp,
    /// Debt given up.
    WrittenOff,
    /// Charged for what was used.
    Usage,
    /// Charged as flat fees.
    Fees,
    /// Corrected downwards.
    AdjustedDown,
    /// Grants that ran out.
    Expired,
    /// Anything else: a statement leaves nothing out.
    Other,
}

impl MovementKind {
    /// All of them, in the order of a statement.
    pub const ALL: [Self; 9] = [
        Self::Granted,
        Self::Refunded,
        Self::AdjustedUp,
        Self::WrittenOff,
        Self::Usage,
        Self::Fees,
        Self::AdjustedDown,
        Self::Expired,
        Self::Other,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refunded => "refunded",
            Self::AdjustedUp => "adjusted_up",
            Self::WrittenOff => "written_off",
            Self::Usage => "usage",
            Self::Fees => "fees",
            Self::AdjustedDown => "adjusted_down",
            Self::Expired => "expired",
            Self::Other => "other",
        }
    }

    fn of(source: &str, destination: &str) -> Self {
        match (source, destination) {
            ("issue", _) => Self::Granted,
            ("usage" | "fee", _) => Self::Refunded,
            ("adjust", _) => Self::AdjustedUp,
            ("writeoff", _) => Self::WrittenOff,
            (_, "usage") => Self::Usage,
            (_, "fee") => Self::Fees,
            (_, "adjust") => Self::AdjustedDown,
            (_, "breakage") => Self::Expired,
            _ => Self::Other,
        }
    }
}

/// A wallet's statement for a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementView {
    /// What it had before the period.
    pub opening: Balance,
    /// What came (positive) and went (negative), of each kind; all kinds, in their order.
    pub movements: Vec<(MovementKind, Ucr)>,
    /// What it had at the end of the period.
    pub closing: Balance,
}

/// A sum of entries between two kinds of account.
#[derive(Debug, Deserialize)]
struct Flow {
    is_within: i64,
    source: String,
    destination: String,
    amount_ucr: i64,
}

/// Sums that may pass through what an amount cannot hold.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    available: i128,
    held: i128,
    debt: i128,
}

impl Sums {
    fn add(&mut self, account: &str, amount: i128) {
        match account {
            "grant" => self.available += amount,
            "hold" => self.held += amount,
            "debt" => self.debt -= amount,
            _ => {}
        }
    }

    fn total(self) -> i128 {
        self.available + self.held - self.debt
    }

    fn balance(self) -> Result<Balance, StoreError> {
        Ok(Balance {
            available_ucr: narrow(self.available)?,
            held_ucr: narrow(self.held)?,
            debt_ucr: narrow(self.debt)?,
            total_ucr: narrow(self.total())?,
        })
    }
}

fn add_up(flows: &[Flow]) -> Result<StatementView, StoreError> {
    let mut opening = Sums::default();
    let mut closing = Sums::default();
    let mut moved = MovementKind::ALL.map(|kind| (kind, 0_i128));
    for flow in flows {
        let amount = i128::from(flow.amount_ucr);
        let mut change = Sums::default();
        change.add(&flow.source, -amount);
        change.add(&flow.destination, amount);
        let (source, destination) = (flow.source.as_str(), flow.destination.as_str());
        closing.add(source, -amount);
        closing.add(destination, amount);
        if flow.is_within == 0 {
            opening.add(source, -amount);
            opening.add(destination, amount);
        } else if change.total() != 0 {
            let kind = MovementKind::of(source, destination);
            moved.iter_mut().filter(|(of, _)| *of == kind).for_each(|(_, sum)| *sum += change.total());
        }
    }
    let movements = moved.into_iter().map(|(kind, sum)| Ok((kind, narrow(sum)?))).collect::<Result<_, StoreError>>()?;
    Ok(StatementView { opening: opening.balance()?, movements, closing: closing.balance()? })
}

impl dyn Store {
    /// A wallet's statement from `from` up to, not including, `to`.
    pub async fn statement(
        &self,
        wallet: WalletId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<StatementView, StoreError> {
        let sql = "
            select is_within, source, destination, cast(sum(amount_ucr) as bigint) as amount_ucr
            from (
              select case when e.created_at < $2 then 0 else 1 end as is_within,
                case when e.source like 'grant:%' then 'grant' when e.source like 'hold:%' then 'hold'
                  else e.source end as source,
                case when e.destination like 'grant:%' then 'grant' when e.destination like 'hold:%' then 'hold'
                  else e.destination end as destination,
                e.amount_ucr
              from entries e
              where e.wallet_id = $1 and e.created_at < $3) flows
            group by is_within, source, destination";
        add_up(&all::<Flow>(self.rows(sql, &[wallet.into(), from.into(), to.into()]).await?)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const ACCOUNTS: [&str; 9] = ["issue", "grant", "hold", "debt", "usage", "fee", "breakage", "writeoff", "adjust"];

    proptest! {
        #[test]
        fn opening_and_movements_make_the_closing_whatever_was_posted(
            flows in proptest::collection::vec((0_i64..2, 0_usize..9, 0_usize..9, 1_i64..1_000_000), 0..60)
        ) {
            let flow = |(is_within, source, destination, amount_ucr): (i64, usize, usize, i64)| Flow {
                is_within,
                source: ACCOUNTS[source].to_owned(),
                destination: ACCOUNTS[destination].to_owned(),
                amount_ucr,
            };
            let flows: Vec<Flow> = flows.into_iter().map(flow).collect();
            let statement = add_up(&flows).unwrap();
            let moved: i64 = statement.movements.iter().map(|(_, amount)| amount.get()).sum();
            prop_assert_eq!(statement.opening.total_ucr.get() + moved, statement.closing.total_ucr.get());
            prop_assert_eq!(statement.movements.len(), MovementKind::ALL.len());
        }
    }

    #[test]
    fn each_way_in_and_out_has_its_line() {
        for (source, destination, kind) in [
            ("issue", "grant", MovementKind::Granted),
            ("usage", "grant", MovementKind::Refunded),
            ("fee", "debt", MovementKind::Refunded),
            ("adjust", "grant", MovementKind::AdjustedUp),
            ("grant", "adjust", MovementKind::AdjustedDown),
            ("writeoff", "debt", MovementKind::WrittenOff),
            ("hold", "usage", MovementKind::Usage),
            ("debt", "usage", MovementKind::Usage),
            ("hold", "fee", MovementKind::Fees),
            ("hold", "breakage", MovementKind::Expired),
        ] {
            let flow =
                Flow { is_within: 1, source: source.to_owned(), destination: destination.to_owned(), amount_ucr: 7 };
            let statement = add_up(&[flow]).unwrap();
            let lines: Vec<_> = statement.movements.iter().filter(|(_, amount)| !amount.is_zero()).collect();
            assert!(matches!(lines.as_slice(), [(of, _)] if *of == kind), "{source} → {destination}: {lines:?}");
        }
    }
}
