//! Agent steps of many calls on real stores: the documented examples run, crashes buy nothing twice.

use std::time::Duration;

use bursar_domain::credits::Ucr;
use bursar_domain::id::MissionId;
use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::eventually;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};

on_both_stores!(idle:
    every_example_of_the_page_runs,
    each_repair_is_a_call_that_is_billed,
    an_output_that_stays_wrong_fails_for_good_and_costs_nothing,
    a_worker_that_vanishes_between_repairs_leaves_its_answers_to_the_next,
);

/// The page that explains agent steps.
const PAGE: &str = include_str!("../../docs/agent-step.md");

/// The workflows on the page.
fn examples() -> Vec<&'static str> {
    PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

async fn every_example_of_the_page_runs(mut world: World) {
    world.process.work(8);
    assert!(!examples().is_empty());
    for example in examples() {
        let mission = world.run(example).await;
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{example}: {:?}", over.error);
    }
    world.balances().await;
}

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// One step whose answer must be a plan; `directive` is for the simulated model.
fn plan(directive: &str) -> String {
    format!(
        "{{workflow: plan, flat_fee: 0, schemas: {{Plan: {{type: object, required: [title, files], \
          properties: {{title: {{type: string}}, files: {{type: array, items: {{type: string}}}}}}}}}}, \
          agents: {{a: {{instructions: be kind, model: simulated-small, max_output_tokens: 100}}}}, \
          nodes: {{ask: {{agent: a, prompt: 'plan [[simulate {directive}]]', output: {{schema: Plan, repair: 2}}, \
          retry: {{max_attempts: 1}}}}, then: {{needs: [ask], transform: {{first: '{{{{ nodes.ask.output.files[0] }}}}'}}}}}}}}"
    )
}

/// Number, attempt, state and whether it is billed, of each call of the mission.
async fn calls(world: &World, mission: MissionId) -> Vec<(i64, i64, String, bool)> {
    let run = world.mission(mission).await.run_id;
    let calls = world.store().calls_of_run(run, 100).await.unwrap();
    let mut seen: Vec<_> =
        calls.iter().map(|call| (call.number, call.attempt, call.state.clone(), call.billable)).collect();
    seen.sort();
    seen
}

/// Waits until that many calls of the mission were sent.
async fn sent(world: &World, mission: MissionId, count: usize) {
    let look = || async { (calls(world, mission).await.len() >= count).then_some(()) };
    eventually("the calls are sent", PATIENCE, look).await;
}

/// Runs the mission on a process that vanishes as soon as that many of its calls were sent; then on another one.
async fn vanish_after(world: &mut World, yaml: &str, count: usize) -> MissionId {
    // a process in a runtime of its own, which is torn down under it
    let url = world.place.url();
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = doomed.spawn(async move {
        let mut process = Process::start(&url, None).await;
        process.work_with_lease(2, LEASE);
        process
    });
    let process = started.await.unwrap();
    let mission = world.run(yaml).await;
    sent(world, mission, count).await;
    doomed.shutdown_timeout(Duration::ZERO);
    drop(process);
    world.process.work(2);
    mission
}

async fn each_repair_is_a_call_that_is_billed(mut world: World) {
    world.process.work(8);
    let mission = world.run(&plan("wrong_json=2")).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let billed = |number| (number, 1, "done".to_owned(), true);
    assert_eq!(calls(&world, mission).await, [billed(1), billed(2), billed(3)]);
    let ask = world.task(mission, "ask").await;
    let output = ask.output.clone().unwrap();
    assert_eq!(world.task(mission, "then").await.output.unwrap(), json!({"first": output["files"][0]}));
    let rows = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    assert_eq!(ask.cost_ucr, rows.iter().map(|call| call.cost_ucr).sum::<Ucr>());
    world.balances().await;
}

async fn an_output_that_stays_wrong_fails_for_good_and_costs_nothing(mut world: World) {
    world.process.work(8);
    let mission = world.run(&plan("json={\"title\":\"hidden\",\"files\":[7]}")).await;
    let over = world.finished(mission).await;
    let error = over.error.clone().unwrap();
    assert_eq!((over.state, &error["code"]), (RunState::Failed, &json!("output_invalid")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("/files/0") && !message.contains("hidden"), "{message}");
    let states: Vec<_> =
        calls(&world, mission).await.into_iter().map(|(_, _, state, billed)| (state, billed)).collect();
    let not_billed = |state: &str| (state.to_owned(), false);
    assert_eq!(states, [not_billed("done"), not_billed("done"), not_billed("rejected")]);
    let ask = world.task(mission, "ask").await;
    assert_eq!((ask.state, ask.attempt, over.spent_ucr), (TaskState::Failed, 1, Ucr::ZERO));
    world.balances().await;
}

async fn a_worker_that_vanishes_between_repairs_leaves_its_answers_to_the_next(mut world: World) {
    let mission = vanish_after(&mut world, &plan("wrong_json=2 delay_ms=700"), 2).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let seen = calls(&world, mission).await;
    let expected = [(1, 1, "done", true), (2, 1, "lost", false), (2, 2, "done", true), (3, 2, "done", true)];
    assert_eq!(seen, expected.map(|(number, attempt, state, billed)| (number, attempt, state.to_owned(), billed)));
    assert_eq!(over.spent_ucr, world.task(mission, "ask").await.cost_ucr);
    world.balances().await;
}
