//! What every page has in common: head, navigation, the place for announcements.

use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON_URL, SCRIPT_URL, STYLE_URL};
use super::session::Viewer;
use super::show;

/// Where in the navigation a page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The overview.
    Overview,
    /// The missions and what is below them.
    Missions,
    /// The wallets and what is below them.
    Wallets,
    /// The ledger of a wallet.
    Ledger,
    /// Missions that failed.
    DeadLetters,
    /// Schedules.
    Schedules,
    /// Price books.
    Prices,
}

/// How a page keeps up to date.
#[derive(Debug, Clone)]
pub(super) enum Fresh {
    /// Its parts are fetched again every so many milliseconds while somebody looks.
    Poll {
        /// Where its parts come from.
        parts: String,
        /// How often.
        every_ms: u32,
    },
    /// Its parts are fetched again when its feed says that something changed.
    Feed {
        /// Where its parts come from.
        parts: String,
        /// Where changes are told.
        feed: String,
    },
    /// What it shows is over.
    Never,
}

/// A page for somebody who is signed in.
pub(super) fn page(viewer: &Viewer, place: Place, title: &str, now_ms: i64, fresh: &Fresh, body: &Markup) -> Markup {
    let (parts, every, feed) = match fresh {
        Fresh::Poll { parts, every_ms } => (Some(parts), Some(every_ms), None),
        Fresh::Feed { parts, feed } => (Some(parts), None, Some(feed)),
        Fresh::Never => (None, None, None),
    };
    document(
        title,
        &html! {
            (bar(viewer, place))
            main #main tabindex="-1" data-now=(now_ms) data-parts=[parts] data-poll-ms=[every] data-feed=[feed] { (body) }
        },
    )
}

/// A page for anybody: no navigation.
pub(super) fn bare(title: &str, body: &Markup) -> Markup {
    document(
        title,
        &html! {
            header.bar {
                div.bar-in { (brand()) (theme_switch()) }
            }
            main #main.narrow tabindex="-1" { (body) }
        },
    )
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Bursar" }
                link rel="icon" href=(*ICON_URL) type="image/svg+xml";
                link rel="stylesheet" href=(*STYLE_URL);
                script src=(*SCRIPT_URL) {}
            }
            body {
                a.skip href="#main" { "Skip to content" }
                (body)
                div #announce.unseen role="status" aria-live="polite" {}
            }
        }
    }
}

fn brand() -> Markup {
    html! {
        a.brand href="/dashboard" {
            img src=(*ICON_URL) alt="" width="24" height="24";
            "Bursar"
        }
    }
}

/// Works by script alone, so it is shown by script alone.
fn theme_switch() -> Markup {
    html! { button #theme.quiet type="button" hidden { "Theme: auto" } }
}

fn bar(viewer: &Viewer, place: Place) -> Markup {
    let entries = [
        (Place::Overview, "/dashboard", "Overview"),
        (Place::Missions, "/dashboard/missions", "Missions"),
        (Place::DeadLetters, "/dashboard/dead-letters", "Dead letters"),
        (Place::Schedules, "/dashboard/schedules", "Schedules"),
        (Place::Wallets, "/dashboard/wallets", "Wallets"),
        (Place::Ledger, "/dashboard/ledger", "Ledger"),
        (Place::Prices, "/dashboard/prices", "Prices"),
    ];
    html! {
        header.bar {
            div.bar-in {
                (brand())
                nav aria-label="Pages" {
                    @for (entry, path, name) in entries {
                        a href=(path) aria-current=[(entry == place).then_some("page")] { (name) }
                    }
                }
                span #connection.connection role="status" {}
                (theme_switch())
                span.who title={ "key " (viewer.key.prefix) "… of " (viewer.key.tenant_id) } {
                    (show::cut(&viewer.key.name, 24)) " · " (viewer.key.role.as_str())
                }
                form method="post" action="/dashboard/logout" { button.quiet type="submit" { "Sign out" } }
            }
        }
    }
}

/// A text as it may stand in the value of a query parameter.
pub(super) fn escape_query(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push('%');
            escaped.extend([byte >> 4, byte & 15].map(|half| char::from_digit(u32::from(half), 16).unwrap_or('0')));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_keeps_nothing_that_could_end_it() {
        assert_eq!(escape_query("/dashboard/missions?a=b&c d\"é"), "/dashboard/missions%3fa%3db%26c%20d%22%c3%a9");
    }
}
