//! What admins do to a wallet: correct it, refund, write off, top up, freeze, limit.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::client::{Client, Target};

/// `bursar wallet correct …`: each posts a new operation or changes the terms; nothing is edited.
#[derive(Debug, Subcommand)]
pub enum Correct {
    /// Adjust the balance by hand, up or (with a minus) down.
    Adjust {
        /// How many credits, e.g. 5 or -2.5.
        #[arg(allow_negative_numbers = true)]
        amount: String,
        #[command(flatten)]
        why: Why,
    },
    /// Give part of a task's charge back.
    Refund {
        /// The task (`tsk_…`) or its settled hold (`hld_…`).
        of: String,
        /// How many credits.
        amount: String,
        #[command(flatten)]
        why: Why,
    },
    /// Give debt up.
    WriteOff {
        /// How many credits of debt.
        amount: String,
        #[command(flatten)]
        why: Why,
    },
    /// Add credits that were paid for elsewhere.
    TopUp {
        /// How many credits.
        amount: String,
        /// The payment's own id, unique for ever: the same again gives nothing.
        #[arg(long)]
        reference: String,
        /// What was paid in USD.
        #[arg(long)]
        paid_usd: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
    /// Make no new holds; what runs ends.
    Freeze(Whose),
    /// Make new holds again.
    Thaw(Whose),
    /// Change limits and policies; `none` lifts a limit.
    Terms {
        /// The most credits in a UTC day.
        #[arg(long)]
        day_limit: Option<String>,
        /// The most credits in a UTC month.
        #[arg(long)]
        month_limit: Option<String>,
        /// The most credits for one mission.
        #[arg(long)]
        mission_limit: Option<String>,
        /// A charge beyond a hold: debt or absorb.
        #[arg(long)]
        overrun: Option<String>,
        /// Failed tasks are charged: never, fault or always.
        #[arg(long)]
        charge_failed: Option<String>,
        #[command(flatten)]
        whose: Whose,
    },
}

/// Whose wallet.
#[derive(Debug, Args)]
pub struct Whose {
    /// The tenant; the key's own by default.
    #[arg(long, value_name = "ten_…")]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Why, and under which key.
#[derive(Debug, Args)]
pub struct Why {
    /// Why; kept with the operation.
    #[arg(long)]
    reason: String,
    /// The key of this one wish: the same again does nothing more [default: a new one].
    #[arg(long)]
    reference: Option<String>,
    #[command(flatten)]
    whose: Whose,
}

impl Correct {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Adjust { amount, why } => {
                let body = json!({"amount": amount, "reason": why.reason});
                why.post("/v1/wallet/adjustments", &body).await
            }
            Self::Refund { of, amount, why } => {
                let body = json!({"of": of, "amount": amount, "reason": why.reason});
                why.post("/v1/wallet/refunds", &body).await
            }
            Self::WriteOff { amount, why } => {
                let body = json!({"amount": amount, "reason": why.reason});
                why.post("/v1/wallet/write-offs", &body).await
            }
            Self::TopUp { amount, reference, paid_usd, whose } => {
                let body = json!({"amount": amount, "external_reference": reference, "paid_usd": paid_usd});
                let granted = whose.send(Method::POST, "/v1/wallet/top-ups", &body, None).await?;
                println!("added {amount} credits ({})", granted["id"].as_str().unwrap_or("?"));
                Ok(())
            }
            Self::Freeze(whose) => whose.change(&json!({"frozen": true})).await,
            Self::Thaw(whose) => whose.change(&json!({"frozen": false})).await,
            Self::Terms { day_limit, month_limit, mission_limit, overrun, charge_failed, whose } => {
                let mut body = Map::new();
                for (name, limit) in
                    [("day_limit", day_limit), ("month_limit", month_limit), ("mission_limit", mission_limit)]
                {
                    if let Some(limit) = limit {
                        body.insert(name.to_owned(), if limit == "none" { Value::Null } else { json!(limit) });
                    }
                }
                for (name, policy) in [("overrun", overrun), ("charge_failed", charge_failed)] {
                    if let Some(policy) = policy {
                        body.insert(name.to_owned(), json!(policy));
                    }
                }
                whose.change(&Value::Object(body)).await
            }
        }
    }
}

impl Why {
    async fn post(self, path: &str, body: &Value) -> anyhow::Result<()> {
        let reference = self.reference.unwrap_or_else(crate::clock::new_token);
        let op = self.whose.send(Method::POST, path, body, Some(&reference)).await?;
        let text = |field: &str| op[field].as_str().unwrap_or("?").to_owned();
        println!("{} {}: {} credits are available now", text("kind"), text("id"), text("available_after"));
        Ok(())
    }
}

impl Whose {
    async fn send(&self, method: Method, path: &str, body: &Value, key: Option<&str>) -> anyhow::Result<Value> {
        let client: Client = self.target.client(true)?;
        let mut request = client.request(method, path).json(body);
        if let Some(tenant) = &self.tenant {
            request = request.header("X-Bursar-Tenant", tenant);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        Ok(client.send(request).await?.json().await?)
    }

    async fn change(&self, body: &Value) -> anyhow::Result<()> {
        let wallet = self.send(Method::PATCH, "/v1/wallet", body, None).await?;
        println!("{}", serde_json::to_string_pretty(&wallet)?);
        Ok(())
    }
}
