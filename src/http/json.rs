//! JSON bodies: read strictly, refused with a pointer to what is wrong and never with what was sent.
//!
//! A misspelt `max_credits` must not be ignored: unknown fields are refused, and so are duplicate keys, deep
//! nesting and NUL characters, which not every store can keep.

use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bursar_domain::limits::MAX_KEY_BYTES;
use futures::StreamExt as _;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::limits::{MAX_BODY_BYTES, MAX_JSON_DEPTH};
use super::problem::{Code, FieldError, Problem};
use super::room::Taken;
use super::serve::BodyTooLate;

/// A JSON body.
#[derive(Debug)]
pub(super) struct Json<T> {
    /// What it says.
    pub body: T,
    /// The same as a value: what a request hash is made of.
    pub value: Value,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(media_type(request.headers())) {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body must be Content-Type: application/json"));
        }
        let bytes = read_body(request).await?;
        let value = read(&bytes)?;
        let body = interpret(&value)?;
        Ok(Self { body, value })
    }
}

/// As [`Json`], for requests that may come without a body.
#[derive(Debug)]
pub(super) struct OptionalJson<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let is_json = is_json(media_type(request.headers()));
        let bytes = read_body(request).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        if !is_json {
            return Err(Problem::new(Code::UnsupportedMediaType, "the body must be Content-Type: application/json"));
        }
        let value = read(&bytes)?;
        if value.is_null() { Ok(Self(T::default())) } else { interpret(&value).map(Self) }
    }
}

/// The media type without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Whether that is JSON.
pub(super) fn is_json(media_type: Option<String>) -> bool {
    media_type
        .is_some_and(|name| name == "application/json" || (name.starts_with("application/") && name.ends_with("+json")))
}

/// The whole body, if it is small enough, comes in time, and there is room for it beside others.
pub(super) async fn read_body(request: Request) -> Result<Bytes, Problem> {
    let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let too_large = || Problem::new(Code::TooLarge, format!("the body has more than {MAX_BODY_BYTES} bytes"));
    if announced.is_some_and(|length: usize| length > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    let taken = request.extensions().get::<Taken>().cloned();
    let mut chunks = request.into_body().into_data_stream();
    let mut read: Vec<u8> = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| broken(&error))?;
        if read.len().saturating_add(chunk.len()) > MAX_BODY_BYTES {
            return Err(too_large());
        }
        if taken.as_ref().is_some_and(|taken| !taken.take(chunk.len())) {
            let words = "the requests that are being answered fill the server's memory; nothing was done, try again";
            return Err(Problem::new(Code::Overloaded, words));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(read))
}

/// Why a body did not come whole.
fn broken(error: &axum::Error) -> Problem {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<BodyTooLate>() {
            return Problem::new(Code::RequestTimeout, "the body did not arrive in time");
        }
        cause = error.source();
    }
    // nobody reads this answer
    Problem::new(Code::RequestTimeout, "the connection broke before the body had arrived")
}

/// Reads JSON text strictly.
pub(super) fn read(bytes: &[u8]) -> Result<Value, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { depth: 0 }.deserialize(&mut deserializer);
    let read = read.and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let what = match error.classify() {
            serde_json::error::Category::Eof => "it ends too early".to_owned(),
            // our own words: they name keys, never values
            serde_json::error::Category::Data => own_words(&error.to_string()).to_owned(),
            _ => "it is not valid JSON there".to_owned(),
        };
        Problem::new(Code::MalformedJson, format!("{place}: {what}"))
    })
}

fn own_words(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(words, _)| words)
}

/// Takes a value apart; what does not fit is refused with a pointer.
pub(super) fn interpret<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    // a list would be taken for the fields of a struct in their order
    if !value.is_object() {
        return Err(Problem::invalid("", "wrong_type", "must be an object"));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => pointer.extend(["/", &index.to_string()]),
                serde_path_to_error::Segment::Map { key } => {
                    pointer.push('/');
                    pointer.push_str(&cut(key).replace('~', "~0").replace('/', "~1"));
                }
                _ => {}
            }
        }
        let error = explain(&pointer, &error.inner().to_string());
        Problem::new(Code::Validation, error.message.clone()).errors([error])
    })
}

/// The message of the reader without the value it met.
fn explain(pointer: &str, message: &str) -> FieldError {
    let expected = message.rsplit_once("expected ").map_or("something else", |(_, expected)| expected);
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return FieldError::at(format!("{pointer}/{name}"), "missing", format!("`{name}` is missing"));
    }
    if message.starts_with("unknown field") {
        let mut error = FieldError::at(pointer, "unknown_key", "there is no such field");
        error.hint = Some(format!("known here: {}", expected.trim_start_matches("one of ")));
        return error;
    }
    let (code, words) = if message.starts_with("invalid type") {
        ("wrong_type", format!("must be {expected}"))
    } else if message.starts_with("unknown variant") {
        ("not_allowed", format!("must be {expected}"))
    } else if message.starts_with("invalid") {
        ("invalid", format!("must be {expected}"))
    } else {
        ("invalid", "is not valid".to_owned())
    };
    FieldError::at(pointer, code, words)
}

fn cut(key: &str) -> String {
    key.chars().take(64).collect()
}

/// Builds a value, refusing what [`Value`] itself would take.
#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_JSON_DEPTH {
            return Err(E::custom(format!("it is nested more than {MAX_JSON_DEPTH} levels deep")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

fn without_nul<E: Error>(text: &str) -> Result<(), E> {
    if text.contains('\0') { Err(E::custom("a string has a NUL character (\\u0000)")) } else { Ok(()) }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is too large"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        without_nul(value)?;
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            without_nul(&key)?;
            if key.len() > MAX_KEY_BYTES {
                return Err(A::Error::custom(format!("a key has more than {MAX_KEY_BYTES} bytes")));
            }
            let value = entries.next_value_seed(below)?;
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("the key `{}` appears twice", cut(&key))));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by serde alone")]
    struct Sample {
        name: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by serde alone")]
    struct Inner {
        count: i64,
    }

    fn refused(text: &str) -> String {
        let value = read(text.as_bytes()).unwrap();
        let problem = interpret::<Sample>(&value).unwrap_err();
        let body = problem.response(None);
        assert_eq!(body.status(), 422);
        format!("{problem:?}")
    }

    #[test]
    fn what_does_not_fit_is_pointed_at_and_not_repeated() {
        for (text, pointer) in [
            ("{}", "/name"),
            (r#"{"name": 5}"#, "/name"),
            (r#"{"name": "x", "nmae": "secret"}"#, "/nmae"),
            (r#"{"name": "x", "inner": [{"count": 1}, {"count": "secret, expected secret"}]}"#, "/inner/1/count"),
            (r#"{"name": {"secret": 1}}"#, "/name"),
        ] {
            let told = refused(text);
            assert!(told.contains(&format!("pointer: Some(\"{pointer}\")")), "{text}: {told}");
            assert!(!told.contains("secret"), "{text}: {told}");
        }
    }

    #[test]
    fn what_is_no_strict_json_is_malformed() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        for text in
            ["", "{", "{} {}", r#"{"a": 1, "a": 2}"#, "nul", r#"["\u0000"]"#, "[1e999]", deep.as_str(), "\u{ff}"]
        {
            assert_eq!(read(text.as_bytes()).unwrap_err().code(), Code::MalformedJson, "{text}");
        }
        assert_eq!(read(&[b'"', 0xff, b'"']).unwrap_err().code(), Code::MalformedJson);
    }
}
