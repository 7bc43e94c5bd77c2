//! What a mission waits for, on its page: the reasons with their places, those that wait for longest first.

use maud::{Markup, html};

use super::super::show;
use super::Shown;

/// Nothing when nothing waits.
pub(super) fn section(shown: &Shown) -> Markup {
    let Some(why) = shown.why.as_ref().filter(|why| !why.groups.is_empty()) else {
        return html! { section #why data-swap hidden {} };
    };
    html! {
        section.card #why data-swap aria-labelledby="why-title" {
            div.card-head {
                h2 id="why-title" { "What it waits for" }
                @if why.running > 0 { span.muted { (show::number(why.running)) " running" } }
            }
            ul {
                @for group in &why.groups {
                    li {
                        code { (group.longest.node) }
                        @if group.tasks > 1 { " " span.muted { "and " (show::number(group.tasks.saturating_sub(1))) " more" } }
                        ": " (show::with_code(&show::cut(&group.waiting.reason, 300)))
                        " " span.muted {
                            "for " (show::growing(group.waiting.since, shown.now))
                            @if let Some(until) = group.waiting.until { ", until " (show::date_time(until)) " UTC" }
                        }
                    }
                }
            }
        }
    }
}
