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

/// Input, cache read, cache write, output, reasoning (totals inclusive) and the credits in millionths.
/// At 0.01 USD per credit, one USD per million tokens is 100 µcr per token.
const CALLS: [(&str, [u64; 5], i64); 17] = [
    // 1,000 · 200 + 500 · 800
    ("gpt-4.1", [1_000, 0, 0, 500, 0], 600_000),
    // 1,200 · 40 + 800 · 10 + 300 · 160
    ("gpt-4.1-mini", [2_000, 800, 0, 300, 0], 104_000),
    // 10 · 10 + 1 · 2.5 + 3 · 40 = 222.5
    ("gpt-4.1-nano", [11, 1, 0, 3, 0], 223),
    // 1,000 · 250 + 1,000 · 125 + 100 · 1,000
    ("gpt-4o", [2_000, 1_000, 0, 100, 0], 475_000),
    // 7 · 15 + 1 · 7.5 + 1 · 60 = 172.5
    ("gpt-4o-mini", [8, 1, 0, 1, 0], 173),
    // 100 · 125 + 900 · 12.5 + 400 · 1,000
    ("gpt-5", [1_000, 900, 0, 400, 320], 423_750),
    // 100 · 25 + 900 · 2.5 + 400 · 200
    ("gpt-5-mini", [1_000, 900, 0, 400, 320], 84_750),
    // 1,000 · 110 + 1,000 · 27.5 + 1,000 · 440
    ("o4-mini", [2_000, 1_000, 0, 1_000, 900], 577_500),
    // 3 · 300 + 2,000 · 30 + 12,304 · 375 + 550 · 1,500
    ("claude-sonnet-4-5", [14_307, 2_000, 12_304, 550, 0], 5_499_900),
    // 3 · 100 + 2,000 · 10 + 12,304 · 125 + 550 · 500
    ("claude-haiku-4-5", [14_307, 2_000, 12_304, 550, 0], 1_833_300),
    // 9 · 30 + 22 · 250
    ("gemini-2.5-flash", [9, 0, 0, 22, 21], 5_770),
    // below the threshold: 150,000 · 125 + 50,000 · 12.5 + 1,000 · 1,000
    ("gemini-2.5-pro", [200_000, 50_000, 0, 1_000, 800], 20_375_000),
    // above it: 150,001 · 250 + 50,000 · 25 + 1,000 · 1,500
    ("gemini-2.5-pro", [200_001, 50_000, 0, 1_000, 800], 40_250_250),
    // 1,000 · 28 + 1,000 · 2.8 + 1,000 · 42
    ("deepseek-chat", [2_000, 1_000, 0, 1_000, 0], 72_800),
    // 100 · 10 + 100 · 1 + 50 · 40
    ("simulated-small", [200, 100, 0, 50, 0], 3_100),
    // 100 · 100 + 100 · 10 + 100 · 125 + 40 · 400 + 10 · 500
    ("simulated-large", [300, 100, 100, 50, 10], 44_500),
    // 120 · 1 + 20 · 2
    ("smollm2-135m", [120, 0, 0, 20, 0], 160),
];

#[test]
fn one_call_of_each_model_costs_what_a_hand_worked_out() {
    let book = default_book();
    for (model, counts, ucr) in CALLS {
        let [input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = counts;
        let usage = Usage {
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            output_tokens,
            reasoning_tokens,
            ..Usage::default()
        };
        assert_eq!(book.call_cost(model, &usage), Ok(Ucr::new(ucr)), "{model} {counts:?}");
    }
    let covered = CALLS.iter().map(|(model, ..)| *model).collect::<BTreeSet<_>>();
    assert_eq!(book.models().map(ModelPrice::name).collect::<BTreeSet<_>>(), covered);
}

#[test]
fn every_price_says_where_it_comes_from() {
    let book = default_book();
    assert_eq!(book.name(), "default-2026-11");
    for model in book.models() {
        let made_up = ["simulated", "local"].contains(&model.provider());
        let start = if made_up { "made up: " } else { "https://" };
        assert!(model.source().starts_with(start), "{}: {}", model.name(), model.source());
        assert_eq!(model.checked().is_none(), made_up, "{}", model.name());
    }
    for unit in book.units() {
        assert!(unit.source().starts_with("made up: "), "{}: {}", unit.name(), unit.source());
    }
}

#[test]
fn units_and_fees_of_the_default_book() {
    let book = default_book();
    let cost = |name: &str, quantity| book.units_cost(&BTreeMap::from([(name.to_owned(), quantity)]));
    assert_eq!(cost("step", 1), Ok(Ucr::new(1_000)));
    assert_eq!(cost("tool_call", 3), Ok(Ucr::new(30_000)));
    assert_eq!(book.flat_fee("anything"), Ucr::from_credits(10));
}

#[test]
fn dated_names_cost_the_same_as_the_model() {
    let book = default_book();
    for (alias, name) in [("gpt-4o-2024-11-20", "gpt-4o"), ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5")] {
        assert_eq!(book.model(alias).map(ModelPrice::name), Some(name));
        assert_eq!(book.call_ceiling(alias, 1_000, 100), book.call_ceiling(name, 1_000, 100));
    }
}
