//! Outputs that are used again: what is kept for whom, and that a hit costs nothing.

use serde_json::json;

use super::{ONE_HOLD_UCR, workflow};
use crate::flow::testbed::{Lease, World};
use crate::flow::{CacheUse, SettleRequest};
use crate::outcome::{FinishedCall, Outcome};
use crate::state::TaskState;

const UNITS: &str = "  one: { agent: a, prompt: p, units: { step: 3 } }\n  two: { needs: [one], sleep: 1s }";

fn succeed(world: &mut World, lease: &Lease, calls: Vec<FinishedCall>, cache: CacheUse) {
    let outcome = Outcome::Succeeded { output: json!("an answer"), calls };
    let request = SettleRequest { cache: Some(cache), ..lease.settle(outcome) };
    world.settle(lease, &request).unwrap();
}

#[test]
fn a_success_is_kept_for_its_tenant_and_billed_as_ever() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", UNITS));
    let lease = world.claim(mission, "one");
    let call = world.call(&lease, 10, 10);
    succeed(&mut world, &lease, vec![call], CacheUse::Keep { hash: "abc".to_owned(), ttl_ms: 5_000 });
    let kept = &world.tables.kept[&lease.task];
    assert_eq!((kept.hash.as_str(), kept.tenant_id, kept.expires_at), ("abc", world.tenant, world.now.plus_ms(5_000)));
    assert!(world.spent(mission) > 3_000);
    world.verify();
}

#[test]
fn a_hit_costs_nothing_not_even_units_and_gives_its_hold_back() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&workflow("", UNITS));
    assert!(world.held(mission, "one").is_some_and(|held| held > ONE_HOLD_UCR));
    let lease = world.claim(mission, "one");
    succeed(&mut world, &lease, Vec::new(), CacheUse::Hit);
    assert_eq!((world.spent(mission), world.held(mission, "one")), (0, None));
    assert_eq!((world.state(mission, "one"), world.state(mission, "two")), (TaskState::Succeeded, TaskState::Waiting));
    assert!(world.tables.kept.is_empty(), "what is used again is not kept again: it does not live for ever");
    let told = world.tables.events.values().find(|event| event.kind == "task.succeeded").unwrap();
    assert_eq!((&told.data["cached"], &told.data["credits"]), (&json!(true), &json!("0.000000")));
    world.verify();
}
