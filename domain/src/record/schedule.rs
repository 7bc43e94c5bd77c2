//! Rows of schedules: what is submitted again and again, when, and how that went.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::credits::Ucr;
use crate::id::{MissionId, ScheduleId, TenantId};
use crate::time::Timestamp;
use crate::workflow::OnExhausted;

/// What happens when a schedule fires while the mission of its last firing still runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Nothing: that firing is left out.
    #[default]
    Skip,
    /// One firing waits until that mission is over; further ones are left out.
    Queue,
    /// A new mission is made, and that one is cancelled.
    Replace,
}

/// What happens to firings that nobody was there to make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out.
    #[default]
    None,
    /// The last of them is made up for, the others are left out.
    Last,
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// What people call it; unique among the tenant's.
    pub name: String,
    /// When it fires: a cron expression.
    pub cron: String,
    /// By the clocks of which IANA time zone.
    pub zone: String,
    /// What is submitted: a workflow's name, perhaps with `@version`.
    pub workflow: String,
    /// The missions' input; `None` in a working set that does not write it.
    pub input: Option<Value>,
    /// The most that one mission may spend.
    pub budget_ucr: Option<Ucr>,
    /// What happens then.
    pub on_exhausted: Option<OnExhausted>,
    /// The missions' priority.
    pub priority: i16,
    /// The words by which their usage is reported.
    pub tags: Option<Vec<String>>,
    /// While the last one still runs.
    pub overlap: Overlap,
    /// After an outage.
    pub catch_up: CatchUp,
    /// How far firings are spread, in milliseconds after their time.
    pub jitter_ms: i64,
    /// Whether it does not fire.
    pub paused: bool,
    /// The next time by the expression; none while paused.
    pub next_at: Option<Timestamp>,
    /// When it fires for that time: as much later as its jitter says.
    pub due_at: Option<Timestamp>,
    /// The time of a firing that waits for the last mission to end.
    pub waiting_for: Option<Timestamp>,
    /// The time for which it fired last.
    pub last_fired_at: Option<Timestamp>,
    /// The mission that this made.
    pub last_mission_id: Option<MissionId>,
    /// Why the last firing made none: `{"code", "message", "scheduled_for", "at"}`, times in ms; gone after the next success.
    pub last_error: Option<Value>,
    /// Missions that its firings made.
    pub fired: i64,
    /// Firings that were left out because of overlap, or because nobody was there.
    pub skipped: i64,
    /// Firings whose submit was refused.
    pub refused: i64,
    /// Grows with every change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
