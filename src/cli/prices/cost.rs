//! `bursar prices cost`: prices JSON lines exactly, for scripts and for comparisons with other calculators.

use std::io::{BufRead as _, Write as _};

use bursar_domain::credits::Credits;
use bursar_domain::pricing::PriceBook;
use bursar_domain::usage::Usage;
use serde::Deserialize;
use serde_json::{Value, json};

/// One line of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    model: String,
    #[serde(default)]
    variant: Option<String>,
    usage: Usage,
}

pub(super) fn run(book: &PriceBook) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            writeln!(out, "{}", price(book, &line))?;
        }
    }
    out.flush()?;
    Ok(())
}

/// `{"usd", "credits", "cost_ucr"}`, or `{"error", "detail"}` for what can't be priced.
fn price(book: &PriceBook, line: &str) -> Value {
    let call = match serde_json::from_str::<Call>(line) {
        Ok(call) => call,
        Err(error) => return json!({ "error": "malformed", "detail": error.to_string() }),
    };
    match book.quote(&call.model, call.variant.as_deref(), &call.usage) {
        Ok(quote) => json!({ "usd": quote.usd, "credits": Credits(quote.cost), "cost_ucr": quote.cost.get() }),
        Err(error) => json!({ "error": error.code(), "detail": error.to_string() }),
    }
}
