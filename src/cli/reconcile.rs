//! `bursar reconcile`: queue beside store, ledger beside usage. Exits 1 when something differs or could not be looked at.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use crate::clock::Clock;
use crate::config::Config;
use crate::link::RedisLink;
use crate::queue::{Queue, RedisQueue};
use crate::store;

/// Options of `bursar reconcile`.
#[derive(Debug, Args)]
pub struct Reconcile {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The folder of `bursar dev`, where `DATABASE_URL` is not set.
    #[arg(long, value_name = "DIR", default_value = ".bursar")]
    data: std::path::PathBuf,
}

impl Reconcile {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let embedded = self.data.join("bursar.db");
        let url = match &config.database_url {
            None if embedded.exists() => format!("sqlite://{}", embedded.display()),
            _ => super::database_url(config)?,
        };
        let store = store::open(&url, 2).await?;
        store.check_schema().await?;
        let (clock, asked) = (Arc::new(Clock::new()), Instant::now());
        clock.synchronise(store.time().await?, asked);
        let queue: Option<Arc<dyn Queue>> = match &config.redis_url {
            None => None,
            Some(url) => Some(Arc::new(RedisQueue::new(RedisLink::new(url)?, clock.clone()))),
        };
        let report = crate::reconcile::reconcile(&store, queue.as_ref(), &clock).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            println!("{}", report.to_text());
        }
        if queue.is_none() {
            eprintln!(
                "REDIS_URL is not set: a queue in memory is seen only by its own process, ask it with \
                 GET /v1/admin/reconciliation"
            );
        }
        store.close().await;
        Ok(if report.agrees { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
