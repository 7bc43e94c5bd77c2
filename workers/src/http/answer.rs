//! What a service's answer becomes: JSON where it says so and is, text otherwise; secrets and NULs taken out.

use bursar_domain::limits::MAX_RENDERED_DEPTH;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED, LINK, LOCATION};
use serde_json::{Map, Value};

/// The headers that are handed on. Others may hold credentials of the service.
const SHOWN: [HeaderName; 5] = [CONTENT_TYPE, ETAG, LAST_MODIFIED, LINK, LOCATION];

/// Bytes of one header that are handed on.
const HEADER_BYTES: usize = 2 * 1024;

/// The headers that are handed on, by their names in small letters.
pub(super) fn headers(headers: &HeaderMap, secrets: &[String]) -> Map<String, Value> {
    let shown = |name: &HeaderName| {
        let text = headers.get(name)?.to_str().ok().filter(|text| text.len() <= HEADER_BYTES)?;
        Some((name.as_str().to_owned(), Value::String(clean(text, secrets))))
    };
    SHOWN.iter().filter_map(shown).collect()
}

/// The body as a value.
pub(super) fn body(kind: &str, bytes: &[u8], secrets: &[String]) -> Value {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind.ends_with("/json") || kind.ends_with("+json") {
        let parsed = serde_json::from_slice(bytes).ok();
        if let Some(value) = parsed.filter(|value| is_shallow(value, MAX_RENDERED_DEPTH)) {
            return clean_value(value, secrets);
        }
    }
    Value::String(clean(&String::from_utf8_lossy(bytes), secrets))
}

fn is_shallow(value: &Value, levels: usize) -> bool {
    let below = |item: &Value| levels.checked_sub(1).is_some_and(|levels| is_shallow(item, levels));
    match value {
        Value::Array(items) => items.iter().all(below),
        Value::Object(fields) => fields.values().all(below),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

fn clean_value(value: Value, secrets: &[String]) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text, secrets)),
        Value::Array(items) => items.into_iter().map(|item| clean_value(item, secrets)).collect(),
        Value::Object(fields) => {
            let field = |(name, item): (String, Value)| (clean(&name, secrets), clean_value(item, secrets));
            Value::Object(fields.into_iter().map(field).collect())
        }
        other => other,
    }
}

/// The text without NULs, which no database stores, and without the secrets that were sent: services echo requests.
fn clean(text: &str, secrets: &[String]) -> String {
    let mut text = text.replace('\0', "\u{FFFD}");
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "***");
        // what follows a scheme such as `Bearer` is the secret itself
        if let Some((_, token)) = secret.split_once(' ').filter(|(_, token)| token.len() >= 4) {
            text = text.replace(token, "***");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_read_where_it_is_named_and_is() {
        assert_eq!(body("application/json; charset=utf-8", b"{\"a\": [1]}", &[]), json!({"a": [1]}));
        assert_eq!(body("application/problem+json", b"true", &[]), json!(true));
        assert_eq!(body("application/json", b"{broken", &[]), json!("{broken"));
        assert_eq!(body("text/plain", b"{\"a\": 1}", &[]), json!("{\"a\": 1}"));
        assert_eq!(body("text/plain", b"\xff\0", &[]), json!("\u{FFFD}\u{FFFD}"));
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        assert_eq!(body("application/json", deep.as_bytes(), &[]), json!(deep));
    }

    #[test]
    fn secrets_that_come_back_are_taken_out_wherever_they_stand() {
        let secrets = ["Bearer s3cr\"et".to_owned()];
        let echo = json!({"authorization": "Bearer s3cr\"et", "nested": [{"k s3cr\"et": "x=s3cr\"et"}]}).to_string();
        let clean = body("application/json", echo.as_bytes(), &secrets);
        assert_eq!(clean, json!({"authorization": "***", "nested": [{"k ***": "x=***"}]}));
    }
}
