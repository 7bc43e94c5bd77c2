//! When a failed attempt is tried again: exponential back-off with full jitter.
//!
//! Pure arithmetic over whole milliseconds; the caller brings the random number. Which class an error
//! has is not decided here (see [`crate::outcome::ErrorClass`]).

use serde::{Deserialize, Serialize};

use crate::outcome::ErrorClass;

/// How often a node is tried and how long to wait in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. At least 1.
    pub max_attempts: u32,
    /// The pause after the first failure, in milliseconds, before jitter.
    pub initial_ms: i64,
    /// How much longer each further pause is.
    pub factor: u32,
    /// The longest pause, in milliseconds.
    pub max_ms: i64,
    /// Whether a pause is drawn from zero up to its length, so that many failures do not come back at once.
    pub jitter: bool,
    /// Which errors are worth another attempt.
    pub on: RetryOn,
}

/// The classes of errors after which a node is tried again. The others never are: what is permanent stays, what lacks
/// credits waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryOn {
    /// Timeouts, cut connections, answers that did not pass.
    pub retryable: bool,
    /// A provider's rate limit; the wait consumes no attempt.
    pub rate_limited: bool,
    /// The step was stopped, not by a user.
    pub cancelled: bool,
    /// The worker vanished; that consumes no attempt.
    pub lost: bool,
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { retryable: true, rate_limited: true, cancelled: true, lost: true }
    }
}

impl RetryOn {
    /// After no error at all.
    pub const NEVER: Self = Self { retryable: false, rate_limited: false, cancelled: false, lost: false };

    /// Whether an error of this class is worth another attempt.
    pub const fn has(self, class: ErrorClass) -> bool {
        match class {
            ErrorClass::Retryable => self.retryable,
            ErrorClass::RateLimited => self.rate_limited,
            ErrorClass::Cancelled => self.cancelled,
            ErrorClass::Lost => self.lost,
            ErrorClass::Permanent | ErrorClass::Budget => false,
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_attempts: 3, initial_ms: 1_000, factor: 2, max_ms: 60_000, jitter: true, on: RetryOn::default() }
    }
}

impl RetryPolicy {
    /// Whether another attempt follows after `failures` attempts failed.
    pub const fn allows_another(&self, failures: u32) -> bool {
        failures < self.max_attempts
    }

    /// Milliseconds to wait after `failures` (1, 2, 3…; 0 counts as 1) attempts failed.
    ///
    /// With jitter: uniform in `[0, min(max, initial · factor^(failures − 1))]`, chosen by `random`, which must be
    /// uniform over all of u64 ("full jitter", AWS Architecture Blog, "Exponential Backoff And Jitter", 2015).
    /// Without: the upper end. Never negative, never above `max_ms`.
    pub fn delay_ms(&self, failures: u32, random: u64) -> i64 {
        let growth = i64::from(self.factor).saturating_pow(failures.saturating_sub(1));
        let ceiling_ms = self.initial_ms.saturating_mul(growth).min(self.max_ms).max(0);
        if !self.jitter {
            return ceiling_ms;
        }
        // The high half of a 64 × 64 bit product maps the random number on the range without the bias of `%`.
        let steps = u128::from(ceiling_ms.unsigned_abs()).saturating_add(1);
        let scaled = u128::from(random).saturating_mul(steps) >> 64;
        i64::try_from(scaled).unwrap_or(ceiling_ms).min(ceiling_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEADY: RetryPolicy =
        RetryPolicy { max_attempts: 5, initial_ms: 100, factor: 3, max_ms: 2_000, jitter: false, on: RetryOn::NEVER };

    #[test]
    fn pauses_grow_by_the_factor_up_to_the_longest() {
        let pauses: Vec<i64> = (1..=5).map(|failures| STEADY.delay_ms(failures, 0)).collect();
        assert_eq!(pauses, [100, 300, 900, 2_000, 2_000]);
        assert_eq!(STEADY.delay_ms(0, 0), 100, "no failure counts as the first");
    }

    #[test]
    fn jitter_spans_the_whole_range() {
        let policy = RetryPolicy { jitter: true, ..STEADY };
        assert_eq!(policy.delay_ms(2, 0), 0);
        assert_eq!(policy.delay_ms(2, u64::MAX / 2), 150);
        assert_eq!(policy.delay_ms(2, u64::MAX), 300);
    }

    #[test]
    fn attempts_end_at_the_given_number() {
        assert!(STEADY.allows_another(4));
        assert!(!STEADY.allows_another(5));
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_bounds(
            failures in any::<u32>(),
            random in any::<u64>(),
            initial_ms in any::<i64>(),
            factor in any::<u32>(),
            max_ms in any::<i64>(),
        ) {
            let policy = RetryPolicy { max_attempts: 3, initial_ms, factor, max_ms, ..RetryPolicy::default() };
            let delay_ms = policy.delay_ms(failures, random);
            let without_jitter = RetryPolicy { jitter: false, ..policy };
            prop_assert!(delay_ms >= 0);
            prop_assert!(delay_ms <= max_ms.max(0));
            prop_assert!(delay_ms <= without_jitter.delay_ms(failures, random));
        }

        #[test]
        fn a_later_pause_is_never_shorter_for_the_same_draw(failures in 1_u32..60, random in any::<u64>()) {
            let policy = RetryPolicy { jitter: true, ..STEADY };
            prop_assert!(policy.delay_ms(failures, random) <= policy.delay_ms(failures + 1, random));
        }
    }
}
