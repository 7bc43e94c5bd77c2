//! Missions that go on after they were over: retries of the same run, forks into a new one; what is kept, what is paid.

use serde_json::json;

use super::{ONE, ONE_HOLD_UCR, open_holds, ops, workflow};
use crate::credits::Ucr;
use crate::flow::testbed::{World, answer};
use crate::flow::{Order, Ordered, Plan, Refusal};
use crate::id::MissionId;
use crate::ledger::{LedgerRefusal, Terms};
use crate::limits::LEASE_MS;
use crate::outcome::{CallPermit, ErrorClass, Outcome};
use crate::record::{CallState, ChargeFailed, OpKind};
use crate::state::{RunState, TaskState, WaitCause};

const CHAIN: &str = "  first: { agent: a, prompt: p }
  second: { needs: [first], agent: a, prompt: p }
  third: { needs: [second], transform: 1 }
  aside: { transform: 1 }";

fn names(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.node.as_str()).collect()
}

/// A chain whose second node failed for good.
fn failed_chain(world: &mut World) -> MissionId {
    let mission = world.submit(&workflow("flat_fee: 1", CHAIN));
    world.do_node(mission, "aside", None);
    world.do_node(mission, "first", Some((10, 10)));
    let lease = world.claim(mission, "second");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    assert_eq!(world.run(mission).state, RunState::Failed);
    mission
}

#[test]
fn a_retry_goes_on_in_the_same_run_and_keeps_what_was_done_and_paid() {
    let mut world = World::with_credits(100);
    let mission = failed_chain(&mut world);
    let (run, spent) = (world.run(mission).id, world.spent(mission));
    assert_eq!((spent, world.purse().1), (3_000, 0));
    let before = world.task(mission, "second").clone();
    let plan = world.retry(mission).unwrap();
    assert_eq!((names(&plan), plan.kept, plan.fee), (vec!["second", "third"], 2, Ucr::from_credits(1)));
    assert_eq!((plan.nodes[0].begins, plan.nodes[1].begins), (true, false));
    assert_eq!(plan.hold_needed, Ucr::new(1_000_000 + world.held(mission, "second").unwrap()));
    assert_eq!(world.purse().1, plan.hold_needed.get(), "what was shown is what is held");
    assert_eq!((world.run(mission).id, world.run(mission).state), (run, RunState::Running));
    let again = world.task(mission, "second");
    assert_eq!((again.attempt, again.fence, again.failures), (before.attempt, before.fence, 0));
    world.verify();

    world.do_node(mission, "second", Some((10, 20)));
    world.do_node(mission, "third", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    assert_eq!(world.spent(mission), 3_000 + 5_000 + 1_000_000, "each step once, the fee once");
    assert_eq!(world.task(mission, "second").attempt, before.attempt + 1);
    let kinds = world.events(mission);
    assert!(kinds.contains(&"mission.retried") && kinds.ends_with(&["mission.succeeded"]));
    assert_eq!(
        world.retry(mission),
        Err(Refusal::IllegalMove { what: "mission", state: "succeeded", wish: "retried" })
    );
    world.verify();
}

#[test]
fn a_retry_whose_first_holds_do_not_fit_changes_nothing() {
    let mut world = World::new(7);
    world.grant_ucr(Ucr::new(1_000_000 + ONE_HOLD_UCR), None).unwrap();
    let mission = world.submit(&workflow("flat_fee: 1", ONE));
    let lease = world.claim(mission, "one");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    world.adjust("lost", -1).unwrap();
    let before = world.tables.clone();
    let refused = world.retry(mission);
    let (required, available) = (Ucr::new(1_000_000 + ONE_HOLD_UCR), Ucr::new(999_999 + ONE_HOLD_UCR));
    assert_eq!(refused, Err(LedgerRefusal::Insufficient { required, available }.into()));
    assert!(world.tables == before);
    world.grant_ucr(Ucr::new(1), None).unwrap();
    let plan = world.retry(mission).unwrap();
    assert_eq!((plan.hold_needed, world.purse()), (required, (0, required.get(), 0)));
    world.verify();
}

#[test]
fn a_retry_beyond_the_budget_is_refused_until_the_budget_is_raised() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1\nbudget: { credits: 2 }", CHAIN));
    world.do_node(mission, "aside", None);
    world.do_node(mission, "first", Some((9_000, 10)));
    let lease = world.claim(mission, "second");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    world.change_budget(mission, Some(Ucr::new(1_500_000))).unwrap();
    let Err(Refusal::OverBudget { of: "mission", room, required, .. }) = world.retry(mission) else {
        panic!("it fits")
    };
    assert!(room < required && required > Ucr::from_credits(1));
    world.set_budget(mission, 2);
    assert_eq!(world.retry(mission).unwrap().hold_needed, required);
    world.verify();
}

#[test]
fn journaled_calls_are_replayed_by_a_retry_and_paid_once_and_rejected_ones_are_bought_again() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let (good, bad) = (world.call(&lease, 10, 10), world.call(&lease, 10, 10));
    world.fail(&lease, ErrorClass::Permanent, vec![good.clone(), bad.clone()]);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Failed, 0));
    assert_eq!(world.tables.calls[&bad.id].state, CallState::Rejected);

    let plan = world.retry(mission).unwrap();
    assert_eq!(plan.hold_needed.get(), ONE_HOLD_UCR + 3_000, "with room for what is replayed");
    world.verify();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Replay(replayed)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought twice") };
    let Ok(CallPermit::Send(fresh)) = world.ask(&lease, 2, "body 2", (10, 10)) else { panic!("a rejected answer") };
    world.succeed(&lease, vec![replayed, answer(fresh, 10, 20)]);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 3_000 + 5_000));
    assert_eq!((world.purse().1, ops(&world, OpKind::Settle)), (0, 1));
    world.verify();
}

#[test]
fn what_a_user_paid_when_he_cancelled_is_not_paid_again() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("flat_fee: 1", CHAIN));
    let lease = world.claim(mission, "first");
    let done = world.call(&lease, 10, 10);
    world.cancel(mission).unwrap();
    let before = world.tables.calls.len();
    world.fail(&lease, ErrorClass::Cancelled, vec![done]);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Cancelled, 3_000));

    let plan = world.retry(mission).unwrap();
    assert_eq!((plan.nodes.len(), plan.kept), (4, 0));
    let lease = world.claim(mission, "first");
    let Ok(CallPermit::Replay(replayed)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought twice") };
    let Ok(CallPermit::Send(more)) = world.ask(&lease, 2, "more", (10, 10)) else { panic!() };
    world.succeed(&lease, vec![replayed, answer(more, 10, 10)]);
    let task = world.task(mission, "first");
    assert_eq!((task.cost_ucr.get(), world.spent(mission)), (6_000, 6_000), "each call once");
    assert_eq!(task.usage.unwrap().output_tokens, 20);
    assert_eq!(world.tables.calls.len(), before + 1);
    world.verify();
    for node in ["second", "third", "aside"] {
        world.do_node(mission, node, (node == "second").then_some((10, 10)));
    }
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 9_000 + 1_000_000));
    world.verify();
}

#[test]
fn a_failure_that_was_charged_by_policy_is_not_charged_again() {
    let mut world = World::with_credits(100);
    world.set_terms(&Terms { charge_failed: Some(ChargeFailed::Always), ..Terms::default() });
    let mission = world.submit(&workflow("", ONE));
    let lease = world.claim(mission, "one");
    let (good, bad) = (world.call(&lease, 10, 10), world.call(&lease, 10, 10));
    world.fail(&lease, ErrorClass::Permanent, vec![good, bad]);
    assert_eq!(world.spent(mission), 6_000);
    world.retry(mission).unwrap();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Replay(replayed)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("bought twice") };
    world.fail(&lease, ErrorClass::Permanent, vec![replayed.clone()]);
    assert_eq!(world.spent(mission), 6_000, "nothing new was answered");
    world.retry(mission).unwrap();
    let lease = world.claim(mission, "one");
    let Ok(CallPermit::Send(fresh)) = world.ask(&lease, 1, "body 1", (10, 10)) else { panic!("rejected before") };
    world.succeed(&lease, vec![answer(fresh, 10, 10)]);
    assert_eq!((world.spent(mission), world.task(mission, "one").cost_ucr.get()), (9_000, 9_000));
    assert_eq!(world.run(mission).retries, 2);
    world.verify();
}

#[test]
fn an_expired_mission_gets_its_time_again_and_a_sleep_begins_anew() {
    let mut world = World::with_credits(100);
    let mission =
        world.submit(&workflow("deadline: 10s", "  nap: { sleep: 1h }\n  then: { needs: [nap], transform: 1 }"));
    world.pass_ms(10_000);
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Expired);
    world.pass_ms(5_000);
    world.retry(mission).unwrap();
    assert_eq!(world.run(mission).deadline_at, Some(world.now.plus_ms(10_000)));
    assert_eq!(world.task(mission, "nap").wait, Some(WaitCause::Timer));
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Queued);
    world.verify();
}

#[test]
fn a_late_worker_of_the_time_before_a_retry_is_refused() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", "  one: { agent: a, prompt: p }\n  two: { agent: a, prompt: p }"));
    let (late, bad) = (world.claim(mission, "one"), world.claim(mission, "two"));
    let call = world.call(&late, 10, 10);
    world.fail(&bad, ErrorClass::Permanent, vec![]);
    world.pass_ms(LEASE_MS);
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Failed);
    world.retry(mission).unwrap();
    let settle = late.settle(Outcome::Succeeded { output: json!(1), calls: vec![call] });
    assert!(matches!(world.settle(&late, &settle), Err(Refusal::StaleFence { .. })));
    let new = world.claim(mission, "one");
    assert!(new.guard.fence > late.guard.fence);
    world.verify();
}

#[test]
fn a_node_whose_failure_the_run_could_do_without_stays_as_it_is() {
    let mut world = World::with_credits(100);
    let nodes = "  loose: { agent: a, prompt: p, on_error: continue }
  shut: { when: 'inputs.x|default(false)', agent: a, prompt: p }
  then: { needs: [loose, shut], agent: a, prompt: p }";
    let mission = world.submit(&workflow("", nodes));
    let lease = world.claim(mission, "loose");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    let lease = world.claim(mission, "then");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    let plan = world.retry(mission).unwrap();
    assert_eq!(names(&plan), ["then"]);
    assert_eq!((world.state(mission, "loose"), world.state(mission, "shut")), (TaskState::Failed, TaskState::Skipped));
    world.do_node(mission, "then", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    world.verify();
}

#[test]
fn the_same_order_again_changes_nothing_and_another_under_its_key_is_refused() {
    let mut world = World::with_credits(100);
    let mission = failed_chain(&mut world);
    let order = |hash: &str| Order { key: "k".to_owned(), hash: hash.to_owned() };
    assert!(matches!(world.retry_for(mission, Some(&order("retry"))), Ok(Ordered::Done(_))));
    let before = world.tables.clone();
    assert_eq!(world.retry_for(mission, Some(&order("retry"))), Ok(Ordered::Repeated));
    let reused = Err(LedgerRefusal::KeyReused("k".to_owned()).into());
    assert_eq!(world.retry_for(mission, Some(&order("other"))), reused);
    assert!(world.tables == before);
    let live = Err(Refusal::IllegalMove { what: "mission", state: "running", wish: "retried" });
    assert_eq!(world.retry_for(mission, None), live);
}

#[test]
fn a_fork_keeps_what_does_not_depend_on_its_node_and_runs_the_rest_anew() {
    let mut world = World::with_credits(100);
    let mission = failed_chain(&mut world);
    let old = world.run(mission).clone();
    let plan = world.fork(mission, "second").unwrap();
    assert_eq!((names(&plan), plan.kept), (vec!["second", "third"], 2));
    assert_eq!(world.purse().1, plan.hold_needed.get());
    let new = world.run(mission).clone();
    assert_eq!((new.number, new.state, old.number), (2, RunState::Queued, 1));
    let first = world.task(mission, "first");
    assert_eq!(
        (first.state, first.cost_ucr, first.output.clone()),
        (TaskState::Succeeded, Ucr::ZERO, Some(json!("done")))
    );
    assert_eq!(world.tables.runs[&old.id], old, "the old run stays as it was");
    world.verify();
    world.do_node(mission, "second", Some((10, 10)));
    world.do_node(mission, "third", None);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    assert_eq!(world.spent(mission), 3_000 + 3_000 + 1_000_000, "over both runs");
    world.verify();

    let plan = world.fork(mission, "first").unwrap();
    assert_eq!((plan.kept, world.run(mission).number), (1, 3), "a run that succeeded can be forked");
    assert_eq!(world.state(mission, "aside"), TaskState::Succeeded);
    world.verify();
}

#[test]
fn a_fork_with_another_input_decides_conditions_by_it() {
    let mut world = World::with_credits(100);
    let nodes = "  a: { transform: 1 }
  b: { needs: [a], when: 'inputs.go|default(false)', agent: a, prompt: p }
  c: { needs: [b], transform: 1 }";
    let mission = world.submit(&workflow("", nodes));
    world.do_node(mission, "a", None);
    world.do_node(mission, "c", None);
    assert_eq!(world.state(mission, "b"), TaskState::Skipped);
    let plan = world.fork_with(mission, "b", Some(json!({"go": true})), None).unwrap();
    assert_eq!((names(&plan), plan.hold_needed.get()), (vec!["b", "c"], world.held(mission, "b").unwrap()));
    assert_eq!(world.run(mission).input, Some(json!({"go": true})));
    world.do_node(mission, "b", None);
    world.do_node(mission, "c", None);
    let plan = world.fork(mission, "b").unwrap();
    assert_eq!(names(&plan), ["b", "c"], "the input stays with the forks that follow");
    world.verify();
}

#[test]
fn a_fork_into_another_version_keeps_nodes_by_name_whose_needs_are_kept() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow(
        "",
        "  a: { transform: 1 }\n  b: { needs: [a], transform: 1 }\n  c: { needs: [b], transform: 1 }",
    ));
    for node in ["a", "b", "c"] {
        world.do_node(mission, node, None);
    }
    let next = "  a: { transform: 1 }\n  x: { transform: 1 }\n  b: { needs: [a, x], transform: 1 }\n  c: { needs: [b], transform: 1 }";
    let version = world.define(&workflow("", next));
    let plan = world.fork_with(mission, "c", None, Some(version)).unwrap();
    assert_eq!((names(&plan), plan.kept), (vec!["x", "b", "c"], 1));
    world.verify();
    let unknown = world.fork_with(mission, "nowhere", None, None);
    assert!(matches!(unknown, Err(Refusal::IllegalMove { .. })), "it is under way");
    for node in ["x", "b", "c"] {
        world.do_node(mission, node, None);
    }
    assert_eq!(world.fork(mission, "nowhere"), Err(Refusal::NotFound("node nowhere".to_owned())));
    world.verify();
    assert_eq!(open_holds(&world), 0);
}

#[test]
fn a_map_that_failed_goes_on_with_the_items_that_did_not_succeed() {
    let mut world = World::with_credits(100);
    let nodes = "  list: { transform: [a, b, c] }
  each: { needs: [list], map: { over: nodes.list.output, max_parallel: 2 }, agent: a, prompt: p }
  then: { needs: [each], transform: 1 }";
    let mission = world.submit(&workflow("flat_fee: 1", nodes));
    let lease = world.claim(mission, "list");
    let settle = lease.settle(Outcome::Succeeded { output: json!(["a", "b", "c"]), calls: Vec::new() });
    world.settle(&lease, &settle).unwrap();
    world.sweep();
    let ready = |world: &World| -> Vec<_> {
        let tasks = world.tables.tasks_of(world.run(mission).id).into_iter();
        tasks.filter(|task| task.state == TaskState::Ready).map(|task| task.id).collect()
    };
    let worker = world.worker;
    let first = world.claim_for(worker, ready(&world)[0]).unwrap();
    let call = world.call(&first, 10, 10);
    world.succeed(&first, vec![call]);
    let second = world.claim_for(worker, ready(&world)[0]).unwrap();
    world.fail(&second, ErrorClass::Permanent, vec![]);
    for _ in 0..4 {
        world.sweep();
    }
    assert_eq!(world.run(mission).state, RunState::Failed);
    world.verify();
    let (done, spent) = (world.task(mission, "list").id, world.spent(mission));
    world.retry(mission).unwrap();
    world.verify();
    for _ in 0..12 {
        world.sweep();
        for task in ready(&world) {
            let lease = world.claim_for(worker, task).unwrap();
            let is_item = world.tables.tasks[&task].layer > 0;
            let calls = is_item.then(|| world.call(&lease, 10, 10)).into_iter().collect();
            world.succeed(&lease, calls);
        }
    }
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    assert_eq!((world.spent(mission) - spent, world.task(mission, "list").id), (2 * 3_000 + 1_000_000, done));
    assert_eq!(world.tables.tasks[&first.task].attempt, 1, "what succeeded is kept");
    world.verify();
    let plan = world.fork(mission, "then").unwrap();
    assert_eq!((names(&plan), plan.kept), (vec!["then"], 2));
    world.verify();
}

#[test]
fn a_retry_that_ends_at_once_is_refused_when_it_can_not_hold_its_fee_on_the_way() {
    let mut world = World::with_credits(1);
    let hopeless = world.submit(&workflow("flat_fee: 1", "  only: { when: inputs.nothing, transform: 1 }"));
    assert_eq!((world.run(hopeless).state, world.purse()), (RunState::Failed, (1_000_000, 0, 0)));
    world.submit(&workflow("flat_fee: 1", "  wait: { sleep: 1h }"));
    assert_eq!(world.purse(), (0, 1_000_000, 0));
    let refused = world.retry(hopeless).unwrap_err();
    let required = Ucr::from_credits(1);
    assert_eq!(refused, Refusal::Ledger(LedgerRefusal::Insufficient { required, available: Ucr::ZERO }));
    assert_eq!(world.run(hopeless).state, RunState::Failed);
    world.verify();
}
