//! Patience: the pauses after which what the store did not answer is tried again.
//!
//! For as long as a lease lives, an outage of the store is no reason to fail an attempt.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;

/// The first pause and the longest one.
const SOONEST: Duration = Duration::from_millis(50);
const LATEST: Duration = Duration::from_secs(1);

/// Longer and longer pauses, without an end.
#[derive(Debug)]
pub(super) struct Patience(backon::ExponentialBackoff);

impl Patience {
    pub(super) fn new() -> Self {
        let pauses = ExponentialBuilder::default().with_jitter().without_max_times();
        Self(pauses.with_min_delay(SOONEST).with_max_delay(LATEST).build())
    }

    /// Waits for the next try.
    pub(super) async fn pause(&mut self) {
        tokio::time::sleep(self.0.next().unwrap_or(LATEST)).await;
    }

    /// Waits for the next try; `false` when there is to be none because `stop` fired.
    pub(super) async fn pause_unless(&mut self, stop: &CancellationToken) -> bool {
        tokio::select! {
            () = stop.cancelled() => false,
            () = self.pause() => true,
        }
    }
}

/// Reads until the store answers, or `stop` fires.
pub(super) async fn read<T, F>(stop: &CancellationToken, mut read: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut patience = Patience::new();
    loop {
        match read().await {
            Err(error) if error.is_transient() => {
                if !patience.pause_unless(stop).await {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}
