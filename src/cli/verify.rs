//! `bursar verify`: the auditor. Exits 1 when anything is violated.

use std::process::ExitCode;

use clap::Args;

use crate::config::Config;
use crate::store;

/// Options of `bursar verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The folder of `bursar dev` to verify, where `DATABASE_URL` is not set.
    #[arg(long, value_name = "DIR", default_value = ".bursar")]
    data: std::path::PathBuf,
}

impl Verify {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        let embedded = self.data.join("bursar.db");
        let url = match &config.database_url {
            None if embedded.exists() => format!("sqlite://{}", embedded.display()),
            _ => super::database_url(config)?,
        };
        let store = store::open(&url, 2).await?;
        store.check_schema().await?;
        let report = crate::verify::verify(&store).await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report.to_json())?);
        } else {
            println!("{}", report.to_text());
        }
        store.close().await;
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
