//! Cron expressions in a time zone: when a schedule fires. Pure; it asks nobody what time it is, and the zones are
//! compiled in.
//!
//! Five fields (minute, hour, day of month, month, day of week), or six with seconds first, or a nickname such as
//! `@daily`. Where the clock of the zone is moved, jobs at fixed times (one second, minute and hour) differ from those
//! at intervals, as in vixie cron:
//!
//! * A fixed time that the clock leaps over fires at the first moment after the gap; an interval's is left out.
//! * A fixed time that the clock shows twice fires the first time only; an interval's fires both times.

use std::str::FromStr;

use bursar_domain::limits::MAX_CRON_BYTES;
use bursar_domain::time::Timestamp;
use chrono::DateTime;
use chrono_tz::Tz;
use croner::parser::{CronParser, Year};

/// What never came true since the year 2000 never will: calendars repeat after 400 years at most, and expressions look
/// at no more than a leap year and its days of the week, which repeat after 28.
const LONG_AGO: Timestamp = Timestamp::from_ms(946_684_800_000);

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Cron {
    cron: croner::Cron,
    zone: Tz,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// The expression.
    #[error("is no cron expression: {0}")]
    Expression(String),
    /// It names a day that no year has.
    #[error("never comes true: no month that it names has such a day")]
    Never,
    /// The zone.
    #[error("is no IANA time zone; write e.g. Europe/Berlin or UTC")]
    Zone,
}

impl Cron {
    /// Reads an expression and the name of a zone.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, CronError> {
        let zone = Tz::from_str(zone).map_err(|_| CronError::Zone)?;
        if expression.len() > MAX_CRON_BYTES {
            return Err(CronError::Expression(format!("it has more than {MAX_CRON_BYTES} bytes")));
        }
        // a year would end the schedule one day, silently
        let parser = CronParser::builder().year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| CronError::Expression(error.to_string()))?;
        let cron = Self { cron, zone };
        if cron.after(LONG_AGO).is_none() {
            return Err(CronError::Never);
        }
        Ok(cron)
    }

    /// The first time after `time`; `None` where there is none any more.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let start = self.local(time)?;
        self.cron.find_next_occurrence(&start, false).ok().map(timestamp).filter(|next| *next > time)
    }

    /// The last time up to `time`, itself included; `None` where there was none.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let start = self.local(time)?;
        self.cron.find_previous_occurrence(&start, true).ok().map(timestamp).filter(|last| *last <= time)
    }

    /// The second that `time` is in, as the zone's clocks show it.
    fn local(&self, time: Timestamp) -> Option<DateTime<Tz>> {
        DateTime::from_timestamp(time.ms().div_euclid(1_000), 0).map(|utc| utc.with_timezone(&self.zone))
    }
}

fn timestamp(time: DateTime<Tz>) -> Timestamp {
    Timestamp::from_ms(time.timestamp_millis())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::calendar::parse_time;
    use crate::clock::rfc3339;
    use proptest::prelude::*;

    fn fires(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let cron = Cron::parse(expression, zone).unwrap();
        let mut at = parse_time(from).unwrap();
        (0..count)
            .map(|_| {
                at = cron.after(at).unwrap();
                rfc3339(at).replace(".000Z", "Z")
            })
            .collect()
    }

    #[test]
    fn a_fixed_time_that_the_clock_leaps_over_fires_right_after_the_gap() {
        // on 2026-03-29 Berlin goes from 02:00 (01:00Z) to 03:00
        let told = fires("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
        assert_eq!(told, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        let before = fires("30 1 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(before, ["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"], "what is not in the gap does not move");
    }

    #[test]
    fn an_interval_has_no_times_in_the_gap() {
        let told = fires("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4);
        assert_eq!(
            told,
            ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"],
            "02:00 and 02:30 do not exist; 03:00 follows 01:30"
        );
        let only_then = fires("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 1);
        assert_eq!(only_then, ["2026-03-30T00:00:00Z"], "an interval within the gap is left out that day");
    }

    #[test]
    fn a_fixed_time_that_the_clock_shows_twice_fires_once() {
        // on 2026-10-25 Berlin goes from 03:00 (01:00Z) back to 02:00
        let told = fires("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(told, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn an_interval_fires_in_both_of_two_like_hours() {
        let told = fires("0,30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 5);
        assert_eq!(
            told,
            [
                "2026-10-25T00:00:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-25T01:00:00Z",
                "2026-10-25T01:30:00Z",
                "2026-10-26T01:00:00Z"
            ]
        );
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let refused = |expression: &str, zone: &str| Cron::parse(expression, zone).map(drop).unwrap_err();
        for wrong in ["", "* * * *", "61 * * * *", "* * * * * * 2030", "every day", "@never", &"*,".repeat(200)] {
            assert!(matches!(refused(wrong, "UTC"), CronError::Expression(_)), "{wrong}");
        }
        for never in ["0 0 30 2 *", "0 0 31 4,6 *", "0 0 0 31 FEB *", "0 0 31 2,9,11 ?"] {
            assert_eq!(refused(never, "UTC"), CronError::Never, "{never}");
        }
        for zone in ["", "Berlin", "Europe/Bonn", "+01:00"] {
            assert_eq!(refused("* * * * *", zone), CronError::Zone, "{zone}");
        }
        for fine in
            ["@daily", "0 0 31 4-5 *", "0 0 30 2 MON", "0 0 L 2 *", "0 0 29 2 *", "*/5 9-17 * * MON-FRI", "0 0 1W * *"]
        {
            let cron = Cron::parse(fine, "UTC").unwrap();
            assert!(cron.after(Timestamp::from_ms(0)).is_some(), "{fine}");
        }
    }

    proptest! {
        #[test]
        fn forwards_and_backwards_are_the_same_times(
            expression in prop::sample::select(vec![
                "30 2 * * *", "*/20 * * * *", "0 0 * * *", "15 1-3 * * SUN", "0 3 29 * *", "*/10 30 2 * * *",
            ]),
            zone in prop::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
            minute in 0_i64..(366 * 24 * 60),
            ms in 0_i64..60_000,
        ) {
            let cron = Cron::parse(expression, zone).unwrap();
            let from = parse_time("2026-01-01").unwrap().plus_ms(minute * 60_000 + ms);
            let next = cron.after(from).unwrap();
            prop_assert!(next > from);
            prop_assert_eq!(cron.until(next), Some(next));
            let last = cron.until(from).unwrap();
            prop_assert!(last <= from);
            prop_assert_eq!(cron.after(last), Some(next), "nothing lies between {:?} and {:?}", last, next);
        }
    }
}
