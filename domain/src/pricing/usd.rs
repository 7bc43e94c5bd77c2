//! Amounts of US dollars as integer pico-USD, read from and written to plain decimal text.
//!
//! One pico-USD is 1e-12 USD: fine enough for what providers publish (per million tokens, twelve places reach
//! 1e-18 USD per token). What does not fit exactly is refused, never rounded, and no float is ever involved.

/// Pico-USD in one US dollar.
pub(super) const PICO_PER_USD: u64 = 1_000_000_000_000;

/// Decimal places a text may need.
const PLACES: usize = 12;

/// The largest amount accepted, in USD. Keeps every product far inside of i128 and catches a slipped point.
const MAX_USD: u64 = 1_000_000;

/// Reads `"0.40"` as 400,000,000,000. Digits, optionally a point and more digits; no sign, no exponent.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let shown = || text.chars().take(60).collect::<String>();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(format!("`{}` is not a price in USD: write a plain decimal such as \"0.40\"", shown()));
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > PLACES {
        return Err(format!("`{}` is not exact at 1e-12 USD: give the price for more units (`per`)", shown()));
    }
    let places = fraction.bytes().chain(std::iter::repeat(b'0')).take(PLACES);
    whole
        .bytes()
        .chain(places)
        .try_fold(0_u64, |pico, digit| pico.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0')?)))
        .filter(|pico| MAX_USD.checked_mul(PICO_PER_USD).is_some_and(|max| *pico <= max))
        .ok_or_else(|| format!("`{}` is more than {MAX_USD} USD", shown()))
}

/// Writes pico-USD as the shortest decimal text, the one way canonical JSON shows it.
pub(super) fn text(pico_usd: u64) -> String {
    let whole = pico_usd.checked_div(PICO_PER_USD).unwrap_or_default();
    let fraction = pico_usd.checked_rem(PICO_PER_USD).unwrap_or_default();
    let padded = format!("{whole}.{fraction:012}");
    padded.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes `pico_usd / 10^places` pico-USD as the shortest decimal text, exactly. Negative amounts do not occur.
pub(super) fn exact_text(pico_usd: i128, places: usize) -> String {
    let width = places.saturating_add(PLACES);
    let digits = format!("{pico_usd:0>digits$}", digits = width.saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(width));
    format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_text_becomes_exact_pico_usd() {
        for (given, pico) in [
            ("0.40", 400_000_000_000),
            ("0.000000000001", 1),
            ("0.0000000000010000", 1),
            ("3", 3_000_000_000_000),
            ("1000000", 1_000_000_000_000_000_000),
            ("00.5", 500_000_000_000),
        ] {
            assert_eq!(parse(given), Ok(pico), "{given}");
        }
    }

    #[test]
    fn what_is_not_exact_or_no_price_is_refused() {
        for given in ["", ".", "1.", ".5", "-1", "+1", "1e-6", "1_000", "1,5", "٣", " 1", "NaN"] {
            assert!(parse(given).is_err_and(|message| message.contains("is not a price")), "{given}");
        }
        assert!(parse("0.0000000000001").is_err_and(|message| message.contains("not exact at 1e-12")));
        for given in ["1000000.000000000001", "99999999999999999999999999"] {
            assert!(parse(given).is_err_and(|message| message.contains("more than 1000000 USD")), "{given}");
        }
    }

    #[test]
    fn an_exact_amount_keeps_every_place() {
        for (pico, places, text) in [
            (0, 6, "0"),
            (1, 0, "0.000000000001"),
            (54_399_000_000_000_000, 6, "0.054399"),
            (1, 9, "0.000000000000000000001"),
            (12_500_000_000_000, 0, "12.5"),
            (i128::MAX, 0, "170141183460469231731687303.715884105727"),
        ] {
            assert_eq!(exact_text(pico, places), text);
        }
    }

    proptest! {
        #[test]
        fn text_and_back_is_the_same_price(pico in 0..=1_000_000_000_000_000_000_u64) {
            prop_assert_eq!(parse(&text(pico)), Ok(pico));
        }
    }
}
