//! Decimal numbers as a catalogue writes them, kept exactly: digits and a power of ten, never a float.

use serde_json::value::RawValue;

use super::super::usd;

/// A number of zero or more: `digits · 10^exponent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decimal {
    digits: u128,
    exponent: i32,
}

impl Decimal {
    /// Reads a JSON number, or one in quotes. `null` and what is no number are none; a negative one is an error.
    pub(super) fn of(raw: &RawValue) -> Result<Option<Self>, String> {
        let text = raw.get().trim_matches('"');
        if text == "null" || !text.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
            return Ok(None);
        }
        Self::parse(text).map(Some).ok_or_else(|| format!("`{text}` is not a price that can be read exactly"))
    }

    /// Reads `1.25e-06`, `0.000003`, `15`.
    fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = match text.split_once(['e', 'E']) {
            Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = digits.parse::<u128>().ok()?;
        let places = i32::try_from(fraction.len()).ok()?;
        Some(Self { digits, exponent: exponent.checked_sub(places)? })
    }

    /// The same price for `10^power` times as many units: `-6` turns a price per million into one per token.
    pub(super) fn shifted(self, power: i32) -> Self {
        Self { exponent: self.exponent.saturating_add(power), ..self }
    }

    /// Whether it is nothing.
    pub(super) const fn is_zero(self) -> bool {
        self.digits == 0
    }

    /// The price of `10^power` units as decimal text in USD; none when it is not exact at 1e-12 USD or too large.
    pub(super) fn price_of(self, power: u32) -> Option<String> {
        let shift = self.exponent.checked_add(12)?.checked_add(i32::try_from(power).ok()?)?;
        let scale = 10_u128.checked_pow(shift.unsigned_abs())?;
        let pico = if shift >= 0 {
            self.digits.checked_mul(scale)?
        } else if self.digits.checked_rem(scale)? == 0 {
            self.digits.checked_div(scale)?
        } else {
            return None;
        };
        let text = usd::text(u64::try_from(pico).ok()?);
        usd::parse(&text).ok().map(|_| text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn price(text: &str, power: u32) -> Option<String> {
        Decimal::parse(text).unwrap().price_of(power)
    }

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for (text, power, expected) in [
            ("1.25e-06", 6, "1.25"),
            ("3E-6", 6, "3"),
            ("0.000003", 6, "3"),
            ("2.5e-9", 6, "0.0025"),
            ("15", 0, "15"),
            ("1e-21", 9, "0.000000000001"),
            ("1.38e-07", 6, "0.138"),
        ] {
            assert_eq!(price(text, power).as_deref(), Some(expected), "{text}");
        }
        // a float's neighbour of 7.5e-8 is another number, and is not taken for it
        assert_eq!(price("7.500000000000001e-08", 6).as_deref(), None);
        assert_eq!(price("7.500000000000001e-08", 9).as_deref(), None);
        assert_eq!(price("2e6", 0), None, "more than a price may be");
    }

    #[test]
    fn what_is_no_number_is_told_apart_from_what_cannot_be_read() {
        let of = |text: &str| Decimal::of(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(of("\"0.30\""), Ok(Decimal::parse("0.3").map(|_| Decimal { digits: 30, exponent: -2 })));
        for none in ["null", "\"free\"", "{}", "[1]", "true", "\"\""] {
            assert_eq!(of(none), Ok(None), "{none}");
        }
        for bad in ["-1", "\"1e\"", "\"1.2.3\"", "1e99999999999", "123456789012345678901234567890123456789012"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
