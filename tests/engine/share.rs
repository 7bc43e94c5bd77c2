//! Processes that share work: two at a time, one that vanishes, one that drains, and one poisoned mission among many.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar::engine::Drained;
use bursar_domain::credits::Ucr;
use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::eventually;
use crate::support::hand::{DIAMOND, SINGLE};
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};

on_both_stores!(idle:
    a_vanished_worker_is_replaced_within_its_lease,
    a_drain_hands_back_without_consuming_an_attempt,
    a_drain_lets_short_steps_end,
    an_idle_process_drains_at_once,
    a_task_whose_inputs_cannot_be_read_is_not_kept_for_ever,
    one_workflow_that_cannot_be_read_does_not_stop_the_others,
);

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

fn slow(delay_ms: u64) -> String {
    format!(
        "{{workflow: slow, flat_fee: 0, agents: {{a: {{instructions: be kind, model: simulated-small, max_output_tokens: 50}}}}, \
          nodes: {{ask: {{agent: a, prompt: 'hi [[simulate delay_ms={delay_ms} tokens=5]]'}}}}}}"
    )
}

async fn a_vanished_worker_is_replaced_within_its_lease(mut world: World) {
    // a process in a runtime of its own, which is torn down under it
    let (url, lease) = (world.place.url(), LEASE);
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = doomed.spawn(async move {
        let mut process = Process::start(&url, None).await;
        process.work_with_lease(2, lease);
        process
    });
    let process = started.await.unwrap();
    let mission = world.run(&slow(1_500)).await;
    let taken = world.task_when(mission, "ask", "running", |task| task.state == TaskState::Running).await;
    assert_eq!(taken.worker_id, Some(process.worker_id()));
    let vanished_at = world.engine().clock().now();
    doomed.shutdown_background();

    world.process.work(2);
    let again = world.task_when(mission, "ask", "taken over", |task| task.attempt == 2).await;
    let after_ms = again.started_at.unwrap().since_ms(vanished_at);
    assert!(after_ms <= lease.as_millis() as i64 + 2_000, "taken over after {after_ms} ms");
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded);
    let task = world.task(mission, "ask").await;
    assert_eq!((task.attempt, task.failures), (2, 0), "a lost attempt is not a failed one");
    let calls = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    assert_eq!(calls.iter().filter(|call| call.billable).count(), 1, "billed once: {calls:?}");
    assert_eq!(over.spent_ucr, task.cost_ucr);
    world.balances().await;
    drop(process);
}

async fn a_drain_hands_back_without_consuming_an_attempt(mut world: World) {
    world.process.work(2);
    let mission = world.run(&slow(60_000)).await;
    let running = world.task_when(mission, "ask", "running", |task| task.state == TaskState::Running).await;
    let sent = || async {
        let calls = world.store().calls_of_run(running.run_id, 10).await.unwrap();
        (!calls.is_empty()).then_some(())
    };
    eventually("its call is sent", PATIENCE, sent).await;
    let drained = world.process.drain(Duration::from_millis(50)).await;
    assert_eq!(drained, Drained { handed_back: 1 });
    let task = world.task(mission, "ask").await;
    assert_eq!((task.state, task.failures, task.attempt), (TaskState::Ready, 0, 1));
    let attempts = world.store().rows("select outcome from attempts", &[]).await.unwrap();
    assert_eq!(attempts, [json!({"outcome": "handed_back"})]);
    assert!(world.store().workers(world.engine().clock().now().plus_ms(-60_000)).await.unwrap().is_empty());

    world.process.work(2);
    world
        .task_when(mission, "ask", "running again", |task| task.state == TaskState::Running && task.attempt == 2)
        .await;
    world.engine().cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    world.balances().await;
}

async fn a_drain_lets_short_steps_end(mut world: World) {
    world.process.work(4);
    let mission = world.run(&slow(700)).await;
    world.task_when(mission, "ask", "running", |task| task.state == TaskState::Running).await;
    let later = world.put(SINGLE).await;
    let drained = world.process.drain(Duration::from_secs(20)).await;
    assert_eq!(drained, Drained { handed_back: 0 });
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    // nothing new is taken any more, until somebody starts workers again
    let waits = world.submit(later.id).await;
    assert_eq!(world.task(waits, "only").await.state, TaskState::Ready);
    world.process.work(1);
    assert_eq!(world.finished(waits).await.state, RunState::Succeeded);
}

async fn an_idle_process_drains_at_once(mut world: World) {
    world.process.work(4);
    let mission = world.run(DIAMOND).await;
    world.finished(mission).await;
    let start = std::time::Instant::now();
    assert_eq!(world.process.drain(Duration::from_secs(30)).await, Drained { handed_back: 0 });
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

async fn a_task_whose_inputs_cannot_be_read_is_not_kept_for_ever(mut world: World) {
    let workflow = world.put(SINGLE).await;
    let mission = world.submit(workflow.id).await;
    // the input is not readable at first, as while a store breaks off between the claim and the read
    world.store().execute("alter table missions rename column input to hidden", &[]).await.unwrap();
    world.process.work(2);
    let given_back = || async {
        let rows = world.store().rows("select outcome from attempts", &[]).await.unwrap();
        (!rows.is_empty()).then_some(rows)
    };
    let attempts = eventually("it was claimed in vain", PATIENCE, given_back).await;
    assert_eq!(attempts[0], json!({"outcome": "handed_back"}), "which is not held against the task");
    world.store().execute("alter table missions rename column hidden to input", &[]).await.unwrap();
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded);
    assert!(world.task(mission, "only").await.attempt >= 2);
}

async fn one_workflow_that_cannot_be_read_does_not_stop_the_others(mut world: World) {
    let timer = "{workflow: NAME, flat_fee: 0, nodes: {a: {sleep: 1ms}, b: {needs: [a], transform: {x: 1}}, c: {transform: {x: 1}}}}";
    let mut missions = Vec::new();
    for name in ["broken", "sound"] {
        let workflow = world.put(&timer.replace("NAME", name)).await;
        for _ in 0..3 {
            missions.push((name, world.submit(workflow.id).await));
        }
    }
    // another process, which has not read them yet, meets one that a newer version wrote
    world
        .store()
        .execute("update workflows set definition = '{\"workflow\": 1}' where name = 'broken'", &[])
        .await
        .unwrap();
    let mut fresh = world.another_process().await;
    std::mem::swap(&mut world.process, &mut fresh);
    fresh.stop().await;
    world.process.work(4);
    for (name, mission) in missions {
        if name == "sound" {
            let over = world.finished(mission).await;
            assert_eq!(over.state, RunState::Succeeded);
            assert!(world.tasks(mission).await.iter().all(|task| task.attempt <= 1), "no attempt was lost");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_the_load() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let mut other = world.another_process().await;
    world.process.work(4);
    other.work(4);
    let text = "{workflow: brief, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 20}}, \
                nodes: {a: {agent: a, prompt: '[[simulate delay_ms=40 tokens=3]]'}, b: {needs: [a], transform: {x: 1}, units: {step: 1}}}}";
    let workflow = world.put(text).await;
    let missions = world.submit_many(workflow.id, 60).await;
    let mut by_worker: BTreeMap<_, usize> = BTreeMap::new();
    for mission in missions {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded);
        for task in world.tasks(mission).await {
            assert_eq!(task.attempt, 1, "each task runs once, whoever takes it");
            *by_worker.entry(task.worker_id.unwrap()).or_default() += 1;
        }
    }
    assert_eq!(by_worker.len(), 2, "{by_worker:?}");
    assert!(by_worker.values().all(|tasks| *tasks >= 20), "a fair share each: {by_worker:?}");
    assert_ne!(world.process.worker_id(), other.worker_id());
    let workers = world.store().workers(world.engine().clock().now().plus_ms(-60_000)).await.unwrap();
    assert_eq!(workers.len(), 2);
    world.balances().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_process_that_runs_the_step() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(10).await;
    let mut other = world.another_process().await;
    // leases so long that only the word through Redis can be in time
    other.work_with_lease(2, Duration::from_mins(1));
    let mission = world.run(&slow(60_000)).await;
    world.task_when(mission, "ask", "running", |task| task.state == TaskState::Running).await;
    world.engine().cancel(mission, None).await.unwrap();
    let start = world.engine().clock().now();
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.spent_ucr), (RunState::Cancelled, Ucr::ZERO));
    assert!(over.ended_at.unwrap().since_ms(start) < 3_000);
    world.process.work(1);
    let diamond = world.run(DIAMOND).await;
    assert_eq!(world.finished(diamond).await.state, RunState::Succeeded);
    world.balances().await;
    other.stop().await;
}
