//! How values are written on pages: credits, times, durations, states, ids. Exact where it is about money.

use bursar_domain::credits::Ucr;
use bursar_domain::state::{RunState, TaskState};
use bursar_domain::time::Timestamp;
use maud::{Markup, html};

use crate::clock::rfc3339;

/// Credits with thousands separated and at least two places; never rounded.
pub(super) fn credits(amount: Ucr) -> String {
    let text = amount.to_string();
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("−", rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let kept = fraction.trim_end_matches('0').len().max(2);
    let fraction = fraction.get(..kept).unwrap_or(fraction);
    format!("{sign}{}.{fraction}", grouped(whole))
}

/// Credits to the cent, where there is no room for more; what is below a cent is left off, never rounded up.
pub(super) fn cents(amount: Ucr) -> String {
    const UCR_PER_CENT: i64 = 10_000;
    credits(Ucr::new(amount.get() / UCR_PER_CENT * UCR_PER_CENT))
}

/// A whole number with thousands separated.
pub(super) fn number(value: impl ToString) -> String {
    grouped(&value.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in its two largest units: `840 ms`, `8.1 s`, `3 min 05 s`, `2 h 14 min`, `3 d 4 h`.
pub(super) fn duration(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {:02} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// How long ago, in words; the exact time for those who ask.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let ms = now.since_ms(at).max(0);
    let words = match ms / 1000 {
        0..5 => "just now".to_owned(),
        seconds @ 5..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    };
    html! { time datetime=(rfc3339(at)) title=(rfc3339(at)) { (words) } }
}

/// Date and time of day in UTC, to the second; the whole for those who ask.
pub(super) fn date_time(at: Timestamp) -> Markup {
    let whole = rfc3339(at);
    let (date, time) = (whole.get(..10).unwrap_or(&whole), whole.get(11..19).unwrap_or_default());
    html! { time datetime=(whole) title=(whole) { (date) " " (time) } }
}

/// The time of day in UTC, with milliseconds; the whole for those who ask.
pub(super) fn time_of_day(at: Timestamp) -> Markup {
    let whole = rfc3339(at);
    html! { time datetime=(whole) title=(whole) { (whole.get(11..23).unwrap_or(&whole)) } }
}

/// A duration that still grows; the script counts it up.
pub(super) fn growing(since: Timestamp, now: Timestamp) -> Markup {
    html! { span.growing data-since=(since.ms()) { (duration(now.since_ms(since))) } }
}

/// A run's state as a badge.
pub(super) fn run_badge(state: RunState) -> Markup {
    badge(state.as_str())
}

/// A task's state as a badge.
pub(super) fn task_badge(state: TaskState) -> Markup {
    badge(state.as_str())
}

fn badge(word: &str) -> Markup {
    html! { span class={ "badge s-" (word) } { (word) } }
}

/// What marks everything that the simulated provider made up.
pub(super) fn simulated() -> Markup {
    html! { span.simulated title="Made up by the built-in simulated model; no provider was asked." { "simulated" } }
}

/// The end of an id, enough to tell neighbours apart; the whole for those who ask.
pub(super) fn short_id(id: &str) -> Markup {
    let tail = id.get(id.len().saturating_sub(6)..).unwrap_or(id);
    let kind = id.split_once('_').map_or("", |(kind, _)| kind);
    html! { code.id title=(id) { (kind) "…" (tail) } }
}

/// The text with what stands in backticks set as code.
pub(super) fn with_code(text: &str) -> Markup {
    html! {
        @for (place, piece) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (piece) } } @else { (piece) }
        }
    }
}

/// How many of a mission's tasks have ended, as a bar in the colour of its state.
pub(super) fn progress(done: i64, total: i64, state: RunState, class: &str) -> Markup {
    html! {
        progress class={ (class) " s-" (state.as_str()) } value=(done) max=(total.max(1)) aria-label="tasks ended" {}
    }
}

/// The text, cut to so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_grouped_and_never_rounded() {
        for (ucr, text) in [
            (0, "0.00"),
            (1, "0.000001"),
            (412_000, "0.412"),
            (12_500_000, "12.50"),
            (1_234_567_000_000, "1,234,567.00"),
            (-3_250_000, "−3.25"),
        ] {
            assert_eq!(credits(Ucr::new(ucr)), text);
        }
    }

    #[test]
    fn cents_leave_the_rest_off() {
        for (ucr, text) in [(969_326_885, "969.32"), (9_999, "0.00"), (5_000_000, "5.00")] {
            assert_eq!(cents(Ucr::new(ucr)), text);
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (ms, text) in [
            (-5, "0 ms"),
            (840, "840 ms"),
            (8_123, "8.1 s"),
            (185_000, "3 min 05 s"),
            (8_040_000, "2 h 14 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
