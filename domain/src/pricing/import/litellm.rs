//! The catalogue of litellm: one object per model, one key per price, with service tier and threshold in the key.
//!
//! How its calculator reads the keys decides what they mean here: a price that a tier lacks is the one below it, a
//! service tier's missing price is the standard one, thresholds of xAI include the threshold itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use serde_json::value::RawValue;

use super::super::Dimension;
use super::draft::{Card, Draft, Prices};
use super::number::Decimal;
use super::{Found, ImportError, Wanted};

type Fields<'t> = BTreeMap<String, &'t RawValue>;

/// Prices per token by what they are for.
const PRICES: [(&str, Dimension); 8] = [
    ("input_cost_per_token", Dimension::Input),
    ("cache_read_input_token_cost", Dimension::CacheRead),
    ("input_cost_per_token_cache_hit", Dimension::CacheRead),
    ("cache_creation_input_token_cost", Dimension::CacheWrite),
    ("cache_creation_input_token_cost_above_1hr", Dimension::CacheWrite1h),
    ("output_cost_per_token", Dimension::Output),
    ("output_cost_per_reasoning_token", Dimension::Reasoning),
    ("input_cost_per_request", Dimension::Request),
];

/// Service tiers as keys end, and the names of the variants they become.
const SUFFIXES: [(&str, &str); 6] = [
    ("_batches", "batch"),
    ("_flex", "flex"),
    ("_priority", "priority"),
    ("_balanced", "balanced"),
    ("_ultrafast", "ultrafast"),
    ("_decisions", "decisions"),
];

/// What makes a price depend on something that a book does not know.
const UNKNOWN_RULES: [(&str, &str); 2] = [
    ("tiered_pricing", "its price is a table of ranges"),
    ("off_peak_pricing", "its price depends on the time of the day"),
];

/// Reads the whole catalogue.
pub(super) fn read(text: &str, wanted: &Wanted, found: &mut Found) -> Result<(), ImportError> {
    let shape = |error: serde_json::Error| ImportError::Shape(error.to_string());
    let entries = serde_json::from_str::<BTreeMap<String, &RawValue>>(text).map_err(shape)?;
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "sample_spec" && wanted.takes(name)) {
        match serde_json::from_str::<Fields<'_>>(entry.get()) {
            Ok(fields) => read_entry(name, &fields, wanted, found),
            Err(_) => found.refuse(name, "its entry is not an object"),
        }
    }
    Ok(())
}

fn read_entry(name: &str, fields: &Fields<'_>, wanted: &Wanted, found: &mut Found) {
    for (key, reason) in UNKNOWN_RULES {
        if fields.get(key).is_some_and(|value| value.get() != "null") {
            return found.refuse(name, reason);
        }
    }
    let told = match text(fields, "mode").as_deref() {
        Some("chat" | "completion" | "responses") => {
            model(name, fields).map(|draft| draft.finish(wanted.default_context, found))
        }
        Some("embedding") => unit("embedding", name, fields, "input_cost_per_token", 6, found),
        Some("rerank") => unit("rerank", name, fields, "input_cost_per_query", 0, found),
        Some("audio_transcription") => unit("second", name, fields, "input_cost_per_second", 0, found),
        Some(mode) => Err(format!("its mode `{mode}` has no counterpart")),
        None => Err("its mode is not given".to_owned()),
    };
    if let Err(reason) = told {
        found.refuse(name, reason);
    }
}

/// A price's place: the variant (none for the standard), the threshold in tokens (zero for none), the dimension.
type Place = (Option<&'static str>, u64, Dimension);

fn model(name: &str, fields: &Fields<'_>) -> Result<Draft, String> {
    let provider = text(fields, "litellm_provider").ok_or("its provider is not given")?;
    let mut prices = BTreeMap::<Place, Decimal>::new();
    let mut missing = Vec::new();
    for (key, raw) in fields.iter().filter(|(key, _)| is_price(key)) {
        let value = Decimal::of(raw).map_err(|reason| format!("`{key}`: {reason}"))?;
        match place(key, &provider) {
            Some(place) => prices.extend(value.map(|value| (place, value))),
            None if value.is_some_and(Decimal::is_zero) || raw.get() == "null" => {}
            None => missing.push(format!("`{key}` has no counterpart")),
        }
    }
    let variants = prices.keys().filter_map(|(variant, ..)| *variant).collect::<BTreeSet<_>>();
    Ok(Draft {
        name: name.to_owned(),
        context_tokens: count(fields, "max_input_tokens").or_else(|| count(fields, "max_tokens")),
        max_output_tokens: count(fields, "max_output_tokens"),
        source: source(fields),
        note: text(fields, "deprecation_date").map(|date| format!("End announced for {date}.")),
        standard: card(&prices, None),
        variants: variants.into_iter().map(|variant| (variant.to_owned(), card(&prices, Some(variant)))).collect(),
        provider,
        missing,
        ..Draft::default()
    })
}

/// The whole tables of the standard or of a variant. What a variant does not tell it has from the standard, but for a
/// batch, which stands for itself, and for reasoning, which costs what the variant's output does.
fn card(prices: &BTreeMap<Place, Decimal>, variant: Option<&'static str>) -> Card {
    let has_output = prices.contains_key(&(variant, 0, Dimension::Output));
    let inherits = |dimension| match variant {
        None | Some("batch") => false,
        Some(_) => !(has_output && dimension == Dimension::Reasoning),
    };
    let level = |above: u64, below: &Prices| {
        let mut level = below.clone();
        for (_, dimension) in PRICES {
            let standard = prices.get(&(None, above, dimension)).filter(|_| inherits(dimension));
            let own = prices.get(&(variant, above, dimension));
            level.extend(own.or(standard).map(|price| (dimension, *price)));
        }
        level
    };
    let base = level(0, &Prices::new());
    let thresholds = prices.keys().filter(|(of, above, _)| *above > 0 && (*of == variant || variant != Some("batch")));
    let thresholds = thresholds.filter(|(of, ..)| of.is_none() || *of == variant);
    let thresholds = thresholds.map(|(_, above, _)| *above).collect::<BTreeSet<_>>();
    let mut tiers = BTreeMap::<u64, Prices>::new();
    for above in thresholds {
        let below = tiers.last_key_value().map_or(&base, |(_, prices)| prices);
        let tier = level(above, below);
        if tier != *below {
            tiers.insert(above, tier);
        }
    }
    Card { base, tiers }
}

/// Whether a key is about money.
fn is_price(key: &str) -> bool {
    key.contains("cost") || key.contains("uplift_multiplier") || key == "provider_specific_entry"
}

fn place(key: &str, provider: &str) -> Option<Place> {
    let (key, variant) = without_suffix(key);
    let (key, above) = match key.rsplit_once("_above_").and_then(|(key, above)| Some((key, threshold(above)?))) {
        Some((key, above)) if provider == "xai" => (key, above.saturating_sub(1)),
        Some((key, above)) => (key, above),
        None => (key, 0),
    };
    let (key, inner) = without_suffix(key);
    let (_, dimension) = PRICES.iter().find(|(name, _)| *name == key)?;
    Some((variant.or(inner), above, *dimension))
}

fn without_suffix(key: &str) -> (&str, Option<&'static str>) {
    let found = SUFFIXES.iter().find_map(|(suffix, variant)| Some((key.strip_suffix(suffix)?, *variant)));
    found.map_or((key, None), |(key, variant)| (key, Some(variant)))
}

/// `272k_tokens` is 272,000.
fn threshold(text: &str) -> Option<u64> {
    text.strip_suffix("k_tokens")?.parse::<u64>().ok()?.checked_mul(1_000)
}

/// A priced unit `<kind>.<name>`: `key` is its price for one, told for `10^power` of them.
fn unit(kind: &str, name: &str, fields: &Fields<'_>, key: &str, power: u32, found: &mut Found) -> Result<(), String> {
    let unit = format!("{kind}.{name}");
    let raw = fields.get(key).ok_or_else(|| format!("`{key}` is not given"))?;
    let price =
        Decimal::of(raw)?.filter(|price| !price.is_zero()).ok_or("it costs nothing, and a price is above zero")?;
    let told = (power..=9).find_map(|power| Some((price.price_of(power)?, 10_u64.checked_pow(power)?)));
    let (price, per) = told.ok_or("its price is not exact at 1e-12 USD for 1,000,000,000")?;
    if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
        return Err("a name must not have blanks".to_owned());
    }
    found.units.push(json!({ "name": unit, "price": price, "per": per.to_string(), "source": source(fields) }));
    for (other, raw) in fields.iter().filter(|(other, _)| is_price(other) && *other != key) {
        if !Decimal::of(raw).is_ok_and(|value| value.is_some_and(Decimal::is_zero)) && raw.get() != "null" {
            found.partly.push(super::Remark { subject: unit.clone(), reason: format!("`{other}` has no counterpart") });
        }
    }
    Ok(())
}

fn text(fields: &Fields<'_>, key: &str) -> Option<String> {
    serde_json::from_str::<String>(fields.get(key)?.get()).ok()
}

fn count(fields: &Fields<'_>, key: &str) -> Option<u64> {
    fields.get(key)?.get().trim_matches('"').parse::<u64>().ok().filter(|count| *count > 0)
}

/// The provider's page, where the entry names one.
fn source(fields: &Fields<'_>) -> String {
    let page = text(fields, "source").filter(|page| page.starts_with("http") && page.chars().count() <= 500);
    page.unwrap_or_else(|| "the catalogue of litellm".to_owned())
}
