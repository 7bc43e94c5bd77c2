//! Models that stand in for each other: what is held, what is replayed, what is billed and told.

use super::{ONE_HOLD_UCR, call_states};
use crate::flow::testbed::{Lease, World, answer, request};
use crate::id::MissionId;
use crate::outcome::{CallPermit, CallRequest, ErrorClass, FinishedCall};
use crate::record::CallState;

const CHAIN: &str = "workflow: w
agents: { a: { instructions: i, models: [m, dear], max_output_tokens: 100 } }
nodes:
  one: { agent: a, prompt: p }
";

fn begin() -> (World, MissionId, Lease) {
    let mut world = World::with_credits(100);
    let mission = world.submit(CHAIN);
    let lease = world.claim(mission, "one");
    (world, mission, lease)
}

/// The call `1` to a model; the other's hash is an alternative.
fn wish(model: &str, other: &str) -> CallRequest {
    CallRequest {
        model: model.to_owned(),
        alternatives: vec![format!("body of {other}")],
        ..request(1, &format!("body of {model}"), (10, 10))
    }
}

/// The call to `m` fails; the call to `dear` stands in for it and is sent.
fn fall_back(world: &mut World, lease: &Lease) -> FinishedCall {
    let Ok(CallPermit::Send(first)) = world.ask_for(lease, &wish("m", "dear")) else { panic!("it may be sent") };
    let failed = FinishedCall { succeeded: false, usage: None, ..answer(first, 0, 0) };
    let stand_in = CallRequest {
        in_place_of: Some(("m".to_owned(), "provider_unavailable".to_owned())),
        heard: 0,
        finished: vec![failed],
        ..wish("dear", "m")
    };
    let Ok(CallPermit::Send(second)) = world.ask_for(lease, &stand_in) else { panic!("it may be sent") };
    answer(second, 10, 10)
}

#[test]
fn the_hold_fits_the_dearest_model_and_each_call_has_its_own_price() {
    let (mut world, mission, lease) = begin();
    assert_eq!(world.held(mission, "one"), Some(3 * ONE_HOLD_UCR));
    let answered = fall_back(&mut world, &lease);
    assert_eq!(call_states(&world), [CallState::Failed, CallState::Sent]);
    let reserved: Vec<i64> = world.tables.calls.values().map(|call| call.reserved_ucr.get()).collect();
    assert_eq!(reserved, [0, 9_000], "what failed promises nothing any more");
    assert!(world.events(mission).contains(&"task.model_changed"));
    world.verify();
    world.succeed(&lease, vec![answered]);
    assert_eq!(world.spent(mission), 9_000);
    let done = world.tables.events.values().find(|event| event.kind == "task.succeeded").unwrap();
    assert_eq!(done.data["models"], serde_json::json!(["dear"]));
    world.verify();
}

#[test]
fn what_a_stand_in_answered_is_replayed_though_the_first_model_is_asked_first_again() {
    let (mut world, mission, lease) = begin();
    let answered = fall_back(&mut world, &lease);
    let broken = FinishedCall { succeeded: false, ..world.call(&lease, 1, 1) };
    world.fail(&lease, ErrorClass::Retryable, vec![answered.clone(), broken]);
    world.pass_ms(60_000);
    world.sweep();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Replay(replayed)) = world.ask_for(&lease, &wish("m", "dear")) else { panic!("bought again") };
    assert_eq!(replayed.id, answered.id);
    let unrelated = CallRequest { alternatives: Vec::new(), ..wish("m", "dear") };
    let Ok(CallPermit::Send(open)) = world.ask_for(&lease, &unrelated) else { panic!("not the same call") };
    let unused = FinishedCall { succeeded: false, usage: None, ..answer(open, 0, 0) };
    world.succeed(&lease, vec![replayed, unused]);
    assert_eq!(world.spent(mission), 9_000);
    world.verify();
}

#[test]
fn a_stand_in_without_a_price_is_refused_before_anything_runs() {
    let mut world = World::with_credits(100);
    let workflow = world.define(&CHAIN.replace("dear", "unknown"));
    let submission = world.submission(workflow);
    assert!(world.try_submit(&submission).is_err());
    assert!(world.tables.missions.is_empty());
}
