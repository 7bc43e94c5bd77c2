//! Boot: puts the parts of a process together, in order, and takes them apart again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_domain::id::{KeyId, TenantId, WalletId};
use bursar_domain::pricing::PriceBook;
use bursar_workers::Providers;
use bursar_workers::exec::{ExecConfig, ExecLimits, ExecService};
use bursar_workers::http::{HttpConfig, HttpSecret, HttpService};
use bursar_workers::providers::{CallJournal, Models, OpenAiConfig, SimulatedConfig};
use bursar_workers::tools::{HttpGet, HttpGetConfig, ToolLimits, Tools};
use tokio_util::sync::CancellationToken;

mod mcp;

use crate::clock::{Clock, new_id};
use crate::config::Config;
use crate::engine::{Engine, Pruner, Redriver, Retention, Scheduler, Sweeper};
use crate::link::RedisLink;
use crate::queue::{MemoryQueue, Queue, RedisQueue};
use crate::rates::Rates;
use crate::store::{self, ApiKey, Role, Store, StoreError};
use crate::stream::{Hub, Relay};

/// The built-in price book.
const DEFAULT_PRICES: &str = include_str!("../prices/default.toml");

/// Why a process can't start. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A setting.
    #[error("{0}")]
    Config(#[from] crate::config::ConfigError),
    /// What http nodes may call.
    #[error("{0}")]
    Http(#[from] bursar_workers::http::HttpConfigError),
    /// A tool.
    #[error("tools: {0}")]
    Tools(String),
    /// An MCP server.
    #[error("{0}")]
    Mcp(#[from] bursar_workers::mcp::ServersError),
    /// A provider.
    #[error("providers: {0}")]
    Providers(String),
    /// A price book.
    #[error("the price book {path} can't be used:\n{problems}")]
    Prices {
        /// Which.
        path: String,
        /// Why, a line each.
        problems: String,
    },
    /// Redis.
    #[error("{0}")]
    Redis(String),
}

/// Opens the store and connects it with a queue: everything an engine needs. Redis need not answer yet.
pub async fn engine(config: &Config, database_url: &str, stop: &CancellationToken) -> Result<Engine, BootError> {
    let store = store::open(database_url, config.db_connections.unwrap_or(16)).await?;
    let clock = Arc::new(Clock::new());
    let asked = Instant::now();
    clock.synchronise(store.time().await?, asked);
    let hub = Arc::new(Hub::default());
    let limits = config.rate_limits()?;
    let (queue, relay, rates): (Arc<dyn Queue>, Relay, Rates) = match &config.redis_url {
        Some(url) => {
            let link = RedisLink::new(url).map_err(|error| BootError::Redis(error.to_string()))?;
            let relay = Relay::through_redis(hub, link.clone(), stop.clone());
            let rates = Rates::shared(limits, link.clone());
            (Arc::new(RedisQueue::new(link, clock.clone())), relay, rates)
        }
        None => (Arc::new(MemoryQueue::default()), Relay::local(hub), Rates::local(limits)),
    };
    let engine = Engine::new(store, queue, relay, clock);
    engine.know_rates(rates);
    if let Some(most) = config.max_queued()? {
        engine.limit_queues(most);
    }
    if config.exec.enabled {
        engine.allow_exec();
    }
    engine.know_mcp(config.mcp.catalog());
    Ok(engine)
}

/// The providers that the configuration names.
pub fn providers(config: &Config) -> Result<Providers, BootError> {
    let mut builder = Providers::builder();
    if config.simulated.unwrap_or(true) {
        let word_delay_ms = config.simulated_word_ms.unwrap_or(20);
        builder = builder.simulated_with(SimulatedConfig { word_delay_ms });
        if let Some(path) = &config.simulated_journal {
            let unusable = |error| BootError::Providers(format!("simulated_journal {}: {error}", path.display()));
            builder = builder.simulated_journal(CallJournal::in_file(path).map_err(unusable)?);
        }
    }
    for (name, provider) in &config.providers {
        let mut openai = OpenAiConfig::new(name, &provider.base_url);
        openai.api_key = provider.api_key.as_ref().map(|key| key.expose().to_owned().into());
        if !provider.models.is_empty() {
            openai.models = Models::Listed(provider.models.clone());
        }
        openai.json_schema = provider.json_schema;
        builder = builder.openai(openai);
    }
    builder = builder.http(http(config)?);
    if config.exec.enabled {
        builder = builder.exec(exec(config));
    }
    builder.tools(tools(config)?).build().map_err(|error| BootError::Providers(error.to_string()))
}

/// What http nodes may call.
fn http(config: &Config) -> Result<HttpService, BootError> {
    let http = &config.http;
    let secret = |secret: &crate::config::HttpSecretConfig| HttpSecret {
        value: secret.value.as_ref().map_or("", crate::config::Secret::expose).to_owned().into(),
        hosts: secret.hosts.clone(),
    };
    let secrets = http.secrets.iter().map(|(name, value)| (name.clone(), secret(value))).collect();
    let (allow, allow_private) = (http.allow.clone(), http.allow_private);
    Ok(HttpService::new(HttpConfig { allow, allow_private, timeout_ms: http.timeout_ms()?, secrets })?)
}

/// How far exec nodes may go.
fn exec(config: &Config) -> ExecService {
    const MIB: u64 = 1024 * 1024;
    let (exec, usual) = (&config.exec, ExecLimits::default());
    let mut env = exec.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    ExecService::new(ExecConfig {
        folder: exec.folder.clone().unwrap_or_else(|| "/tmp".into()),
        env,
        limits: ExecLimits {
            cpu_seconds: exec.cpu_seconds.unwrap_or(usual.cpu_seconds),
            memory_bytes: exec.memory_mib.map_or(usual.memory_bytes, |mib| mib.saturating_mul(MIB)),
            file_bytes: exec.file_mib.map_or(usual.file_bytes, |mib| mib.saturating_mul(MIB)),
            processes: exec.processes.unwrap_or(usual.processes),
        },
    })
}

/// The tools that the configuration names.
fn tools(config: &Config) -> Result<Tools, BootError> {
    let refused = |reason: String| BootError::Tools(reason);
    let mut tools = Tools::default();
    if let Some(http_get) = &config.tools.http_get {
        let mut limits = ToolLimits::default();
        limits.timeout_ms = http_get.timeout_ms().map_err(|error| refused(error.to_string()))?;
        limits.result_bytes = http_get.result_bytes.unwrap_or(limits.result_bytes);
        let (allow, allow_private) = (http_get.allow.clone(), http_get.allow_private);
        let tool = HttpGet::new(&HttpGetConfig { allow, allow_private, limits });
        let tool = tool.map_err(|error| refused(error.to_string()))?;
        tools = tools.with(Arc::new(tool)).map_err(|error| refused(error.to_string()))?;
    }
    Ok(tools.with_servers(mcp::servers(&config.mcp)?))
}

/// Reads a price book from a TOML file, or the built-in one.
pub fn price_book(path: Option<&Path>) -> Result<PriceBook, BootError> {
    let shown = path.map_or_else(|| "prices/default.toml".to_owned(), |path| path.display().to_string());
    let broken = |problems: String| BootError::Prices { path: shown.clone(), problems };
    let text = match path {
        None => DEFAULT_PRICES.to_owned(),
        Some(path) => std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?,
    };
    let value: serde_json::Value = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
    PriceBook::from_value(value)
        .map_err(|problems| broken(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))
}

/// Brings the schema up to date and stores the price book. It is activated when none is yet, and when the operator
/// configured it and it was never seen before: a new version of the built-in book changes no live prices by itself.
/// Whether it is active now.
pub async fn migrate(engine: &Engine, prices: &PriceBook, is_configured: bool) -> Result<bool, BootError> {
    engine.store().migrate().await?;
    let published = engine.publish_prices(prices).await?;
    let active = engine.store().active_prices().await?;
    if active == Some(published.id) {
        return Ok(true);
    }
    let activates = active.is_none() || (is_configured && published.created);
    if activates {
        engine.store().activate_price_book(published.id, engine.clock().now()).await?;
    }
    Ok(activates)
}

/// Refuses a schema that this program does not fit; says so when a newer program has extended it.
pub async fn check_schema(engine: &Engine) -> Result<(), StoreError> {
    let fit = engine.store().check_schema().await?;
    if fit.is_newer() {
        tracing::warn!(applied = fit.applied, known = fit.known, "{fit}");
    }
    Ok(())
}

/// A tenant with its wallet, made when it does not exist.
pub async fn ensure_tenant(engine: &Engine, name: &str) -> Result<(TenantId, WalletId), StoreError> {
    let store = engine.store();
    let now = engine.clock().now();
    let tenant = if let Some(tenant) = store.tenant_named(name).await? {
        tenant
    } else {
        let tenant = new_id();
        store.add_tenant(tenant, name, now).await?;
        tenant
    };
    if let Some(wallet) = store.wallet_of(tenant, now).await? {
        return Ok((tenant, wallet.id));
    }
    let wallet = new_id();
    engine.open_wallet(wallet, tenant).await?;
    Ok((tenant, wallet))
}

/// A new API key; the secret is shown once and not kept.
pub async fn create_key(
    store: &Arc<dyn Store>,
    tenant: TenantId,
    name: &str,
    role: Role,
    now: bursar_domain::time::Timestamp,
) -> Result<(ApiKey, String), StoreError> {
    let (secret, prefix, hash) = crate::http::new_secret();
    let id: KeyId = new_id();
    let key = ApiKey { id, tenant_id: tenant, name: name.to_owned(), prefix, role, created_at: now, revoked_at: None };
    store.add_key(&key, &hash).await?;
    Ok((key, secret))
}

/// Installs what TLS needs, once per process.
pub fn install_crypto() {
    // an error means that it was installed before, which is fine
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Loads the tokenizers in the background, so that the first step does not wait for them.
pub fn warm_up() {
    tokio::task::spawn_blocking(bursar_workers::tokens::warm_up);
}

/// Fires on SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Starts what works beside the line of missions, until `stop`: the sweep, schedules, bulk actions, and the pruning of
/// what is old.
pub fn start_keepers(engine: &Engine, config: &Config, stop: &CancellationToken) -> Result<(), BootError> {
    tokio::spawn(Sweeper::new(engine.clone(), lease(config)?).run(stop.clone()));
    tokio::spawn(Scheduler::new(engine.clone()).run(stop.clone()));
    tokio::spawn(Redriver::new(engine.clone()).run(stop.clone()));
    if let Some([details_ms, outputs_ms, missions_ms]) = config.retention.ages_ms()? {
        let retention = Retention { details_ms, outputs_ms, missions_ms };
        tokio::spawn(Pruner::new(engine.clone(), retention).run(stop.clone()));
    }
    Ok(())
}

/// How long a lease lasts.
pub fn lease(config: &Config) -> Result<Duration, BootError> {
    Ok(Duration::from_millis(config.lease_ms()?))
}
