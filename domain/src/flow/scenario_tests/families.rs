//! Scenarios: one node that is many tasks, because of a map, a repetition or a review.

use serde_json::{Value, json};

use crate::flow::testbed::{Lease, World};
use crate::id::MissionId;
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::record::Task;
use crate::state::{RunState, TaskState, WaitCause};

/// The children of a mission's node, by their numbers.
fn items<'w>(world: &'w World, mission: MissionId, node: &str) -> Vec<&'w Task> {
    let parent = world.task(mission, node).id;
    let mut items: Vec<&Task> =
        world.tables.tasks.values().filter(|task| task.parent_id == Some(parent) && task.layer > 0).collect();
    items.sort_by_key(|task| task.item);
    items
}

fn states(world: &World, mission: MissionId, node: &str) -> Vec<&'static str> {
    items(world, mission, node).iter().map(|task| task.state.as_str()).collect()
}

fn claim_item(world: &mut World, mission: MissionId, node: &str, item: usize) -> Lease {
    let (worker, task) = (world.worker, items(world, mission, node)[item].id);
    let state = world.tables.tasks[&task].state;
    world.claim_for(worker, task).unwrap_or_else(|| panic!("item {item} of {node} is {state:?}"))
}

fn end(world: &mut World, lease: &Lease, output: Value) {
    let outcome = Outcome::Succeeded { output, calls: Vec::new() };
    world.settle(lease, &lease.settle(outcome)).unwrap();
    world.verify();
}

fn break_down(world: &mut World, lease: &Lease) {
    let error = StepError::new(ErrorClass::Permanent, "test", "the test says so");
    let settlement = world.settle(lease, &lease.settle(Outcome::Failed { error, calls: Vec::new() })).unwrap();
    world.verify();
    if let Some(run) = settlement.ending {
        world.end_run(run);
    }
}

fn map(more: &str) -> String {
    format!(
        "workflow: w
nodes:
  list: {{ transform: [a, b, c, d, e] }}
  each: {{ needs: [list], transform: '{{{{ word }}}}', map: {{ over: nodes.list.output, as: word, max_parallel: 2{more} }} }}
  last: {{ needs: [each], transform: '{{{{ nodes.each.output }}}}' }}
"
    )
}

/// A mission of the map whose list is known.
fn spread_map(world: &mut World, more: &str) -> MissionId {
    let mission = world.submit(&map(more));
    let list = world.claim(mission, "list");
    end(world, &list, json!(["a", "b", "c", "d", "e"]));
    assert_eq!(world.task(mission, "each").wait, Some(WaitCause::Children));
    world.sweep();
    world.verify();
    mission
}

#[test]
fn a_map_works_on_as_many_items_as_it_may_and_each_that_ends_lets_the_next_begin() {
    let mut world = World::with_credits(10);
    let mission = spread_map(&mut world, "");
    assert_eq!(states(&world, mission, "each"), ["ready", "ready", "pending", "pending", "pending"]);
    assert_eq!(world.mission(mission).tasks_total, 8);
    let second = claim_item(&mut world, mission, "each", 1);
    end(&mut world, &second, json!("B"));
    assert_eq!(states(&world, mission, "each"), ["ready", "succeeded", "ready", "pending", "pending"]);
    for item in [0, 2, 3, 4] {
        let lease = claim_item(&mut world, mission, "each", item);
        end(&mut world, &lease, json!(item));
    }
    world.sweep();
    let each = world.task(mission, "each").clone();
    assert_eq!((each.state, world.tables.output_of(&each)), (TaskState::Succeeded, Some(json!([0, "B", 2, 3, 4]))));
    let last = world.claim(mission, "last");
    end(&mut world, &last, Value::Null);
    assert_eq!(world.run(mission).state, RunState::Succeeded);
}

#[test]
fn what_an_item_sees_stands_in_its_row() {
    let mut world = World::with_credits(10);
    let mission = spread_map(&mut world, ", key: 'k-{{ word }}'");
    let seen: Vec<Value> = items(&world, mission, "each")
        .iter()
        .map(|task| Value::Object(task.bound.clone().unwrap().values))
        .take(2)
        .collect();
    assert_eq!(seen[0], json!({"word": "a", "map": {"index": 0, "key": "k-a"}}));
    assert_eq!(seen[1], json!({"word": "b", "map": {"index": 1, "key": "k-b"}}));
}

#[test]
fn a_map_of_nothing_is_over_at_once() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&map(""));
    let list = world.claim(mission, "list");
    end(&mut world, &list, json!([]));
    for _ in 0..3 {
        world.sweep();
    }
    assert_eq!(world.state(mission, "each"), TaskState::Succeeded);
    assert_eq!(world.state(mission, "last"), TaskState::Ready);
    world.verify();
}

#[test]
fn a_map_over_what_is_no_list_fails_by_name() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&map(""));
    let list = world.claim(mission, "list");
    end(&mut world, &list, json!("abc"));
    world.sweep();
    assert_eq!(world.state(mission, "each"), TaskState::Failed);
    assert_eq!(world.task(mission, "each").error.as_ref().unwrap().code, "map_failed");
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Failed);
    world.verify();
}

#[test]
fn an_item_that_fails_fails_its_map_and_its_run() {
    let mut world = World::with_credits(10);
    let mission = spread_map(&mut world, "");
    let (first, second) = (claim_item(&mut world, mission, "each", 0), claim_item(&mut world, mission, "each", 1));
    break_down(&mut world, &first);
    assert_eq!(states(&world, mission, "each"), ["failed", "running", "pending", "pending", "pending"]);
    world.sweep();
    assert_eq!(world.run(mission).state, RunState::Failing);
    assert_eq!(world.state(mission, "each"), TaskState::Waiting, "children end before their parents");
    end(&mut world, &second, Value::Null);
    world.sweep();
    assert_eq!(world.state(mission, "each"), TaskState::Failed);
    let error = world.task(mission, "each").error.clone().unwrap();
    assert_eq!((error.code.as_str(), error.message.as_str()), ("test", "item `0`: the test says so"));
    assert_eq!(states(&world, mission, "each"), ["failed", "cancelled", "skipped", "skipped", "skipped"]);
    assert_eq!(world.run(mission).state, RunState::Failed);
    world.verify();
}

#[test]
fn a_map_may_go_on_without_an_item() {
    for (word, output) in [
        ("skip", Value::Null),
        ("continue", json!({"error": {"class": "permanent", "code": "test", "message": "the test says so"}})),
    ] {
        let mut world = World::with_credits(10);
        let mission = spread_map(&mut world, &format!(", on_item_error: {word}"));
        let first = claim_item(&mut world, mission, "each", 0);
        break_down(&mut world, &first);
        for item in 1..5 {
            let lease = claim_item(&mut world, mission, "each", item);
            end(&mut world, &lease, json!(item));
        }
        world.sweep();
        let each = world.task(mission, "each").clone();
        assert_eq!(world.tables.output_of(&each), Some(json!([output, 1, 2, 3, 4])), "{word}");
        assert_eq!(world.state(mission, "last"), TaskState::Ready);
    }
}

#[test]
fn a_run_may_go_on_without_a_map_whose_item_failed() {
    let mut world = World::with_credits(10);
    let mission = world.submit(&map("").replace("  each: { ", "  each: { on_error: skip, "));
    let list = world.claim(mission, "list");
    end(&mut world, &list, json!(["a", "b", "c", "d", "e"]));
    world.sweep();
    let (first, second) = (claim_item(&mut world, mission, "each", 0), claim_item(&mut world, mission, "each", 1));
    break_down(&mut world, &first);
    for _ in 0..4 {
        world.sweep();
        world.verify();
    }
    assert_eq!(states(&world, mission, "each"), ["failed", "running", "skipped", "skipped", "skipped"]);
    assert_eq!(world.state(mission, "each"), TaskState::Waiting, "what runs may finish");
    end(&mut world, &second, Value::Null);
    world.sweep();
    assert_eq!(world.state(mission, "each"), TaskState::Failed);
    assert_eq!(world.state(mission, "last"), TaskState::Ready);
}

#[test]
fn items_begin_after_those_they_name() {
    let mut world = World::with_credits(10);
    let after = ", key: '{{ word }}', after: \"['c'] if word == 'a' else ([] if word in 'cd' else ['a'])\"";
    let mission = spread_map(&mut world, after);
    assert_eq!(states(&world, mission, "each"), ["pending", "pending", "ready", "ready", "pending"]);
    let (c, d) = (claim_item(&mut world, mission, "each", 2), claim_item(&mut world, mission, "each", 3));
    end(&mut world, &d, Value::Null);
    assert_eq!(states(&world, mission, "each"), ["pending", "pending", "running", "succeeded", "pending"]);
    end(&mut world, &c, Value::Null);
    assert_eq!(states(&world, mission, "each"), ["ready", "pending", "succeeded", "succeeded", "pending"]);
    let a = claim_item(&mut world, mission, "each", 0);
    end(&mut world, &a, Value::Null);
    world.sweep();
    assert_eq!(states(&world, mission, "each"), ["succeeded", "ready", "succeeded", "succeeded", "ready"]);
}

#[test]
fn a_repetition_ends_when_its_condition_holds() {
    let mut world = World::with_credits(10);
    let mission = world.submit(
        "workflow: w
nodes:
  poll: { transform: '{{ repeat.previous }}', repeat: { until: \"output.done or repeat.iteration > 8\", max: 9 } }
  last: { needs: [poll], when: nodes.poll.output.done, transform: 1 }
",
    );
    for iteration in 0..3 {
        let lease = claim_item(&mut world, mission, "poll", iteration);
        end(&mut world, &lease, json!({"done": iteration == 2}));
        world.sweep();
        world.verify();
    }
    assert_eq!(states(&world, mission, "poll"), ["succeeded"; 3]);
    assert_eq!(world.task(mission, "poll").output, Some(json!({"done": true})));
    assert_eq!(world.state(mission, "last"), TaskState::Ready);
    let third = items(&world, mission, "poll")[2].bound.clone().unwrap();
    assert_eq!(third.values.get("repeat"), Some(&json!({"iteration": 3, "previous": null})));
    assert_eq!((third.outputs[0].field.as_str(), third.outputs[0].item), ("previous", 1));
}

#[test]
fn a_repetition_that_never_is_good_takes_the_last_or_fails() {
    for (on_max, state) in [("accept", TaskState::Succeeded), ("fail", TaskState::Failed)] {
        let mut world = World::with_credits(10);
        let mission = world.submit(&format!(
            "workflow: w\nnodes:\n  poll: {{ transform: 1, repeat: {{ until: output.done, max: 2, on_max: {on_max} }} }}\n"
        ));
        for iteration in 0..2 {
            let lease = claim_item(&mut world, mission, "poll", iteration);
            end(&mut world, &lease, json!({"done": false, "iteration": iteration}));
            world.sweep();
        }
        world.sweep();
        assert_eq!(world.state(mission, "poll"), state, "{on_max}");
        world.verify();
    }
}

const REVIEWED: &str = "workflow: w
defaults: { model: m }
agents: { writer: { instructions: w }, critic: { instructions: c } }
nodes:
  text: { agent: writer, prompt: write, review: { agent: critic, accept: \"verdict == 'LGTM'\", max: 2 } }
";

#[test]
fn a_draft_is_made_again_until_its_reviewer_accepts_it() {
    let mut world = World::with_credits(100);
    let mission = world.submit(REVIEWED);
    let answers = [
        json!("first draft"),
        json!({"verdict": "no", "feedback": "longer"}),
        json!("second draft"),
        json!({"verdict": "LGTM"}),
    ];
    for (item, answer) in answers.into_iter().enumerate() {
        let lease = claim_item(&mut world, mission, "text", item);
        assert!(world.tables.tasks[&lease.task].hold_id.is_some(), "each draft and each review is held for");
        let call = world.call(&lease, 10, 10);
        world.settle(&lease, &lease.settle(Outcome::Succeeded { output: answer, calls: vec![call] })).unwrap();
        world.sweep();
        world.verify();
    }
    assert_eq!(world.task(mission, "text").output, Some(json!("second draft")));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
    let redraft = items(&world, mission, "text")[2].bound.clone().unwrap();
    let seen: Vec<_> = redraft.outputs.iter().map(|output| (output.field.as_str(), output.item)).collect();
    assert_eq!(seen, [("draft", 0), ("answer", 1)]);
    assert_eq!(
        world.spent(mission),
        4 * (10 * crate::flow::testbed::INPUT_UCR + 10 * crate::flow::testbed::OUTPUT_UCR)
    );
}

#[test]
fn each_item_of_a_map_may_be_reviewed() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&REVIEWED.replace(
        "prompt: write,",
        "prompt: 'write {{ item }}', map: { over: '[1, 2, 3]', max_parallel: 1 }, budget: { credits: 50 },",
    ));
    world.sweep();
    for item in 0..3 {
        let parent = items(&world, mission, "text")[item].id;
        for (round, answer) in [json!(format!("draft {item}")), json!({"verdict": "LGTM"})].into_iter().enumerate() {
            let task =
                world.tables.tasks.values().find(|task| task.parent_id == Some(parent) && task.item == round as i32);
            let (worker, task) = (world.worker, task.unwrap().id);
            let lease = world.claim_for(worker, task).unwrap();
            let call = world.call(&lease, 10, 10);
            world.settle(&lease, &lease.settle(Outcome::Succeeded { output: answer, calls: vec![call] })).unwrap();
            world.verify();
            world.sweep();
            world.verify();
        }
    }
    world.sweep();
    let text = world.task(mission, "text").clone();
    assert_eq!(world.tables.output_of(&text), Some(json!(["draft 0", "draft 1", "draft 2"])));
    assert_eq!(text.fan.unwrap().spent_ucr.get(), world.spent(mission));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
}

#[test]
fn a_cancel_ends_children_before_their_parents() {
    let mut world = World::with_credits(100);
    let mission = spread_map(&mut world, "");
    let running = claim_item(&mut world, mission, "each", 0);
    world.cancel(mission).unwrap();
    world.verify();
    assert_eq!(states(&world, mission, "each"), ["running", "cancelled", "skipped", "skipped", "skipped"]);
    assert_eq!(world.state(mission, "each"), TaskState::Waiting);
    end(&mut world, &running, Value::Null);
    world.sweep();
    assert_eq!(world.state(mission, "each"), TaskState::Cancelled);
    assert_eq!(world.run(mission).state, RunState::Cancelled);
    world.verify();
}
