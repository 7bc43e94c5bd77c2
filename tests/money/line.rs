//! The line for credits: who waits goes on by himself and in order, small ones pass large ones for a minute and not
//! longer, and nobody stands in the way who does not wait for credits.

use bursar::store::Want;
use bursar_domain::credits::Ucr;
use bursar_domain::flow;
use bursar_domain::id::MissionId;
use bursar_domain::ledger::Terms;
use bursar_domain::state::{RunState, TaskState, WaitCause};

use super::desk::{CREDIT, Desk, priced};
use crate::support::stores::on_both_stores;
use crate::support::world::{Queues, World};

on_both_stores!(Desk::empty:
    a_small_task_passes_a_large_one_for_a_minute_and_not_longer,
    the_line_is_served_in_order_when_credits_come,
    who_lacks_room_in_a_budget_of_his_own_blocks_nobody,
    a_frozen_wallet_forms_no_line,
    a_line_whose_head_was_cancelled_dissolves_at_once,
    a_line_that_nobody_confirms_dissolves_by_itself,
    what_waits_goes_on_oldest_first_after_a_top_up_a_raised_limit_and_a_raised_budget,
);

/// A mission whose first step is done and whose second waits for so many hundredths of a credit.
async fn waiting(desk: &mut Desk, hundredths: u64) -> MissionId {
    desk.give(10_000).await;
    let mission = desk.start(&priced("flat_fee: 0,", &[1, hundredths])).await;
    desk.do_node(mission, "n0").await;
    let task = desk.task(mission, "n1").await;
    assert_eq!((task.state, task.wait), (TaskState::Waiting, Some(WaitCause::Credits)));
    mission
}

/// A mission of one small step, submitted; where its task stands.
async fn small(desk: &mut Desk) -> (MissionId, TaskState) {
    let mission = desk.start(&priced("flat_fee: 0,", &[10])).await;
    (mission, desk.task(mission, "n0").await.state)
}

async fn sweep_for(desk: &mut Desk, seconds: i64) {
    for _ in 0..seconds {
        desk.pass_ms(1_000);
        desk.sweep().await;
    }
}

async fn a_small_task_passes_a_large_one_for_a_minute_and_not_longer(mut desk: Desk) {
    let large = waiting(&mut desk, 500).await;
    desk.give(CREDIT).await;
    sweep_for(&mut desk, 59).await;
    assert_eq!(small(&mut desk).await.1, TaskState::Ready, "after 59 seconds it passes");
    sweep_for(&mut desk, 1).await;
    let (late, state) = small(&mut desk).await;
    assert_eq!(state, TaskState::Waiting, "after 60 it does not");
    let reason = desk.task(late, "n0").await.status_reason.unwrap();
    assert!(reason.contains("in line behind older tasks"), "{reason}");
    sweep_for(&mut desk, 100).await;
    assert_eq!(desk.task(late, "n0").await.state, TaskState::Waiting, "however long it takes");
    desk.clean().await;
    desk.give(5 * CREDIT).await;
    for mission in [large, late] {
        let node = if mission == large { "n1" } else { "n0" };
        assert_eq!(desk.task(mission, node).await.state, TaskState::Ready);
        desk.do_node(mission, node).await;
        assert_eq!(desk.end(mission).await.0, RunState::Succeeded);
    }
    desk.clean().await;
}

async fn the_line_is_served_in_order_when_credits_come(mut desk: Desk) {
    let mut missions = Vec::new();
    for hundredths in [300, 200, 100] {
        missions.push(waiting(&mut desk, hundredths).await);
        desk.pass_ms(1);
    }
    sweep_for(&mut desk, 61).await;
    let ready = async |desk: &Desk| {
        let mut ready = Vec::new();
        for mission in &missions {
            ready.push(desk.task(*mission, "n1").await.state == TaskState::Ready);
        }
        ready
    };
    desk.give(2 * CREDIT).await;
    assert_eq!(ready(&desk).await, [false; 3], "enough for each of the younger, kept for the oldest");
    desk.give(CREDIT).await;
    assert_eq!(ready(&desk).await, [true, false, false]);
    // the line moved on: the second leads it now, and the third stays behind him
    sweep_for(&mut desk, 2).await;
    desk.give(CREDIT).await;
    assert_eq!(ready(&desk).await, [true, false, false]);
    desk.give(CREDIT).await;
    assert_eq!(ready(&desk).await, [true, true, false]);
    desk.give(CREDIT).await;
    assert_eq!(ready(&desk).await, [true; 3]);
    desk.clean().await;
}

async fn who_lacks_room_in_a_budget_of_his_own_blocks_nobody(mut desk: Desk) {
    desk.give(2 * CREDIT).await;
    let bounded = desk.start(&priced("flat_fee: 0, budget: {credits: 1},", &[50, 60])).await;
    desk.do_node(bounded, "n0").await;
    assert_eq!(desk.task(bounded, "n1").await.wait, Some(WaitCause::Credits));
    sweep_for(&mut desk, 100).await;
    assert_eq!(small(&mut desk).await.1, TaskState::Ready);
    // nor when credits are missing besides
    let poor = desk.start(&priced("flat_fee: 0,", &[130])).await;
    sweep_for(&mut desk, 100).await;
    assert_eq!(small(&mut desk).await.1, TaskState::Ready);
    desk.do_node(poor, "n0").await;
    desk.clean().await;
}

async fn a_frozen_wallet_forms_no_line(mut desk: Desk) {
    desk.give(2 * CREDIT).await;
    let mission = desk.start(&priced("flat_fee: 0,", &[10, 150])).await;
    desk.freeze(true).await;
    desk.do_node(mission, "n0").await;
    sweep_for(&mut desk, 100).await;
    assert_eq!(desk.task(mission, "n1").await.wait, Some(WaitCause::Credits));
    desk.freeze(false).await;
    assert_eq!(desk.task(mission, "n1").await.state, TaskState::Ready);
    assert_eq!(small(&mut desk).await.1, TaskState::Ready);
    desk.clean().await;
}

async fn a_line_whose_head_was_cancelled_dissolves_at_once(mut desk: Desk) {
    let large = waiting(&mut desk, 500).await;
    desk.give(CREDIT).await;
    sweep_for(&mut desk, 61).await;
    let (behind, state) = small(&mut desk).await;
    assert_eq!(state, TaskState::Waiting);
    desk.cancel(large).await;
    assert_eq!(small(&mut desk).await.1, TaskState::Ready, "nobody is in front of it");
    desk.sweep().await;
    assert_eq!(desk.task(behind, "n0").await.state, TaskState::Ready);
    desk.clean().await;
}

async fn a_line_that_nobody_confirms_dissolves_by_itself(mut desk: Desk) {
    let large = waiting(&mut desk, 500).await;
    desk.give(CREDIT).await;
    sweep_for(&mut desk, 61).await;
    // it no longer waits for credits, and says nothing any more
    let want = Want { missions: vec![large], ..Want::default() };
    let budget = Some(Some(Ucr::from_credits(1)));
    desk.decide(want, |turn| flow::set_budget(turn, large, budget, None)).await.unwrap().unwrap();
    assert_eq!(small(&mut desk).await.1, TaskState::Waiting);
    sweep_for(&mut desk, 30).await;
    assert_eq!(small(&mut desk).await.1, TaskState::Ready);
    desk.clean().await;
}

async fn what_waits_goes_on_oldest_first_after_a_top_up_a_raised_limit_and_a_raised_budget(mut desk: Desk) {
    let mut missions = Vec::new();
    for _ in 0..3 {
        missions.push(waiting(&mut desk, 100).await);
        desk.pass_ms(10);
    }
    let ready = async |desk: &Desk| {
        let mut count = 0;
        for (place, mission) in missions.iter().enumerate() {
            if desk.task(*mission, "n1").await.state == TaskState::Ready {
                assert_eq!(place, count, "oldest first");
                count += 1;
            }
        }
        count
    };
    desk.give(CREDIT).await;
    assert_eq!(ready(&desk).await, 1, "a top-up");
    let limit = |credits| Terms { day_limit: Some(Some(Ucr::new(credits))), ..Terms::default() };
    // three hundredths were spent, a credit is held
    desk.set_terms(limit(2 * CREDIT)).await;
    desk.give(5 * CREDIT).await;
    assert_eq!(ready(&desk).await, 1, "the day's limit leaves no room");
    desk.set_terms(limit(2 * CREDIT + 30_000)).await;
    assert_eq!(ready(&desk).await, 2, "a raised limit");
    desk.set_terms(Terms { day_limit: Some(None), ..Terms::default() }).await;
    assert_eq!(ready(&desk).await, 3, "a lifted limit");
    desk.clean().await;
}

mod in_the_engine {
    use super::*;

    on_both_stores!(without_credits: a_top_up_a_raised_limit_and_a_raised_budget_resume_by_themselves);
}

/// A world with workers and hardly any credits.
async fn without_credits(storage: crate::support::stores::Storage) -> World {
    let mut world = World::new(storage, Queues::Memory).await;
    world.grant(1).await;
    world.process.work(4);
    world
}

/// The engine itself, with its workers and its sweep: each of the three is all that an operator has to do.
async fn a_top_up_a_raised_limit_and_a_raised_budget_resume_by_themselves(world: World) {
    let text = priced("flat_fee: 0,", &[1, 500]);
    let parked = async |world: &World, mission: MissionId| {
        let is_parked = |task: &bursar::store::read::TaskView| task.wait == Some(WaitCause::Credits);
        world.task_when(mission, "n1", "waiting", is_parked).await
    };
    let mission = world.run(&text).await;
    parked(&world, mission).await;
    world.grant(100).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded, "after a top-up");

    let limit = |credits| Terms { day_limit: Some(Some(Ucr::from_credits(credits))), ..Terms::default() };
    world.engine().set_terms(world.wallet, &limit(6)).await.unwrap();
    let mission = world.run(&text).await;
    parked(&world, mission).await;
    world.engine().set_terms(world.wallet, &limit(1_000)).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded, "after a raised limit");

    let mission = world.run(&priced("flat_fee: 0, budget: {credits: 5},", &[1, 500])).await;
    parked(&world, mission).await;
    world.engine().set_budget(mission, Some(Some(Ucr::from_credits(6))), None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded, "after a raised budget");
    world.balances().await;
    let report = bursar::verify::verify(world.store()).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
}
