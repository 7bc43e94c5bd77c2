//! The same wish twice, from many sides at once: one key has one mission.

use std::collections::BTreeMap;

use bursar::engine::{SubmitError, Submitted};
use bursar_domain::flow::{Dedupe, DedupeMode, Refusal};
use bursar_domain::id::MissionId;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::support::hand::SINGLE;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Process, Queues, World};

on_both_stores!(idle:
    racing_submits_with_one_key_make_one_mission,
    a_key_is_free_again_when_its_mission_is_over_and_its_window_has_passed,
);

/// A world that nobody works in: missions stay as they are until the test says otherwise.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// The mission that an answer speaks of, and whether it is a new one.
fn mission_of(answer: Result<Submitted, SubmitError>) -> (MissionId, bool) {
    match answer {
        Ok(made) => (made.mission_id, !made.duplicate),
        Err(SubmitError::Refused(Refusal::Duplicate { mission_id, .. })) => (mission_id, false),
        Err(error) => panic!("{error}"),
    }
}

/// Submitters, each with a key, a mode and a process that it asks.
fn crowd() -> impl Strategy<Value = Vec<(u8, bool, bool)>> {
    proptest::collection::vec((0..4_u8, proptest::bool::ANY, proptest::bool::ANY), 2..60)
}

async fn racing_submits_with_one_key_make_one_mission(world: World) {
    let workflow = world.put(SINGLE).await;
    let is_shared = world.store().dialect() == bursar::store::Dialect::Postgres;
    let other: Option<Process> = if is_shared { Some(world.another_process().await) } else { None };
    let mut runner = TestRunner::deterministic();
    for round in 0..12 {
        let crowd = crowd().new_tree(&mut runner).unwrap().current();
        let submits = crowd.iter().map(|(key, returns, asks_other)| {
            let mut submission = world.submission(workflow.id, json!({}));
            let mode = if *returns { DedupeMode::ReturnExisting } else { DedupeMode::Reject };
            submission.dedupe = Some(Dedupe { key: format!("{round}-{key}"), window_ms: 0, mode });
            let process = other.as_ref().filter(|_| *asks_other).unwrap_or(&world.process);
            let engine = process.engine.clone();
            async move { (*key, *returns, engine.submit(submission).await) }
        });
        let mut holders: BTreeMap<u8, Vec<(MissionId, bool)>> = BTreeMap::new();
        for (key, returns, answer) in futures::future::join_all(submits).await {
            let is_refused = matches!(&answer, Err(SubmitError::Refused(_)));
            assert!(!(returns && is_refused), "who asks for the existing one is not refused: {crowd:?}");
            holders.entry(key).or_default().push(mission_of(answer));
        }
        for (key, answers) in holders {
            let mission = answers[0].0;
            assert!(answers.iter().all(|(id, _)| *id == mission), "{key}: {answers:?} of {crowd:?}");
            assert_eq!(answers.iter().filter(|(_, is_new)| *is_new).count(), 1, "{key}: {crowd:?}");
        }
    }
    let rows = world.store().rows("select count(*) as n from missions", &[]).await.unwrap();
    let keys = world.store().rows("select count(*) as n from dedupe_keys", &[]).await.unwrap();
    assert_eq!(rows[0]["n"], keys[0]["n"], "each key has one mission, each mission its key");
    world.balances().await;
}

async fn a_key_is_free_again_when_its_mission_is_over_and_its_window_has_passed(world: World) {
    let workflow = world.put(SINGLE).await;
    let submit = |window_ms: i64| {
        let mut submission = world.submission(workflow.id, json!({}));
        submission.dedupe = Some(Dedupe { key: "k".to_owned(), window_ms, mode: DedupeMode::ReturnExisting });
        world.try_submit(submission)
    };
    let (first, _) = mission_of(submit(0).await);
    assert_eq!(mission_of(submit(0).await), (first, false), "it runs");
    world.engine().cancel(first, None).await.unwrap();
    world.finished(first).await;
    let (second, is_new) = mission_of(submit(3_600_000).await);
    assert!(is_new && second != first);
    world.engine().cancel(second, None).await.unwrap();
    world.finished(second).await;
    assert_eq!(mission_of(submit(0).await), (second, false), "its window is open");
    let passed = "update dedupe_keys set taken_until = 1";
    world.store().execute(passed, &[]).await.unwrap();
    assert!(mission_of(submit(0).await).1);
}
