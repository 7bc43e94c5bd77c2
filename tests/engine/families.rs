//! One node that is many tasks, because of a map, a repetition or a review: end to end, on both stores.

use bursar_domain::state::{RunState, TaskState};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::eventually;
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, World};

on_both_stores!(World::on:
    a_map_hands_on_the_list_of_what_its_items_made,
    a_map_of_many_chunks_is_made_whole_and_in_order,
    items_begin_after_those_they_name,
    a_repetition_sees_what_it_made_before,
    a_draft_is_made_again_with_what_its_reviewer_said,
    each_item_of_a_map_is_reviewed_within_one_budget,
    an_item_that_fails_ends_its_map_and_its_mission,
    a_paused_map_goes_on_where_it_stood,
    a_cancelled_map_ends_and_gives_everything_back,
    the_examples_of_many_tasks_run_as_they_say,
);

async fn run(world: &World, yaml: &str, input: Value) -> (RunState, bursar_domain::id::MissionId) {
    let workflow = world.put(yaml).await;
    let mission = world.submit_with(workflow.id, input).await;
    (world.finished(mission).await.state, mission)
}

async fn a_map_hands_on_the_list_of_what_its_items_made(world: World) {
    let text = "workflow: w
flat_fee: 0
nodes:
  list: { transform: [a, b, c] }
  each: { needs: [list], transform: '{{ map.index }}:{{ word }}:{{ inputs.x }}', map: { over: nodes.list.output, as: word, max_parallel: 2 } }
  some: { needs: [each], when: 'nodes.each.output|length == 3', transform: '{{ nodes.each.output[1:] }}' }
  none: { needs: [each], transform: 1, map: { over: '[]' } }
  last: { needs: [none, some], transform: { none: '{{ nodes.none.output }}', some: '{{ nodes.some.output }}' } }
";
    let (state, mission) = run(&world, text, json!({"x": 7})).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(world.task(mission, "each").await.output, Some(json!(["0:a:7", "1:b:7", "2:c:7"])));
    assert_eq!(world.task(mission, "last").await.output, Some(json!({"none": [], "some": ["1:b:7", "2:c:7"]})));
    let over = world.mission(mission).await;
    assert_eq!((over.tasks_done, over.tasks_total), (8, 8));
    world.balances().await;
}

async fn a_map_of_many_chunks_is_made_whole_and_in_order(world: World) {
    let text = "workflow: w
flat_fee: 0
nodes:
  each: { transform: '{{ item * 2 }}', map: { over: range(600), max_parallel: 64 } }
  sum: { needs: [each], transform: '{{ nodes.each.output|sum }}' }
";
    let (state, mission) = run(&world, text, json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    let doubled: Vec<i64> = (0..600).map(|item| item * 2).collect();
    assert_eq!(world.task(mission, "each").await.output, Some(json!(doubled)));
    assert_eq!(world.task(mission, "sum").await.output, Some(json!(600 * 599)));
    assert_eq!(world.mission(mission).await.tasks_done, 602);
    world.balances().await;
}

async fn items_begin_after_those_they_name(world: World) {
    let text = "workflow: w
flat_fee: 0
nodes:
  each:
    transform: '{{ file.name }}'
    map: { over: inputs.files, as: file, key: '{{ file.name }}', after: file.uses }
";
    let files = json!([{"name": "c", "uses": ["a", "b"]}, {"name": "b", "uses": ["a"]}, {"name": "a", "uses": []}]);
    let (state, mission) = run(&world, text, json!({"files": files})).await;
    assert_eq!(state, RunState::Succeeded);
    let tasks = world.tasks(mission).await;
    let order = |name: &str| {
        let is_it = |task: &&bursar::store::read::TaskView| {
            task.parent_id.is_some() && task.bound.as_ref().unwrap().values["file"]["name"] == name
        };
        let task = tasks.iter().find(is_it).unwrap();
        (task.started_at.unwrap(), task.ended_at.unwrap())
    };
    assert!(order("a").1 <= order("b").0 && order("b").1 <= order("c").0);
    assert_eq!(world.task(mission, "each").await.output, Some(json!(["c", "b", "a"])));
}

async fn a_repetition_sees_what_it_made_before(world: World) {
    let text = "workflow: w
flat_fee: 0
nodes:
  count:
    transform: '{{ (repeat.previous or 0) + repeat.iteration }}'
    repeat: { until: 'output >= inputs.enough', max: 9 }
";
    let (state, mission) = run(&world, text, json!({"enough": 6})).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(world.task(mission, "count").await.output, Some(json!(6)), "1 + 2 + 3");
    assert_eq!(world.tasks(mission).await.len(), 4);
}

const REVIEWED: &str = "workflow: w
flat_fee: 0
defaults: { model: simulated-small, max_output_tokens: 60 }
agents:
  writer: { instructions: you write }
  critic: { instructions: you review }
nodes:
  text:
    agent: writer
    prompt: 'write about {{ inputs.topic }}'
    review:
      agent: critic
      prompt: >-
        round {{ review.round }}: {{ review.draft }}
        [[simulate json={\"verdict\":\"{{ 'LGTM' if review.round >= inputs.rounds else 'no' }}\",\"feedback\":\"longer\"}]]
      accept: verdict == 'LGTM'
      max: 3
";

async fn a_draft_is_made_again_with_what_its_reviewer_said(world: World) {
    let (state, mission) = run(&world, REVIEWED, json!({"topic": "tea", "rounds": 2})).await;
    assert_eq!(state, RunState::Succeeded);
    let tasks = world.tasks(mission).await;
    let made: Vec<_> = tasks.iter().filter(|task| task.parent_id.is_some()).collect();
    assert_eq!(made.len(), 4, "two drafts and their reviews");
    assert!(made.iter().all(|task| task.cost_ucr.is_positive() && task.state == TaskState::Succeeded));
    let text = world.task(mission, "text").await;
    let drafts: Vec<_> = made.iter().filter(|task| task.item == 2).collect();
    let second = world.store().task(None, drafts[0].id).await.unwrap().unwrap();
    assert_eq!(text.output, second.output);
    let inputs: Vec<u64> = made.iter().map(|task| task.usage.unwrap().input_tokens).collect();
    assert!(inputs[2] > inputs[0], "the second draft is asked for with the first one and its review: {inputs:?}");
    let over = world.mission(mission).await;
    assert_eq!(over.spent_ucr, made.iter().map(|task| task.cost_ucr).sum());
    world.balances().await;
}

async fn each_item_of_a_map_is_reviewed_within_one_budget(world: World) {
    let text = REVIEWED.replace(
        "    review:",
        "    map: { over: '[1, 2, 3]', max_parallel: 2 }\n    budget: { credits: 20 }\n    review:",
    );
    let (state, mission) = run(&world, &text, json!({"topic": "tea", "rounds": 1})).await;
    assert_eq!(state, RunState::Succeeded);
    let text = world.task(mission, "text").await;
    assert_eq!(text.output.as_ref().and_then(Value::as_array).map(Vec::len), Some(3));
    let fan = text.fan.unwrap();
    assert_eq!(fan.spent_ucr, world.mission(mission).await.spent_ucr);
    assert!(fan.held_ucr.is_zero());
    assert_eq!(world.tasks(mission).await.len(), 1 + 3 * 3);
    world.balances().await;
}

async fn an_item_that_fails_ends_its_map_and_its_mission(world: World) {
    let text = "workflow: w
flat_fee: 0
nodes:
  each: { transform: '{{ 1 + item }}', map: { over: \"[1, 'x', 3, 4]\", max_parallel: 1 } }
  last: { needs: [each], transform: 1 }
";
    let (state, mission) = run(&world, text, json!({})).await;
    assert_eq!(state, RunState::Failed);
    let error = world.mission(mission).await.error.unwrap();
    assert_eq!((&error["node"], &error["code"]), (&json!("each"), &json!("template_error")));
    assert!(error["message"].as_str().unwrap().starts_with("item `1`: "), "{error}");
    let tasks = world.tasks(mission).await;
    let states: Vec<&str> = tasks.iter().map(|task| task.state.as_str()).collect();
    assert_eq!(states, ["failed", "skipped", "succeeded", "failed", "skipped", "skipped"]);

    let forgiving = text.replace("max_parallel: 1", "on_item_error: skip");
    let (state, mission) = run(&world, &forgiving, json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(world.task(mission, "each").await.output, Some(json!([2, null, 4, 5])));
}

const SLOW: &str = "workflow: w
flat_fee: 0
defaults: { model: simulated-small, max_output_tokens: 20 }
agents: { a: { instructions: i } }
nodes:
  each: { agent: a, prompt: 'p {{ item }} [[simulate tokens=5 delay_ms={{ inputs.delay }}]]', map: { over: range(6), max_parallel: 2 } }
";

async fn a_paused_map_goes_on_where_it_stood(world: World) {
    let workflow = world.put(SLOW).await;
    let mission = world.submit_with(workflow.id, json!({"delay": 300})).await;
    let runs = || async { world.tasks(mission).await.into_iter().find(|task| task.state == TaskState::Running) };
    eventually("an item runs", PATIENCE, runs).await;
    world.engine().pause(mission, None).await.unwrap();
    world.task_when(mission, "each", "paused", |task| task.fan.as_ref().is_some_and(|fan| fan.done >= 1)).await;
    world.engine().resume(mission).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let each = world.task(mission, "each").await;
    assert_eq!(each.output.as_ref().and_then(Value::as_array).map(Vec::len), Some(6));
    world.balances().await;
}

async fn a_cancelled_map_ends_and_gives_everything_back(world: World) {
    let workflow = world.put(SLOW).await;
    let mission = world.submit_with(workflow.id, json!({"delay": 60_000})).await;
    world.task_when(mission, "each", "under way", |task| task.fan.as_ref().is_some_and(|fan| fan.begun == 2)).await;
    world.engine().cancel(mission, None).await.unwrap();
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.held_ucr.is_zero()), (RunState::Cancelled, true));
    let each = world.task(mission, "each").await;
    assert_eq!((each.state, each.fan.map(|fan| (fan.made, fan.done))), (TaskState::Cancelled, Some((6, 6))));
    world.balances().await;
}

async fn the_examples_of_many_tasks_run_as_they_say(world: World) {
    let (state, mission) = run(&world, &example("translate"), json!({"texts": ["one", "two"], "into": "Latin"})).await;
    assert_eq!(state, RunState::Succeeded, "{:?}", world.mission(mission).await.error);
    let all = world.task(mission, "translate").await.output.unwrap();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    let (state, mission) = run(&world, &example("polish"), json!({"topic": "tea"})).await;
    assert_eq!(state, RunState::Succeeded, "{:?}", world.mission(mission).await.error);
    let drafts = world.tasks(mission).await.iter().filter(|task| task.node == "text").count();
    assert!(drafts > 2, "{drafts}");
}
