//! When a step has to stop: it was cancelled, or its attempt ran out of time.
//!
//! The step itself waits for this beside its work, instead of being dropped from outside, because a stopped
//! call still has to report what it used.

use std::time::Duration;

use bursar_domain::outcome::{ErrorClass, StepError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The two reasons to stop, as one thing to wait for.
pub(crate) struct Stop<'a> {
    cancelled: &'a CancellationToken,
    deadline: Instant,
    timeout_ms: i64,
}

impl<'a> Stop<'a> {
    /// Starts the attempt's clock.
    pub(crate) fn new(cancelled: &'a CancellationToken, timeout_ms: i64) -> Self {
        let timeout = Duration::from_millis(timeout_ms.max(0).unsigned_abs());
        let now = Instant::now();
        // A timeout beyond what the clock can express is as good as a year.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_hours(24 * 365));
        Self { cancelled, deadline, timeout_ms }
    }

    /// The reason to stop, if there is one by now.
    pub(crate) fn reason(&self) -> Option<StepError> {
        if self.cancelled.is_cancelled() {
            return Some(cancelled());
        }
        (Instant::now() >= self.deadline).then(|| self.timed_out())
    }

    /// Waits for a reason to stop. Cancellation wins where both are true.
    pub(crate) async fn wait(&self) -> StepError {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => cancelled(),
            () = tokio::time::sleep_until(self.deadline) => self.timed_out(),
        }
    }

    fn timed_out(&self) -> StepError {
        StepError::new(
            ErrorClass::Retryable,
            "attempt_timeout",
            format!(
                "the attempt took longer than its timeout of {} ms; raise the node's `timeout` if it needs more",
                self.timeout_ms
            ),
        )
    }
}

fn cancelled() -> StepError {
    StepError::new(ErrorClass::Cancelled, "cancelled", "the step was cancelled while it ran")
}
