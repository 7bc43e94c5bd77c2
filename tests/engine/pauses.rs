//! Missions that are paused and resumed, on both stores.

use bursar::engine::ControlError;
use bursar_domain::flow::Refusal;
use bursar_domain::state::{RunState, TaskState, WaitCause};

use crate::support::eventually;
use crate::support::hand::DIAMOND;
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, Queues, World};

on_both_stores!(World::on:
    a_paused_mission_begins_nothing_until_it_is_resumed,
    a_step_given_back_while_its_mission_is_paused_waits,
    a_resume_that_stopped_half_way_is_finished_by_the_sweep,
    a_paused_mission_expires_and_is_cancelled,
    a_mission_that_is_over_is_not_paused,
);

async fn a_paused_mission_begins_nothing_until_it_is_resumed(mut world: World) {
    let workflow = world.put(DIAMOND).await;
    world.process.drain(PATIENCE).await;
    let mission = world.submit(workflow.id).await;
    assert!(world.mission(mission).await.held_ucr.is_positive());
    world.engine().pause(mission, Some("the weather")).await.unwrap();
    let paused = world.mission(mission).await;
    assert_eq!((paused.state, paused.status_reason.as_deref()), (RunState::Paused, Some("the weather")));
    assert_eq!((paused.held_ucr.get(), world.task(mission, "a").await.wait), (0, Some(WaitCause::Paused)));
    world.process.work(4);
    // another mission of the same pool goes through, this one does not move
    let other = world.submit(workflow.id).await;
    assert_eq!(world.finished(other).await.state, RunState::Succeeded);
    let tasks = world.tasks(mission).await;
    assert!(tasks.iter().all(|task| task.attempt == 0), "{tasks:?}");
    world.balances().await;

    world.engine().resume(mission).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let events = world.store().events(mission, 0, 100).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds[..4], ["mission.created", "mission.paused", "task.waiting", "mission.resumed"]);
    world.balances().await;
}

const STEPS: &str = "{workflow: steps, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, \
                     nodes: {talk: {agent: a, prompt: 'hello [[simulate stall]]'}, then: {needs: [talk], transform: {x: 1}}}}";

async fn a_step_given_back_while_its_mission_is_paused_waits(mut world: World) {
    let mission = world.run(STEPS).await;
    world.task_when(mission, "talk", "running", |task| task.state == TaskState::Running).await;
    world.engine().pause(mission, None).await.unwrap();
    // the step is handed back, the only way in which a stalled one ends without its run
    world.process.drain(std::time::Duration::ZERO).await;
    let talk = world.task_when(mission, "talk", "parked", |task| task.state == TaskState::Waiting).await;
    assert_eq!(
        (talk.wait, world.mission(mission).await.held_ucr.get()),
        (Some(WaitCause::Paused), talk.held_ucr.get())
    );
    world.balances().await;
    world.process.work(4);
    world.engine().resume(mission).await.unwrap();
    world.task_when(mission, "talk", "running again", |task| task.attempt == 2).await;
    world.engine().cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    world.balances().await;
}

async fn a_resume_that_stopped_half_way_is_finished_by_the_sweep(world: World) {
    let nodes = "nap: {sleep: 300ms}, then: {needs: [nap], transform: 1}";
    let parked = world.run(&format!("{{workflow: parked, flat_fee: 0, nodes: {{{nodes}}}}}")).await;
    world.engine().pause(parked, None).await.unwrap();
    world.task_when(parked, "then", "parked", |task| task.wait == Some(WaitCause::Paused)).await;
    // what a resume leaves that is killed after its transaction
    let run = world.mission(parked).await.run_id;
    let now = world.engine().clock().now();
    let flip = "update runs set state = 'running' where id = $1";
    world.store().execute(flip, &[run.into()]).await.unwrap();
    let due = "update tasks set due_at = $2 where run_id = $1 and state = 'waiting' and wait = 'paused'";
    world.store().execute(due, &[run.into(), now.into()]).await.unwrap();
    assert_eq!(world.finished(parked).await.state, RunState::Succeeded);
    world.balances().await;
}

async fn a_paused_mission_expires_and_is_cancelled(world: World) {
    let late = world.run("{workflow: late, deadline: 1s, nodes: {nap: {sleep: 1h}}}").await;
    world.engine().pause(late, None).await.unwrap();
    assert_eq!(world.finished(late).await.state, RunState::Expired);

    let unwanted = world.run("{workflow: unwanted, flat_fee: 2, nodes: {nap: {sleep: 1h}}}").await;
    world.engine().pause(unwanted, None).await.unwrap();
    assert_eq!(world.mission(unwanted).await.held_ucr.get(), 2_000_000);
    world.engine().cancel(unwanted, None).await.unwrap();
    let over = world.finished(unwanted).await;
    assert_eq!((over.state, over.held_ucr.get()), (RunState::Cancelled, 0));
    world.balances().await;
}

async fn a_mission_that_is_over_is_not_paused(world: World) {
    let mission = world.run("{workflow: quick, nodes: {a: {transform: 1}}}").await;
    world.finished(mission).await;
    let is_refused = |answer| matches!(answer, Err(ControlError::Refused(Refusal::IllegalMove { .. })));
    assert!(is_refused(world.engine().pause(mission, None).await));
    assert!(is_refused(world.engine().resume(mission).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_reaches_the_workers_of_other_processes() {
    let mut world = World::new(crate::support::stores::Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let mut other = world.another_process().await;
    let missions = world.submit_many(world.put(DIAMOND).await.id, 20).await;
    for mission in &missions {
        world.engine().pause(*mission, None).await.unwrap();
    }
    world.process.work(4);
    other.work(4);
    let quick = world.run("{workflow: quick, nodes: {a: {transform: 1}}}").await;
    world.finished(quick).await;
    for mission in &missions {
        assert!(world.tasks(*mission).await.iter().all(|task| task.attempt == 0));
        other.engine.resume(*mission).await.unwrap();
    }
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
    }
    let sound = || async {
        world.balances().await;
        Some(())
    };
    eventually("the books agree", PATIENCE, sound).await;
    other.stop().await;
}
