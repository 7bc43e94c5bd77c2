//! Tests of pricing: known costs, an oracle in big rationals, broken books, the canonical form, the default book.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod broken_books;
mod canonical;
mod costs;
mod default_book;
mod differences;
mod oracle;
mod terms;

use serde_json::Value;

use super::PriceBook;

/// A book as a person writes it: a tiered model, its cheaper sibling, units, markups and fees.
const BOOK: &str = r#"
name = "test-1"

[sell]
usd_per_credit = "0.01"
flat_fee = "10"
[sell.tier_markup_ppm]
premium = 250_000
[sell.flat_fees]
software-company = "25.5"
"free~of/charge" = "0"

[[model]]
provider = "anthropic"
name = "sonnet"
aliases = ["sonnet-1", "sonnet-latest"]
tokenizer = "o200k_base"
tokenizer_factor_ppm = 1_300_000
context_tokens = 1_000_000
max_output_tokens = 64_000
source = "https://example.com/prices"
checked = "2026-11-04"
[model.rates]
input = "3"
"input.cache_read" = "0.30"
"input.cache_write" = "3.75"
output = "15.00"
[[model.tier]]
above_input_tokens = 200_000
[model.tier.rates]
per = "1K"
input = "0.006"
"input.cache_read" = "0.0006"
"input.cache_write" = "0.0075"
output = "0.0225"

[[model]]
provider = "google"
name = "flash"
tokenizer = "cl100k_base"
context_tokens = 1_000
max_output_tokens = 1_000
sell_tier = "premium"
source = "made up"
note = "For tests."
[model.rates]
input = "0.30"
output = "2.50"
"output.reasoning" = "3.50"
request = "0.005"

[[unit]]
name = "step"
price = "0.000010"
source = "made up"

[[unit]]
name = "page"
price = "1.25"
per = "1000"
source = "made up"
"#;

/// TOML as the caller of [`PriceBook::from_value`] turns it into JSON.
fn json(toml: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(toml).unwrap()).unwrap()
}

/// The book above.
fn book() -> PriceBook {
    PriceBook::from_value(json(BOOK)).unwrap()
}

/// A book with the default `sell` and one model `m` of these rates.
fn model_with(rates: &str) -> PriceBook {
    let model = r#"provider = "p"
        name = "m"
        tokenizer = "o200k_base"
        context_tokens = 200000
        max_output_tokens = 64000
        source = "made up""#;
    PriceBook::from_value(json(&format!("name = \"one\"\n[[model]]\n{model}\n[model.rates]\n{rates}"))).unwrap()
}
