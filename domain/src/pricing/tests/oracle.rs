//! Random books and calls against an oracle: the formula once more, in rationals of any size.
//!
//! The oracle reads prices from the decimal text by itself and shares no code with the pricing it checks.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::super::{PriceBook, PricingError};
use crate::credits::Ucr;
use crate::usage::Usage;

/// The names under which a book lists its rates, in the order of [`Case::rates`].
const KEYS: [&str; 7] =
    ["input", "input.cache_read", "input.cache_write", "output", "output.reasoning", "request", "input.cache_write_1h"];

/// One random book with one model `m` and one unit `u`.
#[derive(Debug, Clone)]
struct Case {
    /// The base rates and those above each threshold, all dimensions in pico-USD, ascending.
    levels: Vec<(u64, [u64; 7])>,
    /// Which of the base rates the file states.
    stated: [bool; 7],
    /// The power of ten of `per`.
    per_power: u32,
    markup_ppm: u32,
    tier_markup_ppm: Option<u32>,
    usd_per_credit_pico: u64,
}

impl Case {
    /// The book as a file would say it.
    fn book(&self) -> PriceBook {
        let per = 10_u64.pow(self.per_power).to_string();
        let rates = |rates: &[u64; 7], stated: [bool; 7]| {
            let kept = KEYS.iter().zip(rates).zip(stated).filter(|(_, stated)| *stated);
            let mut table = kept.map(|((key, pico), _)| ((*key).to_owned(), json!(usd(*pico)))).collect::<Map<_, _>>();
            table.insert("per".to_owned(), json!(per));
            Value::Object(table)
        };
        let tier = |(above, prices): &(u64, [u64; 7])| json!({ "above_input_tokens": above, "rates": rates(prices, [true; 7]) });
        let mut book = json!({
            "name": "random",
            "sell": { "usd_per_credit": usd(self.usd_per_credit_pico), "markup_ppm": self.markup_ppm },
            "model": [{
                "provider": "p", "name": "m", "tokenizer": "o200k_base", "context_tokens": 9, "max_output_tokens": 9,
                "source": "random", "rates": rates(&self.levels[0].1, self.stated),
                "tier": self.levels[1..].iter().map(tier).collect::<Vec<_>>(),
            }],
            "unit": [{ "name": "u", "price": usd(self.levels[0].1[0]), "per": per, "source": "random" }],
        });
        if let Some(markup) = self.tier_markup_ppm {
            book["sell"]["tier_markup_ppm"] = json!({ "t": markup });
            book["model"][0]["sell_tier"] = json!("t");
        }
        PriceBook::from_value(book).expect("a good book")
    }

    /// `ceil(Σ(qty·price/per) · (1e6+markup)/1e6 / usd_per_credit · 1e6)` for the model's call.
    fn expected_call(&self, usage: &Usage) -> BigInt {
        let level = self.levels.iter().rposition(|(above, _)| *above == 0 || usage.input_tokens > *above);
        let level = level.expect("the base always holds");
        let price = |dimension: usize, parent: usize| {
            let given = level > 0 || self.stated[dimension];
            let parents = if level > 0 || self.stated[parent] { self.levels[level].1[parent] } else { 0 };
            ratio(if given { self.levels[level].1[dimension] } else { parents })
        };
        let hour = if level > 0 || self.stated[6] { ratio(self.levels[level].1[6]) } else { price(2, 0) };
        let short_writes = usage.cache_write_tokens - usage.cache_write_1h_tokens;
        let cached = ratio(usage.cache_read_tokens) * price(1, 0)
            + ratio(short_writes) * price(2, 0)
            + ratio(usage.cache_write_1h_tokens) * hour;
        let plain_input = ratio(usage.input_tokens) - ratio(usage.cache_read_tokens) - ratio(usage.cache_write_tokens);
        let plain_output = ratio(usage.output_tokens) - ratio(usage.reasoning_tokens);
        let output = plain_output * price(3, 3) + ratio(usage.reasoning_tokens) * price(4, 3);
        let tokens = (plain_input * price(0, 0) + cached + output) / ratio(10_u64.pow(self.per_power));
        self.credits(tokens + price(5, 5), self.tier_markup_ppm.unwrap_or(self.markup_ppm))
    }

    fn credits(&self, pico_usd: BigRational, markup_ppm: u32) -> BigInt {
        let markup = ratio(1_000_000 + u64::from(markup_ppm)) / ratio(1_000_000);
        let credits = pico_usd * markup / ratio(self.usd_per_credit_pico);
        (credits * ratio(1_000_000)).ceil().to_integer()
    }
}

fn ratio(number: u64) -> BigRational {
    BigRational::from_integer(BigInt::from(number))
}

/// Decimal text with all twelve places, unlike the canonical one.
fn usd(pico: u64) -> String {
    format!("{}.{:012}", pico / 1_000_000_000_000, pico % 1_000_000_000_000)
}

/// What pricing must answer where the oracle says `ucr`.
fn answer(ucr: &BigInt) -> Result<Ucr, PricingError> {
    i64::try_from(ucr).map(Ucr::new).map_err(|_| PricingError::Overflow)
}

prop_compose! {
    fn cases()(
        base in prop::array::uniform7(prop_oneof![1..1_000_u64, 1..100_000_000_000_000_u64]),
        optional in prop::array::uniform7(any::<bool>()),
        steps in prop::collection::vec((1..1_000_000_u64, prop::array::uniform7(0..10_000_000_000_000_u64)), 0..3),
        per_power in 0..10_u32,
        markup_ppm in prop_oneof![Just(0), 0..2_000_000_u32, any::<u32>()],
        tier_markup_ppm in prop::option::of(0..2_000_000_u32),
        usd_per_credit_pico in prop_oneof![Just(10_000_000_000), 1..10_000_000_000_000_u64],
    ) -> Case {
        let stated = [true, optional[1], optional[2], true, optional[4], optional[5], optional[6]];
        // each level is at least as dear as what the one below it comes to
        let effective =
            |dimension: usize, parent: usize| if stated[dimension] { base[dimension] } else { base[parent] };
        let request = if stated[5] { base[5] } else { 1 };
        let write = effective(2, 0);
        let hour = if stated[6] { base[6] } else { write };
        let mut above = (0, [base[0], effective(1, 0), write, base[3], effective(4, 3), request, hour]);
        let mut levels = vec![(0, base)];
        for (gap, more) in steps {
            above.0 += gap;
            above.1.iter_mut().zip(more).for_each(|(price, more)| *price += more);
            levels.push(above);
        }
        Case { levels, stated, per_power, markup_ppm, tier_markup_ppm, usd_per_credit_pico }
    }
}

prop_compose! {
    /// Six leaves, put together to inclusive totals.
    fn usages()(leaves in prop::array::uniform6(prop_oneof![0..3_u64, 0..800_000_u64])) -> Usage {
        together(leaves)
    }
}

fn together([plain, read, write, visible, reasoning, hour]: [u64; 6]) -> Usage {
    Usage {
        input_tokens: plain + read + write + hour,
        cache_read_tokens: read,
        cache_write_tokens: write + hour,
        cache_write_1h_tokens: hour,
        output_tokens: visible + reasoning,
        reasoning_tokens: reasoning,
    }
}

fn apart(usage: &Usage) -> [u64; 6] {
    let plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens;
    let visible = usage.output_tokens - usage.reasoning_tokens;
    let short_writes = usage.cache_write_tokens - usage.cache_write_1h_tokens;
    let hour = usage.cache_write_1h_tokens;
    [plain, usage.cache_read_tokens, short_writes, visible, usage.reasoning_tokens, hour]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_call_costs_what_the_oracle_says(case in cases(), usage in usages()) {
        let cost = case.book().call_cost("m", &usage);
        prop_assert_eq!(&cost, &answer(&case.expected_call(&usage)));
        if let Ok(quote) = case.book().quote("m", None, &usage) {
            prop_assert_eq!(Ok(quote.cost), cost.clone());
        }
        if usage != Usage::default() {
            prop_assert!(cost.is_err() || cost.is_ok_and(Ucr::is_positive), "used tokens are never free");
        }
    }

    #[test]
    fn more_of_any_leaf_never_costs_less(
        case in cases(),
        usage in usages(),
        leaf in 0..6_usize,
        more in 0..1_000_000_u64,
    ) {
        let mut leaves = apart(&usage);
        leaves[leaf] += more;
        let (book, larger) = (case.book(), together(leaves));
        if let (Ok(less), Ok(more)) = (book.call_cost("m", &usage), book.call_cost("m", &larger)) {
            prop_assert!(less <= more, "{less} > {more}");
        }
    }

    #[test]
    fn a_ceiling_covers_every_call_within_the_estimate(
        case in cases(),
        usage in usages(),
        spare_input in prop_oneof![Just(0), 0..1_000_000_u64],
        spare_output in prop_oneof![Just(0), 0..1_000_000_u64],
    ) {
        let book = case.book();
        let ceiling = book.call_ceiling("m", usage.input_tokens + spare_input, usage.output_tokens + spare_output);
        if let Ok(ceiling) = ceiling {
            let cost = book.call_cost("m", &usage);
            prop_assert!(cost.as_ref().is_ok_and(|cost| *cost <= ceiling), "{cost:?} > {ceiling}");
        }
    }

    #[test]
    fn units_cost_what_the_oracle_says(case in cases(), quantity in prop_oneof![0..10_u64, 0..10_000_000_000_u64]) {
        let cost = case.book().units_cost(&BTreeMap::from([("u".to_owned(), quantity)]));
        let pico_usd = ratio(quantity) * ratio(case.levels[0].1[0]) / ratio(10_u64.pow(case.per_power));
        prop_assert_eq!(cost, answer(&case.credits(pico_usd, case.markup_ppm)));
    }

    #[test]
    fn any_book_survives_its_canonical_json(case in cases()) {
        let book = case.book();
        prop_assert_eq!(PriceBook::from_value(book.to_value()), Ok(book));
    }
}
