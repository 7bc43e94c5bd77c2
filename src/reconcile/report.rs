//! What a reconciliation found, as values, as text for people and as JSON for programs, with what to do about it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bursar_domain::credits::Ucr;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MONEY_WITHIN, MOST_COMPARED, MOST_NAMED, QUEUE_WITHIN};
use crate::verify::{ByTenant, MOST_TENANTS, TenantMoney};

/// Queue beside store, ledger beside usage.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reconciliation {
    /// Whether nothing differs and everything was looked at.
    pub agrees: bool,
    /// The same in words, with what to do.
    pub verdict: String,
    /// The queue beside the store. Missing where there is no queue to be asked from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueuePart>,
    /// The ledger beside usage. Missing where the time did not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<MoneyPart>,
    /// What could not be looked at, and why.
    pub missed: Vec<String>,
    /// How far the report looks.
    pub bounds: Bounds,
}

/// How far a report looks.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Bounds {
    /// Ids of each kind that are compared per pool.
    pub compared: usize,
    /// Ids of each kind that are named.
    pub named: usize,
    /// Tenants of which the sums are told, those that differ first.
    pub tenants: usize,
    /// How long the queue may take for one pool.
    pub queue_ms: u64,
    /// How long ledger and usage may take.
    pub money_ms: u64,
}

/// The queue beside the store.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QueuePart {
    /// `redis` or `memory`.
    pub kind: &'static str,
    /// Every pool with something in it, by name.
    pub pools: Vec<PoolComparison>,
}

/// Ids of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    /// How many there are among those compared.
    pub count: usize,
    /// Some of them.
    pub ids: Vec<String>,
}

impl Sample {
    pub(super) fn of(ids: BTreeSet<String>) -> Self {
        Self { count: ids.len(), ids: ids.into_iter().take(MOST_NAMED).collect() }
    }
}

/// One pool in the queue and in the store.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PoolComparison {
    /// Its name.
    pub pool: String,
    /// Ready in the store.
    pub ready: i64,
    /// Waiting in the queue.
    pub waiting: u64,
    /// Popped from the queue, and not confirmed yet.
    pub popped: u64,
    /// Whether the queue's epoch stands: something was pushed since it was last emptied.
    pub epoch_stands: bool,
    /// Live leases in the store, those that were compared.
    pub leases: u64,
    /// What the queue counts as running.
    pub running: u64,
    /// Whether all ids were compared, not only the first ones.
    pub compared_all: bool,
    /// Whether something is ready and the queue was emptied.
    pub was_emptied: bool,
    /// Known to the queue and not ready (any more).
    pub stale: Sample,
    /// Ready, and not known to the queue.
    pub unknown: Sample,
    /// Counted as running without a lease. A matter of order only.
    pub running_without_lease: Sample,
    /// Under a lease, and not counted as running. A matter of order only.
    pub leases_uncounted: Sample,
    /// What follows from it.
    pub advice: Vec<String>,
}

impl PoolComparison {
    /// Whether something is where it does not belong, or is not where it does. Who is counted as running is a hint for
    /// the order of tenants and no difference.
    pub fn differs(&self) -> bool {
        self.was_emptied || self.stale.count > 0 || self.unknown.count > 0
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        let counts = [self.waiting, self.popped, self.leases, self.running];
        self.ready == 0 && counts == [0; 4] && !self.differs()
    }

    pub(super) fn with_advice(mut self) -> Self {
        if self.was_emptied {
            self.advice.push("the queue was emptied or is new: the sweep fills it within a second".to_owned());
        }
        if self.unknown.count > 0 {
            self.advice.push(format!(
                "{} ready and not in the queue: the sweep brings these back within a second; if they stay, see with \
                 `bursar doctor` whether a server or worker runs that reaches both",
                tasks(self.unknown.count)
            ));
        }
        if self.stale.count > 0 {
            self.advice.push(format!(
                "{} in the queue and not ready: workers throw these away when their turn comes, each costs a claim that \
                 finds nothing; if they stay, no worker listens to the pool",
                tasks(self.stale.count)
            ));
        }
        let order = self.running_without_lease.count.saturating_add(self.leases_uncounted.count);
        if order > 0 {
            self.advice.push(format!(
                "{} counted as running by one side only: only the order of tenants depends on it, and it ends with the \
                 leases",
                tasks(order)
            ));
        }
        self
    }
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 task is".to_owned() } else { format!("{count} tasks are") }
}

/// The ledger beside usage, at one moment.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MoneyPart {
    /// Sums by tenant, those that differ first.
    pub tenants: Vec<TenantComparison>,
    /// How many tenants there are.
    pub tenants_total: i64,
    /// What differs, by id.
    pub differences: Vec<MoneyDifference>,
    /// Whether there are more differences than are told.
    pub truncated: bool,
}

/// What a tenant was charged, and for what: tasks that are over and runs that succeeded. Credits.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TenantComparison {
    /// The tenant.
    pub tenant_id: String,
    /// Charged by the ledger for tasks.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub charged: Ucr,
    /// Cost of billable calls.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub calls: Ucr,
    /// Cost of units.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub units: Ucr,
    /// What the platform bears of that by the wallet's policy.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub absorbed: Ucr,
    /// Charged by the ledger as fees.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub fees: Ucr,
    /// Fees of runs that succeeded.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub fees_earned: Ucr,
    /// What was charged beyond what was used; below zero is used and not charged.
    #[serde(serialize_with = "credits")]
    #[schema(value_type = String)]
    pub unexplained: Ucr,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn credits<S: serde::Serializer>(amount: &Ucr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

impl From<TenantMoney> for TenantComparison {
    fn from(money: TenantMoney) -> Self {
        Self {
            unexplained: money.unexplained_ucr(),
            tenant_id: money.tenant,
            charged: money.charged_ucr,
            calls: money.calls_ucr,
            units: money.units_ucr,
            absorbed: money.absorbed_ucr,
            fees: money.fees_ucr,
            fees_earned: money.earned_ucr,
        }
    }
}

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct MoneyDifference {
    /// Whose it is, where that can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The invariant of `bursar verify` that is broken.
    pub invariant: &'static str,
    /// One sentence that names the rows; amounts are in micro-credits.
    pub what: String,
}

impl MoneyPart {
    pub(super) fn of(found: ByTenant) -> Self {
        let difference = |one: crate::verify::TenantFinding| MoneyDifference {
            tenant_id: one.tenant,
            invariant: one.invariant,
            what: one.what,
        };
        Self {
            tenants: found.tenants.into_iter().map(TenantComparison::from).collect(),
            tenants_total: found.total,
            differences: found.findings.into_iter().map(difference).collect(),
            truncated: found.truncated,
        }
    }

    /// Whether something differs.
    pub fn differs(&self) -> bool {
        !self.differences.is_empty() || self.tenants.iter().any(|tenant| tenant.unexplained != Ucr::ZERO)
    }
}

impl Reconciliation {
    pub(super) fn of(queue: Option<QueuePart>, money: Option<MoneyPart>, missed: Vec<String>) -> Self {
        let queue_differs = queue.iter().flat_map(|queue| &queue.pools).any(PoolComparison::differs);
        let money_differs = money.as_ref().is_some_and(MoneyPart::differs);
        let mut words = Vec::new();
        if queue_differs {
            words.push("queue and store differ: no work is lost, the store has all of it; see the advice by pool");
        }
        if money_differs {
            words.push("ledger and usage differ: run `bursar verify`, which names everything that does not add up, and correct nothing by hand before");
        }
        if !missed.is_empty() {
            words.push("not everything could be looked at");
        }
        if words.is_empty() {
            words.push(match queue {
                Some(_) => "queue and store agree, ledger and usage agree",
                None => "ledger and usage agree; no queue was asked",
            });
        }
        Self {
            agrees: !queue_differs && !money_differs && missed.is_empty(),
            verdict: words.join("; "),
            queue,
            money,
            missed,
            bounds: Bounds {
                compared: MOST_COMPARED,
                named: MOST_NAMED,
                tenants: MOST_TENANTS,
                queue_ms: u64::try_from(QUEUE_WITHIN.as_millis()).unwrap_or(u64::MAX),
                money_ms: u64::try_from(MONEY_WITHIN.as_millis()).unwrap_or(u64::MAX),
            },
        }
    }

    /// What differs, a sentence each, without what only the order of tenants depends on.
    pub fn differences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pool in self.queue.iter().flat_map(|queue| &queue.pools) {
            let name = &pool.pool;
            if pool.was_emptied {
                found.push(format!("pool {name}: the queue was emptied while {} are ready", pool.ready));
            }
            let mut tell = |sample: &Sample, what: &str| {
                found.extend(sample.ids.iter().map(|id| format!("pool {name}: {id} {what}")));
                let more = sample.count.saturating_sub(sample.ids.len());
                if more > 0 {
                    found.push(format!("pool {name}: {more} more {what}"));
                }
            };
            tell(&pool.unknown, "is ready, and the queue does not know it");
            tell(&pool.stale, "is in the queue, and not ready");
        }
        if let Some(money) = &self.money {
            for tenant in money.tenants.iter().filter(|tenant| tenant.unexplained != Ucr::ZERO) {
                found.push(format!(
                    "tenant {}: charged {} and {} of fees; used {} in calls and {} in units less {} absorbed, fees earned {}",
                    tenant.tenant_id, tenant.charged, tenant.fees, tenant.calls, tenant.units, tenant.absorbed,
                    tenant.fees_earned
                ));
            }
            found.extend(money.differences.iter().map(|one| format!("{} {}", one.invariant, one.what)));
        }
        found
    }

    /// Lines for a terminal, the last without its end.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for pool in self.queue.iter().flat_map(|queue| &queue.pools) {
            let _ = writeln!(
                text,
                "pool {}: {} ready, {} in the queue, {} popped, {} leases, {} counted as running{}{}",
                pool.pool,
                pool.ready,
                pool.waiting,
                pool.popped,
                pool.leases,
                pool.running,
                if pool.epoch_stands { "" } else { ", no epoch" },
                if pool.compared_all { "" } else { "; only the first ones were compared" },
            );
        }
        if let Some(money) = &self.money {
            for tenant in &money.tenants {
                let _ = writeln!(
                    text,
                    "tenant {}: charged {} for calls {} and units {}, fees {}",
                    tenant.tenant_id, tenant.charged, tenant.calls, tenant.units, tenant.fees
                );
            }
            let told = i64::try_from(money.tenants.len()).unwrap_or(i64::MAX);
            if money.tenants_total > told {
                let _ = writeln!(text, "… and {} tenants more, which agree", money.tenants_total.saturating_sub(told));
            }
        }
        for difference in self.differences() {
            let _ = writeln!(text, "DIFFERS  {difference}");
        }
        for missed in &self.missed {
            let _ = writeln!(text, "MISSED   {missed}");
        }
        let advice = self.queue.iter().flat_map(|queue| &queue.pools).flat_map(|pool| &pool.advice);
        for advice in advice {
            let _ = writeln!(text, "{advice}");
        }
        text + &self.verdict
    }
}
