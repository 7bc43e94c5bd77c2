//! The order in which grants are spent is the specification sorted: priority, expiry, free before paid, id.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::Gift;
use crate::flow::testbed::{DAWN, World};
use crate::ledger::{draw_order, spendable};
use crate::record::{Grant, GrantKind};
use crate::time::Timestamp;

fn gift() -> impl Strategy<Value = Gift> {
    let kinds = [GrantKind::Promo, GrantKind::Included, GrantKind::Refund, GrantKind::Adjust, GrantKind::Paid];
    let expiry = prop_oneof![Just(None), (1_i64..6).prop_map(|ms| Some(DAWN.plus_ms(ms)))];
    (proptest::sample::select(kinds.to_vec()), 0_i16..3, 1_i64..50, expiry)
        .prop_map(|(kind, priority, amount_ucr, expires_at)| Gift { kind, priority, amount_ucr, expires_at })
}

/// The specification, said step by step.
fn before(left: &Grant, right: &Grant) -> Ordering {
    if left.priority != right.priority {
        return left.priority.cmp(&right.priority);
    }
    match (left.expires_at, right.expires_at) {
        (Some(_), None) => return Ordering::Less,
        (None, Some(_)) => return Ordering::Greater,
        (Some(one), Some(other)) if one != other => return one.cmp(&other),
        _ => {}
    }
    match (left.kind == GrantKind::Paid, right.kind == GrantKind::Paid) {
        (false, true) => Ordering::Less,
        (true, false) => Ordering::Greater,
        _ => left.id.cmp(&right.id),
    }
}

/// The grants that can be spent, by the specification.
fn expected(world: &World, now: Timestamp) -> Vec<Grant> {
    let lives = |grant: &&Grant| grant.remaining_ucr.get() > 0 && grant.expires_at.is_none_or(|end| now < end);
    let mut grants: Vec<Grant> = world.tables.grants.values().filter(lives).cloned().collect();
    grants.sort_by(before);
    grants
}

proptest! {
    #[test]
    fn grants_are_drawn_in_the_order_of_the_specification(
        gifts in proptest::collection::vec(gift(), 1..12),
        late_ms in 0_i64..7,
        share in 1_i64..100,
    ) {
        let mut world = World::new(1);
        for (at, gift) in gifts.iter().enumerate() {
            world.gift(*gift, &at.to_string()).unwrap();
        }
        world.pass_ms(late_ms);
        let order = expected(&world, world.now);
        let total: i64 = order.iter().map(|grant| grant.remaining_ucr.get()).sum();
        let set = world.tables.load(&world.want_wallet());
        let drawn: Vec<_> = draw_order(&set, world.wallet, world.now).into_iter().map(|grant| grant.id).collect();
        prop_assert_eq!(drawn, order.iter().map(|grant| grant.id).collect::<Vec<_>>());
        prop_assert_eq!(spendable(&set, world.wallet, world.now).get(), total);

        let amount = (total * share / 100).max(1);
        let held = world.hold(amount);
        prop_assert_eq!(held.is_ok(), amount <= total);
        let Ok(hold) = held else { return Ok(()) };
        let mut missing = amount;
        let mut slices = Vec::new();
        for grant in order {
            let taken = missing.min(grant.remaining_ucr.get());
            missing -= taken;
            if taken > 0 {
                slices.push((grant.id, taken));
            }
        }
        let known = &world.tables.holds[&hold].slices;
        prop_assert_eq!(known.iter().map(|slice| (slice.grant, slice.amount.get())).collect::<Vec<_>>(), slices);
    }
}
