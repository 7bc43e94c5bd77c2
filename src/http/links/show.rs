//! What a link shows: what is to be decided, as a page without any script, or as JSON. Decides nothing.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use maud::{Markup, html};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::conditional::json;
use super::super::pages::{form_page, wants_json};
use super::super::params::{PathText, Query};
use super::super::problem::Problem;
use super::super::state::Site;
use super::super::types::Time;
use super::{Subject, now, open, over};
use crate::store::CallbackLink;
use bursar_domain::state::{TaskState, WaitCause};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::http) enum LinkSubject {
    /// Somebody is asked to decide.
    Approval,
    /// Somebody is asked to send a signal.
    Signal,
}

/// What is to be decided.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Callback {
    /// What the link is for.
    subject: LinkSubject,
    /// `open`; `approved`, `rejected` or `sent` in the answer to a decision.
    status: &'static str,
    /// What is to be decided, as it was when it was asked; null for a signal.
    shown: Option<String>,
    /// The signal's name; null for an approval.
    signal: Option<String>,
    /// What may be decided; nothing once it is.
    decisions: Vec<String>,
    /// Until when.
    expires_at: Time,
}

impl Callback {
    /// The same once it is decided: this stands.
    pub(super) fn over(self, status: &'static str) -> Self {
        Self { status, decisions: Vec::new(), ..self }
    }
}

/// Show what a link decides
///
/// Nothing is decided by looking. A page for people, JSON where `Accept` asks for it.
#[utoipa::path(
    get, path = "/c/{token}", operation_id = "callbacks.show", tag = "callbacks",
    params(("token" = String, Path, description = "The secret of the link")),
    responses(
        (status = 200, description = "What is to be decided", body = Callback),
        (status = 410, description = "The link was used, or its time is over",
            body = crate::http::problem::ProblemBody, content_type = "application/problem+json"),
    ),
    security(()),
)]
pub(in crate::http) async fn get(
    State(site): State<Site>,
    PathText(secret): PathText,
    headers: HeaderMap,
    query: Query,
) -> Response<Body> {
    let shown = async {
        query.done()?;
        let (link, subject) = open(&site, &secret).await?;
        match &subject {
            Subject::Approval(view) => {
                let is_open = view.state == TaskState::Waiting && view.wait == Some(WaitCause::Approval);
                let is_open = is_open && view.due_at.is_none_or(|due| due > now(&site));
                if is_open { Ok(described(&link, &subject)) } else { Err(over()) }
            }
            Subject::Signal(_) if site.store().has_signal(link.mission_id, &super::decide::key_of(&link)).await? => {
                Err(over())
            }
            Subject::Signal(_) => Ok(described(&link, &subject)),
        }
    };
    answer(&headers, shown.await)
}

/// What a link is for, as it is shown.
pub(super) fn described(link: &CallbackLink, subject: &Subject) -> Callback {
    let (subject, shown, signal) = match subject {
        Subject::Approval(view) => (LinkSubject::Approval, view.shown.clone(), None),
        Subject::Signal(name) => (LinkSubject::Signal, None, Some(name.clone())),
    };
    let decisions = match subject {
        LinkSubject::Approval => link.decisions.split(',').map(str::to_owned).collect(),
        LinkSubject::Signal => vec!["sent".to_owned()],
    };
    Callback { subject, status: "open", shown, signal, decisions, expires_at: link.expires_at.into() }
}

/// The answer as a page or as JSON. Nobody keeps a copy, no search engine lists it.
pub(super) fn answer(headers: &HeaderMap, shown: Result<Callback, Problem>) -> Response<Body> {
    let mut response = match (wants_json(headers), shown) {
        (true, Ok(callback)) => json(StatusCode::OK, &callback),
        (false, Ok(callback)) => form_page(StatusCode::OK, title(&callback), &content(&callback)),
        (true, Err(problem)) => axum::response::IntoResponse::into_response(problem),
        (false, Err(problem)) => {
            let entry = problem.code().entry();
            let status = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            form_page(status, entry.title, &html! { p { (entry.advice) } })
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow"));
    response
}

fn title(callback: &Callback) -> &'static str {
    match (callback.subject, callback.status) {
        (LinkSubject::Approval, "open") => "Please decide",
        (LinkSubject::Signal, "open") => "Please confirm",
        _ => "Thank you",
    }
}

fn content(callback: &Callback) -> Markup {
    html! {
        @if let Some(shown) = &callback.shown { pre { (shown) } }
        @if let Some(signal) = &callback.signal { p { "Signal: " code { (signal) } } }
        @if callback.decisions.is_empty() {
            p { "Recorded: " strong { (callback.status) } "." }
        } @else {
            form method="post" {
                p {
                    label {
                        @if callback.subject == LinkSubject::Approval { "Comment" } @else { "Message" }
                        " (may be left empty)" br;
                        textarea name="comment" rows="3" cols="60" {}
                    }
                }
                p {
                    @for decision in &callback.decisions {
                        button type="submit" name="decision" value=(decision) { (label(decision)) } " "
                    }
                }
            }
            p { "This can be done once." }
        }
    }
}

fn label(decision: &str) -> &'static str {
    match decision {
        "approved" => "Approve",
        "rejected" => "Reject",
        _ => "Send",
    }
}
