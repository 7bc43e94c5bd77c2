//! The odd cases of the ledger's page, in the order of its table: each test's name says the case and the answer.

use bursar_domain::credits::Ucr;
use bursar_domain::flow::Refusal;
use bursar_domain::ledger::{LedgerRefusal, Terms};
use bursar_domain::outcome::{CallPermit, CallRefusal, ErrorClass, FinishedCall};
use bursar_domain::pricing::PricingError;
use bursar_domain::record::{ChargeFailed, GrantKind, Overrun};
use bursar_domain::state::{RunState, TaskState, WaitCause};
use bursar_domain::usage::Usage;
use serde_json::json;

use super::desk::{CREDIT, Desk, INPUT, ONE, OUTPUT, agents, answered, done, failed, priced, rejected, tokens};
use crate::support::default_prices;
use crate::support::stores::on_both_stores;

on_both_stores!(Desk::open:
    actual_over_the_hold_is_absorbed_where_the_policy_says_so,
    final_failure_charges_nothing_and_records_the_usage,
    final_failure_by_the_steps_own_fault_is_charged_under_the_policy_fault,
    final_failure_of_the_provider_is_not_charged_under_the_policy_fault,
    final_failure_of_any_kind_is_charged_under_the_policy_always_all_attempts_of_it,
    retries_keep_the_hold_and_bill_the_succeeding_attempts_calls_once,
    cancelled_by_the_system_is_not_charged,
    cancel_by_the_user_charges_the_tokens_used_never_zero_never_above_the_reservation,
    cancel_by_the_user_while_nobody_works_charges_what_was_journaled,
    crash_between_call_and_settle_is_paid_by_the_platform_and_journaled_calls_are_replayed,
    lease_lost_is_refused_by_the_fence_and_recorded_unbilled,
    a_price_change_does_not_touch_a_run_that_began_before_it,
    an_unknown_model_is_refused_before_the_call_and_at_submit,
    missing_or_malformed_usage_settles_at_the_estimate_and_says_so,
    cached_and_reasoning_tokens_are_parts_of_their_totals,
    crossing_a_context_tier_prices_the_whole_call_anew,
    a_fallback_to_another_model_reserves_again,
    fifty_holds_and_settles_on_one_wallet_are_one_transaction_each,
    a_frozen_wallet_settles_what_runs_and_holds_nothing_new,
);

mod poor {
    use super::*;

    on_both_stores!(Desk::empty:
        actual_over_the_hold_takes_other_grants_then_debt_which_the_next_grant_repays,
        a_hold_for_a_call_expires_at_its_deadline_and_late_usage_is_charged_once_as_overrun,
        a_grant_that_expires_while_held_stays_usable_and_its_rest_is_breakage,
    );
}

/// What `simulated-large` costs.
fn cost(input: i64, output: i64) -> i64 {
    input * INPUT + output * OUTPUT
}

async fn actual_over_the_hold_takes_other_grants_then_debt_which_the_next_grant_repays(mut desk: Desk) {
    let gift = desk.give_as(CREDIT, GrantKind::Promo, 0, None).await;
    let paid = desk.give(2 * CREDIT).await;
    let mission = desk.start(&agents("", ONE)).await;
    let held = desk.task(mission, "one").await.held_ucr.get();
    let job = desk.claim(mission, "one").await;
    let call = desk.call(&job, 1, (10, 20)).await;
    // the provider reports far more than its cap
    desk.settle(&job, done(vec![answered(call, tokens(10, 50_000))])).await.unwrap();
    let charged = cost(10, 50_000);
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, charged));
    assert_eq!(desk.purse().await, (0, 0, charged - 3 * CREDIT));
    let hold = desk.hold_of(mission, "one").await;
    assert_eq!(desk.hold(hold).await, [held, held, 0, charged - held, 0]);
    let legs = desk.legs(&format!("settle:{hold}")).await;
    assert_eq!(
        legs,
        [
            format!("hold usage {held}"),
            format!("grant usage {}", CREDIT - held),
            format!("grant usage {}", 2 * CREDIT),
            format!("debt usage {}", charged - 3 * CREDIT),
        ]
    );
    assert_eq!((desk.grant(gift).await.remaining_ucr, desk.grant(paid).await.remaining_ucr), (Ucr::ZERO, Ucr::ZERO));
    desk.clean().await;

    let debt = charged - 3 * CREDIT;
    let refused = desk.try_start(&agents("", ONE), |_| ()).await.unwrap_err();
    assert_eq!(refused, Refusal::Ledger(LedgerRefusal::InDebt(Ucr::new(debt))), "debt blocks new holds");
    desk.give(debt - 1).await;
    assert_eq!(desk.purse().await, (0, 0, 1));
    desk.give(CREDIT).await;
    assert_eq!(desk.purse().await, (CREDIT - 1, 0, 0));
    desk.try_start(&agents("", ONE), |_| ()).await.unwrap();
    desk.clean().await;
}

async fn actual_over_the_hold_is_absorbed_where_the_policy_says_so(mut desk: Desk) {
    desk.set_terms(Terms { overrun: Some(Overrun::Absorb), ..Terms::default() }).await;
    let mission = desk.start(&agents("", ONE)).await;
    let held = desk.task(mission, "one").await.held_ucr.get();
    let job = desk.claim(mission, "one").await;
    let call = desk.call(&job, 1, (10, 20)).await;
    desk.settle(&job, done(vec![answered(call, tokens(10, 50_000))])).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, held), "the platform pays the rest");
    assert_eq!(desk.purse().await, (100 * CREDIT - held, 0, 0));
    assert_eq!(desk.calls(mission).await[0].cost_ucr.get(), cost(10, 50_000), "what it cost is known");
    desk.clean().await;
}

/// One attempt that was answered and fails for good.
async fn one_failure(desk: &mut Desk, policy: Option<ChargeFailed>, code: &str) -> (RunState, i64) {
    desk.set_terms(Terms { charge_failed: policy, ..Terms::default() }).await;
    let mission = desk.start(&agents("", ONE)).await;
    let job = desk.claim(mission, "one").await;
    let call = desk.call(&job, 1, (10, 20)).await;
    desk.settle(&job, failed(ErrorClass::Permanent, code, vec![answered(call, tokens(10, 20))])).await.unwrap();
    let call = &desk.calls(mission).await[0];
    assert_eq!((call.cost_ucr.get(), call.usage), (cost(10, 20), Some(tokens(10, 20))), "the usage stays recorded");
    let end = desk.end(mission).await;
    assert_eq!(call.billable, end.1 > 0);
    assert_eq!(desk.task(mission, "one").await.cost_ucr.get(), end.1);
    assert_eq!(desk.purse().await, (100 * CREDIT - end.1, 0, 0), "the rest of the hold is released");
    desk.clean().await;
    end
}

async fn final_failure_charges_nothing_and_records_the_usage(mut desk: Desk) {
    assert_eq!(one_failure(&mut desk, None, "bad_output").await, (RunState::Failed, 0));
}

async fn final_failure_by_the_steps_own_fault_is_charged_under_the_policy_fault(mut desk: Desk) {
    let end = one_failure(&mut desk, Some(ChargeFailed::Fault), "bad_output").await;
    assert_eq!(end, (RunState::Failed, cost(10, 20)));
}

async fn final_failure_of_the_provider_is_not_charged_under_the_policy_fault(mut desk: Desk) {
    let end = one_failure(&mut desk, Some(ChargeFailed::Fault), "provider_refused").await;
    assert_eq!(end, (RunState::Failed, 0));
}

async fn final_failure_of_any_kind_is_charged_under_the_policy_always_all_attempts_of_it(mut desk: Desk) {
    desk.set_terms(Terms { charge_failed: Some(ChargeFailed::Always), ..Terms::default() }).await;
    let node = "one: {agent: a, prompt: p, retry: {max_attempts: 2, backoff: {initial: 1s, jitter: false}}}";
    let mission = desk.start(&agents("", node)).await;
    for (attempt, used) in [(1, tokens(10, 20)), (2, tokens(10, 5))] {
        let job = desk.claim(mission, "one").await;
        let call = desk.call(&job, 1, (10, 20)).await;
        let outcome = failed(ErrorClass::Retryable, "provider_timeout", vec![rejected(call, used)]);
        desk.settle(&job, outcome).await.unwrap();
        assert_eq!(desk.task(mission, "one").await.failures, attempt);
        desk.pass_ms(2_000);
        desk.sweep().await;
    }
    assert_eq!(desk.end(mission).await, (RunState::Failed, cost(10, 20) + cost(10, 5)));
    assert!(desk.calls(mission).await.iter().all(|call| call.billable));
    desk.clean().await;
}

async fn retries_keep_the_hold_and_bill_the_succeeding_attempts_calls_once(mut desk: Desk) {
    let node = "one: {agent: a, prompt: p, retry: {max_attempts: 3, backoff: {initial: 1s, jitter: false}}}";
    let mission = desk.start(&agents("", node)).await;
    let hold = desk.hold_of(mission, "one").await;
    let first = desk.claim(mission, "one").await;
    let kept = desk.call(&first, 1, (10, 20)).await;
    let bad = desk.call(&first, 2, (10, 20)).await;
    let calls = vec![answered(kept, tokens(10, 20)), rejected(bad, tokens(10, 7))];
    desk.settle(&first, failed(ErrorClass::Retryable, "bad_output", calls)).await.unwrap();
    assert_eq!((desk.end(mission).await.1, desk.hold_of(mission, "one").await), (0, hold));
    assert!(desk.task(mission, "one").await.held_ucr.is_positive(), "kept between attempts");
    desk.clean().await;
    desk.pass_ms(2_000);
    desk.sweep().await;

    let second = desk.claim(mission, "one").await;
    let CallPermit::Replay(replayed) = desk.ask(&second, (1, "body 1"), (10, 20)).await.unwrap() else {
        panic!("the first call was answered: it is not bought again")
    };
    let bought = desk.call(&second, 2, (10, 20)).await;
    desk.settle(&second, done(vec![replayed, answered(bought, tokens(10, 3))])).await.unwrap();
    let billed: Vec<_> = desk.calls(mission).await.iter().map(|call| (call.id, call.billable)).collect();
    assert_eq!(billed, [(kept, true), (bad, false), (bought, true)]);
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, cost(10, 20) + cost(10, 3)));
    let usage = desk.task(mission, "one").await.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (20, 23), "usage of the calls that were billed");
    assert_eq!(desk.hold_of(mission, "one").await, hold, "one hold for all attempts");
    desk.clean().await;
}

async fn cancelled_by_the_system_is_not_charged(mut desk: Desk) {
    let nodes = format!("{ONE}, two: {{agent: a, prompt: p}}");
    let mission = desk.start(&agents("", &nodes)).await;
    let (good, bad) = (desk.claim(mission, "one").await, desk.claim(mission, "two").await);
    let call = desk.call(&good, 1, (10, 20)).await;
    desk.settle(&bad, failed(ErrorClass::Permanent, "bad_output", Vec::new())).await.unwrap();
    desk.settle(&good, failed(ErrorClass::Cancelled, "cancelled", vec![answered(call, tokens(10, 20))])).await.unwrap();
    assert_eq!(desk.task(mission, "one").await.state, TaskState::Cancelled);
    assert_eq!((desk.end(mission).await, desk.purse().await), ((RunState::Failed, 0), (100 * CREDIT, 0, 0)));
    desk.clean().await;
}

async fn cancel_by_the_user_charges_the_tokens_used_never_zero_never_above_the_reservation(mut desk: Desk) {
    let mission = desk.start(&agents("", ONE)).await;
    let job = desk.claim(mission, "one").await;
    let reported = desk.call(&job, 1, (10, 20)).await;
    let silent = desk.call(&job, 2, (10, 20)).await;
    let excessive = desk.call(&job, 3, (10, 20)).await;
    desk.cancel(mission).await;
    assert_eq!(desk.task(mission, "one").await.state, TaskState::Running, "the worker is told to stop");
    let calls = vec![
        answered(reported, tokens(10, 4)),
        FinishedCall { usage: None, succeeded: false, ..answered(silent, tokens(10, 2)) },
        answered(excessive, tokens(10, 5_000)),
    ];
    desk.settle(&job, failed(ErrorClass::Cancelled, "cancelled", calls)).await.unwrap();
    // what `simulated-large` may cost at most: its input is dearest when written to the cache, its output as reasoning
    let reserved = 10 * 125 + 20 * 500;
    let charged = cost(10, 4) + cost(10, 2) + reserved;
    assert_eq!(
        (desk.end(mission).await, desk.purse().await),
        ((RunState::Cancelled, charged), (100 * CREDIT - charged, 0, 0))
    );
    let calls = desk.calls(mission).await;
    let shown: Vec<_> = calls.iter().map(|call| (call.cost_ucr.get(), call.estimated, call.billable)).collect();
    assert_eq!(shown, [(cost(10, 4), false, true), (cost(10, 2), true, true), (reserved, false, true)]);
    desk.clean().await;
}

async fn cancel_by_the_user_while_nobody_works_charges_what_was_journaled(mut desk: Desk) {
    for wait in ["rate_limited", "budget", "retryable"] {
        let before = desk.purse().await.0;
        let mission = desk.start(&agents("", ONE)).await;
        let job = desk.claim(mission, "one").await;
        let (kept, last) = (desk.call(&job, 1, (10, 20)).await, desk.call(&job, 2, (10, 20)).await);
        let calls =
            vec![answered(kept, tokens(10, 20)), FinishedCall { succeeded: false, ..answered(last, tokens(10, 0)) }];
        if wait == "budget" {
            desk.freeze(true).await;
        }
        let class = match wait {
            "rate_limited" => ErrorClass::RateLimited,
            "budget" => ErrorClass::Budget,
            _ => ErrorClass::Retryable,
        };
        desk.settle(&job, failed(class, "test", calls)).await.unwrap();
        desk.clean().await;
        desk.cancel(mission).await;
        let charged = cost(10, 20);
        assert_eq!(desk.end(mission).await, (RunState::Cancelled, charged), "{wait}");
        assert_eq!(desk.purse().await, (before - charged, 0, 0), "{wait}");
        desk.clean().await;
        desk.freeze(false).await;
    }
}

async fn crash_between_call_and_settle_is_paid_by_the_platform_and_journaled_calls_are_replayed(mut desk: Desk) {
    let node = "one: {agent: a, prompt: p, retry: {max_attempts: 3, backoff: {initial: 1s, jitter: false}}}";
    let mission = desk.start(&agents("", node)).await;
    let first = desk.claim(mission, "one").await;
    let kept = desk.call(&first, 1, (10, 20)).await;
    let calls = vec![answered(kept, tokens(10, 20))];
    desk.settle(&first, failed(ErrorClass::RateLimited, "slow_down", calls)).await.unwrap();
    desk.pass_ms(10_000);
    desk.sweep().await;

    let second = desk.claim(mission, "one").await;
    assert!(matches!(desk.ask(&second, (1, "body 1"), (10, 20)).await, Ok(CallPermit::Replay(_))));
    desk.call(&second, 2, (10, 20)).await;
    // the intent is written before the call; here its worker dies
    assert_eq!(desk.calls(mission).await[1].state, "sent");
    desk.pass_ms(15_001);
    desk.sweep().await;
    assert_eq!(desk.calls(mission).await[1].state, "lost");
    desk.clean().await;

    let third = desk.claim(mission, "one").await;
    let Ok(CallPermit::Replay(replayed)) = desk.ask(&third, (1, "body 1"), (10, 20)).await else {
        panic!("bought twice")
    };
    let bought = desk.call(&third, 2, (10, 20)).await;
    desk.settle(&third, done(vec![replayed, answered(bought, tokens(10, 6))])).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, cost(10, 20) + cost(10, 6)));
    let billed: Vec<_> = desk.calls(mission).await.iter().map(|call| (call.state.clone(), call.billable)).collect();
    assert_eq!(billed, [("done".to_owned(), true), ("lost".to_owned(), false), ("done".to_owned(), true)]);
    desk.clean().await;
}

async fn lease_lost_is_refused_by_the_fence_and_recorded_unbilled(mut desk: Desk) {
    let mission = desk.start(&agents("", ONE)).await;
    let zombie = desk.claim(mission, "one").await;
    let late = desk.call(&zombie, 1, (10, 20)).await;
    desk.pass_ms(15_001);
    desk.sweep().await;
    let heir = desk.claim(mission, "one").await;
    let calls = vec![answered(late, tokens(10, 20))];
    let refused = desk.settle(&zombie, done(calls.clone())).await;
    assert!(matches!(refused, Err(Refusal::StaleFence { .. })), "{refused:?}");
    assert_eq!(desk.ask(&zombie, (2, "body 2"), (1, 1)).await, Err(CallRefusal::StaleFence), "nor does it spend");
    desk.record_late(&zombie, calls).await;
    let call = &desk.calls(mission).await[0];
    assert_eq!((call.state.as_str(), call.cost_ucr.get(), call.billable), ("lost", cost(10, 20), false));
    let bought = desk.call(&heir, 1, (10, 20)).await;
    desk.settle(&heir, done(vec![answered(bought, tokens(10, 1))])).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, cost(10, 1)));
    desk.clean().await;
}

async fn a_hold_for_a_call_expires_at_its_deadline_and_late_usage_is_charged_once_as_overrun(mut desk: Desk) {
    desk.give(3 * CREDIT).await;
    let hold = desk.hold_for_call("call-1", 2 * CREDIT, 60_000).await.unwrap();
    assert_eq!(desk.purse().await, (CREDIT, 2 * CREDIT, 0));
    desk.clean().await;
    desk.pass_ms(59_999);
    desk.sweep().await;
    assert_eq!(desk.purse().await, (CREDIT, 2 * CREDIT, 0));
    desk.pass_ms(1);
    // no sweep came: whoever needs the credits finds them at the deadline
    let other = desk.hold_for_call("call-2", 3 * CREDIT, 60_000).await.unwrap();
    assert_eq!((desk.purse().await, desk.hold(hold).await), ((0, 3 * CREDIT, 0), [2 * CREDIT, 0, 2 * CREDIT, 0, 0]));
    desk.clean().await;
    desk.charge(other, CREDIT).await.unwrap();

    let late = desk.charge(hold, 3 * CREDIT).await.unwrap();
    let parts = [late.captured, late.returned, late.overrun, late.debt].map(Ucr::get);
    assert_eq!(parts, [0, 0, 2 * CREDIT, CREDIT]);
    assert_eq!(desk.purse().await, (0, 0, CREDIT));
    assert_eq!(desk.charge(hold, 3 * CREDIT).await.unwrap(), late, "said twice, charged once");
    let other_amount = desk.charge(hold, CREDIT).await;
    assert_eq!(other_amount, Err(LedgerRefusal::KeyReused(format!("settle:{hold}"))));
    assert_eq!(desk.purse().await, (0, 0, CREDIT));
    desk.clean().await;
    desk.sweep().await;
    desk.clean().await;
}

async fn a_price_change_does_not_touch_a_run_that_began_before_it(mut desk: Desk) {
    let before = desk.start(&agents("", ONE)).await;
    let mut content = default_prices().to_value();
    content["name"] = json!("dearer");
    for model in content["model"].as_array_mut().unwrap() {
        if model["name"] == "simulated-large" {
            model["rates"]["output"] = json!("4.5");
        }
    }
    let book = bursar_domain::pricing::PriceBook::from_value(content.clone()).unwrap();
    let id = desk.hand.id();
    desk.hand.store.activate_prices(id, book.name(), &book.content_hash(), &content, desk.hand.now).await.unwrap();
    desk.hand.facts.prices.insert(id, std::sync::Arc::new(book));
    let after = desk.try_start(&agents("", ONE), |submission| submission.price_book_id = id).await.unwrap();
    for (mission, output) in [(before, 400), (after, 450)] {
        let job = desk.claim(mission, "one").await;
        let call = desk.call(&job, 1, (10, 20)).await;
        desk.settle(&job, done(vec![answered(call, tokens(10, 20))])).await.unwrap();
        assert_eq!(desk.end(mission).await, (RunState::Succeeded, 10 * INPUT + 20 * output));
    }
    desk.clean().await;
}

async fn an_unknown_model_is_refused_before_the_call_and_at_submit(mut desk: Desk) {
    let unheard = Refusal::Pricing(PricingError::ModelNotPriced("unheard-of".to_owned()));
    let later = format!("{ONE}, two: {{needs: [one], agent: a, model: unheard-of, prompt: p}}");
    assert_eq!(desk.try_start(&agents("", &later), |_| ()).await, Err(unheard));
    let mission = desk.start(&agents("", ONE)).await;
    let held = desk.purse().await;
    let job = desk.claim(mission, "one").await;
    let refused = desk.ask_model(&job, (1, "body"), "unheard-of", (10, 20)).await;
    assert_eq!(refused, Err(CallRefusal::NotPriced("unheard-of".to_owned())));
    assert_eq!((desk.calls(mission).await, desk.purse().await), (Vec::new(), held), "nothing was recorded or reserved");
    desk.settle(&job, failed(ErrorClass::Permanent, "model_not_priced", Vec::new())).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Failed, 0));
    desk.clean().await;
}

async fn missing_or_malformed_usage_settles_at_the_estimate_and_says_so(mut desk: Desk) {
    let contradiction = Usage { input_tokens: 1, cache_read_tokens: 2, ..Usage::default() };
    let reasoning = Usage { output_tokens: 1, reasoning_tokens: 2, ..Usage::default() };
    for reported in [None, Some(contradiction), Some(reasoning)] {
        let mission = desk.start(&agents("", ONE)).await;
        let job = desk.claim(mission, "one").await;
        let call = desk.call(&job, 1, (10, 20)).await;
        let finished = FinishedCall { usage: reported, ..answered(call, tokens(12, 7)) };
        desk.settle(&job, done(vec![finished])).await.unwrap();
        assert_eq!(desk.end(mission).await, (RunState::Succeeded, cost(12, 7)));
        let call = &desk.calls(mission).await[0];
        assert_eq!((call.estimated, call.usage), (true, Some(tokens(12, 7))), "{reported:?}");
        desk.clean().await;
    }
}

async fn cached_and_reasoning_tokens_are_parts_of_their_totals(mut desk: Desk) {
    let mission = desk.start(&agents("", ONE)).await;
    let job = desk.claim(mission, "one").await;
    let call = desk.call(&job, 1, (20_000, 1_000)).await;
    let usage = Usage {
        input_tokens: 12_307,
        cache_read_tokens: 1_000,
        cache_write_tokens: 11_304,
        cache_write_1h_tokens: 0,
        output_tokens: 550,
        reasoning_tokens: 50,
    };
    desk.settle(&job, done(vec![answered(call, usage)])).await.unwrap();
    // 1.00 in, 0.10 read, 1.25 written, 4.00 out and 5.00 of reasoning, in USD for a million; a credit is 0.01 USD
    let charged = 3 * 100 + 1_000 * 10 + 11_304 * 125 + 500 * 400 + 50 * 500;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, charged));
    assert_eq!(desk.task(mission, "one").await.usage, Some(usage));
    desk.clean().await;
}

async fn crossing_a_context_tier_prices_the_whole_call_anew(mut desk: Desk) {
    let text = "{workflow: w, flat_fee: 0, agents: {a: {instructions: i, model: gemini-2.5-pro, max_output_tokens: 100}}, \
                nodes: {one: {agent: a, prompt: p}}}";
    // 1.25 in and 10.00 out up to 200,000 tokens in, 2.50 and 15.00 beyond, in USD for a million
    for (input, charged) in [(200_000, 200_000 * 125 + 50 * 1_000), (200_001, 200_001 * 250 + 50 * 1_500)] {
        let mission = desk.start(text).await;
        let job = desk.claim(mission, "one").await;
        let Ok(CallPermit::Send(call)) = desk.ask_model(&job, (1, "body"), "gemini-2.5-pro", (input, 100)).await else {
            panic!("it is granted")
        };
        desk.settle(&job, done(vec![answered(call, tokens(input, 50))])).await.unwrap();
        assert_eq!(desk.end(mission).await, (RunState::Succeeded, charged));
        desk.clean().await;
    }
}

async fn a_fallback_to_another_model_reserves_again(mut desk: Desk) {
    let mission = desk.start(&agents("", ONE)).await;
    let job = desk.claim(mission, "one").await;
    let first = desk.call(&job, 1, (10_000, 100)).await;
    let reserved = async |desk: &Desk| {
        let hold = desk.hold_of(mission, "one").await.to_string();
        desk.row("select reserved_ucr from holds where id = $1", hold).await["reserved_ucr"].as_i64().unwrap()
    };
    let once = reserved(&desk).await;
    assert_eq!(once, 10_000 * 125 + 100 * 500);
    let Ok(CallPermit::Send(second)) = desk.ask_model(&job, (2, "body 2"), "simulated-small", (10_000, 100)).await
    else {
        panic!("it is granted")
    };
    assert_eq!(reserved(&desk).await, once + 10_000 * 10 + 100 * 40, "at its own prices, on top of the first");
    desk.clean().await;
    let calls = vec![
        FinishedCall { succeeded: false, ..answered(first, tokens(10_000, 0)) },
        answered(second, tokens(10_000, 50)),
    ];
    desk.settle(&job, done(calls)).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 10_000 * 10 + 50 * 40), "only what answered is billed");
    desk.clean().await;
}

async fn fifty_holds_and_settles_on_one_wallet_are_one_transaction_each(mut desk: Desk) {
    use bursar::store::Want;
    use bursar_domain::flow::{self, SettleRequest};

    let workflow = desk.hand.put(&priced("flat_fee: 0,", &[1]).replacen("workflow: w", "workflow: many", 1)).await;
    let submissions: Vec<_> = (0..50).map(|_| desk.hand.submission(workflow)).collect();
    let before = desk.hand.store.counters().commits;
    let want = Want::wallets([desk.hand.wallet]);
    let submitted =
        desk.decide(want, |turn| submissions.iter().map(|one| flow::submit(turn, one)).collect::<Vec<_>>()).await;
    let ready: Vec<_> = submitted.unwrap().into_iter().flat_map(Result::unwrap).collect();
    assert_eq!((ready.len(), desk.purse().await), (50, (100 * CREDIT - 500_000, 500_000, 0)));
    assert_eq!(desk.hand.store.counters().commits - before, 1);
    desk.clean().await;

    let (claimed, token) = desk.hand.claim(&ready).await;
    let mut want = Want::default();
    let requests: Vec<_> = claimed
        .iter()
        .map(|task| {
            let one = desk.hand.settle_want(task);
            want.tasks.extend(one.tasks);
            want.missions.extend(one.missions);
            SettleRequest {
                guard: task.guard(&token),
                outcome: done(Vec::new()),
                handoff: None,
                cache: None,
                prompt: None,
            }
        })
        .collect();
    let before = desk.hand.store.counters().commits;
    let settled =
        desk.decide(want, |turn| requests.iter().map(|one| flow::settle(turn, one)).collect::<Vec<_>>()).await;
    assert!(settled.unwrap().iter().all(Result::is_ok));
    assert_eq!(desk.hand.store.counters().commits - before, 1);
    assert_eq!(desk.purse().await, (100 * CREDIT - 500_000, 0, 0));
    desk.clean().await;
}

async fn a_grant_that_expires_while_held_stays_usable_and_its_rest_is_breakage(mut desk: Desk) {
    let gift = desk.give_as(5 * CREDIT, GrantKind::Promo, 0, Some(60_000)).await;
    desk.give(CREDIT).await;
    let hold = desk.hold_for_call("call", 4 * CREDIT, 600_000).await.unwrap();
    desk.pass_ms(60_000);
    desk.sweep().await;
    assert_eq!((desk.purse().await, desk.grant(gift).await.expired), ((CREDIT, 4 * CREDIT, 0), true));
    desk.clean().await;
    let settled = desk.charge(hold, 3 * CREDIT).await.unwrap();
    assert_eq!((settled.captured.get(), settled.returned.get()), (3 * CREDIT, CREDIT), "what is held stays usable");
    assert_eq!(desk.legs(&format!("settle:{hold}")).await, ["hold usage 3000000", "hold breakage 1000000"]);
    assert_eq!(desk.purse().await, (CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_frozen_wallet_settles_what_runs_and_holds_nothing_new(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 2,", &[100, 300])).await;
    let job = desk.claim(mission, "n0").await;
    desk.freeze(true).await;
    desk.settle(&job, done(Vec::new())).await.unwrap();
    let second = desk.task(mission, "n1").await;
    assert_eq!((second.state, second.wait, second.held_ucr), (TaskState::Waiting, Some(WaitCause::Credits), Ucr::ZERO));
    assert!(second.status_reason.unwrap().contains("frozen"));
    let refused = desk.try_start(&priced("flat_fee: 0,", &[1]), |_| ()).await.unwrap_err();
    assert_eq!(refused, Refusal::Ledger(LedgerRefusal::WalletFrozen));
    desk.pass_ms(100_000);
    desk.sweep().await;
    assert_eq!((desk.end(mission).await.1, desk.purse().await), (CREDIT, (97 * CREDIT, 2 * CREDIT, 0)));
    desk.clean().await;
    desk.freeze(false).await;
    desk.do_node(mission, "n1").await;
    assert_eq!((desk.end(mission).await, desk.purse().await), ((RunState::Succeeded, 6 * CREDIT), (94 * CREDIT, 0, 0)));
    desk.clean().await;
}
