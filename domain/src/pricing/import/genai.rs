//! The catalogue of genai-prices: providers with models, each with one price or several with conditions.
//!
//! A provider that makes models gives them their own names; everybody else's are `provider/model`, so that the
//! same model at another price is another entry.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Dimension;
use super::draft::{Card, Draft, Prices};
use super::number::Decimal;
use super::{Found, ImportError, Wanted};

/// Who serves the models that they make.
const MAKERS: [&str; 13] = [
    "anthropic",
    "cohere",
    "deepseek",
    "google",
    "meta",
    "minimax",
    "mistral",
    "moonshotai",
    "openai",
    "perplexity",
    "voyageai",
    "x-ai",
    "zai",
];

/// Prices by what they are for, with the power of ten of the units they are for.
const PRICES: [(&str, Dimension, i32); 7] = [
    ("input_mtok", Dimension::Input, 6),
    ("cache_read_mtok", Dimension::CacheRead, 6),
    ("cache_write_mtok", Dimension::CacheWrite, 6),
    ("cache_write_1h_mtok", Dimension::CacheWrite1h, 6),
    ("output_mtok", Dimension::Output, 6),
    ("output_reasoning_mtok", Dimension::Reasoning, 6),
    ("requests_kcount", Dimension::Request, 3),
];

#[derive(Deserialize)]
struct Provider {
    id: String,
    #[serde(default)]
    pricing_urls: Option<Vec<String>>,
    #[serde(default)]
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    r#match: Value,
    #[serde(default)]
    context_window: Option<u64>,
    prices: Box<RawValue>,
    #[serde(default)]
    price_variants: Option<Vec<Variant>>,
}

#[derive(Deserialize)]
struct Variant {
    when: BTreeMap<String, String>,
    prices: PriceTable,
    #[serde(default)]
    constraint: Option<Constraint>,
}

#[derive(Deserialize)]
struct Conditional {
    prices: PriceTable,
    #[serde(default)]
    constraint: Option<Constraint>,
}

#[derive(Deserialize)]
struct Constraint {
    #[serde(default)]
    start_date: Option<String>,
}

#[derive(Deserialize)]
struct Tiered {
    base: Box<RawValue>,
    tiers: Vec<Tier>,
}

#[derive(Deserialize)]
struct Tier {
    start: u64,
    price: Box<RawValue>,
}

type PriceTable = BTreeMap<String, Box<RawValue>>;

/// A price and what it becomes above thresholds.
type Steps = BTreeMap<u64, Decimal>;

/// Reads the whole catalogue.
pub(super) fn read(text: &str, wanted: &Wanted, found: &mut Found) -> Result<(), ImportError> {
    let providers =
        serde_json::from_str::<Vec<Provider>>(text).map_err(|error| ImportError::Shape(error.to_string()))?;
    let mut taken = BTreeSet::new();
    for provider in &providers {
        for model in &provider.models {
            let name = name_at(provider, &model.id);
            if !wanted.takes(&name) {
                continue;
            }
            if !taken.insert(name.clone()) {
                found.refuse(&name, "the catalogue has it twice");
                continue;
            }
            match draft(provider, model, name.clone(), wanted) {
                Ok(Priced::Model(draft)) => draft.finish(wanted.default_context, found),
                Ok(Priced::Embedding(price)) => embedding(&name, provider, price, found),
                Err(reason) => found.refuse(&name, reason),
            }
        }
    }
    Ok(())
}

fn name_at(provider: &Provider, model: &str) -> String {
    if MAKERS.contains(&provider.id.as_str()) { model.to_owned() } else { format!("{}/{model}", provider.id) }
}

enum Priced {
    Model(Box<Draft>),
    Embedding(Decimal),
}

fn draft(provider: &Provider, model: &Model, name: String, wanted: &Wanted) -> Result<Priced, String> {
    let (table, valid_from) = prices_on(model, &wanted.on)?;
    let mut missing = Vec::new();
    let standard = steps(&table, &mut missing)?;
    let input = standard.get(&Dimension::Input).and_then(|steps| steps.get(&0)).copied();
    match (input, standard.contains_key(&Dimension::Output)) {
        (Some(_), true) => {}
        (Some(input), false) if standard.len() == 1 && missing.is_empty() => return Ok(Priced::Embedding(input)),
        _ => return Err("it has no price for input and output tokens".to_owned()),
    }
    let mut aliases = Vec::new();
    exact_names(&model.r#match, &mut aliases);
    aliases.retain(|alias| *alias != model.id && !alias.contains(char::is_whitespace));
    Ok(Priced::Model(Box::new(Draft {
        provider: provider.id.clone(),
        name,
        aliases: aliases.iter().map(|alias| name_at(provider, alias)).collect(),
        context_tokens: model.context_window.filter(|tokens| *tokens > 0),
        source: source(provider),
        valid_from,
        variants: variants(model, &standard, &wanted.on, &mut missing),
        standard: card(&standard),
        missing,
        ..Draft::default()
    })))
}

fn source(provider: &Provider) -> String {
    let page = provider.pricing_urls.as_ref().and_then(|pages| pages.first());
    page.cloned().unwrap_or_else(|| "the catalogue of genai-prices".to_owned())
}

/// The prices of the day and since when they hold. Prices of hours are not told by a book.
fn prices_on(model: &Model, on: &str) -> Result<(PriceTable, Option<String>), String> {
    let unreadable = |error: serde_json::Error| format!("its prices can't be read: {error}");
    if model.prices.get().starts_with('{') {
        return Ok((serde_json::from_str(model.prices.get()).map_err(unreadable)?, None));
    }
    let conditional = serde_json::from_str::<Vec<Conditional>>(model.prices.get()).map_err(unreadable)?;
    let starts = |entry: &Conditional| entry.constraint.as_ref().map(|constraint| constraint.start_date.clone());
    if conditional.iter().any(|entry| starts(entry).is_some_and(|start| start.is_none())) {
        return Err("its price depends on the time of the day".to_owned());
    }
    let holds = |entry: &Conditional| starts(entry).flatten().is_none_or(|start| start.as_str() <= on);
    let mut known = conditional;
    let at = known.iter().rposition(holds).unwrap_or_default();
    if at >= known.len() {
        return Err("it has no price".to_owned());
    }
    let entry = known.swap_remove(at);
    Ok((entry.prices, entry.constraint.and_then(|constraint| constraint.start_date)))
}

/// The prices with their steps; keys without a counterpart go to `missing`.
fn steps(table: &PriceTable, missing: &mut Vec<String>) -> Result<BTreeMap<Dimension, Steps>, String> {
    let mut all = BTreeMap::new();
    for (key, raw) in table {
        let at = |reason| format!("`{key}`: {reason}");
        let Some((_, dimension, power)) = PRICES.iter().find(|(name, ..)| name == key) else {
            if raw.get() != "null" && !Decimal::of(raw).map_err(at)?.is_some_and(Decimal::is_zero) {
                missing.push(format!("`{key}` has no counterpart"));
            }
            continue;
        };
        let mut steps = Steps::new();
        if raw.get().starts_with('{') {
            let tiered = serde_json::from_str::<Tiered>(raw.get()).map_err(|error| at(error.to_string()))?;
            steps
                .extend(Decimal::of(&tiered.base).map_err(at)?.map(|price| (0, price.shifted(power.saturating_neg()))));
            for tier in tiered.tiers {
                let price = Decimal::of(&tier.price).map_err(at)?;
                steps.extend(price.map(|price| (tier.start, price.shifted(power.saturating_neg()))));
            }
        } else {
            steps.extend(Decimal::of(raw).map_err(at)?.map(|price| (0, price.shifted(power.saturating_neg()))));
        }
        if !steps.is_empty() {
            all.insert(*dimension, steps);
        }
    }
    Ok(all)
}

fn card(all: &BTreeMap<Dimension, Steps>) -> Card {
    let level = |above: u64| {
        let at = |steps: &Steps| steps.range(..=above).next_back().map(|(_, price)| *price);
        all.iter().filter_map(|(dimension, steps)| Some((*dimension, at(steps)?))).collect::<Prices>()
    };
    let thresholds = all.values().flat_map(|steps| steps.keys()).filter(|above| **above > 0);
    let tiers = thresholds.map(|above| (*above, level(*above))).collect();
    Card { base: level(0), tiers }
}

/// The variants of the day: the first price told for a key stands in the place of the standard one.
fn variants(
    model: &Model,
    standard: &BTreeMap<Dimension, Steps>,
    on: &str,
    missing: &mut Vec<String>,
) -> BTreeMap<String, Card> {
    let mut told = BTreeMap::<String, BTreeMap<Dimension, Steps>>::new();
    for variant in model.price_variants.iter().flatten() {
        let name = variant_name(&variant.when);
        let start = variant.constraint.as_ref().map(|constraint| constraint.start_date.as_deref());
        match start {
            Some(None) => missing.push(format!("the variant `{name}` depends on the time of the day and is left out")),
            Some(Some(start)) if start > on => {}
            _ => match steps(&variant.prices, missing) {
                Ok(own) => {
                    let known = told.entry(name).or_default();
                    for (dimension, steps) in own {
                        known.entry(dimension).or_insert(steps);
                    }
                }
                Err(reason) => missing.push(format!("the variant `{name}` is left out: {reason}")),
            },
        }
    }
    let whole = |own: BTreeMap<Dimension, Steps>| {
        let mut all = standard.clone();
        all.extend(own);
        card(&all)
    };
    let differing = told.into_iter().filter(|(_, own)| !own.is_empty());
    differing.map(|(name, own)| (name, whole(own))).collect()
}

/// `batch`, `flex`, `priority`; `speed.fast` for what is neither a way of processing nor a service tier.
fn variant_name(when: &BTreeMap<String, String>) -> String {
    let part = |(key, value): (&String, &String)| match key.as_str() {
        "processing" | "service_tier" => value.clone(),
        other => format!("{other}.{value}"),
    };
    when.iter().map(part).collect::<Vec<_>>().join("+")
}

/// The names that a match clause takes literally.
fn exact_names(clause: &Value, names: &mut Vec<String>) {
    if let Some(name) = clause.get("equals").and_then(Value::as_str) {
        names.push(name.to_owned());
    }
    for clause in clause.get("or").and_then(Value::as_array).into_iter().flatten() {
        exact_names(clause, names);
    }
}

fn embedding(name: &str, provider: &Provider, price: Decimal, found: &mut Found) {
    let told = (6..=9).find_map(|power| Some((price.price_of(power)?, 10_u64.checked_pow(power)?)));
    let Some((price, per)) = told.filter(|_| !price.is_zero()) else {
        return found.refuse(name, "it costs nothing, or its price is not exact at 1e-12 USD for 1,000,000,000 tokens");
    };
    found.units.push(serde_json::json!({
        "name": format!("embedding.{name}"), "price": price, "per": per.to_string(), "source": source(provider),
    }));
}
