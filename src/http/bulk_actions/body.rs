//! Bulk actions as clients order and see them.

use std::collections::BTreeMap;

use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Plan, PlannedNode};
use bursar_domain::id::TenantId;
use bursar_domain::limits::{MAX_REDRIVES, MAX_REDRIVES_PER_SECOND};
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::missions::estimate::CostSpan;
use super::super::problem::Problem;
use super::super::types::{Amount, ShownBulkAction, ShownKey, ShownMission, ShownTenant, Time};
use crate::engine::{Hindrance, Rehearsal, Rehearsed};
use crate::store::{self, BulkCount, BulkFigures, BulkState};

/// Missions tried again in a second unless the request says otherwise.
pub(in crate::http) const USUAL_PER_SECOND: i64 = 5;

/// What is done to the missions.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum BulkKind {
    /// Dead letters are tried again: each mission goes on in the same run from what failed.
    Redrive,
}

/// A bulk action to order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OrderBulkAction {
    /// What is to be done.
    kind: BulkKind,
    /// The group of dead letters.
    #[schema(example = "0123456789abcdef")]
    fingerprint: String,
    /// Missions tried again in a second; 5 where left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    per_second: Option<i64>,
    /// The most missions; the oldest go first. 10,000 where left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<i64>,
    /// Whether to tell what would happen, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A bulk action to order over the missions of one tenant, or of all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct OrderBulkActionOfAny {
    /// What is to be done.
    kind: BulkKind,
    /// The group of dead letters.
    #[schema(example = "0123456789abcdef")]
    fingerprint: String,
    /// Whose missions; those of all tenants where left out.
    #[serde(default)]
    #[schema(value_type = Option<ShownTenant>)]
    tenant_id: Option<TenantId>,
    /// Missions tried again in a second; 5 where left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    per_second: Option<i64>,
    /// The most missions; the oldest go first. 10,000 where left out.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10_000)]
    limit: Option<i64>,
    /// Whether to tell what would happen, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

/// An order that makes sense.
#[derive(Debug)]
pub(in crate::http) struct Ordered {
    /// Whose missions; `None` is those of all tenants.
    pub tenant_id: Option<TenantId>,
    /// The group.
    pub fingerprint: String,
    /// Missions a second.
    pub per_second: i64,
    /// The most missions.
    pub limit: i64,
    /// Whether to do nothing.
    pub dry_run: bool,
}

impl OrderBulkAction {
    /// The order, for a tenant.
    pub fn of(self, tenant_id: TenantId) -> Result<Ordered, Problem> {
        let Self { kind, fingerprint, per_second, limit, dry_run } = self;
        OrderBulkActionOfAny { kind, fingerprint, tenant_id: Some(tenant_id), per_second, limit, dry_run }.checked()
    }
}

impl OrderBulkActionOfAny {
    /// The order.
    pub fn checked(self) -> Result<Ordered, Problem> {
        let Self { kind: BulkKind::Redrive, fingerprint, tenant_id, per_second, limit, dry_run } = self;
        let per_second = within("/per_second", per_second.unwrap_or(USUAL_PER_SECOND), MAX_REDRIVES_PER_SECOND)?;
        let limit = within("/limit", limit.unwrap_or(MAX_REDRIVES), MAX_REDRIVES)?;
        Ok(Ordered { tenant_id, fingerprint, per_second, limit, dry_run })
    }
}

fn within(pointer: &str, number: i64, most: i64) -> Result<i64, Problem> {
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(Problem::invalid(pointer, "out_of_range", &format!("must be from 1 to {most}")))
}

/// Missions that are not tried again for the same reason.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkRefusal {
    /// Why: the code of a problem; `no-longer-dead` where somebody else had the mission go on, `internal` where the
    /// server failed.
    reason: String,
    /// How many missions.
    missions: i64,
    /// One of them.
    sample_id: ShownMission,
}

/// How far a bulk action is, in missions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkProgress {
    /// All that it is about.
    total: i64,
    /// Those that had their turn.
    done: i64,
    /// Of these, those that go on.
    retried: i64,
    /// Those that a rule kept from it: credits, limits, their state.
    refused: i64,
    /// Those that an error of the server kept from it.
    failed: i64,
}

/// Something that is done to many missions, a few each second.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkAction {
    /// Its id.
    id: ShownBulkAction,
    /// What is done.
    kind: BulkKind,
    /// The group of dead letters.
    fingerprint: String,
    /// Whose missions; null is those of all tenants.
    tenant_id: Option<ShownTenant>,
    /// `running`, `done` or `aborted`.
    #[schema(value_type = String, example = "running")]
    state: BulkState,
    /// The key that ordered it.
    ordered_by: ShownKey,
    /// Missions tried again in a second.
    per_second: i64,
    /// How far it is.
    progress: BulkProgress,
    /// Why missions were not tried again, the most frequent reason first.
    refusals: Vec<BulkRefusal>,
    /// When it should be done, while it runs.
    eta: Option<Time>,
    /// When it was ordered.
    created_at: Time,
    /// When it was over.
    ended_at: Option<Time>,
}

impl BulkAction {
    /// An action with what came of its missions.
    pub fn of(action: store::BulkAction, counts: &[BulkCount], now: Timestamp) -> Self {
        let figures = BulkFigures::of(action.id, counts);
        let mut refusals = Vec::new();
        for count in counts.iter().filter(|count| count.action_id == action.id) {
            if let Some(reason) = count.reason.clone() {
                refusals.push(BulkRefusal { reason, missions: count.missions, sample_id: count.sample_id.into() });
            }
        }
        let BulkFigures { done, retried, refused, failed } = figures;
        let progress = BulkProgress { total: action.total, done, retried, refused, failed };
        let eta = action.eta(done, now);
        Self {
            id: action.id.into(),
            kind: BulkKind::Redrive,
            fingerprint: action.fingerprint,
            tenant_id: action.tenant_id.map(Into::into),
            state: action.state,
            ordered_by: action.actor.into(),
            per_second: action.per_second,
            progress,
            refusals,
            eta: eta.map(Time),
            created_at: action.created_at.into(),
            ended_at: action.ended_at.map(Time),
        }
    }
}

/// A node that would run in some of the missions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct NodeToRedrive {
    /// Its key.
    node: String,
    /// The kind of node.
    kind: String,
    /// In how many of the missions.
    missions: i64,
}

/// What would happen to one mission.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct RehearsedMission {
    /// The mission.
    mission_id: ShownMission,
    /// Whose it is.
    tenant_id: ShownTenant,
    /// The nodes that would run, in the order of the workflow; none where its state forbids a retry.
    nodes: Vec<String>,
    /// What would be held at once.
    hold_needed: Amount,
    /// What it would cost.
    cost: CostSpan,
    /// Why it would not be tried again: the code of a problem.
    reason: Option<String>,
    /// The same for people.
    message: Option<String>,
}

/// What a redrive would do now. Nothing was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct BulkRehearsal {
    /// Missions that it would be about.
    total: i64,
    /// Missions that were looked at, the oldest of them. What follows is about these.
    looked_at: i64,
    /// Those that would be tried again.
    would_retry: i64,
    /// Those that would not.
    would_refuse: i64,
    /// Why not, the most frequent reason first.
    refusals: Vec<BulkRefusal>,
    /// The nodes that would run.
    nodes: Vec<NodeToRedrive>,
    /// What all that would be tried again would hold at once, if none ended before the last began.
    hold_needed: Amount,
    /// What all of them would cost.
    cost: CostSpan,
    /// Mission by mission, the oldest first.
    missions: Vec<RehearsedMission>,
}

impl From<Rehearsal> for BulkRehearsal {
    fn from(Rehearsal { total, missions }: Rehearsal) -> Self {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let mut nodes: Vec<NodeToRedrive> = Vec::new();
        let mut reasons: BTreeMap<String, BulkRefusal> = BTreeMap::new();
        let (mut hold, mut cost) = (Ucr::ZERO, CostSpan::of(Ucr::ZERO, Ucr::ZERO, Ucr::ZERO));
        let mut would_retry = 0_usize;
        for mission in &missions {
            match (&mission.hindrance, &mission.plan) {
                (None, Some(plan)) => {
                    would_retry = would_retry.saturating_add(1);
                    hold = hold.saturating_add(plan.hold_needed);
                    cost = cost.plus(span(plan));
                    plan.nodes.iter().for_each(|node| count_node(&mut nodes, node));
                }
                (Some(Hindrance { code, .. }), _) => {
                    let first =
                        || BulkRefusal { reason: code.clone(), missions: 0, sample_id: mission.mission_id.into() };
                    let reason = reasons.entry(code.clone()).or_insert_with(first);
                    reason.missions = reason.missions.saturating_add(1);
                }
                (None, None) => {}
            }
        }
        let mut refusals: Vec<BulkRefusal> = reasons.into_values().collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.missions));
        Self {
            total,
            looked_at: count(missions.len()),
            would_retry: count(would_retry),
            would_refuse: count(missions.len().saturating_sub(would_retry)),
            refusals,
            nodes,
            hold_needed: hold.into(),
            cost,
            missions: missions.into_iter().map(RehearsedMission::from).collect(),
        }
    }
}

impl From<Rehearsed> for RehearsedMission {
    fn from(Rehearsed { mission_id, tenant_id, plan, hindrance }: Rehearsed) -> Self {
        let (reason, message) = hindrance.map(|hindrance| (hindrance.code, hindrance.message)).unzip();
        let cost = plan.as_ref().map_or_else(|| CostSpan::of(Ucr::ZERO, Ucr::ZERO, Ucr::ZERO), span);
        let hold_needed = plan.as_ref().map(|plan| plan.hold_needed).unwrap_or_default();
        Self {
            mission_id: mission_id.into(),
            tenant_id: tenant_id.into(),
            nodes: plan.into_iter().flat_map(|plan| plan.nodes).map(|node| node.node).collect(),
            hold_needed: hold_needed.into(),
            cost,
            reason,
            message,
        }
    }
}

/// What a plan costs, its fee included.
fn span(plan: &Plan) -> CostSpan {
    let node = |node: &PlannedNode| CostSpan::of(node.low, node.expected, node.high);
    plan.nodes.iter().map(node).fold(CostSpan::of(plan.fee, plan.fee, plan.fee), CostSpan::plus)
}

fn count_node(nodes: &mut Vec<NodeToRedrive>, planned: &PlannedNode) {
    match nodes.iter_mut().find(|known| known.node == planned.node) {
        Some(known) => known.missions = known.missions.saturating_add(1),
        None => nodes.push(NodeToRedrive { node: planned.node.clone(), kind: planned.kind.clone(), missions: 1 }),
    }
}
