//! A schedule fires: in one transaction its mission is made and its row moves on, or neither happens.
//!
//! Whoever fires has looked at the row before and says which version he saw: another process that was faster, a change
//! or a pause in between make the firing stale, and nothing is done. When the expression comes true next is told by the
//! caller; nothing here knows calendars.

use serde_json::{Value, json};

use crate::id::{MissionId, RunId, ScheduleId};
use crate::limits::SCHEDULE_LATE_MS;
use crate::record::{CatchUp, Overlap, Schedule};
use crate::state::RunState;
use crate::time::Timestamp;

use super::{Refusal, Submission, Turn, cancel, submit};

/// Why a firing makes no mission, as it is kept on the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringError {
    /// A stable code, e.g. `insufficient-credits`.
    pub code: String,
    /// What happened.
    pub message: String,
}

/// A schedule that is due, or whose firing waits.
#[derive(Debug)]
pub struct Firing<'f> {
    /// The schedule.
    pub schedule: ScheduleId,
    /// Its version when it was looked at.
    pub version: i64,
    /// The latest time that is due; none where only a waiting firing is to be tried.
    pub due: Option<Due>,
    /// What comes after that; the row is left where it is without `due`.
    pub next: Option<Slot>,
    /// What to submit, or why that can't be.
    pub wish: Result<&'f Submission, FiringError>,
    /// How times are written for people.
    pub write_time: fn(Timestamp) -> String,
    /// How refusals are called for people.
    pub name_refusal: fn(&Refusal) -> FiringError,
}

/// A time of the expression and when the schedule fires for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The time.
    pub fire_at: Timestamp,
    /// As much later as the jitter says.
    pub due_at: Timestamp,
}

/// The latest time that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub slot: Slot,
    /// Whether times before it were due as well and are left out.
    pub is_after_others: bool,
}

/// What a firing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fired {
    /// The row is not as it was looked at: nothing was done.
    Stale,
    /// A mission was made.
    Made {
        /// The mission.
        mission: MissionId,
        /// The one that it replaces, with its run.
        replaced: Option<(MissionId, RunId)>,
    },
    /// It waits until the last mission is over.
    Waits,
    /// It was left out: the last mission runs, or it was too late.
    Skipped,
    /// The submit was refused; the schedule goes on.
    Refused(FiringError),
}

/// When a schedule fires for a time: later by a part of its jitter that depends on nothing but the schedule and the
/// time, and never as late as the time after that.
pub fn slot(id: ScheduleId, jitter_ms: i64, fire_at: Timestamp, following: Option<Timestamp>) -> Slot {
    let gap = following.map_or(i64::MAX, |following| following.since_ms(fire_at).saturating_sub(1));
    let most = jitter_ms.min(gap).max(0);
    let (high, low) = id.uuid().as_u64_pair();
    let mixed = mix(high ^ mix(low ^ mix(fire_at.ms().unsigned_abs())));
    let span = u64::try_from(most).unwrap_or(0).saturating_add(1);
    let late = i64::try_from(mixed.checked_rem(span).unwrap_or(0)).unwrap_or(0);
    Slot { fire_at, due_at: fire_at.plus_ms(late) }
}

/// `SplitMix64`'s finalizer: spreads what differs little.
const fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Adds a new schedule.
pub fn add_schedule(turn: &mut Turn<'_>, schedule: Schedule) {
    turn.set.schedules.add(schedule.id, schedule);
}

/// Writes a changed schedule over the one that was looked at; whether it still was that one.
pub fn change_schedule(turn: &mut Turn<'_>, changed: &Schedule) -> bool {
    let now = turn.now;
    let is_seen = |row: &Schedule| row.version == changed.version && row.tenant_id == changed.tenant_id;
    if !turn.set.schedules.get(changed.id).is_some_and(is_seen) {
        return false;
    }
    let Some(row) = turn.set.schedules.change(changed.id) else { return false };
    *row = Schedule { version: row.version.saturating_add(1), updated_at: now, ..changed.clone() };
    true
}

/// Fires.
pub fn fire(turn: &mut Turn<'_>, firing: &Firing<'_>) -> Fired {
    let Some(row) = turn.set.schedules.get(firing.schedule).cloned() else { return Fired::Stale };
    let last = row.last_mission_id.and_then(|id| turn.set.missions.get(id)).map(|mission| (mission.id, mission.run_id));
    if row.version != firing.version || row.paused || (row.last_mission_id.is_some() && last.is_none()) {
        return Fired::Stale;
    }
    let state = last.and_then(|(_, run)| turn.set.runs.get(run)).map(|run| run.state);
    let is_live = state.is_some_and(|state| !state.is_final());
    let mut next = Schedule { version: row.version.saturating_add(1), updated_at: turn.now, ..row.clone() };
    let candidate = choose(&mut next, firing, is_live, turn.now);
    let fired = match candidate {
        Chosen::Nothing => Fired::Stale,
        Chosen::Waits => Fired::Waits,
        Chosen::Skipped => Fired::Skipped,
        Chosen::Fires(at) => make(turn, &mut next, firing, at, last.filter(|_| is_live)),
    };
    if fired != Fired::Stale
        && let Some(row) = turn.set.schedules.change(firing.schedule)
    {
        *row = next;
    }
    fired
}

enum Chosen {
    Nothing,
    Waits,
    Skipped,
    Fires(Timestamp),
}

/// For which time it fires, if at all; the row moves on to the next.
fn choose(row: &mut Schedule, firing: &Firing<'_>, is_live: bool, now: Timestamp) -> Chosen {
    let mut due = None;
    if let Some(latest) = firing.due {
        row.next_at = firing.next.map(|slot| slot.fire_at);
        row.due_at = firing.next.map(|slot| slot.due_at);
        row.skipped = row.skipped.saturating_add(i64::from(latest.is_after_others));
        let is_late = now.since_ms(latest.slot.due_at) > SCHEDULE_LATE_MS;
        if is_late && row.catch_up == CatchUp::None {
            row.skipped = row.skipped.saturating_add(1);
        } else {
            due = Some(latest.slot.fire_at);
        }
    }
    match (row.waiting_for, due) {
        // the mission before it is over: what waited fires, and what is due now waits for it in its place
        (Some(waited), due) if !is_live => {
            row.waiting_for = due;
            Chosen::Fires(waited)
        }
        (None, Some(due)) if !is_live || row.overlap == Overlap::Replace => Chosen::Fires(due),
        (None, Some(due)) if row.overlap == Overlap::Queue => {
            row.waiting_for = Some(due);
            Chosen::Waits
        }
        (_, Some(_)) => {
            row.skipped = row.skipped.saturating_add(1);
            Chosen::Skipped
        }
        (_, None) if firing.due.is_some() => Chosen::Skipped,
        (_, None) => Chosen::Nothing,
    }
}

/// Makes the mission of a firing, or notes why there is none. What it replaces is cancelled only when there is one.
fn make(
    turn: &mut Turn<'_>,
    row: &mut Schedule,
    firing: &Firing<'_>,
    at: Timestamp,
    live: Option<(MissionId, RunId)>,
) -> Fired {
    let scheduled_for = (firing.write_time)(at);
    let made = firing.wish.clone().and_then(|wish| {
        let submission = Submission {
            idempotency_key: Some(format!("schedule:{}:{scheduled_for}", row.id)),
            metadata: Some(json!({"schedule_id": row.id, "scheduled_for": scheduled_for})),
            ..wish.clone()
        };
        submit(turn, &submission).map(|_| submission.mission_id).map_err(|refusal| (firing.name_refusal)(&refusal))
    });
    match made {
        Ok(mission) => {
            row.fired = row.fired.saturating_add(1);
            row.last_fired_at = Some(at);
            row.last_mission_id = Some(mission);
            row.last_error = None;
            let replaced = live.filter(|(old, run)| {
                let is_ending = turn.set.runs.get(*run).is_some_and(|run| run.state == RunState::Failing);
                !is_ending && cancel(turn, *old, Some("replaced by the next firing of its schedule")).is_ok()
            });
            Fired::Made { mission, replaced }
        }
        Err(error) => {
            row.refused = row.refused.saturating_add(1);
            row.last_error = Some(noted(&error, at, turn.now));
            Fired::Refused(error)
        }
    }
}

fn noted(error: &FiringError, at: Timestamp, now: Timestamp) -> Value {
    json!({"code": error.code, "message": error.message, "scheduled_for": at.ms(), "at": now.ms()})
}
