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
}
