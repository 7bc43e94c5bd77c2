//! The UTC calendar: months of statements, days of usage, and the dates that people write. Pure; it asks nobody what
//! time it is. Inside, time stays whole milliseconds; this is for the edges.

use std::fmt;

use bursar_domain::time::Timestamp;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate};

const MS_PER_DAY: i64 = 86_400_000;

/// A month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(NaiveDate);

impl Month {
    /// The month that `yyyy-mm` names; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 7 && text.is_ascii();
        let date = NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?;
        // chrono also takes signs and missing zeros
        (is_plain && Self(date).to_string() == text).then_some(Self(date))
    }

    /// The month of a point in time.
    pub fn of(time: Timestamp) -> Self {
        let date = DateTime::from_timestamp_millis(time.ms()).unwrap_or_default().date_naive();
        Self(date.with_day(1).unwrap_or(date))
    }

    /// Its first millisecond.
    pub fn start(self) -> Timestamp {
        midnight(self.0)
    }

    /// The first millisecond after it.
    pub fn end(self) -> Timestamp {
        midnight(self.0.checked_add_months(Months::new(1)).unwrap_or(self.0))
    }

    /// Months since January 1970.
    pub fn number(self) -> i32 {
        let years = self.0.year().saturating_sub(1970);
        years.saturating_mul(12).saturating_add(self.0.month0() as i32)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), self.0.month())
    }
}

/// Days since 1970-01-01, in UTC.
pub fn day_number(time: Timestamp) -> i32 {
    time.ms().div_euclid(MS_PER_DAY) as i32
}

/// The date of a day since 1970-01-01, as `yyyy-mm-dd`.
pub fn date_of_day(day: i64) -> String {
    let ms = day.saturating_mul(MS_PER_DAY);
    let date = DateTime::from_timestamp_millis(ms).unwrap_or_default().date_naive();
    date.format("%Y-%m-%d").to_string()
}

/// The point in time that a text names: RFC 3339, or a date, which stands for its first millisecond in UTC.
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10).map(midnight);
    crate::clock::parse_rfc3339(text).or_else(date)
}

/// Midnight at the end of the day that a point in time is in.
pub fn next_midnight(time: Timestamp) -> Timestamp {
    let date = DateTime::from_timestamp_millis(time.ms()).unwrap_or_default().date_naive();
    midnight(date.checked_add_days(Days::new(1)).unwrap_or(date))
}

fn midnight(date: NaiveDate) -> Timestamp {
    Timestamp::from_ms(date.and_hms_opt(0, 0, 0).unwrap_or_default().and_utc().timestamp_millis())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::rfc3339;

    #[test]
    fn a_month_begins_and_ends_at_midnight_in_utc() {
        let month = Month::parse("2026-12").unwrap();
        assert_eq!(rfc3339(month.start()), "2026-12-01T00:00:00.000Z");
        assert_eq!(rfc3339(month.end()), "2027-01-01T00:00:00.000Z");
        assert_eq!((Month::of(month.end().plus_ms(-1)), Month::of(month.start())), (month, month));
        assert_eq!((month.to_string().as_str(), month.number()), ("2026-12", 56 * 12 + 11));
        assert_eq!(Month::of(Timestamp::from_ms(0)).number(), 0);
    }

    #[test]
    fn what_is_no_month_is_refused() {
        for text in ["", "2026", "2026-13", "2026-00", "2026-1", "2026-01-01", "+026-01", "２０26-01", "2026/01"] {
            assert_eq!(Month::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_counted_from_1970() {
        let time = parse_time("2026-02-28T23:59:59.999Z").unwrap();
        assert_eq!(date_of_day(i64::from(day_number(time))), "2026-02-28");
        assert_eq!(parse_time("2026-03-01"), Some(next_midnight(time)));
        assert_eq!(day_number(Timestamp::from_ms(-1)), -1);
        for text in ["2026-3-1", "tomorrow", "2026-02-30", ""] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
