//! Who owns a task: fences, repeated settles, handed over successors, vanished workers.

use serde_json::json;

use super::{ONE, call_states, only_call, ops, workflow};
use crate::credits::Ucr;
use crate::flow;
use crate::flow::testbed::tables::Want;
use crate::flow::testbed::{Lease, World, answer};
use crate::flow::{Guard, Refusal};
use crate::limits::{LEASE_MS, POISON_LOSSES};
use crate::outcome::{CallRefusal, ErrorClass, FinishedCall, Outcome};
use crate::record::{CallState, OpKind};
use crate::state::{RunState, TaskState};
use crate::usage::Usage;

const CHAIN: &str = "  one: { transform: 1 }
  other: { transform: 1 }
  second: { needs: [one], transform: 1 }
  third: { needs: [one, other], transform: 1 }";

fn success(calls: Vec<FinishedCall>) -> Outcome {
    Outcome::Succeeded { output: json!("done"), calls }
}

#[test]
fn a_stale_fence_neither_settles_nor_spends() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lost = world.claim(mission, "one");
    let call = world.call(&lost, 10, 10);
    world.pass_ms(LEASE_MS);
    world.sweep();
    let owner = world.claim(mission, "one");
    let before = world.tables.clone();

    let stale = Refusal::StaleFence { present: 2 };
    assert_eq!(world.settle(&lost, &lost.settle(success(vec![call]))), Err(stale.clone()));
    assert_eq!(world.ask(&lost, 2, "x", (1, 1)), Err(CallRefusal::StaleFence));
    // the right fence with another token, and the right token with another fence, are as stale
    let fence = Guard { fence: owner.guard.fence, ..lost.guard.clone() };
    let token = Guard { token: owner.guard.token.clone(), ..lost.guard.clone() };
    for guard in [fence, token] {
        let thief = Lease { guard, ..lost.clone() };
        assert_eq!(world.settle(&thief, &thief.settle(success(vec![]))), Err(stale.clone()));
        assert_eq!(world.ask(&thief, 2, "x", (1, 1)), Err(CallRefusal::StaleFence));
        assert_eq!(world.beat(&thief), (false, false));
    }
    assert!(world.tables == before);
    world.succeed(&owner, vec![]);
    world.verify();
}

#[test]
fn a_settle_after_the_lease_ran_out_counts_while_nobody_took_the_task() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    world.pass_ms(10 * LEASE_MS);
    world.succeed(&lease, vec![]);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn a_repeated_settle_returns_the_stored_result_and_changes_nothing() {
    let mut world = World::with_credits(100);
    for class in [None, Some(ErrorClass::Retryable), Some(ErrorClass::Permanent), Some(ErrorClass::RateLimited)] {
        let mission = world.submit(&workflow("", ONE));
        let lease = world.claim(mission, "one");
        let call = world.call(&lease, 10, 10);
        let outcome = match class {
            None => success(vec![call]),
            Some(class) => {
                Outcome::Failed { error: crate::outcome::StepError::new(class, "x", "x"), calls: vec![call] }
            }
        };
        let first = world.settle(&lease, &lease.settle(outcome.clone())).unwrap();
        let before = world.tables.clone();
        world.pass_ms(1_000);
        let second = world.settle(&lease, &lease.settle(outcome)).unwrap();
        assert_eq!((first.repeated, second.repeated, second.state), (false, true, first.state));
        assert!(world.tables == before, "{class:?}");
    }
    world.sweep();
    world.verify();
}

#[test]
fn a_worker_is_given_the_successor_as_its_next_claim_and_again_when_it_asks_again() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", CHAIN));
    world.do_node(mission, "other", None);
    world.outbox.clear();
    let lease = world.claim(mission, "one");
    let (request, settled) = world.hand_over(&lease, vec![]);
    let successor = settled.successor.unwrap();
    let third = world.task(mission, "third").id;
    assert_eq!((successor, &settled.ready), (world.task(mission, "second").id, &vec![third]));
    assert_eq!(world.outbox, [third], "the queue hears nothing of the successor");
    let next = Lease::of(&world, successor);
    assert_eq!(next.guard.token, request.handoff.as_ref().unwrap().token);
    assert_eq!((next.worker, next.guard.fence, world.tables.tasks[&successor].attempt), (lease.worker, 1, 1));
    assert_eq!(world.claim_for(lease.worker, successor).map(|lease| lease.task), None);

    let again = world.settle(&lease, &request).unwrap();
    assert_eq!((again.repeated, again.successor), (true, Some(successor)));
    assert_eq!(world.beat(&next), (true, false));
    world.succeed(&next, vec![]);
    let again = world.settle(&lease, &request).unwrap();
    assert_eq!((again.repeated, again.successor), (true, None), "it is over by now");
    world.do_node(mission, "third", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn a_repeated_settle_gives_no_successor_that_was_claimed_otherwise() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", "  one: { transform: 1 }\n  two: { needs: [one], transform: 1 }"));
    let lease = world.claim(mission, "one");
    let mut request = lease.settle(success(vec![]));
    request.handoff = Some(world.offer(lease.worker, "elsewhere"));
    assert_eq!(world.settle(&lease, &request).unwrap().successor, None, "the pool is another");
    world.claim(mission, "two");
    let again = world.settle(&lease, &request).unwrap();
    assert_eq!((again.repeated, again.successor), (true, None), "the claim gave it another token");
    world.verify();
}

#[test]
fn a_repeated_settle_finds_its_successor_among_the_items_of_a_map_and_behind_nodes_that_were_skipped() {
    let mut world = World::with_credits(100);
    let nodes = "  each: { transform: '{{ i }}', map: { over: '[1, 2, 3, 4]', as: i, max_parallel: 1 } }";
    let mission = world.submit(&workflow("", nodes));
    world.spread();
    let first = world.tables.tasks.values().find(|task| task.state == TaskState::Ready).unwrap().id;
    let lease = world.claim_for(world.worker, first).unwrap();
    let (request, settled) = world.hand_over(&lease, vec![]);
    assert_eq!(settled.successor.map(|next| world.tables.tasks[&next].item), Some(1));
    let again = world.settle(&lease, &request).unwrap();
    assert_eq!((again.repeated, again.successor), (true, settled.successor));
    assert_eq!(world.run(mission).state, RunState::Running);

    let nodes = "  one: { transform: 1 }
  not: { needs: [one], when: 'false', transform: 1 }
  two: { needs: [not], transform: 1 }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "one");
    let (request, settled) = world.hand_over(&lease, vec![]);
    assert_eq!(settled.successor, Some(world.task(mission, "two").id));
    assert_eq!(world.settle(&lease, &request).unwrap().successor, settled.successor);
    world.verify();
}

#[test]
fn a_task_handed_back_is_ready_again_without_a_penalty() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("defaults: { retry: { max_attempts: 1 } }", ONE));
    let lease = world.claim(mission, "one");
    world.call(&lease, 10, 10);
    world.settle(&lease, &lease.settle(Outcome::HandedBack)).unwrap();
    let task = world.task(mission, "one");
    assert_eq!((task.state, task.failures, task.losses, task.attempt), (TaskState::Ready, 0, 0, 1));
    assert_eq!((call_states(&world), ops(&world, OpKind::Hold)), (vec![CallState::Lost], 1));
    world.verify();
    world.do_node(mission, "one", Some((1, 1)));
    assert_eq!(world.spent(mission), 300);
    world.verify();
}

#[test]
fn a_lost_attempt_consumes_no_retry_and_is_not_billed() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("defaults: { retry: { max_attempts: 1 } }", ONE));
    let lease = world.claim(mission, "one");
    world.call(&lease, 10, 10);
    world.pass_ms(LEASE_MS - 1);
    world.recover_lost();
    assert_eq!(world.state(mission, "one"), TaskState::Running, "the lease still lives");
    world.pass_ms(1);
    world.recover_lost();
    let task = world.task(mission, "one");
    assert_eq!((task.state, task.failures, task.losses), (TaskState::Ready, 0, 1));
    let attempt = &world.tables.attempts[&(task.id, 1)];
    assert_eq!((attempt.outcome.as_str(), attempt.worker_id), ("lost", Some(world.worker)));
    assert_eq!((only_call(&world).state, only_call(&world).billable), (CallState::Lost, false));
    world.verify();
    world.do_node(mission, "one", Some((1, 1)));
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 300));
    world.verify();
}

#[test]
fn a_task_that_three_workers_in_a_row_vanish_with_fails_as_a_poison_pill() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    for loss in 1..=POISON_LOSSES {
        assert_eq!(world.state(mission, "one"), TaskState::Ready, "loss {loss}");
        world.claim(mission, "one");
        world.pass_ms(LEASE_MS);
        world.sweep();
        world.verify();
    }
    assert_eq!((world.state(mission, "one"), world.run(mission).state), (TaskState::Failed, RunState::Failed));
    assert_eq!(world.task(mission, "one").error.as_ref().unwrap().code, "poison_pill");
    assert_eq!(world.purse(), (100_000_000, 0, 0));
}

#[test]
fn losses_count_only_in_a_row() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    for _ in 0..3 {
        for _ in 1..POISON_LOSSES {
            world.claim(mission, "one");
            world.pass_ms(LEASE_MS);
            world.sweep();
        }
        let lease = world.claim(mission, "one");
        world.settle(&lease, &lease.settle(Outcome::HandedBack)).unwrap();
    }
    assert_eq!(world.state(mission, "one"), TaskState::Ready);
    world.verify();
}

#[test]
fn late_usage_is_recorded_and_not_billed() {
    let contradiction = Usage { output_tokens: 1, reasoning_tokens: 2, ..Usage::default() };
    for (reported, estimated) in [(true, false), (false, true)] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", ONE));
        let lost = world.claim(mission, "one");
        let call = world.call(&lost, 10, 10);
        world.pass_ms(LEASE_MS);
        world.sweep();
        let mut late = answer(call.id, 7, 7);
        if !reported {
            late.usage = Some(contradiction);
        }
        let refused = world.settle(&lost, &lost.settle(success(vec![late.clone()])));
        assert_eq!(refused, Err(Refusal::StaleFence { present: 1 }));
        for _ in 0..2 {
            world.record_late(&lost, &[late.clone()]);
        }
        let row = only_call(&world);
        assert_eq!((row.state, row.cost_ucr, row.billable), (CallState::Lost, Ucr::new(2_100), false));
        assert_eq!(row.estimated, estimated);
        world.do_node(mission, "one", None);
        assert_eq!(world.spent(mission), 0);
        world.verify();
    }
}

#[test]
fn an_outcome_can_only_name_calls_that_this_attempt_may_consume() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", "  one: { agent: a, prompt: p }\n  two: { agent: a, prompt: p }"));
    let lost = world.claim(mission, "one");
    let old = world.call(&lost, 10, 10);
    world.pass_ms(LEASE_MS);
    world.sweep();
    let (one, two) = (world.claim(mission, "one"), world.claim(mission, "two"));
    let foreign = world.call(&two, 1, 1);
    let unknown = answer(world.id(), 1, 1);
    for call in [foreign.clone(), unknown, old] {
        let refused = world.settle(&one, &one.settle(success(vec![call.clone()])));
        assert!(refused.is_err(), "{:?}", world.tables.calls.get(&call.id));
    }
    world.succeed(&one, vec![]);
    world.succeed(&two, vec![foreign]);
    assert_eq!(world.spent(mission), 300);
    world.verify();
}

#[test]
fn a_decision_that_lacks_a_row_refuses_before_it_changes_anything() {
    let mut world = World::with_credits(100);
    let nodes = "  nap: { sleep: 1s }\n  one: { transform: 1 }\n  two: { needs: [nap, one], transform: 1 }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "one");
    let request = lease.settle(success(vec![]));
    let (nap, alone) = (world.task(mission, "nap").id, |task| Want { tasks: vec![task], ..Want::default() });
    let refused = world.decide_or_nothing(&alone(lease.task), |turn| flow::settle(turn, &request));
    assert!(matches!(refused, Err(Refusal::Unloaded(_))), "{refused:?}");
    world.pass_ms(1_000);
    let refused = world.decide_or_nothing(&alone(nap), |turn| flow::wake_task(turn, nap));
    assert!(matches!(refused, Err(Refusal::Unloaded(_))), "{refused:?}");
    world.succeed(&lease, vec![]);
    world.verify();
}
