//! What stands in addresses: ids in paths, query parameters, cursors of lists.
//!
//! An unknown parameter is refused like an unknown field: a misspelt filter must not list everything.

use std::collections::BTreeSet;

use axum::extract::{FromRequestParts, Path, Query as AxumQuery};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bursar_domain::id::{Id, IdError, Kind};
use bursar_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::limits::{DEFAULT_PAGE, MAX_PAGE};
use super::problem::{Code, Problem};
use crate::calendar;
use crate::digest::sha256_hex;

/// The id in a path.
#[derive(Debug)]
pub(super) struct PathId<K: Kind>(pub Id<K>);

impl<K: Kind, S: Send + Sync> FromRequestParts<S> for PathId<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = PathText::from_request_parts(parts, state).await?;
        parse_id(&text.0).map(Self)
    }
}

/// The text in a path.
#[derive(Debug)]
pub(super) struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(text)| Self(text)).map_err(|_| Problem::not_found("address"))
    }
}

/// An id that a client wrote.
pub(super) fn parse_id<K: Kind>(text: &str) -> Result<Id<K>, Problem> {
    text.parse().map_err(|error| match error {
        IdError::WrongKind { expected, prefix, .. } => Problem::new(
            Code::WrongIdKind,
            format!("this is not the id of a {expected}: it must begin with `{prefix}_`"),
        ),
        IdError::Malformed { prefix, .. } => {
            Problem::new(Code::MalformedId, format!("an id here is `{prefix}_` and 26 characters"))
        }
    })
}

/// Query parameters, taken one by one; what is left over is refused by [`Query::done`].
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
    asked: BTreeSet<&'static str>,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = AxumQuery::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let pairs = read.map_err(|_| Problem::new(Code::BadParameter, "the query is not valid"))?.0;
        Ok(Self { pairs, asked: BTreeSet::new() })
    }
}

impl Query {
    /// A parameter that may stand once.
    pub fn one(&mut self, name: &'static str) -> Result<Option<String>, Problem> {
        self.asked.insert(name);
        let mut values = self.pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let first = values.next().cloned();
        if values.next().is_some() { Err(Problem::parameter(name, "may stand once")) } else { Ok(first) }
    }

    /// A parameter that may be repeated or list several values with commas.
    pub fn many(&mut self, name: &'static str) -> Vec<String> {
        self.asked.insert(name);
        let values = self.pairs.iter().filter(|(key, _)| key == name);
        values.flat_map(|(_, value)| value.split(',')).map(str::to_owned).collect()
    }

    /// A whole number within a range.
    pub fn number(&mut self, name: &'static str, least: i64, most: i64) -> Result<Option<i64>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let refused = || Problem::parameter(name, &format!("must be a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(refused)
    }

    /// A point in time: RFC 3339, or a date.
    pub fn time(&mut self, name: &'static str) -> Result<Option<Timestamp>, Problem> {
        let refused = || Problem::parameter(name, "must be a time in RFC 3339, or a date such as 2026-01-31");
        self.one(name)?.map(|text| calendar::parse_time(&text).ok_or_else(refused)).transpose()
    }

    /// Whether something else than JSON is asked for: `?format=` decides, then the header Accept.
    pub fn wants_csv(&mut self, headers: &HeaderMap) -> Result<bool, Problem> {
        match self.one("format")?.as_deref() {
            Some("csv") => Ok(true),
            Some("json") => Ok(false),
            Some(_) => Err(Problem::parameter("format", "must be json or csv")),
            None => {
                let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
                let types = values.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
                let known = |name: &&str| matches!(*name, "text/csv" | "application/json" | "application/*" | "*/*");
                Ok(types.map(str::trim).find(known) == Some("text/csv"))
            }
        }
    }

    /// How many rows a page has.
    pub fn limit(&mut self) -> Result<i64, Problem> {
        Ok(self.number("limit", 1, MAX_PAGE)?.unwrap_or(DEFAULT_PAGE))
    }

    /// Where a page begins, if the cursor belongs to this list and these filters.
    pub fn cursor(&mut self, list: &str) -> Result<Option<String>, Problem> {
        self.one("cursor")?.map(|text| Cursor::read(&text, list)).transpose()
    }

    /// Refuses parameters that nobody asked for.
    pub fn done(self) -> Result<(), Problem> {
        match self.pairs.iter().find(|(key, _)| !self.asked.contains(key.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                let key: String = key.chars().take(64).collect();
                let known: Vec<&str> = self.asked.into_iter().collect();
                let words = if known.is_empty() {
                    "there is no such parameter; this address takes none".to_owned()
                } else {
                    format!("there is no such parameter; known here: {}", known.join(", "))
                };
                Err(Problem::parameter(&key, &words))
            }
        }
    }
}

/// The place where a page ended, bound to its list with all filters.
#[derive(Serialize, Deserialize)]
struct Cursor {
    /// What list, as a hash.
    l: String,
    /// After what.
    p: String,
}

impl Cursor {
    fn read(text: &str, list: &str) -> Result<String, Problem> {
        let refused = || Problem::new(Code::BadCursor, "the cursor is not one of this list with these filters");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let cursor: Self = serde_json::from_slice(&bytes).map_err(|_| refused())?;
        if cursor.l == fingerprint(list) { Ok(cursor.p) } else { Err(refused()) }
    }
}

/// The cursor that continues `list` after `position`.
pub(super) fn cursor(list: &str, position: &str) -> String {
    let cursor = Cursor { l: fingerprint(list), p: position.to_owned() };
    URL_SAFE_NO_PAD.encode(serde_json::to_string(&cursor).unwrap_or_default())
}

/// A position that is an id.
pub(super) fn position<K: Kind>(text: Option<String>) -> Result<Option<Id<K>>, Problem> {
    let refused = |_| Problem::new(Code::BadCursor, "the cursor is not one of this list with these filters");
    text.map(|text| text.parse::<Id<K>>()).transpose().map_err(refused)
}

fn fingerprint(list: &str) -> String {
    sha256_hex(list)[..16].to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_list_only() {
        let text = cursor("missions?status=failed", "mis_1");
        assert_eq!(Cursor::read(&text, "missions?status=failed").unwrap(), "mis_1");
        for (text, list) in [(text.as_str(), "missions?status="), ("x", "missions?status=failed"), ("", "")] {
            assert_eq!(Cursor::read(text, list).unwrap_err().code(), Code::BadCursor);
        }
    }
}
