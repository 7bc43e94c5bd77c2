//! Models with their rates in USD and credits per million tokens, units, and changes, as tables.

use bursar_domain::pricing::{Change, Dimension, ModelPrice, PriceBook, Rates};
use maud::{Markup, html};

use crate::dashboard::show;

/// Models shown at once: a whole public catalogue has thousands.
const MOST_MODELS: usize = 300;
/// Changes shown at once.
const MOST_CHANGES: usize = 500;

/// What has a column.
const COLUMNS: [(Dimension, &str); 5] = [
    (Dimension::Input, "Input"),
    (Dimension::CacheRead, "Cache read"),
    (Dimension::CacheWrite, "Cache write"),
    (Dimension::Output, "Output"),
    (Dimension::Reasoning, "Reasoning"),
];

/// Models whose names contain a text.
pub(super) fn models(book: &PriceBook, part: &str) -> Markup {
    let found = book.models().filter(|model| contains(model, part)).collect::<Vec<_>>();
    html! {
        @if found.is_empty() { p.empty { "No model of that name." } }
        @else {
            div.scroll #models-scroll tabindex="0" role="region" aria-label="Models" {
                table {
                    caption.muted { "USD and credits per million tokens; a part without a price of its own has its total's" }
                    thead { tr {
                        th scope="col" { "Model" }
                        @for (_, title) in COLUMNS { th.n scope="col" { (title) } }
                        th scope="col" { "More" }
                    } }
                    tbody {
                        @for model in found.iter().take(MOST_MODELS) { (rows(book, model)) }
                        @if let Some(fallback) = book.fallback().filter(|_| part.is_empty()) {
                            (row(book, fallback, fallback.rates(), &html! { "any other model" }))
                        }
                    }
                }
            }
            @if found.len() > MOST_MODELS {
                p.muted { (show::number(MOST_MODELS)) " of " (show::number(found.len())) " models; filter to see others" }
            }
        }
    }
}

fn contains(model: &ModelPrice, part: &str) -> bool {
    let part = part.trim().to_ascii_lowercase();
    let mut names = std::iter::once(model.name()).chain(model.aliases().iter().map(String::as_str));
    names.any(|name| name.to_ascii_lowercase().contains(&part))
}

/// The standard rates, the tiers, the variants.
fn rows(book: &PriceBook, model: &ModelPrice) -> Markup {
    html! {
        (row(book, model, model.rates(), &html! { code { (model.name()) } " " span.muted { (model.provider()) } }))
        @for tier in model.tiers() {
            @let title = format!("above {} tokens", show::number(tier.above_input_tokens()));
            (row(book, model, tier.rates(), &html! { span.muted { (title) } }))
        }
        @for variant in model.variants() {
            (row(book, model, variant.card().rates(), &html! { span.muted { (variant.name()) } }))
            @for tier in variant.card().tiers() {
                @let title = format!("{} above {} tokens", variant.name(), show::number(tier.above_input_tokens()));
                (row(book, model, tier.rates(), &html! { span.muted { (title) } }))
            }
        }
    }
}

fn row(book: &PriceBook, model: &ModelPrice, rates: &Rates, title: &Markup) -> Markup {
    let is_stated = |dimension| rates.stated().any(|(stated, _)| stated == dimension);
    html! {
        tr {
            th scope="row" { (title) }
            @for (dimension, _) in COLUMNS {
                td.n { @if is_stated(dimension) { (price(book, model, rates, dimension)) } @else { span.muted { "–" } } }
            }
            td {
                @for (dimension, title) in [(Dimension::CacheWrite1h, "cache write for an hour"), (Dimension::Request, "request")] {
                    @if is_stated(dimension) { div { (title) " " (price(book, model, rates, dimension)) } }
                }
                @if let Some(note) = model.note().filter(|_| std::ptr::eq(rates, model.rates())) {
                    div.reason { (show::cut(note, 200)) }
                }
            }
        }
    }
}

fn price(book: &PriceBook, model: &ModelPrice, rates: &Rates, dimension: Dimension) -> Markup {
    html! {
        @if let Some(usd) = rates.usd_per_million(dimension) { "$" (usd) }
        @if let Some(credits) = book.credits_per_million(model, rates, dimension) {
            div.muted { (show::credits(credits)) }
        }
    }
}

/// Units whose names contain a text.
pub(super) fn units(book: &PriceBook, part: &str) -> Markup {
    let found = book.units().filter(|unit| unit.name().contains(part.trim())).take(MOST_MODELS).collect::<Vec<_>>();
    html! {
        @if !found.is_empty() {
            div.scroll #units-scroll tabindex="0" role="region" aria-label="Units" {
                table {
                    thead { tr {
                        th scope="col" { "Unit" } th.n scope="col" { "USD" } th.n scope="col" { "Credits" }
                        th.n scope="col" { "For" }
                    } }
                    tbody { @for unit in found { tr {
                        th scope="row" { code { (unit.name()) } }
                        td.n { "$" (unit.price_usd()) }
                        td.n { @if let Ok(credits) = book.unit_credits(unit.name(), unit.per()) { (show::credits(credits)) } }
                        td.n { (show::number(unit.per())) }
                    } } }
                }
            }
        }
    }
}

/// Changes, with both values.
pub(super) fn changes(changes: &[Change]) -> Markup {
    html! {
        @if changes.is_empty() { p.empty { "Nothing changes." } }
        @else {
            div.scroll #changes-scroll tabindex="0" role="region" aria-label="Changes" {
                table {
                    thead { tr {
                        th scope="col" { "What" } th scope="col" { "Field" } th scope="col" { "Before" } th scope="col" { "After" }
                    } }
                    tbody { @for change in changes.iter().take(MOST_CHANGES) { tr {
                        th scope="row" { (change.subject) }
                        td { @if change.field.is_empty() { (whole(change)) } @else { code { (change.field) } } }
                        td { (value(change.before.as_deref())) }
                        td { (value(change.after.as_deref())) }
                    } } }
                }
            }
            @if changes.len() > MOST_CHANGES {
                p.muted { (show::number(MOST_CHANGES)) " of " (show::number(changes.len())) "; `bursar prices diff` tells all" }
            }
        }
    }
}

const fn whole(change: &Change) -> &'static str {
    if change.after.is_some() { "new" } else { "gone" }
}

fn value(text: Option<&str>) -> Markup {
    html! { @if let Some(text) = text { (show::cut(text, 160)) } @else { span.muted { "–" } } }
}
