//! Scenarios: nodes that stand in for others that failed.

use serde_json::{Value, json};

use super::{ONE_HOLD_UCR, open_holds, ops, workflow};
use crate::flow::testbed::World;
use crate::flow::{ForecastRequest, Settlement, forecast};
use crate::id::{MissionId, TaskId};
use crate::limits::POISON_LOSSES;
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::record::OpKind;
use crate::state::{RunState, TaskState, WaitCause};
use crate::workflow::{Syntax, parse};

/// One that may fail, one that stands in for it, one that needs it.
const PAIR: &str = "  ask:   { agent: a, prompt: p, retry: { max_attempts: 1 }, on_error: { fallback: spare } }
  spare: { agent: a, prompt: p, retry: { max_attempts: 1 } }
  last:  { needs: [ask], transform: 1 }";

fn fail(world: &mut World, mission: MissionId, node: &str) -> Settlement {
    let lease = world.claim(mission, node);
    let error = StepError::new(ErrorClass::Permanent, "broke", format!("{node} broke"));
    let settled = world.settle(&lease, &lease.settle(Outcome::Failed { error, calls: vec![] })).unwrap();
    if let Some(run) = settled.ending {
        world.end_run(run);
    }
    world.verify();
    settled
}

fn succeed(world: &mut World, mission: MissionId, node: &str, output: Value) -> Settlement {
    let lease = world.claim(mission, node);
    let settled = world.settle(&lease, &lease.settle(Outcome::Succeeded { output, calls: vec![] })).unwrap();
    world.verify();
    settled
}

fn states(world: &World, mission: MissionId) -> Vec<(&str, &'static str)> {
    let tasks = world.tables.tasks_of(world.run(mission).id);
    let own = tasks.into_iter().filter(|task| task.layer == 0);
    own.map(|task| (task.node.as_str(), task.state.as_str())).collect()
}

fn output(world: &World, mission: MissionId, node: &str) -> Option<Value> {
    world.tables.output_of(world.task(mission, node))
}

fn about(node: &str) -> Value {
    json!({"error": {"class": "permanent", "code": "broke", "message": format!("{node} broke")}})
}

#[test]
fn a_failed_node_is_stood_in_for_and_hands_on_what_its_stand_in_does() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", PAIR));
    assert_eq!((world.state(mission, "spare"), open_holds(&world)), (TaskState::Pending, 2), "the fee's and one");
    let settled = fail(&mut world, mission, "ask");
    let (ask, spare) = (world.task(mission, "ask"), world.task(mission, "spare"));
    assert_eq!((settled.state, settled.ending, &settled.ready), (TaskState::Failed, None, &vec![spare.id]));
    assert_eq!((ask.stand_in_id, ask.output.clone()), (Some(spare.id), None), "nothing is stored twice");
    assert_eq!((world.run(mission).state, world.state(mission, "last")), (RunState::Running, TaskState::Pending));
    assert_eq!(output(&world, mission, "ask"), Some(about("ask")), "what the stand-in sees");
    let told = i64::try_from(about("ask").to_string().len()).unwrap();
    assert_eq!(world.held(mission, "ask"), None, "a failure costs nothing");
    let held = world.held(mission, "spare");
    assert!(
        held > Some(ONE_HOLD_UCR) && held <= Some(ONE_HOLD_UCR + told * 100),
        "{held:?}: it may read of the failure"
    );

    let settled = succeed(&mut world, mission, "spare", json!("spare"));
    assert_eq!(settled.ready, [world.task(mission, "last").id]);
    assert_eq!(output(&world, mission, "ask"), Some(json!("spare")));
    world.do_node(mission, "last", None);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000), "the fee alone");
    assert_eq!((world.mission(mission).tasks_done, world.mission(mission).tasks_total), (3, 3));
    assert_eq!((world.run(mission).error.clone(), open_holds(&world)), (None, 0));
    let failed = world.tables.events.values().find(|event| event.kind == "task.failed").unwrap();
    assert_eq!((&failed.data["run_goes_on"], &failed.data["stand_in"]), (&json!(true), &json!("spare")));
    world.verify();
}

#[test]
fn a_stand_in_that_is_not_needed_is_skipped_at_once_and_costs_nothing() {
    let nodes = format!("{PAIR}\n  slow: {{ transform: 1 }}").replace("spare: {", "spare: { needs: [slow],");
    for sight in [0, 100] {
        let mut world = World::with_credits(100);
        world.sight = sight;
        let mission = world.submit(&workflow("", &nodes));
        succeed(&mut world, mission, "ask", json!(1));
        world.sweep();
        world.verify();
        let spare = world.task(mission, "spare");
        assert_eq!((spare.state, world.state(mission, "slow")), (TaskState::Skipped, TaskState::Ready), "{sight}");
        let reason = "skipped: it stands in for `ask`, which did not fail";
        assert_eq!((spare.status_reason.as_deref(), spare.holds), (Some(reason), 0));
        assert_eq!(output(&world, mission, "ask"), Some(json!(1)));
        world.do_node(mission, "last", None);
        world.do_node(mission, "slow", None);
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        world.verify();
    }
}

#[test]
fn a_node_that_is_skipped_needs_no_stand_in() {
    let skipped = PAIR.replace("ask:   {", "ask: { when: 'false',");
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", &skipped));
    assert_eq!(states(&world, mission), [("ask", "skipped"), ("spare", "skipped"), ("last", "ready")]);
    assert_eq!((world.outbox.len(), world.mission(mission).tasks_done, open_holds(&world)), (1, 2, 0));
    world.verify();
}

#[test]
fn a_stand_in_that_fails_fails_the_run_with_its_own_error() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", PAIR));
    fail(&mut world, mission, "ask");
    fail(&mut world, mission, "spare");
    assert_eq!(states(&world, mission), [("ask", "failed"), ("spare", "failed"), ("last", "skipped")]);
    let run = world.run(mission);
    assert_eq!((run.state, run.error.clone().unwrap()["node"].clone()), (RunState::Failed, json!("spare")));
    assert_eq!((world.spent(mission), open_holds(&world), ops(&world, OpKind::Settle)), (0, 0, 0));
    world.verify();
}

#[test]
fn what_is_said_of_the_stand_in_holds_for_both() {
    for (word, handed_on) in [("skip", json!(null)), ("continue", about("spare"))] {
        let nodes = PAIR.replace("spare: {", &format!("spare: {{ on_error: {word},"));
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", &nodes));
        fail(&mut world, mission, "ask");
        fail(&mut world, mission, "spare");
        assert_eq!(output(&world, mission, "ask"), Some(handed_on), "{word}");
        world.do_node(mission, "last", None);
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        world.verify();
    }
}

#[test]
fn one_stands_in_for_another_in_a_line() {
    let nodes = "  a: { transform: 1, on_error: { fallback: b }, retry: { max_attempts: 1 } }
  b: { transform: 1, on_error: { fallback: c }, retry: { max_attempts: 1 } }
  c: { transform: 1, on_error: { fallback: d }, retry: { max_attempts: 1 } }
  d: { transform: 1 }
  e: { needs: [a], when: \"nodes.a.output == 'c'\", transform: 1 }";
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", nodes));
    fail(&mut world, mission, "a");
    fail(&mut world, mission, "b");
    let c = world.task(mission, "c").id;
    let stand_in = |world: &World, node| world.task(mission, node).stand_in_id;
    assert_eq!((stand_in(&world, "a"), stand_in(&world, "b")), (Some(c), Some(c)));
    assert_eq!(output(&world, mission, "a"), Some(about("a")), "each failure is its own while nobody is through");
    succeed(&mut world, mission, "c", json!("c"));
    let expected = [("a", "failed"), ("b", "failed"), ("c", "succeeded"), ("d", "skipped"), ("e", "ready")];
    assert_eq!(states(&world, mission), expected, "the condition reads through the line");
    assert_eq!((output(&world, mission, "a"), output(&world, mission, "b")), (Some(json!("c")), Some(json!("c"))));
    world.verify();

    let mission = world.submit(&workflow("", nodes));
    succeed(&mut world, mission, "a", json!("other"));
    assert_eq!(world.run(mission).state, RunState::Succeeded, "the whole line is dismissed in the same breath");
    world.verify();
}

#[test]
fn whatever_ends_a_node_for_good_calls_its_stand_in() {
    let one = |node: &str| {
        format!(
            "  first: {{ transform: 1 }}\n  ask: {{ {node}, on_error: {{ fallback: spare }} }}\n  spare: {{ transform: 1 }}"
        )
    };
    let called = |world: &World, mission, code: &str| {
        let ask = world.task(mission, "ask");
        assert_eq!((ask.state, ask.error.clone().unwrap().code.as_str()), (TaskState::Failed, code));
        assert_eq!(
            (world.run(mission).state, world.state(mission, "spare")),
            (RunState::Running, TaskState::Ready),
            "{code}"
        );
        world.verify();
    };
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", &one("agent: a, prompt: p")));
    world.claim(mission, "first");
    for _ in 0..POISON_LOSSES {
        world.claim(mission, "ask");
        world.pass_ms(crate::limits::LEASE_MS);
        world.recover_lost();
    }
    called(&world, mission, "poison_pill");

    let mission = world.submit(&workflow("", &one("approval: { show: s, expires: 1h }")));
    world.claim(mission, "first");
    let task = world.task(mission, "ask").id;
    world.decide_approval(task, false, None).unwrap();
    called(&world, mission, "approval_rejected");

    let mission = world.submit(&workflow("", &one("sleep: 1h, deadline: 1m")));
    world.claim(mission, "first");
    world.pass_ms(61_000);
    world.sweep();
    called(&world, mission, "deadline_exceeded");

    let mission = world.submit(&workflow("", &one("needs: [first], when: nodes.first.output.x, transform: 1")));
    world.do_node(mission, "first", None);
    called(&world, mission, "condition_failed");

    let mission = world.submit(&workflow("", &one("transform: 1, map: { over: inputs }")));
    world.claim(mission, "first");
    world.spread();
    world.sweep();
    called(&world, mission, "map_failed");
}

#[test]
fn a_stand_in_may_be_many_tasks() {
    let nodes = "  ask: { transform: 1, retry: { max_attempts: 1 }, on_error: { fallback: each } }
  each: { transform: 1, map: { over: '[1, 2]' } }
  last: { needs: [ask], when: 'nodes.ask.output|length == 2', transform: 1 }";
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", nodes));
    fail(&mut world, mission, "ask");
    world.spread();
    let items: Vec<_> = world.tables.tasks.values().filter(|task| task.layer > 0).map(|task| task.id).collect();
    for item in items {
        let lease = world.claim_for(world.worker, item).unwrap();
        world.succeed(&lease, vec![]);
    }
    for _ in 0..3 {
        world.sweep();
        world.verify();
    }
    assert_eq!(output(&world, mission, "ask"), Some(json!(["done", "done"])));
    assert_eq!(world.state(mission, "last"), TaskState::Ready, "the condition waits for the list that it reads");
}

#[test]
fn a_failed_family_is_stood_in_for_once_nothing_of_it_runs() {
    let nodes = "  each: { transform: 1, retry: { max_attempts: 1 }, map: { over: '[1, 2, 3]', max_parallel: 2 }, on_error: { fallback: spare } }
  spare: { transform: 1 }
  last: { needs: [each], transform: 1 }";
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", nodes));
    world.spread();
    let items = world.tables.tasks.values().filter(|task| task.layer > 0 && task.state == TaskState::Ready);
    let items: Vec<_> = items.map(|task| task.id).collect();
    let leases: Vec<_> = items.into_iter().map(|item| world.claim_for(world.worker, item).unwrap()).collect();
    world.fail(&leases[0], ErrorClass::Permanent, vec![]);
    world.sweep();
    world.verify();
    assert_eq!((world.state(mission, "each"), world.state(mission, "spare")), (TaskState::Waiting, TaskState::Pending));
    world.succeed(&leases[1], vec![]);
    world.sweep();
    assert_eq!(states(&world, mission), [("each", "failed"), ("spare", "ready"), ("last", "pending")]);
    succeed(&mut world, mission, "spare", json!([1]));
    assert_eq!((output(&world, mission, "each"), world.state(mission, "last")), (Some(json!([1])), TaskState::Ready));
}

#[test]
fn a_cancelled_run_calls_nobody() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", PAIR));
    let lease = world.claim(mission, "ask");
    let run = world.run(mission).id;
    world.cancel(mission).unwrap();
    world.end_run(run);
    world.fail(&lease, ErrorClass::Cancelled, vec![]);
    assert_eq!(states(&world, mission), [("ask", "cancelled"), ("spare", "skipped"), ("last", "skipped")]);
    world.verify();
}

#[test]
fn a_stand_in_waits_while_its_run_is_paused_and_for_what_else_it_needs() {
    let nodes = format!("{PAIR}\n  slow: {{ transform: 1 }}").replace("spare: {", "spare: { needs: [slow],");
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", &nodes));
    fail(&mut world, mission, "ask");
    assert_eq!(world.state(mission, "spare"), TaskState::Pending, "it needs another one as well");
    let slow = world.claim(mission, "slow");
    world.pause(mission).unwrap();
    world.succeed(&slow, vec![]);
    assert_eq!(world.task(mission, "spare").wait, Some(WaitCause::Paused));
    world.verify();
    world.resume(mission).unwrap();
    world.sweep();
    assert_eq!(world.state(mission, "spare"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_retry_tries_the_failed_node_and_its_stand_in_anew() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", PAIR));
    fail(&mut world, mission, "ask");
    fail(&mut world, mission, "spare");
    world.retry(mission).unwrap();
    world.verify();
    assert_eq!(states(&world, mission), [("ask", "ready"), ("spare", "pending"), ("last", "pending")]);
    assert_eq!(world.task(mission, "ask").stand_in_id, None);
    succeed(&mut world, mission, "ask", Value::Null);
    assert_eq!(
        (world.state(mission, "spare"), output(&world, mission, "ask")),
        (TaskState::Skipped, Some(Value::Null))
    );
    world.do_node(mission, "last", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

/// One that may fail, and a map that stands in for it, one item after the other.
const MANY: &str = "  ask:  { transform: 1, retry: { max_attempts: 1 }, on_error: { fallback: each } }
  each: { agent: a, prompt: p, retry: { max_attempts: 1 }, map: { over: '[1, 2]', max_parallel: 1 } }
  last: { needs: [ask], when: 'nodes.ask.output|length == 2', transform: 1 }";

/// The tasks that a node's task was made into, in their order.
fn items(world: &World, mission: MissionId, node: &str) -> Vec<TaskId> {
    let above = world.task(mission, node).id;
    let mut items: Vec<_> = world.tables.tasks.values().filter(|task| task.parent_id == Some(above)).collect();
    items.sort_by_key(|task| task.item);
    items.iter().map(|task| task.id).collect()
}

fn end_item(world: &mut World, item: TaskId, succeeds: bool) {
    let lease = world.claim_for(world.worker, item).unwrap();
    if succeeds {
        let call = world.call(&lease, 10, 10);
        world.succeed(&lease, vec![call]);
    } else {
        world.fail(&lease, ErrorClass::Permanent, vec![]);
    }
    for _ in 0..3 {
        world.sweep();
        world.verify();
    }
}

#[test]
fn a_retry_goes_on_with_the_tasks_of_a_stand_in_that_had_begun() {
    for by_user in [false, true] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", MANY));
        fail(&mut world, mission, "ask");
        world.spread();
        let (first, second) = (items(&world, mission, "each")[0], items(&world, mission, "each")[1]);
        end_item(&mut world, first, true);
        let paid = world.spent(mission);
        if by_user {
            world.cancel(mission).unwrap();
            world.verify();
        } else {
            end_item(&mut world, second, false);
        }
        assert!(world.run(mission).state.is_final());
        let plan = world.retry(mission).unwrap();
        world.verify();
        let told: Vec<_> = plan.nodes.iter().map(|node| (node.node.as_str(), node.begins)).collect();
        assert_eq!(told, [("each", true), ("last", false), ("each", true)], "the failure is not tried anew");
        assert_eq!(states(&world, mission), [("ask", "failed"), ("each", "waiting"), ("last", "pending")]);
        let (ask, each) = (world.task(mission, "ask"), world.task(mission, "each"));
        assert_eq!((ask.stand_in_id, each.remaining_needs), (Some(each.id), 0));
        assert_eq!(world.tables.tasks[&first].state, TaskState::Succeeded, "what was paid for is kept");
        end_item(&mut world, second, true);
        assert_eq!(output(&world, mission, "ask"), Some(json!(["done", "done"])));
        world.do_node(mission, "last", None);
        assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 2 * paid));
        world.verify();
    }
}

#[test]
fn a_retry_tries_the_failed_node_anew_while_its_stand_in_made_no_task() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", MANY));
    fail(&mut world, mission, "ask");
    world.cancel(mission).unwrap();
    world.verify();
    assert!(world.task(mission, "each").fan.is_some(), "it had begun, and nothing of it");
    world.retry(mission).unwrap();
    world.verify();
    assert_eq!(states(&world, mission), [("ask", "ready"), ("each", "pending"), ("last", "pending")]);
    fail(&mut world, mission, "ask");
    world.spread();
    assert_eq!(items(&world, mission, "each").len(), 2);
    world.verify();
}

#[test]
fn a_retry_in_a_line_of_stand_ins_begins_with_the_last_that_made_tasks() {
    let nodes = "  ask:   { transform: 1, retry: { max_attempts: 1 }, on_error: { fallback: each } }
  each:  { agent: a, prompt: p, retry: { max_attempts: 1 }, map: { over: '[1]' }, on_error: { fallback: spare } }
  spare: { transform: 1, retry: { max_attempts: 1 } }
  last:  { needs: [ask], transform: 1 }";
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", nodes));
    fail(&mut world, mission, "ask");
    world.spread();
    let item = items(&world, mission, "each")[0];
    end_item(&mut world, item, false);
    let stand_in = |world: &World, node| world.task(mission, node).stand_in_id;
    assert_eq!(stand_in(&world, "ask"), Some(world.task(mission, "spare").id));
    fail(&mut world, mission, "spare");
    world.retry(mission).unwrap();
    world.verify();
    let expected = [("ask", "failed"), ("each", "waiting"), ("spare", "pending"), ("last", "pending")];
    assert_eq!(states(&world, mission), expected);
    assert_eq!((stand_in(&world, "ask"), stand_in(&world, "each")), (Some(world.task(mission, "each").id), None));
    end_item(&mut world, item, false);
    assert_eq!(stand_in(&world, "ask"), Some(world.task(mission, "spare").id));
    succeed(&mut world, mission, "spare", json!("spare"));
    assert_eq!(output(&world, mission, "ask"), Some(json!("spare")));
    world.do_node(mission, "last", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn a_retry_leaves_a_failure_alone_that_was_stood_in_for() {
    let nodes = format!("{PAIR}\n  bad: {{ needs: [last], transform: 1, retry: {{ max_attempts: 1 }} }}");
    for from in ["ask", "spare", "last"] {
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", &nodes));
        fail(&mut world, mission, "ask");
        succeed(&mut world, mission, "spare", json!("spare"));
        world.do_node(mission, "last", None);
        fail(&mut world, mission, "bad");
        assert_eq!(world.run(mission).state, RunState::Failed);
        if from == "last" {
            world.retry(mission).unwrap();
            world.verify();
            let expected = [("ask", "failed"), ("spare", "succeeded"), ("last", "succeeded"), ("bad", "ready")];
            assert_eq!(states(&world, mission), expected);
            fail(&mut world, mission, "bad");
        }
        world.fork(mission, from).unwrap();
        world.verify();
        let expected = match from {
            "ask" => ["ready", "pending", "pending", "pending"],
            "spare" => ["failed", "ready", "pending", "pending"],
            _ => ["failed", "succeeded", "ready", "pending"],
        };
        assert_eq!(states(&world, mission).iter().map(|(_, state)| *state).collect::<Vec<_>>(), expected, "{from}");
        let kept = if from == "last" { Some(json!("spare")) } else { Some(about("ask")) };
        if from != "ask" {
            let (ask, spare) = (world.task(mission, "ask"), world.task(mission, "spare"));
            assert_eq!((ask.stand_in_id, ask.output.clone()), (Some(spare.id), None), "the new run's own");
            assert_eq!(output(&world, mission, "ask"), kept);
        }
    }
}

#[test]
fn a_retry_leaves_the_items_of_a_family_alone_that_the_run_went_on_without() {
    for on_error in ["continue", "{ fallback: spare }"] {
        let nodes = format!(
            "  each: {{ transform: 1, retry: {{ max_attempts: 1 }}, map: {{ over: '[1]' }}, on_error: {on_error} }}
  spare: {{ transform: 1 }}
  bad: {{ needs: [each, spare], transform: 1, retry: {{ max_attempts: 1 }} }}"
        );
        let mut world = World::with_credits(100);
        let mission = world.submit(&workflow("", &nodes));
        world.spread();
        let item = world.tables.tasks.values().find(|task| task.layer > 0).unwrap().id;
        let lease = world.claim_for(world.worker, item).unwrap();
        world.fail(&lease, ErrorClass::Permanent, vec![]);
        world.sweep();
        succeed(&mut world, mission, "spare", json!(1));
        fail(&mut world, mission, "bad");
        world.retry(mission).unwrap();
        world.verify();
        assert_eq!(
            states(&world, mission),
            [("each", "failed"), ("spare", "succeeded"), ("bad", "ready")],
            "{on_error}"
        );
        assert_eq!(world.tables.tasks[&item].state, TaskState::Failed, "nobody would wait for it");
    }
}

#[test]
fn a_stand_in_that_was_not_needed_is_skipped_again_in_a_fork() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", PAIR));
    succeed(&mut world, mission, "ask", json!("ask"));
    world.do_node(mission, "last", None);
    world.fork(mission, "spare").unwrap();
    world.verify();
    assert_eq!(states(&world, mission), [("ask", "succeeded"), ("spare", "skipped"), ("last", "ready")]);
}

#[test]
fn an_estimate_counts_a_stand_in_in_the_worst_case_alone() {
    let world = World::with_credits(100);
    let told = |text: &str| {
        let definition = parse(&workflow("flat_fee: 0", text), Syntax::Yaml).unwrap();
        let prices = world.facts.prices.iter().next().unwrap();
        let request = ForecastRequest {
            definition: &definition,
            prices: prices.1,
            price_book_id: *prices.0,
            tenant_id: world.tenant,
            input: &json!({}),
        };
        forecast(&world.facts.learned, &request).unwrap()
    };
    let with = told(&PAIR.replace("transform: 1", "agent: a, prompt: p"));
    let without =
        told(&PAIR.replace("transform: 1", "agent: a, prompt: p").replace(", on_error: { fallback: spare }", ""));
    let node =
        |told: &crate::flow::Forecast, key: &str| told.nodes.iter().find(|node| node.node == key).unwrap().clone();
    let spare = node(&with, "spare");
    assert!(spare.low.is_zero() && spare.expected.is_zero() && spare.high.is_positive() && !spare.is_first);
    assert_eq!((spare.high, node(&with, "ask")), (node(&without, "spare").high, node(&without, "ask")));
    assert_eq!(node(&with, "last").high, node(&without, "last").high, "one of both answers");
    assert!(with.hold_needed < without.hold_needed);
}
