//! What a price may depend on besides the model: cache writes for an hour, variants, dates, the fallback.

use serde_json::{Value, json};

use super::super::{Dimension, ModelPrice, PriceBook, PricingError};
use super::{book, json as parse, model_with};
use crate::credits::Ucr;
use crate::usage::{Usage, UsageError};

/// A model with a batch variant that has a tier of its own, and a dearer one.
const VARIANTS: &str = r#"
name = "variants"
[[model]]
provider = "p"
name = "m"
tokenizer = "o200k_base"
context_tokens = 1000000
max_output_tokens = 64000
source = "made up"
valid_from = "2026-11-05"
[model.rates]
input = "2"
output = "8"
[[model.variant]]
name = "batch"
[model.variant.rates]
input = "1"
output = "4"
[[model.variant.tier]]
above_input_tokens = 1000
[model.variant.tier.rates]
input = "1.5"
output = "4"
[[model.variant]]
name = "priority"
[model.variant.rates]
input = "4"
output = "16"
"#;

const FALLBACK: &str = r#"
tokenizer = "cl100k_base"
context_tokens = 100000
max_output_tokens = 8000
source = "made up"
rates = { input = "10", output = "50" }
"#;

fn with_fallback() -> PriceBook {
    let mut value = parse(VARIANTS);
    value["fallback"] = parse(FALLBACK);
    PriceBook::from_value(value).unwrap()
}

fn problem(value: Value) -> String {
    let problems = PriceBook::from_value(value).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn cache_writes_for_an_hour_have_a_price_of_their_own() {
    let rates = "input = \"3\"\n\"input.cache_read\" = \"0.3\"\n\"input.cache_write\" = \"3.75\"\noutput = \"15\"";
    let usage = Usage { input_tokens: 1_000, cache_write_tokens: 900, cache_write_1h_tokens: 400, ..Usage::default() };
    // 100 · $3 + 500 · $3.75 + 400 · $6, per million = $0.004575
    let priced = model_with(&format!("{rates}\n\"input.cache_write_1h\" = \"6\""));
    assert_eq!(priced.call_cost("m", &usage), Ok(Ucr::new(457_500)));
    // without a price of its own it is a cache write like any other: 100 · $3 + 900 · $3.75
    assert_eq!(model_with(rates).call_cost("m", &usage), Ok(Ucr::new(367_500)));
    // and without a price for cache writes it is input: 1,000 · $3
    assert_eq!(model_with("input = \"3\"\noutput = \"15\"").call_cost("m", &usage), Ok(Ucr::new(300_000)));
    // a reservation covers it: 1,000 · $6
    assert_eq!(priced.call_ceiling("m", 1_000, 0), Ok(Ucr::new(600_000)));
    let refused = Usage { cache_write_1h_tokens: 901, ..usage };
    let error = UsageError::HourExceedsCacheWrites { cache_write_1h_tokens: 901, cache_write_tokens: 900 };
    assert_eq!(priced.call_cost("m", &refused), Err(PricingError::Usage(error)));
}

#[test]
fn a_variant_has_its_own_rates_and_tiers() {
    let book = PriceBook::from_value(parse(VARIANTS)).unwrap();
    let usage = |input_tokens| Usage { input_tokens, output_tokens: 100, ..Usage::default() };
    let cost = |variant, input| book.quote("m", variant, &usage(input)).map(|quote| quote.cost);
    // 1,000 · $2 + 100 · $8, 1,000 · $1 + 100 · $4, 1,001 · $1.5 + 100 · $4, 1,000 · $4 + 100 · $16
    assert_eq!(cost(None, 1_000), Ok(Ucr::new(280_000)));
    assert_eq!(cost(Some("batch"), 1_000), Ok(Ucr::new(140_000)));
    assert_eq!(cost(Some("batch"), 1_001), Ok(Ucr::new(190_150)));
    assert_eq!(cost(Some("priority"), 1_000), Ok(Ucr::new(560_000)));
    assert_eq!(book.call_cost("m", &usage(1_000)), Ok(Ucr::new(280_000)));
    let error = cost(Some("flex"), 1_000).unwrap_err();
    assert_eq!(error.code(), "variant_not_priced");
    assert_eq!(error.to_string(), "`flex` of model `m` has no price in this price book");
    let names = book.model("m").unwrap().variants().iter().map(|variant| variant.name().to_owned());
    assert_eq!(names.collect::<Vec<_>>(), ["batch", "priority"]);
    assert_eq!(PriceBook::from_value(book.to_value()), Ok(book));
}

#[test]
fn broken_variants_are_refused() {
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut value = parse(VARIANTS);
        edit(&mut value["model"][0]["variant"]);
        problem(value)
    };
    let twice = edit(&|variants| variants[1]["name"] = json!("batch"));
    assert_eq!(twice, "/model/0/variant/1/name: the model has a variant `batch` already");
    let half = edit(&|variants| drop(variants[1]["rates"].as_object_mut().unwrap().remove("output")));
    assert_eq!(half, "/model/0/variant/1/rates: `output` is missing");
    let cheap = edit(&|variants| variants[0]["rates"]["request"] = json!("0.9"));
    assert!(cheap.starts_with("/model/0/variant/0/tier/0/rates: `request` is cheaper"), "{cheap}");
    let unknown = edit(&|variants| variants[0]["prices"] = json!({}));
    assert_eq!(unknown, "/model/0/variant/0/prices: unknown key; known here: `name`, `rates`, `tier`");
}

#[test]
fn a_quote_tells_each_part_and_the_exact_sum() {
    let usage = Usage { input_tokens: 12_307, cache_write_tokens: 12_304, output_tokens: 550, ..Usage::default() };
    let rates = "input = \"3\"\n\"input.cache_write\" = \"3.75\"\noutput = \"15\"\nrequest = \"0.01\"";
    let quote = model_with(rates).quote("m", None, &usage).unwrap();
    assert_eq!((quote.usd.as_str(), quote.cost), ("0.064399", Ucr::new(6_439_900)));
    let lines = quote.lines.iter().map(|line| (line.dimension, line.quantity, line.price_usd.as_str(), line.per));
    let expected = [
        (Dimension::Input, 3, "3", 1_000_000),
        (Dimension::CacheWrite, 12_304, "3.75", 1_000_000),
        (Dimension::Output, 550, "15", 1_000_000),
        (Dimension::Request, 1, "0.01", 1),
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    let tiny = model_with("per = \"1000000000\"\ninput = \"0.000000000001\"\noutput = \"1\"");
    let one = Usage { input_tokens: 1, ..Usage::default() };
    assert_eq!(tiny.quote("m", None, &one).unwrap().usd, "0.000000000000000000001");
}

#[test]
fn an_unknown_model_is_refused_unless_the_book_has_a_fallback() {
    let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
    let without = PriceBook::from_value(parse(VARIANTS)).unwrap();
    assert_eq!(without.call_cost("x", &usage), Err(PricingError::ModelNotPriced("x".to_owned())));
    assert!(without.fallback().is_none() && without.price_of("x").is_none());
    let with = with_fallback();
    // 100 · $10 + 10 · $50, per million
    assert_eq!(with.call_cost("x", &usage), Ok(Ucr::new(150_000)));
    assert_eq!(with.call_ceiling("x", 100, 10), Ok(Ucr::new(150_000)));
    assert_eq!(with.quote("x", None, &usage).unwrap().model, "fallback");
    assert_eq!(with.call_cost("m", &usage), without.call_cost("m", &usage), "a listed model keeps its price");
    assert!(with.model("x").is_none(), "it is not listed");
    assert_eq!(with.price_of("x").map(ModelPrice::tokenizer), Some("cl100k_base"));
    assert_eq!(PriceBook::from_value(with.to_value()), Ok(with.clone()));
    assert_ne!(with.content_hash(), without.content_hash());
}

#[test]
fn a_broken_fallback_is_refused() {
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut value = parse(VARIANTS);
        value["fallback"] = parse(FALLBACK);
        edit(&mut value["fallback"]);
        problem(value)
    };
    let free = edit(&|fallback| fallback["rates"]["output"] = json!("0"));
    assert_eq!(free, "/fallback/rates/output: must be more than zero: nothing used is free");
    let tier = edit(&|fallback| fallback["sell_tier"] = json!("gold"));
    assert_eq!(tier, "/fallback/sell_tier: `gold` has no markup in `sell.tier_markup_ppm`");
    let named = edit(&|fallback| fallback["name"] = json!("x"));
    assert!(named.starts_with("/fallback/name: unknown key"), "{named}");
    assert_eq!(edit(&|fallback| *fallback = json!("10")), "/fallback: expected a table, found text");
}

#[test]
fn a_price_that_holds_later_is_told() {
    let book = PriceBook::from_value(parse(VARIANTS)).unwrap();
    let names = |today| book.not_yet_valid(today).map(|model| model.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(names("2026-11-04"), ["m"]);
    assert!(names("2026-11-05").is_empty() && names("2027-01-01").is_empty());
    assert_eq!(book.model("m").unwrap().valid_from(), Some("2026-11-05"));
    assert_eq!(super::book().not_yet_valid("1970-01-01").count(), 0, "a price without a day always held");
    for bad in ["+026-11-05", "2026-1-05", "2026-11-5x", "2026-00-05"] {
        let mut value = parse(VARIANTS);
        value["model"][0]["valid_from"] = json!(bad);
        let told = problem(value);
        assert_eq!(told, format!("/model/0/valid_from: `{bad}` is not a date such as \"2026-11-23\""));
    }
}

#[test]
fn a_unit_tells_when_its_price_was_checked() {
    let mut value = parse(super::BOOK);
    value["unit"][0]["checked"] = json!("2026-11-23");
    let checked = PriceBook::from_value(value).unwrap();
    assert_eq!(checked.unit("step").unwrap().checked(), Some("2026-11-23"));
    assert_eq!(book().unit("step").unwrap().checked(), None);
    assert_eq!(PriceBook::from_value(checked.to_value()), Ok(checked));
}

#[test]
fn a_million_tokens_are_told_in_usd_and_credits() {
    let book = book();
    let told = |name: &str, tier: Option<usize>, dimension| {
        let model = book.model(name).unwrap();
        let rates = tier.map_or(model.rates(), |at| model.tiers()[at].rates());
        (rates.usd_per_million(dimension), book.credits_per_million(model, rates, dimension))
    };
    let both = |usd: &str, ucr| (Some(usd.to_owned()), Some(Ucr::new(ucr)));
    assert_eq!(told("sonnet", None, Dimension::Input), both("3", 300_000_000));
    assert_eq!(told("sonnet", None, Dimension::CacheWrite1h), both("3.75", 375_000_000), "its parent's");
    // $0.006 for a thousand
    assert_eq!(told("sonnet", Some(0), Dimension::Input), both("6", 600_000_000));
    // with a markup of a quarter; a request is one
    assert_eq!(told("flash", None, Dimension::Output), both("2.5", 312_500_000));
    assert_eq!(told("flash", None, Dimension::Request), both("0.005", 625_000));
    assert_eq!(told("sonnet", None, Dimension::Request), (None, None));
    assert_eq!(book.unit_credits("page", 1_000), Ok(Ucr::new(125_000_000)));
}
