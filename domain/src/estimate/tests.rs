//! Estimates keep their bounds whatever they are taught, and forget in time.

#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::{Factor, Learned, NodeCost, NodeKey, ONE_PPM, Sketch, scaled};
use crate::credits::Ucr;
use crate::flow::testbed::Dice;
use crate::limits::{self, ESTIMATE_LEAST_SAMPLES, LARGEST_FACTOR_PPM, LEAST_FACTOR_PPM};

fn sketch(amounts: &[i64]) -> Sketch {
    let mut sketch = Sketch::default();
    for amount in amounts {
        sketch.add(Ucr::new(*amount));
    }
    sketch
}

/// The smallest amount that so many percent of the others do not exceed.
fn nearest_rank(amounts: &[i64], percent: usize) -> i64 {
    let mut sorted = amounts.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// Amounts of every magnitude.
fn amount() -> impl Strategy<Value = i64> {
    (0_u32..63, any::<i64>()).prop_map(|(shift, bits)| (bits & i64::MAX) >> shift)
}

fn factor(calls: &[(u64, u64)]) -> Factor {
    let mut factor = Factor::default();
    for (counted, reported) in calls {
        factor.add(*counted, *reported);
    }
    factor
}

proptest! {
    #[test]
    fn a_percentile_is_never_below_the_true_one_and_at_most_an_eighth_above(
        amounts in prop::collection::vec(amount(), 1..300),
        percent in 1_u8..=100,
    ) {
        let told = sketch(&amounts).percentile(percent).unwrap().get();
        let truth = nearest_rank(&amounts, usize::from(percent));
        prop_assert!(told >= truth, "{told} < {truth}");
        prop_assert!(i128::from(told) <= i128::from(truth) + i128::from(truth) / 8, "{told} > 9/8 {truth}");
    }

    #[test]
    fn sketches_merge_in_any_order_to_the_same(
        parts in prop::collection::vec(prop::collection::vec(amount(), 0..30), 1..6),
        seed in any::<u64>(),
    ) {
        let whole = sketch(&parts.concat());
        let mut shuffled: Vec<&Vec<i64>> = parts.iter().collect();
        let mut dice = Dice::new(seed);
        for at in (1..shuffled.len()).rev() {
            shuffled.swap(at, usize::try_from(dice.below(at as u64 + 1)).unwrap());
        }
        let mut merged = Sketch::default();
        for part in shuffled {
            merged.merge(&sketch(part));
        }
        prop_assert_eq!(merged, whole);
    }

    #[test]
    fn a_sketch_comes_back_from_its_json(amounts in prop::collection::vec(amount(), 0..50)) {
        let sketch = sketch(&amounts);
        let json = serde_json::to_string(&sketch).unwrap();
        prop_assert_eq!(serde_json::from_str::<Sketch>(&json).unwrap(), sketch);
    }

    #[test]
    fn nothing_overflows_and_every_factor_stays_in_its_bounds(
        calls in prop::collection::vec((any::<u64>(), any::<u64>()), 0..200),
        other in any::<(i64, i64, i64)>(),
    ) {
        let mut factor = factor(&calls);
        prop_assert!(factor.weight <= limits::FACTOR_WINDOW_TOKENS);
        // even rows that nobody of ours wrote
        factor.merge(&Factor { samples: other.0, weight: other.1, weighted_ppm: other.2 });
        factor.fade();
        if let Some(ppm) = factor.ppm() {
            prop_assert!((LEAST_FACTOR_PPM..=LARGEST_FACTOR_PPM).contains(&ppm), "{ppm}");
        }
    }

    #[test]
    fn the_factor_is_between_the_smallest_and_the_largest_ratio_and_one(
        calls in prop::collection::vec((1_u64..100_000, 1_u64..100_000), 20..100),
    ) {
        let ratio = |(counted, reported): &(u64, u64)| reported * u64::from(ONE_PPM) / counted;
        let least = calls.iter().map(ratio).min().unwrap().min(u64::from(ONE_PPM));
        let most = calls.iter().map(ratio).max().unwrap().max(u64::from(ONE_PPM));
        let ppm = u64::from(factor(&calls).ppm().unwrap());
        prop_assert!((least.saturating_sub(1)..=most.max(u64::from(LEAST_FACTOR_PPM))).contains(&ppm)
            || ppm == u64::from(LARGEST_FACTOR_PPM) || ppm == u64::from(LEAST_FACTOR_PPM), "{least} {ppm} {most}");
    }

    #[test]
    fn node_costs_of_any_size_merge_without_overflow_and_stay_in_the_window(
        amounts in prop::collection::vec((any::<i64>(), any::<i64>(), any::<i64>()), 0..600),
    ) {
        let mut cost = NodeCost::default();
        for (calls, charged, estimated) in &amounts {
            cost.add(Ucr::new(*calls), Ucr::new(*charged), Ucr::new(*estimated));
        }
        let mut twice = cost.clone();
        twice.merge(&cost);
        twice.fade();
        prop_assert!(!twice.buckets.is_over_full());
        prop_assert_eq!(twice.samples, 2 * i64::try_from(amounts.len()).unwrap());
        prop_assert!(twice.charged_ucr >= 0 && twice.estimated_ucr >= 0);
        prop_assert_eq!(twice.range().is_some(), twice.samples >= ESTIMATE_LEAST_SAMPLES);
    }
}

#[test]
fn the_last_bucket_holds_the_largest_amount() {
    assert_eq!(sketch(&[i64::MAX]).percentile(100), Some(Ucr::MAX));
    assert_eq!(sketch(&[i64::MIN, -1, 0]).percentile(100), Some(Ucr::ZERO));
    assert_eq!(Sketch::default().percentile(95), None);
    let foreign: Sketch = serde_json::from_str("[[65535, 3], [1, 0]]").unwrap();
    assert_eq!((foreign.percentile(50), foreign.weight()), (Some(Ucr::MAX), 3));
}

#[test]
fn too_few_samples_are_not_used() {
    let mut factor = Factor::default();
    let mut cost = NodeCost::default();
    for _ in 1..ESTIMATE_LEAST_SAMPLES {
        factor.add(1_000, 2_000);
        cost.add(Ucr::new(7), Ucr::new(7), Ucr::new(14));
    }
    assert_eq!((factor.ppm(), cost.range()), (None, None));
    factor.add(1_000, 2_000);
    cost.add(Ucr::new(7), Ucr::new(7), Ucr::new(14));
    assert!(factor.ppm().unwrap() > ONE_PPM);
    assert_eq!((cost.range().unwrap().high, cost.error_ppm()), (Ucr::new(7), Some(500_000)));
}

#[test]
fn the_factor_moves_slowly_and_one_absurd_call_hardly_moves_it() {
    let mut factor = factor(&[(2_000, 2_400); 200]);
    let settled = factor.ppm().unwrap();
    assert!((1_180_000..=1_200_000).contains(&settled), "{settled}");
    factor.add(2_000, u64::MAX);
    let after = factor.ppm().unwrap();
    assert!(after > settled && after - settled < 20_000, "{settled} {after}");
    factor.add(0, 5);
    factor.add(5, 0);
    assert_eq!(factor.samples, 201, "nothing counted or nothing reported teaches nothing");
}

#[test]
fn old_behaviour_fades() {
    let mut factor = factor(&vec![(4_000, 8_000); 2_000]);
    assert!(factor.ppm().unwrap() > 1_990_000);
    let mut cost = NodeCost::default();
    (0..2_000).for_each(|_| cost.add(Ucr::new(1_000_000), Ucr::new(1_000_000), Ucr::new(1_000_000)));
    for _ in 0..5_000 {
        factor.add(4_000, 4_000);
        cost.add(Ucr::new(10), Ucr::new(10), Ucr::new(10));
    }
    assert!(factor.ppm().unwrap() < 1_010_000, "{:?}", factor.ppm());
    assert_eq!(cost.range().unwrap().high, Ucr::new(10));
    assert_eq!(cost.samples, 7_000, "how often it was taught is not forgotten");
}

#[test]
fn a_dearer_node_is_noticed_within_some_dozens_of_tasks() {
    let mut cost = NodeCost::default();
    (0..10_000).for_each(|_| cost.add(Ucr::new(10), Ucr::new(10), Ucr::new(10)));
    (0..40).for_each(|_| cost.add(Ucr::new(900), Ucr::new(900), Ucr::new(10)));
    assert!(cost.range().unwrap().high >= Ucr::new(900), "{:?}", cost.range());
}

#[test]
fn what_is_learned_is_found_again_and_only_by_its_own_key() {
    let mut dice = Dice::new(1);
    let key = NodeKey { tenant_id: dice.id(), price_book_id: dice.id(), workflow: "w".into(), node: "n".into() };
    let mut cost = NodeCost::default();
    (0..20).for_each(|_| cost.add(Ucr::new(15), Ucr::new(15), Ucr::new(15)));
    let mut learned = Learned::default();
    learned.know_node(&key, &cost);
    learned.know_factor("a", "m", &factor(&[(4_000, 8_000); 40]));
    learned.know_factor("b", "m", &factor(&[(4_000, 2_000); 40]));
    let found = |tenant, book, workflow: &str, node: &str| learned.node(tenant, book, workflow, node);
    assert_eq!(found(key.tenant_id, key.price_book_id, "w", "n").unwrap().expected, Ucr::new(15));
    assert_eq!(found(dice.id(), key.price_book_id, "w", "n"), None, "tenants learn nothing from each other");
    assert_eq!(found(key.tenant_id, dice.id(), "w", "n"), None, "other prices, other costs");
    assert_eq!(found(key.tenant_id, key.price_book_id, "w", "other"), None);
    assert!(learned.factor_ppm("a", "m") > ONE_PPM && learned.factor_ppm("b", "m") < ONE_PPM);
    assert_eq!(learned.factor_ppm("c", "m"), ONE_PPM);
    assert_eq!(learned.largest_factor_ppm("m"), learned.factor_ppm("a", "m"));
    assert_eq!(learned.largest_factor_ppm("unheard-of"), ONE_PPM);
}

#[test]
fn scaling_rounds_up_and_never_wraps() {
    assert_eq!((scaled(0, 2_000_000), scaled(1, 500_000), scaled(3, 1_500_000)), (0, 1, 5));
    assert_eq!(scaled(u64::MAX, 4_000_000), u64::MAX);
}
