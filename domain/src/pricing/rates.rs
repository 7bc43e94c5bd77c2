//! What a model's tokens and requests cost: one price per dimension, and the exact sum for one call.
//!
//! Prices are integer pico-USD for `per` units, `per` a power of ten, so a whole call is one exact fraction with
//! the denominator `per`. Nothing is rounded here; the single ceil is in `sell`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::read::{self, Refused, Table};
use super::usd;
use crate::usage::Leaves;

/// What is counted and priced in a model call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    /// Input tokens that touched no cache.
    Input,
    /// Input tokens read from the provider's cache.
    CacheRead,
    /// Input tokens written to the provider's cache (for five minutes, where the provider tells them apart).
    CacheWrite,
    /// Input tokens written to the provider's cache for one hour.
    CacheWrite1h,
    /// Output tokens without the reasoning.
    Output,
    /// Output tokens spent on reasoning.
    Reasoning,
    /// The call itself. Its price is for one, whatever `per` says.
    Request,
}

impl Dimension {
    /// Every dimension, in the order in which a price file lists them.
    pub const ALL: [Self; 7] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::Output,
        Self::Reasoning,
        Self::Request,
    ];

    /// The key in a price book.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "input.cache_read",
            Self::CacheWrite => "input.cache_write",
            Self::CacheWrite1h => "input.cache_write_1h",
            Self::Output => "output",
            Self::Reasoning => "output.reasoning",
            Self::Request => "request",
        }
    }

    /// The dimension whose price holds where this one has none of its own.
    pub const fn parent(self) -> Option<Self> {
        match self {
            Self::CacheRead | Self::CacheWrite => Some(Self::Input),
            Self::CacheWrite1h => Some(Self::CacheWrite),
            Self::Reasoning => Some(Self::Output),
            Self::Input | Self::Output | Self::Request => None,
        }
    }
}

/// The prices of one model, or of one of its context tiers. `input` and `output` are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    per: u64,
    stated: BTreeMap<Dimension, u64>,
}

/// An exact amount: `pico_usd / per` pico-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exact {
    /// The numerator.
    pub pico_usd: i128,
    /// The denominator, a power of ten.
    pub per: u64,
}

impl Rates {
    /// Reads a `rates` table. `per` defaults to one million.
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let per = table.optional("per", read::per);
        let mut stated = BTreeMap::new();
        let mut refused = None;
        for dimension in Dimension::ALL {
            let price = match dimension {
                Dimension::Input | Dimension::Output => table.required(dimension.key(), read::price).map(Some),
                _ => table.optional(dimension.key(), read::price),
            };
            match price {
                Ok(price) => stated.extend(price.map(|price| (dimension, price))),
                Err(error) => refused = Some(error),
            }
        }
        table.close();
        let per = per?.unwrap_or(1_000_000);
        refused.map_or(Ok(Self { per, stated }), Err)
    }

    /// The table that [`Rates::read`] reads back as the same rates.
    pub(super) fn to_value(&self) -> Value {
        let prices = self.stated.iter().map(|(dimension, price)| (dimension.key(), usd::text(*price)));
        let per = std::iter::once(("per", self.per.to_string()));
        per.chain(prices).map(|(key, text)| (key.to_owned(), Value::from(text))).collect::<Map<_, _>>().into()
    }

    /// For how many tokens the prices are (requests are always priced for one).
    pub const fn per(&self) -> u64 {
        self.per
    }

    /// The price in pico-USD, the nearest parent's where the dimension has none; zero for an unpriced request.
    pub fn pico_usd(&self, dimension: Dimension) -> u64 {
        let line = std::iter::successors(Some(dimension), |dimension| dimension.parent());
        line.into_iter().find_map(|dimension| self.stated.get(&dimension)).copied().unwrap_or_default()
    }

    /// The prices that the book states, in pico-USD, in the order of [`Dimension::ALL`].
    pub fn stated(&self) -> impl Iterator<Item = (Dimension, u64)> {
        self.stated.iter().map(|(dimension, price)| (*dimension, *price))
    }

    /// What a million tokens cost in USD, exact decimal text; one request where it is the request's. None for a
    /// dimension that costs nothing.
    pub fn usd_per_million(&self, dimension: Dimension) -> Option<String> {
        let pico_usd = i128::from(self.pico_usd(dimension));
        if pico_usd == 0 {
            return None;
        }
        if dimension == Dimension::Request {
            return Some(usd::exact_text(pico_usd, 0));
        }
        // at most 1e18 · 1e6: never saturates
        let places = usize::try_from(self.per.checked_ilog10().unwrap_or_default()).unwrap_or_default();
        Some(usd::exact_text(pico_usd.saturating_mul(1_000_000), places))
    }

    /// The parts of a call with their quantities, the request included, in the order of [`Dimension::ALL`].
    pub(super) fn quantities(leaves: &Leaves) -> [(Dimension, u64); 7] {
        [
            (Dimension::Input, leaves.input),
            (Dimension::CacheRead, leaves.cache_read),
            (Dimension::CacheWrite, leaves.cache_write),
            (Dimension::CacheWrite1h, leaves.cache_write_1h),
            (Dimension::Output, leaves.output),
            (Dimension::Reasoning, leaves.reasoning),
            (Dimension::Request, 1),
        ]
    }

    /// What one call with these tokens costs, exactly; `None` on overflow.
    pub(super) fn cost(&self, leaves: &Leaves) -> Option<Exact> {
        self.sum([
            (leaves.input, self.pico_usd(Dimension::Input)),
            (leaves.cache_read, self.pico_usd(Dimension::CacheRead)),
            (leaves.cache_write, self.pico_usd(Dimension::CacheWrite)),
            (leaves.cache_write_1h, self.pico_usd(Dimension::CacheWrite1h)),
            (leaves.output, self.pico_usd(Dimension::Output)),
            (leaves.reasoning, self.pico_usd(Dimension::Reasoning)),
        ])
    }

    /// The most that a call with these totals can cost however it splits into leaves; `None` on overflow.
    pub(super) fn ceiling(&self, input_tokens: u64, output_tokens: u64) -> Option<Exact> {
        let dearest = |side: &[Dimension]| side.iter().map(|leaf| self.pico_usd(*leaf)).max().unwrap_or_default();
        let input = [Dimension::Input, Dimension::CacheRead, Dimension::CacheWrite, Dimension::CacheWrite1h];
        let output = [Dimension::Output, Dimension::Reasoning];
        self.sum([(input_tokens, dearest(&input)), (output_tokens, dearest(&output))])
    }

    /// The dimensions that are cheaper here than in `lower`.
    pub(super) fn cheaper_than(&self, lower: &Self) -> Vec<Dimension> {
        let price_for = |rates: &Self, dimension, units: u64| match dimension {
            Dimension::Request => i128::from(rates.pico_usd(dimension)),
            // at most 1e18 · 1e9: never saturates
            _ => i128::from(rates.pico_usd(dimension)).saturating_mul(i128::from(units)),
        };
        let cheaper =
            |dimension: &Dimension| price_for(self, *dimension, lower.per) < price_for(lower, *dimension, self.per);
        Dimension::ALL.into_iter().filter(cheaper).collect()
    }

    /// The sum of quantity · price over the leaves, and the request.
    fn sum<const N: usize>(&self, leaves: [(u64, u64); N]) -> Option<Exact> {
        let request = i128::from(self.pico_usd(Dimension::Request)).checked_mul(i128::from(self.per))?;
        let pico_usd = leaves.into_iter().try_fold(request, |sum, (quantity, price)| {
            sum.checked_add(i128::from(quantity).checked_mul(i128::from(price))?)
        })?;
        Some(Exact { pico_usd, per: self.per })
    }
}
