//! Price books: what things cost, what they would cost by another book, and who decides about it.
//!
//! Books belong to the whole installation, so every tenant sees the same ones. Only admins add or activate one;
//! nothing here changes a book that exists or a run that has pinned one.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use bursar_domain::id::{PriceBookId, PriceBookKind};
use bursar_domain::pricing::{PriceBook, PricingError, Quote};
use bursar_domain::usage::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::{Admin, Caller};
use super::conditional::{etag_of, json, tagged, with_header};
use super::json::Json;
use super::limits::{MAX_SIMULATED_CALLS, MAX_SIMULATED_DAYS};
use super::page::Page;
use super::params::{PathId, Query, parse_id, position};
use super::problem::{Code, FieldError, Problem};
use super::state::Site;
use super::types::{Amount, ShownPriceBook, Time};
use crate::engine::{ActivateError, ModelSum, Simulation};
use crate::store::read::PriceBookView;

/// An immutable set of prices.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PriceBook)]
pub(super) struct Book {
    /// Its id.
    id: ShownPriceBook,
    /// Its name. Books of different content may share one.
    name: String,
    /// SHA-256 of the canonical content.
    content_hash: String,
    /// Whether new runs pin it.
    is_active: bool,
    /// When it was stored.
    created_at: Time,
    /// When it was activated last.
    activated_at: Option<Time>,
    /// The canonical content: models, units, what is asked for them; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    content: Option<Value>,
}

impl Book {
    fn of(view: PriceBookView, active: Option<PriceBookId>) -> Self {
        Self {
            is_active: active == Some(view.id),
            id: view.id.into(),
            name: view.name,
            content_hash: view.content_hash,
            created_at: view.created_at.into(),
            activated_at: view.activated_at.map(Time),
            content: view.content,
        }
    }
}

/// What a call uses. Parts are contained in their totals.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UsageToPrice {
    /// All tokens sent, cached ones included.
    input_tokens: u64,
    /// The part of the input that is read from a cache.
    cache_read_tokens: u64,
    /// The part of the input that is written to a cache.
    cache_write_tokens: u64,
    /// The part of `cache_write_tokens` that is written for one hour.
    cache_write_1h_tokens: u64,
    /// All tokens produced, reasoning included.
    output_tokens: u64,
    /// The part of the output spent on reasoning.
    reasoning_tokens: u64,
}

impl From<UsageToPrice> for Usage {
    fn from(usage: UsageToPrice) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            cache_read_tokens: usage.cache_read_tokens,
            cache_write_tokens: usage.cache_write_tokens,
            cache_write_1h_tokens: usage.cache_write_1h_tokens,
            output_tokens: usage.output_tokens,
            reasoning_tokens: usage.reasoning_tokens,
        }
    }
}

/// A call to price.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CallToPrice {
    /// The model, by its name or an alias.
    model: String,
    /// `batch`, `flex`, `priority` or another service tier of the model; the standard one where left out.
    #[serde(default)]
    variant: Option<String>,
    /// What it uses.
    usage: UsageToPrice,
}

/// What to price: a call, or what was used in the last days, or both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SimulatePrices {
    /// By which book; the active one where left out.
    #[serde(default)]
    price_book_id: Option<String>,
    /// A call that need not have happened.
    #[serde(default)]
    call: Option<CallToPrice>,
    /// The calls of the tenant's last so many days.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 366)]
    days: Option<i64>,
}

/// One part of a call.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PriceLine {
    /// `input`, `input.cache_read`, `input.cache_write`, `input.cache_write_1h`, `output`, `output.reasoning` or
    /// `request`.
    dimension: &'static str,
    /// How many.
    quantity: u64,
    /// The price in USD of `per` of them, exact.
    price_usd: String,
    /// For how many the price is.
    per: u64,
}

/// What a call costs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PricedCall {
    /// The model as the book names it; `fallback` for one that it does not list.
    model: String,
    /// What it costs.
    credits: Amount,
    /// The exact cost in USD before any markup.
    usd: String,
    /// Its parts.
    lines: Vec<PriceLine>,
}

impl From<Quote> for PricedCall {
    fn from(quote: Quote) -> Self {
        let lines = quote.lines.into_iter().map(|line| PriceLine {
            dimension: line.dimension.key(),
            quantity: line.quantity,
            price_usd: line.price_usd,
            per: line.per,
        });
        Self { model: quote.model, credits: quote.cost.into(), usd: quote.usd, lines: lines.collect() }
    }
}

/// Recorded calls under two books.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepricedSum {
    /// Calls that both books price.
    calls: u64,
    /// What they were recorded at.
    before: Amount,
    /// What they cost by the other book.
    after: Amount,
    /// The part of `before` that was billed.
    billed_before: Amount,
    /// The part of `after` that would be billed.
    billed_after: Amount,
    /// Calls that the other book can't price.
    unpriced_calls: u64,
    /// What those were recorded at.
    unpriced_before: Amount,
}

impl From<&ModelSum> for RepricedSum {
    fn from(sum: &ModelSum) -> Self {
        Self {
            calls: sum.calls,
            before: sum.before.into(),
            after: sum.after.into(),
            billed_before: sum.billed_before.into(),
            billed_after: sum.billed_after.into(),
            unpriced_calls: sum.unpriced,
            unpriced_before: sum.unpriced_before.into(),
        }
    }
}

/// Recorded calls of one model under two books.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RepricedModel {
    /// The model as it was asked for.
    model: String,
    #[serde(flatten)]
    sum: RepricedSum,
}

/// What the last days' calls would cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Repriced {
    /// How many days.
    days: i64,
    /// All models together.
    total: RepricedSum,
    /// Each model, by name.
    models: Vec<RepricedModel>,
    /// Whether there were more calls than were looked at: the oldest 100,000.
    truncated: bool,
}

impl Repriced {
    fn of(days: i64, simulation: &Simulation) -> Self {
        let model = |(model, sum): (&String, &ModelSum)| RepricedModel { model: model.clone(), sum: sum.into() };
        Self {
            days,
            total: (&simulation.total()).into(),
            models: simulation.models.iter().map(model).collect(),
            truncated: simulation.truncated,
        }
    }
}

/// What was asked, priced.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SimulatedPrices {
    /// By which book.
    price_book_id: ShownPriceBook,
    /// The call.
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<PricedCall>,
    /// The last days' calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Repriced>,
}

/// List price books
///
/// Newest first. One of them is active: the one that new runs pin.
#[utoipa::path(
    get, path = "/v1/prices", operation_id = "prices.list", tag = "prices",
    params(
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page of price books", body = Page<Book>)),
)]
pub(super) async fn list(
    State(site): State<Site>,
    _caller: Caller,
    mut query: Query,
) -> Result<Response<Body>, Problem> {
    let list = "prices";
    let before = position(query.cursor(list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let active = site.store().active_prices().await?;
    let rows = site.store().price_book_list(before, limit + 1).await?;
    let page = Page::cut(rows, limit, list, |row| row.id.to_string(), |row| Book::of(row, active));
    Ok(json(StatusCode::OK, &page))
}

/// Read a price book
#[utoipa::path(
    get, path = "/v1/prices/{id}", operation_id = "prices.get", tag = "prices",
    params(
        ("id" = ShownPriceBook, Path, description = "The price book"),
        ("If-None-Match" = Option<String>, Header, description = "The tag that the client has"),
    ),
    responses(
        (status = 200, description = "The price book", body = Book, headers(("ETag" = String))),
        (status = 304, description = "It is as the client has it"),
    ),
)]
pub(super) async fn get(
    State(site): State<Site>,
    _caller: Caller,
    PathId(id): PathId<PriceBookKind>,
    query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let book = shown(&site, id).await?;
    Ok(tagged(&headers, &etag_of(&book), &book))
}

async fn shown(site: &Site, id: PriceBookId) -> Result<Book, Problem> {
    let view = site.store().price_book(id).await?.ok_or_else(|| Problem::not_found("price book"))?;
    Ok(Book::of(view, site.store().active_prices().await?))
}

/// Publish a price book
///
/// For admins. The body is a book in the shape of `prices/*.toml`, as JSON. Nothing uses it until it is activated;
/// the same content again adds nothing.
#[utoipa::path(
    post, path = "/v1/prices", operation_id = "prices.publish", tag = "prices",
    request_body(content = Object, content_type = "application/json", description = "The price book"),
    responses(
        (status = 200, description = "It was there already", body = Book),
        (status = 201, description = "The new price book", body = Book, headers(("Location" = String))),
    ),
)]
pub(super) async fn publish(
    State(site): State<Site>,
    _admin: Admin,
    query: Query,
    Json { value, .. }: Json<serde::de::IgnoredAny>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let book = PriceBook::from_value(value).map_err(|problems| {
        let errors = problems.iter().map(|problem| FieldError::at(&problem.pointer, "invalid", &problem.message));
        let detail = match problems.as_slice() {
            [one] => one.to_string(),
            many => format!("{} things are wrong, see errors", many.len()),
        };
        Problem::new(Code::Validation, detail).errors(errors.collect::<Vec<_>>())
    })?;
    let published = site.engine().publish_prices(&book).await?;
    let status = if published.created { StatusCode::CREATED } else { StatusCode::OK };
    let response = json(status, &shown(&site, published.id).await?);
    let location = format!("/v1/prices/{}", published.id);
    Ok(if published.created { with_header(response, header::LOCATION, &location) } else { response })
}

/// Activate a price book
///
/// For admins. Runs that start from now on pin it; runs that started before keep their own. Refused while a model's
/// `valid_from` lies ahead.
#[utoipa::path(
    post, path = "/v1/prices/{id}/activate", operation_id = "prices.activate", tag = "prices",
    params(("id" = ShownPriceBook, Path, description = "The price book")),
    responses((status = 200, description = "It is active", body = Book)),
)]
pub(super) async fn activate(
    State(site): State<Site>,
    _admin: Admin,
    PathId(id): PathId<PriceBookKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    site.engine().activate_price_book(id).await.map_err(|error| match error {
        ActivateError::NotFound => Problem::not_found("price book"),
        ActivateError::NotYetValid(_) => Problem::new(Code::IllegalState, error.to_string()),
        ActivateError::Store(error) => error.into(),
    })?;
    let mut book = shown(&site, id).await?;
    book.content = None;
    Ok(json(StatusCode::OK, &book))
}

/// Try a price book
///
/// Prices a call that need not have happened, and the tenant's calls of the last days, by any book. Changes nothing.
#[utoipa::path(
    post, path = "/v1/prices/simulate", operation_id = "prices.simulate", tag = "prices",
    request_body(content = SimulatePrices, content_type = "application/json"),
    responses((status = 200, description = "What it costs", body = SimulatedPrices)),
)]
pub(super) async fn simulate(
    State(site): State<Site>,
    caller: Caller,
    query: Query,
    Json { body, .. }: Json<SimulatePrices>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    if body.call.is_none() && body.days.is_none() {
        return Err(Problem::invalid("", "missing", "name a `call`, or `days`, or both"));
    }
    let days = body.days.map(|days| match days {
        1..=MAX_SIMULATED_DAYS => Ok(days),
        _ => Err(Problem::invalid("/days", "out_of_range", &format!("must be from 1 to {MAX_SIMULATED_DAYS}"))),
    });
    let days = days.transpose()?;
    let (id, book) = chosen(&site, body.price_book_id.as_deref()).await?;
    let call = body.call.map(|call| priced(&book, &call)).transpose()?;
    let recorded = match days {
        None => None,
        Some(days) => {
            let since = site.engine().clock().now().plus_ms(-days * 86_400_000);
            let most = Some(MAX_SIMULATED_CALLS);
            let simulation = site.engine().simulate_prices(&book, Some(caller.tenant_id), since, most).await?;
            Some(Repriced::of(days, &simulation))
        }
    };
    Ok(json(StatusCode::OK, &SimulatedPrices { price_book_id: id.into(), call, recorded }))
}

async fn chosen(site: &Site, id: Option<&str>) -> Result<(PriceBookId, PriceBook), Problem> {
    let Some(text) = id else {
        let active = site.engine().active_prices().await?;
        let (id, book) = active.ok_or_else(|| Problem::new(Code::NoPrices, "no price book is active"))?;
        return Ok((id, book.as_ref().clone()));
    };
    let wrong = |message: &str| Problem::invalid("/price_book_id", "invalid", message);
    let id = parse_id::<PriceBookKind>(text).map_err(|_| wrong("must be the id of a price book, prb_…"))?;
    let book = site.engine().price_book(id).await?.ok_or_else(|| wrong("there is no such price book"))?;
    Ok((id, book))
}

fn priced(book: &PriceBook, call: &CallToPrice) -> Result<PricedCall, Problem> {
    let quote = book.quote(&call.model, call.variant.as_deref(), &call.usage.into());
    quote.map(PricedCall::from).map_err(|error| {
        let pointer = match &error {
            PricingError::ModelNotPriced(_) => "/call/model",
            PricingError::VariantNotPriced(_) => "/call/variant",
            PricingError::Usage(_) | PricingError::Overflow | PricingError::UnitNotPriced(_) => "/call/usage",
        };
        Problem::invalid(pointer, error.code(), &error.to_string())
    })
}
