//! Messages: they steer what is under way, begin the next run of what is over, and are heard alike by every attempt.

use serde_json::json;

use super::{ONE, call_states, open_holds, workflow};
use crate::flow::testbed::{World, request};
use crate::flow::{MessageRefusal, Refusal};
use crate::id::MissionId;
use crate::ledger::LedgerRefusal;
use crate::outcome::{CallPermit, CallRequest, ErrorClass, FinishedCall, Outcome};
use crate::record::{CallState, MessageEffect, MessageRole};
use crate::state::RunState;

/// An agent that reads what was said.
const CHAT: &str = "  one: { agent: a, prompt: 'Answer {{ message|default(inputs.q) }}' }";

/// The numbers, roles and runs' numbers of a mission's messages, in order.
fn told(world: &World, mission: MissionId) -> Vec<(i64, MessageRole, i32)> {
    let messages = world.tables.messages.values().filter(|message| message.mission_id == mission);
    let mut told: Vec<_> = messages.map(|row| (row.number, row.role, world.tables.runs[&row.run_id].number)).collect();
    told.sort_unstable();
    told
}

fn events(world: &World, mission: MissionId, kind: &str) -> usize {
    world.tables.events.values().filter(|event| event.mission_id == mission && event.kind == kind).count()
}

#[test]
fn a_message_to_a_mission_that_is_over_begins_its_next_run() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 2", CHAT));
    world.do_node(mission, "one", Some((10, 10)));
    let first = world.run(mission).clone();
    assert_eq!(told(&world, mission), [(1, MessageRole::Assistant, 1)], "a run of such a workflow answers");

    let said = world.say(mission, "And now?", None).unwrap();
    assert_eq!((said.repeated, said.message.effect), (false, Some(MessageEffect::BeginsRun)));
    let next = world.run(mission).clone();
    assert_eq!((next.number, next.state, next.heard), (2, RunState::Queued, 2));
    assert_eq!((next.workflow_id, next.id), (first.workflow_id, said.message.run_id));
    assert_eq!(world.task(mission, "one").heard, Some(2), "its task is told of it");
    assert_eq!(events(&world, mission, "mission.continued"), 1);
    world.do_node(mission, "one", Some((10, 10)));
    assert_eq!(
        told(&world, mission),
        [(1, MessageRole::Assistant, 1), (2, MessageRole::User, 2), (3, MessageRole::Assistant, 2)]
    );
    assert_eq!(world.spent(mission), 2 * (2_000_000 + 10 * 100 + 10 * 200), "each run costs what it costs");
    assert_eq!((open_holds(&world), events(&world, mission, "message.created")), (0, 3));
    world.verify();
}

#[test]
fn a_mission_in_which_nobody_speaks_keeps_no_messages() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    world.do_node(mission, "one", Some((10, 10)));
    assert_eq!((world.tables.messages.len(), events(&world, mission, "message.created")), (0, 0));
}

#[test]
fn a_message_that_would_change_nothing_is_refused_by_that_name() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    world.do_node(mission, "one", None);
    assert_eq!(world.say(mission, "Hm?", None), Err(MessageRefusal::ChangesNothing));
    let deaf = world.submit(&workflow("", "  one: { transform: 1 }"));
    assert_eq!(world.say(deaf, "Hm?", None), Err(MessageRefusal::NobodyListens));
    let reader = world.submit(&workflow("", "  one: { transform: '{{ messages|length }}' }"));
    assert_eq!(world.say(reader, "Hm?", None).unwrap().message.effect, Some(MessageEffect::Steers));
    world.verify();
}

#[test]
fn the_next_run_is_refused_where_it_cannot_be_paid_and_nothing_is_left_of_the_message() {
    let mut world = World::with_credits(1);
    let mission = world.submit(&workflow("", CHAT));
    world.do_node(mission, "one", Some((2_000, 3_950)));
    let before = world.tables.clone();
    let refused = world.say(mission, "More", Some("k"));
    let Err(MessageRefusal::Refused(Refusal::Ledger(LedgerRefusal::Insufficient { .. }))) = refused else {
        panic!("{refused:?}")
    };
    assert!(world.tables == before);
    world.grant(100);
    assert!(!world.say(mission, "More", Some("k")).unwrap().repeated, "the same key works after a top-up");
    let budget = world.submit(&workflow("budget: { credits: '0.04' }", CHAT));
    world.do_node(budget, "one", Some((10, 100)));
    let refused = world.say(budget, "More", None);
    assert!(matches!(refused, Err(MessageRefusal::Refused(Refusal::OverBudget { .. }))), "{refused:?}");
    world.verify();
}

#[test]
fn the_same_message_twice_under_one_key_is_one() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", CHAT));
    world.do_node(mission, "one", None);
    let first = world.say(mission, "More", Some("k")).unwrap();
    let again = world.say(mission, "More", Some("k")).unwrap();
    assert!(again.repeated && again.message == first.message);
    assert_eq!((world.run(mission).number, told(&world, mission).len()), (2, 2));
    assert_eq!(world.say(mission, "Other", Some("k")), Err(MessageRefusal::KeyReused));
    world.verify();
}

#[test]
fn a_run_that_is_being_ended_takes_no_message_and_one_that_is_paused_does() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", CHAT));
    let lease = world.claim(mission, "one");
    world.pause(mission).unwrap();
    assert_eq!(world.say(mission, "Wait", None).unwrap().message.effect, Some(MessageEffect::Steers));
    world.resume(mission).unwrap();
    world.cancel(mission).unwrap();
    assert_eq!(world.say(mission, "More", None), Err(MessageRefusal::Ending("cancelling")));
    world.fail(&lease, ErrorClass::Cancelled, Vec::new());
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    assert_eq!(world.say(mission, "More", None).unwrap().message.effect, Some(MessageEffect::BeginsRun));
    world.verify();
}

fn reply(id: crate::id::CallId) -> FinishedCall {
    crate::flow::testbed::answer(id, 10, 10)
}

#[test]
fn a_step_hears_of_a_message_with_its_next_call() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Send(id)) = world.ask(&lease, 1, "p", (10, 10)) else { panic!("nothing was said yet") };
    let first = reply(id);
    world.say(mission, "Be brief", None).unwrap();
    world.say(mission, "In French", None).unwrap();

    // the call before which they came is told of both, and keeps what had ended
    let mut second = request(2, "p, answer", (10, 10));
    second.finished = vec![first.clone()];
    assert_eq!(world.ask_for(&lease, &second), Ok(CallPermit::Listen(2)));
    assert_eq!(call_states(&world), [CallState::Done], "asking costs nothing");
    second = CallRequest { heard: 2, ..request(2, "p, answer, Be brief, In French", (10, 10)) };
    let Ok(CallPermit::Send(id)) = world.ask_for(&lease, &second) else { panic!("all was heard") };
    let done = reply(id);
    world.say(mission, "No, in German", None).unwrap();
    world.fail(&lease, ErrorClass::Retryable, vec![first, done]);

    // the last answer was to blame: it is bought anew, with all that was said by then
    world.pass_ms(60_000);
    world.sweep();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Replay(_)) = world.ask(&lease, 1, "p", (10, 10)) else { panic!("bought twice") };
    assert_eq!(world.ask(&lease, 2, "p, answer", (10, 10)), Ok(CallPermit::Listen(3)));
    world.verify();
}

#[test]
fn a_replayed_call_hears_what_it_heard_then_and_not_what_came_since() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Send(id)) = world.ask(&lease, 1, "p", (10, 10)) else { panic!("nothing was said yet") };
    let first = reply(id);
    world.say(mission, "Be brief", None).unwrap();
    let heard = |number: i32, body: &str, heard: i64| {
        let wish = request(number, body, (10, 10));
        CallRequest { heard, ..wish }
    };
    let second = CallRequest { finished: vec![first], ..heard(2, "p, a, Be brief", 1) };
    let Ok(CallPermit::Send(id)) = world.ask_for(&lease, &second) else { panic!("all was heard") };
    let second = reply(id);
    let third = CallRequest { finished: vec![second], ..heard(3, "p, a, Be brief, b", 1) };
    let Ok(CallPermit::Send(_)) = world.ask_for(&lease, &third) else { panic!("all was heard") };
    world.say(mission, "In French", None).unwrap();
    // the worker vanishes
    world.pass_ms(20_000);
    world.sweep();
    let lease = world.claim(mission, "one");
    assert!(matches!(world.ask_for(&lease, &heard(1, "p", 0)), Ok(CallPermit::Replay(_))));
    assert_eq!(world.ask_for(&lease, &heard(2, "p, a", 0)), Ok(CallPermit::Listen(1)), "as much as then, no more");
    assert!(matches!(world.ask_for(&lease, &heard(2, "p, a, Be brief", 1)), Ok(CallPermit::Replay(_))));
    assert_eq!(world.ask_for(&lease, &heard(3, "p, a, Be brief, b", 1)), Ok(CallPermit::Listen(2)), "it was lost");
    let last = heard(3, "p, a, Be brief, b, In French", 2);
    let Ok(CallPermit::Send(id)) = world.ask_for(&lease, &last) else { panic!("all was heard") };
    let calls: Vec<FinishedCall> =
        world.tables.calls.values().filter(|call| call.state == CallState::Done).map(|call| reply(call.id)).collect();
    let calls = [calls, vec![reply(id)]].concat();
    world.settle(&lease, &lease.settle(Outcome::Succeeded { output: json!("done"), calls })).unwrap();
    assert_eq!(world.spent(mission), 3 * (10 * 100 + 10 * 200), "three calls, each once");
    assert_eq!(told(&world, mission).len(), 3, "and an answer, because somebody spoke");
    world.verify();
}

#[test]
fn messages_of_one_mission_steer_no_other() {
    let mut world = World::with_credits(100);
    let (one, other) = (world.submit(&workflow("", ONE)), world.submit(&workflow("", ONE)));
    world.say(one, "Be brief", None).unwrap();
    let lease = world.claim(other, "one");
    assert!(matches!(world.ask(&lease, 1, "p", (10, 10)), Ok(CallPermit::Send(_))));
    world.verify();
}

#[test]
fn a_task_that_becomes_ready_later_is_told_from_the_start_what_was_said_until_then() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { transform: 1 }\n  two: { needs: [one], agent: a, prompt: '{{ messages|length }}' }";
    let mission = world.submit(&workflow("", nodes));
    world.say(mission, "Be brief", None).unwrap();
    world.do_node(mission, "one", None);
    assert_eq!((world.task(mission, "one").heard, world.task(mission, "two").heard), (Some(0), Some(1)));
    let lease = world.claim(mission, "two");
    world.say(mission, "In French", None).unwrap();
    world.fail(&lease, ErrorClass::Retryable, Vec::new());
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.task(mission, "two").heard, Some(1), "another attempt is told the same");
    world.verify();
}
