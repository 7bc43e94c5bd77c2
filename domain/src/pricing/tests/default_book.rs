//! `prices/default.toml`: it reads, every price has a source, and one call of each model costs what a hand worked out.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{ModelPrice, PriceBook};
use super::json;
use crate::credits::Ucr;
use crate::usage::Usage;

fn default_book() -> PriceBook {
    let file = include_str!("../../../../prices/default.toml");
    PriceBook::from_value(json(file)).expect("the default prices are a good book")
}

/// Input, cache read, cache write, of it for an hour, output, reasoning (totals inclusive), and the credits in
/// millionths. At 0.01 USD per credit, one USD per million tokens is 100 µcr per token. Models with a threshold have a
/// second call that is one token beyond it.
const CALLS: [(&str, [u64; 6], i64); 52] = [
    // 700 · 1000 + 1,000 · 100 + 500 · 1250 + 300 · 5000
    ("gpt-6-astra", [2_200, 1_000, 500, 0, 300, 100], 2_925_000),
    // 270,501 · 2000 + 1,000 · 200 + 500 · 2500 + 300 · 7500
    ("gpt-6-astra", [272_001, 1_000, 500, 0, 300, 100], 544_702_000),
    // 700 · 200 + 1,000 · 10 + 500 · 250 + 300 · 1000
    ("gpt-6.1-sol", [2_200, 1_000, 500, 0, 300, 100], 575_000),
    // 270,501 · 400 + 1,000 · 20 + 500 · 500 + 300 · 1500
    ("gpt-6.1-sol", [272_001, 1_000, 500, 0, 300, 100], 108_920_400),
    // 700 · 200 + 1,000 · 20 + 500 · 250 + 300 · 1000
    ("gpt-6-sol", [2_200, 1_000, 500, 0, 300, 100], 585_000),
    // 270,501 · 400 + 1,000 · 40 + 500 · 500 + 300 · 1500
    ("gpt-6-sol", [272_001, 1_000, 500, 0, 300, 100], 108_940_400),
    // 700 · 100 + 1,000 · 5 + 500 · 125 + 300 · 500
    ("gpt-6.1-terra", [2_200, 1_000, 500, 0, 300, 100], 287_500),
    // 270,501 · 200 + 1,000 · 10 + 500 · 250 + 300 · 750
    ("gpt-6.1-terra", [272_001, 1_000, 500, 0, 300, 100], 54_460_200),
    // 700 · 10 + 1,000 · 1 + 500 · 12.5 + 300 · 50
    ("gpt-6-luna", [2_200, 1_000, 500, 0, 300, 100], 29_250),
    // 270,501 · 20 + 1,000 · 2 + 500 · 25 + 300 · 75
    ("gpt-6-luna", [272_001, 1_000, 500, 0, 300, 100], 5_447_020),
    // 700 · 400 + 1,000 · 40 + 500 · 500 + 300 · 2000
    ("gpt-5.6-sol", [2_200, 1_000, 500, 0, 300, 100], 1_170_000),
    // 270,501 · 800 + 1,000 · 80 + 500 · 1000 + 300 · 3000
    ("gpt-5.6-sol", [272_001, 1_000, 500, 0, 300, 100], 217_880_800),
    // 700 · 500 + 1,000 · 50 + 300 · 3000
    ("gpt-5.5", [1_700, 1_000, 0, 0, 300, 100], 1_300_000),
    // 271,001 · 1000 + 1,000 · 100 + 300 · 4500
    ("gpt-5.5", [272_001, 1_000, 0, 0, 300, 100], 272_451_000),
    // 700 · 250 + 1,000 · 25 + 300 · 1500
    ("gpt-5.4", [1_700, 1_000, 0, 0, 300, 100], 650_000),
    // 271,001 · 500 + 1,000 · 50 + 300 · 2250
    ("gpt-5.4", [272_001, 1_000, 0, 0, 300, 100], 136_225_500),
    // 700 · 75 + 1,000 · 7.5 + 300 · 450
    ("gpt-5.4-mini", [1_700, 1_000, 0, 0, 300, 100], 195_000),
    // 700 · 20 + 1,000 · 2 + 300 · 125
    ("gpt-5.4-nano", [1_700, 1_000, 0, 0, 300, 100], 53_500),
    // 700 · 175 + 1,000 · 17.5 + 300 · 1400
    ("gpt-5.2", [1_700, 1_000, 0, 0, 300, 100], 560_000),
    // 700 · 125 + 1,000 · 12.5 + 300 · 1000
    ("gpt-5.1", [1_700, 1_000, 0, 0, 300, 100], 400_000),
    // 700 · 125 + 1,000 · 12.5 + 300 · 1000
    ("gpt-5", [1_700, 1_000, 0, 0, 300, 100], 400_000),
    // 700 · 25 + 1,000 · 2.5 + 300 · 200
    ("gpt-5-mini", [1_700, 1_000, 0, 0, 300, 100], 80_000),
    // 700 · 200 + 1,000 · 50 + 300 · 800
    ("gpt-4.1", [1_700, 1_000, 0, 0, 300, 100], 430_000),
    // 700 · 40 + 1,000 · 10 + 300 · 160
    ("gpt-4.1-mini", [1_700, 1_000, 0, 0, 300, 100], 86_000),
    // 700 · 250 + 1,000 · 125 + 300 · 1000
    ("gpt-4o", [1_700, 1_000, 0, 0, 300, 100], 600_000),
    // 700 · 15 + 1,000 · 7.5 + 300 · 60
    ("gpt-4o-mini", [1_700, 1_000, 0, 0, 300, 100], 36_000),
    // 700 · 1000 + 1,000 · 25 + 300 · 1250 + 200 · 2000 + 300 · 5000
    ("claude-fable-5-1", [2_200, 1_000, 500, 200, 300, 100], 3_000_000),
    // 700 · 400 + 1,000 · 20 + 300 · 500 + 200 · 800 + 300 · 2000
    ("claude-opus-5-5", [2_200, 1_000, 500, 200, 300, 100], 1_210_000),
    // 700 · 500 + 1,000 · 50 + 300 · 625 + 200 · 1000 + 300 · 2500
    ("claude-opus-5", [2_200, 1_000, 500, 200, 300, 100], 1_537_500),
    // 700 · 200 + 1,000 · 10 + 300 · 250 + 200 · 400 + 300 · 1000
    ("claude-sonnet-5-5", [2_200, 1_000, 500, 200, 300, 100], 605_000),
    // 700 · 200 + 1,000 · 20 + 300 · 250 + 200 · 400 + 300 · 1000
    ("claude-sonnet-5", [2_200, 1_000, 500, 200, 300, 100], 615_000),
    // 700 · 300 + 1,000 · 30 + 300 · 375 + 200 · 600 + 300 · 1500
    ("claude-sonnet-4-6", [2_200, 1_000, 500, 200, 300, 100], 922_500),
    // 700 · 100 + 1,000 · 10 + 300 · 125 + 200 · 200 + 300 · 500
    ("claude-haiku-4-5", [2_200, 1_000, 500, 200, 300, 100], 307_500),
    // 700 · 200 + 1,000 · 20 + 300 · 1200
    ("gemini-3.1-pro-preview", [1_700, 1_000, 0, 0, 300, 100], 520_000),
    // 199,001 · 400 + 1,000 · 40 + 300 · 1800
    ("gemini-3.1-pro-preview", [200_001, 1_000, 0, 0, 300, 100], 80_180_400),
    // 700 · 75 + 1,000 · 7.5 + 300 · 375
    ("gemini-3.8-flash", [1_700, 1_000, 0, 0, 300, 100], 172_500),
    // 700 · 150 + 1,000 · 15 + 300 · 900
    ("gemini-3.5-flash", [1_700, 1_000, 0, 0, 300, 100], 390_000),
    // 700 · 30 + 1,000 · 3 + 300 · 250
    ("gemini-3.5-flash-lite", [1_700, 1_000, 0, 0, 300, 100], 99_000),
    // 700 · 30 + 1,000 · 3 + 300 · 250
    ("gemini-2.5-flash", [1_700, 1_000, 0, 0, 300, 100], 99_000),
    // 700 · 125 + 1,000 · 12.5 + 300 · 1000
    ("gemini-2.5-pro", [1_700, 1_000, 0, 0, 300, 100], 400_000),
    // 199,001 · 250 + 1,000 · 25 + 300 · 1500
    ("gemini-2.5-pro", [200_001, 1_000, 0, 0, 300, 100], 50_225_250),
    // 700 · 132 + 1,000 · 4.4 + 300 · 396
    ("deepseek-v4-pro", [1_700, 1_000, 0, 0, 300, 100], 215_600),
    // 700 · 30 + 1,000 · 0.6 + 300 · 120
    ("deepseek-v4-flash", [1_700, 1_000, 0, 0, 300, 100], 57_600),
    // 700 · 50 + 1,000 · 5 + 300 · 150
    ("mistral-large-2512", [1_700, 1_000, 0, 0, 300, 100], 85_000),
    // 700 · 150 + 1,000 · 15 + 300 · 750
    ("mistral-medium-2604", [1_700, 1_000, 0, 0, 300, 100], 345_000),
    // 700 · 15 + 1,000 · 1.5 + 300 · 60
    ("mistral-small-2603", [1_700, 1_000, 0, 0, 300, 100], 30_000),
    // 700 · 200 + 1,000 · 50 + 300 · 600
    ("grok-4.7", [1_700, 1_000, 0, 0, 300, 100], 370_000),
    // 199,000 · 400 + 1,000 · 100 + 300 · 1200
    ("grok-4.7", [200_000, 1_000, 0, 0, 300, 100], 80_060_000),
    // 700 · 250 + 300 · 1000
    ("command-a-03-2025", [700, 0, 0, 0, 300, 100], 475_000),
    // 100 · 10 + 100 · 1 + 50 · 40
    ("simulated-small", [200, 100, 0, 0, 50, 0], 3_100),
    // 100 · 100 + 100 · 10 + 100 · 125 + 40 · 400 + 10 · 500
    ("simulated-large", [300, 100, 100, 0, 50, 10], 44_500),
    // 120 · 1 + 20 · 2
    ("smollm2-135m", [120, 0, 0, 0, 20, 0], 160),
];

#[test]
fn one_call_of_each_model_costs_what_a_hand_worked_out() {
    let book = default_book();
    for (model, counts, ucr) in CALLS {
        let [
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
            reasoning_tokens,
        ] = counts;
        let usage = Usage {
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
            reasoning_tokens,
        };
        assert_eq!(book.call_cost(model, &usage), Ok(Ucr::new(ucr)), "{model} {counts:?}");
    }
    let covered = CALLS.iter().map(|(model, ..)| *model).collect::<BTreeSet<_>>();
    assert_eq!(book.models().map(ModelPrice::name).collect::<BTreeSet<_>>(), covered);
}

#[test]
fn every_price_says_where_it_comes_from() {
    let book = default_book();
    assert_eq!(book.name(), "default-2026-11-23");
    for model in book.models() {
        let made_up = ["simulated", "local"].contains(&model.provider());
        let start = if made_up { "made up: " } else { "https://" };
        assert!(model.source().starts_with(start), "{}: {}", model.name(), model.source());
        assert_eq!(model.checked().is_none(), made_up, "{}", model.name());
    }
    for unit in book.units() {
        let start = if unit.checked().is_some() { "https://" } else { "made up: " };
        assert!(unit.source().starts_with(start), "{}: {}", unit.name(), unit.source());
    }
}

#[test]
fn units_and_fees_of_the_default_book() {
    let book = default_book();
    let cost = |name: &str, quantity| book.units_cost(&BTreeMap::from([(name.to_owned(), quantity)]));
    assert_eq!(cost("step", 1), Ok(Ucr::new(1_000)));
    assert_eq!(cost("tool_call", 3), Ok(Ucr::new(30_000)));
    assert_eq!(cost("retrieval_query", 1), Ok(Ucr::new(10_000)));
    assert_eq!(cost("rerank", 2), Ok(Ucr::new(200_000)));
    assert_eq!(cost("second", 60), Ok(Ucr::new(300_000)));
    // 8,191 tokens at $0.02 per million are 16,382 µcr
    assert_eq!(cost("embedding.text-embedding-3-small", 8_191), Ok(Ucr::new(16_382)));
    assert_eq!(cost("embedding", 1), Ok(Ucr::new(2)));
    assert_eq!(book.flat_fee("anything"), Ucr::from_credits(10));
}

#[test]
fn dated_names_cost_the_same_as_the_model() {
    let book = default_book();
    for (alias, name) in [("gpt-4o-2024-11-20", "gpt-4o"), ("claude-haiku-4-5-20251001", "claude-haiku-4-5")] {
        assert_eq!(book.model(alias).map(ModelPrice::name), Some(name));
        assert_eq!(book.call_ceiling(alias, 1_000, 100), book.call_ceiling(name, 1_000, 100));
    }
}

#[test]
fn every_variant_is_cheaper_or_dearer_in_one_direction() {
    let book = default_book();
    let usage = Usage { input_tokens: 1_000, output_tokens: 1_000, ..Usage::default() };
    let mut seen = BTreeMap::<&str, usize>::new();
    for model in book.models() {
        let standard = book.call_cost(model.name(), &usage).expect("a price");
        for variant in model.variants() {
            let cost = book.quote(model.name(), Some(variant.name()), &usage).expect("a price").cost;
            let is_sane = if variant.name() == "priority" { cost > standard } else { cost < standard };
            assert!(is_sane, "{} {}: {cost} against {standard}", model.name(), variant.name());
            *seen.entry(variant.name()).or_default() += 1;
        }
    }
    assert!(seen["batch"] >= 20 && seen["flex"] >= 10 && seen["priority"] >= 10, "{seen:?}");
}

#[test]
fn the_default_book_has_about_thirty_models_and_no_fallback() {
    let book = default_book();
    let real = book.models().filter(|model| model.checked().is_some()).count();
    assert!((30..=45).contains(&real), "{real}");
    assert!(book.fallback().is_none());
    assert_eq!(book.not_yet_valid("2026-11-23").count(), 0);
}
