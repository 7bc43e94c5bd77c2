//! `http_get`: reads a page from a host that the operator allowed.
//!
//! The model chooses the URL and a page can tell the model what to ask next, so every request is hostile until shown
//! otherwise: the host must be on the list, its addresses public (checked in the resolver, `address`), redirects stay on
//! their origin, the body is cut, no credentials are sent and no environment is asked.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::outcome::ToolEffects;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use super::address::{PublicResolver, is_public};
use super::{Tool, ToolError, ToolLimits, ToolsError};

/// Redirects that are followed on one origin.
const MOST_REDIRECTS: usize = 5;

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
    allow: Vec<Rule>,
    allow_private: bool,
    limits: ToolLimits,
    http: Client,
    parameters: Value,
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    host: String,
    is_below: bool,
    port: Option<u16>,
}

impl HttpGet {
    /// Checks the list and builds the client. Sends nothing.
    pub fn new(config: &HttpGetConfig) -> Result<Self, ToolsError> {
        let refused = |reason: String| ToolsError::BadConfig { tool: NAME.to_owned(), reason };
        let allow: Vec<Rule> = config
            .allow
            .iter()
            .map(|entry| {
                Rule::parse(entry).ok_or_else(|| {
                    refused(format!("`{entry}` is no host: write `example.com`, `*.example.com` or `example.com:8443`"))
                })
            })
            .collect::<Result<_, _>>()?;
        if allow.is_empty() {
            return Err(refused("`allow` names no host".to_owned()));
        }
        let mut builder = Client::builder()
            .redirect(Policy::custom(|attempt| {
                let stays = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
                if stays && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
            }))
            .timeout(Duration::from_millis(config.limits.timeout_ms))
            .user_agent(concat!("bursar/", env!("CARGO_PKG_VERSION")))
            .referer(false)
            .no_proxy();
        if !config.allow_private {
            builder = builder.dns_resolver(PublicResolver);
        }
        let http = builder.build().map_err(|error| refused(error.without_url().to_string()))?;
        let parameters = json!({
            "type": "object",
            "required": ["url"],
            "properties": {"url": {"type": "string", "maxLength": 2000, "description": "The absolute URL to read."}},
            "additionalProperties": false,
        });
        Ok(Self { allow, allow_private: config.allow_private, limits: config.limits, http, parameters })
    }

    /// The URL, if a request to it is allowed.
    fn allowed(&self, url: &str) -> Result<Url, ToolError> {
        let refused = |reason: &str| ToolError(format!("this URL is refused: {reason}"));
        let url = Url::parse(url).map_err(|error| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("only http and https are read"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("it holds a user name or password"));
        }
        if !self.allow.iter().any(|rule| rule.covers(&url)) {
            return Err(refused("its host is not on the operator's list"));
        }
        // a literal address is never resolved, so the resolver does not see it
        let literal: Option<IpAddr> =
            url.host_str().and_then(|host| host.trim_start_matches('[').trim_end_matches(']').parse().ok());
        if !self.allow_private && literal.is_some_and(|address| !is_public(address)) {
            return Err(refused("its address is not public"));
        }
        Ok(url)
    }

    async fn read(&self, url: Url) -> Result<String, ToolError> {
        let failed = |error: reqwest::Error| ToolError(format!("the page cannot be read: {}", cause(&error)));
        let mut response = self.http.get(url).send().await.map_err(failed)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(ToolError(format!(
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
        if status.is_success() { Ok(text) } else { Err(ToolError(text)) }
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
        self.read(self.allowed(url)?).await
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let (rest, is_below) = entry.strip_prefix("*.").map_or((entry, false), |rest| (rest, true));
        // what a URL makes of it is what is compared later
        let url = Url::parse(&format!("https://{rest}/")).ok()?;
        let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && !rest.contains('/');
        let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let host = url.host_str().filter(|host| plain && !host.contains('*'))?.to_ascii_lowercase();
        Some(Self { host, is_below, port })
    }

    fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { return false };
        let host = host.trim_end_matches('.');
        let named = if self.is_below {
            host.strip_suffix(self.host.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        };
        let port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        named && port
    }
}

/// The innermost cause, without the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let first = causes.next();
    let said = causes.last().or(first).map_or_else(|| "no cause given".to_owned(), ToString::to_string);
    if error.is_timeout() { "it took too long".to_owned() } else { said.chars().take(200).collect() }
}

impl fmt::Debug for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGet")
            .field("allow", &self.allow)
            .field("allow_private", &self.allow_private)
            .finish_non_exhaustive()
    }
}
