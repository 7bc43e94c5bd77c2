//! What admins do to a wallet: refunds, adjustments, write-offs, top-ups, and its terms (limits, policies, freezing).
//!
//! Each names its wish by a key that is kept for ever and says who did it and why. Nothing here edits the past.

#![allow(
    clippy::option_option,
    reason = "a field that is left out, one that is null and one with a value are three wishes"
)]

use std::str::FromStr;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::id::{HoldId, TaskId, WalletId};
use bursar_domain::ledger::{Correction, GrantRequest, LedgerRefusal, Terms};
use bursar_domain::record::{ChargeFailed, GrantKind, Overrun};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::auth::{Admin, Caller};
use super::balance::{self, Wallet};
use super::conditional::{idempotency_key, json, replayed};
use super::entries::Entry;
use super::json::Json;
use super::limits::MAX_WORDS_BYTES;
use super::missions::submit::{amount, key_reused, no_wallet};
use super::params::Query;
use super::problem::{Code, Problem};
use super::state::Site;
use super::wallet;
use crate::clock::new_id;
use crate::engine::LedgerError;
use crate::store::StoreError;

/// Part of a charge to give back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GiveBack {
    /// The settled hold (`hld_…`), or the task (`tsk_…`) whose charge it is.
    of: String,
    /// How many credits, a decimal string.
    #[schema(example = "1.50", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    amount: String,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// A correction by hand.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Adjust {
    /// How many credits, a signed decimal string: more than zero is given, less is taken.
    #[schema(example = "-2.50", pattern = "^-?[0-9]+(\\.[0-9]{1,6})?$")]
    amount: String,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Debt to give up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GiveUp {
    /// How many credits of debt, a decimal string.
    #[schema(example = "2.50", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    amount: String,
    /// Why.
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// Credits that were paid for elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopUp {
    /// The payment's own id, unique for ever: the same again gives nothing.
    #[schema(min_length = 1, max_length = 255, example = "in_1Q2w3E")]
    external_reference: String,
    /// How many credits, a decimal string.
    #[schema(example = "100.00", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    amount: String,
    /// What was paid for them in USD, a decimal string with at most six places.
    #[serde(default)]
    #[schema(example = "10.00", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    paid_usd: Option<String>,
}

/// The terms to change; what is left out stays, `null` lifts a limit.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeTerms {
    /// A frozen wallet makes no new holds; what runs ends.
    #[serde(default)]
    frozen: Option<bool>,
    /// What happens with a charge beyond a hold: `debt` or `absorb` (the platform pays).
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    overrun: Option<Overrun>,
    /// Whether failed tasks are charged: `never`, `fault` (when the step was at fault) or `always`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    charge_failed: Option<ChargeFailed>,
    /// The most credits in a UTC day.
    #[serde(default, deserialize_with = "given")]
    day_limit: Option<Option<String>>,
    /// The most credits in a UTC month.
    #[serde(default, deserialize_with = "given")]
    month_limit: Option<Option<String>>,
    /// The most credits for one mission.
    #[serde(default, deserialize_with = "given")]
    mission_limit: Option<Option<String>>,
}

/// A field that is there, if only as null.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

async fn wallet_id(site: &Site, caller: &Caller) -> Result<WalletId, Problem> {
    let now = site.engine().clock().now();
    Ok(site.store().wallet_of(caller.tenant_id, now).await?.ok_or_else(no_wallet)?.id)
}

async fn correction(site: &Site, caller: &Caller, headers: &HeaderMap, reason: &str) -> Result<Correction, Problem> {
    let key = idempotency_key(headers)?;
    let key =
        key.ok_or_else(|| Problem::new(Code::IdempotencyKeyRequired, "credits are moved under an Idempotency-Key"))?;
    if reason.trim().is_empty() || reason.len() > MAX_WORDS_BYTES {
        let words = format!("must have 1 to {MAX_WORDS_BYTES} bytes");
        return Err(Problem::invalid("/reason", "invalid", &words));
    }
    Ok(Correction {
        op_id: new_id(),
        grant_id: new_id(),
        wallet_id: wallet_id(site, caller).await?,
        reference: key,
        actor: caller.key_id.to_string(),
        reason: reason.to_owned(),
    })
}

/// The posted operation as the answer, 201; the same again says so.
async fn posted(
    site: &Site,
    correction: &Correction,
    done: Result<bursar_domain::id::OpId, LedgerError>,
) -> Result<Response<Body>, Problem> {
    let id = done.map_err(refused)?;
    let view = site.store().entry(correction.wallet_id, id).await?;
    let view = view.ok_or_else(|| StoreError::Corrupt(format!("operation {id} does not exist")))?;
    let response = json(StatusCode::CREATED, &Entry::from(view));
    Ok(if id == correction.op_id { response } else { replayed(response) })
}

/// What the client is told; nothing was posted.
pub(super) fn refused(error: LedgerError) -> Problem {
    match error {
        LedgerError::Refused(LedgerRefusal::KeyReused(_)) => key_reused(),
        LedgerError::Refused(LedgerRefusal::AmountOverflow) => {
            Problem::invalid("/amount", "out_of_range", "the wallet's balance would be too large")
        }
        LedgerError::Refused(LedgerRefusal::AmountNotPositive(_)) => {
            Problem::invalid("/amount", "out_of_range", "must not be zero")
        }
        LedgerError::Refused(LedgerRefusal::ExpiredAlready) => {
            Problem::invalid("/expires_at", "out_of_range", "must be in the future")
        }
        LedgerError::Refused(LedgerRefusal::UnknownHold(_)) => Problem::not_found("charge"),
        LedgerError::Refused(LedgerRefusal::NotRefundable { charged, wanted }) => {
            Problem::new(Code::IllegalState, format!("{charged} credits of the charge are left, not {wanted}"))
                .credits("refundable", charged)
        }
        LedgerError::Refused(LedgerRefusal::NotOwed { debt, wanted }) => {
            Problem::new(Code::IllegalState, format!("the wallet owes {debt} credits, not {wanted}"))
                .credits("debt", debt)
        }
        LedgerError::Refused(LedgerRefusal::Insufficient { required, available }) => {
            Problem::new(Code::InsufficientCredits, format!("{required} credits are to be taken of {available}"))
                .credits("required", required)
                .credits("available", available)
                .credits("shortfall", required.minus_or_zero(available))
        }
        LedgerError::Refused(refusal) => Problem::new(Code::IllegalState, refusal.to_string()),
        LedgerError::Store(error) => error.into(),
    }
}

/// Refund a charge
///
/// For admins. Gives part of a settled charge back in the reverse of the order in which it was taken; what came from a
/// grant that expired meanwhile becomes a new grant of kind `refund`. The `Idempotency-Key` is kept for ever.
#[utoipa::path(
    post, path = "/v1/wallet/refunds", operation_id = "wallet.refund", tag = "wallet",
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters", max_length = 255)),
    request_body(content = GiveBack, content_type = "application/json"),
    responses((status = 201, description = "The operation", body = Entry, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(super) async fn refund(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<GiveBack>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let correction = correction(&site, &caller, &headers, &body.reason).await?;
    let named = || Problem::invalid("/of", "invalid", "must be a settled hold, hld_…, or a task, tsk_…");
    let hold: HoldId = if let Ok(hold) = body.of.parse() {
        hold
    } else {
        let task: TaskId = body.of.parse().map_err(|_| named())?;
        site.store().hold_of(task).await?.ok_or_else(|| Problem::not_found("charge"))?
    };
    let wanted = amount("/amount", &body.amount)?;
    let done = site.engine().refund(&correction, hold, wanted).await;
    posted(&site, &correction, done).await
}

/// Adjust a balance
///
/// For admins. More than zero becomes a grant of kind `adjust`, less than zero is taken in the order of spending, never
/// more than there is. The `Idempotency-Key` is kept for ever.
#[utoipa::path(
    post, path = "/v1/wallet/adjustments", operation_id = "wallet.adjust", tag = "wallet",
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters", max_length = 255)),
    request_body(content = Adjust, content_type = "application/json"),
    responses((status = 201, description = "The operation", body = Entry, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(super) async fn adjust(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<Adjust>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let words = "must be a signed decimal string other than zero with at most six places, such as \"-2.5\"";
    let wanted = Ucr::from_str(&body.amount).ok().filter(|amount| !amount.is_zero());
    let wanted = wanted.ok_or_else(|| Problem::invalid("/amount", "invalid_amount", words))?;
    let correction = correction(&site, &caller, &headers, &body.reason).await?;
    let done = site.engine().adjust(&correction, wanted).await;
    posted(&site, &correction, done).await
}

/// Write off debt
///
/// For admins: what the wallet owes is given up, all or a part. The `Idempotency-Key` is kept for ever.
#[utoipa::path(
    post, path = "/v1/wallet/write-offs", operation_id = "wallet.write_off", tag = "wallet",
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters", max_length = 255)),
    request_body(content = GiveUp, content_type = "application/json"),
    responses((status = 201, description = "The operation", body = Entry, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(super) async fn write_off(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<GiveUp>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let wanted = amount("/amount", &body.amount)?;
    let correction = correction(&site, &caller, &headers, &body.reason).await?;
    let done = site.engine().write_off(&correction, wanted).await;
    posted(&site, &correction, done).await
}

/// Top a wallet up
///
/// For admins and billing webhooks: credits that were paid for elsewhere, under the payment's own reference, which is
/// kept for ever. The same reference and content again gives nothing and returns the first grant.
#[utoipa::path(
    post, path = "/v1/wallet/top-ups", operation_id = "wallet.top_up", tag = "wallet",
    request_body(content = TopUp, content_type = "application/json"),
    responses((status = 201, description = "The grant", body = wallet::Grant, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(super) async fn top_up(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    Json { body, .. }: Json<TopUp>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let reference = body.external_reference;
    if !(1..=255).contains(&reference.len()) || !reference.bytes().all(|byte| byte.is_ascii_graphic()) {
        let words = "must be 1 to 255 visible ASCII characters";
        return Err(Problem::invalid("/external_reference", "invalid", words));
    }
    // credits and dollars are both counted in millionths
    let paid = body.paid_usd.as_deref().map(|text| amount("/paid_usd", text)).transpose()?;
    let request = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet_id(&site, &caller).await?,
        kind: GrantKind::Paid,
        priority: 50,
        amount: amount("/amount", &body.amount)?,
        expires_at: None,
        reason: None,
        cost_basis_uusd: paid.map(Ucr::get),
        actor: Some(caller.key_id.to_string()),
        reference: format!("topup:{reference}"),
    };
    wallet::granted(&site, &request).await
}

/// Change the terms of the wallet
///
/// For admins: limits, policies, freezing. Holds that were made before stay; whoever waits for room is tried again.
#[utoipa::path(
    patch, path = "/v1/wallet", operation_id = "wallet.change", tag = "wallet",
    request_body(content = ChangeTerms, content_type = "application/json"),
    responses((status = 200, description = "The wallet", body = Wallet)),
)]
pub(super) async fn change(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    Json { body, .. }: Json<ChangeTerms>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let limit = |pointer: &str, given: Option<Option<String>>| -> Result<Option<Option<Ucr>>, Problem> {
        given.map(|limit| limit.map(|text| not_negative(pointer, &text)).transpose()).transpose()
    };
    let terms = Terms {
        frozen: body.frozen,
        overrun: body.overrun,
        charge_failed: body.charge_failed,
        day_limit: limit("/day_limit", body.day_limit)?,
        month_limit: limit("/month_limit", body.month_limit)?,
        mission_limit: limit("/mission_limit", body.mission_limit)?,
    };
    let wallet = wallet_id(&site, &caller).await?;
    site.engine().set_terms(wallet, &terms).await.map_err(refused)?;
    balance::show(&site, &caller).await
}

fn not_negative(pointer: &str, text: &str) -> Result<Ucr, Problem> {
    let words = "must be a decimal string of zero or more with at most six places, or null for no limit";
    let limit = Ucr::from_str(text).ok().filter(|limit| *limit >= Ucr::ZERO);
    limit.ok_or_else(|| Problem::invalid(pointer, "invalid_amount", words))
}
