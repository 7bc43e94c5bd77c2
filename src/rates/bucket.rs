//! A bucket that fills evenly: integers only, exact. `take.lua` and `give.lua` are the same in Redis.
//!
//! Whoever finds too little takes all the same and is told when it is his: the level below zero is the line of those who
//! wait, and nobody is woken for what another will take. The line holds a minute's worth; who comes later is told when
//! there will be room in it.

/// One request or token. A limit a minute, shared by up to a thousand workers, is a whole number a millisecond.
const UNIT: i64 = 60_000_000;

/// How fast a bucket fills, and how much it holds: a minute's worth, at least one unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    full: i64,
    per_ms: i64,
}

impl Rate {
    /// A part of a limit.
    pub(super) fn new(limit: u64, shares: u64) -> Self {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX).min(super::limits::MOST_A_MINUTE as i64);
        let shares = i64::try_from(shares.max(1)).unwrap_or(i64::MAX);
        Self { full: (limit * UNIT / shares).max(UNIT), per_ms: (limit * (UNIT / 60_000) / shares).max(1) }
    }
}

/// A bucket; times in milliseconds of one clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    level: i64,
    at: i64,
    tail: i64,
}

impl Bucket {
    /// A full one.
    pub(super) fn full(rate: Rate, now: i64) -> Self {
        Self { level: rate.full, at: now, tail: 0 }
    }

    /// Lets time pass.
    pub(super) fn fill(&mut self, rate: Rate, now: i64) {
        let grown = (now - self.at).max(0).saturating_mul(rate.per_ms);
        self.level = self.level.saturating_add(grown).min(rate.full);
        self.at = self.at.max(now);
    }

    fn cost(rate: Rate, units: u64) -> i64 {
        i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(UNIT).min(rate.full)
    }

    /// How long until so much is there.
    pub(super) fn wait(&self, rate: Rate, units: u64) -> i64 {
        let missing = (Self::cost(rate, units) - self.level).max(0);
        (missing + rate.per_ms - 1) / rate.per_ms
    }

    /// Whether the line is longer than a minute.
    pub(super) fn is_line_full(&self, rate: Rate) -> bool {
        self.level < -rate.full
    }

    /// Takes, on credit too.
    pub(super) fn take(&mut self, rate: Rate, units: u64) {
        self.level -= Self::cost(rate, units);
    }

    /// When one who finds the line full shall ask again; each later than the one before.
    pub(super) fn ask_again(&mut self, rate: Rate, units: u64, now: i64) -> i64 {
        let room = now + ((-self.level - rate.full / 2).max(0) + rate.per_ms - 1) / rate.per_ms;
        self.tail = self.tail.max(room) + (Self::cost(rate, units) + rate.per_ms - 1) / rate.per_ms;
        self.tail - now
    }

    /// Gives back, or takes what was used beyond: for that others wait two minutes at most.
    pub(super) fn give(&mut self, rate: Rate, units: i64) {
        let least = self.level.min(-2 * rate.full);
        self.level = self.level.saturating_add(units.saturating_mul(UNIT)).max(least).min(rate.full);
    }

    /// Whole units that are left; below zero are those that are promised.
    pub(super) fn left(&self) -> i64 {
        self.level.div_euclid(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_each_other_as_fast_as_the_bucket_fills() {
        let rate = Rate::new(60, 1);
        let mut bucket = Bucket::full(rate, 0);
        let mut waits = Vec::new();
        for _ in 0..63 {
            waits.push(bucket.wait(rate, 1));
            bucket.take(rate, 1);
        }
        assert!(waits.iter().take(60).all(|wait| *wait == 0));
        assert_eq!(waits.get(60..), Some(&[1_000, 2_000, 3_000][..]));
        bucket.fill(rate, 3_000);
        assert_eq!(bucket.left(), 0);
    }

    #[test]
    fn what_is_larger_than_the_bucket_waits_for_a_full_one() {
        let rate = Rate::new(600, 1);
        let mut bucket = Bucket::full(rate, 0);
        bucket.take(rate, 300);
        assert_eq!(bucket.wait(rate, u64::MAX), 30_000);
    }

    #[test]
    fn a_share_is_exact_and_never_nothing() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::full(rate, 0);
        assert_eq!(bucket.left(), 3);
        bucket.take(rate, 3);
        bucket.fill(rate, 18_000);
        assert_eq!(bucket.left(), 1);
        let tiny = Bucket::full(Rate::new(1, 50), 0);
        assert_eq!(tiny.left(), 1);
    }

    #[test]
    fn a_correction_goes_both_ways_and_not_too_far() {
        let rate = Rate::new(100, 1);
        let mut bucket = Bucket::full(rate, 0);
        bucket.take(rate, 50);
        bucket.give(rate, 20);
        assert_eq!(bucket.left(), 70);
        bucket.give(rate, 1_000);
        assert_eq!(bucket.left(), 100);
        bucket.give(rate, -130);
        assert_eq!(bucket.left(), -30);
        bucket.give(rate, -1_000_000);
        assert_eq!(bucket.left(), -200);
    }

    #[test]
    fn a_full_line_sends_later_ones_away_for_longer() {
        let rate = Rate::new(60, 1);
        let mut bucket = Bucket::full(rate, 0);
        for _ in 0..121 {
            bucket.take(rate, 1);
        }
        assert!(bucket.is_line_full(rate));
        let waits: Vec<i64> = (0..3).map(|_| bucket.ask_again(rate, 1, 0)).collect();
        assert_eq!(waits, [32_000, 33_000, 34_000]);
    }
}
