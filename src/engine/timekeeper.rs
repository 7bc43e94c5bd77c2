//! Keeps a process's clock with the store's, whether or not it has workers whose heartbeats do so, and notices when the
//! store's clock jumps.
//!
//! A monotonic clock drifts by seconds a day; a server that asked for the store's time only at its start would after days
//! take leases early from healthy workers. After a jump forward every lease of the time before looks lost, so the sweep
//! treats a jump as an outage: it takes nothing for one lease, and whoever lives has renewed by then. It moves no deadline
//! and no timer: what is due by the store's clock is due.

use std::time::{Duration, Instant};

use bursar_domain::time::Timestamp;

use super::Engine;
use crate::store::StoreError;

/// How often the store is asked for its time.
const ASK: Duration = Duration::from_secs(5);
/// By how much time may be off without having jumped, in ms: more than what round trips and drift explain.
const TOLERANCE_MS: i64 = 1_000;

/// What was last seen of both clocks.
#[derive(Debug)]
pub(super) struct Timekeeper {
    seen: (Timestamp, Instant),
    asked: Option<Instant>,
}

impl Timekeeper {
    pub(super) const fn new(now: Timestamp, at: Instant) -> Self {
        Self { seen: (now, at), asked: None }
    }

    /// Asks the store for its time when that is due. Whether this process's time has gone another way since the last look
    /// than its monotonic clock, by this or by a heartbeat.
    pub(super) async fn has_jumped(&mut self, engine: &Engine, at: Instant) -> Result<bool, StoreError> {
        let has_jumped = self.look(engine.clock().now(), Instant::now());
        let is_due = self.asked.is_none_or(|asked| at.saturating_duration_since(asked) >= ASK);
        if !has_jumped && !is_due {
            return Ok(false);
        }
        // nothing is decided by a time that is in doubt
        let asked = Instant::now();
        engine.clock().synchronise(engine.store().time().await?, asked);
        self.asked = Some(at);
        Ok(self.look(engine.clock().now(), Instant::now()) || has_jumped)
    }

    fn look(&mut self, now: Timestamp, at: Instant) -> bool {
        let (then, since) = std::mem::replace(&mut self.seen, (now, at));
        let passed = i64::try_from(at.saturating_duration_since(since).as_millis()).unwrap_or(i64::MAX);
        let off = now.since_ms(then).saturating_sub(passed);
        let has_jumped = off.saturating_abs() > TOLERANCE_MS;
        if has_jumped {
            tracing::warn!(by_ms = off, "the store's clock jumped; no lease is taken from anybody for one lease");
        }
        has_jumped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_goes_with_the_machine_has_not_jumped() {
        let start = Instant::now();
        let mut keeper = Timekeeper::new(Timestamp::from_ms(1_000_000), start);
        assert!(!keeper.look(Timestamp::from_ms(1_060_000), start + Duration::from_mins(1)));
        // a slow answer, or some drift
        assert!(!keeper.look(Timestamp::from_ms(1_061_900), start + Duration::from_secs(61)));
    }

    #[test]
    fn a_jump_in_either_direction_is_noticed_once() {
        let start = Instant::now();
        let mut keeper = Timekeeper::new(Timestamp::from_ms(10_000_000), start);
        assert!(keeper.look(Timestamp::from_ms(13_601_000), start + Duration::from_secs(1)));
        assert!(!keeper.look(Timestamp::from_ms(13_602_000), start + Duration::from_secs(2)));
        assert!(keeper.look(Timestamp::from_ms(10_003_000), start + Duration::from_secs(3)));
        assert!(!keeper.look(Timestamp::from_ms(10_004_000), start + Duration::from_secs(4)));
    }
}
