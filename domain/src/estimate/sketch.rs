//! The distribution of amounts in a few hundred counters, mergeable in any order.
//!
//! A histogram with eight buckets of equal width per power of two. Amounts below 16 µcr have a bucket each; above,
//! a bucket is at most an eighth as wide as its lower end is large. A quantile is told as the upper end of its bucket,
//! so it is never below the true one (nearest rank) and at most 12.5 % above it. There are 488 buckets for all
//! amounts that exist; only those that hold something are kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::credits::Ucr;
use crate::limits::ESTIMATE_WINDOW_SAMPLES;

/// What one sample weighs when it is new: ten halvings later it is still one.
const SAMPLE_WEIGHT: u64 = 1_024;
/// Buckets per power of two, as a power of two.
const BUCKET_BITS: u32 = 3;
/// Buckets per power of two.
const BUCKETS_PER_OCTAVE: u16 = 8;

/// A histogram of amounts. Serialises as `[[bucket, weight], …]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
pub struct Sketch {
    weights: BTreeMap<u16, u64>,
}

impl From<Vec<(u16, u64)>> for Sketch {
    /// Buckets that do not exist count as the last one, so that nothing written elsewhere can lead out of range.
    fn from(pairs: Vec<(u16, u64)>) -> Self {
        let mut sketch = Self::default();
        for (bucket, weight) in pairs {
            sketch.put(bucket.min(bucket_of(i64::MAX)), weight);
        }
        sketch
    }
}

impl From<Sketch> for Vec<(u16, u64)> {
    fn from(sketch: Sketch) -> Self {
        sketch.weights.into_iter().collect()
    }
}

impl Sketch {
    /// Adds a sample; a negative amount counts as zero.
    pub fn add(&mut self, amount: Ucr) {
        self.put(bucket_of(amount.get()), SAMPLE_WEIGHT);
    }

    /// Adds the samples of another one.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, weight) in &other.weights {
            self.put(*bucket, *weight);
        }
    }

    fn put(&mut self, bucket: u16, weight: u64) {
        if weight > 0 {
            let slot = self.weights.entry(bucket).or_default();
            *slot = slot.saturating_add(weight);
        }
    }

    /// Halves all weights; what falls below one is forgotten.
    pub fn halve(&mut self) {
        self.weights.retain(|_, weight| {
            *weight >>= 1;
            *weight > 0
        });
    }

    /// Whether more samples are in it than the window holds.
    pub fn is_over_full(&self) -> bool {
        self.weight() > Self::most_weight()
    }

    /// The weight above which a sketch is halved.
    pub fn most_weight() -> u64 {
        SAMPLE_WEIGHT.saturating_mul(ESTIMATE_WINDOW_SAMPLES)
    }

    /// The weight of all samples.
    pub fn weight(&self) -> u64 {
        self.weights.values().fold(0, |sum: u64, weight| sum.saturating_add(*weight))
    }

    /// How many samples are in it, faded ones in part.
    pub fn samples(&self) -> u64 {
        self.weight() / SAMPLE_WEIGHT
    }

    /// The amount that so many percent of the samples do not exceed, never told too small and at most 12.5 % too
    /// large. `None` of an empty sketch.
    pub fn percentile(&self, percent: u8) -> Option<Ucr> {
        let all = u128::from(self.weight());
        let wanted = all.saturating_mul(u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut seen: u128 = 0;
        let bucket = self.weights.iter().find(|(_, weight)| {
            seen = seen.saturating_add(u128::from(**weight));
            seen >= wanted
        });
        bucket.map(|(bucket, _)| Ucr::new(upper_end(*bucket)))
    }
}

/// The bucket of an amount.
fn bucket_of(amount: i64) -> u16 {
    let amount = u64::try_from(amount).unwrap_or(0);
    let shift = amount.checked_ilog2().unwrap_or(0).saturating_sub(BUCKET_BITS);
    // the leading bit and the three behind it: below 8 the amount itself, else 8 to 15
    let head = amount.checked_shr(shift).unwrap_or(0);
    let octaves = u64::from(shift).saturating_mul(u64::from(BUCKETS_PER_OCTAVE));
    u16::try_from(octaves.saturating_add(head)).unwrap_or(u16::MAX)
}

/// The largest amount of a bucket.
fn upper_end(bucket: u16) -> i64 {
    let octave = bucket / BUCKETS_PER_OCTAVE;
    let Some(shift) = octave.checked_sub(1).filter(|shift| *shift > 0) else { return i64::from(bucket) };
    let head = u128::from(bucket % BUCKETS_PER_OCTAVE).saturating_add(u128::from(BUCKETS_PER_OCTAVE));
    let end = head.saturating_add(1).checked_shl(u32::from(shift)).unwrap_or(u128::MAX).saturating_sub(1);
    i64::try_from(end).unwrap_or(i64::MAX)
}
