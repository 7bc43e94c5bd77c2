//! How many input tokens a provider reports for a token that we count, learned per provider and model.
//!
//! A weighted mean that moves slowly: a call weighs as many tokens as were counted for it, up to a limit, so that
//! neither tiny prompts nor one huge one decide; it starts at "as counted" and each call's ratio is clamped.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Parts per million of a factor that changes nothing.
pub const ONE_PPM: u32 = 1_000_000;

/// What was learned about one model of one provider. All sums; merges are additions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Factor {
    /// Calls ever learned from.
    pub samples: i64,
    /// The weight of the calls in the window, in tokens.
    pub weight: i64,
    /// The sum of weight times ratio in ppm over the window.
    pub weighted_ppm: i64,
}

impl Factor {
    /// Learns from a call: `counted` tokens before it, `reported` after it. A call without either teaches nothing.
    pub fn add(&mut self, counted: u64, reported: u64) {
        if counted == 0 || reported == 0 {
            return;
        }
        let ratio = u128::from(reported).saturating_mul(u128::from(ONE_PPM)).checked_div(u128::from(counted));
        let ratio = i64::try_from(ratio.unwrap_or(u128::MAX)).unwrap_or(i64::MAX);
        let ratio = ratio.clamp(i64::from(limits::LEAST_FACTOR_PPM), i64::from(limits::LARGEST_FACTOR_PPM));
        let weight = i64::try_from(counted).unwrap_or(i64::MAX).min(limits::FACTOR_SAMPLE_TOKENS);
        self.samples = self.samples.saturating_add(1);
        self.weight = self.weight.saturating_add(weight);
        self.weighted_ppm = self.weighted_ppm.saturating_add(weight.saturating_mul(ratio));
        self.fade();
    }

    /// Adds what another process learned.
    pub fn merge(&mut self, other: &Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.weight = self.weight.saturating_add(other.weight);
        self.weighted_ppm = self.weighted_ppm.saturating_add(other.weighted_ppm);
    }

    /// Halves the window until it is no larger than it may be: what is old counts less and less.
    pub fn fade(&mut self) {
        while self.weight > limits::FACTOR_WINDOW_TOKENS {
            self.weight >>= 1;
            self.weighted_ppm >>= 1;
        }
    }

    /// The factor in ppm; `None` below [`limits::ESTIMATE_LEAST_SAMPLES`] calls.
    pub fn ppm(&self) -> Option<u32> {
        if self.samples < limits::ESTIMATE_LEAST_SAMPLES {
            return None;
        }
        let prior = limits::FACTOR_PRIOR_TOKENS;
        let sum = self.weighted_ppm.saturating_add(prior.saturating_mul(i64::from(ONE_PPM)));
        let mean = sum.checked_div(self.weight.saturating_add(prior)).unwrap_or(i64::from(ONE_PPM));
        let mean = u32::try_from(mean).unwrap_or(ONE_PPM);
        Some(mean.clamp(limits::LEAST_FACTOR_PPM, limits::LARGEST_FACTOR_PPM))
    }
}

/// Tokens times a factor, rounded up; never zero for tokens that are not.
pub fn scaled(tokens: u64, factor_ppm: u32) -> u64 {
    let product = u128::from(tokens).saturating_mul(u128::from(factor_ppm)).div_ceil(u128::from(ONE_PPM));
    u64::try_from(product).unwrap_or(u64::MAX)
}
