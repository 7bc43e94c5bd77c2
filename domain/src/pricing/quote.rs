//! What a call would cost and why: each part with its price, the exact sum in USD, and the credits.
//!
//! For people and for comparisons with other calculators. The credits are those of [`PriceBook::call_cost`]; the
//! lines are exact and not rounded, so nothing may bill from them.

use super::rates::{Exact, Rates};
use super::{Dimension, ModelPrice, PriceBook, PricingError, usd};
use crate::credits::Ucr;
use crate::usage::Usage;

/// One part of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is counted.
    pub dimension: Dimension,
    /// How many; one for the request itself.
    pub quantity: u64,
    /// The price in USD of `per` of them, exact decimal text.
    pub price_usd: String,
    /// For how many the price is.
    pub per: u64,
}

/// The price of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The name under which the book prices the model; `fallback` for one that it does not list.
    pub model: String,
    /// Parts with a quantity above zero and a price, in the order of [`Dimension::ALL`].
    pub lines: Vec<Line>,
    /// The exact cost in USD before any markup, decimal text.
    pub usd: String,
    /// What it costs in credits.
    pub cost: Ucr,
}

impl PriceBook {
    /// The price of a call at the standard rates, or at those of a variant such as `batch`.
    ///
    /// Checks in order: the model's price, the variant's, the usage, the amount.
    pub fn quote(&self, model: &str, variant: Option<&str>, usage: &Usage) -> Result<Quote, PricingError> {
        let price = self.priced(model)?;
        let unpriced = || format!("`{}` of model `{model}`", variant.unwrap_or_default());
        let card = price.card(variant).ok_or_else(|| PricingError::VariantNotPriced(unpriced()))?;
        let rates = card.rates_at(usage.input_tokens);
        let leaves = usage.leaves()?;
        let exact = rates.cost(&leaves).ok_or(PricingError::Overflow)?;
        let cost = self.sell.charge(exact, price.sell_tier()).ok_or(PricingError::Overflow)?;
        let places = usize::try_from(exact.per.checked_ilog10().unwrap_or_default()).unwrap_or_default();
        let line = |(dimension, quantity): (Dimension, u64)| Line {
            dimension,
            quantity,
            price_usd: usd::text(rates.pico_usd(dimension)),
            per: if dimension == Dimension::Request { 1 } else { rates.per() },
        };
        let counts = |(dimension, quantity): &(Dimension, u64)| *quantity > 0 && rates.pico_usd(*dimension) > 0;
        Ok(Quote {
            model: price.name().to_owned(),
            lines: Rates::quantities(&leaves).into_iter().filter(counts).map(line).collect(),
            usd: usd::exact_text(exact.pico_usd, places),
            cost,
        })
    }

    /// What a million tokens of a dimension cost in credits at these rates of a model of this book, markup included;
    /// one request where it is the request's. None for what costs nothing, and for more than an amount can be.
    pub fn credits_per_million(&self, model: &ModelPrice, rates: &Rates, dimension: Dimension) -> Option<Ucr> {
        let (quantity, per) = if dimension == Dimension::Request { (1, 1) } else { (1_000_000, rates.per()) };
        let pico_usd = i128::from(rates.pico_usd(dimension)).checked_mul(quantity)?;
        self.sell.charge(Exact { pico_usd, per }, model.sell_tier()).filter(|cost| cost.is_positive())
    }

    /// What so many units cost in credits.
    pub fn unit_credits(&self, name: &str, quantity: u64) -> Result<Ucr, PricingError> {
        self.units_cost(&[(name.to_owned(), quantity)].into())
    }
}
