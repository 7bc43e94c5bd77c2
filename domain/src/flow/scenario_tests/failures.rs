//! Nodes that fail without their run: what those after them see, and what it costs.

use serde_json::{Value, json};

use super::{ONE, open_holds, ops, workflow};
use crate::flow::testbed::World;
use crate::flow::{Refusal, Settlement};
use crate::id::MissionId;
use crate::limits::{LEASE_MS, POISON_LOSSES};
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::record::OpKind;
use crate::state::{RunState, TaskState, WaitCause};

/// One that may fail, one that needs it, one that needs it under a condition.
fn nodes(on_error: &str) -> String {
    format!(
        "  ask: {{ agent: a, prompt: p, retry: {{ max_attempts: 1 }}, on_error: {on_error} }}
  next: {{ needs: [ask], transform: '{{{{ nodes.ask.output }}}}' }}
  mend: {{ needs: [ask], when: 'nodes.ask.output.error is defined', transform: 1 }}"
    )
}

fn fail(world: &mut World, mission: MissionId, node: &str, class: ErrorClass) -> Result<Settlement, Refusal> {
    let lease = world.claim(mission, node);
    let calls = vec![world.call(&lease, 10, 10)];
    let error = StepError::new(class, "model_broke", "the model broke");
    world.settle(&lease, &lease.settle(Outcome::Failed { error, calls }))
}

#[test]
fn a_run_that_fails_has_the_fingerprint_of_its_failure() {
    let mut world = World::with_credits(100);
    let fingerprint = |world: &mut World| {
        let mission = world.submit(&workflow("", ONE));
        let lease = world.claim(mission, "one");
        assert_eq!(world.run(mission).fingerprint, None);
        world.fail(&lease, ErrorClass::Permanent, vec![]);
        let error = world.run(mission).error.clone().unwrap();
        let text = |key: &str| error[key].as_str().unwrap().to_owned();
        let expected = crate::fingerprint::fingerprint("w", "one", &text("code"), &text("message"));
        assert_eq!(world.run(mission).fingerprint, Some(expected.clone()));
        expected
    };
    assert_eq!(fingerprint(&mut world), fingerprint(&mut world));
}

#[test]
fn a_run_goes_on_after_a_failure_that_it_can_do_without() {
    let about = json!({"error": {"class": "permanent", "code": "model_broke", "message": "the model broke"}});
    for (on_error, output, mends) in [("skip", Value::Null, false), ("continue", about, true)] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("flat_fee: 1", &nodes(on_error)));
        let settled = fail(&mut world, mission, "ask", ErrorClass::Permanent).unwrap();
        assert_eq!((settled.state, settled.ending), (TaskState::Failed, None), "{on_error}");
        let ask = world.task(mission, "ask");
        assert_eq!((ask.output.as_ref(), ask.error.as_ref().unwrap().code.as_str()), (Some(&output), "model_broke"));
        assert_eq!(world.run(mission).state, RunState::Running);
        assert_eq!((open_holds(&world), ops(&world, OpKind::Settle)), (1, 0), "the fee's hold is left");
        let expected = if mends { TaskState::Ready } else { TaskState::Skipped };
        assert_eq!((world.state(mission, "next"), world.state(mission, "mend")), (TaskState::Ready, expected));
        assert!(settled.ready.contains(&world.task(mission, "next").id), "who is ready is told to the queue");
        world.verify();
        world.do_node(mission, "next", None);
        if mends {
            world.do_node(mission, "mend", None);
        }
        assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000));
        world.verify();
    }
}

#[test]
fn a_failure_that_matters_still_fails_the_run() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", &nodes("fail")));
    let settled = fail(&mut world, mission, "ask", ErrorClass::Permanent).unwrap();
    world.end_run(settled.ending.unwrap());
    assert_eq!((world.run(mission).state, world.task(mission, "ask").output.clone()), (RunState::Failed, None));
    assert_eq!(world.state(mission, "next"), TaskState::Skipped);
    world.verify();
}

#[test]
fn a_run_of_nothing_but_failures_that_it_can_do_without_succeeds() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", "  ask: { agent: a, prompt: p, on_error: skip }"));
    fail(&mut world, mission, "ask", ErrorClass::Permanent).unwrap();
    assert_eq!((world.run(mission).state, world.spent(mission), open_holds(&world)), (RunState::Succeeded, 0, 0));
    let kinds = world.events(mission);
    assert_eq!(kinds.last(), Some(&"mission.succeeded"));
    world.verify();
}

#[test]
fn what_fails_before_it_starts_is_gone_on_from_as_well() {
    let text = "  first: { transform: 1 }
  gate: { needs: [first], until: '{{ nodes.first.output }}', on_error: continue }
  odd: { needs: [gate], when: nodes.first.output.x, on_error: skip, transform: 1 }
  last: { needs: [gate, odd], transform: 1 }";
    for sight in [0, 100] {
        let mut world = World::with_credits(100);
        world.sight = sight;
        let mission = world.submit(&workflow("", text));
        world.do_node(mission, "first", None);
        for _ in 0..3 {
            world.sweep();
            world.verify();
        }
        let code = |node| world.task(mission, node).error.clone().unwrap().code;
        assert_eq!((code("gate").as_str(), code("odd").as_str()), ("until_failed", "condition_failed"));
        assert_eq!(world.state(mission, "last"), TaskState::Ready);
        world.do_node(mission, "last", None);
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        world.verify();
    }
}

#[test]
fn a_vanished_worker_and_a_spent_budget_are_failures_like_others() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", &nodes("continue")));
    for _ in 0..POISON_LOSSES {
        world.claim(mission, "ask");
        world.pass_ms(LEASE_MS);
        world.recover_lost();
    }
    assert_eq!(world.task(mission, "ask").error.clone().unwrap().code, "poison_pill");
    assert_eq!((world.state(mission, "next"), world.run(mission).state), (TaskState::Ready, RunState::Running));
    world.verify();

    let mut world = World::with_credits(100);
    let text = "  dear: { needs: [first], agent: a, prompt: p, on_error: skip }\n  first: { transform: 1 }\n  last: { needs: [dear], transform: 1 }";
    let mission = world.submit(&workflow("budget: { credits: '0.001', on_exhausted: fail }", text));
    world.do_node(mission, "first", None);
    assert_eq!((world.state(mission, "dear"), world.state(mission, "last")), (TaskState::Failed, TaskState::Ready));
    world.do_node(mission, "last", None);
    assert_eq!((world.run(mission).state, open_holds(&world)), (RunState::Succeeded, 0));
    world.verify();
}

#[test]
fn attempts_are_used_up_before_the_run_goes_on() {
    let mut world = World::with_credits(100);
    let text = nodes("skip").replace("max_attempts: 1", "max_attempts: 2, backoff: { jitter: false }");
    let mission = world.submit(&workflow("", &text));
    fail(&mut world, mission, "ask", ErrorClass::Retryable).unwrap();
    assert_eq!((world.state(mission, "ask"), world.state(mission, "next")), (TaskState::Retrying, TaskState::Pending));
    world.pass_ms(10_000);
    world.sweep();
    fail(&mut world, mission, "ask", ErrorClass::RateLimited).unwrap();
    assert_eq!(world.task(mission, "ask").wait, Some(WaitCause::RateLimit));
    world.pass_ms(100_000);
    world.sweep();
    fail(&mut world, mission, "ask", ErrorClass::Retryable).unwrap();
    assert_eq!((world.state(mission, "ask"), world.state(mission, "next")), (TaskState::Failed, TaskState::Ready));
    world.verify();
}
