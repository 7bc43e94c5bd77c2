//! Configuration: flags over environment over one TOML file over defaults. The only module that reads the environment.
//!
//! Everything is read and checked before anything starts. Secrets may come from files (`…_FILE`), and are never
//! printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod limits;
mod mcp;
mod rates;

pub use limits::LimitsConfig;
pub use mcp::{McpConfig, McpServerConfig, McpToolConfig};
pub use rates::{LimitConfig, RatesConfig};

/// Settings of a process. The doc comments are the reference.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where data is kept: `postgres://…` or `sqlite://path`. Environment: `DATABASE_URL`.
    pub database_url: Option<String>,
    /// The queue's Redis; without it the queue is in process. Environment: `REDIS_URL`.
    pub redis_url: Option<String>,
    /// The port of the API and the dashboard, 8080 by default. Environment: `PORT`.
    pub port: Option<u16>,
    /// The address to listen on, `0.0.0.0` by default (`127.0.0.1` for `dev`). Environment: `BURSAR_BIND`.
    pub bind: Option<String>,
    /// Where clients reach us; links are made from it. Environment: `BURSAR_PUBLIC_URL`.
    pub public_url: Option<String>,
    /// Where people buy credits. Environment: `BURSAR_TOP_UP_URL`.
    pub top_up_url: Option<String>,
    /// Signs sessions and stream tokens, at least 32 characters. Needed when several servers share clients; random
    /// otherwise. Environment: `BURSAR_SESSION_SECRET` or `…_FILE`.
    pub session_secret: Option<Secret>,
    /// A price book to activate at `migrate`; the built-in one by default. Environment: `BURSAR_PRICES`.
    pub prices: Option<PathBuf>,
    /// How long a lease lasts, e.g. `15s`. Environment: `BURSAR_LEASE`.
    pub lease: Option<String>,
    /// How long running steps may take to end when a process stops, e.g. `20s`. Environment: `BURSAR_GRACE`.
    pub grace: Option<String>,
    /// Connections to Postgres per process, 16 by default. Environment: `BURSAR_DB_CONNECTIONS`.
    pub db_connections: Option<u32>,
    /// Whether the simulated provider serves `simulated-*` models, on by default. Environment: `BURSAR_SIMULATED`.
    pub simulated: Option<bool>,
    /// Pause between the simulated provider's words in ms, 20 by default. Environment: `BURSAR_SIMULATED_WORD_MS`.
    pub simulated_word_ms: Option<u64>,
    /// File to which the simulated provider adds a line, a hash, for each request that it gets; none by default.
    /// Environment: `BURSAR_SIMULATED_JOURNAL`.
    pub simulated_journal: Option<PathBuf>,
    /// Requests a minute to the simulated provider; no limit by default. Environment:
    /// `BURSAR_SIMULATED_REQUESTS_PER_MINUTE`.
    pub simulated_requests_per_minute: Option<u64>,
    /// Tokens a minute of the simulated provider; no limit by default. Environment:
    /// `BURSAR_SIMULATED_TOKENS_PER_MINUTE`.
    pub simulated_tokens_per_minute: Option<u64>,
    /// How many requests and tokens every tenant may use.
    pub rates: RatesConfig,
    /// How much is let in.
    pub limits: LimitsConfig,
    /// OpenAI-compatible providers by name. `OPENAI_API_KEY` (or `…_FILE`) and `OPENAI_BASE_URL` make one named
    /// `openai` that serves every model no other one lists.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// Tools that agents may call.
    pub tools: ToolsConfig,
    /// MCP servers whose tools agents may call.
    pub mcp: McpConfig,
    /// What `http` nodes may call.
    pub http: HttpNodesConfig,
    /// Whether and how far `exec` nodes may run programs.
    pub exec: ExecNodesConfig,
    /// How long what is over is kept.
    pub retention: RetentionConfig,
}

/// How long things are kept after their mission is over. The ledger, and what it refers to, is kept for ever.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Whether anything is pruned, on by default. Environment: `BURSAR_RETENTION`.
    pub enabled: Option<bool>,
    /// Events, answers of models, results of tools, failed attempts: 90d by default.
    pub details: Option<String>,
    /// Outputs: 180d by default, never shorter than `details`.
    pub outputs: Option<String>,
    /// Inputs, errors and the mission itself, as the API shows it: 400d by default, never shorter than `outputs`.
    pub missions: Option<String>,
}

impl RetentionConfig {
    /// How long details, outputs and missions are kept, in milliseconds; `None` where nothing is pruned.
    pub fn ages_ms(&self) -> Result<Option<[i64; 3]>, ConfigError> {
        let age = |name: &str, text: Option<&str>, days: u64| {
            let ms = duration_ms(&format!("retention.{name}"), text, days.saturating_mul(DAY_MS))?;
            Ok::<i64, ConfigError>(i64::try_from(ms).unwrap_or(i64::MAX))
        };
        let details = age("details", self.details.as_deref(), 90)?;
        let outputs = age("outputs", self.outputs.as_deref(), 180)?;
        let missions = age("missions", self.missions.as_deref(), 400)?;
        let wrong = |name: &str, reason: &str| ConfigError::Value { name: name.to_owned(), reason: reason.to_owned() };
        if details < DAY_MS as i64 {
            return Err(wrong("retention.details", "must be at least 1d: an attempt may take as long"));
        }
        if outputs < details || missions < outputs {
            return Err(wrong("retention", "must have details <= outputs <= missions"));
        }
        Ok(self.enabled.unwrap_or(true).then_some([details, outputs, missions]))
    }
}

/// A day.
const DAY_MS: u64 = 86_400_000;

/// The tools of a worker. One that is not configured does not exist.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolsConfig {
    /// Reads pages from allowed hosts.
    pub http_get: Option<HttpGetToolConfig>,
}

/// Where the tool `http_get` may go.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpGetToolConfig {
    /// Hosts: `example.com`, `*.example.com`, `example.com:8443`.
    pub allow: Vec<String>,
    /// Whether these hosts may have private addresses; off by default.
    pub allow_private: bool,
    /// Bytes of a page that the model is told, 16384 by default.
    pub result_bytes: Option<usize>,
    /// How long one request may take, 30s by default.
    pub timeout: Option<String>,
}

impl HttpGetToolConfig {
    /// How long one request may take.
    pub fn timeout_ms(&self) -> Result<u64, ConfigError> {
        duration_ms("tools.http_get.timeout", self.timeout.as_deref(), 30_000)
    }
}

/// What `http` nodes may call. Nothing by default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpNodesConfig {
    /// Hosts: `example.com`, `*.example.com`, `example.com:8443`.
    pub allow: Vec<String>,
    /// Whether these hosts may have private addresses; off by default.
    pub allow_private: bool,
    /// How long one request may take, 30s by default.
    pub timeout: Option<String>,
    /// Values of headers that definitions name and never see.
    pub secrets: BTreeMap<String, HttpSecretConfig>,
}

/// The value of a header that definitions name and never see.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSecretConfig {
    /// The whole value, e.g. `Bearer …`.
    pub value: Option<Secret>,
    /// A file with the value.
    pub value_file: Option<PathBuf>,
    /// The hosts that may be told it, at least one.
    pub hosts: Vec<String>,
}

/// Whether and how far `exec` nodes may run programs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecNodesConfig {
    /// Whether they run at all; off by default.
    pub enabled: bool,
    /// Where their working folders are made, `/tmp` by default.
    pub folder: Option<PathBuf>,
    /// Environment variables that every program sees; `PATH` is `/usr/local/bin:/usr/bin:/bin` where it is left out.
    pub env: BTreeMap<String, String>,
    /// Seconds of processor time, 60 by default.
    pub cpu_seconds: Option<u64>,
    /// MiB of address space, 1024 by default.
    pub memory_mib: Option<u64>,
    /// MiB of the largest file, 256 by default.
    pub file_mib: Option<u64>,
    /// Processes and threads of the worker's user, 512 by default. Does not bind root.
    pub processes: Option<u64>,
}

impl HttpNodesConfig {
    /// How long one request may take.
    pub fn timeout_ms(&self) -> Result<u64, ConfigError> {
        duration_ms("http.timeout", self.timeout.as_deref(), 30_000)
    }
}

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderConfig {
    /// The URL before `/chat/completions`.
    pub base_url: String,
    /// The key.
    pub api_key: Option<Secret>,
    /// A file with the key.
    pub api_key_file: Option<PathBuf>,
    /// The models it serves; empty is any.
    pub models: Vec<String>,
    /// Whether it takes a JSON Schema as `response_format`; by default only `OpenAI`'s own hosts do.
    pub json_schema: Option<bool>,
    /// Requests a minute, of all its models together; no limit by default.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, input and output, of all its models together; no limit by default.
    pub tokens_per_minute: Option<u64>,
    /// Limits of single models.
    pub limits: BTreeMap<String, LimitConfig>,
}

/// Text that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Why the configuration can't be used: where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
    /// A value is not what it should be.
    #[error("{name}: {reason}")]
    Value {
        /// The variable or key.
        name: String,
        /// Why.
        reason: String,
    },
}

/// Looks a variable up; empty counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What to log, as `RUST_LOG` says.
pub fn log_filter() -> Option<String> {
    variable("RUST_LOG")
}

/// Where the API is and with which key to call it: `BURSAR_URL`, `BURSAR_API_KEY` (or `…_FILE`).
pub fn api_target() -> Result<(Option<String>, Option<Secret>), ConfigError> {
    Ok((variable("BURSAR_URL"), secret("BURSAR_API_KEY")?))
}

/// The machine's name, for operators.
pub fn host_name() -> String {
    variable("HOSTNAME")
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()))
        .unwrap_or_else(|| "localhost".to_owned())
}

/// A variable, or the content of the file that `NAME_FILE` names.
fn secret(name: &str) -> Result<Option<Secret>, ConfigError> {
    if let Some(value) = variable(name) {
        return Ok(Some(Secret(value)));
    }
    variable(&format!("{name}_FILE")).map(|path| read_secret(Path::new(&path))).transpose()
}

fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { path: path.display().to_string(), reason: error.to_string() })?;
    Ok(Secret(text.trim().to_owned()))
}

fn parsed<T: std::str::FromStr>(name: &str) -> Result<Option<T>, ConfigError>
where
    T::Err: std::fmt::Display,
{
    variable(name)
        .map(|text| {
            text.parse()
                .map_err(|error| ConfigError::Value { name: name.to_owned(), reason: format!("`{text}`: {error}") })
        })
        .transpose()
}

impl Config {
    /// Reads the file (if one is named by `path` or `BURSAR_CONFIG`), then the environment over it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let named = path.map(Path::to_owned).or_else(|| variable("BURSAR_CONFIG").map(PathBuf::from));
        let mut config = match named {
            None => Self::default(),
            Some(path) => {
                let shown = path.display().to_string();
                let file = |reason: String| ConfigError::File { path: shown.clone(), reason };
                let text = std::fs::read_to_string(&path).map_err(|error| file(error.to_string()))?;
                toml::from_str(&text).map_err(|error| file(error.to_string()))?
            }
        };
        config.read_environment()?;
        config.check()?;
        Ok(config)
    }

    fn read_environment(&mut self) -> Result<(), ConfigError> {
        fn over<T>(slot: &mut Option<T>, value: Option<T>) {
            if value.is_some() {
                *slot = value;
            }
        }
        over(&mut self.database_url, variable("DATABASE_URL"));
        over(&mut self.redis_url, variable("REDIS_URL"));
        over(&mut self.port, parsed("PORT")?);
        over(&mut self.bind, variable("BURSAR_BIND"));
        over(&mut self.public_url, variable("BURSAR_PUBLIC_URL"));
        over(&mut self.top_up_url, variable("BURSAR_TOP_UP_URL"));
        over(&mut self.session_secret, secret("BURSAR_SESSION_SECRET")?);
        over(&mut self.prices, variable("BURSAR_PRICES").map(PathBuf::from));
        over(&mut self.lease, variable("BURSAR_LEASE"));
        over(&mut self.grace, variable("BURSAR_GRACE"));
        over(&mut self.db_connections, parsed("BURSAR_DB_CONNECTIONS")?);
        over(&mut self.simulated, parsed("BURSAR_SIMULATED")?);
        over(&mut self.retention.enabled, parsed("BURSAR_RETENTION")?);
        over(&mut self.simulated_word_ms, parsed("BURSAR_SIMULATED_WORD_MS")?);
        over(&mut self.simulated_requests_per_minute, parsed("BURSAR_SIMULATED_REQUESTS_PER_MINUTE")?);
        over(&mut self.simulated_tokens_per_minute, parsed("BURSAR_SIMULATED_TOKENS_PER_MINUTE")?);
        over(&mut self.simulated_journal, variable("BURSAR_SIMULATED_JOURNAL").map(PathBuf::from));
        let (key, url) = (secret("OPENAI_API_KEY")?, variable("OPENAI_BASE_URL"));
        if key.is_some() || url.is_some() {
            let openai = self.providers.entry("openai".to_owned()).or_default();
            over(&mut openai.api_key, key);
            if let Some(url) = url {
                openai.base_url = url;
            } else if openai.base_url.is_empty() {
                "https://api.openai.com/v1".clone_into(&mut openai.base_url);
            }
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), ConfigError> {
        let wrong = |name: &str, reason: &str| ConfigError::Value { name: name.to_owned(), reason: reason.to_owned() };
        if self.session_secret.as_ref().is_some_and(|secret| secret.expose().len() < 32) {
            return Err(wrong("session_secret", "must have at least 32 characters"));
        }
        self.lease_ms()?;
        self.grace_ms()?;
        self.http.timeout_ms()?;
        for (name, secret) in &mut self.http.secrets {
            match (&secret.value, &secret.value_file) {
                (None, Some(path)) => secret.value = Some(read_secret(path)?),
                (Some(_), None) => {}
                _ => return Err(wrong(&format!("http.secrets.{name}"), "must have either `value` or `value_file`")),
            }
        }
        self.mcp.check()?;
        self.retention.ages_ms()?;
        self.rate_limits()?;
        for (name, provider) in &mut self.providers {
            if !provider.base_url.starts_with("http://") && !provider.base_url.starts_with("https://") {
                return Err(wrong(&format!("providers.{name}.base_url"), "must begin with http:// or https://"));
            }
            if let (None, Some(path)) = (&provider.api_key, &provider.api_key_file) {
                provider.api_key = Some(read_secret(path)?);
            }
        }
        Ok(())
    }

    /// How long a lease lasts.
    pub fn lease_ms(&self) -> Result<u64, ConfigError> {
        let lease = duration_ms("lease", self.lease.as_deref(), bursar_domain::limits::LEASE_MS as u64)?;
        if (1_000..=600_000).contains(&lease) {
            return Ok(lease);
        }
        Err(ConfigError::Value { name: "lease".to_owned(), reason: "must be between 1s and 10m".to_owned() })
    }

    /// How long running steps may take to end when the process stops.
    pub fn grace_ms(&self) -> Result<u64, ConfigError> {
        duration_ms("grace", self.grace.as_deref(), 20_000)
    }
}

fn duration_ms(name: &str, text: Option<&str>, default: u64) -> Result<u64, ConfigError> {
    let Some(text) = text else { return Ok(default) };
    let wrong = || ConfigError::Value {
        name: name.to_owned(),
        reason: format!("`{text}` is no duration: write e.g. 500ms, 15s, 2m, 12h or 90d"),
    };
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(number),
        "s" => Ok(number.saturating_mul(1_000)),
        "m" => Ok(number.saturating_mul(60_000)),
        "h" => Ok(number.saturating_mul(3_600_000)),
        "d" => Ok(number.saturating_mul(DAY_MS)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_unknown_key_in_the_file_is_refused_by_name() {
        let refused = toml::from_str::<Config>("databse_url = \"sqlite://x\"").expect_err("misspelt");
        assert!(refused.to_string().contains("databse_url"), "{refused}");
    }

    #[test]
    fn a_secret_is_never_printed() {
        let config: Config = toml::from_str("session_secret = \"0123456789abcdef0123456789abcdef\"").expect("valid");
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn what_is_over_is_kept_in_order_and_for_a_day_at_least() {
        let read = |text: &str| toml::from_str::<Config>(text).expect("it is TOML").retention.ages_ms();
        let days = |ms: [i64; 3]| ms.map(|ms| ms / 86_400_000);
        assert_eq!(read("").expect("fine").map(days), Some([90, 180, 400]));
        assert_eq!(read("[retention]\nenabled = false").expect("fine"), None);
        assert_eq!(
            read("[retention]\ndetails = \"7d\"\noutputs = \"30d\"").expect("fine").map(days),
            Some([7, 30, 400])
        );
        for wrong in ["details = \"1h\"", "outputs = \"30d\"", "missions = \"100d\"", "details = \"soon\""] {
            assert!(read(&format!("[retention]\n{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(duration_ms("lease", Some("15s"), 0).ok(), Some(15_000));
        assert_eq!(duration_ms("lease", Some("250ms"), 0).ok(), Some(250));
        assert_eq!(duration_ms("lease", Some("2m"), 0).ok(), Some(120_000));
        assert_eq!(duration_ms("lease", Some("2h"), 0).ok(), Some(7_200_000));
        assert!(duration_ms("lease", Some("15"), 0).is_err());
        assert!(duration_ms("lease", Some("fast"), 0).is_err());
    }
}
