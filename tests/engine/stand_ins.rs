//! Nodes that stand in for others that failed, as the documentation shows them, on both stores.

use bursar_domain::id::MissionId;
use bursar_domain::state::{RunState, TaskState};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_fallbacks_runs_as_it_says,
    a_line_of_stand_ins_ends_in_a_map_that_everybody_reads_through,
    a_retry_asks_the_node_again_before_its_stand_in,
);

async fn states(world: &World, mission: MissionId) -> Vec<(String, TaskState)> {
    let tasks = world.tasks(mission).await.into_iter().filter(|task| task.parent_id.is_none());
    tasks.map(|task| (task.node, task.state)).collect()
}

async fn output(world: &World, mission: MissionId, node: &str) -> Option<Value> {
    world.task(mission, node).await.output
}

fn named<const N: usize>(states: [(&str, TaskState); N]) -> Vec<(String, TaskState)> {
    states.into_iter().map(|(node, state)| (node.to_owned(), state)).collect()
}

async fn the_example_of_fallbacks_runs_as_it_says(world: World) {
    use TaskState::{Failed, Skipped, Succeeded};
    let workflow = world.put(&example("second-try")).await;
    let broken = json!({"note": "[[simulate fail=permanent after_tokens=5]]"});
    let mission = world.submit_with(workflow.id, broken).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error, over.tasks_done, over.tasks_total), (RunState::Succeeded, None, 4, 4));
    let expected = [("sum_up", Failed), ("simpler", Succeeded), ("excuse", Skipped), ("send", Succeeded)];
    assert_eq!(states(&world, mission).await, named(expected));
    let (failed, simpler) = (world.task(mission, "sum_up").await, world.task(mission, "simpler").await);
    assert_eq!((failed.stand_in_id, failed.output), (Some(simpler.id), simpler.output.clone()));
    assert_eq!(output(&world, mission, "send").await, simpler.output);
    assert!(failed.status_reason.unwrap().ends_with("; `simpler` stands in for it"));
    assert_eq!((over.spent_ucr, failed.cost_ucr.is_zero()), (simpler.cost_ucr, true), "a failure costs nothing");
    assert!(over.held_ucr.is_zero() && simpler.cost_ucr.is_positive());

    let mission = world.submit_with(workflow.id, json!({"note": "All went well."})).await;
    let over = world.finished(mission).await;
    let expected = [("sum_up", Succeeded), ("simpler", Skipped), ("excuse", Skipped), ("send", Succeeded)];
    assert_eq!((over.state, states(&world, mission).await), (RunState::Succeeded, named(expected)));
    let sum_up = world.task(mission, "sum_up").await;
    assert_eq!((sum_up.cost_ucr, output(&world, mission, "simpler").await), (over.spent_ucr, None));
    assert_eq!(output(&world, mission, "send").await, sum_up.output);
    world.balances().await;
}

async fn a_line_of_stand_ins_ends_in_a_map_that_everybody_reads_through(world: World) {
    let text = "workflow: line
flat_fee: 0
agents: { a: { instructions: i, model: simulated-small, max_output_tokens: 20 } }
nodes:
  first:  { agent: a, prompt: '[[simulate fail=permanent]]', on_error: { fallback: second } }
  second: { agent: a, prompt: '[[simulate fail=permanent]] {{ nodes.first.output.error.code }}', on_error: { fallback: third } }
  third:  { transform: '{{ i }} {{ nodes.first.output.error.class }}', map: { over: '[1, 2]', as: i } }
  gate:   { needs: [first], when: 'nodes.first.output|length == 2', transform: '{{ nodes.second.output[0] }}' }
  each:   { needs: [second], transform: '{{ item }}!', map: { over: nodes.first.output } }
outputs: { list: nodes.first.output, one: nodes.second.output.0, gate: nodes.gate.output, each: nodes.each.output }
";
    let workflow = world.put(text).await;
    let mission = world.submit_with(workflow.id, json!({})).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error), (RunState::Succeeded, None));
    let list = json!(["1 permanent", "2 permanent"]);
    for node in ["first", "second", "third"] {
        assert_eq!(output(&world, mission, node).await, Some(list.clone()), "{node}");
    }
    let third = world.task(mission, "third").await.id;
    for node in ["first", "second"] {
        assert_eq!(world.task(mission, node).await.stand_in_id, Some(third), "{node}");
    }
    assert_eq!(output(&world, mission, "gate").await, Some(json!("1 permanent")));
    assert_eq!(output(&world, mission, "each").await, Some(json!(["1 permanent!", "2 permanent!"])));
    world.balances().await;
}

async fn a_retry_asks_the_node_again_before_its_stand_in(world: World) {
    use TaskState::{Failed, Skipped, Succeeded};
    let text = "workflow: again
flat_fee: 1
agents: { a: { instructions: i, model: simulated-small, max_output_tokens: 20 } }
nodes:
  ask:   { agent: a, prompt: '[[simulate fail=retryable times=1]]', retry: { max_attempts: 1 }, on_error: { fallback: spare } }
  spare: { agent: a, prompt: '[[simulate fail=permanent]]' }
  last:  { needs: [ask], transform: '{{ nodes.ask.output }}' }
";
    let workflow = world.put(text).await;
    let mission = world.submit_with(workflow.id, json!({})).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error.unwrap()["node"].clone()), (RunState::Failed, json!("spare")));
    assert_eq!(states(&world, mission).await, named([("ask", Failed), ("spare", Failed), ("last", Skipped)]));
    assert!(over.spent_ucr.is_zero() && over.held_ucr.is_zero());
    world.engine().retry(mission, None).await.unwrap();
    let over = world.finished(mission).await;
    assert_eq!(states(&world, mission).await, named([("ask", Succeeded), ("spare", Skipped), ("last", Succeeded)]));
    let ask = world.task(mission, "ask").await;
    assert_eq!((over.state, ask.stand_in_id), (RunState::Succeeded, None));
    assert!(ask.output.is_some());
    assert_eq!(output(&world, mission, "last").await, ask.output);
    world.balances().await;
}
