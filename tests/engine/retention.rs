//! What is over and old is pruned, in stages; what runs is not; and the auditor stays content.

use bursar::engine::{Retention, SignalWish};
use bursar::store::Store;
use bursar_domain::id::MissionId;
use bursar_domain::record::{PRUNED_DETAILS, PRUNED_MISSION, PRUNED_OUTPUTS};
use bursar_domain::state::RunState;
use serde_json::{Value, json};

use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    what_is_over_is_pruned_in_stages_and_the_ledger_stays_whole,
    what_runs_is_left_whole_however_many_prune,
    a_free_dedupe_key_is_forgotten,
    signals_go_with_their_mission_and_no_others,
);

const LONG: i64 = 86_400_000;
/// What is over is pruned at once, as far as its stage.
const DETAILS: Retention = Retention { details_ms: 0, outputs_ms: LONG, missions_ms: LONG };
const OUTPUTS: Retention = Retention { outputs_ms: 0, ..DETAILS };
const MISSIONS: Retention = Retention { missions_ms: 0, ..OUTPUTS };

/// Calls that are billed, one that fails first, a branch that fails for good where that does not matter.
const WORK: &str = "
workflow: work
flat_fee: 1
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 30 } }
nodes:
  ask: { agent: a, prompt: 'SECRET {{ inputs.how }}', retry: { max_attempts: 2, backoff: { initial: 1ms } } }
  bad: { agent: a, prompt: '[[simulate fail=permanent]]', on_error: skip }
  end: { needs: [ask, bad], transform: { said: '{{ nodes.ask.output }}' }, units: { step: 1 } }
outputs: { said: nodes.end.output.said }
";

async fn count(store: &dyn Store, sql: &str) -> i64 {
    store.rows(&format!("select count(*) as n from {sql}"), &[]).await.unwrap()[0]["n"].as_i64().unwrap()
}

async fn audited(world: &World) {
    let report = bursar::verify::verify(world.store()).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
}

/// A mission that succeeded after a retry, and one that failed.
async fn over(world: &World) -> (MissionId, MissionId) {
    let workflow = world.put(WORK).await;
    let input = |how: &str| json!({"how": how});
    let good = world.submit_with(workflow.id, input("[[simulate fail=retryable times=1 tokens=5]]")).await;
    let bad = world.submit_with(workflow.id, input("[[simulate fail=permanent after_tokens=3]]")).await;
    let (done, failed) = (world.finished(good).await, world.finished(bad).await);
    assert_eq!(done.state, RunState::Succeeded, "{:?}", done.error);
    assert_eq!(failed.state, RunState::Failed);
    (good, bad)
}

async fn what_is_over_is_pruned_in_stages_and_the_ledger_stays_whole(world: World) {
    let (good, bad) = over(&world).await;
    let store = world.store();
    let before = world.mission(good).await;
    let money = "select sum(spent_ucr) as spent from missions";
    let spent = store.rows(money, &[]).await.unwrap();
    audited(&world).await;

    assert_eq!(world.engine().prune(&Retention { details_ms: LONG, ..DETAILS }).await.unwrap(), 0, "they are young");
    assert_eq!(world.engine().prune(&DETAILS).await.unwrap(), 2);
    assert_eq!(count(&**store, "events").await + count(&**store, "attempts").await, 0);
    assert_eq!(count(&**store, "usage_calls where response is not null").await, 0);
    assert!(count(&**store, "usage_calls where billable").await > 0, "what was used is kept");
    let after = world.mission(good).await;
    assert_eq!((after.pruned, after.pruned_seq, after.last_seq), (PRUNED_DETAILS, before.last_seq, before.last_seq));
    assert!(world.task(good, "end").await.output.is_some());
    audited(&world).await;

    assert_eq!(world.engine().prune(&OUTPUTS).await.unwrap(), 2);
    assert_eq!((world.mission(good).await.pruned, world.task(good, "end").await.output), (PRUNED_OUTPUTS, None));
    assert_eq!(world.mission(bad).await.error.unwrap()["node"], "ask");
    audited(&world).await;

    assert_eq!(world.engine().prune(&MISSIONS).await.unwrap(), 2);
    let left = world.mission(good).await;
    assert_eq!((left.pruned, left.input, left.metadata), (PRUNED_MISSION, Some(json!({})), None));
    assert_eq!((left.spent_ucr, left.state), (before.spent_ucr, RunState::Succeeded));
    let listed = store.missions(&bursar::store::read::MissionFilter { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!(listed, []);
    assert_eq!(world.engine().prune(&MISSIONS).await.unwrap(), 0, "there is nothing more to prune");
    assert_eq!(store.rows(money, &[]).await.unwrap(), spent);
    audited(&world).await;
    let all: Vec<Value> = store.rows("select * from tasks", &[]).await.unwrap();
    assert!(!json!(all).to_string().contains("SECRET"));
}

async fn what_runs_is_left_whole_however_many_prune(world: World) {
    let (good, _) = over(&world).await;
    let workflow = world.put(WORK).await;
    let live = world.submit_with(workflow.id, json!({"how": "[[simulate stall after_tokens=2]]"})).await;
    world.task_when(live, "bad", "over", |task| task.ended_at.is_some()).await;
    let prunes = (0..4).map(|_| world.engine().prune(&MISSIONS));
    for pruned in futures::future::join_all(prunes).await {
        // a deadlock of two that prune the same is left to the next pass
        drop(pruned);
    }
    world.engine().prune(&MISSIONS).await.unwrap();
    assert_eq!(world.mission(good).await.pruned, PRUNED_MISSION);
    let mission = world.mission(live).await;
    assert_eq!((mission.pruned, mission.pruned_seq), (0, 0));
    assert_eq!(mission.input, Some(json!({"how": "[[simulate stall after_tokens=2]]"})));
    let events = world.store().events(live, 0, 100).await.unwrap();
    assert_eq!(events.len() as i64, mission.last_seq);
    audited(&world).await;
    world.engine().cancel(live, None).await.unwrap();
    world.finished(live).await;
    audited(&world).await;
}

async fn a_free_dedupe_key_is_forgotten(world: World) {
    use bursar_domain::flow::{Dedupe, DedupeMode};
    let workflow = world.put(WORK).await;
    let submit = |key: &str, window_ms: i64, how: &str| {
        let mut submission = world.submission(workflow.id, json!({"how": how}));
        submission.dedupe = Some(Dedupe { key: key.to_owned(), window_ms, mode: DedupeMode::Reject });
        world.try_submit(submission)
    };
    let over = submit("over", 0, "[[simulate tokens=1]]").await.unwrap().mission_id;
    world.finished(submit("open", LONG, "[[simulate tokens=1]]").await.unwrap().mission_id).await;
    let live = submit("live", 0, "[[simulate stall]]").await.unwrap().mission_id;
    world.finished(over).await;
    world.engine().prune(&Retention { details_ms: LONG, ..DETAILS }).await.unwrap();
    let keys = world.store().rows("select key from dedupe_keys order by key", &[]).await.unwrap();
    assert_eq!(json!(keys), json!([{"key": "live"}, {"key": "open"}]));
    world.engine().cancel(live, None).await.unwrap();
}

async fn signals_go_with_their_mission_and_no_others(world: World) {
    let workflow = world
        .put("{workflow: told, flat_fee: 0, nodes: {a: {signal: {name: s}}, b: {needs: [a], signal: {name: t}}}}")
        .await;
    let [over, live] = [world.submit(workflow.id).await, world.submit(workflow.id).await];
    let send = async |mission_id: MissionId, name: &str| {
        let (name, request_hash) = (name.to_owned(), "hash".to_owned());
        let wish = SignalWish { mission_id, name, key: None, request_hash, payload: json!("SECRET") };
        world.engine().receive_signal(&wish).await.unwrap();
    };
    // two that are taken, one that comes too early
    for (mission, name) in [(live, "t"), (over, "t"), (over, "s")] {
        send(mission, name).await;
    }
    world.finished(over).await;
    world.engine().prune(&OUTPUTS).await.unwrap();
    assert_eq!(count(&**world.store(), "signals").await, 3, "they are kept as long as the mission");
    world.engine().prune(&MISSIONS).await.unwrap();
    let left = world.store().rows("select mission_id from signals", &[]).await.unwrap();
    assert_eq!(json!(left), json!([{"mission_id": live}]));
    world.engine().cancel(live, None).await.unwrap();
}
