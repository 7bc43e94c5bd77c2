//! The same wish twice: one mission has a key, as long as it runs and as long as its window says.

use proptest::prelude::*;

use crate::flow::testbed::World;
use crate::flow::{Dedupe, DedupeMode, Refusal};
use crate::id::{MissionId, WorkflowId};
use crate::state::RunState;

const FREE: &str = "workflow: w\nflat_fee: 0\nnodes: { x: { transform: 1 } }";

fn submit(world: &mut World, workflow: WorkflowId, key: &str, window_ms: i64) -> Result<MissionId, Refusal> {
    let mut submission = world.submission(workflow);
    submission.dedupe = Some(Dedupe { key: key.to_owned(), window_ms, mode: DedupeMode::Reject });
    world.try_submit(&submission)
}

fn holder(refused: Result<MissionId, Refusal>) -> Option<MissionId> {
    match refused {
        Err(Refusal::Duplicate { mission_id, .. }) => Some(mission_id),
        _ => None,
    }
}

#[test]
fn a_key_is_taken_while_its_mission_runs_and_until_its_window_is_over() {
    let mut world = World::with_credits(10);
    let workflow = world.define(FREE);
    let first = submit(&mut world, workflow, "order-7", 1_000).unwrap();
    world.pass_ms(5_000);
    assert_eq!(holder(submit(&mut world, workflow, "order-7", 1_000)), Some(first), "it still runs");
    world.do_node(first, "x", None);
    let second = submit(&mut world, workflow, "order-7", 1_000).unwrap();
    world.do_node(second, "x", None);
    world.pass_ms(999);
    assert_eq!(holder(submit(&mut world, workflow, "order-7", 1_000)), Some(second), "its window is open");
    world.pass_ms(1);
    submit(&mut world, workflow, "order-7", 1_000).unwrap();
    submit(&mut world, workflow, "order-8", 1_000).unwrap();
    world.verify();
}

#[test]
fn a_refused_submit_takes_no_key() {
    let mut world = World::new(7);
    let workflow = world.define("workflow: w\nflat_fee: 5\nnodes: { x: { transform: 1 } }");
    assert!(matches!(submit(&mut world, workflow, "order-7", 1_000), Err(Refusal::Ledger(_))));
    assert!(world.tables.dedupe_keys.is_empty());
    world.grant(10);
    submit(&mut world, workflow, "order-7", 1_000).unwrap();
    world.verify();
}

#[test]
fn another_tenant_has_keys_of_its_own() {
    let mut world = World::with_credits(10);
    let workflow = world.define(FREE);
    submit(&mut world, workflow, "order-7", 1_000).unwrap();
    world.tenant = world.dice.id();
    submit(&mut world, workflow, "order-7", 1_000).unwrap();
}

proptest! {
    #[test]
    fn whatever_happens_a_key_never_has_two_missions_at_once(
        steps in prop::collection::vec((0_u8..3, 0_usize..2, 0_i64..50), 1..60)
    ) {
        let mut world = World::with_credits(10);
        let workflow = world.define(FREE);
        // who has the key, and until when at least
        let mut taken: [Option<(MissionId, i64)>; 2] = [None, None];
        for (action, key, ms) in steps {
            let name = ["a", "b"][key];
            match action {
                0 => {
                    let now = world.now.ms();
                    let is_taken = taken[key].filter(|(mission, until)| {
                        world.run(*mission).state != RunState::Succeeded || now < *until
                    });
                    let answer = submit(&mut world, workflow, name, ms);
                    match is_taken {
                        Some((mission, _)) => prop_assert_eq!(holder(answer), Some(mission)),
                        None => taken[key] = Some((answer.unwrap(), now + ms)),
                    }
                }
                1 => world.pass_ms(ms),
                _ => {
                    if let Some((mission, _)) = taken[key].filter(|(id, _)| world.run(*id).state == RunState::Queued) {
                        world.do_node(mission, "x", None);
                    }
                }
            }
        }
        prop_assert!(world.tables.dedupe_keys.len() <= 2);
        world.verify();
    }
}
