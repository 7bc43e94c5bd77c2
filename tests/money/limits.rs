//! What may be spent: in a day, in a month, on a mission, on a node; what happens at the end of it; who is told when.

use bursar::store::Want;
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{self, Refusal};
use bursar_domain::id::MissionId;
use bursar_domain::ledger::{LedgerRefusal, Period, Terms};
use bursar_domain::outcome::ErrorClass;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::OnExhausted;
use serde_json::{Value, json};

use super::desk::{CREDIT, Desk, ONE, agents, answered, done, failed, priced, tokens};
use crate::support::stores::on_both_stores;

on_both_stores!(Desk::open:
    a_days_limit_counts_what_is_held_and_starts_again_at_midnight_utc,
    a_months_limit_starts_again_with_the_month,
    a_refund_gives_no_room_back,
    a_task_over_the_days_limit_waits_for_midnight,
    a_hold_above_a_new_limit_stays_and_settles,
    a_missions_limit_is_the_operators_and_the_tighter_of_two_counts,
    a_limit_of_zero_allows_nothing_and_none_allows_all,
    a_missions_budget_pauses_until_it_is_raised_or_fails_as_it_says,
    a_nodes_budget_is_enough_or_fails_at_once,
    a_call_beyond_its_nodes_budget_ends_the_task,
    a_hold_that_never_fits_fails_at_once_and_says_why,
    what_waits_fails_when_it_comes_to_wait_in_vain,
    who_spent_four_fifths_is_told_once,
    the_fee_is_taken_once,
    a_budget_is_never_below_what_is_spent_and_held,
);

const DAY_MS: i64 = 86_400_000;
/// 2027-02-01T00:00:00Z, the first midnight of the month after the one in which desks open.
const FEBRUARY: Timestamp = Timestamp::from_ms(1_801_440_000_000);

fn limit(day: Option<i64>, month: Option<i64>, mission: Option<i64>) -> Terms {
    let of = |credits: Option<i64>| credits.map(|credits| Some(Ucr::from_credits(credits)));
    Terms { day_limit: of(day), month_limit: of(month), mission_limit: of(mission), ..Terms::default() }
}

fn over(period: Period, limit: i64, room: i64, required: i64) -> Refusal {
    let [limit, room, required] = [limit, room, required].map(Ucr::from_credits);
    Refusal::Ledger(LedgerRefusal::OverLimit { period, limit, room, required })
}

/// A mission of one step of so many credits, submitted.
async fn submit(desk: &mut Desk, credits: u64) -> Result<MissionId, Refusal> {
    desk.try_start(&priced("flat_fee: 0,", &[credits * 100]), |_| ()).await
}

/// A mission of one step of so many credits, done.
async fn spend(desk: &mut Desk, credits: u64) -> MissionId {
    let mission = submit(desk, credits).await.unwrap();
    desk.do_node(mission, "n0").await;
    mission
}

async fn a_days_limit_counts_what_is_held_and_starts_again_at_midnight_utc(mut desk: Desk) {
    desk.set_terms(limit(Some(10), None, None)).await;
    spend(&mut desk, 4).await;
    let open = submit(&mut desk, 3).await.unwrap();
    assert_eq!(submit(&mut desk, 4).await, Err(over(Period::Day, 10, 3, 4)), "what is held may be spent");
    submit(&mut desk, 3).await.unwrap();
    assert_eq!(submit(&mut desk, 1).await, Err(over(Period::Day, 10, 0, 1)));
    desk.cancel(open).await;
    submit(&mut desk, 3).await.unwrap();
    desk.clean().await;

    let midnight = i64::from(desk.hand.now.day() + 1) * DAY_MS;
    desk.hand.now = Timestamp::from_ms(midnight - 1);
    assert_eq!(submit(&mut desk, 1).await, Err(over(Period::Day, 10, 0, 1)));
    desk.pass_ms(1);
    // six are still held by tasks of yesterday
    assert_eq!(submit(&mut desk, 5).await, Err(over(Period::Day, 10, 4, 5)));
    spend(&mut desk, 4).await;
    assert_eq!(submit(&mut desk, 1).await, Err(over(Period::Day, 10, 0, 1)));
    desk.clean().await;
}

async fn a_months_limit_starts_again_with_the_month(mut desk: Desk) {
    desk.set_terms(limit(Some(20), Some(30), None)).await;
    spend(&mut desk, 20).await;
    desk.pass_ms(DAY_MS);
    spend(&mut desk, 8).await;
    assert_eq!(submit(&mut desk, 3).await, Err(over(Period::Month, 30, 2, 3)));
    desk.hand.now = Timestamp::from_ms(FEBRUARY.ms() - 1);
    assert_eq!(submit(&mut desk, 3).await, Err(over(Period::Month, 30, 2, 3)));
    desk.hand.now = FEBRUARY;
    spend(&mut desk, 20).await;
    assert_eq!(submit(&mut desk, 1).await, Err(over(Period::Day, 20, 0, 1)), "of two limits the day's is named first");
    desk.clean().await;
}

async fn a_refund_gives_no_room_back(mut desk: Desk) {
    desk.set_terms(limit(Some(10), Some(10), None)).await;
    let mission = spend(&mut desk, 10).await;
    let hold = desk.hold_of(mission, "n0").await;
    desk.refund("key", hold, 10 * CREDIT).await.unwrap();
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    assert_eq!(submit(&mut desk, 1).await, Err(over(Period::Day, 10, 0, 1)));
    desk.clean().await;
}

async fn a_task_over_the_days_limit_waits_for_midnight(mut desk: Desk) {
    desk.set_terms(limit(Some(10), None, None)).await;
    let mission = desk.start(&priced("flat_fee: 1,", &[600, 500])).await;
    desk.do_node(mission, "n0").await;
    let task = desk.task(mission, "n1").await;
    assert_eq!((task.state, task.wait, task.held_ucr), (TaskState::Waiting, Some(WaitCause::Credits), Ucr::ZERO));
    let reason = task.status_reason.unwrap();
    assert!(reason.contains("in a day") && reason.contains("3.000000 are left"), "{reason}");
    desk.give(100 * CREDIT).await;
    assert_eq!(desk.task(mission, "n1").await.state, TaskState::Waiting, "credits are not what it lacks");
    desk.hand.now = Timestamp::from_ms(i64::from(desk.hand.now.day() + 1) * DAY_MS);
    desk.sweep().await;
    desk.do_node(mission, "n1").await;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 12 * CREDIT));
    desk.clean().await;
}

async fn a_hold_above_a_new_limit_stays_and_settles(mut desk: Desk) {
    let mission = submit(&mut desk, 50).await.unwrap();
    desk.set_terms(limit(Some(5), Some(5), Some(5))).await;
    desk.do_node(mission, "n0").await;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 50 * CREDIT));
    desk.clean().await;
}

async fn a_missions_limit_is_the_operators_and_the_tighter_of_two_counts(mut desk: Desk) {
    desk.set_terms(limit(None, None, Some(10))).await;
    let text = priced("flat_fee: 2,", &[900]);
    let (budget, required) = (Ucr::from_credits(10), Ucr::from_credits(11));
    let refused = Refusal::OverBudget { of: "mission", budget, room: budget, required };
    assert_eq!(desk.try_start(&text, |_| ()).await, Err(refused.clone()));
    let generous = |submission: &mut flow::Submission| submission.budget_ucr = Some(Ucr::from_credits(1_000));
    assert_eq!(desk.try_start(&text, generous).await, Err(refused));
    let tight = |submission: &mut flow::Submission| submission.budget_ucr = Some(Ucr::from_credits(5));
    let refused = desk.try_start(&priced("flat_fee: 0,", &[600]), tight).await.unwrap_err();
    assert!(matches!(refused, Refusal::OverBudget { of: "mission", budget, .. } if budget == Ucr::from_credits(5)));

    let mission = desk.try_start(&priced("flat_fee: 2,", &[500, 400]), generous).await.unwrap();
    desk.do_node(mission, "n0").await;
    let waiting = desk.task(mission, "n1").await;
    assert_eq!((waiting.state, waiting.wait), (TaskState::Waiting, Some(WaitCause::Credits)));
    assert!(waiting.status_reason.unwrap().contains("budget of 10.000000"));
    desk.set_terms(limit(None, None, Some(11))).await;
    desk.do_node(mission, "n1").await;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 11 * CREDIT));
    desk.clean().await;
}

async fn a_limit_of_zero_allows_nothing_and_none_allows_all(mut desk: Desk) {
    for terms in [limit(Some(0), None, None), limit(None, Some(0), None), limit(None, None, Some(0))] {
        desk.set_terms(terms).await;
        assert!(submit(&mut desk, 1).await.is_err(), "{terms:?}");
        // what is free needs no credits
        desk.start("{workflow: w, flat_fee: 0, nodes: {free: {transform: {x: 1}}}}").await;
        let lifted =
            Terms { day_limit: Some(None), month_limit: Some(None), mission_limit: Some(None), ..Terms::default() };
        desk.set_terms(lifted).await;
        spend(&mut desk, 1).await;
    }
    desk.clean().await;
}

async fn raise(
    desk: &mut Desk,
    mission: MissionId,
    credits: Option<i64>,
    then: Option<OnExhausted>,
) -> Result<(), Refusal> {
    let want = Want { missions: vec![mission], ..Want::default() };
    let budget = Some(credits.map(Ucr::from_credits));
    let raised = desk.decide(want, |turn| flow::set_budget(turn, mission, budget, then)).await.unwrap();
    desk.retry_waiters().await;
    raised
}

async fn a_missions_budget_pauses_until_it_is_raised_or_fails_as_it_says(mut desk: Desk) {
    let budget = |policy: &str| format!("flat_fee: 2, budget: {{credits: 6, on_exhausted: {policy}}},");
    let paused = desk.start(&priced(&budget("pause"), &[300, 200])).await;
    desk.do_node(paused, "n0").await;
    let task = desk.task(paused, "n1").await;
    assert_eq!((task.state, task.wait, task.held_ucr), (TaskState::Waiting, Some(WaitCause::Credits), Ucr::ZERO));
    desk.sweep().await;
    raise(&mut desk, paused, Some(7), None).await.unwrap();
    let (kind, data) = desk.events(paused).await.pop().unwrap();
    assert_eq!((kind.as_str(), &data["max_credits"]), ("mission.budget_changed", &json!("7.000000")));
    desk.do_node(paused, "n1").await;
    assert_eq!(desk.end(paused).await, (RunState::Succeeded, 7 * CREDIT));

    let lifted = desk.start(&priced(&budget("pause"), &[300, 200])).await;
    desk.do_node(lifted, "n0").await;
    raise(&mut desk, lifted, None, None).await.unwrap();
    desk.do_node(lifted, "n1").await;
    assert_eq!(desk.end(lifted).await, (RunState::Succeeded, 7 * CREDIT));

    let failing = desk.start(&priced(&budget("fail"), &[300, 200])).await;
    desk.do_node(failing, "n0").await;
    assert_eq!(desk.end(failing).await, (RunState::Failed, 3 * CREDIT), "what succeeded is charged, the fee is not");
    assert_eq!(desk.task(failing, "n1").await.error.unwrap().code, "budget_exhausted");
    assert_eq!(desk.purse().await, ((100 - 17) * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_nodes_budget_is_enough_or_fails_at_once(mut desk: Desk) {
    let text = |credits: i64, policy: &str| {
        format!(
            "{{workflow: w, flat_fee: 1, nodes: {{a: {{transform: {{x: 1}}, units: {{tool_call: 100}}}}, \
             b: {{needs: [a], transform: {{x: 1}}, units: {{tool_call: 300}}, \
             budget: {{credits: {credits}, on_exhausted: {policy}}}}}}}}}"
        )
    };
    for policy in ["pause", "fail"] {
        let enough = desk.start(&text(3, policy)).await;
        desk.do_node(enough, "a").await;
        desk.do_node(enough, "b").await;
        assert_eq!(desk.end(enough).await, (RunState::Succeeded, 5 * CREDIT));
        // nobody can raise a node's budget: to wait for that would be to wait for ever
        let small = desk.start(&text(2, policy)).await;
        desk.do_node(small, "a").await;
        assert_eq!(desk.end(small).await, (RunState::Failed, CREDIT), "{policy}");
        let error = desk.task(small, "b").await.error.unwrap();
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Budget, "hold_never_fits"));
        assert!(error.message.contains("3.000000 credits") && error.message.contains("2.000000"), "{}", error.message);
        desk.clean().await;
    }
}

async fn a_call_beyond_its_nodes_budget_ends_the_task(mut desk: Desk) {
    let node = "one: {agent: a, prompt: p, budget: {credits: 1}}";
    let mission = desk.start(&agents("", node)).await;
    let job = desk.claim(mission, "one").await;
    let kept = desk.call(&job, 1, (1_000, 100)).await;
    // 12,500 tokens of input may cost more than what the first call leaves of the credit
    let refused = desk.ask(&job, (2, "body 2"), (12_500, 100)).await;
    assert!(matches!(refused, Err(bursar_domain::outcome::CallRefusal::InsufficientCredits { .. })), "{refused:?}");
    let calls = vec![answered(kept, tokens(1_000, 100))];
    desk.settle(&job, failed(ErrorClass::Budget, "insufficient_credits", calls)).await.unwrap();
    assert_eq!(desk.end(mission).await, (RunState::Failed, 0));
    assert_eq!(desk.task(mission, "one").await.error.unwrap().code, "hold_never_fits");
    assert_eq!(desk.purse().await, (100 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_hold_that_never_fits_fails_at_once_and_says_why(mut desk: Desk) {
    for (terms, name) in [
        (limit(None, None, Some(4)), "the limit for one mission"),
        (limit(Some(4), None, None), "the limit for one day"),
        (limit(None, Some(4), None), "the limit for one month"),
    ] {
        let mission = desk.start(&priced("flat_fee: 1,", &[100, 500])).await;
        desk.set_terms(terms).await;
        desk.do_node(mission, "n0").await;
        assert_eq!(desk.end(mission).await, (RunState::Failed, CREDIT), "{name}");
        let error = desk.task(mission, "n1").await.error.unwrap();
        let expected = format!("5.000000 credits are needed at once and {name} is 4.000000");
        assert_eq!((error.code.as_str(), error.message), ("hold_never_fits", expected));
        let lifted =
            Terms { day_limit: Some(None), month_limit: Some(None), mission_limit: Some(None), ..Terms::default() };
        desk.set_terms(lifted).await;
    }
    assert_eq!(desk.purse().await, (97 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn what_waits_fails_when_it_comes_to_wait_in_vain(mut desk: Desk) {
    desk.set_terms(limit(Some(6), None, None)).await;
    let limited = desk.start(&priced("flat_fee: 1,", &[100, 500])).await;
    desk.do_node(limited, "n0").await;
    assert_eq!(desk.task(limited, "n1").await.state, TaskState::Waiting, "tomorrow it has room");
    desk.set_terms(limit(Some(4), None, None)).await;
    assert_eq!(desk.end(limited).await, (RunState::Failed, CREDIT));
    let error = desk.task(limited, "n1").await.error.unwrap();
    let expected = "5.000000 credits are needed at once and the limit for one day is 4.000000";
    assert_eq!((error.code.as_str(), error.message.as_str()), ("hold_never_fits", expected));

    desk.set_terms(limit(Some(1_000), None, None)).await;
    let budgeted = desk.start(&priced("flat_fee: 0, budget: {credits: 6, on_exhausted: pause},", &[300, 400])).await;
    desk.do_node(budgeted, "n0").await;
    assert_eq!(desk.task(budgeted, "n1").await.state, TaskState::Waiting, "somebody may raise the budget");
    raise(&mut desk, budgeted, Some(6), Some(OnExhausted::Fail)).await.unwrap();
    assert_eq!(desk.end(budgeted).await, (RunState::Failed, 3 * CREDIT));
    assert_eq!(desk.task(budgeted, "n1").await.error.unwrap().code, "budget_exhausted");
    desk.clean().await;
}

async fn alerts(desk: &Desk, mission: MissionId) -> Vec<Value> {
    let events = desk.events(mission).await.into_iter();
    events.filter(|(kind, _)| kind == "wallet.budget_alert").map(|(_, data)| data).collect()
}

async fn who_spent_four_fifths_is_told_once(mut desk: Desk) {
    desk.set_terms(limit(Some(20), Some(40), None)).await;
    let text = priced("flat_fee: 0, budget: {credits: 10},", &[700, 99, 1, 100, 50]);
    let mission = desk.start(&text).await;
    for (node, expected) in [("n0", 0), ("n1", 0), ("n2", 1), ("n3", 1), ("n4", 1)] {
        desk.do_node(mission, node).await;
        assert_eq!(alerts(&desk, mission).await.len(), expected, "after {node}");
    }
    let told = json!({"scope": "mission", "spent": "8.000000", "limit": "10.000000"});
    assert_eq!(alerts(&desk, mission).await, [told]);

    // the wallet's day is told in the mission that crosses the line: 9.5 before, 16.5 of 20 after
    let next = spend(&mut desk, 7).await;
    let told = json!({"scope": "day", "spent": "16.500000", "limit": "20.000000"});
    assert_eq!(alerts(&desk, next).await, [told]);
    let further = spend(&mut desk, 1).await;
    assert_eq!(alerts(&desk, further).await, [] as [Value; 0]);
    desk.pass_ms(DAY_MS);
    let tomorrow = spend(&mut desk, 16).await;
    let told = [
        json!({"scope": "day", "spent": "16.000000", "limit": "20.000000"}),
        json!({"scope": "month", "spent": "33.500000", "limit": "40.000000"}),
    ];
    assert_eq!(alerts(&desk, tomorrow).await, told);
    desk.clean().await;
}

async fn the_fee_is_taken_once(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 10,", &[100])).await;
    assert_eq!(desk.purse().await, (89 * CREDIT, 11 * CREDIT, 0));
    let job = desk.claim(mission, "n0").await;
    for _ in 0..3 {
        desk.settle(&job, done(Vec::new())).await.unwrap();
        desk.sweep().await;
    }
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 11 * CREDIT));
    assert_eq!(desk.purse().await, (89 * CREDIT, 0, 0));
    let fees = desk.hand.count("entries where destination = 'fee'").await;
    assert_eq!(fees, 1);
    for nodes in [ONE.to_owned(), format!("{ONE}, two: {{agent: a, prompt: p}}")] {
        let cancelled = desk.start(&agents("", &nodes).replacen("flat_fee: 0", "flat_fee: 10", 1)).await;
        desk.cancel(cancelled).await;
        assert_eq!(desk.end(cancelled).await, (RunState::Cancelled, 0), "no success, no fee");
    }
    assert_eq!(desk.purse().await, (89 * CREDIT, 0, 0));
    desk.clean().await;
}

async fn a_budget_is_never_below_what_is_spent_and_held(mut desk: Desk) {
    let mission = desk.start(&priced("flat_fee: 2, budget: {credits: 20},", &[300, 400])).await;
    desk.do_node(mission, "n0").await;
    let (budget, required) = (Ucr::from_credits(8), Ucr::from_credits(9));
    let refused = raise(&mut desk, mission, Some(8), None).await;
    assert_eq!(refused, Err(Refusal::OverBudget { of: "mission", budget, room: budget, required }));
    let zero = raise(&mut desk, mission, Some(0), None).await;
    assert_eq!(zero, Err(Refusal::Ledger(LedgerRefusal::AmountNotPositive(Ucr::ZERO))));
    raise(&mut desk, mission, Some(9), Some(OnExhausted::Fail)).await.unwrap();
    desk.do_node(mission, "n1").await;
    assert_eq!(desk.end(mission).await, (RunState::Succeeded, 9 * CREDIT));
    // what is over may be given more before it is forked
    raise(&mut desk, mission, Some(100), None).await.unwrap();
    desk.clean().await;
}
