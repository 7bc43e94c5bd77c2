//! `bursar wallet`: what a tenant has and where it went, giving it more, and bringing wallets over from elsewhere.

mod correct;
mod import;
mod show;
mod table;

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Target;
use crate::config::Config;

/// `bursar wallet …`
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Show the wallet: available, held, owed, limits, and what to look at.
    Show {
        #[command(flatten)]
        reading: show::Reading,
    },
    /// List ledger entries, newest first: every movement between accounts.
    Entries {
        #[command(flatten)]
        list: show::List,
        #[command(flatten)]
        reading: show::Reading,
    },
    /// List transactions, newest first: what was gained and spent.
    Transactions {
        /// Also show what only moved between available and held.
        #[arg(long)]
        holds: bool,
        #[command(flatten)]
        list: show::List,
        #[command(flatten)]
        reading: show::Reading,
    },
    /// Show the statement of a UTC month: opening, every kind of movement, closing.
    Statement {
        /// The month, as 2026-01 [default: this month].
        month: Option<String>,
        #[command(flatten)]
        reading: show::Reading,
    },
    /// Show what calls used, and who paid.
    Usage {
        /// day, model, workflow or tag.
        #[arg(long, default_value = "day")]
        by: String,
        /// From then on: RFC 3339, or a date [default: the first of this month].
        #[arg(long)]
        from: Option<String>,
        /// Up to then, not including it [default: now].
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        reading: show::Reading,
    },
    /// List open holds: what is reserved, and for whom.
    Holds {
        #[command(flatten)]
        reading: show::Reading,
    },
    /// List grants, newest first.
    Grants {
        #[command(flatten)]
        reading: show::Reading,
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
    /// Correct a wallet, refund, write off, top up, freeze, limit (needs an admin key).
    #[command(subcommand)]
    Correct(correct::Correct),
    /// Bring wallets over from another system: one grant for each line of a CSV file, on the database itself. The same
    /// file again changes nothing. docs/wallet-import.md describes the columns.
    Import(import::Import),
}

impl Wallet {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<ExitCode> {
        match self {
            Self::Show { reading } => show::wallet(&reading).await?,
            Self::Entries { list, reading } => show::entries(&list, &reading).await?,
            Self::Transactions { holds, list, reading } => show::transactions(holds, &list, &reading).await?,
            Self::Statement { month, reading } => show::statement(month, &reading).await?,
            Self::Usage { by, from, to, reading } => show::usage(&by, from, to, &reading).await?,
            Self::Holds { reading } => show::holds(&reading).await?,
            Self::Grants { reading } => show::grants(&reading).await?,
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
            Self::Correct(correct) => correct.run().await?,
            Self::Import(import) => return import.run(config).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}
