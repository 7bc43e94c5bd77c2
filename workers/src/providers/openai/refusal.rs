//! Turns what a provider answers instead of an answer into an error: its class, its wait, its words.
//!
//! A provider's words may repeat what it was sent. They are cut to a length that names a problem and cleaned
//! of everything shared with the API key or the prompts before they go anywhere.

use bursar_domain::outcome::ErrorClass;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::limits::{ERROR_MESSAGE_CHARS, KEY_ECHO_CHARS, PROMPT_ECHO_CHARS};
use crate::outbound::retry_after_ms;
use crate::providers::ProviderError;

/// What must not show up in a message about one call.
pub(super) struct Redaction {
    provider: String,
    secret: String,
    prompts: Vec<String>,
}

impl Redaction {
    pub(super) fn new(provider: &str, secret: &str, prompts: &[&str]) -> Self {
        let prompts = prompts.iter().map(|prompt| (*prompt).to_owned()).collect();
        Self { provider: provider.to_owned(), secret: secret.to_owned(), prompts }
    }

    /// The provider's name, for messages.
    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    /// The message on one line, cut, with every run that it shares with the key or a prompt replaced.
    pub(super) fn clean(&self, message: &str) -> String {
        let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
        // Twice the final length is searched: what is masked makes room for what follows.
        let mut line: String = line.chars().take(2 * ERROR_MESSAGE_CHARS).collect();
        line = mask(&line, &self.secret, KEY_ECHO_CHARS);
        for prompt in &self.prompts {
            let prompt = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
            line = mask(&line, &prompt, PROMPT_ECHO_CHARS);
        }
        line.chars().take(ERROR_MESSAGE_CHARS).collect()
    }
}

/// Replaces every run of at least `least` characters that `message` shares with `hidden` by `[…]`. A `hidden`
/// shorter than `least` is replaced where it appears whole, unless it is too short to tell from chance.
fn mask(message: &str, hidden: &str, least: usize) -> String {
    let length = hidden.chars().count();
    let least = least.min(length);
    if least < KEY_ECHO_CHARS {
        return message.to_owned();
    }
    let mut masked = String::new();
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        if let Some(bytes) = shared(rest, hidden, least) {
            masked.push_str("[…]");
            rest = rest.get(bytes..).unwrap_or_default();
        } else {
            masked.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    masked
}

/// The length in bytes of the longest beginning of `text` that occurs in `hidden`, if it has `least` characters.
fn shared(text: &str, hidden: &str, least: usize) -> Option<usize> {
    let mut ends = text.char_indices().map(|(at, char)| at + char.len_utf8()).skip(least - 1);
    let mut found = None;
    while let Some(end) = ends.next().filter(|end| text.get(..*end).is_some_and(|run| hidden.contains(run))) {
        found = Some(end);
    }
    found
}

/// The error for a status other than success.
pub(super) fn from_status(status: u16, headers: &HeaderMap, body: &[u8], redaction: &Redaction) -> ProviderError {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let words = match &parsed {
        Some(json) => words(json),
        None => plain_words(body),
    };
    let spent = parsed.as_ref().is_some_and(|json| detail(json, "code") == Some("insufficient_quota"));
    let (class, code) = classify(status, spent);
    let mut message = format!("provider `{}` answered {status}", redaction.provider());
    if let Some(words) = words {
        message = format!("{message}: {}", redaction.clean(&words));
    }
    let mut error = ProviderError::refused(class, code, message);
    if matches!(class, ErrorClass::RateLimited | ErrorClass::Retryable) {
        error.retry_after_ms = retry_after_ms(headers);
    }
    error
}

/// The error for a success that is one JSON document where a stream was asked for.
pub(super) fn from_json_answer(body: &[u8], redaction: &Redaction) -> ProviderError {
    match serde_json::from_slice::<Value>(body) {
        Ok(json) if json.get("error").is_some_and(|error| !error.is_null()) => from_stream(&json, redaction),
        _ => ProviderError::broken(
            ErrorClass::Permanent,
            "provider_not_streaming",
            format!("provider `{}` answered with one JSON document where a stream was asked for", redaction.provider()),
        ),
    }
}

/// The error for an error object inside a stream. The answer had begun, so it may cost.
pub(super) fn from_stream(chunk: &Value, redaction: &Redaction) -> ProviderError {
    let status = chunk.pointer("/error/code").or_else(|| chunk.pointer("/error/status")).and_then(status_number);
    let kind = detail(chunk, "type").unwrap_or_default();
    let (class, code) = match status {
        Some(status) => classify(status, false),
        None if kind.contains("rate_limit") => classify(429, false),
        None if kind == "invalid_request_error" => classify(400, false),
        None => classify(500, false),
    };
    let words = words(chunk).map(|words| format!(": {}", redaction.clean(&words))).unwrap_or_default();
    ProviderError::broken(class, code, format!("provider `{}` broke off its answer{words}", redaction.provider()))
}

/// The class and code of an HTTP status. An account without quota is retried like a failure and not waited
/// for like a rate limit: it does not refill by itself, and waiting consumes no attempt.
fn classify(status: u16, quota_spent: bool) -> (ErrorClass, &'static str) {
    match status {
        429 if quota_spent => (ErrorClass::Retryable, "provider_quota_exhausted"),
        429 => (ErrorClass::RateLimited, "provider_rate_limited"),
        408 | 409 | 425 | 500.. => (ErrorClass::Retryable, "provider_unavailable"),
        401 | 403 => (ErrorClass::Permanent, "provider_unauthorized"),
        404 => (ErrorClass::Permanent, "provider_not_found"),
        _ => (ErrorClass::Permanent, "provider_refused"),
    }
}

fn status_number(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|number| (400..600).contains(number))
}

fn detail<'a>(json: &'a Value, field: &str) -> Option<&'a str> {
    json.get("error")?.get(field)?.as_str()
}

/// The words of a JSON error, wherever the dialect keeps them.
fn words(json: &Value) -> Option<String> {
    ["/error/message", "/error", "/message", "/detail"]
        .iter()
        .find_map(|pointer| json.pointer(pointer)?.as_str())
        .map(str::to_owned)
}

/// The words of an error that is no JSON; pages of a proxy say nothing worth keeping.
fn plain_words(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    (!text.is_empty() && !text.starts_with('<')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use serde_json::json;

    #[test]
    fn neither_the_key_nor_a_prompt_is_echoed() {
        let prompt = "You are Alice. The launch code of\nproject Nightingale is 4711, keep it.";
        let redaction = Redaction::new("p", "sk-verysecretkey123", &[prompt, "tiny"]);
        let words =
            "bad key sk-verysecretkey123 (verysecret) for 'The launch code of project Nightingale is 4711' and tiny";
        let clean = redaction.clean(words);
        assert_eq!(clean, "bad key […] ([…]) for '[…]' and tiny");
    }

    #[test]
    fn a_long_message_is_cut_on_characters() {
        let clean = Redaction::new("p", "", &[]).clean(&"é".repeat(5_000));
        assert_eq!(clean.chars().count(), ERROR_MESSAGE_CHARS);
    }

    #[test]
    fn the_words_of_every_dialect_are_found() {
        let redaction = Redaction::new("p", "", &[]);
        for body in [
            json!({"error": {"message": "no such model"}}),
            json!({"error": "no such model"}),
            json!({"message": "no such model"}),
            json!({"detail": "no such model"}),
        ] {
            let error = from_status(404, &HeaderMap::new(), body.to_string().as_bytes(), &redaction);
            assert_eq!(error.message, "provider `p` answered 404: no such model", "{body}");
        }
        let page = from_status(502, &HeaderMap::new(), b"<html>nginx</html>", &redaction);
        assert_eq!(page.message, "provider `p` answered 502");
        assert_eq!(
            from_status(503, &HeaderMap::new(), b" overloaded\n", &redaction).message,
            "provider `p` answered 503: overloaded"
        );
    }

    #[test]
    fn an_error_inside_a_stream_is_classified_by_its_code_or_type() {
        let redaction = Redaction::new("p", "", &[]);
        let cases = [
            (json!({"error": {"code": 429}}), ErrorClass::RateLimited),
            (json!({"error": {"code": "502"}}), ErrorClass::Retryable),
            (json!({"error": {"type": "rate_limit_error"}}), ErrorClass::RateLimited),
            (json!({"error": {"type": "invalid_request_error", "code": "context_length"}}), ErrorClass::Permanent),
            (json!({"error": "boom"}), ErrorClass::Retryable),
        ];
        for (chunk, class) in cases {
            let error = from_stream(&chunk, &redaction);
            assert_eq!((error.class, error.may_have_cost), (class, true), "{chunk}");
        }
    }
}
