//! Nodes that wait for a signal: early ones, late ones, twice the same, too many.

use serde_json::{Value, json};

use super::workflow;
use crate::flow::SignalRefusal;
use crate::flow::testbed::World;
use crate::id::MissionId;
use crate::limits::MAX_BUFFERED_SIGNALS;
use crate::outcome::Outcome;
use crate::state::{RunState, TaskState, WaitCause};

/// Two that wait for the same signal one after the other, behind a step.
const TWO: &str = "  first: { transform: 1 }
  paid: { needs: [first], signal: { name: paid, expires: 1h } }
  again: { needs: [paid], signal: { name: paid, expires: 1h } }
  last: { needs: [again], transform: 1 }";

fn do_first(world: &mut World, mission: MissionId) {
    let lease = world.claim(mission, "first");
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!(1), calls: vec![] })).unwrap();
    // what was out of sight is decided a moment later
    world.sweep();
    world.sweep();
}

fn output(world: &World, mission: MissionId, node: &str) -> Option<Value> {
    world.task(mission, node).output.clone()
}

#[test]
fn a_signal_that_comes_to_a_waiting_node_is_its_output() {
    for sight in [0, 100] {
        let mut world = World::with_credits(10);
        world.sight = sight;
        let mission = world.submit(&workflow("", TWO));
        do_first(&mut world, mission);
        let task = world.task(mission, "paid");
        assert_eq!((task.state, task.wait), (TaskState::Waiting, Some(WaitCause::Signal)));
        assert_eq!((task.due_at, task.hold_id), (Some(world.now.plus_ms(3_600_000)), None));
        let received = world.signal(mission, "paid", None, json!({"amount": 5})).unwrap();
        assert_eq!(received.signal.task_id, Some(world.task(mission, "paid").id));
        world.sweep();
        assert_eq!(output(&world, mission, "paid"), Some(json!({"amount": 5})));
        assert_eq!(world.task(mission, "again").wait, Some(WaitCause::Signal), "one signal goes to one task");
        world.signal(mission, "other", None, json!({})).unwrap();
        assert_eq!(world.task(mission, "again").wait, Some(WaitCause::Signal), "and by its name");
        world.signal(mission, "paid", None, json!({"amount": 6})).unwrap();
        assert_eq!(output(&world, mission, "again"), Some(json!({"amount": 6})));
        world.do_node(mission, "last", None);
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        world.verify();
    }
}

#[test]
fn signals_that_come_before_their_nodes_are_taken_in_their_order() {
    for sight in [0, 1, 100] {
        let mut world = World::with_credits(10);
        world.sight = sight;
        let mission = world.submit(&workflow("", TWO));
        for number in 1..=3 {
            let received = world.signal(mission, "paid", None, json!({"n": number})).unwrap();
            assert_eq!(received.signal.task_id, None);
            world.pass_ms(1);
        }
        do_first(&mut world, mission);
        assert_eq!(output(&world, mission, "paid"), Some(json!({"n": 1})), "{sight}");
        assert_eq!(output(&world, mission, "again"), Some(json!({"n": 2})), "{sight}");
        assert_eq!(world.state(mission, "last"), TaskState::Ready);
        let left: Vec<_> = world.tables.signals.values().filter(|signal| signal.task_id.is_none()).collect();
        assert_eq!((left.len(), &left[0].payload), (1, &json!({"n": 3})), "the third waits for nobody");
        world.verify();
    }
}

#[test]
fn a_signal_that_comes_before_the_first_node_needs_no_wait() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", "  paid: { signal: { name: paid }, units: { step: 1 } }"));
    assert_eq!(world.held(mission, "paid"), Some(1_000_000));
    world.signal(mission, "paid", None, json!([1])).unwrap();
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000));
    world.verify();
}

#[test]
fn the_same_signal_twice_under_one_key_is_one() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", TWO));
    let first = world.signal(mission, "paid", Some("k"), json!({"n": 1})).unwrap();
    let again = world.signal(mission, "paid", Some("k"), json!({"n": 1})).unwrap();
    assert!(!first.repeated && again.repeated && again.signal == first.signal);
    assert_eq!(world.tables.signals.len(), 1);
    for (name, payload) in [("paid", json!({"n": 2})), ("other", json!({"n": 1}))] {
        assert_eq!(world.signal(mission, name, Some("k"), payload), Err(SignalRefusal::KeyReused));
    }
    do_first(&mut world, mission);
    let told = world.signal(mission, "paid", Some("k"), json!({"n": 1})).unwrap();
    assert_eq!(told.signal.task_id, Some(world.task(mission, "paid").id), "what became of it meanwhile");
    // without a key each is a signal of its own
    world.signal(mission, "paid", None, json!({"n": 1})).unwrap();
    assert_eq!(world.state(mission, "last"), TaskState::Ready);
    world.cancel(mission).unwrap();
    let told = world.signal(mission, "paid", Some("k"), json!({"n": 1})).unwrap();
    assert!(told.repeated, "long after");
    assert_eq!(world.signal(mission, "paid", None, json!({})), Err(SignalRefusal::Over("cancelled")));
    world.verify();
}

#[test]
fn signals_that_nobody_takes_are_bounded() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", TWO));
    for number in 0..MAX_BUFFERED_SIGNALS {
        world.signal(mission, "paid", None, json!({"n": number})).unwrap();
    }
    assert_eq!(world.signal(mission, "paid", None, json!({})), Err(SignalRefusal::TooMany));
    do_first(&mut world, mission);
    world.signal(mission, "paid", None, json!({})).unwrap();
    world.verify();
}

#[test]
fn a_signal_that_does_not_come_ends_the_wait_as_the_node_says() {
    let cases = [
        ("", TaskState::Failed, Some("signal_expired"), None),
        (", on_expire: continue", TaskState::Succeeded, None, Some(Value::Null)),
    ];
    for (more, state, code, handed_on) in cases {
        let nodes = format!(
            "  paid: {{ signal: {{ name: paid, expires: 1m{more} }} }}\n  last: {{ needs: [paid], transform: 1 }}"
        );
        let mut world = World::with_credits(10);
        let mission = world.submit(&workflow("", &nodes));
        world.pass_ms(60_000);
        let late = world.signal(mission, "paid", None, json!({})).unwrap();
        assert_eq!(late.signal.task_id, None, "its time is over, whatever the sweep's lag");
        world.sweep();
        let task = world.task(mission, "paid");
        assert_eq!((task.state, task.error.as_ref().map(|error| error.code.as_str())), (state, code));
        assert_eq!(task.output, handed_on);
        world.verify();
    }
}

#[test]
fn a_signal_is_taken_while_the_run_is_paused_and_what_follows_waits() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", TWO));
    do_first(&mut world, mission);
    world.pause(mission).unwrap();
    world.signal(mission, "paid", None, json!(1)).unwrap();
    assert_eq!(output(&world, mission, "paid"), Some(json!(1)));
    assert_eq!(world.task(mission, "again").wait, Some(WaitCause::Paused));
    world.signal(mission, "paid", None, json!(2)).unwrap();
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!(output(&world, mission, "again"), Some(json!(2)), "one that came during the pause");
    world.verify();
}
