//! The HTTP client behind the user commands: where the API is, with which key, and what its refusals mean.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::config;

/// Where the API is.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The API's address (also `BURSAR_URL`) [default: `http://localhost:8080`].
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The API key (also `BURSAR_API_KEY` or `BURSAR_API_KEY_FILE`) [default: the key that `bursar dev` wrote].
    #[arg(long, value_name = "KEY", hide_env_values = true)]
    key: Option<String>,
}

/// A client with a key.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

impl Target {
    /// That address with that key.
    pub(super) fn of(url: &str, key: &str) -> Self {
        Self { url: Some(url.to_owned()), key: Some(key.to_owned()) }
    }

    /// A client; `admin` chooses which of the keys that `bursar dev` wrote is the default.
    pub(super) fn client(&self, admin: bool) -> anyhow::Result<Client> {
        let (url, key) = config::api_target()?;
        let base = self.url.clone().or(url).unwrap_or_else(|| "http://localhost:8080".to_owned());
        let written = if admin { ".bursar/dev-admin-key" } else { ".bursar/dev-api-key" };
        let dev_key = || std::fs::read_to_string(Path::new(written)).ok().map(|key| key.trim().to_owned());
        let key = self.key.clone().or_else(|| key.map(|key| key.expose().to_owned())).or_else(dev_key);
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Client { http, base: base.trim_end_matches('/').to_owned(), key })
    }
}

impl Client {
    /// A request with the key, not sent yet.
    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request; a refusal becomes an error that says what the API said.
    pub(super) async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| format!("{} can't be reached", self.base))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        Err(refusal(status, &body))
    }

    /// GET, as JSON.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(self.request(Method::GET, path)).await?.json().await?)
    }
}

/// A problem document as an error for people.
fn refusal(status: StatusCode, body: &Value) -> anyhow::Error {
    let title = body["title"].as_str().unwrap_or("the API refused");
    let mut text = format!("{title} ({status})");
    if let Some(detail) = body["detail"].as_str() {
        text = format!("{text}: {detail}");
    }
    for error in body["errors"].as_array().into_iter().flatten() {
        let pointer = error["pointer"].as_str().unwrap_or_default();
        let message = error["message"].as_str().or_else(|| error["detail"].as_str()).unwrap_or_default();
        text = format!("{text}\n  {pointer}: {message}");
        if let Some(hint) = error["hint"].as_str() {
            text = format!("{text} ({hint})");
        }
    }
    for figure in ["required", "available", "shortfall", "top_up_url"] {
        if let Some(value) = body[figure].as_str() {
            text = format!("{text}\n  {figure}: {value}");
        }
    }
    if status == StatusCode::UNAUTHORIZED {
        text = format!("{text}\n  give a key with --key or BURSAR_API_KEY; `bursar keys create` makes one");
    }
    anyhow!(text)
}

/// `bursar healthcheck`: succeeds when the API is ready.
pub(super) async fn healthcheck(target: &Target) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let request = client.request(Method::GET, "/readyz").timeout(Duration::from_secs(5));
    let status: Value = client.send(request).await?.json().await.unwrap_or_default();
    println!("{}", status["status"].as_str().unwrap_or("ready"));
    Ok(ExitCode::SUCCESS)
}

/// Reads a JSON value from an argument: literally, or from a file after `@`.
pub(super) fn json_argument(text: &str) -> anyhow::Result<Value> {
    let content = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("{path} can't be read"))?,
        None => text.to_owned(),
    };
    let value: Value = serde_json::from_str(&content).context("the input is not valid JSON")?;
    if !value.is_object() {
        bail!("the input must be a JSON object, such as {{\"topic\": \"bees\"}}");
    }
    Ok(value)
}
