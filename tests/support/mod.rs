//! What the integration tests stand on: fresh databases, a Redis of one's own, an engine with everything around it.
//!
//! The only place in the tests that waits: everything else polls through [`eventually`], with a deadline.

pub(crate) mod chaos;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod docs;
pub(crate) mod embedded;
pub(crate) mod endless;
pub(crate) mod hand;
pub(crate) mod held;
pub(crate) mod mcp;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod stores;
pub(crate) mod world;

use std::future::Future;
use std::time::{Duration, Instant};

use bursar_domain::pricing::PriceBook;

/// Asks `look` again and again until it has an answer; panics with `what` when none came within the deadline.
pub(crate) async fn eventually<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + within;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {} ms: {what}", within.as_millis());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A variable that `tests/support/services` sets.
pub(crate) fn service(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run ./test or tests/support/services run -- cargo nextest run")
    })
}

/// The price book that Bursar comes with.
pub(crate) fn default_prices() -> PriceBook {
    let content: serde_json::Value = toml::from_str(include_str!("../../prices/default.toml")).unwrap();
    PriceBook::from_value(content).unwrap()
}

/// A name that no other test of any process uses.
pub(crate) fn unique_name(prefix: &str) -> String {
    format!("{prefix}_{}", uuid::Uuid::now_v7().simple())
}
