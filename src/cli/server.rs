//! `bursar server`: the API and the dashboard; with `--with-workers` everything on one machine.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::worker;
use crate::boot;
use crate::config::Config;
use crate::engine::Engine;
use crate::http::{self, App, HttpSettings};

/// How long open requests and streams may take to end when the process stops.
const HTTP_GRACE: Duration = Duration::from_secs(10);

/// Options of `bursar server`.
#[derive(Debug, Args)]
pub struct Server {
    /// The port [default: `PORT`, else 8080].
    #[arg(long)]
    port: Option<u16>,
    /// Also run workers in this process, for single-box installs.
    #[arg(long)]
    with_workers: bool,
    /// Serve `/metrics` on this port of the loopback address; without it, nowhere.
    #[arg(long)]
    metrics_port: Option<u16>,
}

impl Server {
    pub(super) async fn run(self, config: Config) -> anyhow::Result<ExitCode> {
        super::start_logs("info");
        let url = super::database_url(&config)?;
        let stop = CancellationToken::new();
        let engine = boot::engine(&config, &url, &stop).await?;
        boot::check_schema(&engine).await?;
        let listener = listen(&config, self.port, "0.0.0.0").await?;
        let app = app(&engine, &config, &listener)?;
        let workers = if self.with_workers {
            Some(worker::start(&engine, &config, &worker::default_pools(&config, 64), &stop)?)
        } else {
            boot::start_keepers(&engine, &config, &stop)?;
            None
        };
        if let Some(port) = self.metrics_port {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.context("the metrics port")?;
            tokio::spawn(http::serve(listener, http::metrics_router(app.clone()), stop.clone(), HTTP_GRACE));
        }
        tracing::info!(address = %listener.local_addr()?, url = app.settings.public_url, "serving");
        let closing = CancellationToken::new();
        let served = tokio::spawn(http::serve(listener, router(&app), closing.clone(), HTTP_GRACE));
        boot::stop_signal().await;
        closing.cancel();
        if let Some(workers) = workers {
            worker::drain(workers, &config).await?;
        }
        let _ = served.await;
        stop.cancel();
        engine.store().close().await;
        Ok(ExitCode::SUCCESS)
    }
}

/// API and dashboard.
pub(super) fn router(app: &App) -> axum::Router {
    http::router(app.clone()).merge(crate::dashboard::router(app.clone()))
}

/// Binds the public address.
pub(super) async fn listen(config: &Config, port: Option<u16>, default_bind: &str) -> anyhow::Result<TcpListener> {
    let port = port.or(config.port).unwrap_or(8080);
    let bind = config.bind.as_deref().unwrap_or(default_bind);
    TcpListener::bind((bind, port))
        .await
        .with_context(|| format!("{bind}:{port} can't be used; choose another with --port or PORT"))
}

/// What handlers see.
pub(super) fn app(engine: &Engine, config: &Config, listener: &TcpListener) -> anyhow::Result<App> {
    let port = listener.local_addr()?.port();
    let public_url = config.public_url.clone().unwrap_or_else(|| format!("http://localhost:{port}"));
    let session_secret = session_secret(config);
    let settings = HttpSettings { public_url, top_up_url: config.top_up_url.clone(), session_secret };
    Ok(App { engine: engine.clone(), settings: Arc::new(settings) })
}

/// 32 bytes that sign sessions: from the configured secret, else random.
fn session_secret(config: &Config) -> [u8; 32] {
    use sha2::Digest as _;
    match &config.session_secret {
        Some(secret) => sha2::Sha256::digest(secret.expose().as_bytes()).into(),
        None => sha2::Sha256::digest(crate::clock::new_token().as_bytes()).into(),
    }
}
