//! Nodes that wait for a point in time, and errors that are not worth another attempt.

use serde_json::{Value, json};

use super::{ONE, open_holds, workflow};
use crate::flow::testbed::World;
use crate::id::MissionId;
use crate::limits::LEASE_MS;
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::state::{RunState, TaskState, WaitCause};

fn submit(world: &mut World, nodes: &str, input: Value) -> MissionId {
    let workflow = world.define(&workflow("flat_fee: 1", nodes));
    let mut submission = world.submission(workflow);
    submission.input = input;
    world.try_submit(&submission).unwrap()
}

/// Worlds begin at 2023-11-14T22:13:20Z.
const IN_TEN_SECONDS: &str = "2023-11-14T23:13:30+01:00";

#[test]
fn a_node_waits_until_the_time_that_the_input_says() {
    let nodes = "  gate: { until: '{{ inputs.start }}', units: { step: 2 } }\n  next: { needs: [gate], transform: 1 }";
    let mut world = World::with_credits(10);
    let mission = submit(&mut world, nodes, json!({"start": IN_TEN_SECONDS}));
    let gate = world.task(mission, "gate");
    assert_eq!((gate.state, gate.wait), (TaskState::Waiting, Some(WaitCause::Timer)));
    assert_eq!(gate.status_reason.as_deref(), Some("waits until 2023-11-14T23:13:30+01:00"));
    let (worker, gate) = (world.worker, gate.id);
    assert!(world.claim_for(worker, gate).is_none(), "no slot is taken by waiting");
    assert_eq!(world.held(mission, "gate"), Some(2_000_000));
    world.pass_ms(9_999);
    world.sweep();
    assert_eq!(world.state(mission, "gate"), TaskState::Waiting);
    world.pass_ms(1);
    world.sweep();
    assert_eq!((world.state(mission, "gate"), world.state(mission, "next")), (TaskState::Succeeded, TaskState::Ready));
    world.do_node(mission, "next", None);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 3_000_000));
    world.verify();
}

#[test]
fn a_time_that_a_node_handed_on_is_waited_for_whatever_is_in_sight() {
    let nodes = "  ask: { transform: 1 }\n  gate: { needs: [ask], until: '{{ nodes.ask.output.at }}' }";
    for sight in [0, 100] {
        let mut world = World::with_credits(10);
        world.sight = sight;
        let mission = submit(&mut world, nodes, json!({}));
        let lease = world.claim(mission, "ask");
        let output = json!({"at": IN_TEN_SECONDS});
        world.settle(&lease, &lease.settle(Outcome::Succeeded { output, calls: vec![] })).unwrap();
        world.sweep();
        let gate = world.task(mission, "gate");
        assert_eq!((gate.wait, gate.due_at), (Some(WaitCause::Timer), Some(world.now.plus_ms(10_000))), "{sight}");
        world.verify();
    }
}

#[test]
fn a_time_that_has_passed_is_over_at_once() {
    let mut world = World::with_credits(10);
    let mission = submit(&mut world, "  gate: { until: '2001-01-01T00:00:00Z' }", json!({}));
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn what_is_no_time_fails_its_node_by_name() {
    let cases = [
        (json!("tomorrow"), "until_failed", "`until` became `tomorrow`, which is no time such as 2026-08-01T09:30:00Z"),
        (
            json!("2033-01-01T00:00:00Z"),
            "until_too_far",
            "`until` became 2033-01-01T00:00:00Z, which is further away than the 2592000000 ms of the longest wait",
        ),
    ];
    for (start, code, message) in cases {
        let mut world = World::with_credits(10);
        let mission = submit(&mut world, "  gate: { until: '{{ inputs.start }}' }", json!({"start": start}));
        let error = world.task(mission, "gate").error.clone().unwrap();
        assert_eq!((error.class, error.code.as_str(), error.message.as_str()), (ErrorClass::Permanent, code, message));
        world.sweep();
        assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Failed, 0));
        world.verify();
    }
    let mut world = World::with_credits(10);
    let mission = submit(&mut world, "  gate: { until: '{{ inputs.start }}' }", json!({}));
    assert_eq!(world.task(mission, "gate").error.clone().unwrap().code, "until_failed");
    world.verify();
}

/// The state after one failure of that class, where a retry names those classes.
fn after(on: &str, class: ErrorClass) -> (TaskState, i32) {
    let mut world = World::with_credits(100);
    let head = format!("defaults: {{ retry: {{ max_attempts: 4, on: {on} }} }}");
    let mission = world.submit(&workflow(&head, ONE));
    let lease = world.claim(mission, "one");
    if class == ErrorClass::Lost {
        world.pass_ms(LEASE_MS);
        world.recover_lost();
    } else {
        let error = StepError::new(class, "x", "x");
        world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
    }
    let task = world.task(mission, "one").clone();
    world.sweep();
    world.verify();
    if task.state == TaskState::Failed {
        assert_eq!((world.run(mission).state, open_holds(&world), world.spent(mission)), (RunState::Failed, 0, 0));
    }
    (task.state, task.failures)
}

#[test]
fn only_errors_of_the_named_classes_are_tried_again() {
    let all = "[retryable, rate_limited, cancelled, lost]";
    assert_eq!(after(all, ErrorClass::Retryable), (TaskState::Retrying, 1));
    assert_eq!(after(all, ErrorClass::Cancelled), (TaskState::Retrying, 1));
    assert_eq!(after(all, ErrorClass::RateLimited), (TaskState::Waiting, 0));
    assert_eq!(after(all, ErrorClass::Lost), (TaskState::Ready, 0));
    assert_eq!(after(all, ErrorClass::Permanent), (TaskState::Failed, 1));

    assert_eq!(after("[rate_limited, cancelled, lost]", ErrorClass::Retryable), (TaskState::Failed, 1));
    assert_eq!(after("[retryable, rate_limited, lost]", ErrorClass::Cancelled), (TaskState::Failed, 1));
    assert_eq!(after("[retryable, cancelled, lost]", ErrorClass::RateLimited), (TaskState::Failed, 1));
    assert_eq!(after("[retryable, rate_limited, cancelled]", ErrorClass::Lost).0, TaskState::Failed);
    assert_eq!(after("[]", ErrorClass::Retryable), (TaskState::Failed, 1));
    assert_eq!(after("[retryable]", ErrorClass::Retryable), (TaskState::Retrying, 1));
}
