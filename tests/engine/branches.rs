//! Which nodes run: conditions, as the documentation shows them, on both stores.

use bursar_domain::state::{RunState, TaskState};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_conditions_runs_as_it_says,
    a_chain_of_skips_is_followed_to_its_end,
    a_condition_without_an_answer_fails_the_mission_by_name,
);

async fn submit(world: &World, yaml: &str, input: Value) -> bursar_domain::id::MissionId {
    let workflow = world.put(yaml).await;
    world.submit_with(workflow.id, input).await
}

async fn states(world: &World, mission: bursar_domain::id::MissionId) -> Vec<(String, TaskState)> {
    world.tasks(mission).await.into_iter().map(|task| (task.node, task.state)).collect()
}

async fn the_example_of_conditions_runs_as_it_says(world: World) {
    let text = example("triage");
    let cases = [
        (json!({"text": "short"}), ["page", "long"].as_slice(), json!("short")),
        (json!({"text": "short", "urgent": true}), &["long"], json!("short")),
        (json!({"text": "a text that is too long to be brief"}), &["page", "brief"], json!("a text that is too l…")),
    ];
    for (input, skipped, filed) in cases {
        let mission = submit(&world, &text, input).await;
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
        for task in world.tasks(mission).await {
            let expected =
                if skipped.contains(&task.node.as_str()) { TaskState::Skipped } else { TaskState::Succeeded };
            assert_eq!(
                (task.state, task.attempt),
                (expected, i64::from(expected == TaskState::Succeeded)),
                "{}",
                task.node
            );
        }
        assert_eq!(world.task(mission, "file").await.output, Some(filed));
        world.balances().await;
    }
}

async fn a_chain_of_skips_is_followed_to_its_end(world: World) {
    // longer than one settle looks ahead
    let link = |number: usize| {
        format!(
            "  n{number:03}: {{ needs: [n{:03}], when: 'nodes.n{:03}.output', transform: 1 }}\n",
            number - 1,
            number - 1
        )
    };
    let links: String = (1..600).map(link).collect();
    let text = format!("workflow: chain\nflat_fee: 0\nnodes:\n  n000: {{ transform: '' }}\n{links}");
    let mission = submit(&world, &text, json!({})).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.tasks_done), (RunState::Succeeded, 600));
    let states = states(&world, mission).await;
    assert!(states.iter().skip(1).all(|(_, state)| *state == TaskState::Skipped));
    world.balances().await;
}

async fn a_condition_without_an_answer_fails_the_mission_by_name(world: World) {
    let text = "{workflow: odd, flat_fee: 2, nodes: {a: {transform: {x: 1}}, \
                b: {needs: [a], when: nodes.a.output.y, transform: 1, units: {step: 1}}, c: {needs: [b], transform: 1}}}";
    let mission = submit(&world, text, json!({})).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error.unwrap()["code"].clone()), (RunState::Failed, json!("condition_failed")));
    let expected = [("a", TaskState::Succeeded), ("b", TaskState::Failed), ("c", TaskState::Skipped)];
    assert_eq!(states(&world, mission).await, expected.map(|(node, state)| (node.to_owned(), state)));
    assert!(over.spent_ucr.is_zero() && over.held_ucr.is_zero());
    world.balances().await;
}
