//! `bursar migrate`: the schema, and the first price book that new runs pin.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::boot;
use crate::config::Config;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let url = super::database_url(config)?;
    let prices = boot::price_book(config.prices.as_deref())?;
    let without_redis = Config { redis_url: None, ..config.clone() };
    let engine = boot::engine(&without_redis, &url, &CancellationToken::new()).await?;
    if boot::migrate(&engine, &prices, config.prices.is_some()).await? {
        println!("The schema is up to date; the price book `{}` is active.", prices.name());
    } else {
        println!("The schema is up to date; another price book than `{}` stays active.", prices.name());
        println!("`bursar prices list` shows them, `bursar prices activate ID` takes another.");
    }
    engine.store().close().await;
    Ok(ExitCode::SUCCESS)
}
