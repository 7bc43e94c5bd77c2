//! Amounts of credits: whole micro-credits, checked arithmetic, exact decimal text.
//!
//! Floats never touch money. One credit is 1,000,000 µcr; the API speaks decimal strings with six places.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Micro-credits in one credit.
pub const UCR_PER_CREDIT: i64 = 1_000_000;

/// An amount of credits in micro-credits (µcr). May be negative only where a balance is shown.
///
/// Serialises as an integer number of µcr (how it is stored); [`fmt::Display`] and [`Credits`] give decimal text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ucr(i64);

/// Why a text is not an amount of credits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain decimal number.
    #[error("`{0}` is not an amount of credits: write a plain decimal such as \"12.5\"")]
    NotDecimal(String),
    /// More than six places after the point.
    #[error("`{0}` has more than six decimal places: the smallest amount is 0.000001 credits")]
    TooPrecise(String),
    /// Outside of what an i64 of micro-credits holds.
    #[error("`{0}` is too large: the largest amount is 9223372036854.775807 credits")]
    TooLarge(String),
}

impl Ucr {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount given in micro-credits.
    pub const fn new(ucr: i64) -> Self {
        Self(ucr)
    }

    /// An amount given in whole credits; saturates.
    pub const fn from_credits(credits: i64) -> Self {
        Self(credits.saturating_mul(UCR_PER_CREDIT))
    }

    /// The amount in micro-credits.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// Whether the amount is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether the amount is greater than zero.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Sum, `None` on overflow.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// Difference, `None` on overflow.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Some(Self(difference)),
            None => None,
        }
    }

    /// Sum, cut at the ends of the range.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Difference, zero when it would be negative.
    #[must_use]
    pub const fn minus_or_zero(self, other: Self) -> Self {
        let difference = self.0.saturating_sub(other.0);
        if difference < 0 { Self(0) } else { Self(difference) }
    }
}

impl std::iter::Sum for Ucr {
    /// Sums, cut at the ends of the range.
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::saturating_add)
    }
}

impl fmt::Display for Ucr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.unsigned_abs();
        let per = UCR_PER_CREDIT.unsigned_abs();
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}.{:06}", magnitude / per, magnitude % per)
    }
}

impl FromStr for Ucr {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let shown = || text.chars().take(60).collect::<String>();
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(AmountError::NotDecimal(shown()));
        }
        if fraction.len() > 6 {
            return Err(AmountError::TooPrecise(shown()));
        }
        let mut ucr: i64 = 0;
        let places = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
        for digit in whole.bytes().chain(places) {
            ucr = ucr
                .checked_mul(10)
                .and_then(|ucr| ucr.checked_add(i64::from(digit - b'0')))
                .ok_or_else(|| AmountError::TooLarge(shown()))?;
        }
        Ok(Self(if negative { -ucr } else { ucr }))
    }
}

/// An amount that reads and writes itself as a decimal string, as the API and workflow files do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Credits(pub Ucr);

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_text_is_exact() {
        for (text, ucr) in [("0", 0), ("12.5", 12_500_000), ("0.000001", 1), ("-3.25", -3_250_000)] {
            assert_eq!(text.parse::<Ucr>(), Ok(Ucr::new(ucr)), "{text}");
        }
        assert_eq!(Ucr::new(12_500_000).to_string(), "12.500000");
        assert_eq!(Ucr::new(-1).to_string(), "-0.000001");
    }

    #[test]
    fn what_is_no_amount_is_refused_by_name() {
        for text in ["", ".", "1.", ".5", "1e3", "+1", "1,5", "٣", "0x1", "--1"] {
            assert!(matches!(text.parse::<Ucr>(), Err(AmountError::NotDecimal(_))), "{text}");
        }
        assert!(matches!("0.0000001".parse::<Ucr>(), Err(AmountError::TooPrecise(_))));
        assert!(matches!("9223372036854.775808".parse::<Ucr>(), Err(AmountError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same_amount(ucr in (i64::MIN + 1)..=i64::MAX) {
            let amount = Ucr::new(ucr);
            prop_assert_eq!(amount.to_string().parse::<Ucr>(), Ok(amount));
        }
    }
}
