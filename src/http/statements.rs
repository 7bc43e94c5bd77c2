//! A wallet's statement for a UTC month: opening, every kind of movement, closing.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::params::{PathText, Query};
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownWallet, Time};
use super::wallet::wallet_of;
use crate::calendar::Month;
use crate::store::read;

/// What a wallet had at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatementBalance {
    /// What grants had left; one whose deadline passed counts until its rest is written off, moments later.
    available: Amount,
    /// What open holds reserved.
    held: Amount,
    /// What was owed.
    debt: Amount,
    /// Available + held − debt.
    total: Amount,
}

impl From<read::Balance> for StatementBalance {
    fn from(balance: read::Balance) -> Self {
        Self {
            available: balance.available_ucr.into(),
            held: balance.held_ucr.into(),
            debt: balance.debt_ucr.into(),
            total: balance.total_ucr.into(),
        }
    }
}

/// A way in which the total changed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MovementKind {
    /// Credits given.
    Granted,
    /// Charges given back.
    Refunded,
    /// Corrected upwards.
    AdjustedUp,
    /// Debt given up.
    WrittenOff,
    /// Charged for what was used.
    Usage,
    /// Charged as flat fees.
    Fees,
    /// Corrected downwards.
    AdjustedDown,
    /// Grants that ran out.
    Expired,
    /// Anything else.
    Other,
}

impl From<read::MovementKind> for MovementKind {
    fn from(kind: read::MovementKind) -> Self {
        match kind {
            read::MovementKind::Granted => Self::Granted,
            read::MovementKind::Refunded => Self::Refunded,
            read::MovementKind::AdjustedUp => Self::AdjustedUp,
            read::MovementKind::WrittenOff => Self::WrittenOff,
            read::MovementKind::Usage => Self::Usage,
            read::MovementKind::Fees => Self::Fees,
            read::MovementKind::AdjustedDown => Self::AdjustedDown,
            read::MovementKind::Expired => Self::Expired,
            read::MovementKind::Other => Self::Other,
        }
    }
}

/// The sum of one kind of movement.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Movement {
    /// Which kind.
    kind: MovementKind,
    /// What came, or went where it is negative.
    amount: Amount,
}

/// A statement: `opening.total` and all movements make `closing.total`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Statement {
    /// Whose.
    wallet_id: ShownWallet,
    /// The month, in UTC.
    #[schema(example = "2026-01", pattern = "^[0-9]{4}-[0-9]{2}$")]
    month: String,
    /// Its first moment.
    from: Time,
    /// The first moment after it.
    to: Time,
    /// Whether the month is over; the statement of a month that is over never changes.
    is_final: bool,
    /// What the wallet had before.
    opening: StatementBalance,
    /// What came and went, of every kind.
    movements: Vec<Movement>,
    /// What the wallet had at the end of the month, or has now.
    closing: StatementBalance,
}

/// Read a month's statement
///
/// Made from the ledger's entries. Holds move nothing in or out: what they reserve is in `held`.
#[utoipa::path(
    get, path = "/v1/wallet/statements/{month}", operation_id = "wallet.statement", tag = "wallet",
    params(("month" = String, Path, description = "The UTC month, `yyyy-mm`", example = "2026-01")),
    responses((status = 200, description = "The statement", body = Statement)),
)]
pub(super) async fn get(
    State(site): State<Site>,
    caller: Caller,
    PathText(month): PathText,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let month = Month::parse(&month).ok_or_else(|| Problem::parameter("month", "must be a month such as 2026-01"))?;
    let now = site.engine().clock().now();
    if month.start() > now {
        return Err(Problem::not_found("statement: the month has not begun"));
    }
    let wallet = wallet_of(&site, &caller).await?;
    let view = site.store().statement(wallet.id, month.start(), month.end()).await?;
    let movements =
        view.movements.into_iter().map(|(kind, amount)| Movement { kind: kind.into(), amount: amount.into() });
    let statement = Statement {
        wallet_id: wallet.id.into(),
        month: month.to_string(),
        from: month.start().into(),
        to: month.end().into(),
        is_final: month.end() <= now,
        opening: view.opening.into(),
        movements: movements.collect(),
        closing: view.closing.into(),
    };
    Ok(json(StatusCode::OK, &statement))
}
