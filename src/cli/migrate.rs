//! `bursar migrate`: the schema, and the price book that new runs pin.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::Config;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let url = super::database_url(config)?;
    let prices = boot::price_book(config.prices.as_deref())?;
    let without_redis = Config { redis_url: None, ..config.clone() };
    let engine = boot::engine(&without_redis, &url, &CancellationToken::new()).await?;
    boot::migrate(&engine, &prices).await?;
    println!("The schema is up to date; the price book `{}` is active.", prices.name());
    engine.store().close().await;
    Ok(ExitCode::SUCCESS)
}
