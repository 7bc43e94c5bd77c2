//! What a page says when it can't be shown. Never a reason that is not the reader's business.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

use super::shell;
use crate::store::StoreError;

/// Why a page can't be shown.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is signed in; `next` is where to go afterwards.
    SignIn {
        /// A local path.
        next: String,
    },
    /// It does not exist, or belongs to somebody else.
    NotFound,
    /// The viewer may not do that.
    Forbidden(&'static str),
    /// The request makes no sense now, with what the reader can do about it.
    Refused(StatusCode, String),
    /// The store did not answer.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn { next } if next == "/dashboard" => Redirect::to("/dashboard/login").into_response(),
            Self::SignIn { next } => {
                Redirect::to(&format!("/dashboard/login?next={}", shell::escape_query(&next))).into_response()
            }
            Self::NotFound => message(StatusCode::NOT_FOUND, "Not found", "There is nothing here, or it is not yours."),
            Self::Forbidden(why) => message(StatusCode::FORBIDDEN, "Not allowed", why),
            Self::Refused(status, why) => message(status, "That did not work", &why),
            Self::Store(error) if error.is_transient() => {
                tracing::warn!(%error, "a page could not be read");
                let why = "The database does not answer at the moment. Nothing is lost; try again in a few seconds.";
                message(StatusCode::SERVICE_UNAVAILABLE, "Not available", why)
            }
            Self::Store(error) => {
                tracing::error!(%error, "a page could not be read");
                message(StatusCode::INTERNAL_SERVER_ERROR, "An error of ours", "The log of the server says more.")
            }
        }
    }
}

fn message(status: StatusCode, title: &str, why: &str) -> Response {
    let body = html! {
        section.card.message {
            h1 { (title) }
            p { (why) }
            p { a href="/dashboard" { "To the overview" } }
        }
    };
    (status, shell::bare(title, &body)).into_response()
}

/// Any other path under `/dashboard`.
pub(super) async fn no_such_page() -> Failure {
    Failure::NotFound
}
