//! Where rates live: in Redis for all processes together, or in one process. One suite of tests runs against both.

use async_trait::async_trait;

use super::gate::Lesson;
use super::limits::Slot;

/// The home can't be reached now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the rates' Redis is away: {0}")]
pub(super) struct Away(pub(super) String);

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) provider: &'a str,
    /// The caller: one who was given a place is known by it when he comes back.
    pub(super) place: &'a str,
    pub(super) slots: &'a [Slot],
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// All was taken.
    Go,
    /// All was taken, and everybody waits for what comes of it.
    Probe,
    /// The provider asked for a pause.
    Paused(i64),
    /// The breaker is open, or a probe is under way.
    Open(i64),
    /// A bucket holds too little: which, and until when. With a place, the call is paid for at that time.
    Limit { wait_ms: i64, which: usize, has_place: bool },
}

/// How a provider's gate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateLook {
    /// For how long its key is paused still.
    pub paused_ms: i64,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
    /// For how long the breaker stays open.
    pub open_ms: i64,
    /// Whether nobody has to ask it.
    pub(super) is_clear: bool,
}

impl GateLook {
    pub(super) fn new(now: i64, (paused, open): (i64, i64), is_clear: bool) -> Self {
        let breaker = match open {
            0 => "closed",
            open if open > now => "open",
            _ => "half_open",
        };
        let (paused_ms, open_ms) = ((paused - now).max(0), if open > 0 { (open - now).max(0) } else { 0 });
        Self { paused_ms, breaker, open_ms, is_clear }
    }
}

/// A home of buckets, places and gates.
#[async_trait]
pub(super) trait Home: Send + Sync + std::fmt::Debug {
    /// Takes all buckets of a call, or none.
    async fn take(&self, wanted: &Wanted<'_>) -> Result<Answer, Away>;

    /// Gives units back, or takes more. With a place only if that is still kept, which then is no more.
    async fn give(&self, place: Option<&str>, back: &[(Slot, i64)]) -> Result<(), Away>;

    /// Takes in what a call taught about its provider.
    async fn learn(&self, provider: &str, lesson: Lesson, is_probe: bool) -> Result<(), Away>;

    /// What is left in buckets, in their order.
    async fn left(&self, slots: &[Slot]) -> Result<Vec<i64>, Away>;

    /// How gates stand, in their order.
    async fn gates(&self, providers: &[String]) -> Result<Vec<GateLook>, Away>;
}
