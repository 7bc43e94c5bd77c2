//! How runs end before their time: failures among siblings, cancels, deadlines.

use super::{ONE, only_call, open_holds, workflow};
use crate::credits::Ucr;
use crate::flow::Refusal;
use crate::flow::testbed::{World, answer};
use crate::limits::LEASE_MS;
use crate::outcome::{CallRefusal, ErrorClass, FinishedCall};
use crate::record::CallState;
use crate::state::{RunState, TaskState};

const FAMILY: &str = "  bad: { agent: a, prompt: p }
  running: { agent: a, prompt: p }
  ready: { agent: a, prompt: p }
  asleep: { sleep: 1h }
  child: { needs: [bad], agent: a, prompt: p }
  grandchild: { needs: [child], transform: 1 }";

#[test]
fn when_a_task_fails_its_siblings_are_cancelled_and_pending_ones_skipped() {
    use TaskState::{Cancelled, Failed, Skipped};
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", FAMILY));
    let running = world.claim(mission, "running");
    let call = world.call(&running, 10, 10);
    let bad = world.claim(mission, "bad");
    let settled = world.fail(&bad, ErrorClass::Permanent, vec![]);
    assert_eq!(settled.ending, Some(running.run));
    let states =
        |world: &World| ["bad", "ready", "asleep", "child", "grandchild"].map(|node| world.state(mission, node));
    assert_eq!(states(&world), [Failed, Cancelled, Cancelled, Skipped, Skipped]);
    assert_eq!((world.run(mission).state, world.state(mission, "running")), (RunState::Failing, TaskState::Running));
    assert_eq!(world.beat(&running), (true, true), "the worker is told to stop");
    world.verify();

    world.succeed(&running, vec![call]);
    assert_eq!((world.run(mission).state, world.state(mission, "running")), (RunState::Failed, Cancelled));
    assert_eq!((world.purse(), open_holds(&world)), ((100_000_000, 0, 0), 0), "cancelled by the system is not charged");
    world.verify();
}

#[test]
fn a_running_task_of_a_failing_run_whose_worker_vanished_ends_with_its_lease() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", FAMILY));
    let running = world.claim(mission, "running");
    world.call(&running, 10, 10);
    let bad = world.claim(mission, "bad");
    world.fail(&bad, ErrorClass::Permanent, vec![]);
    world.pass_ms(LEASE_MS - 1);
    world.sweep();
    assert_eq!(world.state(mission, "running"), TaskState::Running);
    world.pass_ms(1);
    world.sweep();
    assert_eq!((world.state(mission, "running"), world.run(mission).state), (TaskState::Cancelled, RunState::Failed));
    assert_eq!((only_call(&world).state, world.purse().1), (CallState::Lost, 0));
    world.verify();
}

#[test]
fn a_user_cancel_charges_what_was_used_and_nothing_beyond_the_reservation() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 5", ONE));
    let lease = world.claim(mission, "one");
    let (small, large, open) = (world.call(&lease, 10, 10), world.call(&lease, 10, 10), world.call(&lease, 10, 10));
    world.cancel(mission).unwrap();
    assert_eq!((world.run(mission).state, world.state(mission, "one")), (RunState::Cancelling, TaskState::Running));
    assert_eq!(world.beat(&lease), (true, true));
    let stopped = FinishedCall { succeeded: false, usage: None, ..answer(small.id, 10, 2) };
    world.fail(&lease, ErrorClass::Cancelled, vec![stopped, answer(large.id, 10, 1_000)]);

    assert_eq!((world.run(mission).state, world.state(mission, "one")), (RunState::Cancelled, TaskState::Cancelled));
    assert_eq!(world.spent(mission), (10 * 100 + 2 * 200) + 3_000);
    assert_eq!((world.tables.calls[&small.id].estimated, world.tables.calls[&small.id].billable), (true, true));
    assert_eq!(world.tables.calls[&large.id].cost_ucr, Ucr::new(3_000));
    assert_eq!(world.tables.calls[&open.id].state, CallState::Lost);
    assert_eq!((world.purse(), open_holds(&world)), ((100_000_000 - 4_400, 0, 0), 0));
    world.verify();
}

#[test]
fn cancelling_twice_is_the_same_as_once_and_what_is_over_refuses() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", FAMILY));
    let lease = world.claim(mission, "running");
    world.cancel(mission).unwrap();
    let before = world.tables.clone();
    world.cancel(mission).unwrap();
    assert!(world.tables == before);
    world.fail(&lease, ErrorClass::Cancelled, vec![]);
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    world.cancel(mission).unwrap();

    let over = world.submit(&workflow("", "  x: { transform: 1 }"));
    world.do_node(over, "x", None);
    let refused = Refusal::IllegalMove { what: "mission", state: "succeeded", wish: "cancelled" };
    assert_eq!(world.cancel(over), Err(refused));
    world.verify();
}

#[test]
fn a_mission_that_nobody_works_on_is_cancelled_at_once() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", FAMILY));
    let outbox = std::mem::take(&mut world.outbox);
    world.cancel(mission).unwrap();
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    assert_eq!(world.purse(), (100_000_000, 0, 0));
    let worker = world.worker;
    assert!(outbox.into_iter().all(|task| world.claim_for(worker, task).is_none()));
    world.verify();
}

#[test]
fn a_run_that_is_ending_grants_no_calls() {
    for by_user in [true, false] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", FAMILY));
        let (running, bad) = (world.claim(mission, "running"), world.claim(mission, "bad"));
        if by_user {
            world.cancel(mission).unwrap();
        } else {
            world.fail(&bad, ErrorClass::Permanent, vec![]);
        }
        assert_eq!(world.ask(&running, 1, "x", (10, 10)), Err(CallRefusal::StaleFence));
        assert!(world.tables.calls.is_empty());
        world.verify();
    }
}

#[test]
fn a_task_handed_back_to_an_ending_run_is_cancelled() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    world.cancel(mission).unwrap();
    world.settle(&lease, &lease.settle(crate::outcome::Outcome::HandedBack)).unwrap();
    assert_eq!((world.state(mission, "one"), world.run(mission).state), (TaskState::Cancelled, RunState::Cancelled));
    world.verify();
}

#[test]
fn a_failing_run_that_a_user_cancels_is_cancelled() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", FAMILY));
    let (running, bad) = (world.claim(mission, "running"), world.claim(mission, "bad"));
    world.fail(&bad, ErrorClass::Permanent, vec![]);
    world.cancel(mission).unwrap();
    world.fail(&running, ErrorClass::Cancelled, vec![]);
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    world.verify();
}
