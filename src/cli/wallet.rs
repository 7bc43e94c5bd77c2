//! `bursar wallet`: what a tenant has, and giving it more.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Target;

/// `bursar wallet …`
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Show the key's wallet: available, held, owed.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Give credits (needs an admin key).
    Grant {
        /// How many credits, e.g. 25 or 0.5.
        amount: String,
        /// The tenant; the key's own by default.
        #[arg(long, value_name = "ten_…")]
        tenant: Option<String>,
        /// promo, included, paid, refund or adjust.
        #[arg(long, default_value = "paid")]
        kind: String,
        /// Why.
        #[arg(long)]
        reason: Option<String>,
        /// The unique reference of this grant (an invoice number): the same again gives nothing.
        #[arg(long)]
        reference: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

impl Wallet {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show { json, target } => {
                let wallet = target.client(false)?.get("/v1/wallet").await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&wallet)?);
                } else {
                    for figure in ["available", "held", "debt"] {
                        println!("{figure:<10} {:>20}", wallet[figure].as_str().unwrap_or("?"));
                    }
                }
            }
            Self::Grant { amount, tenant, kind, reason, reference, target } => {
                let client = target.client(true)?;
                let mut body = json!({"amount": amount, "kind": kind, "reason": reason});
                if let Some(tenant) = tenant {
                    body["tenant_id"] = json!(tenant);
                }
                let reference = reference.unwrap_or_else(crate::clock::new_token);
                let request =
                    client.request(Method::POST, "/v1/wallet/grants").header("Idempotency-Key", reference).json(&body);
                let granted: Value = client.send(request).await?.json().await?;
                println!("granted {amount} credits ({})", granted["id"].as_str().unwrap_or("?"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
