//! Broken books: one change to a good book, the exact pointer and the exact words of the refusal.

use serde_json::{Value, json};

use super::super::PriceBook;
use super::{BOOK, json as parse};

/// Puts `value` at `pointer` (the parent must be there), or removes what is there.
fn edit(book: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer below the root");
    let key = key.replace("~1", "/").replace("~0", "~");
    match (book.pointer_mut(parent).expect("the parent is there"), value) {
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().expect("an index")] = value,
        (Value::Object(table), Some(value)) => drop(table.insert(key, value)),
        (Value::Object(table), None) => drop(table.remove(&key)),
        (other, _) => panic!("{pointer}: cannot edit {other}"),
    }
}

fn problems(book: Value) -> Vec<(String, String)> {
    let problems = PriceBook::from_value(book).expect_err("the book is broken");
    problems.into_iter().map(|problem| (problem.pointer, problem.message)).collect()
}

/// Each row: where to change the book, to what (`None` removes), the pointer of the problem, its message.
fn check(rows: &[(&str, Option<Value>, &str, &str)]) {
    for (at, value, pointer, message) in rows {
        let mut book = parse(BOOK);
        edit(&mut book, at, value.clone());
        let expected = vec![((*pointer).to_owned(), (*message).to_owned())];
        assert_eq!(problems(book), expected, "{at} = {value:?}");
    }
}

#[test]
fn prices_that_are_not_exact_text_above_zero_are_refused() {
    let at = "/model/0/rates/input";
    check(&[
        (at, Some(json!(3)), at, "expected a price as text such as \"0.40\", found a number"),
        (at, Some(json!(0.4)), at, "expected a price as text such as \"0.40\", found a number"),
        (at, Some(json!("3e-6")), at, "`3e-6` is not a price in USD: write a plain decimal such as \"0.40\""),
        (at, Some(json!("-3")), at, "`-3` is not a price in USD: write a plain decimal such as \"0.40\""),
        (at, Some(json!("0")), at, "must be more than zero: nothing used is free"),
        (at, Some(json!("0.00")), at, "must be more than zero: nothing used is free"),
        (
            at,
            Some(json!("0.1234567890123")),
            at,
            "`0.1234567890123` is not exact at 1e-12 USD: give the price for more units (`per`)",
        ),
        (at, Some(json!("1000001")), at, "`1000001` is more than 1000000 USD"),
        (at, None, "/model/0/rates", "`input` is missing"),
        ("/model/0/tier/0/rates/output", None, "/model/0/tier/0/rates", "`output` is missing"),
        ("/unit/0/price", Some(json!("0")), "/unit/0/price", "must be more than zero: nothing used is free"),
        (
            "/sell/usd_per_credit",
            Some(json!("0")),
            "/sell/usd_per_credit",
            "must be more than zero: nothing used is free",
        ),
    ]);
}

#[test]
fn numbers_of_units_other_than_powers_of_ten_are_refused() {
    let message = "is not a number of units: write \"1\", \"1K\", \"1M\" or another power of ten up to 1000000000";
    for (given, shown) in [("0", "0"), ("2", "2"), ("1k", "1k"), ("10000000000", "10000000000"), ("01", "01"), ("", "")]
    {
        let message = format!("`{shown}` {message}");
        check(&[("/unit/1/per", Some(json!(given)), "/unit/1/per", &message)]);
    }
    let at = "/model/0/rates/per";
    check(&[(at, Some(json!(1_000_000)), at, "expected text such as \"1M\", found a number")]);
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let rates = "unknown key; known here: `per`, `input`, `input.cache_read`, `input.cache_write`, `input.cache_write_1h`, \
                 `output`, `output.reasoning`, `request`";
    let sell = "unknown key; known here: `usd_per_credit`, `markup_ppm`, `tier_markup_ppm`, `flat_fee`, `flat_fees`";
    let root = "unknown key; known here: `name`, `sell`, `model`, `unit`, `fallback`";
    let unit = "unknown key; known here: `name`, `price`, `per`, `source`, `checked`";
    let tier = "unknown key; known here: `above_input_tokens`, `rates`";
    let model = "unknown key; known here: `provider`, `name`, `aliases`, `variant`, `tokenizer`, \
                 `tokenizer_factor_ppm`, `context_tokens`, `max_output_tokens`, `sell_tier`, `source`, `checked`, \
                 `valid_from`, `note`, `rates`, `tier`";
    check(&[
        ("/models", Some(json!([])), "/models", root),
        ("/sell/markup", Some(json!("5")), "/sell/markup", sell),
        ("/model/1/price", Some(json!("5")), "/model/1/price", model),
        ("/model/1/rates/input.cached", Some(json!("5")), "/model/1/rates/input.cached", rates),
        ("/model/1/rates/a~1b~0c", Some(json!("5")), "/model/1/rates/a~1b~0c", rates),
        ("/model/0/tier/0/above", Some(json!("5")), "/model/0/tier/0/above", tier),
        ("/unit/1/note", Some(json!("5")), "/unit/1/note", unit),
    ]);
}

#[test]
fn models_that_cannot_be_used_are_refused() {
    let name = "a name has 1 to 200 characters, none of them blank";
    check(&[
        ("/model/0/name", None, "/model/0", "`name` is missing"),
        ("/model/0/source", None, "/model/0", "`source` is missing"),
        ("/model/0/source", Some(json!("")), "/model/0/source", "must not be empty"),
        (
            "/model/0/source",
            Some(json!("x".repeat(501))),
            "/model/0/source",
            "is 501 characters long; at most 500 are allowed",
        ),
        ("/model/0/rates", None, "/model/0", "`rates` is missing"),
        ("/model/0/rates", Some(json!("3")), "/model/0/rates", "expected a table, found text"),
        ("/model/0/name", Some(json!("a b")), "/model/0/name", name),
        ("/model/0/provider", Some(json!("")), "/model/0/provider", name),
        ("/model/0/provider", Some(json!(["x"])), "/model/0/provider", "expected a name, found an array"),
        ("/model/0/aliases", Some(json!("x")), "/model/0/aliases", "expected an array of names, found text"),
        ("/model/0/aliases", Some(json!(["ok", ""])), "/model/0/aliases", &format!("entry 1: {name}")),
    ]);
}

#[test]
fn facts_about_models_that_cannot_be_true_are_refused() {
    let factor = "is out of range: a factor is 100000 to 10000000 ppm (0.1 to 10)";
    check(&[
        (
            "/model/0/tokenizer",
            Some(json!("o200k")),
            "/model/0/tokenizer",
            "`o200k` is not a tokenizer; known are o200k_base, o200k_harmony, cl100k_base",
        ),
        (
            "/model/0/tokenizer_factor_ppm",
            Some(json!(99_999)),
            "/model/0/tokenizer_factor_ppm",
            &format!("`99999` {factor}"),
        ),
        (
            "/model/0/tokenizer_factor_ppm",
            Some(json!("10000001")),
            "/model/0/tokenizer_factor_ppm",
            &format!("`10000001` {factor}"),
        ),
        ("/model/0/context_tokens", Some(json!(0)), "/model/0/context_tokens", "must be at least 1"),
        (
            "/model/0/context_tokens",
            Some(json!(1.5)),
            "/model/0/context_tokens",
            "`1.5` is not a whole number of 0 or more",
        ),
        (
            "/model/0/context_tokens",
            Some(json!("-1")),
            "/model/0/context_tokens",
            "`-1` is not a whole number of 0 or more",
        ),
        (
            "/model/0/context_tokens",
            Some(json!(true)),
            "/model/0/context_tokens",
            "expected a whole number, found a boolean",
        ),
        (
            "/model/1/max_output_tokens",
            Some(json!(1_001)),
            "/model/1/max_output_tokens",
            "must not be larger than `context_tokens`, 1000",
        ),
        (
            "/model/0/checked",
            Some(json!("2026-13-01")),
            "/model/0/checked",
            "`2026-13-01` is not a date such as \"2026-11-23\"",
        ),
    ]);
}

#[test]
fn names_taken_twice_are_refused() {
    check(&[
        ("/model/1/name", Some(json!("sonnet")), "/model/1/name", "`sonnet` is already taken by /model/0/name"),
        (
            "/model/1/name",
            Some(json!("sonnet-latest")),
            "/model/1/name",
            "`sonnet-latest` is already taken by /model/0/aliases/1",
        ),
        (
            "/model/1/aliases",
            Some(json!(["fast", "flash"])),
            "/model/1/aliases/1",
            "`flash` is already taken by /model/1/name",
        ),
        ("/unit/1/name", Some(json!("step")), "/unit/1/name", "`step` is already taken by /unit/0/name"),
    ]);
}

#[test]
fn tiers_that_come_out_of_order_or_cheaper_are_refused() {
    let cheaper = "is cheaper than below the threshold: a longer input must not cost less";
    let rates = "/model/0/tier/0/rates";
    let above = "/model/0/tier/0/above_input_tokens";
    check(&[
        (above, Some(json!(0)), above, "must be at least 1"),
        (above, None, "/model/0/tier/0", "`above_input_tokens` is missing"),
        ("/model/0/tier", Some(json!({})), "/model/0/tier", "expected an array of tables, found a table"),
        ("/model/0/tier/0", Some(json!(1)), "/model/0/tier/0", "expected a table, found a number"),
        // $3 per million is $0.003 per thousand
        ("/model/0/tier/0/rates/input", Some(json!("0.002999")), rates, &format!("`input` {cheaper}")),
        ("/model/0/rates/request", Some(json!("0.01")), rates, &format!("`request` {cheaper}")),
        // without a price of its own, a cached token below the threshold costs as much as any other
        (
            "/model/0/tier/0/rates/output.reasoning",
            Some(json!("0.001")),
            rates,
            &format!("`output.reasoning` {cheaper}"),
        ),
    ]);
    let mut book = parse(BOOK);
    let tier = book.pointer("/model/0/tier/0").cloned().expect("a tier");
    edit(&mut book, "/model/0/tier", Some(json!([tier, tier])));
    let message = "must be larger than 200000, the threshold before it".to_owned();
    assert_eq!(problems(book), [("/model/0/tier/1/above_input_tokens".to_owned(), message)]);
}

#[test]
fn credits_that_cannot_be_sold_are_refused() {
    let fee = "/sell/flat_fee";
    let ppm = "/sell/markup_ppm";
    check(&[
        (fee, Some(json!(10)), fee, "expected an amount of credits as text such as \"10\""),
        (fee, Some(json!("-1")), fee, "a fee must not be negative"),
        (
            fee,
            Some(json!("0.0000001")),
            fee,
            "`0.0000001` has more than six decimal places: the smallest amount is 0.000001 credits",
        ),
        (
            "/sell/flat_fees/free~0of~1charge",
            Some(json!("-0.1")),
            "/sell/flat_fees/free~0of~1charge",
            "a fee must not be negative",
        ),
        (ppm, Some(json!("0.1")), ppm, "`0.1` is not a whole number of 0 or more"),
        (ppm, Some(json!(-1)), ppm, "`-1` is not a whole number of 0 or more"),
        (ppm, Some(json!(4_294_967_296_u64)), ppm, "`4294967296` is too large a markup: the largest is 4294967295"),
        (
            "/model/0/sell_tier",
            Some(json!("gold")),
            "/model/0/sell_tier",
            "`gold` has no markup in `sell.tier_markup_ppm`",
        ),
        ("/sell", Some(json!("0.01")), "/sell", "expected a table, found text"),
    ]);
}

#[test]
fn what_is_no_table_at_all_is_refused_at_the_root() {
    let root = |message: &str| vec![(String::new(), message.to_owned())];
    assert_eq!(problems(json!("x")), root("expected a table, found text"));
    assert_eq!(problems(Value::Null), root("expected a table, found null"));
    assert_eq!(problems(json!({})), root("`name` is missing"));
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut book = parse(BOOK);
    edit(&mut book, "/name", None);
    edit(&mut book, "/sell/flat_fee", Some(json!(1)));
    edit(&mut book, "/model/0/rates/input", Some(json!("x")));
    edit(&mut book, "/model/0/rates/output", Some(json!("y")));
    edit(&mut book, "/model/1/tokenizer", Some(json!("z")));
    edit(&mut book, "/unit/1/name", Some(json!("step")));
    let pointers = problems(book).into_iter().map(|(pointer, _)| pointer).collect::<Vec<_>>();
    let expected =
        ["", "/sell/flat_fee", "/model/0/rates/input", "/model/0/rates/output", "/model/1/tokenizer", "/unit/1/name"];
    assert_eq!(pointers, expected);
}
