//! What is due when: after outages, with jitter, over a change of the clock. Time is held in the hand.

#![allow(clippy::unwrap_used, reason = "tests")]

use bursar_domain::id::Id;
use bursar_domain::record::{CatchUp, Overlap, Schedule};
use bursar_domain::time::Timestamp;
use uuid::Uuid;

use super::{first_slot, occurrences};
use crate::calendar::parse_time;
use crate::clock::rfc3339;

fn at(text: &str) -> Timestamp {
    parse_time(text).unwrap()
}

fn schedule(cron: &str, zone: &str, jitter_ms: i64, from: &str) -> Schedule {
    let mut schedule = Schedule {
        id: Id::from_uuid(Uuid::from_u128(7)),
        tenant_id: Id::from_uuid(Uuid::from_u128(8)),
        name: "s".to_owned(),
        cron: cron.to_owned(),
        zone: zone.to_owned(),
        workflow: "w".to_owned(),
        input: None,
        budget_ucr: None,
        on_exhausted: None,
        priority: 0,
        tags: None,
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        jitter_ms,
        paused: false,
        next_at: None,
        due_at: None,
        waiting_for: None,
        last_fired_at: None,
        last_mission_id: None,
        last_error: None,
        fired: 0,
        skipped: 0,
        refused: 0,
        version: 1,
        created_at: at(from),
        updated_at: at(from),
    };
    let first = first_slot(&schedule, at(from)).unwrap();
    move_on(&mut schedule, first);
    schedule
}

fn move_on(schedule: &mut Schedule, next: Option<super::Slot>) {
    schedule.next_at = next.map(|slot| slot.fire_at);
    schedule.due_at = next.map(|slot| slot.due_at);
}

/// All times for which it fires when somebody looks every half minute.
fn fires(schedule: &mut Schedule, from: &str, to: &str) -> Vec<String> {
    let (mut now, end) = (at(from), at(to));
    let mut fired = Vec::new();
    while now < end {
        if let (Some(due), next) = occurrences(schedule, now) {
            assert!(!due.is_after_others, "nothing is missed");
            assert!(due.slot.due_at <= now && now.since_ms(due.slot.due_at) <= 30_000, "in time");
            fired.push(rfc3339(due.slot.fire_at).replace(".000Z", "Z"));
            move_on(schedule, next);
        }
        now = now.plus_ms(30_000);
    }
    fired
}

#[test]
fn in_the_night_of_the_gap_a_daily_schedule_fires_right_after_it() {
    let mut daily = schedule("30 2 * * *", "Europe/Berlin", 0, "2026-03-28T00:00:00Z");
    let fired = fires(&mut daily, "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
    assert_eq!(fired, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
}

#[test]
fn in_the_night_of_two_like_hours_a_daily_schedule_fires_once_and_a_quarterly_one_goes_on() {
    let mut daily = schedule("30 2 * * *", "Europe/Berlin", 0, "2026-10-24T00:00:00Z");
    let fired = fires(&mut daily, "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
    assert_eq!(fired, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    let mut quarterly = schedule("*/15 * * * *", "Europe/Berlin", 0, "2026-10-25T00:00:00Z");
    let fired = fires(&mut quarterly, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(fired.len(), 7, "each quarter of both hours after midnight UTC: {fired:?}");
}

#[test]
fn jitter_moves_firings_later_and_loses_none() {
    let mut spread = schedule("*/5 * * * *", "UTC", 3_600_000, "2026-01-01T00:00:00Z");
    let fired = fires(&mut spread, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    assert!((286..=287).contains(&fired.len()), "{}", fired.len());
}

#[test]
fn after_an_outage_only_the_latest_time_is_due_and_the_next_lies_ahead() {
    let hourly = schedule("0 * * * *", "UTC", 0, "2026-01-01T00:00:00Z");
    let (due, next) = occurrences(&hourly, at("2026-01-01T09:30:00Z"));
    assert_eq!(due.map(|due| (due.slot.fire_at, due.is_after_others)), Some((at("2026-01-01T09:00:00Z"), true)));
    assert_eq!(next.map(|slot| slot.fire_at), Some(at("2026-01-01T10:00:00Z")));
    assert_eq!(occurrences(&hourly, at("2026-01-01T00:59:59Z")), (None, None));
}

#[test]
fn a_time_whose_jitter_is_not_over_is_not_due_yet() {
    let spread = schedule("0 * * * *", "UTC", 3_000_000, "2026-01-01T00:00:00Z");
    let nine = super::flow::slot(spread.id, spread.jitter_ms, at("2026-01-01T09:00:00Z"), None);
    assert!(nine.due_at > nine.fire_at.plus_ms(1_000), "of this schedule nine o'clock comes late");
    let (due, next) = occurrences(&spread, nine.due_at.plus_ms(-1));
    assert_eq!(due.map(|due| due.slot.fire_at), Some(at("2026-01-01T08:00:00Z")));
    assert_eq!(next, Some(nine));
}
