//! What a mission costs: charges, fees, holds.

use super::{ONE, ONE_HOLD_UCR, call_states, only_call, open_holds, ops, workflow};
use crate::credits::Ucr;
use crate::flow::Refusal;
use crate::flow::testbed::{World, answer};
use crate::ledger::LedgerRefusal;
use crate::outcome::{CallPermit, CallRefusal, CallRequest, ErrorClass};
use crate::pricing::PricingError;
use crate::record::{CallState, OpKind};
use crate::state::{RunState, TaskState};
use crate::usage::Usage;

const DIAMOND: &str = "  top: { agent: a, prompt: p }
  left: { needs: [top], agent: a, prompt: p }
  right: { needs: [top], agent: a, prompt: p }
  end: { needs: [left, right], transform: { x: 1 } }";

#[test]
fn a_diamond_runs_to_success_and_charges_the_sum() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", DIAMOND));
    assert_eq!(world.run(mission).state, RunState::Queued);
    world.do_node(mission, "top", Some((10, 20)));
    assert_eq!(world.run(mission).state, RunState::Running);
    assert_eq!((world.state(mission, "left"), world.state(mission, "right")), (TaskState::Ready, TaskState::Ready));
    let settled = world.do_node(mission, "left", Some((5, 5)));
    assert_eq!((settled.ready.len(), world.state(mission, "end")), (0, TaskState::Pending));
    let settled = world.do_node(mission, "right", Some((1, 0)));
    assert_eq!(settled.ready, [world.task(mission, "end").id]);
    world.do_node(mission, "end", None);

    assert_eq!(world.run(mission).state, RunState::Succeeded);
    let sum = (10 * 100 + 20 * 200) + (5 * 100 + 5 * 200) + 100;
    assert_eq!(world.spent(mission), sum);
    assert_eq!(world.purse(), (100_000_000 - sum, 0, 0));
    let events = world.events(mission);
    assert_eq!((events.first(), events.last()), (Some(&"mission.created"), Some(&"mission.succeeded")));
    assert_eq!(events.iter().filter(|kind| **kind == "task.succeeded").count(), 4);
    world.verify();
}

#[test]
fn the_fee_is_held_at_submit_and_taken_once_on_success() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 10", "  x: { transform: 1 }\n  y: { needs: [x], transform: 1 }"));
    assert_eq!(world.purse(), (90_000_000, 10_000_000, 0));
    world.do_node(mission, "x", None);
    assert_eq!(world.purse(), (90_000_000, 10_000_000, 0));
    let lease = world.claim(mission, "y");
    let settled = world.succeed(&lease, vec![]);
    assert_eq!((world.purse(), world.spent(mission)), ((90_000_000, 0, 0), 10_000_000));
    let again = world.succeed(&lease, vec![]);
    assert!(!settled.repeated && again.repeated);
    assert_eq!((world.purse(), ops(&world, OpKind::Settle)), ((90_000_000, 0, 0), 1));
    world.verify();
}

#[test]
fn the_fee_is_given_back_when_the_run_fails_or_is_cancelled() {
    for by_user in [false, true] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("flat_fee: 10", ONE));
        let lease = world.claim(mission, "one");
        if by_user {
            world.cancel(mission).unwrap();
        }
        world.fail(&lease, ErrorClass::Permanent, vec![]);
        let expected = if by_user { RunState::Cancelled } else { RunState::Failed };
        assert_eq!(world.run(mission).state, expected);
        assert_eq!((world.purse(), world.spent(mission), open_holds(&world)), ((100_000_000, 0, 0), 0, 0));
        world.verify();
    }
}

#[test]
fn a_hold_exists_exactly_while_a_priced_task_is_ready_running_or_retrying() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p }\n  two: { needs: [one], agent: a, prompt: p }\n  free: { needs: [one], transform: 1 }";
    let mission = world.submit(&workflow("", nodes));
    assert_eq!((world.held(mission, "one"), world.held(mission, "two")), (Some(ONE_HOLD_UCR), None));
    let lease = world.claim(mission, "one");
    assert_eq!(world.held(mission, "one"), Some(ONE_HOLD_UCR));
    world.fail(&lease, ErrorClass::Retryable, vec![]);
    assert_eq!(world.state(mission, "one"), TaskState::Retrying);
    assert_eq!(world.held(mission, "one"), Some(ONE_HOLD_UCR));
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!((world.state(mission, "one"), world.held(mission, "one")), (TaskState::Ready, Some(ONE_HOLD_UCR)));
    world.do_node(mission, "one", Some((1, 1)));
    assert_eq!((world.held(mission, "one"), world.held(mission, "free")), (None, None));
    // the second was told the first one's output as well: six bytes, two tokens
    assert_eq!(world.held(mission, "two"), Some(ONE_HOLD_UCR + 2 * 100));
    world.do_node(mission, "two", Some((1, 1)));
    world.do_node(mission, "free", None);
    assert_eq!((world.purse().1, open_holds(&world)), (0, 0));
    world.verify();
}

#[test]
fn retries_keep_the_hold() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let hold = world.task(mission, "one").hold_id;
    for _ in 0..2 {
        let lease = world.claim(mission, "one");
        let call = world.call(&lease, 10, 10);
        world.fail(&lease, ErrorClass::Retryable, vec![crate::outcome::FinishedCall { succeeded: false, ..call }]);
        assert_eq!((world.task(mission, "one").hold_id, ops(&world, OpKind::Hold)), (hold, 1));
        world.verify();
        world.pass_ms(60_000);
        world.sweep();
        assert_eq!((world.task(mission, "one").hold_id, ops(&world, OpKind::Hold)), (hold, 1));
    }
    world.do_node(mission, "one", Some((3, 4)));
    assert_eq!(world.spent(mission), 3 * 100 + 4 * 200, "failed attempts are not billed");
    world.verify();
}

#[test]
fn a_failing_task_releases_its_hold_and_charges_nothing() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 10, 10);
    world.fail(&lease, ErrorClass::Permanent, vec![call]);
    assert_eq!((world.state(mission, "one"), world.run(mission).state), (TaskState::Failed, RunState::Failed));
    assert_eq!((world.purse(), open_holds(&world), world.spent(mission)), ((100_000_000, 0, 0), 0, 0));
    let call = only_call(&world);
    assert_eq!((call.cost_ucr, call.billable, call.state), (Ucr::new(3_000), false, CallState::Rejected));
    assert_eq!(world.run(mission).error.as_ref().unwrap()["node"], "one");
    world.verify();
}

#[test]
fn attempts_end_at_the_number_that_the_node_allows() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("defaults: { retry: { max_attempts: 2 } }", ONE));
    let lease = world.claim(mission, "one");
    world.fail(&lease, ErrorClass::Retryable, vec![]);
    world.pass_ms(60_000);
    world.sweep();
    let lease = world.claim(mission, "one");
    world.fail(&lease, ErrorClass::Retryable, vec![]);
    assert_eq!((world.state(mission, "one"), world.task(mission, "one").failures), (TaskState::Failed, 2));
    world.verify();
}

#[test]
fn units_are_charged_with_success_and_not_without() {
    for succeeds in [true, false] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", "  x: { transform: 1, units: { step: 3 } }"));
        assert_eq!(world.held(mission, "x"), Some(3_000_000));
        let lease = world.claim(mission, "x");
        if succeeds {
            world.succeed(&lease, vec![]);
        } else {
            world.fail(&lease, ErrorClass::Permanent, vec![]);
        }
        assert_eq!(world.spent(mission), if succeeds { 3_000_000 } else { 0 });
        world.verify();
    }
}

#[test]
fn an_overrun_takes_the_hold_then_other_grants_then_debt_which_the_next_grant_repays() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(ONE_HOLD_UCR), None).unwrap();
    let mission = world.submit(&workflow("", ONE));
    world.grant_ucr(Ucr::new(1_000), None).unwrap();
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 18, 100);
    // the provider reports more than was reserved for
    world.succeed(&lease, vec![answer(call.id, 18, 120)]);
    let cost = 18 * 100 + 120 * 200;
    assert_eq!(world.spent(mission), cost);
    assert_eq!(world.purse(), (0, 0, cost - ONE_HOLD_UCR - 1_000));
    world.verify();

    let workflow_id = world.define(&workflow("", ONE));
    let submission = world.submission(workflow_id);
    let refused = world.try_submit(&submission).unwrap_err();
    assert_eq!(refused, Refusal::Ledger(LedgerRefusal::InDebt(Ucr::new(3_000))));
    world.grant_ucr(Ucr::new(2_000), None).unwrap();
    assert_eq!(world.purse(), (0, 0, 1_000));
    world.grant_ucr(Ucr::new(41_000), None).unwrap();
    assert_eq!(world.purse(), (40_000, 0, 0));
    world.try_submit(&submission).unwrap();
    world.verify();
}

#[test]
fn a_call_that_does_not_fit_tops_the_hold_up() {
    let mut world = World::with_credits(1);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 1_000, 100);
    assert_eq!(world.held(mission, "one"), Some(1_000 * 100 + 100 * 200));
    assert_eq!(ops(&world, OpKind::TopUp), 1);
    world.verify();
    let second = world.call(&lease, 2, 2);
    assert_eq!(world.held(mission, "one"), Some(120_000 + 600));
    let refused = world.ask(&lease, 3, "body 3", (100_000, 1)).unwrap_err();
    let (required, available) = (Ucr::new(100_000 * 100 + 200), Ucr::new(1_000_000 - 120_600));
    assert_eq!(refused, CallRefusal::InsufficientCredits { required, available });
    world.verify();
    world.succeed(&lease, vec![call, second]);
    assert_eq!((world.spent(mission), world.purse().1), (120_600, 0));
    world.verify();
}

#[test]
fn a_call_that_is_named_twice_is_charged_once() {
    for cancelled in [false, true] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", ONE));
        let lease = world.claim(mission, "one");
        let call = world.call(&lease, 10, 10);
        if cancelled {
            world.cancel(mission).unwrap();
        }
        world.succeed(&lease, vec![call.clone(), call]);
        assert_eq!(world.spent(mission), 3_000, "cancelled: {cancelled}");
        world.verify();
    }
}

#[test]
fn usage_that_is_missing_or_contradicts_itself_is_billed_as_counted_and_flagged() {
    let contradiction = Usage { input_tokens: 1, cache_read_tokens: 2, ..Usage::default() };
    for reported in [None, Some(contradiction)] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", ONE));
        let lease = world.claim(mission, "one");
        let call = world.call(&lease, 10, 10);
        world.succeed(&lease, vec![crate::outcome::FinishedCall { usage: reported, ..call }]);
        assert_eq!((world.spent(mission), only_call(&world).estimated), (3_000, true));
        world.verify();
    }
}

#[test]
fn submit_with_too_few_credits_names_what_is_needed_and_changes_nothing() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(1_000_000), None).unwrap();
    let nodes = "  one: { agent: a, prompt: p }\n  two: { agent: a, prompt: p }\n  later: { needs: [one], agent: a, prompt: p }";
    let id = world.define(&workflow("flat_fee: 1", nodes));
    let submission = world.submission(id);
    let before = world.tables.clone();
    let required = Ucr::new(1_000_000 + 2 * ONE_HOLD_UCR);
    let refused = LedgerRefusal::Insufficient { required, available: Ucr::new(1_000_000) };
    assert_eq!(world.try_submit(&submission), Err(Refusal::Ledger(refused)));
    assert!(world.tables == before);
    world.grant_ucr(Ucr::new(2 * ONE_HOLD_UCR), None).unwrap();
    world.try_submit(&submission).unwrap();
    assert_eq!(world.purse(), (0, required.get(), 0));
    world.verify();
}

#[test]
fn submit_refuses_a_frozen_wallet_and_a_budget_that_is_too_small() {
    let mut world = World::with_credits(100);
    world.freeze(true);
    let id = world.define(&workflow("budget: { credits: '0.01' }", ONE));
    let submission = world.submission(id);
    assert_eq!(world.try_submit(&submission), Err(Refusal::Ledger(LedgerRefusal::WalletFrozen)));
    world.freeze(false);
    let (budget, required) = (Ucr::new(10_000), Ucr::new(ONE_HOLD_UCR));
    assert_eq!(
        world.try_submit(&submission),
        Err(Refusal::OverBudget { of: "mission", budget, room: budget, required })
    );
    world.verify();
}

#[test]
fn a_model_or_unit_without_a_price_is_refused_at_submit() {
    let mut world = World::with_credits(100);
    let later = "  x: { transform: 1 }\n  y: { needs: [x], agent: a, prompt: p, model: unheard-of }";
    let id = world.define(&workflow("", later));
    let submission = world.submission(id);
    let refused = Refusal::Pricing(PricingError::ModelNotPriced("unheard-of".to_owned()));
    assert_eq!(world.try_submit(&submission), Err(refused));
    let id =
        world.define(&workflow("", "  x: { transform: 1 }\n  y: { needs: [x], transform: 1, units: { miracle: 1 } }"));
    let submission = world.submission(id);
    let refused = Refusal::Pricing(PricingError::UnitNotPriced("miracle".to_owned()));
    assert_eq!(world.try_submit(&submission), Err(refused));
    assert!(world.tables.missions.is_empty());
}

#[test]
fn a_call_of_a_model_without_a_price_is_refused() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let request = CallRequest {
        number: 1,
        request_hash: "x".to_owned(),
        provider: "test".to_owned(),
        model: "unheard-of".to_owned(),
        input_tokens: 1,
        max_output_tokens: 1,
        alternatives: Vec::new(),
        in_place_of: None,
        heard: 0,
        finished: Vec::new(),
    };
    assert_eq!(world.ask_for(&lease, &request), Err(CallRefusal::NotPriced("unheard-of".to_owned())));
    assert_eq!(call_states(&world), []);
    world.verify();
}

#[test]
fn a_wallet_that_is_frozen_in_mid_run_settles_what_runs_and_holds_nothing_new() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p }\n  two: { needs: [one], agent: a, prompt: p }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 1, 1);
    world.freeze(true);
    assert!(matches!(world.ask(&lease, 2, "b", (500, 1)), Err(CallRefusal::InsufficientCredits { .. })));
    world.succeed(&lease, vec![call]);
    assert_eq!((world.spent(mission), world.state(mission, "two")), (300, TaskState::Waiting));
    world.sweep();
    assert_eq!(world.state(mission, "two"), TaskState::Waiting);
    world.freeze(false);
    world.sweep();
    assert_eq!(world.state(mission, "two"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_permit_is_what_was_asked_for() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Send(id)) = world.ask(&lease, 1, "x", (10, 10)) else { panic!("refused") };
    let call = &world.tables.calls[&id];
    assert_eq!((call.state, call.reserved_ucr, call.attempt), (CallState::Sent, Ucr::new(3_000), 1));
    let hold = &world.tables.holds[&call.hold_id.unwrap()];
    assert_eq!((hold.reserved_ucr, hold.used_ucr), (Ucr::new(3_000), Ucr::ZERO));
    world.verify();
}
