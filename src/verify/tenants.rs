//! Ledger and usage beside each other, tenant by tenant: what was charged, what it was charged for, and the auditor's own
//! findings about charges and holds (I9, I12) with the tenants whose they are.

use std::sync::Arc;
use std::time::Duration;

use bursar_domain::credits::Ucr;
use serde::Deserialize;

use super::{MOST_PER_CHECK, charges, work};
use crate::store::{Arg, Store, StoreError};

/// Tenants whose sums are told, those that differ first.
pub const MOST_TENANTS: usize = 100;

/// What a tenant was charged, and for what. All of it is about tasks that are over and runs that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TenantMoney {
    /// The tenant.
    pub tenant: String,
    /// What operations of the ledger charged for its tasks.
    pub charged_ucr: Ucr,
    /// What billable calls of its tasks cost.
    pub calls_ucr: Ucr,
    /// What the units of its tasks cost.
    pub units_ucr: Ucr,
    /// What the platform bears of that, where the wallet's policy says so.
    pub absorbed_ucr: Ucr,
    /// What operations of the ledger charged as flat fees.
    pub fees_ucr: Ucr,
    /// The fees of its runs that succeeded.
    pub earned_ucr: Ucr,
    /// How many tenants there are.
    #[serde(default)]
    tenants: i64,
}

impl TenantMoney {
    /// What was charged beyond what was used; negative is what was used and not charged.
    pub fn unexplained_ucr(&self) -> Ucr {
        let used = self.calls_ucr.get().saturating_add(self.units_ucr.get()).saturating_sub(self.absorbed_ucr.get());
        let usage = self.charged_ucr.get().saturating_sub(used);
        Ucr::new(usage.saturating_add(self.fees_ucr.get().saturating_sub(self.earned_ucr.get())))
    }
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantFinding {
    /// Whose it is, where that can be said.
    pub tenant: Option<String>,
    /// Which invariant is broken, `I9` or `I12`.
    pub invariant: &'static str,
    /// One sentence that names the rows and the figures; amounts are in micro-credits.
    pub what: String,
}

/// The money of all tenants at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByTenant {
    /// Sums, at most [`MOST_TENANTS`] rows.
    pub tenants: Vec<TenantMoney>,
    /// How many tenants there are.
    pub total: i64,
    /// What differs, by id. Empty is what must be.
    pub findings: Vec<TenantFinding>,
    /// Whether some check found more than a hundred.
    pub truncated: bool,
}

/// What the auditor looks for here, all of which name a `tenant` beside `what`.
const CHECKS: [(&str, &str); 5] = [
    ("I9", charges::TASKS),
    ("I9", charges::RUNS),
    ("I9", charges::STRAYS),
    ("I12", work::HOLDS_WITHOUT_OWNER),
    ("I12", work::TASKS_WITHOUT_HOLD),
];

/// Sums by tenant. A task counts once it is over: before that it may have been charged in parts.
const SUMS: &str = "
    , settled as materialized (
      select t.tenant_id, coalesce(c.usage_ucr, 0) as charged_ucr, coalesce(b.cost_ucr, 0) as calls_ucr, t.units_ucr,
        case when coalesce(o.was_absorbed, 0) = 1 and coalesce(c.usage_ucr, 0) < t.units_ucr + coalesce(b.cost_ucr, 0)
          then t.units_ucr + coalesce(b.cost_ucr, 0) - coalesce(c.usage_ucr, 0) else 0 end as absorbed_ucr
      from tasks t
      left join task_charges c on c.task_id = t.id
      left join bought b on b.task_id = t.id
      left join odd o on o.task_id = t.id
      where t.ended_at is not null
    ),
    sums as materialized (
      select tenant_id, sum(charged_ucr) as charged, sum(calls_ucr) as calls, sum(units_ucr) as units,
        sum(absorbed_ucr) as absorbed
      from settled
      group by tenant_id
    ),
    earnings as materialized (
      select r.tenant_id, sum(coalesce(f.fee_ucr, 0)) as fees,
        sum(case when r.state = 'succeeded' then r.fee_ucr else 0 end) as earned
      from runs r
      left join fees f on f.run_id = r.id
      group by r.tenant_id
    )
    select n.id as tenant,
      cast(coalesce(s.charged, 0) as bigint) as charged_ucr,
      cast(coalesce(s.calls, 0) as bigint) as calls_ucr,
      cast(coalesce(s.units, 0) as bigint) as units_ucr,
      cast(coalesce(s.absorbed, 0) as bigint) as absorbed_ucr,
      cast(coalesce(e.fees, 0) as bigint) as fees_ucr,
      cast(coalesce(e.earned, 0) as bigint) as earned_ucr,
      count(*) over () as tenants
    from tenants n
    left join sums s on s.tenant_id = n.id
    left join earnings e on e.tenant_id = n.id
    order by
      case when coalesce(s.charged, 0) = coalesce(s.calls, 0) + coalesce(s.units, 0) - coalesce(s.absorbed, 0)
        and coalesce(e.fees, 0) = coalesce(e.earned, 0) then 1 else 0 end,
      n.id
    limit $1";

/// All checks in one statement: rows are `part`, `tenant` and `what`.
fn checks() -> String {
    let limit = MOST_PER_CHECK.saturating_add(1);
    let parts = CHECKS.iter().enumerate().map(|(index, (_, sql))| {
        // a limit on the query itself would make Postgres plan for the first rows, of which there are none
        let found = format!("with found as materialized ({sql}) select tenant, what from found limit {limit}");
        format!("select {index} as part, q.tenant as tenant, q.what as what from ({found}) q")
    });
    format!("{}{}", charges::CHARGES, parts.collect::<Vec<_>>().join(" union all "))
}

/// Compares ledger and usage, all at one moment of the store: nothing that is under way can look like a difference.
///
/// Refused when it takes longer than `within`.
pub async fn by_tenant(store: &Arc<dyn Store>, within: Duration) -> Result<ByTenant, StoreError> {
    let (sums, checks) = (format!("{}{SUMS}", charges::CHARGES), checks());
    let most = [Arg::from(i64::try_from(MOST_TENANTS).unwrap_or(i64::MAX))];
    let answers = store.snapshot_rows(&[(&sums, &most), (&checks, &[])], within).await?;
    let mut answers = answers.into_iter();
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(error.to_string());
    let rows = answers.next().unwrap_or_default();
    let tenants: Vec<TenantMoney> =
        rows.into_iter().map(serde_json::from_value).collect::<Result<_, _>>().map_err(corrupt)?;
    let total = tenants.first().map_or(0, |first| first.tenants);
    let mut found = ByTenant { tenants, total, ..ByTenant::default() };
    let mut counts = [0_usize; CHECKS.len()];
    for row in answers.next().unwrap_or_default() {
        let index = row["part"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(usize::MAX);
        let Some(((invariant, _), count)) = CHECKS.get(index).zip(counts.get_mut(index)) else {
            return Err(StoreError::Corrupt(format!("a check answered {row}")));
        };
        *count = count.saturating_add(1);
        if *count > MOST_PER_CHECK {
            found.truncated = true;
            continue;
        }
        let what = row["what"].as_str().unwrap_or("a row that can't be described").to_owned();
        found.findings.push(TenantFinding { tenant: row["tenant"].as_str().map(str::to_owned), invariant, what });
    }
    Ok(found)
}
