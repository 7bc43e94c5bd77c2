//! Prices: the active book, and the other books with what they would change.
//!
//! Everybody sees what things cost. Admins activate another book, after having been told what it changes; runs that
//! are under way keep theirs.

mod tables;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use bursar_domain::id::PriceBookId;
use maud::{Markup, html};
use serde::Deserialize;

use super::failure::Failure;
use super::session::Viewer;
use super::shell::{self, Fresh, Place};
use super::show;
use super::state::Dashboard;
use crate::engine::ActivateError;
use crate::store::read::PriceBookView;

/// Books listed: the newest.
const MOST_BOOKS: i64 = 50;

/// What the address asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Part of a model's name.
    #[serde(default)]
    model: String,
}

/// The active book and the others.
pub(super) async fn page(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let engine = &dashboard.app.engine;
    let active = engine.active_prices().await?;
    let books = engine.store().price_book_list(None, MOST_BOOKS).await?;
    let active_id = active.as_ref().map(|(id, _)| *id);
    let body = html! {
        div.title-row { h1 { "Prices" } }
        @if let Some((id, book)) = &active {
            section.card aria-label="Active price book" {
                div.card-head {
                    h2 { (book.name()) }
                    span.muted { "active · " (show::short_id(&id.to_string())) }
                }
                (filter(&asked.model))
                (tables::models(book, &asked.model))
                (tables::units(book, &asked.model))
            }
        } @else {
            section.card { p.empty { "No price book is active: run `bursar migrate`." } }
        }
        (others(&dashboard, &books, active_id))
    };
    Ok(shell::page(&viewer, Place::Prices, "Prices", dashboard.now().ms(), &Fresh::Never, &body))
}

fn filter(model: &str) -> Markup {
    html! {
        form.filters method="get" action="/dashboard/prices" role="search" aria-label="Filter models" {
            label {
                span { "Model" }
                input type="search" name="model" value=(model) placeholder="any" maxlength="64" autocomplete="off"
                    spellcheck="false";
            }
            button type="submit" { "Filter" }
            @if !model.is_empty() { a href="/dashboard/prices" { "Clear" } }
        }
    }
}

fn others(dashboard: &Dashboard, books: &[PriceBookView], active: Option<PriceBookId>) -> Markup {
    let now = dashboard.now();
    html! {
        section #books.card aria-label="Price books" {
            div.card-head { h2 { "Books" } }
            div.scroll #books-scroll tabindex="0" role="region" aria-label="Price books" {
                table {
                    thead { tr {
                        th scope="col" { "Book" } th scope="col" { "Id" } th.n scope="col" { "Stored" }
                        th.n scope="col" { "Activated last" } th scope="col" { "Compare" }
                    } }
                    tbody { @for book in books { tr {
                        th scope="row" { (show::cut(&book.name, 60)) }
                        td { (show::short_id(&book.id.to_string())) }
                        td.n { (show::ago(book.created_at, now)) }
                        td.n { @if let Some(at) = book.activated_at { (show::ago(at, now)) } @else { "never" } }
                        td {
                            @if active == Some(book.id) { "active" }
                            @else {
                                a href={ "/dashboard/prices/" (book.id) } aria-label={ "What " (book.name) " changes" } {
                                    "What it changes"
                                }
                            }
                        }
                    } } }
                }
            }
        }
    }
}

/// What a book changes against the active one, with the button for admins.
pub(super) async fn compare(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Markup, Failure> {
    let id: PriceBookId = id.parse().map_err(|_| Failure::NotFound)?;
    let engine = &dashboard.app.engine;
    let book = engine.price_book(id).await?.ok_or(Failure::NotFound)?;
    let active = engine.active_prices().await?;
    let is_active = active.as_ref().is_some_and(|(active, _)| *active == id);
    let changes = active.as_ref().map(|(_, active)| active.diff(&book)).unwrap_or_default();
    let body = html! {
        div.title-row {
            h1 { (book.name()) }
            @if viewer.is_admin() && !is_active {
                details.confirm {
                    summary { "Activate" }
                    form method="post" action={ "/dashboard/prices/" (id) "/activate" } {
                        p { "Runs that start from now on pin this book. Runs under way keep theirs." }
                        button type="submit" { "Activate this book" }
                    }
                }
            }
        }
        p { a href="/dashboard/prices" { "← Prices" } " · " (show::short_id(&id.to_string())) }
        section.card aria-label="Changes" {
            div.card-head {
                h2 {
                    @if let Some((_, active)) = &active { "Changes against " (active.name()) } @else { "Changes" }
                }
                span.muted { (show::number(changes.len())) }
            }
            (tables::changes(&changes))
        }
        section.card aria-label="Models" {
            div.card-head { h2 { "Models" } }
            (tables::models(&book, ""))
            (tables::units(&book, ""))
        }
    };
    Ok(shell::page(&viewer, Place::Prices, book.name(), dashboard.now().ms(), &Fresh::Never, &body))
}

/// Activates a book, then shows it.
pub(super) async fn activate(
    viewer: Viewer,
    State(dashboard): State<Dashboard>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    if !viewer.is_admin() {
        return Err(Failure::Forbidden("Only an admin's key activates a price book."));
    }
    let id: PriceBookId = id.parse().map_err(|_| Failure::NotFound)?;
    match dashboard.app.engine.activate_price_book(id).await {
        Ok(()) => Ok(Redirect::to("/dashboard/prices").into_response()),
        Err(ActivateError::NotFound) => Err(Failure::NotFound),
        Err(ActivateError::Store(error)) => Err(error.into()),
        Err(error @ ActivateError::NotYetValid(_)) => {
            Err(Failure::Refused(StatusCode::CONFLICT, format!("The book was not activated: {error}.")))
        }
    }
}
