//! The wallet on one page: what it has, what it may spend, what was spent, and what to look at.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::WalletKind;
use bursar_domain::record;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::alerts::{Alert, alerts};
use super::auth::Caller;
use super::conditional::json;
use super::params::{PathId, Query};
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownTenant, ShownWallet, Time};
use super::wallet::wallet_of;
use crate::store::read::WalletView;

/// What a wallet may spend; null is no limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WalletLimits {
    /// In a UTC day.
    day: Option<Amount>,
    /// In a UTC month.
    month: Option<Amount>,
    /// On one mission, whatever its own budget says.
    mission: Option<Amount>,
}

/// What was charged; refunds are not subtracted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WalletSpent {
    /// In this UTC day.
    day: Amount,
    /// In this UTC month.
    month: Amount,
}

/// What happens with a charge beyond a hold.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OverrunPolicy {
    /// Other grants pay it, then it is owed.
    Debt,
    /// The platform pays it.
    Absorb,
}

/// Whether attempts that failed are charged.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChargeFailedPolicy {
    /// Never.
    Never,
    /// When the step itself was at fault, not the infrastructure.
    Fault,
    /// Always.
    Always,
}

/// How a wallet is charged in odd cases.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WalletPolicies {
    /// A charge beyond a hold.
    overrun: OverrunPolicy,
    /// Attempts that failed.
    charge_failed: ChargeFailedPolicy,
}

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
    /// What it may spend.
    limits: WalletLimits,
    /// What was charged against the limits.
    spent: WalletSpent,
    /// How it is charged in odd cases.
    policies: WalletPolicies,
    /// What to look at: limits of which 80 % are used, credits that run out.
    alerts: Vec<Alert>,
    /// When it was made.
    created_at: Time,
}

impl From<WalletView> for Wallet {
    fn from(view: WalletView) -> Self {
        let overrun = match view.overrun {
            record::Overrun::Debt => OverrunPolicy::Debt,
            record::Overrun::Absorb => OverrunPolicy::Absorb,
        };
        let charge_failed = match view.charge_failed {
            record::ChargeFailed::Never => ChargeFailedPolicy::Never,
            record::ChargeFailed::Fault => ChargeFailedPolicy::Fault,
            record::ChargeFailed::Always => ChargeFailedPolicy::Always,
        };
        Self {
            alerts: alerts(&view),
            id: view.id.into(),
            tenant_id: view.tenant_id.into(),
            available: view.available_ucr.into(),
            held: view.held_ucr.into(),
            debt: view.debt_ucr.into(),
            frozen: view.frozen,
            limits: WalletLimits {
                day: view.day_limit_ucr.map(Amount),
                month: view.month_limit_ucr.map(Amount),
                mission: view.mission_limit_ucr.map(Amount),
            },
            spent: WalletSpent { day: view.day_spent_ucr.into(), month: view.month_spent_ucr.into() },
            policies: WalletPolicies { overrun, charge_failed },
            created_at: view.created_at.into(),
        }
    }
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

/// Read a wallet by its id
///
/// One of the tenant's own; any other is not found.
#[utoipa::path(
    get, path = "/v1/wallets/{id}", operation_id = "wallets.get", tag = "wallet",
    params(("id" = String, Path, description = "The wallet")),
    responses((status = 200, description = "Its credits", body = Wallet)),
)]
pub(super) async fn by_id(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<WalletKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    let view = site.store().wallet(Some(caller.tenant_id), id, site.engine().clock().now()).await?;
    let view = view.ok_or_else(|| Problem::not_found("wallet"))?;
    Ok(json(StatusCode::OK, &Wallet::from(view)))
}

/// The caller's wallet as the answer.
pub(super) async fn show(site: &Site, caller: &Caller) -> Result<Response<Body>, Problem> {
    let view = wallet_of(site, caller).await?;
    Ok(json(StatusCode::OK, &Wallet::from(view)))
}
