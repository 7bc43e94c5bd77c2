//! Look-outs: what the engine finds ready, due, lost or overdue, and that each finds neither too much nor too little.

use std::collections::BTreeMap;

use bursar::store::Want;
use bursar_domain::credits::Ucr;
use bursar_domain::flow;
use bursar_domain::id::{TaskId, TenantId};
use bursar_domain::ledger;
use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::state::TaskState;

use crate::support::hand::{DIAMOND, Hand, SINGLE};
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    ready_tasks_are_shared_between_tenants,
    ready_tasks_of_a_tenant_come_by_priority_then_age,
    ready_counts_are_per_pool,
    what_is_due_is_found_when_it_is_due,
    leases_are_found_lost_when_they_end,
    waiters_for_credits_are_found_oldest_first_by_wallet,
    runs_that_end_and_runs_that_are_overdue_are_found,
    overdue_grants_are_found_until_they_are_written_off,
);

const WITH_DEADLINE: &str =
    "{workflow: hurry, flat_fee: 0, deadline: 10s, nodes: {a: {sleep: 1h}, b: {transform: {x: 1}}}}";

async fn ready_tasks_are_shared_between_tenants(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut expected: BTreeMap<TenantId, usize> = BTreeMap::new();
    for (name, missions) in [("flood", 40), ("second", 2), ("third", 30)] {
        let (tenant, wallet) = (hand.id(), hand.id());
        hand.open_wallet(tenant, wallet, name).await;
        for _ in 0..missions {
            let mut submission = hand.submission(workflow);
            (submission.tenant_id, submission.wallet_id) = (tenant, wallet);
            hand.submit(&submission).await.unwrap().unwrap();
        }
        expected.insert(tenant, missions.min(8));
    }
    let ready = hand.store.ready_tasks("default", hand.now, 24).await.unwrap();
    let mut found: BTreeMap<TenantId, usize> = BTreeMap::new();
    for row in &ready {
        *found.entry(row.tenant_id).or_default() += 1;
    }
    assert_eq!(found, expected, "each tenant has its share, however many tasks another has");
    let one_each = hand.store.ready_tasks("default", hand.now, 1).await.unwrap();
    assert_eq!(one_each.len(), 3, "nobody is left out");
    assert!(hand.store.ready_tasks("other", hand.now, 24).await.unwrap().is_empty());
}

async fn ready_tasks_of_a_tenant_come_by_priority_then_age(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut order = Vec::new();
    for priority in [0, 5, -5, 5] {
        hand.now = hand.now.plus_ms(1);
        let mut submission = hand.submission(workflow);
        submission.priority = priority;
        let ready = hand.submit(&submission).await.unwrap().unwrap();
        order.push(ready[0]);
    }
    let rows = hand.store.ready_tasks("default", hand.now, 10).await.unwrap();
    let found: Vec<TaskId> = rows.iter().map(|row| row.id).collect();
    assert_eq!(found, [order[1], order[3], order[0], order[2]]);
    let mut by_id = hand.store.ready_by_id(&[order[2], order[0], TaskId::from_uuid(hand.tenant.uuid())]).await.unwrap();
    by_id.sort_by_key(|row| row.id);
    assert_eq!(by_id.iter().map(|row| (row.id, row.priority)).collect::<Vec<_>>(), [(order[0], 0), (order[2], -5)]);
}

async fn ready_counts_are_per_pool(mut hand: Hand) {
    hand.grant(10).await;
    assert_eq!(hand.store.ready_counts(hand.now).await.unwrap(), []);
    let workflow = hand.put(DIAMOND).await;
    let other = hand
        .put("{workflow: other, flat_fee: 0, nodes: {a: {pool: special, transform: {x: 1}}, b: {transform: {x: 1}}}}")
        .await;
    let (_, first) = hand.start(workflow).await;
    hand.start(other).await;
    hand.start(other).await;
    let counts = hand.store.ready_counts(hand.now).await.unwrap();
    assert_eq!(counts, [("default".to_owned(), 3), ("special".to_owned(), 2)]);
    hand.claim(&first).await;
    let counts = hand.store.ready_counts(hand.now).await.unwrap();
    assert_eq!(counts, [("default".to_owned(), 2), ("special".to_owned(), 2)]);
    let pools = hand.store.pools().await.unwrap();
    let seen: Vec<_> = pools.iter().map(|pool| (pool.pool.as_str(), pool.ready, pool.running, pool.waiting)).collect();
    assert_eq!(seen, [("default", 2, 1, 0), ("special", 2, 0, 0)]);
    assert_eq!(pools[0].oldest_ready_at, Some(hand.now));
}

async fn what_is_due_is_found_when_it_is_due(mut hand: Hand) {
    let sleeper = hand.put("{workflow: rest, flat_fee: 0, nodes: {a: {sleep: 30s}, b: {sleep: 1h}}}").await;
    let retrier = hand
        .put("{workflow: again, flat_fee: 0, nodes: {a: {transform: {x: 1}, retry: {max_attempts: 3, backoff: {initial: 10s, jitter: false}}}}}")
        .await;
    assert_eq!(hand.store.next_due().await.unwrap(), None);
    let (_, _) = hand.start(sleeper).await;
    let (_, ready) = hand.start(retrier).await;
    let (claimed, token) = hand.claim(&ready).await;
    let error = StepError::new(ErrorClass::Retryable, "flaky", "try again");
    let settled = hand.settle(&claimed[0], &token, Outcome::Failed { error, calls: Vec::new() }).await.unwrap();
    assert_eq!(settled.state, TaskState::Retrying);

    let start = hand.now;
    assert_eq!(hand.store.next_due().await.unwrap(), Some(start.plus_ms(10_000)));
    for (after_ms, found) in [(9_999, 0), (10_000, 1), (29_999, 1), (30_000, 2), (3_600_000, 3)] {
        let due = hand.store.due_tasks(start.plus_ms(after_ms), 100).await.unwrap();
        assert_eq!(due.len(), found, "after {after_ms} ms");
    }
    let first = &hand.store.due_tasks(start.plus_ms(3_600_000), 1).await.unwrap()[0];
    assert_eq!((first.id, first.mission_id, first.run_id), (ready[0], claimed[0].mission_id, claimed[0].run_id));
    assert_eq!((first.workflow_id, first.node_index), (retrier, 0));
}

async fn leases_are_found_lost_when_they_end(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let (mission, ready) = hand.start(workflow).await;
    let (claimed, _) = hand.claim(&ready).await;
    let end = claimed[0].lease_until;
    assert!(hand.store.lost_leases(end.plus_ms(-1), 10).await.unwrap().is_empty());
    let lost = hand.store.lost_leases(end, 10).await.unwrap();
    assert_eq!((lost.len(), lost[0].id, lost[0].mission_id), (1, ready[0], claimed[0].mission_id));
    hand.now = end;
    hand.decide(&Want::tasks(mission, ready.clone()), |turn| flow::recover_lease(turn, ready[0]))
        .await
        .unwrap()
        .unwrap();
    assert!(hand.store.lost_leases(end.plus_ms(1_000), 10).await.unwrap().is_empty(), "found once");
}

async fn waiters_for_credits_are_found_oldest_first_by_wallet(mut hand: Hand) {
    // enough for the first node's hold; the three after it wait
    hand.grant(1).await;
    let text = "{workflow: poor, flat_fee: 0, nodes: {a: {transform: {x: 1}}, \
                b: {needs: [a], transform: {x: 1}, units: {tool_call: 1000000}}}}";
    let workflow = hand.put(text).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (_, ready) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&ready).await;
        hand.now = hand.now.plus_ms(10);
        let outcome = Outcome::Succeeded { output: serde_json::json!(1), calls: Vec::new() };
        hand.settle(&claimed[0], &token, outcome).await.unwrap();
        let rows = hand
            .store
            .rows("select id from tasks where state = 'waiting' order by ready_at desc limit 1", &[])
            .await
            .unwrap();
        waiting.push(rows[0]["id"].as_str().unwrap().parse::<TaskId>().unwrap());
    }
    let found = |rows: Vec<bursar::store::read::Due>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(found(hand.store.credit_waiters(Some(hand.wallet), 10).await.unwrap()), waiting);
    assert_eq!(found(hand.store.credit_waiters(None, 2).await.unwrap()), waiting[..2]);
    let other = hand.id();
    assert_eq!(found(hand.store.credit_waiters(Some(other), 10).await.unwrap()), []);
    assert!(hand.store.due_tasks(hand.now.plus_ms(1_000_000), 10).await.unwrap().is_empty(), "no time wakes them");
}

async fn runs_that_end_and_runs_that_are_overdue_are_found(mut hand: Hand) {
    let workflow = hand.put(WITH_DEADLINE).await;
    let (mission, _) = hand.start(workflow).await;
    let (other, _) = hand.start(workflow).await;
    let start = hand.now;
    assert!(hand.store.overdue_runs(start.plus_ms(9_999), 10).await.unwrap().is_empty());
    assert_eq!(hand.store.overdue_runs(start.plus_ms(10_000), 10).await.unwrap().len(), 2);
    assert!(hand.store.ending_runs(10).await.unwrap().is_empty());

    let want = Want { missions: vec![mission], ..Want::default() };
    let run = hand.decide(&want, |turn| flow::cancel(turn, mission, None)).await.unwrap().unwrap();
    assert_eq!(hand.store.ending_runs(10).await.unwrap(), [(run, mission)]);
    let overdue = hand.store.overdue_runs(start.plus_ms(10_000), 10).await.unwrap();
    assert_eq!(
        overdue.iter().map(|(_, mission)| *mission).collect::<Vec<_>>(),
        [other],
        "one that ends is not overdue"
    );

    let to_end = hand.store.tasks_to_end(run, start, 10).await.unwrap();
    let to_end: Vec<_> = to_end.into_iter().map(|task| task.id).collect();
    assert_eq!(to_end.len(), 2);
    let want = Want { tasks: to_end.clone(), ..want };
    let ended = hand.decide(&want, |turn| flow::wind_down(turn, run, &to_end)).await.unwrap().unwrap();
    assert_eq!(ended, 2);
    assert!(hand.store.ending_runs(10).await.unwrap().is_empty());
    assert!(hand.store.tasks_to_end(run, start, 10).await.unwrap().is_empty());
}

async fn overdue_grants_are_found_until_they_are_written_off(mut hand: Hand) {
    let deadline = hand.now.plus_ms(1_000);
    let wallet = hand.wallet;
    let mut ids = Vec::new();
    for credits in [1, 2] {
        let request = hand.grant_request(Ucr::from_credits(credits), Some(deadline));
        let grant = hand.decide(&Want::wallets([wallet]), |turn| ledger::grant(turn.set, &request, turn.now)).await;
        ids.push(grant.unwrap().unwrap());
    }
    // the first is used up before its deadline
    let workflow = hand.put(&SINGLE.replace("flat_fee: 0", "flat_fee: 1")).await;
    hand.start(workflow).await;
    assert!(hand.store.overdue_grants(deadline.plus_ms(-1), 10).await.unwrap().is_empty());
    let overdue = hand.store.overdue_grants(deadline, 10).await.unwrap();
    assert_eq!(overdue, [(ids[0], wallet), (ids[1], wallet)]);

    let shown = hand.store.wallet(None, wallet, deadline).await.unwrap().unwrap();
    assert_eq!(shown.available_ucr, Ucr::ZERO, "expired is expired, swept or not");
    hand.now = deadline;
    for (grant, wallet) in overdue {
        let op = hand.id();
        let want = Want { grants: vec![grant], ..Want::wallets([wallet]) };
        hand.decide(&want, |turn| ledger::expire(turn.set, grant, op, turn.now)).await.unwrap();
    }
    assert!(hand.store.overdue_grants(deadline.plus_ms(1), 10).await.unwrap().is_empty(), "used up or not: found once");
    let set = hand.decide(&Want::wallets([wallet]), |turn| turn.set.clone()).await.unwrap();
    assert_eq!(set.wallets.get(wallet).unwrap().available_ucr, Ucr::ZERO);
    assert_eq!(hand.count("ops where kind = 'expire'").await, 1, "nothing is written off of nothing");
}
