//! Credits on pages: all wallets, one wallet, its ledger. They show; forms that change money are elsewhere.

mod ledger;
mod list;
mod wallet;

pub(super) use ledger::page as ledger;
pub(super) use list::page as list;
pub(super) use wallet::page as wallet;

use bursar_domain::credits::Ucr;
use maud::{Markup, html};

use super::show;
use crate::http::share_used;

/// A table inside a card, scrolled sideways where it does not fit.
fn card(id: &str, title: &str, note: &Markup, empty: Option<&str>, heads: &[(&str, bool)], rows: &Markup) -> Markup {
    html! {
        section.card id=(id) data-swap aria-labelledby={ (id) "-title" } {
            div.card-head { h2 id={ (id) "-title" } { (title) } (note) }
            @if let Some(empty) = empty { p.empty { (empty) } }
            @else {
                div.scroll id={ (id) "-scroll" } tabindex="0" role="region" aria-labelledby={ (id) "-title" } {
                    table {
                        thead { tr { @for (head, is_number) in heads { th.n[*is_number] scope="col" { (head) } } } }
                        tbody { (rows) }
                    }
                }
            }
        }
    }
}

/// How much of a limit is used, as a bar.
fn use_of(used: Ucr, limit: Option<Ucr>, about: &str) -> Markup {
    let Some(limit) = limit else { return html! { span.muted { "no limit" } } };
    let percent = share_used(used, limit);
    html! {
        span.progress {
            progress value=(percent.clamp(0, 100)) max="100" aria-label=(about) {}
            span.hot[percent >= 100] title={ (show::credits(used)) " of " (show::credits(limit)) } { (percent) " %" }
        }
    }
}

/// An amount that was gained or lost.
fn signed(amount: Ucr) -> Markup {
    html! { @if amount.is_positive() { "+" } (show::credits(amount)) }
}

/// An amount; a dash where there is none.
fn amount(amount: Ucr) -> Markup {
    html! { @if amount.is_zero() { span.muted { "–" } } @else { (show::credits(amount)) } }
}
