//! One priced unit that is not a token: a tool call, a retrieval, a no-op step.
//!
//! A unit line is a quantity and a name; the book turns each line into credits with a ceil of its own.

use serde_json::{Value, json};

use super::rates::Exact;
use super::read::{self, Refused, Table};
use super::usd;

/// The price of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitPrice {
    name: String,
    pico_usd: u64,
    per: u64,
    source: String,
    checked: Option<String>,
}

impl UnitPrice {
    /// Reads one `[[unit]]`. `per` defaults to one.
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let name = table.required("name", read::name);
        let pico_usd = table.required("price", read::price);
        let per = table.optional("per", read::per);
        let source = table.required("source", read::text);
        let checked = table.optional("checked", read::date);
        table.close();
        Ok(Self { name: name?, pico_usd: pico_usd?, per: per?.unwrap_or(1), source: source?, checked: checked? })
    }

    /// The table that [`UnitPrice::read`] reads back as the same unit.
    pub(super) fn to_value(&self) -> Value {
        let mut table = json!({
            "name": self.name,
            "price": usd::text(self.pico_usd),
            "per": self.per.to_string(),
            "source": self.source,
        });
        if let (Some(table), Some(checked)) = (table.as_object_mut(), &self.checked) {
            table.insert("checked".to_owned(), json!(checked));
        }
        table
    }

    /// The unit's name, e.g. `tool_call`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The price in pico-USD of [`UnitPrice::per`] units.
    pub const fn pico_usd(&self) -> u64 {
        self.pico_usd
    }

    /// The price in USD of [`UnitPrice::per`] units, exact decimal text.
    pub fn price_usd(&self) -> String {
        usd::text(self.pico_usd)
    }

    /// For how many units the price is.
    pub const fn per(&self) -> u64 {
        self.per
    }

    /// Where the price comes from: a public page, or the words that it is made up.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The day (`YYYY-MM-DD`) for which the price was verified; none for made-up prices.
    pub fn checked(&self) -> Option<&str> {
        self.checked.as_deref()
    }

    /// What so many units cost, exactly; `None` on overflow.
    pub(super) fn cost(&self, quantity: u64) -> Option<Exact> {
        let pico_usd = i128::from(quantity).checked_mul(i128::from(self.pico_usd))?;
        Some(Exact { pico_usd, per: self.per })
    }
}
