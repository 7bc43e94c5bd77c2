//! One priced model: who serves it, how its tokens are counted, how much fits, and its rates.
//!
//! Immutable facts out of a price book. It prices nothing by itself: a call's cost needs the book's `sell` too.

use serde_json::{Map, Value, json};

use super::rates::Rates;
use super::read::{self, Refused, Table};

/// The tokenizers that Bursar can count with (all compiled in); other models use one of them and a factor.
pub const TOKENIZERS: [&str; 3] = ["o200k_base", "o200k_harmony", "cl100k_base"];

/// The factor's bounds in ppm: an estimate ten times off is a slip of the pen.
const FACTOR_PPM: std::ops::RangeInclusive<u64> = 100_000..=10_000_000;

/// The price of a model and what is needed to estimate its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPrice {
    provider: String,
    name: String,
    aliases: Vec<String>,
    tokenizer: String,
    tokenizer_factor_ppm: u32,
    context_tokens: u64,
    max_output_tokens: u64,
    sell_tier: Option<String>,
    source: String,
    checked: Option<String>,
    note: Option<String>,
    rates: Rates,
    tiers: Vec<ContextTier>,
}

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
        let above_input_tokens = table.required("above_input_tokens", positive);
        let rates = table.required_table("rates").and_then(Rates::read);
        table.close();
        Ok(Self { above_input_tokens: above_input_tokens?, rates: rates? })
    }
}

impl ModelPrice {
    /// Reads one `[[model]]`.
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let provider = table.required("provider", read::name);
        let name = table.required("name", read::name);
        let aliases = table.optional("aliases", read::names);
        let tokenizer = table.required("tokenizer", tokenizer);
        let tokenizer_factor_ppm = table.optional("tokenizer_factor_ppm", factor_ppm);
        let context_tokens = table.required("context_tokens", positive);
        let max_output_tokens = table.required("max_output_tokens", positive);
        let sell_tier = table.optional("sell_tier", read::name);
        let source = table.required("source", read::text);
        let checked = table.optional("checked", read::date);
        let note = table.optional("note", read::text);
        let rates = table.required_table("rates").and_then(Rates::read);
        let tiers = read_tiers(&mut table, rates.as_ref().ok());
        if let (Ok(context), Ok(output)) = (context_tokens, max_output_tokens)
            && output > context
        {
            table.problem("max_output_tokens", format!("must not be larger than `context_tokens`, {context}"));
        }
        table.close();
        Ok(Self {
            provider: provider?,
            name: name?,
            aliases: aliases?.unwrap_or_default(),
            tokenizer: tokenizer?,
            tokenizer_factor_ppm: tokenizer_factor_ppm?.unwrap_or(1_000_000),
            context_tokens: context_tokens?,
            max_output_tokens: max_output_tokens?,
            sell_tier: sell_tier?,
            source: source?,
            checked: checked?,
            note: note?,
            rates: rates?,
            tiers: tiers?,
        })
    }

    /// The table that [`ModelPrice::read`] reads back as the same model.
    pub(super) fn to_value(&self) -> Value {
        let mut table = Map::new();
        let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        put("provider", json!(self.provider));
        put("name", json!(self.name));
        put("tokenizer", json!(self.tokenizer));
        put("tokenizer_factor_ppm", json!(self.tokenizer_factor_ppm.to_string()));
        put("context_tokens", json!(self.context_tokens.to_string()));
        put("max_output_tokens", json!(self.max_output_tokens.to_string()));
        put("source", json!(self.source));
        put("rates", self.rates.to_value());
        for (key, text) in [("sell_tier", &self.sell_tier), ("checked", &self.checked), ("note", &self.note)] {
            if let Some(text) = text {
                put(key, json!(text));
            }
        }
        if !self.aliases.is_empty() {
            put("aliases", json!(self.aliases));
        }
        if !self.tiers.is_empty() {
            let tier = |tier: &ContextTier| {
                json!({
                    "above_input_tokens": tier.above_input_tokens.to_string(),
                    "rates": tier.rates.to_value(),
                })
            };
            put("tier", self.tiers.iter().map(tier).collect());
        }
        Value::Object(table)
    }

    /// Who serves the model, e.g. `openai`.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// The name under which requests ask for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Other names for the same model at the same price, in the order of the book.
    pub fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// The tokenizer to estimate with, one of [`TOKENIZERS`].
    pub fn tokenizer(&self) -> &str {
        &self.tokenizer
    }

    /// How many tokens the provider counts per million that the tokenizer counts. A start; real calls teach better.
    pub const fn tokenizer_factor_ppm(&self) -> u32 {
        self.tokenizer_factor_ppm
    }

    /// Tokens that fit into the model's window, input and output together.
    pub const fn context_tokens(&self) -> u64 {
        self.context_tokens
    }

    /// The most tokens that one call produces.
    pub const fn max_output_tokens(&self) -> u64 {
        self.max_output_tokens
    }

    /// The name of the markup in `sell.tier_markup_ppm`, where the model has one.
    pub fn sell_tier(&self) -> Option<&str> {
        self.sell_tier.as_deref()
    }

    /// Where the price comes from: a public page, or the words that it is made up.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The day (`YYYY-MM-DD`) for which the price was verified; none for made-up prices.
    pub fn checked(&self) -> Option<&str> {
        self.checked.as_deref()
    }

    /// A remark for people, e.g. when the provider stops serving the model.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
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

/// Reads the tiers. Each must begin later and be at least as dear as what is below it: a reservation for an
/// estimate is priced at the tier the estimate reaches and must cover every shorter call too.
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

fn tokenizer(value: &Value) -> Result<String, String> {
    let name = read::name(value)?;
    if TOKENIZERS.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(format!("`{name}` is not a tokenizer; known are {}", TOKENIZERS.join(", ")))
}

fn factor_ppm(value: &Value) -> Result<u32, String> {
    let factor = read::count(value)?;
    let refused = || format!("`{factor}` is out of range: a factor is 100000 to 10000000 ppm (0.1 to 10)");
    if !FACTOR_PPM.contains(&factor) {
        return Err(refused());
    }
    u32::try_from(factor).map_err(|_| refused())
}

fn positive(value: &Value) -> Result<u64, String> {
    match read::count(value)? {
        0 => Err("must be at least 1".to_owned()),
        count => Ok(count),
    }
}
