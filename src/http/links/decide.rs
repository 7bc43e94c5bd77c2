//! Somebody decides with a link, once. The same decision again is told as it was made.

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, Response};
use bursar_domain::flow::{Answer, ApprovalRefusal, SignalRefusal};
use bursar_domain::limits::{MAX_COMMENT_BYTES, MAX_SIGNAL_BYTES};
use bursar_domain::record;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::super::json::{interpret, is_json, media_type, read, read_body};
use super::super::params::{PathText, Query};
use super::super::problem::{Code, Problem};
use super::super::state::Site;
use super::show::{Callback, answer, described};
use super::{Subject, open, over};
use crate::digest::sha256_hex;
use crate::engine::{ApprovalError, SignalError, SignalWish};
use crate::store::CallbackLink;
use crate::store::read::ApprovalView;

/// A decision, or a signal to send.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Use {
    /// `approved` or `rejected`; `sent`, or left out, for a signal.
    #[serde(default)]
    decision: Option<String>,
    /// Why, for people and for the nodes that follow; for a signal, its payload's `message`.
    #[serde(default)]
    #[schema(max_length = 4096)]
    comment: Option<String>,
    /// A signal's payload, any JSON value; not together with `comment`.
    #[serde(default)]
    payload: Option<Value>,
}

impl<S: Send + Sync> FromRequest<S> for Use {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = media_type(request.headers());
        if kind.as_deref() == Some("application/x-www-form-urlencoded") {
            let form = Form::<Self>::from_request(request, state).await;
            return form.map(|Form(wish)| wish).map_err(|_| Problem::new(Code::Validation, "the form is not valid"));
        }
        let bytes = read_body(request).await?;
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if !is_json(kind) {
            return Err(Problem::new(Code::UnsupportedMediaType, "send JSON, or the page's own form"));
        }
        interpret(&read(&bytes)?)
    }
}

/// Decide with a link
///
/// Once: the same decision again is answered as the first was, another is refused with 409, and a link that is over with
/// 410. Who decided is told as the id of the link.
#[utoipa::path(
    post, path = "/c/{token}", operation_id = "callbacks.decide", tag = "callbacks",
    params(("token" = String, Path, description = "The secret of the link")),
    request_body(content = Use, content_type = "application/json"),
    responses(
        (status = 200, description = "It was decided so", body = Callback),
        (status = 409, description = "It was decided otherwise with this link before",
            body = crate::http::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The link was used, or its time is over",
            body = crate::http::problem::ProblemBody, content_type = "application/problem+json"),
    ),
    security(()),
)]
pub(in crate::http) async fn post(
    State(site): State<Site>,
    PathText(secret): PathText,
    headers: HeaderMap,
    query: Query,
    wish: Result<Use, Problem>,
) -> Response<Body> {
    let decided = async {
        query.done()?;
        // whether there is such a link is told before anything about the body
        let (link, subject) = open(&site, &secret).await?;
        let wish = wish?;
        if wish.comment.as_ref().is_some_and(|comment| comment.len() > MAX_COMMENT_BYTES) {
            let words = format!("must have at most {MAX_COMMENT_BYTES} bytes");
            return Err(Problem::invalid("/comment", "too_long", &words));
        }
        let callback = described(&link, &subject);
        let status = match &subject {
            Subject::Approval(view) => decide(&site, &link, view, wish).await?,
            Subject::Signal(name) => send(&site, &link, name, wish).await?,
        };
        Ok(callback.over(status))
    };
    answer(&headers, decided.await)
}

async fn decide(site: &Site, link: &CallbackLink, view: &ApprovalView, wish: Use) -> Result<&'static str, Problem> {
    if wish.payload.is_some() {
        return Err(Problem::invalid("/payload", "misplaced", "belongs to signals"));
    }
    let is_approved = match wish.decision.as_deref() {
        Some("approved") => true,
        Some("rejected") => false,
        _ => return Err(Problem::invalid("/decision", "invalid", "must be approved or rejected")),
    };
    let verdict = if is_approved { record::Verdict::Approved } else { record::Verdict::Rejected };
    let by = link.id.to_string();
    if let Some(made) = &view.decision {
        return again(made, &by, verdict);
    }
    if !link.decisions.split(',').any(|allowed| allowed == verdict.as_str()) {
        return Err(Problem::new(Code::Forbidden, format!("this link can't decide `{}`", verdict.as_str())));
    }
    let comment = wish.comment.filter(|comment| !comment.trim().is_empty());
    let answer = Answer { task_id: view.id, is_approved, by: by.clone(), comment };
    match site.engine().decide_approval(view, &answer).await {
        // somebody may have been quicker than the look at it
        Ok(decided) => again(&decided.decision, &by, verdict),
        Err(ApprovalError::Refused(ApprovalRefusal::DecidedOtherwise(_))) => {
            let now = site.store().approval(Some(link.tenant_id), view.id).await?.and_then(|view| view.decision);
            now.map_or_else(|| Err(over()), |made| again(&made, &by, verdict))
        }
        Err(ApprovalError::Refused(_)) => Err(over()),
        Err(ApprovalError::Store(error)) => Err(error.into()),
    }
}

/// What is said where a decision stands.
fn again(made: &record::Decision, by: &str, wanted: record::Verdict) -> Result<&'static str, Problem> {
    if made.by.as_deref() != Some(by) {
        return Err(over());
    }
    if made.decision == wanted {
        return Ok(made.decision.as_str());
    }
    Err(Problem::new(Code::AlreadyDecided, "it was decided otherwise with this link before"))
}

/// The key under which a link's signal is kept. No client can send one with a blank.
pub(super) fn key_of(link: &CallbackLink) -> String {
    format!("link {}", link.id)
}

async fn send(site: &Site, link: &CallbackLink, name: &str, wish: Use) -> Result<&'static str, Problem> {
    if !matches!(wish.decision.as_deref(), None | Some("sent")) {
        return Err(Problem::invalid("/decision", "invalid", "a signal is sent, there is nothing else to decide"));
    }
    let message = wish.comment.filter(|comment| !comment.trim().is_empty());
    let payload = match (wish.payload.filter(|payload| !payload.is_null()), message) {
        (Some(_), Some(_)) => return Err(Problem::invalid("/payload", "misplaced", "not together with `comment`")),
        (Some(payload), None) => payload,
        (None, Some(message)) => json!({"message": message}),
        (None, None) => json!({}),
    };
    if payload.to_string().len() > MAX_SIGNAL_BYTES {
        let words = format!("a signal has at most {MAX_SIGNAL_BYTES} bytes as JSON");
        return Err(Problem::invalid("/payload", "too_long", &words));
    }
    let mut sorted = payload.clone();
    sorted.sort_all_objects();
    let wish = SignalWish {
        mission_id: link.mission_id,
        name: name.to_owned(),
        key: Some(key_of(link)),
        request_hash: sha256_hex(&format!("{name} {sorted}")),
        payload,
    };
    match site.engine().receive_signal(&wish).await {
        Ok(_) => Ok("sent"),
        Err(SignalError::Refused(SignalRefusal::KeyReused)) => {
            Err(Problem::new(Code::AlreadyDecided, "another signal was sent with this link before"))
        }
        Err(SignalError::Refused(refusal @ SignalRefusal::TooMany)) => {
            Err(Problem::new(Code::TooManySignals, refusal.to_string()))
        }
        Err(SignalError::Refused(_) | SignalError::Unknown(_)) => Err(over()),
        Err(SignalError::Store(error)) => Err(error.into()),
    }
}
