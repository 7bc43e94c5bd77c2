//! Money: what waits for credits goes on when they come, and many missions at once add up to the last micro-credit.

use bursar_domain::credits::Ucr;
use bursar_domain::flow::Submission;
use bursar_domain::state::{RunState, TaskState, WaitCause};
use bursar_domain::workflow::OnExhausted;
use serde_json::json;

use crate::support::hand::DIAMOND;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Queues, World};

on_both_stores!(World::on:
    fifty_missions_at_once_add_up,
    a_task_beyond_its_budget_fails_where_the_mission_says_so,
    a_used_up_grant_expires_once,
);

async fn fifty_missions_at_once_add_up(world: World) {
    let workflow = world.put(DIAMOND).await;
    let missions = world.submit_many(workflow.id, 50).await;
    let mut spent = Ucr::ZERO;
    for mission in missions {
        let over = world.finished(mission).await;
        assert_eq!((over.state, over.held_ucr), (RunState::Succeeded, Ucr::ZERO));
        let tasks = world.tasks(mission).await;
        assert!(tasks.iter().all(|task| task.attempt == 1), "each task ran once");
        assert_eq!(tasks.iter().map(|task| task.cost_ucr).sum::<Ucr>(), over.spent_ucr);
        spent = spent.saturating_add(over.spent_ucr);
    }
    let wallet = world.store().wallet(None, world.wallet, world.engine().clock().now()).await.unwrap().unwrap();
    assert_eq!(wallet.available_ucr, Ucr::from_credits(1_000).minus_or_zero(spent));
    assert_eq!((wallet.held_ucr, wallet.debt_ucr), (Ucr::ZERO, Ucr::ZERO));
    world.balances().await;
}

/// A first node that is free, a second that costs 900 credits.
const DEAR: &str = "{workflow: dear, flat_fee: 0, nodes: {a: {transform: {x: 1}}, \
                    b: {needs: [a], transform: {x: 1}, units: {tool_call: 90000}}}}";

#[test]
fn the_dear_node_costs_what_these_tests_say() {
    let prices = crate::support::default_prices();
    let definition = crate::support::hand::definition(DEAR);
    assert_eq!(prices.units_cost(&definition.nodes[1].units).unwrap(), Ucr::from_credits(900));
}

/// A world with too little for the dear node.
async fn poor(storage: Storage) -> World {
    let mut world = World::new(storage, Queues::Memory).await;
    world.grant(500).await;
    world.process.work(4);
    world
}

mod waiting {
    use super::*;

    on_both_stores!(poor: what_waits_for_credits_goes_on_when_they_come, what_waits_for_its_budget_can_be_cancelled);
}

async fn what_waits_for_credits_goes_on_when_they_come(world: World) {
    let mission = world.run(DEAR).await;
    let task = world.task_when(mission, "b", "waiting", |task| task.state == TaskState::Waiting).await;
    assert_eq!((task.wait, task.held_ucr, task.attempt), (Some(WaitCause::Credits), Ucr::ZERO, 0));
    assert!(task.status_reason.unwrap().contains("900"), "it says what is missing");
    world.grant(399).await;
    assert_eq!(world.task(mission, "b").await.state, TaskState::Waiting, "not enough yet");
    world.grant(1).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.spent_ucr), (RunState::Succeeded, Ucr::from_credits(900)));
    world.balances().await;
}

async fn what_waits_for_its_budget_can_be_cancelled(world: World) {
    world.grant(1_000).await;
    let workflow = world.put(DEAR).await;
    let submission =
        Submission { budget_ucr: Some(Ucr::from_credits(899)), ..world.submission(workflow.id, json!({})) };
    let mission = world.try_submit(submission).await.unwrap().mission_id;
    let task = world.task_when(mission, "b", "waiting", |task| task.state == TaskState::Waiting).await;
    assert_eq!(task.wait, Some(WaitCause::Credits));
    world.grant(1_000).await;
    assert_eq!(world.task(mission, "b").await.state, TaskState::Waiting, "credits are no budget");
    world.engine().cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    world.balances().await;
}

async fn a_task_beyond_its_budget_fails_where_the_mission_says_so(world: World) {
    let workflow = world.put(DEAR).await;
    let submission = Submission {
        budget_ucr: Some(Ucr::from_credits(10)),
        on_exhausted: Some(OnExhausted::Fail),
        ..world.submission(workflow.id, json!({}))
    };
    let mission = world.try_submit(submission).await.unwrap().mission_id;
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.spent_ucr), (RunState::Failed, Ucr::ZERO));
    assert_eq!(world.task(mission, "b").await.error.unwrap().code, "budget_exhausted");
    world.balances().await;
}

async fn a_used_up_grant_expires_once(world: World) {
    let store = world.store();
    let now = world.engine().clock().now();
    let request = bursar_domain::ledger::GrantRequest {
        id: bursar::clock::new_id(),
        op_id: bursar::clock::new_id(),
        wallet_id: world.wallet,
        kind: bursar_domain::record::GrantKind::Promo,
        priority: 0,
        amount: Ucr::from_credits(3),
        expires_at: Some(now.plus_ms(700)),
        reason: None,
        cost_basis_uusd: None,
        actor: None,
        reference: "gift".to_owned(),
    };
    world.engine().grant(&request).await.unwrap();
    let mission = world.run("{workflow: paid, flat_fee: 3, nodes: {a: {transform: {x: 1}}}}").await;
    assert_eq!(world.finished(mission).await.spent_ucr, Ucr::from_credits(3));
    let marked = || async {
        let grants = store.grants(world.wallet, None, 10).await.unwrap();
        grants.into_iter().find(|grant| grant.id == request.id).filter(|grant| grant.expired)
    };
    let grant = crate::support::eventually("the grant is marked", crate::support::world::PATIENCE, marked).await;
    assert_eq!(grant.remaining_ucr, Ucr::ZERO);
    let later = now.plus_ms(1_000_000);
    assert!(store.overdue_grants(later, 10).await.unwrap().is_empty(), "the sweep is done with it");
    world.balances().await;
}
