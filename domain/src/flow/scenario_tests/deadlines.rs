//! Nodes with a deadline of their own: whatever they wait for, and while they run.

use serde_json::json;

use super::{ONE_HOLD_UCR, open_holds, workflow};
use crate::flow::testbed::World;
use crate::flow::{ApprovalRefusal, SignalRefusal};
use crate::id::MissionId;
use crate::limits::LEASE_MS;
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::state::{RunState, TaskState, WaitCause};

/// A node with a deadline of a minute behind a step; its kind and more as given; and one behind it.
fn nodes(kind: &str) -> String {
    format!(
        "  first: {{ transform: 1 }}
  late: {{ needs: [first], {kind}, deadline: 1m, on_error: continue }}
  next: {{ needs: [late], transform: 1 }}"
    )
}

/// A mission whose first step took two minutes.
fn begun(world: &mut World, kind: &str) -> MissionId {
    let mission = world.submit(&workflow("", &nodes(kind)));
    let lease = world.claim(mission, "first");
    world.work_ms(&[&lease], 120_000);
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!("x"), calls: vec![] })).unwrap();
    assert_eq!(world.task(mission, "late").deadline_at, Some(world.now.plus_ms(60_000)), "from when it could begin");
    mission
}

/// Its time passes; the run goes on without it.
fn passes(world: &mut World, mission: MissionId, about: &str) {
    world.sweep();
    let late = world.task(mission, "late").clone();
    let error = late.error.unwrap();
    assert_eq!(
        (late.state, error.class, error.code.as_str()),
        (TaskState::Failed, ErrorClass::Permanent, "deadline_exceeded")
    );
    assert!(error.message.contains(about), "{}", error.message);
    assert_eq!(late.output.unwrap()["error"]["code"], "deadline_exceeded");
    assert_eq!((world.state(mission, "next"), world.spent(mission)), (TaskState::Ready, 0));
    world.verify();
}

#[test]
fn a_node_that_waits_fails_when_its_time_is_over() {
    for (kind, about) in [
        ("sleep: 1h", "waiting (timer)"),
        ("approval: { show: '?' }", "waiting (approval)"),
        ("signal: { name: s }", "waiting (signal)"),
    ] {
        let mut world = World::with_credits(10);
        let mission = begun(&mut world, kind);
        world.pass_ms(59_999);
        world.sweep();
        assert_eq!(world.state(mission, "late"), TaskState::Waiting);
        world.pass_ms(1);
        if kind.starts_with("approval") {
            let task = world.task(mission, "late").id;
            assert_eq!(
                world.decide_approval(task, true, None),
                Err(ApprovalRefusal::Expired),
                "exact before the sweep"
            );
        } else if kind.starts_with("signal") {
            assert_eq!(world.signal(mission, "s", None, json!(1)).unwrap().signal.task_id, None);
        }
        passes(&mut world, mission, about);
    }
}

#[test]
fn a_node_that_no_worker_takes_or_that_lacks_credits_fails_as_well() {
    let mut world = World::with_credits(10);
    let mission = begun(&mut world, "agent: a, prompt: p");
    assert_eq!((world.state(mission, "late"), open_holds(&world)), (TaskState::Ready, 1));
    world.pass_ms(60_000);
    passes(&mut world, mission, "it was ready");
    assert_eq!(open_holds(&world), 0);

    let mut world = World::new(7);
    world.grant_ucr(crate::credits::Ucr::new(ONE_HOLD_UCR / 2), None).unwrap();
    let mission = begun(&mut world, "agent: a, prompt: p");
    assert_eq!(world.task(mission, "late").wait, Some(WaitCause::Credits));
    world.pass_ms(60_000);
    passes(&mut world, mission, "waiting (credits)");
}

#[test]
fn a_running_attempt_is_told_to_stop_and_fails_its_node() {
    let mut world = World::with_credits(10);
    let mission = begun(&mut world, "agent: a, prompt: p, retry: { max_attempts: 5 }");
    let lease = world.claim(mission, "late");
    world.work_ms(&[&lease], 59_999);
    assert_eq!(world.beat(&lease), (true, false));
    world.pass_ms(1);
    world.sweep();
    assert_eq!(world.state(mission, "late"), TaskState::Running, "its worker settles it");
    assert_eq!(world.beat(&lease), (true, true), "told to stop");
    let error = StepError::new(ErrorClass::Cancelled, "cancelled", "stopped");
    world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
    passes(&mut world, mission, "it was running");
}

#[test]
fn a_worker_that_vanished_or_gives_back_after_the_deadline_leaves_a_failed_node() {
    let mut world = World::with_credits(10);
    let mission = begun(&mut world, "agent: a, prompt: p");
    let lease = world.claim(mission, "late");
    world.work_ms(&[&lease], 55_000);
    world.pass_ms(LEASE_MS);
    passes(&mut world, mission, "it was running");

    let mission = begun(&mut world, "agent: a, prompt: p");
    let lease = world.claim(mission, "late");
    world.work_ms(&[&lease], 60_000);
    world.settle(&lease, &lease.settle(Outcome::HandedBack)).unwrap();
    passes(&mut world, mission, "it was running");
}

#[test]
fn what_succeeds_before_it_is_stopped_counts() {
    let mut world = World::with_credits(10);
    let mission = begun(&mut world, "agent: a, prompt: p");
    let lease = world.claim(mission, "late");
    world.work_ms(&[&lease], 60_001);
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!("done"), calls: vec![] })).unwrap();
    assert_eq!(world.state(mission, "late"), TaskState::Succeeded);
    world.verify();
}

#[test]
fn a_retry_does_not_outlive_the_deadline_and_the_default_holds_for_all() {
    let mut world = World::with_credits(10);
    let head =
        "defaults: { deadline: 1m, retry: { max_attempts: 9, backoff: { initial: 10m, max: 10m, jitter: false } } }";
    let mission = world.submit(&workflow(head, "  one: { agent: a, prompt: p }"));
    let lease = world.claim(mission, "one");
    let error = StepError::new(ErrorClass::Retryable, "x", "x");
    world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
    assert_eq!(world.state(mission, "one"), TaskState::Retrying);
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.task(mission, "one").error.as_ref().unwrap().code, "deadline_exceeded");
    assert_eq!(world.run(mission).state, RunState::Failed, "a node's deadline is not its run's");
    assert_eq!(world.signal(mission, "s", None, json!(1)), Err(SignalRefusal::Over("failed")));
    world.verify();
}

#[test]
fn a_pause_does_not_stop_the_clock() {
    let mut world = World::with_credits(10);
    let mission = begun(&mut world, "agent: a, prompt: p");
    world.pause(mission).unwrap();
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.task(mission, "late").error.as_ref().unwrap().code, "deadline_exceeded");
    world.verify();
}

#[test]
fn a_family_shares_the_deadline_of_its_node_and_fails_when_its_children_are_over() {
    for on_item_error in ["fail_fast", "continue"] {
        let mut world = World::with_credits(10);
        let map = format!("map: {{ over: 'range(5)', max_parallel: 2, on_item_error: {on_item_error} }}");
        let mission = begun(&mut world, &format!("agent: a, prompt: p, {map}"));
        world.sweep();
        let running =
            world.tables.tasks.values().find(|task| task.layer > 0 && task.state == TaskState::Ready).unwrap().id;
        let worker = world.worker;
        let lease = world.claim_for(worker, running).unwrap();
        world.work_ms(&[&lease], 60_000);
        world.sweep();
        world.sweep();
        assert_eq!(world.state(mission, "late"), TaskState::Waiting, "a child still runs");
        assert_eq!(world.beat(&lease), (true, true));
        let error = StepError::new(ErrorClass::Cancelled, "cancelled", "stopped");
        world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
        world.sweep();
        let late = world.tables.tasks.values().find(|task| task.node == "late" && task.layer == 0).unwrap();
        assert_eq!((late.state, late.error.as_ref().unwrap().code.as_str()), (TaskState::Failed, "deadline_exceeded"));
        assert_eq!((world.state(mission, "next"), open_holds(&world)), (TaskState::Ready, 0), "{on_item_error}");
        world.verify();
    }
}
