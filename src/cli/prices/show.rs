//! Books, differences and simulations as text.

use std::fmt::Write as _;

use bursar_domain::credits::Credits;
use bursar_domain::pricing::{Change, Dimension, PriceBook, Rates};
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::engine::{Engine, ModelSum, Simulation};
use crate::store::read::PriceBookView;

/// Books shown at once: nobody has more, and whoever does finds the rest over HTTP.
const MOST_BOOKS: i64 = 1_000;

pub(super) async fn list(engine: &Engine, as_json: bool) -> anyhow::Result<()> {
    let active = engine.store().active_prices().await?;
    let books = engine.store().price_book_list(None, MOST_BOOKS).await?;
    if as_json {
        let shown = |book: &PriceBookView| {
            json!({
                "id": book.id, "name": book.name, "content_hash": book.content_hash,
                "is_active": active == Some(book.id), "created_at": rfc3339(book.created_at),
                "activated_at": book.activated_at.map(rfc3339),
            })
        };
        println!("{}", serde_json::to_string_pretty(&books.iter().map(shown).collect::<Vec<_>>())?);
        return Ok(());
    }
    for book in &books {
        let mark = if active == Some(book.id) { "active" } else { "" };
        println!("{:<32} {:<7} {} {}", book.id.to_string(), mark, rfc3339(book.created_at), book.name);
    }
    Ok(())
}

/// Models with their prices, a line each, and the units.
pub(super) fn book(book: &PriceBook, models: Option<&str>) -> String {
    let mut text = format!("{}\n\nUSD per million tokens\n", book.name());
    let fits = |name: &str| models.is_none_or(|pattern| bursar_domain::pricing::import::matches(pattern, name));
    for model in book.models().filter(|model| fits(model.name())) {
        let _ = writeln!(text, "{:<34} {}", model.name(), rates(model.rates()));
        for tier in model.tiers() {
            let above = format!("  above {} tokens", tier.above_input_tokens());
            let _ = writeln!(text, "{above:<34} {}", rates(tier.rates()));
        }
        for variant in model.variants() {
            let _ = writeln!(text, "  {:<32} {}", variant.name(), rates(variant.card().rates()));
        }
    }
    if let Some(fallback) = book.fallback() {
        let _ = writeln!(text, "{:<34} {}", "any other model", rates(fallback.rates()));
    }
    text.push_str("\nUSD per unit\n");
    for unit in book.units().filter(|unit| fits(unit.name())) {
        let per = if unit.per() == 1 { String::new() } else { format!(" for {}", unit.per()) };
        let _ = writeln!(text, "{:<34} {}{per}", unit.name(), unit.price_usd());
    }
    text
}

fn rates(rates: &Rates) -> String {
    let price = |dimension| Some(format!("{} {}", short(dimension), rates.usd_per_million(dimension)?));
    rates.stated().filter_map(|(dimension, _)| price(dimension)).collect::<Vec<_>>().join("  ")
}

const fn short(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Input => "in",
        Dimension::CacheRead => "read",
        Dimension::CacheWrite => "write",
        Dimension::CacheWrite1h => "write 1h",
        Dimension::Output => "out",
        Dimension::Reasoning => "reasoning",
        Dimension::Request => "request",
    }
}

/// Differences, a line each.
pub(super) fn changes(changes: &[Change]) -> String {
    let mut text = String::new();
    for Change { subject, field, before, after } in changes {
        let _ = match (before, after) {
            (Some(before), None) if field.is_empty() => writeln!(text, "  - {subject}: {before}"),
            (None, Some(after)) if field.is_empty() => writeln!(text, "  + {subject}: {after}"),
            (before, after) => {
                let (before, after) = (before.as_deref().unwrap_or("–"), after.as_deref().unwrap_or("–"));
                writeln!(text, "  ~ {subject} {field}: {before} → {after}")
            }
        };
    }
    if text.is_empty() { "  nothing\n".to_owned() } else { text }
}

pub(super) fn changes_json(changes: &[Change]) -> Value {
    let shown = |change: &Change| {
        json!({
            "subject": change.subject, "field": change.field, "before": change.before, "after": change.after,
        })
    };
    changes.iter().map(shown).collect()
}

pub(super) fn sum_json(sum: &ModelSum) -> Value {
    json!({
        "calls": sum.calls,
        "before": Credits(sum.before),
        "after": Credits(sum.after),
        "billed_before": Credits(sum.billed_before),
        "billed_after": Credits(sum.billed_after),
        "unpriced_calls": sum.unpriced,
        "unpriced_before": Credits(sum.unpriced_before),
    })
}

pub(super) fn simulation(simulation: &Simulation, book: &str, days: u32) -> String {
    let mut text = format!("Calls of the last {days} days by `{book}`, in credits\n\n");
    let _ = writeln!(text, "{:<34} {:>9} {:>18} {:>18} {:>9}", "model", "calls", "before", "after", "unpriced");
    let mut line = |name: &str, sum: &ModelSum| {
        let (before, after) = (sum.before.to_string(), sum.after.to_string());
        let _ = writeln!(text, "{name:<34} {:>9} {before:>18} {after:>18} {:>9}", sum.calls, sum.unpriced);
    };
    for (model, sum) in &simulation.models {
        line(model, sum);
    }
    let total = simulation.total();
    line("all", &total);
    let _ = writeln!(text, "\nbilled: {} before, {} after", total.billed_before, total.billed_after);
    if total.unpriced > 0 {
        let _ = writeln!(text, "{} calls have no price there; they cost {}", total.unpriced, total.unpriced_before);
    }
    text
}
