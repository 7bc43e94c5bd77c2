//! Waiting for credits and for room in a budget.

use super::{ONE, ONE_HOLD_UCR, open_holds, workflow};
use crate::credits::Ucr;
use crate::flow::testbed::World;
use crate::outcome::{CallRefusal, ErrorClass, Outcome};
use crate::state::{RunState, TaskState, WaitCause};

const TWO: &str = "  one: { agent: a, prompt: p }\n  two: { needs: [one], agent: a, prompt: p }";

/// A world with just enough for one hold, and a mission that waits for credits with its second node.
fn waiting(world: &mut World) -> crate::id::MissionId {
    let mission = world.submit(&workflow("", TWO));
    world.do_node(mission, "one", Some((18, 100)));
    let task = world.task(mission, "two");
    assert_eq!((task.state, task.wait, task.hold_id), (TaskState::Waiting, Some(WaitCause::Credits), None));
    mission
}

#[test]
fn a_task_whose_hold_does_not_fit_waits_for_credits_and_resumes_after_a_grant() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
    let mission = waiting(&mut world);
    assert!(world.run(mission).state.is_live());
    let before = world.tables.clone();
    world.pass_ms(1_000);
    world.sweep();
    assert!(world.tables == before, "a vain try leaves no trace");
    world.verify();
    world.grant(1);
    assert_eq!((world.state(mission, "two"), open_holds(&world)), (TaskState::Ready, 1));
    world.do_node(mission, "two", Some((1, 1)));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn waiters_resume_oldest_first() {
    let mut world = World::new(1);
    let mut missions = Vec::new();
    for _ in 0..3 {
        world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
        missions.push(waiting(&mut world));
        world.pass_ms(10);
    }
    for resumed in 1..=3 {
        world.grant_ucr(Ucr::new(ONE_HOLD_UCR + 200), None).unwrap();
        let ready: Vec<bool> =
            missions.iter().map(|mission| world.state(*mission, "two") == TaskState::Ready).collect();
        assert_eq!(ready, [resumed >= 1, resumed >= 2, resumed >= 3]);
        world.verify();
    }
}

#[test]
fn a_waiter_keeps_its_place_when_it_is_tried_in_vain() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
    let old = waiting(&mut world);
    let since = world.task(old, "two").ready_at;
    world.pass_ms(5_000);
    world.grant_ucr(Ucr::new(1), None).unwrap();
    assert_eq!(world.task(old, "two").ready_at, since);
    world.verify();
}

#[test]
fn credits_that_come_home_resume_a_waiter() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(2 * ONE_HOLD_UCR), None).unwrap();
    let other = world.submit(&workflow("", ONE));
    let mission = waiting(&mut world);
    world.cancel(other).unwrap();
    world.sweep();
    assert_eq!(world.state(mission, "two"), TaskState::Waiting, "the output of `one` made it larger");
    world.grant_ucr(Ucr::new(200), None).unwrap();
    assert_eq!(world.state(mission, "two"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_budget_that_pauses_parks_the_task_until_there_is_room() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("budget: { credits: '0.03', on_exhausted: pause }", TWO));
    world.do_node(mission, "one", Some((18, 100)));
    let task = world.task(mission, "two");
    assert_eq!((task.state, task.wait), (TaskState::Waiting, Some(WaitCause::Credits)));
    assert!(task.status_reason.as_ref().unwrap().contains("budget"));
    world.grant(1_000);
    assert_eq!(world.state(mission, "two"), TaskState::Waiting, "credits are not what it lacks");
    world.set_budget(mission, 1);
    assert_eq!(world.state(mission, "two"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_budget_that_fails_ends_the_run() {
    let mut world = World::with_credits(100);
    let nodes = format!("{TWO}\n  side: {{ needs: [one], transform: 1 }}");
    let mission = world.submit(&workflow("flat_fee: '0.001'\nbudget: { credits: '0.03', on_exhausted: fail }", &nodes));
    let settled = world.do_node(mission, "one", Some((18, 100)));
    assert_eq!((world.state(mission, "two"), settled.ending), (TaskState::Failed, Some(world.run(mission).id)));
    assert_eq!(world.task(mission, "two").error.as_ref().unwrap().code, "budget_exhausted");
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Failed);
    assert_eq!((world.spent(mission), world.purse().1), (ONE_HOLD_UCR, 0), "what succeeded is charged, the fee is not");
    world.verify();
}

#[test]
fn no_successor_is_handed_over_in_a_run_that_began_to_fail() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p, pool: default }
  side: { needs: [one], transform: 1 }
  two: { needs: [one], agent: a, prompt: p }
  zzz: { needs: [one], transform: 1 }";
    let mission = world.submit(&workflow("budget: { credits: '0.03', on_exhausted: fail }", nodes));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 18, 100);
    let (_, settled) = world.hand_over(&lease, vec![call]);
    assert_eq!((settled.successor, settled.ready, settled.ending), (None, vec![], Some(lease.run)));
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Failed);
    world.verify();
}

#[test]
fn a_call_beyond_the_budget_parks_or_fails_as_the_budget_says() {
    for (policy, state) in [("pause", TaskState::Waiting), ("fail", TaskState::Failed)] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow(&format!("budget: {{ credits: '0.03', on_exhausted: {policy} }}"), ONE));
        let lease = world.claim(mission, "one");
        let refused = world.ask(&lease, 1, "x", (1_000, 100)).unwrap_err();
        let (required, available) = (Ucr::new(120_000 - ONE_HOLD_UCR), Ucr::new(30_000 - ONE_HOLD_UCR));
        assert_eq!(refused, CallRefusal::InsufficientCredits { required, available });
        world.fail(&lease, ErrorClass::Budget, vec![]);
        assert_eq!((world.state(mission, "one"), world.purse().1), (state, 0), "{policy}");
        world.sweep();
        assert_eq!((world.state(mission, "one"), world.purse().1), (state, 0), "{policy}");
        world.verify();
    }
}

#[test]
fn a_task_parked_by_a_refused_call_waits_until_that_call_fits() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    assert!(world.ask(&lease, 1, "x", (1_000, 100)).is_err());
    world.fail(&lease, ErrorClass::Budget, vec![]);
    assert_eq!((world.state(mission, "one"), world.task(mission, "one").failures), (TaskState::Waiting, 0));
    for _ in 0..3 {
        world.pass_ms(1_000);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Waiting, "the call that was refused would be refused again");
    }
    world.grant_ucr(Ucr::new(120_000), None).unwrap();
    let lease = world.claim(mission, "one");
    let call = match world.ask(&lease, 1, "x", (1_000, 100)) {
        Ok(crate::outcome::CallPermit::Send(id)) => crate::flow::testbed::answer(id, 1_000, 100),
        other => panic!("{other:?}"),
    };
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: 1.into(), calls: vec![call] })).unwrap();
    assert_eq!(world.spent(mission), 120_000);
    world.verify();
}

#[test]
fn a_cancelled_mission_no_longer_waits_for_credits() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
    let mission = waiting(&mut world);
    world.cancel(mission).unwrap();
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    world.grant(10);
    assert_eq!((world.state(mission, "two"), world.purse().1), (TaskState::Cancelled, 0));
    world.verify();
}
