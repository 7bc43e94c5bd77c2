//! What time brings: pauses between attempts, rate limits, sleeps, deadlines, expiring grants.

use super::{ONE, ONE_HOLD_UCR, open_holds, workflow};
use crate::credits::Ucr;
use crate::flow;
use crate::flow::testbed::World;
use crate::flow::testbed::tables::Want;
use crate::limits::{MAX_RETRY_AFTER_MS, RATE_LIMIT_PAUSE_MS};
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::record::{Account, OpKind};
use crate::state::{RunState, TaskState, WaitCause};

#[test]
fn a_rate_limit_consumes_no_attempt() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("defaults: { retry: { max_attempts: 1 } }", ONE));
    let pauses = [(None, RATE_LIMIT_PAUSE_MS), (Some(20), 20), (Some(-5), 1), (Some(i64::MAX), MAX_RETRY_AFTER_MS)];
    for (retry_after_ms, pause_ms) in pauses {
        let lease = world.claim(mission, "one");
        let error = StepError { retry_after_ms, ..StepError::new(ErrorClass::RateLimited, "x", "x") };
        world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
        let task = world.task(mission, "one");
        assert_eq!((task.state, task.wait, task.failures), (TaskState::Waiting, Some(WaitCause::RateLimit), 0));
        assert_eq!(world.held(mission, "one"), Some(ONE_HOLD_UCR));
        world.pass_ms(pause_ms - 1);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Waiting);
        world.pass_ms(1);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Ready);
        world.verify();
    }
    world.do_node(mission, "one", Some((1, 1)));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn what_was_not_sent_for_its_time_had_not_come_waits_whatever_the_node_retries_on() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("defaults: { retry: { max_attempts: 1, on: [retryable] } }", ONE));
    for code in ["rate_limited", "provider_paused", "provider_circuit_open"] {
        let lease = world.claim(mission, "one");
        let error = StepError {
            retry_after_ms: Some(20),
            ..StepError::new(ErrorClass::RateLimited, code, "waits for the rate limit")
        };
        world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
        let task = world.task(mission, "one");
        assert_eq!((task.state, task.wait, task.failures), (TaskState::Waiting, Some(WaitCause::RateLimit), 0));
        assert_eq!(task.status_reason.as_deref(), Some("waits for the rate limit"), "in its own words");
        world.pass_ms(20);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Ready);
        world.verify();
    }
    let lease = world.claim(mission, "one");
    world.fail(&lease, ErrorClass::RateLimited, vec![]);
    assert_eq!(world.state(mission, "one"), TaskState::Failed, "a provider's refusal is what the node says it is");
}

#[test]
fn a_retry_waits_for_its_time() {
    let mut world = World::with_credits(100);
    let head = "defaults: { retry: { max_attempts: 3, backoff: { initial: 2s, factor: 3, max: 1m, jitter: false } } }";
    let mission = world.submit(&workflow(head, ONE));
    for pause_ms in [2_000, 6_000] {
        let lease = world.claim(mission, "one");
        world.fail(&lease, ErrorClass::Retryable, vec![]);
        world.pass_ms(pause_ms - 1);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Retrying);
        world.pass_ms(1);
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Ready);
    }
    world.verify();
}

#[test]
fn a_sleep_takes_its_time_no_worker_and_no_credits() {
    let mut world = World::new(1);
    let mission = world.submit(&workflow("", "  nap: { sleep: 10s }\n  next: { needs: [nap], transform: 1 }"));
    let nap = world.task(mission, "nap");
    assert_eq!((nap.state, nap.wait, nap.hold_id), (TaskState::Waiting, Some(WaitCause::Timer), None));
    let (worker, nap) = (world.worker, nap.id);
    assert!(world.claim_for(worker, nap).is_none());
    world.pass_ms(9_999);
    world.sweep();
    assert_eq!(world.state(mission, "nap"), TaskState::Waiting);
    world.pass_ms(1);
    world.sweep();
    assert_eq!((world.state(mission, "nap"), world.state(mission, "next")), (TaskState::Succeeded, TaskState::Ready));
    world.do_node(mission, "next", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn a_run_of_sleeps_alone_succeeds_without_a_worker() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("flat_fee: 1", "  a: { sleep: 1s }\n  b: { needs: [a], sleep: 1s }"));
    for _ in 0..2 {
        world.pass_ms(1_000);
        world.sweep();
    }
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000));
    world.verify();
}

#[test]
fn a_sleep_with_a_price_holds_it_and_charges_it_when_it_is_over() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", "  nap: { sleep: 10s, units: { step: 2 } }"));
    assert_eq!((world.state(mission, "nap"), world.held(mission, "nap")), (TaskState::Waiting, Some(2_000_000)));
    world.verify();
    world.pass_ms(10_000);
    world.sweep();
    assert_eq!((world.state(mission, "nap"), world.spent(mission)), (TaskState::Succeeded, 2_000_000));
    assert_eq!(world.purse(), (8_000_000, 0, 0));
    world.verify();
}

#[test]
fn a_sleep_that_is_cancelled_costs_nothing() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&workflow("", "  nap: { sleep: 10s, units: { step: 2 } }"));
    world.cancel(mission).unwrap();
    assert_eq!((world.run(mission).state, world.purse()), (RunState::Cancelled, (10_000_000, 0, 0)));
    world.pass_ms(20_000);
    world.sweep();
    world.verify();
}

#[test]
fn a_run_whose_deadline_passes_expires() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p }\n  nap: { sleep: 1d }\n  late: { needs: [nap], transform: 1 }";
    let mission = world.submit(&workflow("flat_fee: 1\ndeadline: 1m", nodes));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 1, 1);
    world.work_ms(&[&lease], 59_999);
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Running);
    world.work_ms(&[&lease], 1);
    world.sweep();
    assert_eq!((world.run(mission).state, world.state(mission, "nap")), (RunState::Failing, TaskState::Cancelled));
    assert_eq!(world.beat(&lease), (true, true));
    world.succeed(&lease, vec![call]);
    let run = world.run(mission);
    assert_eq!((run.state, world.state(mission, "late")), (RunState::Expired, TaskState::Skipped));
    assert_eq!(run.error.as_ref().unwrap()["code"], "deadline_exceeded");
    let late = crate::fingerprint::fingerprint("w", "", "deadline_exceeded", "the run's deadline of 60000 ms passed");
    assert_eq!(run.fingerprint, Some(late), "it is found among those that came too late like it");
    assert_eq!((world.purse(), open_holds(&world)), ((100_000_000, 0, 0), 0));
    assert_eq!(world.events(mission).last(), Some(&"mission.expired"));
    world.verify();
}

#[test]
fn a_deadline_does_nothing_before_its_time_nor_to_a_run_that_is_over() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("deadline: 1m", "  x: { transform: 1 }"));
    let run = world.run(mission).id;
    let want = Want { missions: vec![mission], ..Want::default() };
    assert_eq!(world.decide(&want, |turn| flow::expire_run(turn, run)), Ok(false));
    world.do_node(mission, "x", None);
    world.pass_ms(120_000);
    assert_eq!(world.decide(&want, |turn| flow::expire_run(turn, run)), Ok(false));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn a_grant_that_expires_while_it_is_held_stays_usable_and_its_rest_is_breakage() {
    let mut world = World::new(1);
    let expires = world.now.plus_ms(5_000);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR + 500), Some(expires)).unwrap();
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 10, 10);
    world.pass_ms(5_000);
    world.sweep();
    assert_eq!(world.purse(), (0, ONE_HOLD_UCR, 0));
    assert_eq!((ops(&world, OpKind::Expire), breakage(&world)), (1, 500));
    world.sweep();
    assert_eq!(ops(&world, OpKind::Expire), 1);
    world.succeed(&lease, vec![call]);
    assert_eq!((world.spent(mission), world.purse()), (3_000, (0, 0, 0)));
    assert_eq!(breakage(&world), 500 + ONE_HOLD_UCR - 3_000);
    world.verify();
}

#[test]
fn an_expired_grant_cannot_be_held_however_late_the_sweep_is() {
    let mut world = World::new(1);
    let expires = world.now.plus_ms(5_000);
    world.grant_ucr(Ucr::from_credits(1), Some(expires)).unwrap();
    let id = world.define(&workflow("", ONE));
    let submission = world.submission(id);
    world.pass_ms(5_000);
    assert!(world.try_submit(&submission).is_err());
    world.now = world.now.plus_ms(-1);
    world.try_submit(&submission).unwrap();
    world.verify();
}

fn ops(world: &World, kind: OpKind) -> usize {
    super::ops(world, kind)
}

fn breakage(world: &World) -> i64 {
    world.tables.balances.of(world.wallet, Account::Breakage)
}
