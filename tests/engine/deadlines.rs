//! Nodes with deadlines of their own, as the documentation shows them, on both stores.

use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_deadlines_runs_as_it_says,
    a_deadline_ends_what_waits_for_nobody,
);

async fn the_example_of_deadlines_runs_as_it_says(world: World) {
    let workflow = world.put(&example("hasty")).await;
    // a step that would run for ten minutes is stopped
    let mission = world.submit_with(workflow.id, json!({"note": "[[simulate stall after_tokens=3]]"})).await;
    let running = world.task_when(mission, "sum_up", "running", |task| task.state == TaskState::Running).await;
    let deadline = running.deadline_at.unwrap();
    assert_eq!(deadline.since_ms(running.ready_at.unwrap()), 2_000);
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let late = world.task(mission, "sum_up").await;
    let late_ms = late.ended_at.unwrap().since_ms(deadline);
    assert!((0..10_000).contains(&late_ms), "{late_ms} ms late");
    assert_eq!(late.error.unwrap().code, "deadline_exceeded");
    assert_eq!(world.task(mission, "report").await.output, Some(json!("deadline_exceeded")));

    let mission = world.submit_with(workflow.id, json!({"note": "All went well."})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "report").await.output, Some(json!("in time")));
    world.balances().await;
}

async fn a_deadline_ends_what_waits_for_nobody(world: World) {
    let text = "{workflow: lonely, flat_fee: 2, defaults: {deadline: 300ms}, nodes: {a: {transform: 1, pool: nobody}, \
                b: {needs: [a], transform: 1}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    let error = over.error.unwrap();
    assert_eq!(
        (over.state, &error["code"], &error["node"]),
        (RunState::Failed, &json!("deadline_exceeded"), &json!("a"))
    );
    assert!(over.spent_ucr.is_zero() && over.held_ucr.is_zero());
    world.balances().await;
}
