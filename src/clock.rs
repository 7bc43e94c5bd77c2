//! Time and chance. The only module that reads the machine's clock or draws random numbers.
//!
//! `now` is the process's monotonic clock plus its offset to the store's clock, so that all processes agree with
//! the store and a jump of the wall clock moves nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bursar_domain::flow::Chance;
use bursar_domain::time::Timestamp;
use uuid::Uuid;

/// The store's time, as this process knows it.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Store time at `start`, in ms since 1970.
    base_ms: AtomicI64,
}

impl Clock {
    /// A clock that follows the machine's wall clock until it is synchronised.
    pub fn new() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        Self { start: Instant::now(), base_ms: AtomicI64::new(wall) }
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Timestamp {
        let elapsed = self.start.elapsed().as_millis() as i64;
        Timestamp::from_ms(self.base_ms.load(Ordering::Relaxed).saturating_add(elapsed))
    }

    /// Takes over the store's time, asked at `asked` and answered just now: the middle of the two is taken.
    pub fn synchronise(&self, store: Timestamp, asked: Instant) {
        let half_trip = (asked.elapsed().as_millis() / 2) as i64;
        let elapsed = self.start.elapsed().as_millis() as i64;
        self.base_ms.store(store.ms().saturating_add(half_trip).saturating_sub(elapsed), Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Ids from `UUIDv7`, random numbers from the operating system's generator.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn uuid(&mut self) -> Uuid {
        Uuid::now_v7()
    }

    fn random(&mut self) -> u64 {
        rand::random()
    }
}

/// A new id.
pub fn new_id<K: bursar_domain::id::Kind>() -> bursar_domain::id::Id<K> {
    bursar_domain::id::Id::from_uuid(Uuid::now_v7())
}

/// A secret of 128 random bits, as 32 hex digits.
pub fn new_token() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// 256 random bits, for secrets.
pub fn random_bytes() -> [u8; 32] {
    rand::random()
}

/// A random number up to and including `most`, to spread what would otherwise happen at once.
pub fn jitter(most: u64) -> u64 {
    rand::random_range(0..=most)
}

/// The timestamp that an RFC 3339 text names, whatever its offset; cut to milliseconds.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Timestamp::from_ms(time.timestamp_millis()))
}

/// The time of a timestamp as RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(time.ms())
        .map_or_else(|| time.ms().to_string(), |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}
