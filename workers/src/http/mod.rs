//! The http step: renders a request, sends it through the guarded door (`outbound`), and hands on what came back.
//!
//! One request each attempt; whether there is another attempt is the engine's decision. A service that knows
//! `Idempotency-Key` can tell a repeated request: all attempts of a task send the same. Secrets stand in the operator's
//! configuration, go to the hosts that it names for them, and are taken out of what comes back.

use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::workflow::template::{render_text, render_value};
use bursar_domain::workflow::{HttpBody, HttpHeader, HttpStep};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Response, Url};
use secrecy::ExposeSecret;

use crate::job::Job;
use crate::outbound::{cause, is_hidden, retry_after_ms};
use crate::stop::Stop;
use crate::transform::template_failed;

mod answer;
mod service;

pub use service::{HttpConfig, HttpConfigError, HttpSecret, HttpService};

/// The header by which a service recognises a repeated request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Sends the request and waits for the answer, until `stop` says otherwise.
pub(crate) async fn run(job: &Job, step: &HttpStep, service: Option<&HttpService>, stop: &Stop<'_>) -> Outcome {
    let result = tokio::select! {
        biased;
        reason = stop.wait() => Err(reason),
        result = call(job, step, service) => result,
    };
    match result {
        Ok(output) => Outcome::Succeeded { output, calls: Vec::new() },
        Err(error) => Outcome::Failed { error, calls: Vec::new() },
    }
}

async fn call(job: &Job, step: &HttpStep, service: Option<&HttpService>) -> Result<serde_json::Value, StepError> {
    let service = service.ok_or_else(|| {
        let message = "this worker calls no services: name their hosts in `http.allow` of its configuration";
        permanent("http_host_refused", message)
    })?;
    let Prepared { request, secrets } = prepare(job, step, service)?;
    let host = request.url().host_str().unwrap_or_default().to_owned();
    let sent = service.door().client().execute(request).await;
    let mut response = sent.map_err(|error| unreachable(&host, &error))?;
    let status = response.status().as_u16();
    if !step.expects(status) {
        return Err(unexpected(&host, status, response.headers()));
    }
    let headers = answer::headers(response.headers(), &secrets);
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
    let body = read(&mut response, &host, step.max_bytes).await?;
    let body = answer::body(&kind, &body, &secrets);
    Ok(serde_json::json!({"status": status, "headers": headers, "body": body}))
}

/// A request with the secrets that are in it.
struct Prepared {
    request: Request,
    secrets: Vec<String>,
}

/// Renders the request. Nothing was sent when this fails, and nothing will be.
fn prepare(job: &Job, step: &HttpStep, service: &HttpService) -> Result<Prepared, StepError> {
    let text = |field: &str, template: &str| {
        render_text(template, &job.context).map_err(|error| template_failed(&format!("http.{field}"), &error))
    };
    let url = service.door().allowed(text("url", &step.url)?.trim());
    let mut url = url.map_err(|why| {
        permanent(
            "http_host_refused",
            format!("this URL is refused: {why}; `http.allow` in the workers' configuration says what may be called"),
        )
    })?;
    for (name, template) in &step.query {
        let value = text(&format!("query.{name}"), template)?;
        url.query_pairs_mut().append_pair(name, &value);
    }
    let mut headers = HeaderMap::new();
    let mut secrets = Vec::new();
    if !step.method.is_safe() {
        headers.insert(IDEMPOTENCY_KEY, header_value("idempotency-key", &format!("bursar-{}", job.task_id))?);
    }
    let body = match &step.body {
        None => None,
        Some(HttpBody::Text(template)) => Some(text("body", template)?),
        Some(HttpBody::Json(value)) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let body = render_value(value, &job.context).map_err(|error| template_failed("http.body", &error))?;
            Some(body.to_string())
        }
    };
    for (name, header) in &step.headers {
        let mut value = match header {
            HttpHeader::Text(template) => header_value(name, &text(&format!("headers.{name}"), template)?)?,
            HttpHeader::Secret(secret) => {
                let secret = service.secret(secret, &url).map_err(|why| permanent("http_secret_refused", why))?;
                secrets.push(secret.expose_secret().to_owned());
                header_value(name, secret.expose_secret())?
            }
        };
        value.set_sensitive(matches!(header, HttpHeader::Secret(_)));
        let name = HeaderName::from_bytes(name.as_bytes());
        headers.insert(name.map_err(|_| permanent("http_header_invalid", "a header's name cannot be sent"))?, value);
    }
    Ok(Prepared { request: request(step, url, headers, body), secrets })
}

fn request(step: &HttpStep, url: Url, headers: HeaderMap, body: Option<String>) -> Request {
    let method = Method::from_bytes(step.method.as_str().as_bytes()).unwrap_or(Method::GET);
    let mut request = Request::new(method, url);
    *request.headers_mut() = headers;
    *request.body_mut() = body.map(Into::into);
    request
}

fn header_value(name: &str, text: &str) -> Result<HeaderValue, StepError> {
    HeaderValue::from_str(text.trim()).map_err(|_| {
        permanent("http_header_invalid", format!("the value of header `{name}` cannot be sent in a header"))
    })
}

/// The body, at most so many bytes of it.
async fn read(response: &mut Response, host: &str, most: u64) -> Result<Vec<u8>, StepError> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable(host, &error))? {
        body.extend_from_slice(&piece);
        if body.len() > most {
            let message = format!("the answer of {host} has more than {most} bytes; raise `max_bytes` or ask for less");
            return Err(permanent("http_body_too_large", message));
        }
    }
    Ok(body)
}

/// The error of an answer that is no success. It names the status and nothing of what the answer says, which may repeat
/// what was sent.
fn unexpected(host: &str, status: u16, headers: &HeaderMap) -> StepError {
    let says = |words: &str| format!("{host} answered {status}{words}");
    match status {
        429 => {
            let mut error = StepError::new(ErrorClass::RateLimited, "http_rate_limited", says(": too many requests"));
            error.retry_after_ms = retry_after_ms(headers);
            error
        }
        408 | 425 | 500.. => StepError::new(ErrorClass::Retryable, "http_unavailable", says("")),
        300..400 => permanent("http_redirected", says(": it redirects to another host, which is not followed")),
        _ => permanent("http_status", says(", which is not among the statuses in `expect`")),
    }
}

/// The error of a request without an answer.
fn unreachable(host: &str, error: &reqwest::Error) -> StepError {
    if is_hidden(error) {
        return permanent("http_host_refused", format!("{host} leads to an address that is not public"));
    }
    if error.is_builder() {
        return permanent("http_request_invalid", "the request cannot be sent as it is");
    }
    let code = if error.is_timeout() { "http_timeout" } else { "http_unreachable" };
    StepError::new(ErrorClass::Retryable, code, format!("{host} cannot be reached: {}", cause(error)))
}

fn permanent(code: &str, message: impl Into<String>) -> StepError {
    StepError::new(ErrorClass::Permanent, code, message)
}
