//! Conditions: who runs, who is skipped, and what comes after those who are.

use serde_json::{Value, json};

use super::{ONE_HOLD_UCR, open_holds, workflow};
use crate::flow::testbed::World;
use crate::flow::{self, Refusal, SettleRequest};
use crate::id::MissionId;
use crate::outcome::Outcome;
use crate::record::OpKind;
use crate::state::{RunState, TaskState, WaitCause};

fn submit(world: &mut World, nodes: &str, input: Value) -> MissionId {
    let workflow = world.define(&workflow("flat_fee: 1", nodes));
    let mut submission = world.submission(workflow);
    submission.input = input;
    world.try_submit(&submission).unwrap()
}

fn hand_on(world: &mut World, mission: MissionId, node: &str, output: Value) -> flow::Settlement {
    let lease = world.claim(mission, node);
    let request: SettleRequest = lease.settle(Outcome::Succeeded { output, calls: vec![] });
    world.settle(&lease, &request).unwrap()
}

fn states(world: &World, mission: MissionId) -> Vec<(&str, TaskState)> {
    let tasks = world.tables.tasks_of(world.run(mission).id);
    tasks.into_iter().map(|task| (task.node.as_str(), task.state)).collect()
}

/// The approval of the documentation's example, as a condition over the input.
const FORK: &str = "  draft: { transform: 1 }
  long: { needs: [draft], when: nodes.draft.output|length > 3, agent: a, prompt: '{{ nodes.draft.output }}' }
  short: { needs: [draft], when: not nodes.draft.output|length > 3, transform: 1 }
  last: { needs: [long, short], transform: '{{ nodes.long.output }}' }";

#[test]
fn what_a_node_handed_on_decides_who_runs() {
    for (output, runs, skipped) in [(json!("lengthy"), "long", "short"), (json!("abc"), "short", "long")] {
        let mut world = World::with_credits(100);
        let mission = submit(&mut world, FORK, json!({}));
        hand_on(&mut world, mission, "draft", output);
        assert_eq!((world.state(mission, runs), world.state(mission, skipped)), (TaskState::Ready, TaskState::Skipped));
        assert_eq!(world.state(mission, "last"), TaskState::Pending, "one of its needs is under way");
        assert_eq!(world.held(mission, "long").is_some(), runs == "long", "who is skipped holds nothing");
        let task = world.task(mission, skipped);
        assert_eq!((&task.output, task.hold_id, task.attempt), (&Some(Value::Null), None, 0));
        assert_eq!(task.status_reason.as_deref(), Some("skipped: its condition does not hold"));
        world.verify();
        hand_on(&mut world, mission, runs, json!("done"));
        assert_eq!(world.state(mission, "last"), TaskState::Ready, "a skipped need is satisfied");
        hand_on(&mut world, mission, "last", json!(1));
        assert_eq!((world.run(mission).state, world.mission(mission).tasks_done), (RunState::Succeeded, 4));
        assert_eq!((open_holds(&world), world.spent(mission)), (0, 1_000_000), "the fee and nothing else");
        let skips = world.events(mission).into_iter().filter(|kind| *kind == "task.skipped").count();
        assert_eq!(skips, 1);
        world.verify();
    }
}

#[test]
fn the_input_decides_at_submit() {
    let nodes = "  ask: { when: inputs.go, agent: a, prompt: p }
  after: { needs: [ask], agent: a, prompt: p }
  other: { when: not inputs.go, transform: 1 }";
    let mut world = World::with_credits(2);
    let mission = submit(&mut world, nodes, json!({"go": true}));
    let expected = [("ask", TaskState::Ready), ("after", TaskState::Pending), ("other", TaskState::Skipped)];
    assert_eq!(states(&world, mission), expected);
    world.cancel(mission).unwrap();
    let mission = submit(&mut world, nodes, json!({"go": false}));
    let expected = [("ask", TaskState::Skipped), ("after", TaskState::Ready), ("other", TaskState::Ready)];
    assert_eq!(states(&world, mission), expected, "what needs only skipped nodes begins with the run");
    // three tokens more than usual, for the input; a need that was skipped brings nothing
    assert_eq!(world.held(mission, "after"), Some(ONE_HOLD_UCR + 3 * 100));
    world.verify();
}

#[test]
fn a_submit_needs_credits_for_those_who_begin_and_for_no_others() {
    let nodes = "  dear: { when: inputs.dear, agent: a, prompt: p }\n  next: { needs: [dear], agent: a, prompt: p }\n  free: { transform: 1 }";
    let refused = |input: Value, credits_ucr: i64| {
        let mut world = World::new(1);
        world.grant_ucr(crate::credits::Ucr::new(credits_ucr), None).unwrap();
        let workflow = world.define(&workflow("flat_fee: 0", nodes));
        let mut submission = world.submission(workflow);
        submission.input = input;
        let refusal = world.try_submit(&submission).err();
        world.verify();
        refusal.is_some_and(|refusal| matches!(refusal, Refusal::Ledger(_)))
    };
    let both = [json!({"dear": true}), json!({"dear": false})];
    for input in both {
        // the input is part of what a hold is sized by
        assert!(refused(input.clone(), ONE_HOLD_UCR - 100) && !refused(input, ONE_HOLD_UCR + 1_000));
    }
}

#[test]
fn a_run_whose_nodes_are_all_skipped_is_over_at_once() {
    let mut world = World::with_credits(100);
    let nodes = "  a: { when: inputs.go, transform: 1 }\n  b: { needs: [a], when: nodes.a.output, transform: 1 }";
    let mission = submit(&mut world, nodes, json!({"go": false}));
    assert_eq!(states(&world, mission), [("a", TaskState::Skipped), ("b", TaskState::Skipped)]);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Succeeded, 1_000_000));
    let kinds = ["mission.created", "task.skipped", "task.skipped", "mission.succeeded"];
    assert_eq!(world.events(mission), kinds);
    world.verify();
}

#[test]
fn a_condition_without_an_answer_fails_its_node_by_name() {
    let mut world = World::with_credits(100);
    let nodes = "  draft: { transform: 1 }\n  next: { needs: [draft], when: nodes.draft.output.title, transform: 1 }\n  rest: { needs: [next], transform: 1 }";
    let mission = submit(&mut world, nodes, json!({}));
    let settled = hand_on(&mut world, mission, "draft", json!({"name": "x"}));
    world.end_run(settled.ending.unwrap());
    let error = world.task(mission, "next").error.clone().unwrap();
    assert_eq!(error.code, "condition_failed");
    let advice = "the condition in `when` has no answer: line 1: `nodes.draft.output.title` is undefined; \
                  where it may be missing, write `nodes.draft.output.title|default(false)`";
    assert_eq!(error.message, advice);
    assert_eq!((world.run(mission).state, world.spent(mission)), (RunState::Failed, 0));
    assert_eq!(world.state(mission, "rest"), TaskState::Skipped);
    world.verify();

    let at_submit = submit(&mut world, "  a: { when: inputs.go, transform: 1 }\n  b: { transform: 1 }", json!({}));
    assert_eq!((world.run(at_submit).state, world.state(at_submit, "a")), (RunState::Failing, TaskState::Failed));
    world.sweep();
    assert_eq!(world.run(at_submit).state, RunState::Failed);
    world.verify();
}

/// A chain of nodes, each skipped because the one before was.
fn chain(length: usize) -> String {
    let link = |number: usize| {
        format!(
            "  n{number:03}: {{ needs: [n{:03}], when: nodes.n{:03}.output, transform: 1 }}\n",
            number - 1,
            number - 1
        )
    };
    "  n000: { transform: 1 }\n".to_owned() + &(1..length).map(link).collect::<String>()
}

#[test]
fn what_is_out_of_sight_is_decided_a_moment_later() {
    let mut world = World::with_credits(100);
    world.sight = 3;
    let mission = submit(&mut world, &chain(20), json!({}));
    hand_on(&mut world, mission, "n000", Value::Null);
    let put_off: Vec<_> =
        states(&world, mission).into_iter().filter(|(_, state)| *state == TaskState::Waiting).collect();
    assert_eq!(put_off, [("n004", TaskState::Waiting)]);
    let task = world.task(mission, "n004");
    assert_eq!((task.wait, task.due_at, task.hold_id), (Some(WaitCause::Condition), Some(world.now), None));
    world.verify();
    for _ in 0..5 {
        world.sweep();
        world.verify();
    }
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    assert_eq!(world.tables.ops.values().filter(|op| op.kind == OpKind::Settle).count(), 1, "the fee");
}

#[test]
fn a_long_chain_of_skips_fits_any_stack() {
    let work = || {
        let mut world = World::with_credits(100);
        let mission = submit(&mut world, &chain(1_000), json!({}));
        hand_on(&mut world, mission, "n000", Value::Null);
        assert_eq!(world.run(mission).state, RunState::Running, "257 at a time");
        for _ in 0..4 {
            world.sweep();
        }
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        let at_once =
            format!("  n000: {{ when: inputs.go, transform: 1 }}\n{}", chain(1_000).split_once('\n').unwrap().1);
        let mission = submit(&mut world, &at_once, json!({"go": false}));
        assert_eq!(world.run(mission).state, RunState::Succeeded);
        world.verify();
    };
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).unwrap().join().unwrap();
}

#[test]
fn a_cancel_ends_what_waits_to_be_decided() {
    let mut world = World::with_credits(100);
    world.sight = 0;
    let mission = submit(&mut world, &chain(4), json!({}));
    hand_on(&mut world, mission, "n000", Value::Null);
    assert_eq!(world.task(mission, "n001").wait, Some(WaitCause::Condition));
    world.cancel(mission).unwrap();
    assert_eq!((world.run(mission).state, world.state(mission, "n001")), (RunState::Cancelled, TaskState::Cancelled));
    world.verify();
}
