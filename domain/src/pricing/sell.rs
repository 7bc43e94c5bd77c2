//! How USD become credits: the worth of a credit, markups and the flat fees of workflows.
//!
//! This file holds the one ceil of all of pricing. Whoever adds a second one makes rows and totals disagree.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::rates::Exact;
use super::read::{self, Refused, Table};
use super::usd;
use crate::credits::Ucr;

/// One million: no markup is `PPM` of the price, and one credit is as many micro-credits.
const PPM: i128 = 1_000_000;

/// What the operator asks for what the providers charge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sell {
    usd_per_credit_pico: u64,
    markup_ppm: u32,
    tier_markup_ppm: BTreeMap<String, u32>,
    flat_fee: Ucr,
    flat_fees: BTreeMap<String, Ucr>,
}

impl Default for Sell {
    /// 0.01 USD per credit, no markup, 10 credits per run.
    fn default() -> Self {
        Self {
            usd_per_credit_pico: usd::PICO_PER_USD.saturating_div(100),
            markup_ppm: 0,
            tier_markup_ppm: BTreeMap::new(),
            flat_fee: Ucr::from_credits(10),
            flat_fees: BTreeMap::new(),
        }
    }
}

impl Sell {
    /// Reads the `sell` table; what is absent has its default.
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let default = Self::default();
        let usd_per_credit = table.optional("usd_per_credit", read::price);
        let markup_ppm = table.optional("markup_ppm", ppm);
        let tier_markup_ppm = table.table("tier_markup_ppm").map(|table| table.map(|table| table.named(ppm)));
        let flat_fee = table.optional("flat_fee", fee);
        let flat_fees = table.table("flat_fees").map(|table| table.map(|table| table.named(fee)));
        table.close();
        Ok(Self {
            usd_per_credit_pico: usd_per_credit?.unwrap_or(default.usd_per_credit_pico),
            markup_ppm: markup_ppm?.unwrap_or(default.markup_ppm),
            tier_markup_ppm: tier_markup_ppm?.unwrap_or_default(),
            flat_fee: flat_fee?.unwrap_or(default.flat_fee),
            flat_fees: flat_fees?.unwrap_or_default(),
        })
    }

    /// The table that [`Sell::read`] reads back as the same value; everything but empty tables is stated.
    pub(super) fn to_value(&self) -> Value {
        let mut table = Map::new();
        table.insert("usd_per_credit".to_owned(), json!(usd::text(self.usd_per_credit_pico)));
        table.insert("markup_ppm".to_owned(), json!(self.markup_ppm.to_string()));
        table.insert("flat_fee".to_owned(), json!(self.flat_fee.to_string()));
        if !self.tier_markup_ppm.is_empty() {
            table.insert("tier_markup_ppm".to_owned(), texts(&self.tier_markup_ppm));
        }
        if !self.flat_fees.is_empty() {
            table.insert("flat_fees".to_owned(), texts(&self.flat_fees));
        }
        Value::Object(table)
    }

    /// The fee of one successful run of a workflow.
    pub(super) fn flat_fee(&self, workflow: &str) -> Ucr {
        self.flat_fees.get(workflow).copied().unwrap_or(self.flat_fee)
    }

    /// Whether models may name this tier.
    pub(super) fn has_tier(&self, tier: &str) -> bool {
        self.tier_markup_ppm.contains_key(tier)
    }

    /// The credits for an exact amount of USD: markup, exchange, ONE ceil. A tier's markup replaces the overall
    /// one. `None` when a product leaves i128 or the result i64.
    ///
    /// `pico_usd/per · (1e6 + markup_ppm)/1e6 / usd_per_credit_pico · 1e6`, the two millions cancelling.
    pub(super) fn charge(&self, cost: Exact, tier: Option<&str>) -> Option<Ucr> {
        let tier_markup = tier.and_then(|tier| self.tier_markup_ppm.get(tier));
        let markup_ppm = i128::from(*tier_markup.unwrap_or(&self.markup_ppm));
        let numerator = cost.pico_usd.checked_mul(PPM.checked_add(markup_ppm)?)?;
        let denominator = i128::from(cost.per).checked_mul(i128::from(self.usd_per_credit_pico))?;
        let whole = numerator.checked_div(denominator)?;
        let started = numerator.checked_rem(denominator)?.signum();
        i64::try_from(whole.checked_add(started)?).ok().map(Ucr::new)
    }
}

fn texts<T: ToString>(entries: &BTreeMap<String, T>) -> Value {
    entries.iter().map(|(key, value)| (key.clone(), Value::from(value.to_string()))).collect::<Map<_, _>>().into()
}

fn ppm(value: &Value) -> Result<u32, String> {
    let ppm = read::count(value)?;
    u32::try_from(ppm).map_err(|_| format!("`{ppm}` is too large a markup: the largest is {}", u32::MAX))
}

fn fee(value: &Value) -> Result<Ucr, String> {
    let text = value.as_str().ok_or("expected an amount of credits as text such as \"10\"")?;
    match text.parse::<Ucr>() {
        Ok(fee) if fee >= Ucr::ZERO => Ok(fee),
        Ok(_) => Err("a fee must not be negative".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
