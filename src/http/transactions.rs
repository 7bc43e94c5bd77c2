//! A wallet's ledger as its owner reads it: one signed amount for each operation that gained or cost something.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::csv::{self, Cell};
use super::entries;
use super::limits::CSV_PAGE;
use super::page::Page;
use super::params::{Query, position};
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownMission, ShownOp, ShownTask, Time};
use super::wallet::wallet_of;
use crate::clock::rfc3339;
use crate::store::read::{OpFilter, TransactionView};

/// What `?kind=` takes: the kinds of operations, with `charge` for a settle.
const KINDS: [&str; 10] =
    ["grant", "charge", "refund", "adjust", "expire", "write_off", "hold", "top_up", "shrink", "release"];

/// One operation as the owner of the wallet sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transaction {
    /// The ledger entry's id.
    id: ShownOp,
    /// `grant`, `charge`, `refund`, `adjust`, `expire` or `write_off`; with `include=holds` also `hold`, `top_up`,
    /// `shrink` and `release`.
    kind: String,
    /// What was gained, or lost where it is negative: the change of available + held − debt.
    amount: Amount,
    /// What it did to the available credits alone.
    available_change: Amount,
    /// Available credits after it.
    balance_after: Amount,
    /// What it refers to: the reference of a grant, the id of a charged hold.
    reference: String,
    /// The mission it belongs to.
    mission_id: Option<ShownMission>,
    /// The task it belongs to.
    task_id: Option<ShownTask>,
    /// Why, where a person said so.
    reason: Option<String>,
    /// Who did it, where a person did.
    actor: Option<String>,
    /// When it was posted.
    created_at: Time,
}

impl From<TransactionView> for Transaction {
    fn from(view: TransactionView) -> Self {
        Self {
            id: view.op.id.into(),
            kind: view.kind().to_owned(),
            amount: view.amount_ucr.into(),
            available_change: view.available_change_ucr.into(),
            balance_after: view.op.available_after_ucr.into(),
            reference: view.reference().to_owned(),
            mission_id: view.op.mission_id.map(Into::into),
            task_id: view.op.task_id.map(Into::into),
            reason: view.op.reason,
            actor: view.op.actor,
            created_at: view.op.created_at.into(),
        }
    }
}

const CSV_HEAD: [&str; 11] = [
    "id",
    "created_at",
    "kind",
    "amount",
    "available_change",
    "balance_after",
    "reference",
    "mission_id",
    "task_id",
    "reason",
    "actor",
];

fn csv_lines(view: &TransactionView) -> Vec<Vec<Cell>> {
    vec![vec![
        Cell::own(view.op.id),
        Cell::own(rfc3339(view.op.created_at)),
        Cell::own(view.kind()),
        Cell::own(view.amount_ucr),
        Cell::own(view.available_change_ucr),
        Cell::own(view.op.available_after_ucr),
        Cell::words(Some(view.reference())),
        Cell::maybe(view.op.mission_id),
        Cell::maybe(view.op.task_id),
        Cell::words(view.op.reason.as_deref()),
        Cell::words(view.op.actor.as_deref()),
    ]]
}

/// List transactions
///
/// Newest first: what the owner gained and lost, one signed amount each. Holds and what they give back move nothing
/// in or out and are left out, unless `include=holds`. As CSV with `Accept: text/csv` or `?format=csv`: all of them in
/// one file, without `cursor` and `limit`.
#[utoipa::path(
    get, path = "/v1/wallet/transactions", operation_id = "wallet.transactions", tag = "wallet",
    params(
        ("include" = Option<String>, Query, description = "`holds`: also what only moved between available and held"),
        ("kind" = Option<Vec<String>>, Query, description = "Only of these kinds; repeated or separated by commas"),
        ("mission_id" = Option<ShownMission>, Query, description = "Only of this mission"),
        ("from" = Option<String>, Query, description = "Only posted at or after: RFC 3339, or a date"),
        ("to" = Option<String>, Query, description = "Only posted before: RFC 3339, or a date"),
        ("format" = Option<String>, Query, description = "`json` or `csv`; goes over `Accept`"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page, or a file", content(
        (Page<Transaction> = "application/json"), (String = "text/csv"),
    ))),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let wallet = wallet_of(&site, &caller).await?;
    let include = query.many("include");
    if include.iter().any(|name| name != "holds") {
        return Err(Problem::parameter("include", "must be holds"));
    }
    let (mut filter, list) = entries::filter(&mut query, wallet.id, &KINDS)?;
    let list = format!("transactions/{list}&include={}", !include.is_empty());
    filter.only_transactions = include.is_empty();
    filter.kinds.iter_mut().filter(|kind| *kind == "charge").for_each(|kind| "settle".clone_into(kind));
    if query.wants_csv(&headers)? {
        query.done()?;
        let filter = OpFilter { limit: CSV_PAGE, ..filter };
        let first = site.store().transactions(&filter).await?;
        let behind = move |last: &TransactionView| {
            let (store, filter) = (site.store().clone(), OpFilter { before: Some(last.op.id), ..filter.clone() });
            async move { store.transactions(&filter).await }
        };
        return Ok(csv::file("transactions", &CSV_HEAD, first, behind, csv_lines));
    }
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().transactions(&OpFilter { before, limit: limit + 1, ..filter }).await?;
    let page = Page::cut(rows, limit, &list, |row| row.op.id.to_string(), Transaction::from);
    Ok(json(StatusCode::OK, &page))
}
