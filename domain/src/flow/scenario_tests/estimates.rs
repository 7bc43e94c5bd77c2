//! Estimates: what experience says sizes holds and reservations, and never what is charged for a report.

use std::sync::Arc;

use super::{ONE, ONE_HOLD_UCR, only_call, ops, workflow};
use crate::credits::Ucr;
use crate::estimate::{Factor, NodeCost, NodeKey};
use crate::flow::testbed::{Lease, World};
use crate::flow::{self, Forecast, ForecastRequest, Lesson, Observed, SettleRequest, Source};
use crate::id::MissionId;
use crate::ledger::LedgerRefusal;
use crate::outcome::{CallPermit, CallRefusal, ErrorClass, FinishedCall, Outcome, StepError};
use crate::record::OpKind;
use crate::state::{RunState, TaskState, WaitCause};
use crate::usage::Usage;

/// What 95 % of the executions of a learned node cost here: exactly a bucket's upper end.
const USUAL_UCR: i64 = 1_023;

/// Lets a world know what `node` of the workflow `w` costs.
fn teach_node(world: &mut World, node: &str, amount: i64) {
    let key =
        NodeKey { tenant_id: world.tenant, price_book_id: world.book, workflow: "w".to_owned(), node: node.to_owned() };
    let mut cost = NodeCost::default();
    (0..100).for_each(|_| cost.add(Ucr::new(amount), Ucr::new(amount), Ucr::new(amount)));
    Arc::make_mut(&mut world.facts.learned).know_node(&key, &cost);
}

/// Lets a world know that the provider reports twice what is counted; the factor, in ppm, is a little less.
fn teach_factor(world: &mut World) -> u64 {
    let mut factor = Factor::default();
    (0..1_000).for_each(|_| factor.add(4_096, 8_192));
    Arc::make_mut(&mut world.facts.learned).know_factor("test", "m", &factor);
    u64::from(world.facts.learned.factor_ppm("test", "m"))
}

/// Settles and tells what that taught, as the engine does.
fn settle_and_learn(world: &mut World, lease: &Lease, request: &SettleRequest) -> Lesson {
    let want = world.settle_want(lease, request);
    world.decide(&want, |turn| {
        let observed = Observed::before(turn, request);
        flow::settle(turn, request).unwrap();
        observed.after(turn)
    })
}

fn success(lease: &Lease, calls: Vec<FinishedCall>) -> SettleRequest {
    lease.settle(Outcome::Succeeded { output: serde_json::json!("done"), calls })
}

fn claimed(world: &mut World) -> (MissionId, Lease) {
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    (mission, lease)
}

#[test]
fn a_hold_is_made_with_what_the_node_usually_costs() {
    let mut world = World::with_credits(100);
    teach_node(&mut world, "one", USUAL_UCR);
    let nodes = format!("{ONE}\n  two: {{ agent: a, prompt: p, units: {{ step: 1 }} }}");
    let mission = world.submit(&workflow("", &nodes));
    assert_eq!(world.held(mission, "one"), Some(USUAL_UCR));
    assert_eq!(world.held(mission, "two"), Some(ONE_HOLD_UCR + 1_000_000), "nothing is known about it");
    teach_node(&mut world, "two", USUAL_UCR);
    let mission = world.submit(&workflow("", &nodes));
    assert_eq!(world.held(mission, "two"), Some(USUAL_UCR + 1_000_000), "units are known beforehand");
    world.verify();
}

#[test]
fn a_node_that_usually_costs_nothing_still_has_a_hold() {
    let mut world = World::with_credits(100);
    teach_node(&mut world, "one", 0);
    let mission = world.submit(&workflow("", ONE));
    assert_eq!(world.held(mission, "one"), Some(1));
    world.do_node(mission, "one", Some((1, 1)));
    assert_eq!((world.spent(mission), world.purse().1), (300, 0));
    world.verify();
}

#[test]
fn a_call_reserves_its_ceiling_whatever_its_node_usually_costs() {
    let mut world = World::with_credits(100);
    teach_node(&mut world, "one", USUAL_UCR);
    let (mission, lease) = claimed(&mut world);
    let Ok(CallPermit::Send(_)) = world.ask(&lease, 1, "body", (18, 100)) else { panic!("refused") };
    assert_eq!(only_call(&world).reserved_ucr, Ucr::new(ONE_HOLD_UCR));
    assert_eq!((world.held(mission, "one"), ops(&world, OpKind::TopUp)), (Some(ONE_HOLD_UCR), 1));
    world.verify();
}

#[test]
fn a_task_whose_call_did_not_fit_waits_for_the_call_and_not_for_its_usual_cost() {
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(2_000), None).unwrap();
    teach_node(&mut world, "one", USUAL_UCR);
    let (mission, lease) = claimed(&mut world);
    assert!(matches!(world.ask(&lease, 1, "body", (18, 100)), Err(CallRefusal::InsufficientCredits { .. })));
    world.fail(&lease, ErrorClass::Budget, vec![]);
    for _ in 0..3 {
        world.sweep();
        assert_eq!(world.state(mission, "one"), TaskState::Waiting, "its usual cost would fit, its call does not");
    }
    assert_eq!(world.task(mission, "one").wait, Some(WaitCause::Credits));
    world.grant_ucr(Ucr::new(2 * ONE_HOLD_UCR), None).unwrap();
    assert_eq!(world.state(mission, "one"), TaskState::Ready);
    world.do_node(mission, "one", Some((18, 100)));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn holds_and_reservations_grow_with_the_models_factor() {
    let mut world = World::with_credits(100);
    let factor_ppm = teach_factor(&mut world);
    let scaled = |tokens: u64| i64::try_from((tokens * factor_ppm).div_ceil(1_000_000)).unwrap();
    assert!(factor_ppm > 1_900_000);
    let (mission, lease) = claimed(&mut world);
    assert_eq!(world.held(mission, "one"), Some(scaled(18) * 100 + 20_000));
    world.call(&lease, 50, 100);
    let call = only_call(&world);
    assert_eq!(call.reserved_ucr, Ucr::new(scaled(50) * 100 + 20_000));
    assert_eq!(call.estimated_input_tokens, 50, "what is kept for learning is the bare count");
    world.verify();
}

#[test]
fn a_report_is_billed_as_reported_whatever_was_learned() {
    let mut world = World::with_credits(100);
    teach_factor(&mut world);
    teach_node(&mut world, "one", USUAL_UCR);
    let (mission, lease) = claimed(&mut world);
    let call = world.call(&lease, 10, 10);
    world.succeed(&lease, vec![call]);
    assert_eq!((world.spent(mission), only_call(&world).estimated), (3_000, false));
    world.verify();
}

#[test]
fn missing_usage_is_billed_at_the_count_times_the_factor_and_flagged() {
    let mut world = World::with_credits(100);
    let factor_ppm = teach_factor(&mut world);
    let (mission, lease) = claimed(&mut world);
    let call = world.call(&lease, 50, 10);
    world.succeed(&lease, vec![FinishedCall { usage: None, ..call }]);
    let input = (50 * factor_ppm).div_ceil(1_000_000);
    assert_eq!(world.spent(mission), i64::try_from(input).unwrap() * 100 + 2_000);
    assert!(only_call(&world).estimated);
    assert_eq!(only_call(&world).usage.unwrap().input_tokens, input);
    world.verify();
}

#[test]
fn a_report_of_more_than_fits_through_the_model_is_not_believed() {
    // the model's window has 1,000,000 tokens, its longest answer 100,000
    let tokens = |input_tokens, output_tokens| Usage { input_tokens, output_tokens, ..Usage::default() };
    let cases = [
        (tokens(1_000_000, 100_000), true),
        (tokens(1_000_000, 100_001), false),
        (tokens(1_000_000_000_000, 1), false),
        (tokens(1, 1_000_000_000_000), false),
        (tokens(u64::MAX, u64::MAX), false),
    ];
    for (reported, is_believed) in cases {
        let mut world = World::with_credits(1_000);
        let (mission, lease) = claimed(&mut world);
        let call = world.call(&lease, 10, 10);
        let call = FinishedCall { usage: Some(reported), ..call };
        let lesson = settle_and_learn(&mut world, &lease, &success(&lease, vec![call]));
        assert_eq!(only_call(&world).estimated, !is_believed, "{reported:?}");
        assert_eq!((lesson.calls.len(), lesson.doubts.len()), (usize::from(is_believed), usize::from(!is_believed)));
        if !is_believed {
            assert_eq!(world.spent(mission), 3_000, "{reported:?}: the estimate is billed");
            assert_eq!(lesson.doubts[0].reported, Some(reported), "the log can name it");
        }
        world.verify();
    }
}

#[test]
fn a_settle_teaches_what_was_counted_reported_charged_and_held() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p, units: { step: 1 } }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "one");
    let mut call = world.call(&lease, 10, 20);
    call.usage = Some(Usage { input_tokens: 13, output_tokens: 7, ..Usage::default() });
    let request = success(&lease, vec![call]);
    let lesson = settle_and_learn(&mut world, &lease, &request);
    let [taught] = &lesson.calls[..] else { panic!("{lesson:?}") };
    assert_eq!((taught.provider.as_str(), taught.model.as_str()), ("test", "m"));
    assert_eq!((taught.counted_tokens, taught.reported_tokens), (10, 13));
    let node = lesson.node.unwrap();
    assert_eq!((node.key.workflow.as_str(), node.key.node.as_str(), node.model.as_str()), ("w", "one", "m"));
    assert_eq!((node.key.tenant_id, node.key.price_book_id), (world.tenant, world.book));
    let calls = 13 * 100 + 7 * 200;
    assert_eq!((node.calls_ucr.get(), node.charged_ucr.get()), (calls, calls + 1_000_000));
    assert_eq!(node.estimated_ucr.get(), ONE_HOLD_UCR + 1_000_000);
    let again = settle_and_learn(&mut world, &lease, &request);
    assert_eq!(again, Lesson::default(), "a repeated settle teaches nothing");
    world.verify();
}

#[test]
fn a_hold_that_grew_teaches_what_it_would_be_made_with() {
    let mut world = World::with_credits(100);
    teach_node(&mut world, "one", USUAL_UCR);
    let (_, lease) = claimed(&mut world);
    let call = world.call(&lease, 18, 100);
    let lesson = settle_and_learn(&mut world, &lease, &success(&lease, vec![call]));
    let node = lesson.node.unwrap();
    assert_eq!((node.estimated_ucr.get(), node.charged_ucr.get()), (USUAL_UCR, ONE_HOLD_UCR));
}

#[test]
fn a_failure_teaches_its_calls_and_a_replay_teaches_nothing_twice() {
    let mut world = World::with_credits(100);
    let (mission, lease) = claimed(&mut world);
    let first = world.call(&lease, 10, 10);
    let second = world.call(&lease, 5, 5);
    let error = StepError::new(ErrorClass::Retryable, "test", "no");
    let request = lease.settle(Outcome::Failed { error, calls: vec![first, second] });
    let lesson = settle_and_learn(&mut world, &lease, &request);
    assert_eq!((lesson.calls.len(), lesson.node), (2, None));
    world.pass_ms(60_000);
    world.sweep();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Replay(call)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought again") };
    let lesson = settle_and_learn(&mut world, &lease, &success(&lease, vec![call]));
    assert_eq!(lesson.calls, [], "it taught when it was bought");
    assert_eq!(lesson.node.unwrap().calls_ucr, Ucr::new(3_000), "the node costs what it consumed");
    world.verify();
}

fn foretold(world: &mut World, yaml: &str) -> Forecast {
    let id = world.define(yaml);
    let request = ForecastRequest {
        definition: &world.facts.workflows[&id],
        prices: &world.facts.prices[&world.book],
        price_book_id: world.book,
        tenant_id: world.tenant,
        input: &serde_json::json!({}),
    };
    flow::forecast(&world.facts.learned, &request).unwrap()
}

#[test]
fn a_forecast_needs_what_a_submit_needs_and_spans_what_is_possible() {
    let nodes = "  one: { agent: a, prompt: p }
  two: { needs: [one], agent: a, prompt: '{{ nodes.one.output }}' }
  three: { needs: [two], transform: 1, units: { step: 2 } }
  free: { transform: 1 }";
    let yaml = workflow("flat_fee: 1", nodes);
    let mut world = World::new(1);
    world.grant_ucr(Ucr::new(1), None).unwrap();
    for is_learned in [false, true] {
        if is_learned {
            teach_node(&mut world, "one", USUAL_UCR);
        }
        let told = foretold(&mut world, &yaml);
        let id = world.define(&yaml);
        let submission = world.submission(id);
        let refused = LedgerRefusal::Insufficient { required: told.hold_needed, available: Ucr::new(1) };
        assert_eq!(world.try_submit(&submission), Err(flow::Refusal::Ledger(refused)));
        let node = |name: &str| told.nodes.iter().find(|node| node.node == name).unwrap();
        let (one, two, three) = (node("one"), node("two"), node("three"));
        if is_learned {
            assert_eq!((one.source, one.low, one.high), (Source::Experience, one.hold, Ucr::new(USUAL_UCR)));
        } else {
            assert_eq!((one.source, one.low, one.high), (Source::Limits, Ucr::new(1_800), Ucr::new(ONE_HOLD_UCR)));
        }
        assert!(two.low < two.expected && two.expected < two.high, "{two:?}");
        assert!(two.high.get() >= ONE_HOLD_UCR + 100 * 100, "the longest answer of `one` is in it");
        assert_eq!((three.source, three.low, three.high), (Source::Fixed, Ucr::new(2_000_000), Ucr::new(2_000_000)));
        assert_eq!((node("free").hold, node("free").high), (Ucr::ZERO, Ucr::ZERO));
    }
}

#[test]
fn a_forecast_counts_what_a_map_and_a_review_make_of_a_node() {
    let mut world = World::with_credits(1_000);
    let one = foretold(&mut world, &workflow("flat_fee: 0", "  one: { agent: a, prompt: p }"));
    let told = |world: &mut World, more: &str| {
        let told = foretold(world, &workflow("flat_fee: 0", &format!("  one: {{ agent: a, prompt: p, {more} }}")));
        (told.nodes[0].low.get(), told.nodes[0].high.get(), told.hold_needed.get())
    };
    let (low, high, hold) = (one.nodes[0].low.get(), one.nodes[0].high.get(), one.hold_needed.get());
    assert_eq!(told(&mut world, "map: { over: '[1, 2, 3]' }"), (3 * low, 3 * high, 0), "the input tells the items");
    assert_eq!(told(&mut world, "repeat: { until: output, max: 4 }"), (low, 4 * high, hold));
    let reviewed = told(&mut world, "review: { agent: a, accept: verdict, max: 2 }");
    assert!(reviewed.0 > 2 * low && reviewed.1 > 4 * high, "drafts, and reviews that read them: {reviewed:?}");
    assert_eq!(reviewed.2, hold, "a draft comes first");
    let most = told(&mut world, "map: { over: range(100) }, budget: { credits: 1 }").1;
    assert_eq!(most, 1_000_000.min(100 * high), "never more than its budget");

    let listed = workflow(
        "flat_fee: 0",
        "  list: { agent: a, prompt: p, output: { schema: { type: object, properties: { all: { type: array, minItems: 2, maxItems: 9 } } } } }
  each: { needs: [list], transform: 1, units: { step: 1 }, map: { over: nodes.list.output.all } }",
    );
    let each = foretold(&mut world, &listed).nodes[1].clone();
    assert_eq!((each.low, each.high), (Ucr::from_credits(2), Ucr::from_credits(9)), "the schema bounds the list");
}
