//! A model between a catalogue and a book: exact prices per token, turned into the table that the book reads.
//!
//! The book's own checks decide whether it is a good one; what they say is the reason why it is not.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::{Dimension, PriceBook};
use super::number::Decimal;
use super::{Found, Remark};

/// Prices by dimension, in USD per token (per call for a request).
pub(super) type Prices = BTreeMap<Dimension, Decimal>;

/// Rates and what they become above thresholds. Each table is whole: nothing is inherited any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Card {
    pub base: Prices,
    pub tiers: BTreeMap<u64, Prices>,
}

/// A model as a catalogue has it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub provider: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub source: String,
    pub valid_from: Option<String>,
    pub note: Option<String>,
    pub standard: Card,
    pub variants: BTreeMap<String, Card>,
    /// What is known to be missing.
    pub missing: Vec<String>,
}

impl Draft {
    /// The table of the model, or why there is none; remarks about what it lacks go to `found`.
    pub(super) fn finish(mut self, default_context: Option<u64>, found: &mut Found) {
        match self.table(default_context) {
            Ok(model) => {
                let subject = self.name.clone();
                found.partly.extend(self.missing.into_iter().map(|reason| Remark { subject: subject.clone(), reason }));
                found.models.push(model);
            }
            Err(reason) => found.refused.push(Remark { subject: self.name, reason }),
        }
    }

    fn table(&mut self, default_context: Option<u64>) -> Result<Value, String> {
        let known = self.context_tokens.max(self.max_output_tokens).or(default_context);
        let context = known.ok_or("its context window is not given")?;
        let (tokenizer, factor_ppm) = tokenizer(&self.provider, &self.name);
        let mut model = json!({
            "provider": self.provider,
            "name": self.name,
            "tokenizer": tokenizer,
            "tokenizer_factor_ppm": factor_ppm,
            "context_tokens": context,
            // no output is longer than the window
            "max_output_tokens": self.max_output_tokens.unwrap_or(context),
            "source": self.source,
        });
        let standard = card(&self.standard, "", &mut self.missing)?;
        let Some(table) = model.as_object_mut() else { return Err("it is no table".to_owned()) };
        table.extend(standard);
        for (key, text) in [("valid_from", &self.valid_from), ("note", &self.note)] {
            table.extend(text.as_ref().map(|text| (key.to_owned(), json!(text))));
        }
        if !self.aliases.is_empty() {
            table.insert("aliases".to_owned(), json!(self.aliases));
        }
        check(&model)?;
        let variants = self.variant_tables(&model);
        if let (false, Some(table)) = (variants.is_empty(), model.as_object_mut()) {
            table.insert("variant".to_owned(), Value::Array(variants));
        }
        Ok(model)
    }

    /// The variants that differ from the standard and are good; the others are remarks.
    fn variant_tables(&mut self, model: &Value) -> Vec<Value> {
        let mut tables = Vec::new();
        for (name, variant) in &self.variants {
            let mut missing = Vec::new();
            let table = card(variant, &format!("`{name}`: "), &mut missing).and_then(|table| {
                let mut table = table;
                table.insert("name".to_owned(), json!(name));
                let mut whole = model.clone();
                if let Some(whole) = whole.as_object_mut() {
                    whole.insert("variant".to_owned(), json!([table]));
                }
                check(&whole).map(|()| Value::Object(table))
            });
            match table {
                Ok(table) => {
                    self.missing.extend(missing);
                    tables.push(table);
                }
                Err(reason) => self.missing.push(format!("the variant `{name}` is left out: {reason}")),
            }
        }
        tables
    }
}

/// Whether a book takes the model.
fn check(model: &Value) -> Result<(), String> {
    let book = json!({ "name": "import", "model": [model] });
    PriceBook::from_value(book).map(drop).map_err(|problems| {
        let told = |problem: &super::PriceProblem| problem.to_string().replace("/model/0", "");
        problems.iter().map(told).collect::<Vec<_>>().join("; ")
    })
}

/// The `rates` and `tier` of a card. Parts that cost nothing are left out and told.
fn card(card: &Card, at: &str, missing: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let mut table = Map::new();
    table.insert("rates".to_owned(), rates(&card.base, at, missing)?);
    let mut tiers = Vec::new();
    for (above, prices) in &card.tiers {
        let at = format!("{at}above {above} tokens: ");
        tiers.push(json!({ "above_input_tokens": above, "rates": rates(prices, &at, missing)? }));
    }
    if !tiers.is_empty() {
        table.insert("tier".to_owned(), Value::Array(tiers));
    }
    Ok(table)
}

fn rates(prices: &Prices, at: &str, missing: &mut Vec<String>) -> Result<Value, String> {
    let mut priced = Vec::new();
    for (dimension, price) in prices {
        match (price.is_zero(), dimension) {
            (false, _) => priced.push((*dimension, *price)),
            (true, Dimension::Request) => {}
            (true, Dimension::Input | Dimension::Output) => {
                return Err(format!("{at}`{}` costs nothing, and a price is above zero", dimension.key()));
            }
            (true, _) => missing.push(format!(
                "{at}`{}` costs nothing there; here it costs what `{}` does",
                dimension.key(),
                dimension.parent().map_or("", Dimension::key),
            )),
        }
    }
    (6..=9).find_map(|power| table_for(&priced, power)).ok_or_else(|| {
        format!("{at}a price is not exact at 1e-12 USD for 1,000,000,000 tokens, or is above 1,000,000 USD")
    })
}

fn table_for(priced: &[(Dimension, Decimal)], power: u32) -> Option<Value> {
    let mut table = Map::new();
    table.insert("per".to_owned(), json!(10_u64.checked_pow(power)?.to_string()));
    for (dimension, price) in priced {
        let power = if *dimension == Dimension::Request { 0 } else { power };
        table.insert(dimension.key().to_owned(), json!(price.price_of(power)?));
    }
    Some(Value::Object(table))
}

/// What to estimate with until real calls teach better.
fn tokenizer(provider: &str, name: &str) -> (&'static str, u32) {
    match provider {
        _ if name.contains("claude") => ("o200k_base", 1_300_000),
        "openai" | "azure" => ("o200k_base", 1_000_000),
        _ => ("o200k_base", 1_150_000),
    }
}
