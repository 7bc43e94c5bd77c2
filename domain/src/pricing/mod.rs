//! Prices: what a call, a unit or a run costs in credits.
//!
//! A [`PriceBook`] is an immutable set of prices. `usd` reads amounts exactly, `rates` sums one call as one
//! exact fraction, `sell` turns that into credits with the only ceil there is, and this page is where they meet.
//! Because every price is greater than zero and the ceil comes last, used tokens are never free; because it is
//! per call, rows add up to their totals. No floats, no defaults for what has no price.

mod book;
mod card;
mod diff;
pub mod import;
mod model;
mod quote;
mod rates;
mod read;
mod sell;
#[cfg(test)]
mod tests;
mod unit;
mod usd;

use std::collections::BTreeMap;

pub use book::PriceBook;
pub use card::{ContextTier, RateCard};
pub use diff::Change;
pub use model::{ModelPrice, TOKENIZERS, Variant};
pub use quote::{Line, Quote};
pub use rates::{Dimension, Rates};
pub use read::PriceProblem;
pub use unit::UnitPrice;

use crate::credits::Ucr;
use crate::usage::{Usage, UsageError};

/// Why something has no price in a book.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PricingError {
    /// The book has no model of this name or alias.
    #[error("model `{0}` has no price in this price book")]
    ModelNotPriced(String),
    /// The model has no rates under this service tier; names both.
    #[error("{0} has no price in this price book")]
    VariantNotPriced(String),
    /// The book has no unit of this name.
    #[error("unit `{0}` has no price in this price book")]
    UnitNotPriced(String),
    /// The usage contradicts itself.
    #[error("the usage cannot be priced: {0}")]
    Usage(#[from] UsageError),
    /// The cost, or a product on the way to it, is larger than an amount can be.
    #[error("the cost is larger than an amount of credits can be")]
    Overflow,
}

impl PricingError {
    /// The stable code of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ModelNotPriced(_) => "model_not_priced",
            Self::VariantNotPriced(_) => "variant_not_priced",
            Self::UnitNotPriced(_) => "unit_not_priced",
            Self::Usage(_) => "usage_invalid",
            Self::Overflow => "cost_overflow",
        }
    }
}

impl PriceBook {
    /// What one finished call costs at the standard rates. Checks in order: the model's price, the usage, the amount.
    ///
    /// The context tier that the input reaches prices the whole call. One ceil, on the sum.
    pub fn call_cost(&self, model: &str, usage: &Usage) -> Result<Ucr, PricingError> {
        let model = self.priced(model)?;
        let cost = model.rates_at(usage.input_tokens).cost(&usage.leaves()?);
        cost.and_then(|cost| self.sell.charge(cost, model.sell_tier())).ok_or(PricingError::Overflow)
    }

    /// What to reserve for a call of at most so many tokens: never less than what such a call turns out to cost.
    ///
    /// How the tokens will split is not known before the call, so all of the input is priced at the dearest of
    /// plain, cache read and cache write, all of the output at the dearer of plain and reasoning. The tier is the
    /// one the estimate reaches; a book has no cheaper tier above it.
    pub fn call_ceiling(&self, model: &str, input_tokens: u64, max_output_tokens: u64) -> Result<Ucr, PricingError> {
        let model = self.priced(model)?;
        let ceiling = model.rates_at(input_tokens).ceiling(input_tokens, max_output_tokens);
        ceiling.and_then(|cost| self.sell.charge(cost, model.sell_tier())).ok_or(PricingError::Overflow)
    }

    /// What units cost together: each line has its own ceil, so that the lines add up to the total.
    pub fn units_cost(&self, units: &BTreeMap<String, u64>) -> Result<Ucr, PricingError> {
        units.iter().try_fold(Ucr::ZERO, |total, (name, quantity)| {
            let unit = self.unit(name).ok_or_else(|| PricingError::UnitNotPriced(name.clone()))?;
            let line = unit.cost(*quantity).and_then(|cost| self.sell.charge(cost, None));
            line.and_then(|line| total.checked_add(line)).ok_or(PricingError::Overflow)
        })
    }

    fn priced(&self, model: &str) -> Result<&ModelPrice, PricingError> {
        self.price_of(model).ok_or_else(|| PricingError::ModelNotPriced(model.to_owned()))
    }
}
