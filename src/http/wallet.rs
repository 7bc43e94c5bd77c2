//! A tenant's credits: what is held, what was granted. Admins grant. The wallet itself is in `balance`, its ledger in
//! `entries` and `transactions`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Admin, Caller, must_exist};
use super::conditional::{idempotency_key, json, replayed};
use super::corrections::refused;
use super::json::Json;
use super::limits::MAX_WORDS_BYTES;
use super::missions::submit::{amount, no_wallet};
use super::page::Page;
use super::params::{Query, position};
use super::problem::{Code, Problem};
use super::state::Site;
use super::types::{Amount, ShownGrant, ShownHold, ShownMission, Time};
use crate::clock::{new_id, parse_rfc3339};
use crate::store::StoreError;
use crate::store::read::{GrantView, HoldView, WalletView};

/// Where a grant stands in the order of spending, unless the admin says otherwise.
const DEFAULT_PRIORITY: i64 = 50;

/// Credits reserved for one owner.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hold {
    /// Its id.
    id: ShownHold,
    /// `task`, `fee` or `call`.
    owner_kind: String,
    /// The owner's id: a task's, or a run's for its flat fee.
    owner_id: String,
    /// The mission it counts against.
    mission_id: Option<ShownMission>,
    /// What it holds.
    amount: Amount,
    /// The part promised to calls in flight.
    reserved: Amount,
    /// The part that finished calls used.
    used: Amount,
    /// When it was made.
    created_at: Time,
    /// When it closes by itself; only a call's does.
    expires_at: Option<Time>,
}

impl From<HoldView> for Hold {
    fn from(view: HoldView) -> Self {
        Self {
            id: view.id.into(),
            owner_kind: view.owner_kind,
            owner_id: view.owner_id,
            mission_id: view.mission_id.map(Into::into),
            amount: view.amount_ucr.into(),
            reserved: view.reserved_ucr.into(),
            used: view.used_ucr.into(),
            created_at: view.created_at.into(),
            expires_at: view.expires_at.map(Time),
        }
    }
}

/// Credits given.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grant {
    /// Its id.
    id: ShownGrant,
    /// `promo`, `included`, `paid`, `refund` or `adjust`.
    kind: String,
    /// 0 is spent first, 100 last.
    priority: i64,
    /// What was given.
    amount: Amount,
    /// What is left.
    remaining: Amount,
    /// From when it can't be spent.
    expires_at: Option<Time>,
    /// Whether its rest was written off.
    expired: bool,
    /// Why it was given.
    reason: Option<String>,
    /// When it was given.
    created_at: Time,
}

impl From<GrantView> for Grant {
    fn from(view: GrantView) -> Self {
        Self {
            id: view.id.into(),
            kind: view.kind,
            priority: view.priority,
            amount: view.amount_ucr.into(),
            remaining: view.remaining_ucr.into(),
            expires_at: view.expires_at.map(Time),
            expired: view.expired,
            reason: view.reason,
            created_at: view.created_at.into(),
        }
    }
}

/// Where granted credits come from.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantSource {
    /// A gift.
    Promo,
    /// Part of a plan.
    Included,
    /// Bought.
    Paid,
    /// Given back for something charged.
    Refund,
    /// A correction.
    Adjust,
}

impl From<GrantSource> for GrantKind {
    fn from(source: GrantSource) -> Self {
        match source {
            GrantSource::Promo => Self::Promo,
            GrantSource::Included => Self::Included,
            GrantSource::Paid => Self::Paid,
            GrantSource::Refund => Self::Refund,
            GrantSource::Adjust => Self::Adjust,
        }
    }
}

/// Credits to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GiveCredits {
    /// How many, a decimal string.
    #[schema(example = "100.00", pattern = "^[0-9]+(\\.[0-9]{1,6})?$")]
    amount: String,
    /// Where they come from.
    kind: GrantSource,
    /// 0 is spent first, 100 last; 50 where left out.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100)]
    priority: Option<i64>,
    /// From when they can't be spent, RFC 3339.
    #[serde(default)]
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// Why they are given.
    #[serde(default)]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Who receives them; the admin's own tenant, or that of `X-Bursar-Tenant`, where left out.
    #[serde(default)]
    tenant_id: Option<String>,
}

/// The caller's wallet.
pub(super) async fn wallet_of(site: &Site, caller: &Caller) -> Result<WalletView, Problem> {
    let now = site.engine().clock().now();
    site.store().wallet_of(caller.tenant_id, now).await?.ok_or_else(|| Problem::not_found("wallet"))
}

macro_rules! wallet_list {
    ($(#[$doc:meta])* $name:ident, $path:literal, $operation:literal, $row:ident, $read:ident) => {
        $(#[$doc])*
        #[utoipa::path(
            get, path = $path, operation_id = $operation, tag = "wallet",
            params(
                ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
                ("limit" = Option<u32>, Query, description = "Rows per page, 20 by default", minimum = 1, maximum = 100),
            ),
            responses((status = 200, description = "A page", body = Page<$row>)),
        )]
        pub(super) async fn $name(
            State(site): State<Site>,
            caller: Caller,
            mut query: Query,
        ) -> Result<Response<Body>, Problem> {
            let list = format!("{}{}", caller.tenant_id, $path);
            let before = position(query.cursor(&list)?)?;
            let limit = query.limit()?;
            query.done()?;
            let wallet = wallet_of(&site, &caller).await?;
            let rows = site.store().$read(wallet.id, before, limit + 1).await?;
            let page = Page::cut(rows, limit, &list, |row| row.id.to_string(), $row::from);
            Ok(json(StatusCode::OK, &page))
        }
    };
}

wallet_list! {
    /// List open holds
    ///
    /// Newest first: what is reserved now, and for whom.
    holds, "/v1/wallet/holds", "wallet.holds", Hold, open_holds
}
wallet_list! {
    /// List grants
    ///
    /// Newest first.
    grants, "/v1/wallet/grants", "wallet.grants", Grant, grants
}

/// Grant credits
///
/// For admins. Debt is repaid first; whoever waits for credits is tried again. The `Idempotency-Key` is the grant's
/// external reference, kept for ever: the same key and content again gives nothing.
#[utoipa::path(
    post, path = "/v1/wallet/grants", operation_id = "wallet.grant", tag = "wallet",
    params(("Idempotency-Key" = String, Header, description = "1 to 255 visible ASCII characters", max_length = 255)),
    request_body(content = GiveCredits, content_type = "application/json"),
    responses((status = 201, description = "The grant", body = Grant, headers(("Idempotent-Replayed" = Option<String>)))),
)]
pub(super) async fn grant(
    State(site): State<Site>,
    Admin(caller): Admin,
    query: Query,
    headers: HeaderMap,
    Json { body, .. }: Json<GiveCredits>,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let key = idempotency_key(&headers)?;
    let key =
        key.ok_or_else(|| Problem::new(Code::IdempotencyKeyRequired, "credits are given under an Idempotency-Key"))?;
    let request = request(&site, &caller, body, key).await?;
    granted(&site, &request).await
}

/// Gives the credits; the grant as the answer, 201.
pub(super) async fn granted(site: &Site, request: &GrantRequest) -> Result<Response<Body>, Problem> {
    let id = site.engine().grant(request).await.map_err(refused)?;
    let view = site.store().grant(id).await?;
    let view = view.ok_or_else(|| StoreError::Corrupt(format!("grant {id} does not exist")))?;
    let response = json(StatusCode::CREATED, &Grant::from(view));
    Ok(if id == request.id { response } else { replayed(response) })
}

async fn request(site: &Site, caller: &Caller, body: GiveCredits, reference: String) -> Result<GrantRequest, Problem> {
    let amount: Ucr = amount("/amount", &body.amount)?;
    let priority = body.priority.unwrap_or(DEFAULT_PRIORITY);
    let priority = i16::try_from(priority).ok().filter(|priority| (0..=100).contains(priority));
    let priority = priority.ok_or_else(|| Problem::invalid("/priority", "out_of_range", "must be from 0 to 100"))?;
    let not_a_time = || Problem::invalid("/expires_at", "invalid", "must be a time in RFC 3339");
    let expires_at = body.expires_at.map(|text| parse_rfc3339(&text).ok_or_else(not_a_time)).transpose()?;
    if body.reason.as_ref().is_some_and(|reason| reason.len() > MAX_WORDS_BYTES) {
        return Err(Problem::invalid("/reason", "too_long", &format!("must have at most {MAX_WORDS_BYTES} bytes")));
    }
    let mut caller = caller.clone();
    if let Some(text) = body.tenant_id {
        let not_a_tenant = |_| Problem::invalid("/tenant_id", "invalid", "must be the id of a tenant, ten_…");
        caller.tenant_id = text.parse().map_err(not_a_tenant)?;
        must_exist(site, caller.tenant_id).await?;
    }
    let now = site.engine().clock().now();
    let wallet = site.store().wallet_of(caller.tenant_id, now).await?.ok_or_else(no_wallet)?;
    Ok(GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet.id,
        kind: body.kind.into(),
        priority,
        amount,
        expires_at,
        reason: body.reason,
        cost_basis_uusd: None,
        actor: Some(caller.key_id.to_string()),
        reference,
    })
}
