//! A tenant's credits: the wallet, its ledger, what is held, what was granted. Admins grant.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use bursar_domain::credits::Ucr;
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::{GrantKind, Leg};
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
use super::types::{Amount, ShownGrant, ShownHold, ShownMission, ShownOp, ShownTask, ShownTenant, ShownWallet, Time};
use crate::clock::{new_id, parse_rfc3339};
use crate::store::StoreError;
use crate::store::read::{EntryView, GrantView, HoldView, WalletView};

/// Where a grant stands in the order of spending, unless the admin says otherwise.
const DEFAULT_PRIORITY: i64 = 50;

/// A tenant's credits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Wallet {
    /// Its id.
    id: ShownWallet,
    /// Its owner.
    tenant_id: ShownTenant,
    /// What can be held or spent now.
    available: Amount,
    /// What open holds have reserved.
    held: Amount,
    /// What was used beyond all credits; the next grant repays it first.
    debt: Amount,
    /// Whether it makes no new holds.
    frozen: bool,
    /// When it was made.
    created_at: Time,
}

/// One movement of credits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryLeg {
    /// The account that the credits leave, e.g. `grant:grt_…`, `hold:hld_…`, `issue`.
    from: String,
    /// The account that receives them, e.g. `usage`, `fee`, `debt`, `breakage`, `writeoff`, `adjust`.
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

impl From<EntryView> for Entry {
    fn from(view: EntryView) -> Self {
        let legs: Vec<Leg> = serde_json::from_value(view.legs).unwrap_or_default();
        let legs = legs.into_iter().map(|Leg(from, to, amount)| EntryLeg {
            from: from.to_string(),
            to: to.to_string(),
            amount: amount.into(),
        });
        Self {
            id: view.id.into(),
            kind: view.kind,
            key: view.key,
            legs: legs.collect(),
            mission_id: view.mission_id.map(Into::into),
            task_id: view.task_id.map(Into::into),
            actor: view.actor,
            reason: view.reason,
            available_after: view.available_after_ucr.into(),
            created_at: view.created_at.into(),
        }
    }
}

/// Credits reserved for one owner.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Hold {
    /// Its id.
    id: ShownHold,
    /// `task` or `fee`.
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

async fn wallet_of(site: &Site, caller: &Caller) -> Result<WalletView, Problem> {
    let now = site.engine().clock().now();
    site.store().wallet_of(caller.tenant_id, now).await?.ok_or_else(|| Problem::not_found("wallet"))
}

/// Read the wallet
#[utoipa::path(
    get, path = "/v1/wallet", operation_id = "wallet.get", tag = "wallet",
    responses((status = 200, description = "The tenant's credits", body = Wallet)),
)]
pub(super) async fn get(State(site): State<Site>, caller: Caller, query: Query) -> Result<Response<Body>, Problem> {
    query.done()?;
    show(&site, &caller).await
}

/// The caller's wallet as the answer.
pub(super) async fn show(site: &Site, caller: &Caller) -> Result<Response<Body>, Problem> {
    let view = wallet_of(site, caller).await?;
    let wallet = Wallet {
        id: view.id.into(),
        tenant_id: view.tenant_id.into(),
        available: view.available_ucr.into(),
        held: view.held_ucr.into(),
        debt: view.debt_ucr.into(),
        frozen: view.frozen,
        created_at: view.created_at.into(),
    };
    Ok(json(StatusCode::OK, &wallet))
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
    /// List ledger entries
    ///
    /// Newest first. Every movement of credits, for ever.
    entries, "/v1/wallet/entries", "wallet.entries", Entry, entries
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
