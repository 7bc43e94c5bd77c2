//! The ledger of a wallet: every operation with its legs, as JSON or as a CSV file.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::id::WalletId;
use bursar_domain::record::Leg;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::csv::{self, Cell};
use super::limits::CSV_PAGE;
use super::page::Page;
use super::params::{Query, parse_id, position};
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownMission, ShownOp, ShownTask, Time};
use super::wallet::wallet_of;
use crate::clock::rfc3339;
use crate::store::read::{EntryView, OpFilter};

/// The kinds of operations, as `?kind=` takes them.
const KINDS: [&str; 10] =
    ["grant", "hold", "top_up", "shrink", "settle", "release", "expire", "refund", "adjust", "write_off"];

/// One movement of credits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryLeg {
    /// The account that the credits leave, e.g. `grant:grt_…`, `hold:hld_…`, `issue`.
    from: String,
    /// The account that receives them, e.g. `usage`, `fee`, `debt`, `breakage`.
    to: String,
    /// How many.
    amount: Amount,
}

/// One immutable operation of the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Entry {
    /// Its id.
    id: ShownOp,
    /// `grant`, `hold`, `top_up`, `shrink`, `settle`, `release`, `expire`, `refund`, `adjust` or `write_off`.
    kind: String,
    /// Its natural key, unique in the wallet for ever.
    key: String,
    /// What moved.
    legs: Vec<EntryLeg>,
    /// The mission it belongs to.
    mission_id: Option<ShownMission>,
    /// The task it belongs to.
    task_id: Option<ShownTask>,
    /// Who did it, where a person did.
    actor: Option<String>,
    /// Why, where a person said so.
    reason: Option<String>,
    /// Available credits after it.
    available_after: Amount,
    /// When it was posted.
    created_at: Time,
}

fn legs(view: &EntryView) -> Vec<Leg> {
    Vec::deserialize(&view.legs).unwrap_or_default()
}

impl From<EntryView> for Entry {
    fn from(view: EntryView) -> Self {
        let legs = legs(&view).into_iter().map(|Leg(from, to, amount)| EntryLeg {
            from: from.to_string(),
            to: to.to_string(),
            amount: amount.into(),
        });
        Self {
            id: view.id.into(),
            legs: legs.collect(),
            kind: view.kind,
            key: view.key,
            mission_id: view.mission_id.map(Into::into),
            task_id: view.task_id.map(Into::into),
            actor: view.actor,
            reason: view.reason,
            available_after: view.available_after_ucr.into(),
            created_at: view.created_at.into(),
        }
    }
}

/// What `?kind=`, `?mission_id=`, `?from=` and `?to=` ask for, and how this reads in a cursor.
pub(super) fn filter(query: &mut Query, wallet: WalletId, kinds: &[&str]) -> Result<(OpFilter, String), Problem> {
    let mut wanted = query.many("kind");
    if wanted.iter().any(|kind| !kinds.contains(&kind.as_str())) {
        return Err(Problem::parameter("kind", &format!("must be of {}", kinds.join(", "))));
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mission = query.one("mission_id")?.map(|text| parse_id(&text)).transpose()?;
    let (from, to) = (query.time("from")?, query.time("to")?);
    let list = format!("{wallet}?kind={}&mission={mission:?}&from={from:?}&to={to:?}", wanted.join(","));
    Ok((OpFilter { kinds: wanted, mission, from, to, ..OpFilter::of(wallet, 0) }, list))
}

const CSV_HEAD: [&str; 12] = [
    "id",
    "created_at",
    "kind",
    "key",
    "from",
    "to",
    "amount",
    "available_after",
    "mission_id",
    "task_id",
    "actor",
    "reason",
];

/// A line for each leg.
fn csv_lines(view: &EntryView) -> Vec<Vec<Cell>> {
    let line = |Leg(from, to, amount): Leg| {
        vec![
            Cell::own(view.id),
            Cell::own(rfc3339(view.created_at)),
            Cell::own(&view.kind),
            Cell::words(Some(&view.key)),
            Cell::own(from),
            Cell::own(to),
            Cell::own(amount),
            Cell::own(view.available_after_ucr),
            Cell::maybe(view.mission_id),
            Cell::maybe(view.task_id),
            Cell::words(view.actor.as_deref()),
            Cell::words(view.reason.as_deref()),
        ]
    };
    legs(view).into_iter().map(line).collect()
}

/// List ledger entries
///
/// Newest first. Every movement of credits, for ever. As CSV with `Accept: text/csv` or `?format=csv`: all of them in
/// one file, a line for each leg, without `cursor` and `limit`.
#[utoipa::path(
    get, path = "/v1/wallet/entries", operation_id = "wallet.entries", tag = "wallet",
    params(
        ("kind" = Option<Vec<String>>, Query, description = "Only of these kinds; repeated or separated by commas"),
        ("mission_id" = Option<ShownMission>, Query, description = "Only of this mission"),
        ("from" = Option<String>, Query, description = "Only posted at or after: RFC 3339, or a date"),
        ("to" = Option<String>, Query, description = "Only posted before: RFC 3339, or a date"),
        ("format" = Option<String>, Query, description = "`json` or `csv`; goes over `Accept`"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "A page, or a file", content(
        (Page<Entry> = "application/json"), (String = "text/csv"),
    ))),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    mut query: Query,
    headers: HeaderMap,
) -> Result<Response<Body>, Problem> {
    let wallet = wallet_of(&site, &caller).await?;
    let (filter, list) = filter(&mut query, wallet.id, &KINDS)?;
    let list = format!("entries/{list}");
    if query.wants_csv(&headers)? {
        query.done()?;
        let filter = OpFilter { limit: CSV_PAGE, ..filter };
        let first = site.store().ops(&filter).await?;
        let behind = move |last: &EntryView| {
            let (store, filter) = (site.store().clone(), OpFilter { before: Some(last.id), ..filter.clone() });
            async move { store.ops(&filter).await }
        };
        return Ok(csv::file("entries", &CSV_HEAD, first, behind, csv_lines));
    }
    let before = position(query.cursor(&list)?)?;
    let limit = query.limit()?;
    query.done()?;
    let rows = site.store().ops(&OpFilter { before, limit: limit + 1, ..filter }).await?;
    let page = Page::cut(rows, limit, &list, |row| row.id.to_string(), Entry::from);
    Ok(json(StatusCode::OK, &page))
}
