//! Lists as CSV files (RFC 4180), written page by page while they are sent: a file of any length costs one page of
//! memory.
//!
//! A spreadsheet runs a cell that begins like a formula. What people wrote gets an apostrophe before such a beginning;
//! what we wrote ourselves (ids, amounts, times) never begins so, but for the sign of a negative amount.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures::stream::try_unfold;

use super::limits::CSV_PAGE;
use crate::store::StoreError;

/// One cell.
#[derive(Debug)]
pub(super) enum Cell {
    /// Made by us.
    Own(String),
    /// Written by people.
    Words(String),
}

impl Cell {
    /// Something of ours.
    pub fn own(value: impl ToString) -> Self {
        Self::Own(value.to_string())
    }

    /// Something of ours that may be missing.
    pub fn maybe<T: ToString>(value: Option<T>) -> Self {
        Self::Own(value.map(|value| value.to_string()).unwrap_or_default())
    }

    /// What somebody wrote, or nothing.
    pub fn words(text: Option<&str>) -> Self {
        Self::Words(text.unwrap_or_default().to_owned())
    }

    fn text(&self) -> String {
        match self {
            Self::Words(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '|', '%']) => {
                format!("'{text}")
            }
            Self::Own(text) | Self::Words(text) => text.clone(),
        }
    }
}

/// Lines as CSV.
fn lines(rows: impl IntoIterator<Item = Vec<String>>) -> Result<Bytes, StoreError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let failed = |error: String| StoreError::Corrupt(format!("a line can't be written as CSV: {error}"));
    for row in rows {
        writer.write_record(&row).map_err(|error| failed(error.to_string()))?;
    }
    let written = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    Ok(Bytes::from(written))
}

/// A file of all rows from the first page on. `fetch` reads the page behind a row, [`CSV_PAGE`] rows at most; `show`
/// writes the lines of a row.
pub(super) fn file<R, F, Fut>(
    name: &str,
    head: &[&str],
    first: Vec<R>,
    fetch: F,
    show: fn(&R) -> Vec<Vec<Cell>>,
) -> Response<Body>
where
    R: Send + 'static,
    F: Fn(&R) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Vec<R>, StoreError>> + Send + 'static,
{
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let pages = try_unfold((Some(head), Some(first), fetch), move |(head, page, fetch)| async move {
        let Some(page) = page else { return Ok::<_, StoreError>(None) };
        let of_page = page.iter().flat_map(show).map(|line| line.iter().map(Cell::text).collect());
        let bytes = lines(head.into_iter().chain(of_page))?;
        let is_full = page.len() as i64 >= CSV_PAGE;
        let next = match page.last().filter(|_| is_full) {
            Some(last) => {
                let following = fetch(last);
                drop(page);
                // the reader sees a broken file rather than one that ends too early
                Some(following.await.inspect_err(|error| tracing::warn!(%error, "a CSV file was cut off"))?)
            }
            None => None,
        };
        Ok(Some((bytes, (None, next, fetch))))
    });
    let mut response = Response::new(Body::from_stream(pages));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}.csv\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_people_wrote_is_no_formula() {
        for (text, cell) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-2", "'-2"),
            ("@sum(1)", "'@sum(1)"),
            ("\t=1", "'\t=1"),
            ("plain = text", "plain = text"),
            ("", ""),
        ] {
            assert_eq!(Cell::words(Some(text)).text(), cell);
        }
        assert_eq!(Cell::own("-2.000000").text(), "-2.000000", "an amount stays a number");
    }

    #[test]
    fn quotes_commas_and_breaks_are_quoted_by_the_rfc() {
        let row = ["a", "b,c", "say \"hi\"", "two\nlines", ""].map(str::to_owned).to_vec();
        assert_eq!(lines([row]).unwrap(), "a,\"b,c\",\"say \"\"hi\"\"\",\"two\nlines\",\r\n".as_bytes());
    }
}
