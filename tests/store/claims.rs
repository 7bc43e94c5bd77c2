//! Claims and heartbeats: guarded, and each task to one claimer only.

use std::collections::BTreeMap;

use bursar::store::{Beat, LeaseFate, Want};
use bursar_domain::flow;
use bursar_domain::id::TaskId;
use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::hand::{DIAMOND, Hand, SINGLE, succeeded};
use crate::support::stores::on_both_stores;

on_both_stores!(Hand::new:
    a_claim_raises_fence_and_attempt_and_starts_the_run,
    a_claim_takes_ready_tasks_of_live_runs_and_no_others,
    claimers_that_race_get_each_task_once,
    a_heartbeat_extends_what_is_held_and_names_the_rest,
    a_heartbeat_stops_what_is_past_its_own_deadline,
    a_task_that_came_back_is_claimed_under_a_new_fence,
    what_a_claim_took_without_an_answer_is_ready_again_by_its_secret_alone,
);

async fn a_claim_raises_fence_and_attempt_and_starts_the_run(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(DIAMOND).await;
    let (mission, first) = hand.start(workflow).await;
    let set = hand.decide(&Want::tasks(mission, first.clone()), |turn| turn.set.clone()).await.unwrap();
    assert_eq!(set.runs.iter().next().unwrap().state, RunState::Queued);
    let ready_at = set.tasks.get(first[0]).unwrap().ready_at;

    hand.now = hand.now.plus_ms(500);
    let claim = hand.claim_of(&first);
    let claimed = hand.store.claim(&claim).await.unwrap();
    let task = &claimed[0];
    assert_eq!((claimed.len(), task.id, task.mission_id), (1, first[0], mission));
    assert_eq!((task.attempt, task.failures, task.fence, task.node_index), (1, 0, 1, 0));
    assert_eq!((task.workflow_id, task.price_book_id, task.tenant_id), (workflow, hand.prices, hand.tenant));
    assert_eq!((task.lease_until, task.ready_at), (hand.now.plus_ms(15_000), ready_at));
    assert_eq!(task.pool, "default");

    let set = hand.decide(&Want::tasks(mission, first.clone()), |turn| turn.set.clone()).await.unwrap();
    let run = set.runs.iter().next().unwrap();
    assert_eq!((run.state, run.started_at, run.status_reason.as_deref()), (RunState::Running, Some(hand.now), None));
    let row = set.tasks.get(first[0]).unwrap();
    assert_eq!((row.state, row.attempt, row.fence), (TaskState::Running, 1, 1));
    assert_eq!((row.lease_token.as_deref(), row.worker_id), (Some(claim.token.as_str()), Some(claim.worker_id)));
    assert_eq!((row.started_at, row.lease_until), (Some(hand.now), Some(task.lease_until)));

    let of = |token: &str| Want { missions: vec![mission], handed: [token.to_owned()].into(), ..Want::default() };
    let set = hand.decide(&of(&claim.token), |turn| turn.set.clone()).await.unwrap();
    assert_eq!(set.tasks.iter().map(|task| task.id).collect::<Vec<_>>(), [first[0]], "by the secret of its lease");
    let set = hand.decide(&of("nobody's"), |turn| turn.set.clone()).await.unwrap();
    assert_eq!(set.tasks.iter().count(), 0);
}

async fn a_claim_takes_ready_tasks_of_live_runs_and_no_others(mut hand: Hand) {
    let workflow = hand
        .put("{workflow: two, flat_fee: 0, nodes: {a: {transform: {x: 1}}, b: {needs: [a], transform: {x: 1}}}}")
        .await;
    let sleeper = hand.put("{workflow: rest, flat_fee: 0, nodes: {a: {sleep: 1h}, b: {transform: {x: 1}}}}").await;
    let (mission, ready) = hand.start(workflow).await;
    let (_, awake) = hand.start(sleeper).await;
    let (cancelled, of_cancelled) = hand.start(workflow).await;
    let want = Want { missions: vec![cancelled], ..Want::default() };
    hand.decide(&want, |turn| flow::cancel(turn, cancelled, None)).await.unwrap().unwrap();

    let pending = hand.store.rows("select id from tasks where state = 'pending' order by id", &[]).await.unwrap();
    let waiting = hand.store.rows("select id from tasks where state = 'waiting'", &[]).await.unwrap();
    let id = |row: &serde_json::Value| row["id"].as_str().unwrap().parse::<TaskId>().unwrap();
    let mut asked: Vec<TaskId> = pending.iter().chain(&waiting).map(id).collect();
    asked.extend([ready[0], awake[0], of_cancelled[0], hand.id(), ready[0]]);
    let (claimed, _) = hand.claim(&asked).await;
    assert_eq!(claimed.iter().map(|task| task.id).collect::<Vec<_>>(), [ready[0], awake[0]]);
    assert_eq!(claimed[0].mission_id, mission);

    assert_eq!(hand.claim(&asked).await.0, [], "what runs is not claimed again");
    assert_eq!(hand.claim(&[]).await.0, []);
}

async fn claimers_that_race_get_each_task_once(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        tasks.extend(hand.start(workflow).await.1);
    }
    let claims: Vec<_> = (0..10)
        .map(|number| {
            // each asks in an order of its own
            let mut order = tasks.clone();
            order.rotate_left(number * 5);
            let claim = hand.claim_of(&order);
            let store = hand.store.clone();
            tokio::spawn(async move { store.claim(&claim).await })
        })
        .collect();
    let mut owners: BTreeMap<TaskId, usize> = BTreeMap::new();
    for claimed in futures::future::join_all(claims).await {
        for task in claimed.unwrap().unwrap() {
            assert_eq!((task.attempt, task.fence), (1, 1));
            *owners.entry(task.id).or_default() += 1;
        }
    }
    assert_eq!(owners.len(), 50, "every task has an owner");
    assert!(owners.values().all(|owners| *owners == 1), "{owners:?}");
    assert_eq!(hand.count("tasks where attempt = 1 and fence = 1 and state = 'running'").await, 50);
    assert_eq!(hand.count("runs where state = 'running'").await, 50);
}

async fn a_heartbeat_extends_what_is_held_and_names_the_rest(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let mut tasks = Vec::new();
    let mut missions = Vec::new();
    for _ in 0..5 {
        let (mission, ready) = hand.start(workflow).await;
        missions.push(mission);
        tasks.extend(ready);
    }
    let (claimed, token) = hand.claim(&tasks).await;
    let mut guards: Vec<_> = claimed.iter().map(|task| task.guard(&token)).collect();
    guards[1].fence += 1;
    "another".clone_into(&mut guards[2].token);
    hand.settle(&claimed[3], &token, succeeded(json!(null))).await.unwrap();
    let want = Want { missions: vec![missions[4]], ..Want::default() };
    hand.decide(&want, |turn| flow::cancel(turn, missions[4], None)).await.unwrap().unwrap();

    let lease_until = hand.now.plus_ms(99_000);
    let mut fates = hand.store.beat(&Beat { leases: guards.clone(), lease_until, now: hand.now }).await.unwrap();
    fates.sort_by_key(|fate| match fate {
        LeaseFate::Lost(id) | LeaseFate::Stop(id) => *id,
    });
    let ids: Vec<_> = claimed.iter().map(|task| task.id).collect();
    let expected = [LeaseFate::Lost(ids[1]), LeaseFate::Lost(ids[2]), LeaseFate::Lost(ids[3]), LeaseFate::Stop(ids[4])];
    assert_eq!(fates, expected);
    let set =
        hand.decide(&Want { tasks: ids.clone(), missions, ..Want::default() }, |turn| turn.set.clone()).await.unwrap();
    let until = |id| set.tasks.get(id).unwrap().lease_until;
    assert_eq!((until(ids[0]), until(ids[4])), (Some(lease_until), Some(lease_until)));
    assert_eq!((until(ids[1]), until(ids[2])), (Some(hand.now.plus_ms(15_000)), Some(hand.now.plus_ms(15_000))));
    assert_eq!(until(ids[3]), None);
    assert_eq!(hand.store.beat(&Beat { leases: Vec::new(), lease_until, now: hand.now }).await.unwrap(), []);
}

async fn a_heartbeat_stops_what_is_past_its_own_deadline(mut hand: Hand) {
    let text = "{workflow: hasty, flat_fee: 0, nodes: {a: {transform: 1, deadline: 1m}, b: {transform: 1}}}";
    let workflow = hand.put(text).await;
    let (_, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    let leases: Vec<_> = claimed.iter().map(|task| task.guard(&token)).collect();
    let hasty = claimed.iter().find(|task| task.node_index == 0).unwrap().id;
    let beat = |now| Beat { leases: leases.clone(), lease_until: hand.now.plus_ms(99_000), now };
    assert_eq!(hand.store.beat(&beat(hand.now.plus_ms(59_999))).await.unwrap(), []);
    assert_eq!(hand.store.beat(&beat(hand.now.plus_ms(60_000))).await.unwrap(), [LeaseFate::Stop(hasty)]);
    let overdue = hand.store.overdue_tasks(hand.now.plus_ms(60_000), 10).await.unwrap();
    assert_eq!(overdue.iter().map(|due| due.id).collect::<Vec<_>>(), [hasty]);
    assert!(hand.store.overdue_tasks(hand.now.plus_ms(59_999), 10).await.unwrap().is_empty());
}

async fn a_task_that_came_back_is_claimed_under_a_new_fence(mut hand: Hand) {
    let workflow = hand.put(SINGLE).await;
    let (mission, ready) = hand.start(workflow).await;
    let (first, old_token) = hand.claim(&ready).await;
    hand.now = hand.now.plus_ms(15_000);
    hand.decide(&Want::tasks(mission, ready.clone()), |turn| flow::recover_lease(turn, ready[0]))
        .await
        .unwrap()
        .unwrap();
    let (second, token) = hand.claim(&ready).await;
    assert_eq!((second[0].attempt, second[0].fence), (2, 2));

    let late = hand.settle(&first[0], &old_token, succeeded(json!("late"))).await;
    assert!(matches!(late, Err(flow::Refusal::StaleFence { present: 2 })), "{late:?}");
    let lost = Beat { leases: vec![first[0].guard(&old_token)], lease_until: hand.now.plus_ms(1), now: hand.now };
    assert_eq!(hand.store.beat(&lost).await.unwrap(), [LeaseFate::Lost(ready[0])]);
    hand.settle(&second[0], &token, succeeded(json!("in time"))).await.unwrap();
    let task = hand.store.task(None, ready[0]).await.unwrap().unwrap();
    assert_eq!((task.state, task.output), (TaskState::Succeeded, Some(json!("in time"))));
    let attempts = hand.table("attempts", "task_id, number").await;
    assert_eq!((attempts.len(), &attempts[0]["outcome"], &attempts[0]["number"]), (1, &json!("lost"), &json!(1)));
}

async fn what_a_claim_took_without_an_answer_is_ready_again_by_its_secret_alone(mut hand: Hand) {
    hand.grant(10).await;
    let workflow = hand.put(SINGLE).await;
    let (mission, ready) = hand.start(workflow).await;
    let (claimed, token) = hand.claim(&ready).await;
    assert_eq!(hand.store.disown(&ready, "another").await.unwrap(), 0);
    assert_eq!(hand.store.disown(&ready, &token).await.unwrap(), 1);
    assert_eq!(hand.store.disown(&ready, &token).await.unwrap(), 0, "once");
    let set = hand.decide(&Want::tasks(mission, ready.clone()), |turn| turn.set.clone()).await.unwrap();
    let task = set.tasks.get(ready[0]).unwrap();
    assert_eq!((task.state, task.failures, task.losses), (TaskState::Ready, 0, 0));
    assert!(task.lease_token.is_none() && task.worker_id.is_none());
    let late = hand.settle(&claimed[0], &token, succeeded(json!({}))).await;
    assert!(late.is_err(), "what the lost claim would do counts no more: {late:?}");
    let (again, token) = hand.claim(&ready).await;
    assert_eq!(again[0].fence, claimed[0].fence + 1);
    hand.settle(&again[0], &token, succeeded(json!({}))).await.unwrap();
}
