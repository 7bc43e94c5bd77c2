//! A season: storm after storm, each of another seed, on all cores. Short in the suite, a million steps and more with
//! `./test simulation`, which sets how many and from which seed on.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{STEPS, weather};

/// Steps of all storms together when nobody asked for another number.
const FEW_STEPS: u64 = 8_000;
/// The first seed when nobody asked for another; not one that always runs.
const FIRST_SEED: u64 = 1_000;

/// A number that `./test simulation` set.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number and is {text:?}")))
}

#[test]
fn a_season_of_storms_breaks_nothing() {
    let steps = number("BURSAR_SIMULATION_STEPS").unwrap_or(FEW_STEPS);
    let first = number("BURSAR_SIMULATION_SEED").unwrap_or(FIRST_SEED);
    let storms = steps.div_ceil(u64::from(STEPS)).max(1);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let storm = next.fetch_add(1, Ordering::Relaxed);
                    if storm >= storms {
                        return;
                    }
                    weather(first.wrapping_add(storm), STEPS);
                }
            });
        }
    });
    println!("{storms} storms of {STEPS} steps, from seed {first} on, broke nothing");
}
