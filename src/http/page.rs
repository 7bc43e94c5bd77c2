//! One page of a list.

use serde::Serialize;
use utoipa::ToSchema;

use super::params::cursor;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T: ToSchema> {
    /// The rows.
    data: Vec<T>,
    /// Whether there are more.
    has_more: bool,
    /// Continues the list with the same filters.
    next_cursor: Option<String>,
}

impl<T: ToSchema> Page<T> {
    /// A page of at most `limit` rows out of one more that was read; `position` is where a row stands in the list.
    pub fn cut<R>(
        mut rows: Vec<R>,
        limit: i64,
        list: &str,
        position: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next_cursor = rows.last().filter(|_| has_more).map(|row| cursor(list, &position(row)));
        Self { data: rows.into_iter().map(show).collect(), has_more, next_cursor }
    }
}
