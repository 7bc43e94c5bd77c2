//! Our side of the wire under `async-openai`: sends once, keeps what the library would lose.
//!
//! One [`Wire`] for each call. The service turns a refusal into our own error before the library reads (and
//! logs) its body, and watches the bytes of an accepted answer: the cause of a break is remembered here,
//! because the library passes it on as text. It never looks into the bytes.

use std::sync::{Arc, OnceLock};

use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use bursar_domain::outcome::ErrorClass;
use futures::StreamExt;
use reqwest::{Body, Response, header};
use tower::Service;

use super::refusal::{self, Redaction};
use crate::limits::{ANSWER_BYTES, ERROR_BODY_BYTES};
use crate::providers::ProviderError;

/// What one call saw.
pub(super) struct Wire {
    redaction: Redaction,
    failure: OnceLock<ProviderError>,
}

impl Wire {
    pub(super) fn new(redaction: Redaction) -> Self {
        Self { redaction, failure: OnceLock::new() }
    }

    /// Why the bytes stopped, where they stopped for a reason.
    pub(super) fn failure(&self) -> Option<ProviderError> {
        self.failure.get().cloned()
    }

    pub(super) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// Keeps the first reason and gives it back.
    fn remember(&self, error: ProviderError) -> ProviderError {
        self.failure.get_or_init(|| error).clone()
    }

    /// A transport error as ours.
    fn transport(&self, error: &reqwest::Error) -> ProviderError {
        let name = self.redaction.provider();
        let cause = self.redaction.clean(&root_cause(error));
        if error.is_connect() {
            let message = format!("provider `{name}` cannot be reached: {cause}");
            return ProviderError::refused(ErrorClass::Retryable, "provider_unreachable", message);
        }
        let (code, message) = if error.is_timeout() {
            ("provider_timeout", format!("provider `{name}` was silent for too long, or took too long in all"))
        } else {
            ("provider_disconnected", format!("the connection to provider `{name}` broke: {cause}"))
        };
        ProviderError::broken(ErrorClass::Retryable, code, message)
    }
}

/// The service that `async-openai` sends through: one request, no retry.
pub(super) fn service(
    http: reqwest::Client,
    wire: Arc<Wire>,
) -> impl Service<HttpRequestFactory, Response = Response, Error = OpenAIError, Future: Send> + Clone + Send + Sync + 'static
{
    tower::service_fn(move |request: HttpRequestFactory| {
        let (http, wire) = (http.clone(), Arc::clone(&wire));
        async move {
            let request = request.build().await?;
            let response = http.execute(request).await.map_err(|error| boxed(wire.transport(&error)))?;
            accept(response, wire).await.map_err(boxed)
        }
    })
}

fn boxed(error: ProviderError) -> OpenAIError {
    OpenAIError::Boxed(Box::new(error))
}

/// Lets a stream through, under watch; everything else becomes an error.
async fn accept(response: Response, wire: Arc<Wire>) -> Result<Response, ProviderError> {
    let status = response.status();
    if !status.is_success() {
        let headers = response.headers().clone();
        let body = read_some(response).await;
        return Err(refusal::from_status(status.as_u16(), &headers, &body, &wire.redaction));
    }
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let body = read_some(response).await;
        return Err(refusal::from_json_answer(&body, &wire.redaction));
    }
    Ok(watched(response, wire))
}

/// The first bytes of a body, as far as they come.
async fn read_some(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ERROR_BODY_BYTES {
        match response.chunk().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(ERROR_BODY_BYTES);
    body
}

/// The same answer with its bytes under watch: length bounded, the cause of a break remembered. The library
/// reads nothing of a response but its success and its bytes.
fn watched(response: Response, wire: Arc<Wire>) -> Response {
    let mut room = ANSWER_BYTES;
    let bytes = response.bytes_stream().map(move |piece| match piece {
        Ok(bytes) if bytes.len() <= room => {
            room -= bytes.len();
            Ok(bytes)
        }
        Ok(_) => Err(wire.remember(too_long(wire.redaction.provider()))),
        Err(error) => Err(wire.remember(wire.transport(&error))),
    });
    Response::from(http::Response::new(Body::wrap_stream(bytes)))
}

fn too_long(provider: &str) -> ProviderError {
    let message = format!("the answer of provider `{provider}` is longer than {} MiB", ANSWER_BYTES / 1024 / 1024);
    ProviderError::broken(ErrorClass::Permanent, "provider_answer_too_long", message)
}

/// The innermost cause; the outer layers only repeat the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let first = causes.next();
    causes.last().or(first).map_or_else(|| "no cause given".to_owned(), ToString::to_string)
}
