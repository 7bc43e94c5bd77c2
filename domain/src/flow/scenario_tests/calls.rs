//! The journal of calls: what is replayed, what never is, what is billed.

use super::{ONE, call_states, workflow};
use crate::flow::testbed::{Lease, World};
use crate::id::MissionId;
use crate::outcome::{
    CallPermit, ErrorClass, FinishedCall, ToolAnswer, ToolEffects, ToolEnd, ToolIntent, ToolPermit, ToolRequest,
};
use crate::record::CallState;
use crate::state::TaskState;

fn begin() -> (World, MissionId, Lease) {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    (world, mission, lease)
}

fn failed(call: FinishedCall) -> FinishedCall {
    FinishedCall { succeeded: false, ..call }
}

/// Waits for the retry and claims the node again.
fn again(world: &mut World, mission: MissionId) -> Lease {
    world.pass_ms(60_000);
    world.sweep();
    world.claim(mission, "one")
}

#[test]
fn a_journaled_call_is_replayed_by_the_next_attempt_and_billed_once() {
    let (mut world, mission, lease) = begin();
    let (first, second) = (world.call(&lease, 10, 10), world.call(&lease, 5, 5));
    world.fail(&lease, ErrorClass::Retryable, vec![first.clone(), failed(second)]);
    assert_eq!(call_states(&world), [CallState::Done, CallState::Failed]);
    assert_eq!(world.spent(mission), 0);
    world.verify();

    let lease = again(&mut world, mission);
    let Ok(CallPermit::Replay(replayed)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought again") };
    assert_eq!((replayed.id, &replayed.response, replayed.usage), (first.id, &first.response, first.usage));
    let Ok(CallPermit::Send(_)) = world.ask(&lease, 1, "another body", (10, 10)) else { panic!("not the same call") };
    let third = world.call(&lease, 5, 5);
    world.verify();
    world.succeed(&lease, vec![replayed.clone(), third, replayed]);
    assert_eq!(world.spent(mission), 3_000 + 1_500, "what the succeeding attempt consumed, whoever bought it");
    assert_eq!(world.tables.calls[&first.id].attempt, 1);
    world.verify();
}

#[test]
fn a_journaled_call_that_the_next_attempt_does_not_consume_is_not_billed() {
    let (mut world, mission, lease) = begin();
    let (first, second) = (world.call(&lease, 10, 10), world.call(&lease, 5, 5));
    world.fail(&lease, ErrorClass::Retryable, vec![first, failed(second)]);
    let lease = again(&mut world, mission);
    let other = world.call(&lease, 1, 1);
    world.succeed(&lease, vec![other]);
    assert_eq!(world.spent(mission), 300);
    world.verify();
}

#[test]
fn an_answer_that_made_its_step_fail_is_never_replayed() {
    for class in [ErrorClass::Retryable, ErrorClass::Permanent] {
        let (mut world, mission, lease) = begin();
        let first = world.call(&lease, 10, 10);
        world.fail(&lease, class, vec![first.clone()]);
        assert_eq!(call_states(&world), [CallState::Rejected]);
        if class == ErrorClass::Permanent {
            continue;
        }
        let lease = again(&mut world, mission);
        let Ok(CallPermit::Send(id)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("replayed") };
        assert_ne!(id, first.id);
        world.verify();
    }
}

#[test]
fn a_failed_call_is_never_replayed() {
    let (mut world, mission, lease) = begin();
    let first = world.call(&lease, 10, 10);
    world.fail(&lease, ErrorClass::Retryable, vec![failed(first)]);
    let lease = again(&mut world, mission);
    assert!(matches!(world.ask(&lease, 1, "body 1", (10, 10)), Ok(CallPermit::Send(_))));
    world.verify();
}

#[test]
fn a_replayed_answer_that_makes_its_step_fail_is_not_replayed_again() {
    let (mut world, mission, lease) = begin();
    let (first, second) = (world.call(&lease, 10, 10), world.call(&lease, 5, 5));
    world.fail(&lease, ErrorClass::Retryable, vec![first, failed(second)]);
    let lease = again(&mut world, mission);
    let Ok(CallPermit::Replay(replayed)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought again") };
    world.fail(&lease, ErrorClass::Retryable, vec![replayed.clone()]);
    assert_eq!(world.tables.calls[&replayed.id].state, CallState::Rejected);
    world.verify();
    let lease = again(&mut world, mission);
    assert!(matches!(world.ask(&lease, 1, "body 1", (10, 10)), Ok(CallPermit::Send(_))));
    world.verify();
}

#[test]
fn calls_of_a_task_that_waits_for_a_rate_limit_or_for_credits_are_replayed() {
    for class in [ErrorClass::RateLimited, ErrorClass::Budget] {
        let (mut world, mission, lease) = begin();
        let first = world.call(&lease, 10, 10);
        world.fail(&lease, class, vec![first.clone()]);
        assert_eq!((world.state(mission, "one"), call_states(&world)), (TaskState::Waiting, vec![CallState::Done]));
        if class == ErrorClass::Budget {
            assert_eq!(world.held(mission, "one"), Some(3_000), "the hold is cut down to what was used");
        }
        world.verify();
        let lease = again(&mut world, mission);
        // a rate limit leaves the hold as it was; who lacked credits needs room for another call beyond what was used
        let more = if class == ErrorClass::Budget { 3_000 } else { 0 };
        assert_eq!(world.held(mission, "one"), Some(super::ONE_HOLD_UCR + more));
        assert!(matches!(world.ask(&lease, 1, "body 1", (10, 10)), Ok(CallPermit::Replay(_))));
        world.succeed(&lease, vec![first]);
        assert_eq!(world.spent(mission), 3_000);
        world.verify();
    }
}

#[test]
fn what_journaled_calls_used_is_not_promised_to_others() {
    let (mut world, mission, lease) = begin();
    let (first, second) = (world.call(&lease, 18, 100), world.call(&lease, 1, 1));
    let held = world.held(mission, "one");
    world.fail(&lease, ErrorClass::Retryable, vec![first, failed(second)]);
    let lease = again(&mut world, mission);
    assert_eq!(world.held(mission, "one"), held);
    assert!(matches!(world.ask(&lease, 2, "body 3", (2, 1)), Ok(CallPermit::Send(_))));
    assert_eq!(world.held(mission, "one"), Some(super::ONE_HOLD_UCR + 400), "the rest of the hold is too small");
    world.verify();
}

#[test]
fn a_journaled_call_that_cost_more_than_was_reserved_is_made_good_before_the_next() {
    let (mut world, mission, lease) = begin();
    let (first, second) = (world.call(&lease, 10, 10), world.call(&lease, 5, 5));
    let dearer = crate::flow::testbed::answer(first.id, 10, 1_000);
    world.fail(&lease, ErrorClass::Retryable, vec![dearer, failed(second)]);
    let lease = again(&mut world, mission);
    assert!(matches!(world.ask(&lease, 2, "body 3", (2, 1)), Ok(CallPermit::Send(_))));
    assert_eq!(world.held(mission, "one"), Some(201_000 + 400));
    world.verify();
}

/// A tool call that takes effect once.
fn cake() -> ToolRequest {
    let intent = ToolIntent {
        number: 1,
        request_hash: "order a cake".into(),
        tool: "order".into(),
        effects: ToolEffects::Once,
        arguments: "{}".into(),
    };
    ToolRequest { calls: vec![intent], finished: Vec::new() }
}

#[test]
fn a_tool_that_surely_did_not_run_is_run_by_the_next_attempt_even_where_it_takes_effect_once() {
    let request = cake();
    for ran in [false, true] {
        let (mut world, mission, lease) = begin();
        let permits = world.ask_tools(&lease, &request).unwrap();
        let [ToolPermit::Run(id)] = permits[..] else { panic!("a permit") };
        let answer = ToolAnswer { content: "nobody there".into(), is_error: true };
        let end = ToolEnd { id, number: 1, answer: answer.clone(), duration_ms: 1, ran };
        world.end_tool(&lease, &end).unwrap();
        world.end_tool(&lease, &end).unwrap();
        world.fail(&lease, ErrorClass::Retryable, Vec::new());
        let lease = again(&mut world, mission);
        let permits = world.ask_tools(&lease, &request).unwrap();
        match &permits[..] {
            [ToolPermit::Run(other)] => assert!(!ran && *other != id),
            [ToolPermit::Replay(replayed)] => assert!(ran && *replayed == answer),
            other => panic!("{other:?}"),
        }
        // of this one nobody knows
        world.fail(&lease, ErrorClass::Retryable, Vec::new());
        let lease = again(&mut world, mission);
        let refused = world.ask_tools(&lease, &request);
        assert_eq!(refused.is_err(), !ran, "{refused:?}");
        world.verify();
    }
}

#[test]
fn a_wish_whose_answer_was_lost_is_repeated_without_a_second_reservation() {
    let (mut world, _, lease) = begin();
    let Ok(CallPermit::Send(first)) = world.ask(&lease, 1, "body", (10, 10)) else { panic!("not granted") };
    let held = world.tables.holds.clone();
    assert_eq!(world.ask(&lease, 1, "body", (10, 10)), Ok(CallPermit::Send(first)));
    assert_eq!((world.tables.calls.len(), &world.tables.holds), (1, &held));
    let permits = world.ask_tools(&lease, &cake()).unwrap();
    assert_eq!(world.ask_tools(&lease, &cake()).unwrap(), permits, "a tool that takes effect once too");
    assert_eq!(world.tables.tool_runs.len(), 1);
    world.verify();
}
