//! Reads `http`: a node that calls a service.
//!
//! Where requests may go and what secrets there are is the operator's business; a definition only names secrets.

use std::collections::BTreeMap;

use serde_json::Value;

use super::name::{HEADER, QUERY, SECRET};
use super::problem::{Problem, below};
use super::reader::{Entry, Fields, wrong_type};
use super::step::{collect_templates, read_template};
use crate::limits::{
    MAX_HTTP_BODY_BYTES, MAX_HTTP_EXPECTED, MAX_HTTP_FIELDS, MAX_PROMPT_BYTES, MAX_TRANSFORM_TEMPLATES, MAX_URL_BYTES,
};

/// Bytes of an answer that are read unless the definition says otherwise.
const DEFAULT_MAX_BYTES: i64 = 256 * 1024;

/// Headers that the client sets itself, or that would change how the message is read.
const RESERVED: [&str; 8] =
    ["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// A call to a service.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpStep {
    /// The method.
    pub method: HttpMethod,
    /// The template of the URL.
    pub url: String,
    /// Templates of values that are added to the URL, by name.
    pub query: BTreeMap<String, String>,
    /// What is sent along, by the header's name in small letters.
    pub headers: BTreeMap<String, HttpHeader>,
    /// What is sent; `None` sends nothing.
    pub body: Option<HttpBody>,
    /// The statuses that are a success, as ranges from and to.
    pub expect: Vec<(u16, u16)>,
    /// The most bytes that an answer may have.
    pub max_bytes: u64,
}

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpHeader {
    /// A template.
    Text(String),
    /// The name of a secret that the operator configured; its value is the header's.
    Secret(String),
}

/// What a request carries.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpBody {
    /// The template of a text.
    Text(String),
    /// A JSON value; every string in it is a template (see [`super::template::render_value`]).
    Json(Value),
}

/// The words of `method`.
const METHODS: [(&str, HttpMethod); 6] = [
    ("GET", HttpMethod::Get),
    ("HEAD", HttpMethod::Head),
    ("POST", HttpMethod::Post),
    ("PUT", HttpMethod::Put),
    ("PATCH", HttpMethod::Patch),
    ("DELETE", HttpMethod::Delete),
];

impl HttpMethod {
    /// The method as it is sent.
    pub fn as_str(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("GET", |(word, _)| word)
    }

    /// Whether a repeated request changes nothing by the method's own meaning.
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

impl HttpStep {
    /// Whether an answer with that status is a success.
    pub fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// The words of the published schema.
pub(super) fn methods() -> Vec<&'static str> {
    METHODS.iter().map(|(word, _)| *word).collect()
}

/// What templates mention, with the pointers to the templates.
type Mentions<'v> = super::step::Seen<'v>;

/// Reads `http` and notes what its templates mention.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> Option<HttpStep> {
    let mut section = fields.section("http")?;
    if !section.has_any(&["url"]) {
        section.missing("url", "it says what to call");
    }
    let method = section.choice("method", &METHODS).unwrap_or(HttpMethod::Get);
    let url = read_url(&mut section, mentions);
    let query = read_query(&mut section, mentions);
    let headers = read_headers(&mut section, mentions);
    let body = read_body(&mut section, method, mentions);
    let expect = read_expect(&mut section).unwrap_or_else(|| vec![(200, 299)]);
    let max_bytes = section.whole("max_bytes", 1..=MAX_HTTP_BODY_BYTES).unwrap_or(DEFAULT_MAX_BYTES).unsigned_abs();
    section.close(&[]);
    Some(HttpStep { method, url: url?.to_owned(), query, headers, body, expect, max_bytes })
}

fn read_url<'v>(section: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> Option<&'v str> {
    let url = section.text("url", MAX_URL_BYTES)?;
    let at = section.at("url");
    if !url.contains('{') && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        section.problems.add(at, "invalid_url", "`url` must begin with http:// or https://");
        return None;
    }
    read_template(url, &at, mentions, section.problems);
    Some(url)
}

fn read_query<'v>(section: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> BTreeMap<String, String> {
    let mut query = BTreeMap::new();
    for Entry { name, value, at } in section.entries("query", &QUERY, MAX_HTTP_FIELDS) {
        match value {
            Value::String(text) => {
                template_text(text, &at, mentions, section);
                query.insert(name.to_owned(), text.clone());
            }
            Value::Number(_) | Value::Bool(_) => {
                query.insert(name.to_owned(), value.to_string());
            }
            other => section.problems.push(wrong_type(at, "text, a number, true or false", other)),
        }
    }
    query
}

fn read_headers<'v>(section: &mut Fields<'v, '_>, mentions: &mut Mentions<'v>) -> BTreeMap<String, HttpHeader> {
    let mut headers = BTreeMap::new();
    for Entry { name, value, at } in section.entries("headers", &HEADER, MAX_HTTP_FIELDS) {
        let small = name.to_ascii_lowercase();
        if RESERVED.contains(&small.as_str()) {
            section.problems.add(at, "reserved_header", format!("the header `{small}` is set by the client itself"));
            continue;
        }
        let header = match value {
            Value::String(text) => {
                template_text(text, &at, mentions, section);
                HttpHeader::Text(text.clone())
            }
            Value::Object(_) => match read_secret(value, &at, section) {
                Some(secret) => HttpHeader::Secret(secret),
                None => continue,
            },
            other => {
                section.problems.push(wrong_type(at, "text or { secret: NAME }", other));
                continue;
            }
        };
        if headers.insert(small, header).is_some() {
            section.problems.add(at, "duplicate_header", format!("the header `{name}` is given twice"));
        }
    }
    headers
}

fn read_secret(value: &Value, at: &str, section: &mut Fields<'_, '_>) -> Option<String> {
    let mut fields = Fields::open(value, at.to_owned(), section.problems)?;
    if !fields.has_any(&["secret"]) {
        fields.missing("secret", "it names a secret that the operator configured");
    }
    let secret = fields.name("secret", &SECRET).map(str::to_owned);
    fields.close(&[]);
    secret
}

fn read_body<'v>(section: &mut Fields<'v, '_>, method: HttpMethod, mentions: &mut Mentions<'v>) -> Option<HttpBody> {
    let value = section.value("body")?;
    let at = section.at("body");
    if method.is_safe() {
        let message = format!("a {} request carries no `body`", method.as_str());
        section.problems.push(Problem::new(at, "unexpected_body", message));
        return None;
    }
    if let Value::String(text) = value {
        template_text(text, &at, mentions, section);
        return Some(HttpBody::Text(text.clone()));
    }
    let mut templates = Vec::new();
    collect_templates(value, &at, &mut templates);
    if templates.len() > MAX_TRANSFORM_TEMPLATES {
        let message = format!("a body has at most {MAX_TRANSFORM_TEMPLATES} templates, this has {}", templates.len());
        section.problems.add(at, "too_many", message);
        return None;
    }
    for (text, at) in templates {
        template_text(text, &at, mentions, section);
    }
    let mut body = value.clone();
    body.sort_all_objects();
    Some(HttpBody::Json(body))
}

/// Reads `expect`, a list of statuses such as `2xx` and `404`.
fn read_expect(section: &mut Fields<'_, '_>) -> Option<Vec<(u16, u16)>> {
    let value = section.value("expect")?;
    let at = section.at("expect");
    let Value::Array(items) = value else {
        section.problems.push(wrong_type(at, "a list of statuses such as 2xx and 404", value));
        return None;
    };
    if items.is_empty() || items.len() > MAX_HTTP_EXPECTED {
        let message = format!("`expect` names 1 to {MAX_HTTP_EXPECTED} statuses, this names {}", items.len());
        section.problems.add(at, "out_of_range", message);
        return None;
    }
    let mut ranges = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match status_range(item) {
            Some(range) => ranges.push(range),
            None => {
                let message = "a status is a number from 200 to 599, or a class such as 2xx";
                section.problems.add(below(&at, index), "invalid_status", message);
            }
        }
    }
    Some(ranges)
}

fn status_range(item: &Value) -> Option<(u16, u16)> {
    match item {
        Value::String(text) => match text.as_str() {
            "2xx" => Some((200, 299)),
            "3xx" => Some((300, 399)),
            "4xx" => Some((400, 499)),
            "5xx" => Some((500, 599)),
            _ => None,
        },
        Value::Number(number) => {
            let status = number.as_u64().and_then(|status| u16::try_from(status).ok())?;
            (200..600).contains(&status).then_some((status, status))
        }
        _ => None,
    }
}

/// Checks a text that may hold template code.
fn template_text<'v>(text: &'v str, at: &str, mentions: &mut Mentions<'v>, section: &mut Fields<'_, '_>) {
    if text.len() > MAX_PROMPT_BYTES {
        section.problems.add(at, "too_long", format!("a template has at most {MAX_PROMPT_BYTES} bytes"));
    } else if text.contains('{') {
        read_template(text, at, mentions, section.problems);
    }
}
