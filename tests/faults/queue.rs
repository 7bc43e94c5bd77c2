//! Redis while 500 missions run: its memory is full, it hangs, it dies and comes back empty.

use std::time::{Duration, Instant};

use bursar_domain::state::RunState;

use super::ending;
use crate::support::eventually;
use crate::support::stores::Storage;
use crate::support::world::{PATIENCE, Queues, World};

const STEPS: &str = "
workflow: steps
flat_fee: 0
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  ask: { agent: a, prompt: '[[simulate delay_ms=60 tokens=3]]' }
  last: { needs: [ask], transform: { x: 1 }, units: { step: 1 } }
";

const MISSIONS: usize = 500;

async fn done(world: &World) -> i64 {
    let rows = world.store().rows("select count(*) as n from tasks where state = 'succeeded'", &[]).await.unwrap();
    rows[0]["n"].as_i64().unwrap()
}

/// Waits until so many more tasks are done; whether the store named some of them.
async fn go_on(world: &World, what: &str, tasks: i64) -> bool {
    let (_, _, polled) = world.engine().metrics().claim_sources();
    let aim = (done(world).await + tasks).min(2 * MISSIONS as i64);
    eventually(what, PATIENCE, async || (done(world).await >= aim).then_some(())).await;
    world.engine().metrics().claim_sources().2 > polled
}

/// Missions that are submitted now are named by the queue, and by nobody else.
async fn the_queue_serves_again(world: &World) {
    let workflow = world.put(STEPS).await;
    eventually("the queue serves again", PATIENCE, async || {
        let (_, popped, polled) = world.engine().metrics().claim_sources();
        let mission = world.submit(workflow.id).await;
        world.finished(mission).await;
        let (_, popped_now, polled_now) = world.engine().metrics().claim_sources();
        (popped_now > popped && polled_now == polled && world.engine().queue_takes()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_hangs_dies_and_returns_empty_costs_500_missions_only_time() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    let missions = world.submit_many(workflow.id, MISSIONS).await;
    world.process.work(16);
    go_on(&world, "it begins", 20).await;

    world.redis.as_ref().unwrap().signal("STOP");
    let stalled = Instant::now();
    assert!(go_on(&world, "the store serves while Redis hangs", 30).await, "the store served");
    println!("30 tasks in {:?} of a Redis that hangs", stalled.elapsed());
    world.redis.as_ref().unwrap().signal("CONT");

    world.redis.as_mut().unwrap().kill();
    assert!(go_on(&world, "the store serves while Redis is dead", 60).await, "the store served");
    world.redis.as_mut().unwrap().start_again().await;

    for mission in &missions {
        let over = world.finished(*mission).await;
        assert_eq!(over.state, RunState::Succeeded);
    }
    the_queue_serves_again(&world).await;
    ending::holds(world.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_answers_and_takes_nothing_because_its_memory_is_full_stops_nobody() {
    let mut world = World::new(Storage::Postgres, Queues::Redis).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    world.process.work(16);
    let mission = world.submit(workflow.id).await;
    world.finished(mission).await;
    // nothing is queued, so that only what is refused could tell the workers
    world.redis.as_ref().unwrap().limit_memory(1).await;
    let began = Instant::now();
    let missions = world.submit_many(workflow.id, MISSIONS).await;
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
    }
    println!("{MISSIONS} missions in {:?} of a full Redis", began.elapsed());
    let (_, _, polled) = world.engine().metrics().claim_sources();
    assert!(polled >= MISSIONS as u64, "the store named {polled}");
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    world.redis.as_ref().unwrap().limit_memory(0).await;
    the_queue_serves_again(&world).await;
    ending::holds(world.store()).await;
}
