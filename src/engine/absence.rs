//! Whether a lease that ran out means that its worker is gone.
//!
//! While the store was away nobody could renew anything, so after an outage absence means nothing for one lease. A
//! process that has only just started, and met no outage itself, believes at once: what ran out before it came is for it
//! to take up. It says nothing about which leases ran out; the store knows that.

use std::time::{Duration, Instant};

/// What a process knows of the store's outages.
#[derive(Debug)]
pub(super) struct Absence {
    /// How long a lease lasts.
    lease: Duration,
    /// Since when the store answers again; not set while it is away, or when it never was.
    back_since: Option<Instant>,
    is_away: bool,
}

impl Absence {
    pub(super) const fn new(lease: Duration) -> Self {
        Self { lease, back_since: None, is_away: false }
    }

    /// The store did not answer.
    pub(super) const fn store_failed(&mut self) {
        self.is_away = true;
    }

    /// The store answered at `now`: whether a lease that ran out means that its worker is gone.
    pub(super) fn is_trusted(&mut self, now: Instant) -> bool {
        if self.is_away {
            self.is_away = false;
            self.back_since = Some(now);
        }
        self.back_since.is_none_or(|since| now.saturating_duration_since(since) >= self.lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    #[test]
    fn a_process_that_met_no_outage_trusts_at_once() {
        let start = Instant::now();
        let mut absence = Absence::new(LEASE);
        assert!(absence.is_trusted(start));
        assert!(absence.is_trusted(start + Duration::from_millis(1)));
    }

    #[test]
    fn after_an_outage_nothing_is_taken_for_one_lease() {
        let start = Instant::now();
        let mut absence = Absence::new(LEASE);
        absence.store_failed();
        let back = start + Duration::from_secs(60);
        assert!(!absence.is_trusted(back));
        assert!(!absence.is_trusted(back + LEASE - Duration::from_millis(1)));
        assert!(absence.is_trusted(back + LEASE));
    }

    #[test]
    fn an_outage_right_after_the_start_counts_like_any_other() {
        let start = Instant::now();
        let mut absence = Absence::new(LEASE);
        assert!(absence.is_trusted(start));
        absence.store_failed();
        assert!(!absence.is_trusted(start + Duration::from_secs(2)));
        assert!(absence.is_trusted(start + Duration::from_secs(2) + LEASE));
    }

    #[test]
    fn a_second_outage_begins_the_wait_anew() {
        let start = Instant::now();
        let mut absence = Absence::new(LEASE);
        absence.store_failed();
        assert!(!absence.is_trusted(start));
        absence.store_failed();
        let back = start + Duration::from_secs(10);
        assert!(!absence.is_trusted(back));
        assert!(!absence.is_trusted(start + LEASE));
        assert!(absence.is_trusted(back + LEASE));
    }
}
