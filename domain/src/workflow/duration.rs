//! Durations as people write them (`500ms`, `30s`, `10m`, `2h`, `1d`), kept as whole milliseconds.

/// Milliseconds of one written duration; `None` when the text is no duration or does not fit.
pub fn parse_ms(text: &str) -> Option<i64> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(digits_end)?;
    let unit_ms: i64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(unit_ms)
}

/// The shortest exact way to write so many milliseconds, for messages.
pub fn show(ms: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.into_iter().find(|(_, unit_ms)| ms != 0 && ms.checked_rem(*unit_ms) == Some(0));
    let (unit, unit_ms) = whole.unwrap_or(("ms", 1));
    format!("{}{unit}", ms.checked_div(unit_ms).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_exact() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("1d", 86_400_000)] {
            assert_eq!(parse_ms(text), Some(ms), "{text}");
            assert_eq!(show(ms), text);
        }
        assert_eq!(show(0), "0ms");
    }

    #[test]
    fn what_is_no_duration_is_none() {
        for text in
            ["", "10", "s", "-1s", "1.5h", "1h30m", "10 s", "10S", "99999999999999999999s", "9223372036854775807d"]
        {
            assert_eq!(parse_ms(text), None, "{text}");
        }
    }
}
