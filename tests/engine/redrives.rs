//! Dead letters that are tried again in bulk, on both stores: each once, at its pace, whoever works on it and dies.

use std::collections::BTreeMap;

use bursar::clock::new_id;
use bursar::engine::{Engine, RedriveError, RedriveOrder, Retention};
use bursar::store::{BulkAction, BulkCount, BulkFigures, BulkOutcome, BulkScope, BulkState};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Order;
use bursar_domain::id::{KeyId, MissionId};
use bursar_domain::state::RunState;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::eventually;
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, World};

on_both_stores!(World::on:
    a_redrive_tries_each_mission_again_once_at_its_pace,
    many_processes_share_a_redrive_and_none_is_tried_twice,
    what_was_retried_before_a_crash_is_noted_and_not_retried_again,
    whoever_dies_in_a_second_is_given_up_after_his_lease,
    a_mission_that_nobody_can_pay_is_refused_by_name_and_not_tried_for_ever,
    what_somebody_had_go_on_is_counted_as_such,
    an_aborted_redrive_leaves_the_rest_alone,
    a_rehearsal_tells_what_would_happen_and_changes_nothing,
    the_same_order_makes_one_redrive,
    a_mission_that_came_too_late_is_a_dead_letter,
    an_old_redrive_is_forgotten_and_one_that_runs_is_not,
);

/// Fails for good in its first attempt and succeeds in its second.
const SHAKY: &str = "{workflow: shaky, flat_fee: 1, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 60}}, \
    nodes: {bad: {agent: a, retry: {max_attempts: 1}, prompt: 'go on [[simulate fail=permanent times=1 tokens=5]]'}, \
            last: {needs: [bad], transform: {done: 1}}}}";

/// Fails for good whenever it is tried.
const BROKEN: &str = "{workflow: broken, flat_fee: 1, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 60}}, \
    nodes: {bad: {agent: a, retry: {max_attempts: 1}, prompt: 'go on [[simulate fail=permanent]]'}}}";

/// So many missions that failed; the fingerprint of their failure.
async fn dead(world: &World, text: &str, count: usize) -> (Vec<MissionId>, String) {
    let workflow = world.put(text).await;
    let mut missions = world.submit_many(workflow.id, count).await;
    missions.sort_unstable();
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Failed);
    }
    let groups = world.store().dead_letters(Some(world.tenant), None, 10).await.unwrap();
    let group = groups.iter().find(|group| missions.contains(&group.sample_id)).expect("they are dead letters");
    assert_eq!(group.missions, count as i64);
    (missions, group.fingerprint.clone())
}

fn order(world: &World, fingerprint: &str, per_second: i64) -> RedriveOrder {
    RedriveOrder {
        owner_id: world.tenant,
        actor: new_id::<bursar_domain::id::KeyKind>(),
        tenant_id: Some(world.tenant),
        fingerprint: fingerprint.to_owned(),
        per_second,
        limit: 10_000,
        idempotency_key: None,
    }
}

async fn ordered(world: &World, fingerprint: &str, per_second: i64) -> BulkAction {
    world.engine().order_redrive(&order(world, fingerprint, per_second)).await.unwrap().0
}

async fn action(world: &World, seen: &BulkAction) -> BulkAction {
    world.store().bulk_action(BulkScope::All, seen.id).await.unwrap().expect("it is there")
}

async fn counts(world: &World, seen: &BulkAction) -> Vec<BulkCount> {
    world.store().bulk_counts(&[seen.id]).await.unwrap()
}

async fn figures(world: &World, seen: &BulkAction) -> (i64, i64, i64, i64) {
    let BulkFigures { done, retried, refused, failed } = BulkFigures::of(seen.id, &counts(world, seen).await);
    (done, retried, refused, failed)
}

/// Looks as a process does, until the action is over.
async fn work(engine: &Engine, world: &World, seen: &BulkAction) -> BulkAction {
    let stop = CancellationToken::new();
    eventually("the redrive is over", PATIENCE, async || {
        engine.redrive_due(&stop).await.unwrap();
        Some(action(world, seen).await).filter(|action| action.state != BulkState::Running)
    })
    .await
}

/// How often each was retried, by its own log.
async fn retries(world: &World, missions: &[MissionId]) -> BTreeMap<usize, usize> {
    let mut times = BTreeMap::new();
    for mission in missions {
        let events = world.store().events(*mission, 0, 1_000).await.unwrap();
        let retried = events.iter().filter(|event| event.kind == "mission.retried").count();
        *times.entry(retried).or_default() += 1;
    }
    times
}

async fn audited(world: &World) {
    world.balances().await;
    let report = bursar::verify::verify(world.store()).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
}

async fn a_redrive_tries_each_mission_again_once_at_its_pace(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 7).await;
    let made = ordered(&world, &fingerprint, 3).await;
    assert_eq!((made.state, made.total, made.step), (BulkState::Running, 7, 0));
    let over = work(world.engine(), &world, &made).await;
    assert_eq!((over.state, over.next_at, over.step), (BulkState::Done, None, 3), "3, 3 and 1 in three seconds");
    let took_ms = over.ended_at.unwrap().since_ms(over.created_at);
    assert!(took_ms >= 2_000, "{took_ms} ms for three seconds' missions");
    assert_eq!(figures(&world, &made).await, (7, 7, 0, 0));
    for mission in &missions {
        let mission = world.finished(*mission).await;
        assert_eq!((mission.state, mission.retries), (RunState::Succeeded, 1));
    }
    assert_eq!(world.store().dead_letters(None, None, 10).await.unwrap(), []);
    audited(&world).await;
}

async fn many_processes_share_a_redrive_and_none_is_tried_twice(world: World) {
    let (missions, fingerprint) = dead(&world, BROKEN, 12).await;
    let others = [world.another_process().await, world.another_process().await];
    let made = ordered(&world, &fingerprint, 5).await;
    let [second, third] = &others;
    let works = [world.engine(), &second.engine, &third.engine].map(|engine| work(engine, &world, &made));
    for over in futures::future::join_all(works).await {
        assert_eq!((over.state, over.step), (BulkState::Done, 3), "each second was taken once");
    }
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Failed);
    }
    assert_eq!(figures(&world, &made).await, (12, 12, 0, 0));
    assert_eq!(retries(&world, &missions).await, BTreeMap::from([(1, 12)]), "they failed again, and were let be");
    audited(&world).await;
}

async fn what_was_retried_before_a_crash_is_noted_and_not_retried_again(world: World) {
    let (missions, fingerprint) = dead(&world, BROKEN, 3).await;
    let made = ordered(&world, &fingerprint, 100).await;
    // what a process leaves that dies between the retry and its note
    let order = Order { key: format!("bulk:{}", made.id), hash: bursar::digest::sha256_hex(&made.id.to_string()) };
    world.engine().retry(missions[1], Some(&order)).await.unwrap();
    assert_eq!(world.finished(missions[1]).await.state, RunState::Failed, "it even failed again by now");
    assert_eq!(figures(&world, &made).await, (0, 0, 0, 0));
    assert_eq!(work(world.engine(), &world, &made).await.state, BulkState::Done);
    assert_eq!(figures(&world, &made).await, (3, 3, 0, 0));
    for mission in &missions {
        world.finished(*mission).await;
    }
    assert_eq!(retries(&world, &missions).await, BTreeMap::from([(1, 3)]));
    audited(&world).await;
}

async fn whoever_dies_in_a_second_is_given_up_after_his_lease(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 2).await;
    let made = ordered(&world, &fingerprint, 100).await;
    let (store, now) = (world.store(), world.engine().clock().now());
    assert!(store.take_bulk_step(&made, now.plus_ms(2_000)).await.unwrap());
    assert!(!store.take_bulk_step(&made, now.plus_ms(2_000)).await.unwrap(), "a second is taken once");
    let stop = CancellationToken::new();
    world.engine().redrive_due(&stop).await.unwrap();
    assert_eq!(figures(&world, &made).await, (0, 0, 0, 0), "somebody works on it");
    let over = work(world.engine(), &world, &made).await;
    assert_eq!((over.state, over.step), (BulkState::Done, 2));
    assert!(over.ended_at.unwrap().since_ms(now) >= 2_000);
    assert_eq!(retries(&world, &missions).await, BTreeMap::from([(1, 2)]));
}

async fn a_mission_that_nobody_can_pay_is_refused_by_name_and_not_tried_for_ever(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 3).await;
    let wallet = world.store().wallet(None, world.wallet, world.engine().clock().now()).await.unwrap().unwrap();
    let shown = world.engine().preview_retry(missions[0]).await.unwrap();
    // enough is left for one of them, while none of them ends
    let spare = shown.plan.hold_needed.get() * 3 / 2;
    let fee = Ucr::new(wallet.available_ucr.get() - spare);
    let hungry = world.run(&format!("{{workflow: hungry, flat_fee: '{fee}', nodes: {{nap: {{sleep: 1h}}}}}}")).await;
    let rehearsal = world.engine().rehearse_redrive(&order(&world, &fingerprint, 5), 10).await.unwrap();
    let told: Vec<Option<&str>> =
        rehearsal.missions.iter().map(|one| one.hindrance.as_ref().map(|why| why.code.as_str())).collect();
    assert_eq!(told, [None, Some("insufficient-credits"), Some("insufficient-credits")], "each after those before it");

    // now nothing is left
    let fee = Ucr::new(spare);
    let other = world.run(&format!("{{workflow: hungrier, flat_fee: '{fee}', nodes: {{nap: {{sleep: 1h}}}}}}")).await;
    let made = ordered(&world, &fingerprint, 100).await;
    assert_eq!(work(world.engine(), &world, &made).await.state, BulkState::Done);
    assert_eq!(figures(&world, &made).await, (3, 0, 3, 0));
    let counts = counts(&world, &made).await;
    let told: Vec<_> = counts.iter().map(|count| (count.outcome, count.reason.as_deref(), count.missions)).collect();
    assert_eq!(told, [(BulkOutcome::Refused, Some("insufficient-credits"), 3)]);
    assert_eq!((counts[0].sample_id, retries(&world, &missions).await), (missions[0], BTreeMap::from([(0, 3)])));
    for mission in [hungry, other] {
        world.engine().cancel(mission, None).await.unwrap();
    }
    // they are dead letters still, for another redrive
    let made = ordered(&world, &fingerprint, 100).await;
    assert_eq!(work(world.engine(), &world, &made).await.total, 3);
    assert_eq!(figures(&world, &made).await, (3, 3, 0, 0));
    audited(&world).await;
}

async fn what_somebody_had_go_on_is_counted_as_such(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 2).await;
    let made = ordered(&world, &fingerprint, 100).await;
    world.engine().retry(missions[0], None).await.unwrap();
    assert_eq!(world.finished(missions[0]).await.state, RunState::Succeeded);
    work(world.engine(), &world, &made).await;
    assert_eq!(figures(&world, &made).await, (2, 1, 1, 0));
    let counts = counts(&world, &made).await;
    let refused = counts.iter().find(|count| count.outcome == BulkOutcome::Refused).unwrap();
    assert_eq!((refused.reason.as_deref(), refused.sample_id), (Some("no-longer-dead"), missions[0]));
    assert_eq!(retries(&world, &missions).await, BTreeMap::from([(1, 2)]));
}

async fn an_aborted_redrive_leaves_the_rest_alone(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 4).await;
    let made = ordered(&world, &fingerprint, 1).await;
    let stop = CancellationToken::new();
    world.engine().redrive_due(&stop).await.unwrap();
    assert_eq!(figures(&world, &made).await, (1, 1, 0, 0));
    assert!(world.engine().abort_bulk_action(made.id).await.unwrap());
    assert!(!world.engine().abort_bulk_action(made.id).await.unwrap(), "once is enough");
    assert_eq!(work(world.engine(), &world, &made).await.state, BulkState::Aborted);
    assert_eq!(figures(&world, &made).await, (1, 1, 0, 0));
    assert_eq!(retries(&world, &missions).await, BTreeMap::from([(0, 3), (1, 1)]));
    assert_eq!(world.finished(missions[0]).await.state, RunState::Succeeded, "the oldest went first, and goes on");
}

async fn a_rehearsal_tells_what_would_happen_and_changes_nothing(world: World) {
    let (missions, fingerprint) = dead(&world, SHAKY, 3).await;
    let before = [world.mission(missions[0]).await, world.mission(missions[2]).await];
    let shown = world.engine().preview_retry(missions[0]).await.unwrap();
    let order = RedriveOrder { limit: 2, ..order(&world, &fingerprint, 5) };
    let rehearsal = world.engine().rehearse_redrive(&order, 1).await.unwrap();
    assert_eq!((rehearsal.total, rehearsal.missions.len()), (2, 1));
    let one = &rehearsal.missions[0];
    assert_eq!((one.mission_id, one.tenant_id, one.plan.as_ref()), (missions[0], world.tenant, Some(&shown.plan)));
    assert_eq!((one.hindrance.as_ref(), shown.plan.nodes.len()), (None, 2));
    assert_eq!([world.mission(missions[0]).await, world.mission(missions[2]).await], before);
    assert_eq!(world.store().bulk_actions(BulkScope::All, None, None, 10).await.unwrap(), []);
    let nobody = RedriveOrder { fingerprint: "0123456789abcdef".to_owned(), ..order.clone() };
    assert!(matches!(world.engine().rehearse_redrive(&nobody, 1).await, Err(RedriveError::NoGroup)));
    let stranger = RedriveOrder { tenant_id: Some(new_id()), ..order };
    assert!(matches!(world.engine().order_redrive(&stranger).await, Err(RedriveError::NoGroup)), "they are not his");
}

async fn the_same_order_makes_one_redrive(world: World) {
    let (_, fingerprint) = dead(&world, SHAKY, 1).await;
    let wish = RedriveOrder { idempotency_key: Some("once".to_owned()), ..order(&world, &fingerprint, 5) };
    let all = futures::future::join_all((0..6).map(|_| world.engine().order_redrive(&wish))).await;
    let mut ids = Vec::new();
    let mut made = 0;
    for answer in all {
        let (action, is_replay) = answer.unwrap();
        ids.push(action.id);
        made += usize::from(!is_replay);
    }
    ids.dedup();
    assert_eq!((ids.len(), made), (1, 1));
    let other = RedriveOrder { per_second: 6, ..wish.clone() };
    assert!(matches!(world.engine().order_redrive(&other).await, Err(RedriveError::KeyReused)));
    let elsewhere = RedriveOrder { owner_id: new_id(), actor: new_id::<bursar_domain::id::KeyKind>(), ..other };
    let (_, is_replay): (BulkAction, bool) = world.engine().order_redrive(&elsewhere).await.unwrap();
    assert!(!is_replay, "another tenant's keys are its own");
    let _: KeyId = elsewhere.actor;
}

async fn a_mission_that_came_too_late_is_a_dead_letter(world: World) {
    let text = "{workflow: slow, flat_fee: 1, deadline: 300ms, nodes: {nap: {sleep: 1h}}}";
    let mission = world.run(text).await;
    assert_eq!(world.finished(mission).await.state, RunState::Expired);
    let groups = world.store().dead_letters(Some(world.tenant), None, 10).await.unwrap();
    assert_eq!((groups.len(), groups[0].sample_id, groups[0].missions), (1, mission, 1));
    let fingerprint = &groups[0].fingerprint;
    let page = world.store().dead_missions(Some(world.tenant), fingerprint, None, 10).await.unwrap();
    assert_eq!((page.len(), page[0].id), (1, mission));
    let made = ordered(&world, fingerprint, 5).await;
    work(world.engine(), &world, &made).await;
    assert_eq!(figures(&world, &made).await, (1, 1, 0, 0));
    assert_eq!(world.finished(mission).await.retries, 1);
}

async fn an_old_redrive_is_forgotten_and_one_that_runs_is_not(world: World) {
    let (_, fingerprint) = dead(&world, BROKEN, 2).await;
    let over = ordered(&world, &fingerprint, 1).await;
    world.engine().abort_bulk_action(over.id).await.unwrap();
    let live = ordered(&world, &fingerprint, 1).await;
    let long = 86_400_000;
    let kept = Retention { details_ms: long, outputs_ms: long, missions_ms: long };
    world.engine().prune(&kept).await.unwrap();
    assert_eq!(world.store().bulk_actions(BulkScope::All, None, None, 10).await.unwrap().len(), 2, "they are young");
    world.engine().prune(&Retention { details_ms: 0, ..kept }).await.unwrap();
    let left = world.store().bulk_actions(BulkScope::All, None, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|action| action.id).collect::<Vec<_>>(), [live.id]);
    let items = world.store().rows("select action_id from bulk_items", &[]).await.unwrap();
    assert_eq!(items, [json!({"action_id": live.id}), json!({"action_id": live.id})]);
}
