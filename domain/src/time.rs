//! Points in time as the store's clock tells them: whole milliseconds since 1970-01-01 UTC.
//!
//! The domain never asks what time it is; `now` is an argument.

use serde::{Deserialize, Serialize};

const MS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since the Unix epoch, by the store's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// This time and `ms` milliseconds; saturates.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Reads a time as RFC 3339 writes it: `2026-08-01T09:30:00Z`, with a fraction of a second if need be (whole
    /// milliseconds count) and with an offset such as `+02:00`. `None` for anything else, leap seconds included. Written
    /// here because calendars stay out of the domain, and a node's time is told while its transaction decides.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| -> Option<i64> {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse().ok()
        };
        let bytes = text.as_bytes();
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if !text.is_ascii() || marks.iter().any(|(at, mark)| bytes.get(*at).map(u8::to_ascii_uppercase) != Some(*mark))
        {
            return None;
        }
        let day = days_since_epoch(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let rest = text.get(19..)?;
        let after_point =
            rest.strip_prefix('.').map(|rest| rest.trim_start_matches(|digit: char| digit.is_ascii_digit()));
        let (fraction, zone) = match after_point {
            Some(zone) => (rest.get(1..rest.len().checked_sub(zone.len())?)?, zone),
            None => ("", rest),
        };
        if hour > 23 || minute > 59 || second > 59 || (fraction.is_empty() && rest.starts_with('.')) {
            return None;
        }
        let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        let offset_minutes = match zone.as_bytes() {
            [b'Z' | b'z'] => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let at = text.len().checked_sub(5)?;
                let (hours, minutes) = (number(at, at.checked_add(2)?)?, number(at.checked_add(3)?, text.len())?);
                let offset = hours.checked_mul(60)?.checked_add(minutes)?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                if *sign == b'-' { offset.checked_neg()? } else { offset }
            }
            _ => return None,
        };
        let minutes = day.checked_mul(24)?.checked_add(hour)?.checked_mul(60)?.checked_add(minute)?;
        let seconds = minutes.checked_sub(offset_minutes)?.checked_mul(60)?.checked_add(second)?;
        Some(Self(seconds.checked_mul(1_000)?.checked_add(ms)?))
    }

    /// As RFC 3339 in UTC with milliseconds: `2026-08-01T09:30:00.000Z`. By the same calendar as [`Self::month`].
    pub fn to_rfc3339(self) -> String {
        let ms = self.0.rem_euclid(MS_PER_DAY);
        let months = i64::from(self.month()).saturating_add(1970 * 12);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12).saturating_add(1));
        let first = days_since_epoch(year, month, 1).unwrap_or_default();
        let day = self.0.div_euclid(MS_PER_DAY).saturating_sub(first).saturating_add(1);
        let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }

    /// The UTC day: whole days since 1970-01-01.
    pub fn day(self) -> i32 {
        i32::try_from(self.0.div_euclid(MS_PER_DAY)).unwrap_or(if self.0 < 0 { i32::MIN } else { i32::MAX })
    }

    /// The UTC month: whole months since January 1970.
    ///
    /// By the proleptic Gregorian calendar, counted in eras of 400 years that begin on 1 March
    /// ([days to civil](https://howardhinnant.github.io/date_algorithms.html#civil_from_days)).
    pub fn month(self) -> i32 {
        let since_era_0 = i64::from(self.day()).saturating_add(719_468);
        let (era, day_of_era) = (since_era_0.div_euclid(146_097), since_era_0.rem_euclid(146_097));
        let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let months = (era * 400 + year_of_era) * 12 + month_from_march + 2;
        i32::try_from(months - 1970 * 12).unwrap_or(i32::MAX)
    }

    /// Milliseconds from `earlier` to this time; negative when `earlier` is later.
    pub const fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` where there is no such day. As
/// [`Timestamp::month`] backwards.
fn days_since_epoch(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (year, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn days_and_months_are_those_of_the_calendar() {
        // milliseconds, days and months since 1970, as `date -u` tells them
        let known = [
            (0, 0, 0),
            (86_399_999, 0, 0),
            (2_678_400_000, 31, 1),             // 1970-02-01
            (951_782_399_999, 11_015, 361),     // 2000-02-28 23:59:59.999
            (951_782_400_000, 11_016, 361),     // 2000-02-29
            (951_868_800_000, 11_017, 362),     // 2000-03-01
            (1_798_761_599_999, 20_818, 683),   // 2026-12-31 23:59:59.999
            (1_798_761_600_000, 20_819, 684),   // 2027-01-01
            (4_107_542_400_000, 47_541, 1_562), // 2100-03-01, a year without a leap day
            (-1, -1, -1),
        ];
        for (ms, day, month) in known {
            let at = Timestamp::from_ms(ms);
            assert_eq!((at.day(), at.month()), (day, month), "{ms}");
        }
    }

    proptest::proptest! {
        #[test]
        fn an_offset_moves_a_time_by_what_it_says(second in 0_u32..60, hour in 0_i64..24, minute in 0_i64..60, day in 1_u32..29) {
            let local = format!("2024-02-{day:02}T12:34:{second:02}.25");
            let read = |zone: String| Timestamp::parse_rfc3339(&format!("{local}{zone}")).map(Timestamp::ms);
            let utc = read("Z".to_owned());
            let offset_ms = (hour * 60 + minute) * 60_000;
            proptest::prop_assert!(utc.is_some());
            proptest::prop_assert_eq!(read(format!("+{hour:02}:{minute:02}")), utc.map(|utc| utc - offset_ms));
            proptest::prop_assert_eq!(read(format!("-{hour:02}:{minute:02}")), utc.map(|utc| utc + offset_ms));
        }

        #[test]
        fn no_text_breaks_the_reading_of_times(text in "\\PC{0,30}", digits in "[0-9T:.Z+-]{0,30}") {
            let _ = (Timestamp::parse_rfc3339(&text), Timestamp::parse_rfc3339(&digits));
        }
    }

    #[test]
    fn times_are_read_as_the_standard_writes_them() {
        let known = [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2026-12-31T23:59:59.999Z", 1_798_761_599_999),
            ("2026-12-31t23:59:59.9999999z", 1_798_761_599_999),
            ("2027-01-01T01:30:00.5+01:30", 1_798_761_600_500),
            ("2026-12-31T19:00:00-05:00", 1_798_761_600_000),
            ("2100-03-01T00:00:00Z", 4_107_542_400_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
        ];
        for (text, ms) in known {
            assert_eq!(Timestamp::parse_rfc3339(text), Some(Timestamp::from_ms(ms)), "{text}");
        }
        for text in [
            "",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T23:59:60Z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+24:00",
            "2026-01-01T00:00:00ZZ",
            "2026-01-01T0a:00:00Z",
            "2026-01-01T00:00:00é",
            "tomorrow",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(Timestamp::from_ms(951_782_400_001).to_rfc3339(), "2000-02-29T00:00:00.001Z");
        assert_eq!(Timestamp::from_ms(-1).to_rfc3339(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_ms(1_798_761_599_999).to_rfc3339(), "2026-12-31T23:59:59.999Z");
        for step in 0..2_000 {
            let at = Timestamp::from_ms(step * 86_399_777 * 7);
            assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Some(at), "{}", at.to_rfc3339());
        }
    }
}
