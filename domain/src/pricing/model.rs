//! One priced model: who serves it, how its tokens are counted, how much fits, and its rates.
//!
//! Immutable facts out of a price book. It prices nothing by itself: a call's cost needs the book's `sell` too.

use serde_json::{Map, Value, json};

use super::card::{ContextTier, RateCard};
use super::rates::Rates;
use super::read::{self, Refused, Table};

/// The tokenizers that Bursar can count with (all compiled in); other models use one of them and a factor.
pub const TOKENIZERS: [&str; 3] = ["o200k_base", "o200k_harmony", "cl100k_base"];

/// What the fallback price is called where a model's name stands.
const FALLBACK: &str = "fallback";

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
    valid_from: Option<String>,
    note: Option<String>,
    card: RateCard,
    variants: Vec<Variant>,
}

/// A model's rates under another service tier than the standard one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    name: String,
    card: RateCard,
}

impl Variant {
    /// Its name, e.g. `batch`, `flex` or `priority`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its rates. They stand for themselves: what is not stated is not taken from the standard ones.
    pub const fn card(&self) -> &RateCard {
        &self.card
    }

    fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let name = table.required("name", read::name);
        let card = RateCard::take(&mut table);
        table.close();
        Ok(Self { name: name?, card: card? })
    }

    fn to_value(&self) -> Value {
        let mut table = Map::new();
        table.insert("name".to_owned(), json!(self.name));
        self.card.put(&mut table);
        Value::Object(table)
    }
}

impl ModelPrice {
    /// Reads one `[[model]]`.
    pub(super) fn read(mut table: Table<'_>) -> Result<Self, Refused> {
        let provider = table.required("provider", read::name);
        let name = table.required("name", read::name);
        let aliases = table.optional("aliases", read::names);
        let variants = read_variants(&mut table);
        let terms = Self::read_terms(table);
        Ok(Self {
            provider: provider?,
            name: name?,
            aliases: aliases?.unwrap_or_default(),
            variants: variants?,
            ..terms?
        })
    }

    /// Reads `[fallback]`: a model without a name of its own.
    pub(super) fn read_fallback(table: Table<'_>) -> Result<Self, Refused> {
        Self::read_terms(table)
    }

    /// Everything that does not say which model it is; takes the rest of the table.
    fn read_terms(mut table: Table<'_>) -> Result<Self, Refused> {
        let tokenizer = table.required("tokenizer", tokenizer);
        let tokenizer_factor_ppm = table.optional("tokenizer_factor_ppm", factor_ppm);
        let context_tokens = table.required("context_tokens", read::positive);
        let max_output_tokens = table.required("max_output_tokens", read::positive);
        let sell_tier = table.optional("sell_tier", read::name);
        let source = table.required("source", read::text);
        let checked = table.optional("checked", read::date);
        let valid_from = table.optional("valid_from", read::date);
        let note = table.optional("note", read::text);
        let card = RateCard::take(&mut table);
        if let (Ok(context), Ok(output)) = (context_tokens, max_output_tokens)
            && output > context
        {
            table.problem("max_output_tokens", format!("must not be larger than `context_tokens`, {context}"));
        }
        table.close();
        Ok(Self {
            provider: FALLBACK.to_owned(),
            name: FALLBACK.to_owned(),
            aliases: Vec::new(),
            tokenizer: tokenizer?,
            tokenizer_factor_ppm: tokenizer_factor_ppm?.unwrap_or(1_000_000),
            context_tokens: context_tokens?,
            max_output_tokens: max_output_tokens?,
            sell_tier: sell_tier?,
            source: source?,
            checked: checked?,
            valid_from: valid_from?,
            note: note?,
            card: card?,
            variants: Vec::new(),
        })
    }

    /// The table that [`ModelPrice::read`] reads back as the same model.
    pub(super) fn to_value(&self) -> Value {
        let mut table = self.terms();
        table.insert("provider".to_owned(), json!(self.provider));
        table.insert("name".to_owned(), json!(self.name));
        if !self.aliases.is_empty() {
            table.insert("aliases".to_owned(), json!(self.aliases));
        }
        if !self.variants.is_empty() {
            table.insert("variant".to_owned(), self.variants.iter().map(Variant::to_value).collect());
        }
        Value::Object(table)
    }

    /// The table that [`ModelPrice::read_fallback`] reads back as the same fallback.
    pub(super) fn to_fallback_value(&self) -> Value {
        Value::Object(self.terms())
    }

    fn terms(&self) -> Map<String, Value> {
        let mut table = Map::new();
        let mut put = |key: &str, value: Value| drop(table.insert(key.to_owned(), value));
        put("tokenizer", json!(self.tokenizer));
        put("tokenizer_factor_ppm", json!(self.tokenizer_factor_ppm.to_string()));
        put("context_tokens", json!(self.context_tokens.to_string()));
        put("max_output_tokens", json!(self.max_output_tokens.to_string()));
        put("source", json!(self.source));
        let optional = [
            ("sell_tier", &self.sell_tier),
            ("checked", &self.checked),
            ("valid_from", &self.valid_from),
            ("note", &self.note),
        ];
        for (key, text) in optional {
            if let Some(text) = text {
                put(key, json!(text));
            }
        }
        self.card.put(&mut table);
        table
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

    /// The day (`YYYY-MM-DD`) from which the provider asks this price; none where it always did.
    pub fn valid_from(&self) -> Option<&str> {
        self.valid_from.as_deref()
    }

    /// A remark for people, e.g. when the provider stops serving the model.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The standard rates of calls below every threshold.
    pub const fn rates(&self) -> &Rates {
        self.card.rates()
    }

    /// Dearer standard rates for long inputs, by ascending threshold.
    pub fn tiers(&self) -> &[ContextTier] {
        self.card.tiers()
    }

    /// The standard rates of a whole call with so many input tokens, cached ones included.
    pub fn rates_at(&self, input_tokens: u64) -> &Rates {
        self.card.rates_at(input_tokens)
    }

    /// Rates under other service tiers, in the order of the book.
    pub fn variants(&self) -> &[Variant] {
        &self.variants
    }

    /// The standard rates, or those of a variant; `None` when there is no such variant.
    pub fn card(&self, variant: Option<&str>) -> Option<&RateCard> {
        let Some(name) = variant else { return Some(&self.card) };
        self.variants.iter().find(|variant| variant.name == name).map(Variant::card)
    }
}

/// Reads the variants; a name stands once.
fn read_variants(table: &mut Table<'_>) -> Result<Vec<Variant>, Refused> {
    let items = table.tables("variant");
    let expected = items.len();
    let mut variants: Vec<Variant> = Vec::with_capacity(expected);
    for table in items.into_iter().flatten() {
        let (pointer, problems) = (table.pointer(), table.problems());
        let Ok(variant) = Variant::read(table) else { continue };
        if variants.iter().any(|known| known.name == variant.name) {
            problems.add(&read::child(&pointer, "name"), format!("the model has a variant `{}` already", variant.name));
        }
        variants.push(variant);
    }
    if variants.len() == expected { Ok(variants) } else { Err(Refused) }
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
