//! Errors: one table, from which answers, the pages under `/problems` and the documentation are made.
//!
//! A body names rules, keys and figures, never prompts, inputs or secrets. An error that is not a client's says
//! nothing about its cause; the log does, under the same request id.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use bursar_domain::credits::{Credits, Ucr};
use bursar_domain::workflow;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::store::StoreError;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The stable code.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What it is called.
    pub title: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

macro_rules! codes {
    ($($variant:ident $status:literal $code:literal $retryable:literal $title:literal $advice:literal;)*) => {
        /// Every way in which a request can be refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        /// The table, in the order of the statuses.
        pub const TABLE: &[Entry] = &[
            $(Entry { code: $code, status: $status, retryable: $retryable, title: $title, advice: $advice },)*
        ];

        impl Code {
            /// Its row.
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        code: $code, status: $status, retryable: $retryable, title: $title, advice: $advice,
                    },)*
                }
            }
        }
    };
}

codes! {
    MalformedJson 400 "malformed-json" false "The body is not valid JSON"
        "Send one JSON document in UTF-8, without duplicate keys and at most 64 levels deep.";
    MalformedId 400 "malformed-id" false "The id in the address is not an id"
        "Ids are a prefix, an underscore and 26 characters, such as mis_01k2…; use them as the API returned them.";
    WrongIdKind 400 "wrong-id-kind" false "The id in the address names another kind of object"
        "Look at the prefix: a mission's id begins with mis_, a run's with run_, a task's with tsk_.";
    BadCursor 400 "bad-cursor" false "The cursor does not belong to this list"
        "Use next_cursor of the previous page with the same filters, or start again without a cursor.";
    BadParameter 400 "bad-parameter" false "A query parameter or header is not valid"
        "See errors[] for the parameter and what it takes.";
    IdempotencyKeyRequired 400 "idempotency-key-required" false "This request needs an Idempotency-Key"
        "Send the header Idempotency-Key with 1 to 255 visible ASCII characters that name this one wish.";
    Unauthorized 401 "unauthorized" false "The request carries no valid credential"
        "Send the header Authorization: Bearer bsk_live_… with an API key that was not revoked.";
    InsufficientCredits 402 "insufficient-credits" true "The credits do not suffice"
        "Buy or grant at least `shortfall` credits, then send the same request again; the same Idempotency-Key works.";
    WalletInDebt 402 "wallet-in-debt" true "The wallet owes credits"
        "More was used than there was. The next grant repays `debt` first; after that new missions start again.";
    WalletFrozen 402 "wallet-frozen" false "The wallet is frozen"
        "An administrator froze the wallet: running tasks end, nothing new starts. Ask them.";
    LimitReached 402 "limit-reached" true "A limit of the wallet leaves too little room"
        "An administrator set what may be spent in a `period`, `day` or `month` in UTC: wait for the next, or ask them.";
    BudgetTooSmall 402 "budget-too-small" false "The mission's budget does not cover its start"
        "Raise budget.max_credits to at least `required`: the flat fee and the holds of the first tasks.";
    Forbidden 403 "forbidden" false "The credential may not do this"
        "Use an API key with the role that the operation names.";
    NotFound 404 "not-found" false "There is no such object"
        "Check the address. Objects of other tenants are not found either.";
    MethodNotAllowed 405 "method-not-allowed" false "The address does not take this method"
        "See the header Allow.";
    RequestTimeout 408 "request-timeout" true "The request did not arrive in time"
        "Send the whole body within 30 seconds.";
    IllegalState 409 "illegal-state" false "The object's state does not allow it"
        "Read the object again: allowed_actions names what can be done now.";
    AlreadyDecided 409 "already-decided" false "It was decided otherwise before"
        "A decision is made once. Read the approval again: `decision` says who decided what and when.";
    ApprovalExpired 409 "approval-expired" false "The time to decide is over"
        "Nobody decided in time, and the workflow's `on_expire` says what followed. A retry or a new mission asks again.";
    TooManySignals 409 "too-many-signals" true "Too many signals wait for the mission to take them"
        "A mission keeps a limited number of signals that no node waits for yet. Send it again when some were taken.";
    MessagesUnread 409 "messages-unread" false "Nothing in the workflow would hear the message"
        "Let an agent's prompt or another template read `message` or `messages`, then submit a mission of the new version.";
    TooManyMessages 409 "too-many-messages" false "The mission has too many messages"
        "A session has a limited number of messages. Submit a new mission and tell it what it needs to know.";
    NotFinished 409 "not-finished" true "The mission is not over yet"
        "Wait for it: GET the mission with Prefer: wait=25, or follow its stream.";
    DuplicateMission 409 "duplicate-mission" false "Another mission has this dedupe key"
        "The mission of that wish is `mission_id`: follow it. The key is free when it is over and its window has passed.";
    NameTaken 409 "name-taken" false "Something of this kind has the name already"
        "Choose another name, or change the object that has it.";
    NoWallet 409 "no-wallet" false "The tenant has no wallet"
        "Ask an administrator to open one.";
    LinkOver 410 "link-over" false "This link is over"
        "It was used, or its time has passed. Ask whoever sent it for a new one.";
    Pruned 410 "pruned" false "It is over for long and was pruned"
        "What the operator's retention keeps is left: what it cost is in the ledger. `pruned` says what is gone.";
    TooLarge 413 "too-large" false "The body is too large"
        "Bodies have at most 4 MiB. Large inputs belong into a store of yours, with a reference in the input.";
    UnsupportedMediaType 415 "unsupported-media-type" false "The body is of a type that is not understood"
        "Send Content-Type: application/json; a workflow may also come as application/yaml.";
    Validation 422 "validation" false "The request is not valid"
        "See errors[]: each has a JSON pointer into the body, a code and a message.";
    IdempotencyKeyReused 422 "idempotency-key-reused" false "The Idempotency-Key was used with another body"
        "A key names one wish. Use a new key for a new one.";
    QueueFull 429 "queue-full" true "The tenant has as many missions under way as it may have"
        "`queued` missions are not over and `max_queued` may be: wait until some are, cancel some, or ask an administrator.";
    RateLimited 429 "rate-limited" true "Too many requests"
        "Wait for Retry-After seconds.";
    Internal 500 "internal" true "The server failed"
        "Try again. If it stays, give the operator the request_id.";
    Overloaded 503 "overloaded" true "The server has too much to do or is stopping"
        "Wait for Retry-After seconds and send the same request again.";
    StoreUnavailable 503 "store-unavailable" true "The database is away"
        "Nothing is lost. Wait for Retry-After seconds and send the same request again.";
    NoPrices 503 "no-prices" true "No price book is active"
        "An operator has to run `bursar migrate` or activate a price book.";
}

/// The row of a code.
pub fn entry(code: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.code == code)
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body; absent for parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The query parameter or header; absent for bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A stable code in `snake_case`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl FieldError {
    /// Something in the body.
    pub fn at(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
        }
    }

    /// A query parameter or header.
    pub fn parameter(name: &str, message: impl Into<String>) -> Self {
        let code = "invalid".to_owned();
        Self { pointer: None, parameter: Some(name.to_owned()), code, message: message.into(), hint: None }
    }
}

/// An error on its way to the client.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    code: Code,
    detail: String,
    figures: Map<String, Value>,
    errors: Vec<FieldError>,
    challenge: Option<&'static str>,
}

impl Problem {
    /// An error with a sentence about this one case.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let inner = Inner { code, detail: detail.into(), figures: Map::new(), errors: Vec::new(), challenge: None };
        Self(Box::new(inner))
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The same with a figure that helps.
    #[must_use]
    pub fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.figures.insert(name.to_owned(), value.into());
        self
    }

    /// The same with an amount of credits that helps.
    #[must_use]
    pub fn credits(self, name: &str, amount: Ucr) -> Self {
        self.figure(name, json!(Credits(amount)))
    }

    /// The same with everything that is wrong.
    #[must_use]
    pub fn errors(mut self, errors: impl IntoIterator<Item = FieldError>) -> Self {
        self.0.errors.extend(errors);
        self
    }

    /// The body is not valid, at one place.
    pub fn invalid(pointer: &str, code: &str, message: &str) -> Self {
        Self::new(Code::Validation, message).errors([FieldError::at(pointer, code, message)])
    }

    /// A parameter or header is not valid.
    pub fn parameter(name: &str, message: &str) -> Self {
        Self::new(Code::BadParameter, format!("`{name}`: {message}")).errors([FieldError::parameter(name, message)])
    }

    /// What is wrong with a definition or an input; `below` is where it stands in the body.
    pub fn of_workflow(below: &str, problems: &[workflow::Problem]) -> Self {
        let errors = problems.iter().map(|problem| FieldError {
            hint: problem.hint.clone(),
            ..FieldError::at(format!("{below}{}", problem.pointer), problem.code, problem.message.clone())
        });
        let detail = match problems {
            [one] => one.message.clone(),
            many => format!("{} things are wrong, see errors", many.len()),
        };
        Self::new(Code::Validation, detail).errors(errors)
    }

    /// There is no such thing (for this tenant).
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// No credential, or one that is not valid.
    pub fn unauthorized(was_given: bool) -> Self {
        let (detail, challenge) = if was_given {
            ("the credential is not valid or was revoked", "Bearer realm=\"bursar\", error=\"invalid_token\"")
        } else {
            ("the request carries no credential", "Bearer realm=\"bursar\"")
        };
        let mut problem = Self::new(Code::Unauthorized, detail);
        problem.0.challenge = Some(challenge);
        problem
    }

    /// The body under a request id.
    fn body(&self, request_id: Option<&str>) -> Value {
        let entry = self.0.code.entry();
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(format!("/problems/{}", entry.code)));
        body.insert("title".to_owned(), json!(entry.title));
        body.insert("status".to_owned(), json!(entry.status));
        body.insert("detail".to_owned(), json!(self.0.detail));
        body.insert("code".to_owned(), json!(entry.code));
        body.insert("retryable".to_owned(), json!(entry.retryable));
        body.extend(request_id.map(|id| ("request_id".to_owned(), json!(id))));
        body.extend(self.0.figures.clone());
        if !self.0.errors.is_empty() {
            body.insert("errors".to_owned(), json!(self.0.errors));
        }
        Value::Object(body)
    }

    /// The answer under a request id.
    pub fn response(&self, request_id: Option<&str>) -> Response<Body> {
        let entry = self.0.code.entry();
        let mut response = Response::new(Body::from(self.body(request_id).to_string()));
        *response.status_mut() = StatusCode::from_u16(entry.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.0.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if matches!(entry.status, 429 | 503) {
            // missions take their time; everything else is over in a moment
            let seconds = if self.0.code == Code::QueueFull { "5" } else { "1" };
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        if self.0.code == Code::RequestTimeout || self.0.code == Code::TooLarge {
            // the rest of the body is still on its way: nothing more can be read from this connection
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for Problem {
    /// The body lacks the request id, which only the outermost layer knows: it finds the problem in the extensions.
    fn into_response(self) -> Response<Body> {
        let mut response = self.response(None);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::warn!(%error, "the store is away");
                Self::new(Code::StoreUnavailable, "the database does not answer; nothing was lost")
            }
            StoreError::Contention(_) => Self::new(Code::Overloaded, "the same rows are in high demand"),
            error => {
                tracing::error!(%error, "a request failed in the store");
                Self::new(Code::Internal, "the server failed; its log has the cause under this request_id")
            }
        }
    }
}

/// The body of every error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody {
    /// The page about the code.
    #[schema(example = "/problems/insufficient-credits")]
    r#type: String,
    /// The same for every error of the code.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A sentence about this one case.
    detail: String,
    /// The stable code.
    code: String,
    /// Names this request in the server's log.
    request_id: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    /// Credits that are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    required: Option<super::types::Amount>,
    /// Credits that are available.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<super::types::Amount>,
    /// Credits that are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    shortfall: Option<super::types::Amount>,
    /// Credits that are owed.
    #[serde(skip_serializing_if = "Option::is_none")]
    debt: Option<super::types::Amount>,
    /// Missions that are not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    queued: Option<i64>,
    /// Missions that may be under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_queued: Option<i64>,
    /// The mission that has the dedupe key.
    #[serde(skip_serializing_if = "Option::is_none")]
    mission_id: Option<super::types::ShownMission>,
    /// Where to buy credits.
    #[serde(skip_serializing_if = "Option::is_none")]
    top_up_url: Option<String>,
    /// Everything that is wrong with the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<FieldError>>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn no_two_rows_share_a_code_and_the_table_is_in_order() {
        let mut codes: Vec<_> = TABLE.iter().map(|entry| entry.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TABLE.len());
        assert!(TABLE.is_sorted_by_key(|entry| entry.status));
    }

    #[test]
    fn an_error_of_the_store_says_nothing_about_its_cause() {
        let problem = Problem::from(StoreError::Refused("near \"secret prompt\": syntax error".to_owned()));
        assert!(!problem.body(Some("req_1")).to_string().contains("secret prompt"));
    }
}
