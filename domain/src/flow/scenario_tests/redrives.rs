//! Dead letters that are tried again in bulk: each once for an order, and none that has gone on since.

use super::{ONE, workflow};
use crate::flow::testbed::World;
use crate::flow::{DeadLetter, Order, Redriven, Refusal};
use crate::id::MissionId;
use crate::ledger::LedgerRefusal;
use crate::outcome::ErrorClass;
use crate::state::RunState;

fn fail(world: &mut World, mission: MissionId) {
    let lease = world.claim(mission, "one");
    world.fail(&lease, ErrorClass::Permanent, vec![]);
    assert_eq!(world.run(mission).state, RunState::Failed);
}

fn dead(world: &mut World) -> DeadLetter {
    let mission = world.submit(&workflow("flat_fee: 1", ONE));
    fail(world, mission);
    found(world, mission)
}

fn found(world: &World, mission: MissionId) -> DeadLetter {
    let run = world.run(mission);
    DeadLetter { mission_id: mission, run_id: run.id, retries: run.retries }
}

fn order(key: &str) -> Order {
    Order { key: key.to_owned(), hash: "redrive".to_owned() }
}

#[test]
fn an_order_redrives_a_dead_letter_once_even_when_it_fails_again() {
    let mut world = World::with_credits(100);
    let letter = dead(&mut world);
    assert_eq!(world.redrive(&letter, &order("bulk")), Ok(Redriven::Now));
    assert_eq!(world.redrive(&letter, &order("bulk")), Ok(Redriven::Before), "it runs");
    fail(&mut world, letter.mission_id);
    assert_eq!(world.redrive(&letter, &order("bulk")), Ok(Redriven::Before), "it failed again");
    assert_eq!((world.run(letter.mission_id).retries, world.run(letter.mission_id).state), (1, RunState::Failed));
    world.verify();
    // a later order finds it as it is now
    let again = found(&world, letter.mission_id);
    assert_eq!(world.redrive(&again, &order("later")), Ok(Redriven::Now));
    assert_eq!(world.redrive(&letter, &order("bulk")), Ok(Redriven::Elsewhere), "the later order had it go on");
    world.do_node(letter.mission_id, "one", Some((10, 10)));
    assert_eq!(world.run(letter.mission_id).state, RunState::Succeeded);
    assert_eq!(world.redrive(&again, &order("later")), Ok(Redriven::Before));
    world.verify();
}

#[test]
fn what_somebody_had_go_on_is_left_alone() {
    let mut world = World::with_credits(100);
    let retried = dead(&mut world);
    world.retry(retried.mission_id).unwrap();
    assert_eq!(world.redrive(&retried, &order("bulk")), Ok(Redriven::Elsewhere));
    fail(&mut world, retried.mission_id);
    assert_eq!(
        world.redrive(&retried, &order("bulk")),
        Ok(Redriven::Elsewhere),
        "it failed once more, not as it was found"
    );
    let forked = dead(&mut world);
    world.fork(forked.mission_id, "one").unwrap();
    fail(&mut world, forked.mission_id);
    assert_eq!(world.redrive(&forked, &order("bulk")), Ok(Redriven::Elsewhere), "its run is another");
    world.verify();
}

#[test]
fn a_dead_letter_that_nobody_can_pay_stays_as_it_is() {
    let mut world = World::with_credits(3);
    let letter = dead(&mut world);
    let hungry = world.submit(&workflow("flat_fee: 3", "  nap: { sleep: 1h }"));
    let refused = world.redrive(&letter, &order("bulk"));
    assert!(matches!(refused, Err(Refusal::Ledger(LedgerRefusal::Insufficient { .. }))), "{refused:?}");
    assert_eq!(found(&world, letter.mission_id), letter);
    world.cancel(hungry).unwrap();
    assert_eq!(world.redrive(&letter, &order("bulk")), Ok(Redriven::Now));
    world.verify();
}
