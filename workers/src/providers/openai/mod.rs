//! Any endpoint that speaks `OpenAI`'s chat completions, through `async-openai`.
//!
//! What the library does: the request, the SSE framing, the typed error path. What it is kept from doing, all
//! through its `with_http_service` hook (`wire`): its own retries (each would be a paid call that nobody
//! reserved), waiting without end (it has no timeout; ours are on our own client), and hiding what a worker
//! has to know: the status and `Retry-After` of a refusal, and why a stream broke (it reduces both to text).
//! Requests and chunks are plain JSON (`byot`), because its typed answers refuse dialects such as llama.cpp's.
//! Its configuration type is not used: that one reads the environment, and panics on a key with a line break.
//!
//! The library logs events that are no JSON at level `error`, content included, under its own target
//! `async_openai`; switch that target off where prompts must stay out of logs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::Config;
use async_openai::error::OpenAIError;
use async_trait::async_trait;
use bursar_domain::outcome::ErrorClass;
use futures::{StreamExt, stream};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::conversation::to_wire;
use super::{ChatRequest, ChatStream, Provider, ProviderError, ProvidersError, ToolDefinition};

mod chunk;
mod refusal;
mod wire;

use refusal::Redaction;
use wire::Wire;

/// Which models an endpoint serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Models {
    /// These, by their exact names.
    Listed(Vec<String>),
    /// Every model that no other provider serves. One provider at most.
    Any,
}

/// The request field that carries the output cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputCapField {
    /// `max_completion_tokens` for `OpenAI`'s own hosts, which refuse the older name for newer models;
    /// `max_tokens` everywhere else, the name that every other server knows.
    #[default]
    Auto,
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

/// How to reach an OpenAI-compatible endpoint. Its `Debug` masks the key.
#[derive(Debug, Clone)]
pub struct OpenAiConfig {
    /// The provider's name, in prices, journals and messages.
    pub name: String,
    /// Where `/chat/completions` hangs, e.g. `https://api.openai.com/v1`. No user name or password in it.
    pub base_url: String,
    /// The key; `None` for servers that want none.
    pub api_key: Option<SecretString>,
    /// Which models it serves.
    pub models: Models,
    /// Milliseconds to connect, TLS included.
    pub connect_ms: u64,
    /// Milliseconds without a byte, before the first one as well as between any two.
    pub idle_ms: u64,
    /// Milliseconds for the whole call.
    pub total_ms: u64,
    /// Whether to ask for usage in streams (`stream_options.include_usage`); off for servers that refuse it.
    pub include_usage: bool,
    /// Which field carries the output cap.
    pub output_cap_field: OutputCapField,
    /// Whether it takes `response_format` with a JSON Schema; `None` is yes for `OpenAI`'s own hosts and no elsewhere.
    pub json_schema: Option<bool>,
    /// A proxy for all requests, e.g. `http://proxy:3128`. The environment is not asked.
    pub proxy: Option<String>,
}

impl OpenAiConfig {
    /// A configuration with the usual timeouts (5 s to connect, 2 minutes of silence, 15 minutes in all), for
    /// every model, without a key.
    pub fn new(name: impl Into<String>, base_url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            base_url: base_url.into(),
            api_key: None,
            models: Models::Any,
            connect_ms: 5_000,
            idle_ms: 120_000,
            total_ms: 900_000,
            include_usage: true,
            output_cap_field: OutputCapField::Auto,
            json_schema: None,
            proxy: None,
        }
    }
}

/// What `async-openai` asks about an endpoint.
struct Endpoint {
    base: String,
    headers: HeaderMap,
    key: SecretString,
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

/// One configured endpoint.
pub(super) struct OpenAi {
    name: String,
    endpoint: Arc<dyn Config>,
    http: reqwest::Client,
    include_usage: bool,
    cap_field: &'static str,
    takes_schema: bool,
}

impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("name", &self.name)
            .field("base_url", &self.endpoint.api_base())
            .finish_non_exhaustive()
    }
}

impl OpenAi {
    /// Checks the configuration and builds the HTTP client. Sends nothing.
    pub(super) fn new(config: OpenAiConfig) -> Result<Self, ProvidersError> {
        let host = host(&config)?;
        let key = config.api_key.clone().unwrap_or_default();
        let mut headers = HeaderMap::new();
        if config.api_key.is_some() {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
                .map_err(|_| ProvidersError::BadApiKey(config.name.clone()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let is_openai = host.ends_with("openai.com") || host.ends_with("openai.azure.com");
        let cap_field = match config.output_cap_field {
            OutputCapField::Auto if is_openai => "max_completion_tokens",
            OutputCapField::Auto | OutputCapField::MaxTokens => "max_tokens",
            OutputCapField::MaxCompletionTokens => "max_completion_tokens",
        };
        let http = http_client(&config)?;
        let base = config.base_url.trim_end_matches('/').to_owned();
        let endpoint: Arc<dyn Config> = Arc::new(Endpoint { base, headers, key });
        let (include_usage, takes_schema) = (config.include_usage, config.json_schema.unwrap_or(is_openai));
        Ok(Self { name: config.name, endpoint, http, include_usage, cap_field, takes_schema })
    }
}

/// The host of the base URL, which must be plain `http` or `https` without credentials.
fn host(config: &OpenAiConfig) -> Result<String, ProvidersError> {
    let refused = |reason: &str| ProvidersError::BadBaseUrl { name: config.name.clone(), reason: reason.to_owned() };
    let url = reqwest::Url::parse(&config.base_url).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("it must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it holds a user name or password; give the key as `api_key`"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it must end with its path, without `?` or `#`"));
    }
    Ok(url.host_str().unwrap_or_default().to_ascii_lowercase())
}

/// Our client: all three timeouts, no redirects (they would carry prompts elsewhere), no environment.
fn http_client(config: &OpenAiConfig) -> Result<reqwest::Client, ProvidersError> {
    let refused = |error: reqwest::Error| ProvidersError::HttpClient {
        name: config.name.clone(),
        reason: error.without_url().to_string(),
    };
    let mut builder = reqwest::Client::builder()
        .connect_timeout(Duration::from_millis(config.connect_ms))
        .read_timeout(Duration::from_millis(config.idle_ms))
        .timeout(Duration::from_millis(config.total_ms))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("bursar/", env!("CARGO_PKG_VERSION")))
        .no_proxy();
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(refused)?);
    }
    builder.build().map_err(refused)
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes_schema(&self) -> bool {
        self.takes_schema
    }

    fn body(&self, request: &ChatRequest) -> Value {
        let messages = to_wire(&request.messages);
        let mut body = Map::new();
        body.insert("model".into(), json!(request.model));
        body.insert("messages".into(), Value::Array(messages));
        body.insert(self.cap_field.into(), json!(request.max_output_tokens));
        if let Some(temperature) = &request.temperature {
            body.insert("temperature".into(), Value::Number(temperature.clone()));
        }
        if let Some(format) = &request.format {
            body.insert("response_format".into(), format.to_wire());
        }
        if !request.tools.is_empty() {
            body.insert("tools".into(), request.tools.iter().map(ToolDefinition::to_wire).collect());
        }
        body.insert("stream".into(), Value::Bool(true));
        if self.include_usage {
            body.insert("stream_options".into(), json!({"include_usage": true}));
        }
        Value::Object(body)
    }

    async fn stream(&self, request: &ChatRequest) -> Result<ChatStream, ProviderError> {
        let redaction = Redaction::new(&self.name, self.endpoint.api_key().expose_secret(), &request.contents());
        let wire = Arc::new(Wire::new(redaction));
        let client = Client::build(self.http.clone(), Arc::clone(&self.endpoint))
            .with_http_service(wire::service(self.http.clone(), Arc::clone(&wire)));
        let chunks = client
            .chat()
            .create_stream_byot::<Value, Value>(self.body(request))
            .await
            .map_err(|error| explain(error, &wire))?;
        let events = chunks.flat_map(move |chunk| {
            stream::iter(match chunk {
                Ok(chunk) => chunk::events(&chunk, wire.redaction()),
                Err(error) => vec![Err(explain(error, &wire))],
            })
        });
        Ok(events.boxed())
    }
}

/// The library's error as ours. What our side of the wire saw is exact and goes first.
fn explain(error: OpenAIError, wire: &Wire) -> ProviderError {
    if let Some(failure) = wire.failure() {
        return failure;
    }
    let name = wire.redaction().provider();
    match error {
        OpenAIError::Boxed(inner) => match inner.downcast::<ProviderError>() {
            Ok(ours) => *ours,
            Err(_) => unreadable(name, "the HTTP layer failed"),
        },
        OpenAIError::JSONDeserialize(..) => unreadable(name, "an event of its stream is no JSON"),
        OpenAIError::StreamError(_) => unreadable(name, "its stream is not UTF-8 or not server-sent events"),
        OpenAIError::InvalidArgument(_) => ProviderError::refused(
            ErrorClass::Permanent,
            "provider_refused",
            format!("the request to provider `{name}` cannot be written as JSON"),
        ),
        _ => unreadable(name, "the client library failed"),
    }
}

/// The provider answered something that is no stream of JSON events. It may have cost.
fn unreadable(provider: &str, what: &str) -> ProviderError {
    ProviderError::broken(
        ErrorClass::Retryable,
        "provider_answer_unreadable",
        format!("the answer of provider `{provider}` cannot be read: {what}"),
    )
}
