//! What is said of tasks that do not run: the cause, the place in line, and who stands before.

use bursar::engine::Waiting;
use bursar_domain::flow::Submission;
use bursar_domain::id::MissionId;
use bursar_domain::state::TaskState;
use bursar_domain::waiting::Cause;
use serde_json::json;

use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Queues, World};

on_both_stores!(idle:
    a_ready_task_knows_its_place_and_that_nobody_listens,
    workers_that_drain_do_not_listen,
    a_task_names_the_needs_that_are_not_over,
    those_without_credits_stand_in_the_wallets_line,
    a_paused_mission_says_so_for_what_could_begin,
    what_waits_for_the_same_is_told_together,
);

/// A world with few credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(10).await;
    world
}

const TWO: &str = "
workflow: two
flat_fee: 0
nodes:
  first: { transform: 1 }
  other: { sleep: 1h }
  second: { needs: [first, other], transform: 2 }
";

async fn why(world: &World, mission: MissionId, node: &str) -> Option<Waiting> {
    let (view, task) = (world.mission(mission).await, world.task(mission, node).await);
    world.engine().why(view.state, &task).await.unwrap()
}

async fn a_ready_task_knows_its_place_and_that_nobody_listens(mut world: World) {
    let workflow = world.put(TWO).await;
    let (first, second) = (world.submit(workflow.id).await, world.submit(workflow.id).await);
    let urgent = Submission { priority: 7, ..world.submission(workflow.id, json!({})) };
    let urgent = world.try_submit(urgent).await.unwrap().mission_id;
    let mut places = Vec::new();
    for mission in [urgent, first, second] {
        let waiting = why(&world, mission, "first").await.unwrap();
        assert_eq!(waiting.cause, Cause::NoWorker, "{waiting:?}");
        places.push((waiting.position, waiting.ahead));
    }
    assert_eq!(places, [(Some(1), Some(0)), (Some(2), Some(1)), (Some(3), Some(2))]);
    let waiting = why(&world, second, "first").await.unwrap();
    let words = "ready, and no worker listens to pool `default`; place 3 among your 3 ready tasks of pool `default`";
    assert_eq!(waiting.reason, words);

    world.process.work(8);
    world.task_when(second, "first", "over", |task| task.state.is_final()).await;
    assert_eq!(why(&world, second, "first").await, None, "what is over waits for nothing");
}

async fn workers_that_drain_do_not_listen(world: World) {
    let mission = world.run(TWO).await;
    let now = world.engine().clock().now();
    let row = |draining, seen_at| bursar::store::WorkerRow {
        id: bursar::clock::new_id(),
        host: "box".to_owned(),
        pid: 1,
        pools: json!({"default": 2}),
        running: 0,
        version: "0".to_owned(),
        draining,
        started_at: now,
        seen_at,
    };
    world.store().note_worker(&row(false, now.plus_ms(-60_000))).await.unwrap();
    assert_eq!(why(&world, mission, "first").await.unwrap().cause, Cause::NoWorker, "a silent one does not listen");
    world.store().note_worker(&row(true, now)).await.unwrap();
    let waiting = why(&world, mission, "first").await.unwrap();
    assert!(waiting.cause == Cause::NoWorker && waiting.reason.contains("draining"), "{waiting:?}");
    world.store().note_worker(&row(false, now)).await.unwrap();
    let waiting = why(&world, mission, "first").await.unwrap();
    assert_eq!(waiting.cause, Cause::Worker);
    assert_eq!(waiting.reason, "place 1 among your 1 ready tasks of pool `default`; 0 of 2 slots are busy");
}

async fn a_task_names_the_needs_that_are_not_over(world: World) {
    let mission = world.run(TWO).await;
    let waiting = why(&world, mission, "second").await.unwrap();
    assert_eq!(waiting.cause, Cause::Needs);
    assert_eq!((waiting.reason.as_str(), waiting.blockers), ("needs `first` (ready), `other` (waiting)", 2));
    let nodes: Vec<_> = waiting.blocked_by.iter().map(|by| (by.node.as_str(), by.state)).collect();
    assert_eq!(nodes, [("first", TaskState::Ready), ("other", TaskState::Waiting)]);
    let sleeping = why(&world, mission, "other").await.unwrap();
    assert!(sleeping.cause == Cause::Timer && sleeping.until.is_some(), "{sleeping:?}");
}

/// A first node that is free, a second that costs 900 credits.
const DEAR: &str = "{workflow: dear, flat_fee: 0, nodes: {a: {sleep: 1ms}, \
                    b: {needs: [a], transform: {x: 1}, units: {tool_call: 90000}}}}";

async fn those_without_credits_stand_in_the_wallets_line(world: World) {
    let workflow = world.put(DEAR).await;
    let mut places = Vec::new();
    for expected in 1..=2 {
        let mission = world.submit(workflow.id).await;
        world.task_when(mission, "b", "waiting", |task| task.state == TaskState::Waiting).await;
        let waiting = why(&world, mission, "b").await.unwrap();
        assert_eq!(waiting.cause, Cause::Credits, "{waiting:?}");
        let words = format!("; place {expected} among the {expected} tasks of its wallet that wait for credits; ");
        assert!(waiting.reason.contains("900") && waiting.reason.contains(&words), "{waiting:?}");
        assert!(waiting.reason.ends_with("10.000000 credits are available now"), "{waiting:?}");
        places.push(waiting.position);
    }
    assert_eq!(places, [Some(1), Some(2)]);
}

async fn a_paused_mission_says_so_for_what_could_begin(world: World) {
    let mission = world.run(TWO).await;
    world.engine().pause(mission, None).await.unwrap();
    assert_eq!(why(&world, mission, "first").await.unwrap().cause, Cause::Paused);
    assert_eq!(why(&world, mission, "second").await.unwrap().cause, Cause::Needs);
    assert_eq!(why(&world, mission, "other").await.unwrap().cause, Cause::Timer);
}

async fn what_waits_for_the_same_is_told_together(world: World) {
    let many = world
        .run(
            "
workflow: many
flat_fee: 0
nodes:
  a: { transform: 1 }
  b: { transform: 1 }
  c: { transform: 1 }
  end: { needs: [a, b, c], transform: 2 }
",
        )
        .await;
    let why = world.engine().why_mission(&world.mission(many).await).await.unwrap();
    let groups: Vec<_> = why.groups.iter().map(|group| (group.waiting.cause, group.tasks)).collect();
    assert_eq!((why.running, groups), (0, vec![(Cause::NoWorker, 3), (Cause::Needs, 1)]));
    assert_eq!(why.groups[1].waiting.blockers, 3);
}
