//! How long a server asks to be left alone.

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::limits::RETRY_AFTER_MS;

/// `Retry-After` in milliseconds, seconds or HTTP date, at most an hour. A date counts from the response's own
/// `Date`, so that no clock is compared with another; without one it is ignored.
pub(crate) fn retry_after_ms(headers: &HeaderMap) -> Option<i64> {
    let wanted = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait_ms = if let Ok(seconds) = wanted.parse::<u64>() {
        seconds.saturating_mul(1_000)
    } else {
        let until = httpdate::parse_http_date(wanted).ok()?;
        let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).map_or(0, |wait| wait.as_secs().saturating_mul(1_000))
    };
    Some(i64::try_from(wait_ms).unwrap_or(i64::MAX).min(RETRY_AFTER_MS))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let date = ("date", "Wed, 21 Oct 2026 07:28:00 GMT");
        let cases = [
            (vec![("retry-after", "7")], Some(7_000)),
            (vec![("retry-after", "86400")], Some(3_600_000)),
            (vec![("retry-after", "99999999999999999999")], None),
            (vec![("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), date], Some(30_000)),
            (vec![("retry-after", "Wed, 21 Oct 2026 07:27:30 GMT"), date], Some(0)),
            (vec![("retry-after", "Wed, 21 Oct 2099 07:27:30 GMT"), date], Some(3_600_000)),
            (vec![("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT")], None),
            (vec![("retry-after", "-3")], None),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ];
        for (pairs, wait) in cases {
            assert_eq!(retry_after_ms(&headers(&pairs)), wait, "{pairs:?}");
        }
    }
}
