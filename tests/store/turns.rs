//! Claims of tasks that take turns: never more than may run, the others kept back in order, none lost.

use std::collections::BTreeSet;

use bursar::store::Claimed;
use bursar_domain::id::TaskId;
use serde_json::json;

use crate::support::hand::Hand;
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    claimers_that_race_take_no_more_than_may_run,
    what_was_kept_back_goes_first_and_in_order,
    a_lease_that_ran_out_keeps_nobody_back,
    keys_of_one_tenant_do_not_meet_those_without_or_of_another_kind,
);

fn workflow(name: &str, key: &str, max: i64) -> String {
    format!(
        "{{workflow: {name}, flat_fee: 0, inputs: {{type: object}}, \
          nodes: {{a: {{transform: 1, concurrency: {{key: '{key}', max: {max}}}}}}}}}"
    )
}

async fn ready(hand: &mut Hand, yaml: &str, count: usize) -> Vec<TaskId> {
    let workflow = hand.put(yaml).await;
    let mut tasks = Vec::new();
    for _ in 0..count {
        // one after the other, so that their order is known
        hand.now = hand.now.plus_ms(1);
        tasks.extend(hand.start(workflow).await.1);
    }
    tasks
}

fn ids(claimed: &[Claimed]) -> BTreeSet<TaskId> {
    claimed.iter().map(|task| task.id).collect()
}

async fn reason(hand: &Hand, task: TaskId) -> String {
    let sql = "select status_reason, held_since from tasks where id = $1";
    let rows = hand.store.rows(sql, &[task.into()]).await.unwrap();
    assert!(rows[0]["held_since"].is_i64(), "it is kept back: {rows:?}");
    rows[0]["status_reason"].as_str().unwrap().to_owned()
}

async fn claimers_that_race_take_no_more_than_may_run(mut hand: Hand) {
    let tasks = ready(&mut hand, &workflow("w", "crm", 3), 30).await;
    let claims: Vec<_> = (0..10).map(|_| hand.claim_of(&tasks)).collect();
    let taken = futures::future::join_all(claims.iter().map(|claim| hand.store.claim(claim))).await;
    let taken: usize = taken.into_iter().map(|claimed| claimed.unwrap().len()).sum();
    assert_eq!(taken, 3);
    let counts = hand.store.ready_counts(hand.now).await.unwrap();
    assert_eq!(counts, [], "what is kept back is not handed out");
    let at_turn = hand.store.tasks_at_turn(hand.now, None, 100).await.unwrap();
    assert_eq!(at_turn, [], "there is no room");
}

async fn what_was_kept_back_goes_first_and_in_order(mut hand: Hand) {
    let yaml = workflow("w", "crm {{ 1 + 1 }}", 2);
    let tasks = ready(&mut hand, &yaml, 5).await;
    let (first, token) = hand.claim(&tasks[..4]).await;
    assert_eq!(ids(&first), BTreeSet::from([tasks[0], tasks[1]]));
    let told = "waits for its turn: place 2 in line for concurrency key `crm 2`, of which at most 2 may run at once";
    assert_eq!(reason(&hand, tasks[3]).await, told);

    hand.settle(&first[1], &token, crate::support::hand::succeeded(json!(1))).await.unwrap();
    let (passed, _) = hand.claim(&tasks[4..]).await;
    assert_eq!(passed, [], "nobody passes those who waited longer");
    let key = (hand.tenant, "crm 2");
    assert_eq!(hand.store.tasks_at_turn(hand.now, Some(key), 100).await.unwrap(), [tasks[2]]);
    assert_eq!(hand.store.tasks_at_turn(hand.now, Some((hand.tenant, "crm")), 100).await.unwrap(), []);
    hand.store.let_go(&[tasks[2], tasks[0]]).await.unwrap();
    assert_eq!(hand.store.ready_counts(hand.now).await.unwrap(), [("default".to_owned(), 1)]);
    let (next, _) = hand.claim(&tasks[2..]).await;
    assert_eq!(ids(&next), BTreeSet::from([tasks[2]]));
}

async fn a_lease_that_ran_out_keeps_nobody_back(mut hand: Hand) {
    let tasks = ready(&mut hand, &workflow("w", "crm", 1), 2).await;
    assert_eq!(hand.claim(&tasks).await.0.len(), 1);
    assert_eq!(hand.store.tasks_at_turn(hand.now, None, 100).await.unwrap(), []);
    hand.now = hand.now.plus_ms(15_001);
    assert_eq!(hand.store.tasks_at_turn(hand.now, None, 100).await.unwrap(), [tasks[1]]);
    assert_eq!(hand.claim(&tasks[1..]).await.0.len(), 1);
}

async fn keys_of_one_tenant_do_not_meet_those_without_or_of_another_kind(mut hand: Hand) {
    let mut tasks = ready(&mut hand, &workflow("w", "crm", 1), 2).await;
    tasks.extend(ready(&mut hand, &workflow("v", "erp", 1), 2).await);
    tasks.extend(ready(&mut hand, "{workflow: u, flat_fee: 0, nodes: {a: {transform: 1}}}", 2).await);
    let (claimed, _) = hand.claim(&tasks).await;
    assert_eq!(ids(&claimed), BTreeSet::from([tasks[0], tasks[2], tasks[4], tasks[5]]));
}
