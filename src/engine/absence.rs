//! Whether a lease that ran out means that its worker is gone.
//!
//! While the store was away nobody could renew anything, so after an outage absence means nothing for one lease. What
//! counts as one is a silence of half a lease: workers renew every third of it, so that a shorter one ends no lease, and
//! a statement that fails among others that succeed is no outage. A process that has only just started, and met none
//! itself, believes at once: what ran out before it came is for it to take up. It says nothing about which leases ran
//! out; the store knows that.

use std::time::{Duration, Instant};

/// What a process knows of the store's outages.
#[derive(Debug)]
pub(super) struct Absence {
    /// How long a lease lasts.
    lease: Duration,
    /// When the store answered last.
    answered: Option<Instant>,
    /// When the store answered again after its last outage.
    back_since: Option<Instant>,
    /// Whether a question remained without an answer since the store answered last.
    has_failed: bool,
}

impl Absence {
    pub(super) const fn new(lease: Duration) -> Self {
        Self { lease, answered: None, back_since: None, has_failed: false }
    }

    /// The store did not answer.
    pub(super) const fn store_failed(&mut self) {
        self.has_failed = true;
    }

    /// The store's clock jumped, seen at `now`: leases were given by the time before, and all look lost or none.
    pub(super) const fn time_jumped(&mut self, now: Instant) {
        self.back_since = Some(now);
    }

    /// The store answered at `now`.
    pub(super) fn store_answered(&mut self, now: Instant) {
        let silence = self.answered.map(|answered| now.saturating_duration_since(answered));
        if std::mem::take(&mut self.has_failed)
            && silence.is_none_or(|silence| silence >= self.lease.checked_div(2).unwrap_or_default())
        {
            self.back_since = Some(now);
        }
        self.answered = Some(now);
    }

    /// Whether at `now` a lease that ran out means that its worker is gone.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        self.back_since.is_none_or(|since| now.saturating_duration_since(since) >= self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    /// A process whose store answered at the start.
    fn begun(start: Instant) -> Absence {
        let mut absence = Absence::new(LEASE);
        absence.store_answered(start);
        absence
    }

    #[test]
    fn a_process_that_met_no_outage_trusts_at_once() {
        let start = Instant::now();
        let absence = begun(start);
        assert!(absence.is_trusted(start));
        assert!(absence.is_trusted(start + Duration::from_millis(1)));
    }

    #[test]
    fn after_a_jump_of_the_clock_nothing_is_taken_for_one_lease() {
        let start = Instant::now();
        let mut absence = begun(start);
        absence.time_jumped(start);
        absence.store_answered(start);
        assert!(!absence.is_trusted(start + Duration::from_millis(14_999)));
        assert!(absence.is_trusted(start + LEASE));
    }

    #[test]
    fn after_an_outage_nothing_is_taken_for_one_lease() {
        let start = Instant::now();
        let mut absence = begun(start);
        absence.store_failed();
        let back = start + Duration::from_mins(1);
        absence.store_answered(back);
        assert!(!absence.is_trusted(back));
        assert!(!absence.is_trusted(back + Duration::from_millis(14_999)));
        assert!(absence.is_trusted(back + LEASE));
    }

    #[test]
    fn a_store_that_was_away_when_the_process_started_counts_as_an_outage() {
        let start = Instant::now();
        let mut absence = Absence::new(LEASE);
        absence.store_failed();
        absence.store_answered(start);
        assert!(!absence.is_trusted(start + Duration::from_secs(2)));
        assert!(absence.is_trusted(start + LEASE));
    }

    #[test]
    fn failures_among_answers_are_no_outage() {
        let start = Instant::now();
        let mut absence = begun(start);
        for second in 1..60 {
            absence.store_failed();
            let now = start + Duration::from_secs(second);
            absence.store_answered(now);
            assert!(absence.is_trusted(now), "{second}");
        }
    }

    #[test]
    fn a_silence_in_which_nobody_asked_is_no_outage() {
        let start = Instant::now();
        let mut absence = begun(start);
        let later = start + Duration::from_hours(1);
        absence.store_answered(later);
        assert!(absence.is_trusted(later));
    }

    #[test]
    fn a_second_outage_begins_the_wait_anew() {
        let start = Instant::now();
        let mut absence = begun(start);
        absence.store_failed();
        let first = start + LEASE;
        absence.store_answered(first);
        absence.store_failed();
        let second = first + Duration::from_secs(8);
        absence.store_answered(second);
        assert!(!absence.is_trusted(first + LEASE));
        assert!(absence.is_trusted(second + LEASE));
    }
}
