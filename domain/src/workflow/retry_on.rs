//! Reads which errors are worth another attempt.

use serde_json::Value;

use super::problem::{Problem, below, did_you_mean};
use super::reader::{Fields, wrong_type};
use crate::retry::RetryOn;

/// The classes of errors that may be tried again.
pub(super) const CLASSES: [&str; 4] = ["retryable", "rate_limited", "cancelled", "lost"];

/// Reads `on` of a retry; `base` where it is left out.
pub(super) fn read(retry: &mut Fields<'_, '_>, base: RetryOn) -> RetryOn {
    let Some(value) = retry.value("on") else { return base };
    let at = retry.at("on");
    let Value::Array(items) = value else {
        retry.problems.push(wrong_type(at, "a list of error classes", value));
        return base;
    };
    let mut on = RetryOn::NEVER;
    for (index, item) in items.iter().enumerate() {
        let at = below(&at, index);
        let place = match item.as_str() {
            Some("retryable") => &mut on.retryable,
            Some("rate_limited") => &mut on.rate_limited,
            Some("cancelled") => &mut on.cancelled,
            Some("lost") => &mut on.lost,
            Some("permanent") => {
                let message = "a permanent error is never tried again: no attempt would end differently";
                retry.problems.add(at, "never_retried", message);
                continue;
            }
            Some("budget") => {
                let message =
                    "a task that lacks credits is never tried again: it waits or fails as `on_exhausted` says";
                retry.problems.add(at, "never_retried", message);
                continue;
            }
            Some(other) => {
                let message = format!("an error class must be one of: {}", CLASSES.join(", "));
                let hint = did_you_mean(other, CLASSES);
                retry.problems.push(Problem::new(at, "unknown_choice", message).with_hint(hint));
                continue;
            }
            None => {
                retry.problems.push(wrong_type(at, "an error class", item));
                continue;
            }
        };
        *place = true;
    }
    on
}
