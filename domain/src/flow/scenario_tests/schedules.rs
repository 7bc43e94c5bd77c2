//! Schedules: each time makes one mission, whatever happens around it.

use crate::credits::Ucr;
use crate::flow::testbed::World;
use crate::flow::testbed::tables::Want;
use crate::flow::{Due, Fired, Firing, FiringError, Refusal, Slot, add_schedule, change_schedule, fire, slot};
use crate::id::{MissionId, ScheduleId, WorkflowId};
use crate::record::{CatchUp, Overlap, Schedule};
use crate::state::RunState;
use crate::time::Timestamp;

const HOUR: i64 = 3_600_000;
const FREE: &str = "workflow: w\nflat_fee: 0\nnodes: { x: { transform: 1 } }";

/// A schedule that fires on the hour, by hand.
struct Hourly {
    world: World,
    id: ScheduleId,
    workflow: WorkflowId,
}

fn name_refusal(refusal: &Refusal) -> FiringError {
    FiringError { code: "refused".to_owned(), message: refusal.to_string() }
}

fn write_time(time: Timestamp) -> String {
    time.ms().to_string()
}

impl Hourly {
    fn new(overlap: Overlap, catch_up: CatchUp) -> Self {
        let mut world = World::with_credits(10);
        let workflow = world.define(FREE);
        let id = world.dice.id();
        let first = world.now.plus_ms(HOUR);
        let schedule = Schedule {
            id,
            tenant_id: world.tenant,
            name: "hourly".to_owned(),
            cron: "0 * * * *".to_owned(),
            zone: "UTC".to_owned(),
            workflow: "w".to_owned(),
            input: None,
            budget_ucr: None,
            on_exhausted: None,
            priority: 0,
            tags: None,
            overlap,
            catch_up,
            jitter_ms: 0,
            paused: false,
            next_at: Some(first),
            due_at: Some(first),
            waiting_for: None,
            last_fired_at: None,
            last_mission_id: None,
            last_error: None,
            fired: 0,
            skipped: 0,
            refused: 0,
            version: 1,
            created_at: world.now,
            updated_at: world.now,
        };
        world.decide(&Want::default(), |turn| add_schedule(turn, schedule));
        Self { world, id, workflow }
    }

    fn row(&self) -> &Schedule {
        &self.world.tables.schedules[&self.id]
    }

    /// What a process does that looks at the schedule now: `seen` is the row as it saw it.
    fn fire_as_seen(&mut self, seen: &Schedule, wish: Result<(), FiringError>) -> Fired {
        let now = self.world.now;
        let first = seen.next_at.filter(|next| *next <= now);
        let plain = |at: Timestamp| Slot { fire_at: at, due_at: at };
        let hours = |first: Timestamp| now.since_ms(first) / HOUR;
        let latest = first.map(|first| first.plus_ms(hours(first) * HOUR));
        let submission = self.world.submission(self.workflow);
        let firing = Firing {
            schedule: self.id,
            version: seen.version,
            due: latest.map(|at| Due { slot: plain(at), is_after_others: Some(at) != first }),
            next: latest.map(|at| plain(at.plus_ms(HOUR))),
            wish: wish.map(|()| &submission),
            write_time,
            name_refusal,
        };
        let missions: Vec<MissionId> = seen.last_mission_id.into_iter().collect();
        let want = Want { schedules: vec![self.id], missions, wallets: vec![self.world.wallet], ..Want::default() };
        let fired = self.world.decide(&want, |turn| fire(turn, &firing));
        if let Fired::Made { replaced: Some((_, run)), .. } = fired {
            self.world.end_run(run);
        }
        self.world.verify();
        fired
    }

    fn fire(&mut self) -> Fired {
        let seen = self.row().clone();
        self.fire_as_seen(&seen, Ok(()))
    }

    fn made(&mut self) -> MissionId {
        match self.fire() {
            Fired::Made { mission, .. } => mission,
            other => panic!("{other:?}"),
        }
    }

    fn hours(&mut self, hours: i64) {
        self.world.pass_ms(hours * HOUR);
    }
}

#[test]
fn a_firing_makes_one_mission_under_a_key_of_its_time_and_moves_the_row_on() {
    let mut hourly = Hourly::new(Overlap::Skip, CatchUp::None);
    hourly.hours(1);
    let seen = hourly.row().clone();
    let mission = hourly.made();
    let at = seen.next_at.unwrap();
    let row = &hourly.world.tables.missions[&mission];
    assert_eq!(row.idempotency_key, Some(format!("schedule:{}:{}", hourly.id, at.ms())));
    assert_eq!(row.metadata.as_ref().unwrap()["scheduled_for"], at.ms().to_string());
    let after = hourly.row().clone();
    assert_eq!((after.fired, after.last_mission_id, after.last_fired_at), (1, Some(mission), Some(at)));
    assert_eq!(after.next_at, Some(at.plus_ms(HOUR)));
    // another process that looked at the same time comes second, and so does the same one again
    assert_eq!(hourly.fire_as_seen(&seen, Ok(())), Fired::Stale);
    assert_eq!((hourly.row(), hourly.world.tables.missions.len()), (&after, 1));
}

#[test]
fn while_the_last_mission_runs_a_firing_is_skipped() {
    let mut hourly = Hourly::new(Overlap::Skip, CatchUp::None);
    hourly.hours(1);
    let first = hourly.made();
    hourly.hours(1);
    assert_eq!(hourly.fire(), Fired::Skipped);
    assert_eq!((hourly.row().skipped, hourly.row().last_mission_id), (1, Some(first)));
    hourly.world.do_node(first, "x", None);
    hourly.hours(1);
    assert_ne!(hourly.made(), first);
}

#[test]
fn while_the_last_mission_runs_one_firing_waits_for_its_end() {
    let mut hourly = Hourly::new(Overlap::Queue, CatchUp::None);
    hourly.hours(1);
    let first = hourly.made();
    hourly.hours(1);
    let waiting = hourly.row().next_at;
    assert_eq!(hourly.fire(), Fired::Waits);
    assert_eq!(hourly.row().waiting_for, waiting);
    assert_eq!(hourly.fire(), Fired::Stale, "it still waits");
    hourly.hours(1);
    assert_eq!((hourly.fire(), hourly.row().skipped), (Fired::Skipped, 1), "only one waits");
    hourly.world.do_node(first, "x", None);
    let second = hourly.made();
    assert_eq!((hourly.row().waiting_for, hourly.row().last_fired_at), (None, waiting));
    assert_eq!(hourly.world.tables.missions.len(), 2);
    hourly.hours(1);
    hourly.world.do_node(second, "x", None);
    hourly.made();
    assert_eq!(hourly.row().fired, 3);
}

#[test]
fn what_waited_fires_before_what_is_due_now() {
    let mut hourly = Hourly::new(Overlap::Queue, CatchUp::None);
    hourly.hours(1);
    let first = hourly.made();
    hourly.hours(1);
    let waited = hourly.row().next_at;
    hourly.fire();
    hourly.world.do_node(first, "x", None);
    hourly.hours(1);
    let due = hourly.row().next_at;
    hourly.made();
    assert_eq!((hourly.row().last_fired_at, hourly.row().waiting_for), (waited, due));
}

#[test]
fn a_firing_replaces_the_mission_that_runs() {
    let mut hourly = Hourly::new(Overlap::Replace, CatchUp::None);
    hourly.hours(1);
    let first = hourly.made();
    hourly.hours(1);
    let second = hourly.made();
    assert_eq!(hourly.world.run(first).state, RunState::Cancelled);
    assert_eq!(hourly.world.run(first).status_reason.as_deref(), Some("replaced by the next firing of its schedule"));
    assert_eq!(hourly.world.run(second).state, RunState::Queued);
}

#[test]
fn a_refused_submit_replaces_nothing_is_noted_and_does_not_stop_the_schedule() {
    let mut hourly = Hourly::new(Overlap::Replace, CatchUp::None);
    hourly.hours(1);
    let first = hourly.made();
    hourly.hours(1);
    let wallet = hourly.world.tables.wallets.get_mut(&hourly.world.wallet).unwrap();
    wallet.mission_limit_ucr = Some(Ucr::ZERO);
    let dear = hourly.world.define("workflow: w\nflat_fee: 5\nnodes: { x: { transform: 1 } }");
    let free = std::mem::replace(&mut hourly.workflow, dear);
    let at = hourly.row().next_at.unwrap();
    assert!(matches!(hourly.fire(), Fired::Refused(_)));
    let row = hourly.row();
    let error = row.last_error.clone().unwrap();
    assert_eq!((row.refused, row.last_mission_id), (1, Some(first)));
    assert_eq!((error["code"].as_str(), error["scheduled_for"].as_i64()), (Some("refused"), Some(at.ms())));
    assert_eq!(hourly.world.run(first).state, RunState::Queued, "what runs goes on");
    hourly.workflow = free;
    hourly.hours(1);
    hourly.made();
    assert_eq!((hourly.row().fired, &hourly.row().last_error), (2, &None));
    // what can't even be submitted is noted the same way
    hourly.hours(1);
    let gone = FiringError { code: "validation".to_owned(), message: "there is no such workflow".to_owned() };
    let seen = hourly.row().clone();
    assert_eq!(hourly.fire_as_seen(&seen, Err(gone.clone())), Fired::Refused(gone));
    assert_eq!(hourly.row().next_at, seen.next_at.map(|at| at.plus_ms(HOUR)));
}

#[test]
fn after_an_outage_the_last_firing_is_made_up_for_or_none() {
    for (catch_up, made) in [(CatchUp::None, 0), (CatchUp::Last, 1)] {
        let mut hourly = Hourly::new(Overlap::Skip, catch_up);
        let first = hourly.row().next_at.unwrap();
        hourly.hours(5);
        hourly.world.pass_ms(HOUR / 2);
        let fired = hourly.fire();
        let row = hourly.row();
        assert_eq!((row.fired, matches!(fired, Fired::Made { .. })), (made, made == 1));
        assert_eq!(row.next_at, Some(first.plus_ms(5 * HOUR)), "the next is in the future");
        assert_eq!(row.last_fired_at, (made == 1).then_some(first.plus_ms(4 * HOUR)));
        assert!(row.skipped >= 1);
    }
}

#[test]
fn a_firing_that_is_a_little_late_is_no_missed_one() {
    let mut hourly = Hourly::new(Overlap::Skip, CatchUp::None);
    hourly.world.pass_ms(HOUR + 59_000);
    hourly.made();
    hourly.hours(1);
    hourly.world.pass_ms(2_000);
    assert_eq!(hourly.fire(), Fired::Skipped);
}

#[test]
fn a_change_or_a_pause_makes_a_firing_stale_that_was_looked_at_before() {
    let mut hourly = Hourly::new(Overlap::Skip, CatchUp::Last);
    hourly.hours(1);
    let seen = hourly.row().clone();
    let want = Want { schedules: vec![hourly.id], ..Want::default() };
    let paused = Schedule { paused: true, next_at: None, due_at: None, ..seen.clone() };
    assert!(hourly.world.decide(&want, |turn| change_schedule(turn, &paused)));
    assert!(!hourly.world.decide(&want, |turn| change_schedule(turn, &paused)), "it was changed since");
    assert_eq!(hourly.fire_as_seen(&seen, Ok(())), Fired::Stale);
    assert_eq!(hourly.world.tables.missions.len(), 0);
}

#[test]
fn jitter_depends_on_schedule_and_time_alone_and_stays_before_the_next_time() {
    let (a, b): (ScheduleId, ScheduleId) = (World::new(1).dice.id(), World::new(2).dice.id());
    let at = |hour: i64| Timestamp::from_ms(1_700_000_000_000 + hour * HOUR);
    let late = |id, hour| slot(id, 600_000, at(hour), Some(at(hour + 1))).due_at.since_ms(at(hour));
    let all: Vec<i64> = (0..50).flat_map(|hour| [late(a, hour), late(b, hour)]).collect();
    assert!(all.iter().all(|ms| (0..=600_000).contains(ms)));
    let mut different = all.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 95, "they spread");
    assert_eq!(late(a, 3), late(a, 3));
    for hour in 0..50 {
        let crowded = slot(a, HOUR, at(hour), Some(at(hour).plus_ms(10)));
        assert!(crowded.due_at < at(hour).plus_ms(10));
    }
    assert_eq!(slot(a, 0, at(1), None).due_at, at(1));
}
