//! Usage: what calls used and cost, summed by day, model, workflow or tag, and for one mission.
//!
//! Every recorded call counts, whoever paid: `billed` is the tenant's part, `unbilled` the platform's, `pending` that of
//! tasks which have not ended. Flat fees and priced units are no calls; a mission shows them beside.

use bursar_domain::credits::Ucr;
use bursar_domain::id::{MissionId, TenantId, WalletId};
use bursar_domain::time::Timestamp;
use serde::Deserialize;

use super::super::{Dialect, Store, StoreError};
use super::{all, first};
use crate::calendar;

/// By what usage is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// The UTC day of the call.
    Day,
    /// The provider and model.
    Model,
    /// The name of the workflow.
    Workflow,
    /// Each tag of the mission: a call counts once under each, and under none where there is none.
    Tag,
}

impl UsageBy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Day, Self::Model, Self::Workflow, Self::Tag];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Model => "model",
            Self::Workflow => "workflow",
            Self::Tag => "tag",
        }
    }

    /// What a group is called in SQL, and the tables that this needs besides the calls, tasks and missions.
    const fn sql(self, dialect: Dialect) -> (&'static str, &'static str) {
        match (self, dialect) {
            (Self::Day, _) => ("cast(c.created_at / 86400000 as text)", ""),
            (Self::Model, _) => ("c.provider || '/' || c.model", ""),
            (Self::Workflow, _) => {
                ("w.name", "join runs r on r.id = c.run_id join workflows w on w.id = r.workflow_id")
            }
            (Self::Tag, Dialect::Postgres) => {
                ("coalesce(tag.value, '')", "left join json_array_elements_text(m.tags) tag (value) on true")
            }
            (Self::Tag, Dialect::Sqlite) => ("coalesce(tag.value, '')", "left join json_each(m.tags) tag on true"),
        }
    }
}

/// Which calls to sum.
#[derive(Debug, Clone)]
pub struct UsageFilter {
    /// Whose calls.
    pub tenant: TenantId,
    /// Who pays.
    pub wallet: WalletId,
    /// By what.
    pub by: UsageBy,
    /// Calls recorded at or after.
    pub from: Timestamp,
    /// Calls recorded before.
    pub to: Timestamp,
    /// Only groups behind this one (keyset), as [`UsageView::group`] says it.
    pub after: Option<String>,
    /// How many groups at most.
    pub limit: i64,
}

/// What the calls of one group used and cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct UsageView {
    /// The group's key: days since 1970, `provider/model`, a workflow's name, a tag, or nothing.
    pub group: String,
    /// Calls, sent ones included.
    pub calls: i64,
    /// All tokens sent.
    pub input_tokens: i64,
    /// Of these, read from the provider's cache.
    pub cache_read_tokens: i64,
    /// Of these, written to the provider's cache.
    pub cache_write_tokens: i64,
    /// All tokens produced.
    pub output_tokens: i64,
    /// Of these, spent on reasoning.
    pub reasoning_tokens: i64,
    /// What the tenant was charged.
    pub billed_ucr: Ucr,
    /// What the platform paid.
    pub unbilled_ucr: Ucr,
    /// What is not decided yet: the task has not ended.
    pub pending_ucr: Ucr,
    /// Calls whose usage is our own estimate.
    pub estimated_calls: i64,
}

impl UsageView {
    /// What people call the group; `None` for calls without a tag.
    pub fn name(&self, by: UsageBy) -> Option<String> {
        match by {
            UsageBy::Day => Some(calendar::date_of_day(self.group.parse().unwrap_or_default())),
            UsageBy::Model | UsageBy::Workflow | UsageBy::Tag => {
                Some(self.group.clone()).filter(|name| !name.is_empty())
            }
        }
    }
}

/// What a mission was charged, over all of its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct MissionCharge {
    /// For what its tasks used: calls and units.
    pub usage_ucr: Ucr,
    /// Of this, for priced units.
    pub units_ucr: Ucr,
    /// As flat fees.
    pub fees_ucr: Ucr,
    /// Given back afterwards.
    pub refunded_ucr: Ucr,
}

const SUMS: &str = "
  count(*) as calls,
  cast(coalesce(sum(cast(c.usage ->> 'input_tokens' as bigint)), 0) as bigint) as input_tokens,
  cast(coalesce(sum(cast(c.usage ->> 'cache_read_tokens' as bigint)), 0) as bigint) as cache_read_tokens,
  cast(coalesce(sum(cast(c.usage ->> 'cache_write_tokens' as bigint)), 0) as bigint) as cache_write_tokens,
  cast(coalesce(sum(cast(c.usage ->> 'output_tokens' as bigint)), 0) as bigint) as output_tokens,
  cast(coalesce(sum(cast(c.usage ->> 'reasoning_tokens' as bigint)), 0) as bigint) as reasoning_tokens,
  cast(coalesce(sum(case when c.billable then c.cost_ucr else 0 end), 0) as bigint) as billed_ucr,
  cast(coalesce(sum(case when not c.billable and t.ended_at is not null then c.cost_ucr else 0 end), 0) as bigint)
    as unbilled_ucr,
  cast(coalesce(sum(case when not c.billable and t.ended_at is null then c.cost_ucr else 0 end), 0) as bigint)
    as pending_ucr,
  cast(coalesce(sum(case when c.estimated then 1 else 0 end), 0) as bigint) as estimated_calls";

/// A wallet's calls in a period. Parameters: 1 is the tenant, 2 the wallet, 3 and 4 the period.
const CALLS: &str = "
from usage_calls c
join tasks t on t.id = c.task_id
join missions m on m.id = c.mission_id";
const WITHIN: &str = "where c.tenant_id = $1 and m.wallet_id = $2 and c.created_at >= $3 and c.created_at < $4";

/// A mission's calls. Parameter 1 is the mission.
const OF_MISSION: &str = "
from runs r
join tasks t on t.run_id = r.id
join usage_calls c on c.task_id = t.id
where r.mission_id = $1";

impl dyn Store {
    /// What a wallet's calls used and cost, by group.
    pub async fn usage(&self, filter: &UsageFilter) -> Result<Vec<UsageView>, StoreError> {
        let (key, tables) = filter.by.sql(self.dialect());
        let sql = format!(
            "select {key} as \"group\", {SUMS} {CALLS} {tables} {WITHIN} and ($5 is null or {key} > $5)
             group by {key} order by {key} limit $6"
        );
        let args = [
            filter.tenant.into(),
            filter.wallet.into(),
            filter.from.into(),
            filter.to.into(),
            filter.after.clone().into(),
            filter.limit.into(),
        ];
        all(self.rows(&sql, &args).await?)
    }

    /// The same without groups: each call once.
    pub async fn usage_total(&self, filter: &UsageFilter) -> Result<UsageView, StoreError> {
        let sql = format!("select '' as \"group\", {SUMS} {CALLS} {WITHIN}");
        let args = [filter.tenant.into(), filter.wallet.into(), filter.from.into(), filter.to.into()];
        Ok(first(self.rows(&sql, &args).await?)?.unwrap_or_default())
    }

    /// What a mission's calls used and cost, by model, at most `limit` models.
    pub async fn mission_usage_by_model(&self, mission: MissionId, limit: i64) -> Result<Vec<UsageView>, StoreError> {
        let key = UsageBy::Model.sql(self.dialect()).0;
        let sql = format!("select {key} as \"group\", {SUMS} {OF_MISSION} group by {key} order by {key} limit $2");
        all(self.rows(&sql, &[mission.into(), limit.into()]).await?)
    }

    /// The same by node, at most `limit` nodes, in the order of their names.
    pub async fn mission_usage_by_node(&self, mission: MissionId, limit: i64) -> Result<Vec<UsageView>, StoreError> {
        let sql = format!("select t.node as \"group\", {SUMS} {OF_MISSION} group by t.node order by t.node limit $2");
        all(self.rows(&sql, &[mission.into(), limit.into()]).await?)
    }

    /// The same without groups.
    pub async fn mission_usage(&self, mission: MissionId) -> Result<UsageView, StoreError> {
        let sql = format!("select '' as \"group\", {SUMS} {OF_MISSION}");
        Ok(first(self.rows(&sql, &[mission.into()]).await?)?.unwrap_or_default())
    }

    /// What a mission was charged.
    pub async fn mission_charge(&self, mission: MissionId) -> Result<MissionCharge, StoreError> {
        let sql = "
            select
              cast((select coalesce(sum(t.cost_ucr), 0) from runs r join tasks t on t.run_id = r.id
                    where r.mission_id = $1) as bigint) as usage_ucr,
              cast((select coalesce(sum(t.units_ucr), 0) from runs r join tasks t on t.run_id = r.id
                    where r.mission_id = $1) as bigint) as units_ucr,
              cast((select coalesce(sum(h.captured_ucr + h.overrun_ucr), 0) from runs r
                    join holds h on h.id = r.fee_hold_id
                    where r.mission_id = $1) as bigint) as fees_ucr,
              cast((select coalesce(sum(e.amount_ucr), 0) from entries e
                    where e.mission_id = $1 and e.kind = 'refund' and e.source in ('usage', 'fee')) as bigint)
                as refunded_ucr";
        Ok(first(self.rows(sql, &[mission.into()]).await?)?.unwrap_or_default())
    }
}
