//! Lists as clients see them: bounded pages that neither repeat nor leave out, and of one's own tenant only.

use bursar::clock::new_id;
use bursar::store::read::MissionFilter;
use bursar::store::{ApiKey, Role, Want, WorkerRow};
use bursar_domain::flow;
use bursar_domain::id::{MissionId, TenantId};
use bursar_domain::state::RunState;
use serde_json::json;

use crate::support::hand::{Hand, SINGLE};
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    missions_come_newest_first_page_by_page,
    missions_are_filtered_by_state_and_workflow,
    a_tenant_sees_nothing_of_another,
    the_newest_version_of_a_workflow_is_the_one_without_a_number,
    the_price_book_that_was_activated_last_is_active,
    keys_work_until_they_are_revoked,
    workers_are_listed_while_they_are_heard_of,
    events_come_in_order_after_a_number,
);

async fn missions_come_newest_first_page_by_page(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut all = Vec::new();
    for _ in 0..25 {
        all.push(hand.start(workflow).await.0);
    }
    all.reverse();
    let mut filter = MissionFilter { tenant: Some(hand.tenant), limit: 10, ..MissionFilter::default() };
    let mut found: Vec<MissionId> = Vec::new();
    let mut sizes = Vec::new();
    loop {
        let page = hand.store.missions(&filter).await.unwrap();
        sizes.push(page.len());
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        assert!(page.iter().all(|mission| mission.input.is_none() && mission.workflow_name == "single"));
        found.extend(page.iter().map(|mission| mission.id));
        if sizes.len() == 1 {
            // one that comes in between belongs to no later page
            hand.start(workflow).await;
        }
    }
    assert_eq!((found, sizes), (all, vec![10, 10, 5, 0]));
}

async fn missions_are_filtered_by_state_and_workflow(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let other = hand.put(&SINGLE.replace("single", "other")).await;
    let (queued, _) = hand.start(workflow).await;
    let (running, ready) = hand.start(other).await;
    hand.claim(&ready).await;
    let (cancelling, _) = hand.start(other).await;
    let want = Want { missions: vec![cancelling], ..Want::default() };
    hand.decide(&want, |turn| flow::cancel(turn, cancelling, None)).await.unwrap().unwrap();

    let list = async |states: &[RunState], workflow: Option<&str>| {
        let workflow = workflow.map(str::to_owned);
        let filter = MissionFilter { states: states.to_vec(), workflow, limit: 10, ..MissionFilter::default() };
        let missions = hand.store.missions(&filter).await.unwrap();
        missions.into_iter().map(|mission| mission.id).collect::<Vec<_>>()
    };
    assert_eq!(list(&[], None).await, [cancelling, running, queued]);
    assert_eq!(list(&[RunState::Queued, RunState::Running], None).await, [running, queued]);
    assert_eq!(list(&[], Some("other")).await, [cancelling, running]);
    assert_eq!(list(&[RunState::Queued], Some("other")).await, []);
}

async fn a_tenant_sees_nothing_of_another(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let (mission, ready) = hand.start(workflow).await;
    let (other, wallet): (TenantId, _) = (hand.id(), hand.id());
    hand.open_wallet(other, wallet, "stranger").await;
    let store = &hand.store;
    let run = store.mission(Some(hand.tenant), mission).await.unwrap().unwrap().run_id;
    let stranger = Some(other);
    assert!(store.mission(stranger, mission).await.unwrap().is_none());
    assert!(store.mission_of_run(stranger, run).await.unwrap().is_none());
    assert!(store.task(stranger, ready[0]).await.unwrap().is_none());
    assert!(store.wallet(stranger, hand.wallet, hand.now).await.unwrap().is_none());
    let filter = MissionFilter { tenant: stranger, limit: 10, ..MissionFilter::default() };
    assert!(store.missions(&filter).await.unwrap().is_empty());
    assert!(store.workflow(other, "single", None).await.unwrap().is_none());
    assert_eq!(store.wallet_of(other, hand.now).await.unwrap().unwrap().id, wallet);
    let own = Some(hand.tenant);
    assert_eq!(store.mission_of_run(own, run).await.unwrap().unwrap().id, mission);
    assert_eq!(store.task(own, ready[0]).await.unwrap().unwrap().mission_id, mission);
}

async fn the_newest_version_of_a_workflow_is_the_one_without_a_number(mut hand: Hand) {
    let first = hand.put(SINGLE).await;
    let source = hand.facts.workflows[&first].source.clone();
    for version in [2, 3] {
        let id = hand.id();
        hand.store
            .add_workflow(&crate::support::hand::version(id, hand.tenant, "single", version, "hash", &source, hand.now))
            .await
            .unwrap();
    }
    hand.put(&SINGLE.replace("single", "another")).await;
    let store = &hand.store;
    assert_eq!(store.workflow(hand.tenant, "single", None).await.unwrap().unwrap().version, 3);
    let one = store.workflow(hand.tenant, "single", Some(1)).await.unwrap().unwrap();
    assert_eq!((one.id, one.definition), (first, Some(source)));
    assert!(store.workflow(hand.tenant, "single", Some(4)).await.unwrap().is_none());
    let list = async |after: Option<&str>, limit| {
        let rows = store.workflows(hand.tenant, after, limit).await.unwrap();
        rows.into_iter().map(|row| (row.name, row.version, row.definition.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, [("another".to_owned(), 1, false), ("single".to_owned(), 3, false)]);
    assert_eq!(list(Some("another"), 10).await, [("single".to_owned(), 3, false)]);
    assert_eq!(list(None, 1).await.len(), 1);
}

async fn the_price_book_that_was_activated_last_is_active(mut hand: Hand) {
    let first = hand.prices;
    assert_eq!(hand.store.active_prices().await.unwrap(), Some(first));
    let second = hand.id();
    let content = json!({"name": "second"});
    let later = hand.now.plus_ms(5);
    hand.store.activate_prices(second, "second", "hash-2", &content, later).await.unwrap();
    assert_eq!(hand.store.active_prices().await.unwrap(), Some(second));
    assert_eq!(hand.store.price_books(&[second]).await.unwrap(), [(second, content.clone())]);
    // the first one again: under the id it has, whatever id is offered
    let books =
        hand.store.rows("select content_hash, content from price_books where name <> 'second'", &[]).await.unwrap();
    let hash = books[0]["content_hash"].as_str().unwrap();
    hand.store.activate_prices(new_id(), "first", hash, &books[0]["content"], later.plus_ms(1)).await.unwrap();
    assert_eq!(hand.store.active_prices().await.unwrap(), Some(first));
    assert_eq!(hand.count("price_books").await, 2);
}

async fn keys_work_until_they_are_revoked(mut hand: Hand) {
    let key = ApiKey {
        id: hand.id(),
        tenant_id: hand.tenant,
        name: "ci".to_owned(),
        prefix: "bsk_ab".to_owned(),
        role: Role::Admin,
        created_at: hand.now,
        revoked_at: None,
    };
    hand.store.add_key(&key, "hash").await.unwrap();
    assert_eq!(hand.store.key_by_hash("hash").await.unwrap().as_ref(), Some(&key));
    assert_eq!(hand.store.key_by_hash("other").await.unwrap(), None);
    let stranger = hand.id();
    assert!(!hand.store.revoke_key(stranger, key.id, hand.now).await.unwrap(), "not by another tenant");
    assert!(hand.store.revoke_key(hand.tenant, key.id, hand.now).await.unwrap());
    assert!(!hand.store.revoke_key(hand.tenant, key.id, hand.now.plus_ms(1)).await.unwrap());
    assert_eq!(hand.store.key_by_hash("hash").await.unwrap(), None);
    let listed = hand.store.keys_of(hand.tenant).await.unwrap();
    assert_eq!(listed, [ApiKey { revoked_at: Some(hand.now), ..key }]);
}

async fn workers_are_listed_while_they_are_heard_of(mut hand: Hand) {
    let mut row = WorkerRow {
        id: hand.id(),
        host: "box".to_owned(),
        pid: 42,
        pools: json!({"agent": 64}),
        running: 3,
        version: "1".to_owned(),
        draining: false,
        started_at: hand.now,
        seen_at: hand.now,
    };
    hand.store.note_worker(&row).await.unwrap();
    (row.running, row.draining, row.seen_at) = (0, true, hand.now.plus_ms(5_000));
    hand.store.note_worker(&row).await.unwrap();
    assert_eq!(hand.store.workers(hand.now.plus_ms(5_000)).await.unwrap(), [row.clone()]);
    assert_eq!(hand.store.workers(hand.now.plus_ms(5_001)).await.unwrap(), []);
    hand.store.forget_worker(row.id).await.unwrap();
    assert_eq!(hand.store.workers(hand.now).await.unwrap(), []);
}

async fn events_come_in_order_after_a_number(mut hand: Hand) {
    let workflow =
        hand.put("{workflow: rest, flat_fee: 0, nodes: {a: {sleep: 1s}, b: {sleep: 1s}, c: {sleep: 1s}}}").await;
    let (mission, _) = hand.start(workflow).await;
    hand.start(workflow).await;
    let all = hand.store.events(mission, 0, 100).await.unwrap();
    assert_eq!(all.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(all[0].kind, "mission.created");
    assert!(all[1..].iter().all(|event| event.kind == "task.waiting" && event.mission_id == mission));
    assert_eq!(hand.store.events(mission, 2, 1).await.unwrap(), all[2..3]);
    assert_eq!(hand.store.events(mission, 4, 10).await.unwrap(), []);
}
