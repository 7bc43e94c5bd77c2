//! Known costs, worked out by hand, and the refusals of pricing in the order of their checks.

use std::collections::BTreeMap;

use super::super::PricingError;
use super::{book, model_with};
use crate::credits::Ucr;
use crate::usage::{Usage, UsageError};

fn units(lines: &[(&str, u64)]) -> BTreeMap<String, u64> {
    lines.iter().map(|(name, quantity)| ((*name).to_owned(), *quantity)).collect()
}

#[test]
fn golden_cache_writes_are_priced_once_and_inside_the_input() {
    // claude-3-7-sonnet: 3 · $3/M + 12,304 · $3.75/M + 550 · $15/M = $0.054399 (litellm #9812)
    let book =
        model_with("input = \"3\"\n\"input.cache_read\" = \"0.3\"\n\"input.cache_write\" = \"3.75\"\noutput = \"15\"");
    let usage = Usage { input_tokens: 12_307, cache_write_tokens: 12_304, output_tokens: 550, ..Usage::default() };
    assert_eq!(book.call_cost("m", &usage), Ok(Ucr::new(5_439_900)));
}

#[test]
fn golden_reasoning_is_part_of_the_output_and_not_counted_twice() {
    // 9 · $0.30/M + 22 · $2.50/M = $0.0000577 (PostHog #71065)
    let book = model_with("input = \"0.30\"\noutput = \"2.50\"");
    let usage = Usage { input_tokens: 9, output_tokens: 22, reasoning_tokens: 21, ..Usage::default() };
    assert_eq!(book.call_cost("m", &usage), Ok(Ucr::new(5_770)));
}

#[test]
fn parts_without_a_price_have_their_parents() {
    let book = model_with("input = \"1\"\noutput = \"2\"");
    let plain = Usage { input_tokens: 300, output_tokens: 50, ..Usage::default() };
    let split = Usage { cache_read_tokens: 100, cache_write_tokens: 200, reasoning_tokens: 50, ..plain };
    assert_eq!(book.call_cost("m", &plain), Ok(Ucr::new(40_000)));
    assert_eq!(book.call_cost("m", &split), Ok(Ucr::new(40_000)));
}

#[test]
fn one_token_is_never_free_and_the_ceil_comes_once() {
    // one token is 1e-9 credits; three leaves of one token are still one ceil
    let book = model_with("input = \"0.00001\"\noutput = \"0.00001\"");
    for (input_tokens, cache_read_tokens, output_tokens) in [(1, 0, 0), (1, 1, 0), (0, 0, 1), (2, 1, 1), (500, 7, 500)]
    {
        let usage = Usage { input_tokens, cache_read_tokens, output_tokens, ..Usage::default() };
        assert_eq!(book.call_cost("m", &usage), Ok(Ucr::new(1)), "{usage:?}");
    }
    let just_above = Usage { input_tokens: 1_001, ..Usage::default() };
    assert_eq!(book.call_cost("m", &just_above), Ok(Ucr::new(2)));
    assert_eq!(book.call_cost("m", &Usage::default()), Ok(Ucr::ZERO));
}

#[test]
fn crossing_the_threshold_prices_the_whole_call_again() {
    let usage = |input_tokens| Usage { input_tokens, output_tokens: 1_000, ..Usage::default() };
    // 200,000 · $3/M + 1,000 · $15/M = $0.615
    assert_eq!(book().call_cost("sonnet", &usage(200_000)), Ok(Ucr::new(61_500_000)));
    // 200,001 · $6/M + 1,000 · $22.5/M = $1.222506
    assert_eq!(book().call_cost("sonnet", &usage(200_001)), Ok(Ucr::new(122_250_600)));
}

#[test]
fn cached_tokens_count_towards_the_threshold() {
    let usage = Usage { input_tokens: 200_001, cache_read_tokens: 200_001, ..Usage::default() };
    // 200,001 · $0.60/M = $0.1200006
    assert_eq!(book().call_cost("sonnet", &usage), Ok(Ucr::new(12_000_060)));
}

#[test]
fn a_markup_applies_to_the_sum_and_a_request_has_its_price_once() {
    // (100 · $0.30/M + 10 · $2.50/M + 10 · $3.50/M + $0.005) · 1.25 = $0.0063625
    let usage = Usage { input_tokens: 100, output_tokens: 20, reasoning_tokens: 10, ..Usage::default() };
    assert_eq!(book().call_cost("flash", &usage), Ok(Ucr::new(636_250)));
    assert_eq!(book().call_cost("flash", &Usage::default()), Ok(Ucr::new(625_000)));
}

#[test]
fn a_ceiling_takes_the_dearest_leaf_of_each_side() {
    // input at the cache write price: 1,000 · $3.75/M + 100 · $15/M = $0.00525
    assert_eq!(book().call_ceiling("sonnet", 1_000, 100), Ok(Ucr::new(525_000)));
    // above the threshold: 300,000 · $7.50/M + 100 · $22.50/M = $2.25225
    assert_eq!(book().call_ceiling("sonnet-latest", 300_000, 100), Ok(Ucr::new(225_225_000)));
    // output at the reasoning price: (1,000 · $0.30/M + 100 · $3.50/M + $0.005) · 1.25 = $0.0070625
    assert_eq!(book().call_ceiling("flash", 1_000, 100), Ok(Ucr::new(706_250)));
}

#[test]
fn each_unit_line_has_its_own_ceil() {
    // 1 step = $0.00001 = 1,000 µcr; 3 pages = $0.00375 = 375,000 µcr
    assert_eq!(book().units_cost(&units(&[("step", 1), ("page", 3)])), Ok(Ucr::new(376_000)));
    assert_eq!(book().units_cost(&units(&[("step", 0)])), Ok(Ucr::ZERO));
    assert_eq!(book().units_cost(&BTreeMap::new()), Ok(Ucr::ZERO));
    let tiny = "name = \"u\"\n[[unit]]\nname = \"a\"\nprice = \"0.000001\"\nper = \"1M\"\nsource = \"x\"\n\
                [[unit]]\nname = \"b\"\nprice = \"0.000001\"\nper = \"1M\"\nsource = \"x\"";
    let tiny = super::PriceBook::from_value(super::json(tiny)).unwrap();
    assert_eq!(tiny.units_cost(&units(&[("a", 1), ("b", 1)])), Ok(Ucr::new(2)));
}

#[test]
fn a_workflow_pays_its_own_flat_fee_or_the_general_one() {
    assert_eq!(book().flat_fee("software-company"), Ucr::new(25_500_000));
    assert_eq!(book().flat_fee("free~of/charge"), Ucr::ZERO);
    assert_eq!(book().flat_fee("other"), Ucr::from_credits(10));
    assert_eq!(model_with("input = \"1\"\noutput = \"1\"").flat_fee("any"), Ucr::from_credits(10));
}

#[test]
fn what_cannot_be_priced_is_refused_by_name_and_in_order() {
    let impossible = Usage { output_tokens: 1, reasoning_tokens: 2, ..Usage::default() };
    let unknown = PricingError::ModelNotPriced("Sonnet".to_owned());
    assert_eq!(unknown.code(), "model_not_priced");
    assert_eq!(book().call_cost("Sonnet", &impossible), Err(unknown.clone()));
    assert_eq!(book().call_ceiling("Sonnet", 1, 1), Err(unknown));
    let refused = UsageError::ReasoningExceedsOutput { reasoning_tokens: 2, output_tokens: 1 };
    assert_eq!(book().call_cost("sonnet", &impossible), Err(PricingError::Usage(refused)));
    let refused = book().units_cost(&units(&[("Step", 0), ("step", 1)]));
    assert_eq!(refused, Err(PricingError::UnitNotPriced("Step".to_owned())));
}

#[test]
fn a_cost_too_large_is_an_error_and_never_wraps() {
    let dear = model_with("per = \"1\"\ninput = \"1000000\"\noutput = \"1000000\"");
    let most = Usage { input_tokens: u64::MAX, output_tokens: u64::MAX, ..Usage::default() };
    // beyond i128 on the way, and beyond i64 at the end
    assert_eq!(dear.call_cost("m", &most), Err(PricingError::Overflow));
    assert_eq!(dear.call_ceiling("m", u64::MAX, u64::MAX), Err(PricingError::Overflow));
    let fits = |input_tokens| dear.call_cost("m", &Usage { input_tokens, ..Usage::default() });
    // one token is 1e14 µcr
    assert_eq!(fits(92_233), Ok(Ucr::new(9_223_300_000_000_000_000)));
    assert_eq!(fits(92_234), Err(PricingError::Overflow));
    assert_eq!(book().units_cost(&units(&[("step", u64::MAX)])), Err(PricingError::Overflow));
    // each line fits, their sum does not
    let half = 8_000_000_000_000_000;
    assert!(book().units_cost(&units(&[("step", half)])).is_ok());
    assert!(book().units_cost(&units(&[("page", half / 125)])).is_ok());
    assert_eq!(book().units_cost(&units(&[("step", half), ("page", half / 125)])), Err(PricingError::Overflow));
}
