//! Which nodes run and when: conditions, waits, retries, failures, as the documentation shows them, on both stores.

use bursar::clock::rfc3339;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_conditions_runs_as_it_says,
    a_chain_of_skips_is_followed_to_its_end,
    a_condition_without_an_answer_fails_the_mission_by_name,
    the_example_of_waiting_runs_as_it_says,
    the_example_of_retries_runs_as_it_says,
    the_example_of_failures_runs_as_it_says,
    what_fails_before_it_starts_is_gone_on_from,
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

async fn the_example_of_waiting_runs_as_it_says(world: World) {
    let text = example("embargo");
    let publish_at = world.engine().clock().now().plus_ms(1_500);
    let input = |at: String| json!({"text": "news", "publish_at": at});
    let mission = submit(&world, &text, input(rfc3339(publish_at))).await;
    let waiting = world.task_when(mission, "embargo", "waiting", |task| task.state == TaskState::Waiting).await;
    assert_eq!((waiting.wait, waiting.due_at), (Some(WaitCause::Timer), Some(publish_at)));
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let embargo = world.task(mission, "embargo").await;
    let late_ms = embargo.ended_at.unwrap().since_ms(publish_at);
    assert!((0..3_000).contains(&late_ms), "{late_ms} ms late");
    assert_eq!((embargo.attempt, embargo.worker_id), (0, None));
    assert_eq!(world.task(mission, "publish").await.output, Some(json!("news")));

    let passed = submit(&world, &text, input("2001-01-01T00:00:00+02:00".to_owned())).await;
    assert_eq!(world.finished(passed).await.state, RunState::Succeeded);
    let refused = submit(&world, &text, input("tomorrow".to_owned())).await;
    let over = world.finished(refused).await;
    assert_eq!((over.state, over.error.unwrap()["code"].clone()), (RunState::Failed, json!("until_failed")));
    world.balances().await;
}

async fn the_example_of_retries_runs_as_it_says(world: World) {
    let text = example("once");
    let cases = [("retryable", RunState::Failed, 1), ("rate_limited", RunState::Succeeded, 2)];
    for (class, state, attempts) in cases {
        let note = format!("[[simulate fail={class} times=1]]");
        let mission = submit(&world, &text, json!({"note": note})).await;
        assert_eq!(world.finished(mission).await.state, state, "{class}");
        assert_eq!(world.task(mission, "book").await.attempt, attempts, "{class}");
    }
    world.balances().await;
}

async fn the_example_of_failures_runs_as_it_says(world: World) {
    let text = example("digest");
    let mission = submit(&world, &text, json!({"note": "[[simulate fail=permanent after_tokens=5]]"})).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.error, over.tasks_done), (RunState::Succeeded, None, 3));
    let failed = world.task(mission, "sum_up").await;
    assert_eq!((failed.state, failed.attempt), (TaskState::Failed, 1));
    let code = failed.error.unwrap().code;
    assert_eq!(failed.output.unwrap()["error"]["code"], json!(code));
    assert_eq!(world.task(mission, "send").await.output, Some(json!(format!("no summary: {code}"))));
    assert!(over.spent_ucr.is_zero() && over.held_ucr.is_zero(), "a failure costs nothing");

    let mission = submit(&world, &text, json!({"note": "All went well."})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "excuse").await.state, TaskState::Skipped);
    assert_eq!(world.task(mission, "send").await.output, world.task(mission, "sum_up").await.output);
    world.balances().await;
}

async fn what_fails_before_it_starts_is_gone_on_from(world: World) {
    let text = "{workflow: brave, flat_fee: 0, nodes: {a: {transform: {x: 1}}, \
                gate: {needs: [a], until: '{{ nodes.a.output.x }}', on_error: continue}, \
                odd: {needs: [gate], when: nodes.a.output.y, on_error: skip, transform: 1}, \
                last: {needs: [gate, odd], when: 'nodes.odd.output is none', transform: '{{ nodes.gate.output.error.code }}'}}}";
    let mission = submit(&world, text, json!({})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let expected = [
        ("a", TaskState::Succeeded),
        ("gate", TaskState::Failed),
        ("odd", TaskState::Failed),
        ("last", TaskState::Succeeded),
    ];
    assert_eq!(states(&world, mission).await, expected.map(|(node, state)| (node.to_owned(), state)));
    assert_eq!(world.task(mission, "last").await.output, Some(json!("until_failed")));
    world.balances().await;
}
