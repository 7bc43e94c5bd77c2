//! Redis is forgetful, away, or back again: missions end all the same, and the queue is used again by itself.

use std::time::Duration;

use bursar_domain::id::MissionId;
use bursar_domain::state::RunState;

use crate::support::eventually;
use crate::support::hand::DIAMOND;
use crate::support::stores::Storage;
use crate::support::world::{PATIENCE, Queues, World};

/// Takes long enough to be in the middle of it, and has steps before and after.
const STEPS: &str = "
workflow: steps
flat_fee: 0
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  first: { transform: { x: 1 }, units: { step: 1 } }
  ask: { needs: [first], agent: a, prompt: '[[simulate delay_ms=100 tokens=3]]' }
  last: { needs: [ask], transform: { x: 1 }, units: { step: 1 } }
";

async fn busy(missions: usize) -> (World, Vec<MissionId>) {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let missions = world.submit_many(workflow.id, missions).await;
    world.process.work(8);
    (world, missions)
}

async fn done(world: &World) -> i64 {
    let rows = world.store().rows("select count(*) as n from tasks where state = 'succeeded'", &[]).await.unwrap();
    rows[0]["n"].as_i64().unwrap()
}

async fn until_done(world: &World, tasks: i64) {
    let look = || async { (done(world).await >= tasks).then_some(()) };
    eventually("some tasks are done", PATIENCE, look).await;
}

async fn all_succeed(world: &World, missions: &[MissionId]) {
    for mission in missions {
        let over = world.finished(*mission).await;
        assert_eq!(over.state, RunState::Succeeded);
        assert!(world.tasks(*mission).await.iter().all(|task| task.attempt == 1), "each task ran once");
    }
    world.balances().await;
}

/// Missions that are submitted now are named to the workers by the queue, not by the store.
async fn queue_serves_again(world: &World) {
    let workflow = world.put(DIAMOND).await;
    let served = || async {
        let (_, popped, polled) = world.engine().metrics().claim_sources();
        let missions = world.submit_many(workflow.id, 5).await;
        for mission in missions {
            world.finished(mission).await;
        }
        let (_, popped_now, polled_now) = world.engine().metrics().claim_sources();
        (popped_now > popped && polled_now == polled).then_some(())
    };
    eventually("the queue serves again", PATIENCE, served).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_in_the_middle_costs_no_work() {
    let (world, missions) = busy(100).await;
    until_done(&world, 40).await;
    let redis = world.redis.as_ref().unwrap();
    redis.flush().await;
    until_done(&world, 120).await;
    redis.flush().await;
    all_succeed(&world, &missions).await;
    queue_serves_again(&world).await;
    world.process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_dies_and_comes_back_costs_no_work() {
    let (mut world, missions) = busy(100).await;
    until_done(&world, 40).await;
    let mut redis = world.redis.take().unwrap();
    redis.kill();
    // the store serves meanwhile
    let before = done(&world).await;
    until_done(&world, before + 60).await;
    let (_, _, polled) = world.engine().metrics().claim_sources();
    assert!(polled > 0);
    redis.start_again().await;
    all_succeed(&world, &missions).await;
    queue_serves_again(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_never_comes_back_costs_only_time() {
    let (mut world, missions) = busy(30).await;
    world.redis.take().unwrap().kill();
    all_succeed(&world, &missions).await;
    let drained = world.process.drain(Duration::from_secs(5)).await;
    assert_eq!(drained.handed_back, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_ready_before_the_queue_started_is_found() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let workflow = world.put(DIAMOND).await;
    // nobody told this queue about them: it is a new one
    let missions = world.submit_many(workflow.id, 20).await;
    world.redis.as_ref().unwrap().flush().await;
    world.process.work(4);
    all_succeed(&world, &missions).await;
    let (claims, popped, polled) = world.engine().metrics().claim_sources();
    assert!(claims > 0 && popped > 0 && polled == 0, "the sweep told the queue: {claims} {popped} {polled}");
}
