//! A rate card: rates, and dearer ones for long inputs. A model has one, and one more per variant (batch, priority…).
//!
//! A tier prices the whole call, and no tier is cheaper than what is below it: a reservation for an estimate is
//! priced at the tier the estimate reaches and must cover every shorter call too.

use serde_json::{Map, Value, json};

use super::rates::Rates;
use super::read::{self, Refused, Table};

/// The rates of calls whose input is longer than a threshold. They price the whole call, not the excess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextTier {
    above_input_tokens: u64,
    rates: Rates,
}

impl ContextTier {
    /// The tier holds for calls with more input tokens than this, cached ones included.
    pub const fn above_input_tokens(&self) -> u64 {
        self.above_input_tokens
    }

    /// The tier's rates.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let above_input_tokens = table.required("above_input_tokens", read::positive);
        let rates = table.required_table("rates").and_then(Rates::read);
        table.close();
        Ok(Self { above_input_tokens: above_input_tokens?, rates: rates? })
    }

    fn to_value(&self) -> Value {
        json!({ "above_input_tokens": self.above_input_tokens.to_string(), "rates": self.rates.to_value() })
    }
}

/// The rates of one model under one service tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateCard {
    rates: Rates,
    tiers: Vec<ContextTier>,
}

impl RateCard {
    /// Takes `rates` and `tier` out of a table; the caller closes it.
    pub(super) fn take(table: &mut Table<'_>) -> Result<Self, Refused> {
        let rates = table.required_table("rates").and_then(Rates::read);
        let tiers = read_tiers(table, rates.as_ref().ok());
        Ok(Self { rates: rates?, tiers: tiers? })
    }

    /// Writes what [`RateCard::take`] reads back as the same card.
    pub(super) fn put(&self, table: &mut Map<String, Value>) {
        table.insert("rates".to_owned(), self.rates.to_value());
        if !self.tiers.is_empty() {
            table.insert("tier".to_owned(), self.tiers.iter().map(ContextTier::to_value).collect());
        }
    }

    /// The rates of calls below every threshold.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Dearer rates for long inputs, by ascending threshold.
    pub fn tiers(&self) -> &[ContextTier] {
        &self.tiers
    }

    /// The rates of a whole call with so many input tokens, cached ones included.
    pub fn rates_at(&self, input_tokens: u64) -> &Rates {
        let crossed = self.tiers.iter().rev().find(|tier| input_tokens > tier.above_input_tokens);
        crossed.map_or(&self.rates, |tier| &tier.rates)
    }
}

/// Reads the tiers. Each must begin later and be at least as dear as what is below it.
fn read_tiers(table: &mut Table<'_>, base: Option<&Rates>) -> Result<Vec<ContextTier>, Refused> {
    let items = table.tables("tier");
    let expected = items.len();
    let mut tiers: Vec<ContextTier> = Vec::with_capacity(expected);
    for table in items.into_iter().flatten() {
        let (pointer, problems) = (table.pointer(), table.problems());
        let Ok(tier) = ContextTier::read(table) else { continue };
        let before = tiers.last();
        let threshold = before.map_or(0, ContextTier::above_input_tokens);
        if tier.above_input_tokens <= threshold {
            let message = format!("must be larger than {threshold}, the threshold before it");
            problems.add(&read::child(&pointer, "above_input_tokens"), message);
        }
        let below = before.map(ContextTier::rates).or(base);
        for dimension in below.map(|below| tier.rates.cheaper_than(below)).unwrap_or_default() {
            let message = "is cheaper than below the threshold: a longer input must not cost less";
            problems.add(&read::child(&pointer, "rates"), format!("`{}` {message}", dimension.key()));
        }
        tiers.push(tier);
    }
    if tiers.len() == expected { Ok(tiers) } else { Err(Refused) }
}
