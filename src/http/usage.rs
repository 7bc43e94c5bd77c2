//! What was used and who paid for it: a wallet's calls by day, model, workflow or tag, and one mission's.

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use bursar_domain::id::MissionKind;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::conditional::json;
use super::limits::{MAX_USAGE_DAYS, MAX_USAGE_GROUPS};
use super::missions::one::find;
use super::params::{PathId, Query, cursor};
use super::problem::Problem;
use super::state::Site;
use super::types::{Amount, ShownMission, ShownWallet, Time};
use super::wallet::wallet_of;
use crate::calendar::Month;
use crate::store::read::{UsageBy, UsageFilter, UsageView};

const MS_PER_DAY: i64 = 86_400_000;

/// What calls used and cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageSums {
    /// Calls, whatever became of them.
    calls: i64,
    /// Of these, with usage that we estimated because the provider reported none.
    estimated_calls: i64,
    /// All tokens sent.
    input_tokens: i64,
    /// Of these, read from the provider's cache.
    cache_read_tokens: i64,
    /// Of these, written to the provider's cache.
    cache_write_tokens: i64,
    /// All tokens produced.
    output_tokens: i64,
    /// Of these, spent on reasoning.
    reasoning_tokens: i64,
    /// What the calls that were charged cost. Flat fees and priced units are no calls.
    billed: Amount,
    /// What the calls that the platform paid for cost: of attempts that were not charged.
    unbilled: Amount,
    /// What calls cost of which this is not decided yet: their tasks have not ended.
    pending: Amount,
}

impl From<&UsageView> for UsageSums {
    fn from(view: &UsageView) -> Self {
        Self {
            calls: view.calls,
            estimated_calls: view.estimated_calls,
            input_tokens: view.input_tokens,
            cache_read_tokens: view.cache_read_tokens,
            cache_write_tokens: view.cache_write_tokens,
            output_tokens: view.output_tokens,
            reasoning_tokens: view.reasoning_tokens,
            billed: view.billed_ucr.into(),
            unbilled: view.unbilled_ucr.into(),
            pending: view.pending_ucr.into(),
        }
    }
}

/// What the calls of one group used and cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageGroup {
    /// The day (`yyyy-mm-dd`), `provider/model`, the workflow's name, the tag or the node; null for calls without a tag.
    group: Option<String>,
    /// Its sums.
    #[serde(flatten)]
    sums: UsageSums,
}

impl UsageGroup {
    fn of(view: &UsageView, by: UsageBy) -> Self {
        Self { group: view.name(by), sums: view.into() }
    }
}

/// By what usage is summed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GroupBy {
    /// The UTC day of the call.
    Day,
    /// The provider and model.
    Model,
    /// The workflow's name.
    Workflow,
    /// Each tag of the mission: a call counts once under each of them.
    Tag,
}

impl From<UsageBy> for GroupBy {
    fn from(by: UsageBy) -> Self {
        match by {
            UsageBy::Day => Self::Day,
            UsageBy::Model => Self::Model,
            UsageBy::Workflow => Self::Workflow,
            UsageBy::Tag => Self::Tag,
        }
    }
}

/// A report of usage.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsageReport {
    /// Whose.
    wallet_id: ShownWallet,
    /// By what it is summed.
    group_by: GroupBy,
    /// Calls recorded at or after.
    from: Time,
    /// Calls recorded before.
    to: Time,
    /// All calls of the period, each once, whatever page this is.
    total: UsageSums,
    /// The groups, in the order of their names.
    data: Vec<UsageGroup>,
    /// Whether there are more.
    has_more: bool,
    /// Continues the report with the same parameters.
    next_cursor: Option<String>,
}

/// Read usage
///
/// Sums over all calls to models in a period, this UTC month unless `from` and `to` say otherwise.
#[utoipa::path(
    get, path = "/v1/wallet/usage", operation_id = "wallet.usage", tag = "wallet",
    params(
        ("group_by" = Option<GroupBy>, Query, description = "`day` where left out"),
        ("from" = Option<String>, Query, description = "RFC 3339, or a date; the first of the month where left out"),
        ("to" = Option<String>, Query, description = "RFC 3339, or a date, which does not belong to the period; now where left out"),
        ("cursor" = Option<String>, Query, description = "next_cursor of the previous page"),
        ("limit" = Option<u32>, Query, description = "Groups per page, 20 by default", minimum = 1, maximum = 100),
    ),
    responses((status = 200, description = "The report", body = UsageReport)),
)]
pub(super) async fn get(State(site): State<Site>, caller: Caller, mut query: Query) -> Result<Response<Body>, Problem> {
    let by = match query.one("group_by")? {
        None => UsageBy::Day,
        Some(name) => UsageBy::ALL.into_iter().find(|by| by.as_str() == name).ok_or_else(unknown_group)?,
    };
    let (asked_from, asked_to) = (query.time("from")?, query.time("to")?);
    let list = format!("{}/usage?by={}&from={asked_from:?}&to={asked_to:?}", caller.tenant_id, by.as_str());
    let after = query.cursor(&list)?;
    let limit = query.limit()?;
    query.done()?;
    // a call of this very moment belongs to the period
    let to = asked_to.unwrap_or_else(|| site.engine().clock().now().plus_ms(1));
    let from = asked_from.unwrap_or_else(|| Month::of(to.plus_ms(-1)).start());
    if from >= to {
        return Err(Problem::parameter("from", "must be before `to`"));
    }
    if to.since_ms(from) > MAX_USAGE_DAYS * MS_PER_DAY {
        return Err(Problem::parameter("from", &format!("the period has at most {MAX_USAGE_DAYS} days")));
    }
    let wallet = wallet_of(&site, &caller).await?;
    let filter = UsageFilter { tenant: caller.tenant_id, wallet: wallet.id, by, from, to, after, limit: limit + 1 };
    let mut groups = site.store().usage(&filter).await?;
    let total = site.store().usage_total(&filter).await?;
    let has_more = groups.len() as i64 > limit;
    groups.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let report = UsageReport {
        wallet_id: wallet.id.into(),
        group_by: by.into(),
        from: from.into(),
        to: to.into(),
        total: (&total).into(),
        next_cursor: groups.last().filter(|_| has_more).map(|last| cursor(&list, &last.group)),
        data: groups.iter().map(|group| UsageGroup::of(group, by)).collect(),
        has_more,
    };
    Ok(json(StatusCode::OK, &report))
}

fn unknown_group() -> Problem {
    Problem::parameter("group_by", "must be day, model, workflow or tag")
}

/// What a mission was charged, over all of its runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MissionCharged {
    /// For calls and priced units.
    usage: Amount,
    /// Of this, for priced units.
    units: Amount,
    /// As flat fees.
    fees: Amount,
    /// Given back afterwards.
    refunded: Amount,
}

/// What a mission used and cost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MissionUsage {
    /// Which.
    mission_id: ShownMission,
    /// What the wallet was charged.
    charged: MissionCharged,
    /// All of its calls.
    total: UsageSums,
    /// By `provider/model`.
    models: Vec<UsageGroup>,
    /// By node.
    nodes: Vec<UsageGroup>,
}

/// Read a mission's usage
///
/// Of all of its runs and attempts, whoever paid.
#[utoipa::path(
    get, path = "/v1/missions/{id}/usage", operation_id = "missions.usage", tag = "missions",
    params(("id" = ShownMission, Path, description = "The mission")),
    responses((status = 200, description = "What it used and cost", body = MissionUsage)),
)]
pub(super) async fn of_mission(
    State(site): State<Site>,
    caller: Caller,
    PathId(id): PathId<MissionKind>,
    query: Query,
) -> Result<Response<Body>, Problem> {
    query.done()?;
    find(&site, &caller, id).await?;
    let store = site.store();
    let charge = store.mission_charge(id).await?;
    let models = store.mission_usage_by_model(id, MAX_USAGE_GROUPS).await?;
    let nodes = store.mission_usage_by_node(id, MAX_USAGE_GROUPS).await?;
    let usage = MissionUsage {
        mission_id: id.into(),
        charged: MissionCharged {
            usage: charge.usage_ucr.into(),
            units: charge.units_ucr.into(),
            fees: charge.fees_ucr.into(),
            refunded: charge.refunded_ucr.into(),
        },
        total: (&store.mission_usage(id).await?).into(),
        models: models.iter().map(|model| UsageGroup::of(model, UsageBy::Model)).collect(),
        nodes: nodes.iter().map(|node| UsageGroup { group: Some(node.group.clone()), sums: node.into() }).collect(),
    };
    Ok(json(StatusCode::OK, &usage))
}
