//! Schedules as clients write and see them.

use bursar_domain::record;
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::missions::body::WhenExhausted;
use super::super::missions::submit::{BudgetWish, Terms, terms};
use super::super::problem::Problem;
use super::super::types::{Amount, ShownMission, ShownSchedule, Time};
use crate::cron::Cron;

/// Times that one schedule shows ahead.
const TIMES_AHEAD: usize = 5;

/// What happens when a schedule fires while the mission of its last firing still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum WhenOverlapping {
    /// That firing is left out.
    Skip,
    /// One firing waits until that mission is over; further ones are left out.
    Queue,
    /// A new mission is made, and that one is cancelled.
    Replace,
}

/// What happens to firings that no process was there to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum WhenMissed {
    /// They are left out.
    None,
    /// The last of them is made up for, the others are left out.
    Last,
}

impl From<record::Overlap> for WhenOverlapping {
    fn from(overlap: record::Overlap) -> Self {
        match overlap {
            record::Overlap::Skip => Self::Skip,
            record::Overlap::Queue => Self::Queue,
            record::Overlap::Replace => Self::Replace,
        }
    }
}

impl From<WhenOverlapping> for record::Overlap {
    fn from(overlap: WhenOverlapping) -> Self {
        match overlap {
            WhenOverlapping::Skip => Self::Skip,
            WhenOverlapping::Queue => Self::Queue,
            WhenOverlapping::Replace => Self::Replace,
        }
    }
}

impl From<record::CatchUp> for WhenMissed {
    fn from(catch_up: record::CatchUp) -> Self {
        match catch_up {
            record::CatchUp::None => Self::None,
            record::CatchUp::Last => Self::Last,
        }
    }
}

impl From<WhenMissed> for record::CatchUp {
    fn from(catch_up: WhenMissed) -> Self {
        match catch_up {
            WhenMissed::None => Self::None,
            WhenMissed::Last => Self::Last,
        }
    }
}

/// What a schedule submits each time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RepeatedMission {
    /// The workflow: its name, which stands for the newest version at that time, or `name@3`.
    #[schema(example = "daily-brief")]
    pub workflow: String,
    /// What the workflow's `inputs` schema describes; an empty object where left out.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub input: Option<Map<String, Value>>,
    /// What one mission may spend; the workflow's own budget where left out.
    #[serde(default)]
    pub budget: Option<BudgetWish>,
    /// Higher goes first among the tenant's own tasks.
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: Option<i64>,
    /// Words by which usage is reported: at most 16, different ones, of 1 to 64 bytes each.
    #[serde(default)]
    #[schema(max_items = 16)]
    pub tags: Option<Vec<String>>,
}

/// A repeated mission, checked as far as it can be without looking anything up.
#[derive(Debug, Clone)]
pub(super) struct Payload {
    workflow: String,
    input: Value,
    terms: Terms,
}

impl RepeatedMission {
    /// Checks it.
    pub(super) fn checked(self) -> Result<Payload, Problem> {
        let terms = terms("/mission", self.priority, self.tags, self.budget.as_ref())?;
        Ok(Payload { workflow: self.workflow, input: Value::Object(self.input.unwrap_or_default()), terms })
    }
}

impl Payload {
    /// Writes it into a schedule.
    pub(super) fn put_into(&self, schedule: &mut record::Schedule) {
        self.workflow.clone_into(&mut schedule.workflow);
        schedule.input = Some(self.input.clone());
        schedule.budget_ucr = self.terms.budget_ucr;
        schedule.on_exhausted = self.terms.on_exhausted;
        schedule.priority = self.terms.priority;
        schedule.tags = Some(self.terms.tags.clone()).filter(|tags| !tags.is_empty());
    }
}

/// What a schedule submits each time.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ScheduledMission {
    /// The workflow.
    workflow: String,
    /// Its input.
    #[schema(value_type = Object)]
    input: Value,
    /// What one mission may spend, where that differs from the workflow's own budget.
    budget: Option<ScheduledBudget>,
    /// Higher goes first.
    priority: i64,
    /// Words by which usage is reported.
    tags: Vec<String>,
}

/// What one mission may spend.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ScheduledBudget {
    /// The most credits; null is the workflow's own budget.
    max_credits: Option<Amount>,
    /// What happens when that is used up; null is the workflow's own policy.
    on_exhausted: Option<WhenExhausted>,
}

/// Why the last firing made no mission.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ScheduleFailure {
    /// A stable code: that of the problem with which a submit would have been refused.
    code: String,
    /// What happened.
    message: String,
    /// The time for which it fired.
    scheduled_for: Option<Time>,
    /// When it fired.
    at: Option<Time>,
}

/// What is submitted again and again.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Schedule {
    /// Its id.
    id: ShownSchedule,
    /// What people call it; unique among the tenant's.
    name: String,
    /// `active` or `paused`.
    status: &'static str,
    /// When it fires: a cron expression.
    cron: String,
    /// By the clocks of which IANA time zone.
    zone: String,
    /// What it submits.
    mission: ScheduledMission,
    /// While the mission of the last firing still runs.
    overlap: WhenOverlapping,
    /// After an outage.
    catch_up: WhenMissed,
    /// Firings are spread over so many milliseconds after their time.
    jitter_ms: i64,
    /// The next time by the expression; null while paused.
    next_at: Option<Time>,
    /// The next five; left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Vec<Time>>,
    /// The time of a firing that waits for the last mission to end.
    waiting_for: Option<Time>,
    /// The time for which it fired last.
    last_fired_at: Option<Time>,
    /// The mission that this made.
    last_mission_id: Option<ShownMission>,
    /// Why the last firing made none; null after the next success.
    last_error: Option<ScheduleFailure>,
    /// Missions that its firings made.
    fired: i64,
    /// Firings that were left out.
    skipped: i64,
    /// Firings whose submit was refused.
    refused: i64,
    /// Grows with every change.
    version: i64,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
}

impl From<record::Schedule> for Schedule {
    fn from(row: record::Schedule) -> Self {
        let has_budget = row.budget_ucr.is_some() || row.on_exhausted.is_some();
        let budget = ScheduledBudget {
            max_credits: row.budget_ucr.map(Amount),
            on_exhausted: row.on_exhausted.map(WhenExhausted::from),
        };
        Self {
            id: row.id.into(),
            name: row.name,
            status: if row.paused { "paused" } else { "active" },
            cron: row.cron,
            zone: row.zone,
            mission: ScheduledMission {
                workflow: row.workflow,
                input: row.input.unwrap_or_default(),
                budget: has_budget.then_some(budget),
                priority: i64::from(row.priority),
                tags: row.tags.unwrap_or_default(),
            },
            overlap: row.overlap.into(),
            catch_up: row.catch_up.into(),
            jitter_ms: row.jitter_ms,
            next_at: row.next_at.map(Time),
            next: None,
            waiting_for: row.waiting_for.map(Time),
            last_fired_at: row.last_fired_at.map(Time),
            last_mission_id: row.last_mission_id.map(Into::into),
            last_error: row.last_error.as_ref().filter(|error| !error.is_null()).map(failure),
            fired: row.fired,
            skipped: row.skipped,
            refused: row.refused,
            version: row.version,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

fn failure(error: &Value) -> ScheduleFailure {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let time = |key: &str| error.get(key).and_then(Value::as_i64).map(|ms| Time(Timestamp::from_ms(ms)));
    ScheduleFailure {
        code: text("code"),
        message: text("message"),
        scheduled_for: time("scheduled_for"),
        at: time("at"),
    }
}

impl Schedule {
    /// One schedule, with the next times.
    pub(super) fn whole(row: record::Schedule) -> Self {
        let times = times_ahead(&row);
        Self { next: Some(times.into_iter().map(Time).collect()), ..Self::from(row) }
    }
}

/// The next times by the expression; none while it is paused.
fn times_ahead(row: &record::Schedule) -> Vec<Timestamp> {
    let Ok(cron) = Cron::parse(&row.cron, &row.zone) else { return Vec::new() };
    std::iter::successors(row.next_at, |at| cron.after(*at)).take(TIMES_AHEAD).collect()
}
