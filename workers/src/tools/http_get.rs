//! `http_get`: reads a page from a host that the operator allowed.
//!
//! The model chooses the URL and a page can tell the model what to ask next, so every request is hostile until shown
//! otherwise: it leaves through the one guarded door (`outbound`), the body is cut and no credentials are sent.

use std::fmt;

use async_trait::async_trait;
use bursar_domain::outcome::ToolEffects;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::{Tool, ToolError, ToolLimits, ToolsError};
use crate::outbound::{Door, cause};

/// The name.
const NAME: &str = "http_get";

/// What the model is told.
const DESCRIPTION: &str =
    "Reads a web page or an API by HTTP GET and gives its status, type and body. Only some hosts are allowed.";

/// Where `http_get` may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGetConfig {
    /// Hosts: `example.com` exactly, `*.example.com` any below it, `example.com:8443` on that port. A host without a
    /// port is allowed on the usual one of `https` and `http`.
    pub allow: Vec<String>,
    /// Whether allowed hosts may have private or loopback addresses. Only for services of one's own.
    pub allow_private: bool,
    /// How far one call may go.
    pub limits: ToolLimits,
}

/// The tool.
pub struct HttpGet {
    door: Door,
    limits: ToolLimits,
    parameters: Value,
}

impl HttpGet {
    /// Checks the list and builds the client. Sends nothing.
    pub fn new(config: &HttpGetConfig) -> Result<Self, ToolsError> {
        let refused = |reason: String| ToolsError::BadConfig { tool: NAME.to_owned(), reason };
        if config.allow.is_empty() {
            return Err(refused("`allow` names no host".to_owned()));
        }
        let door = Door::open(&config.allow, config.allow_private, config.limits.timeout_ms).map_err(refused)?;
        let parameters = json!({
            "type": "object",
            "required": ["url"],
            "properties": {"url": {"type": "string", "maxLength": 2000, "description": "The absolute URL to read."}},
            "additionalProperties": false,
        });
        Ok(Self { door, limits: config.limits, parameters })
    }

    async fn read(&self, url: Url) -> Result<String, ToolError> {
        let failed = |error: reqwest::Error| ToolError::Told(format!("the page cannot be read: {}", cause(&error)));
        let mut response = self.door.client().get(url).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(ToolError::Told(format!(
                "HTTP {}: it redirects to another host, which is not followed",
                status.as_u16()
            )));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("unknown type");
        let head = format!("HTTP {} {}\n\n", status.as_u16(), kind.chars().take(100).collect::<String>());
        let mut body = Vec::new();
        while body.len() <= self.limits.result_bytes {
            match response.chunk().await.map_err(failed)? {
                Some(piece) => body.extend_from_slice(&piece),
                None => break,
            }
        }
        body.truncate(self.limits.result_bytes.saturating_add(1));
        let text = head + &String::from_utf8_lossy(&body);
        if status.is_success() { Ok(text) } else { Err(ToolError::Told(text)) }
    }
}

#[async_trait]
impl Tool for HttpGet {
    fn name(&self) -> &str {
        NAME
    }

    fn description(&self) -> &str {
        DESCRIPTION
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn effects(&self) -> ToolEffects {
        ToolEffects::None
    }

    fn limits(&self) -> ToolLimits {
        self.limits
    }

    async fn call(&self, arguments: &Value) -> Result<String, ToolError> {
        let url = arguments.get("url").and_then(Value::as_str).unwrap_or_default();
        let url = self.door.allowed(url).map_err(|why| ToolError::Told(format!("this URL is refused: {why}")))?;
        self.read(url).await
    }
}

impl fmt::Debug for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGet").field("door", &self.door).finish_non_exhaustive()
    }
}
