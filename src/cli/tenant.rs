//! `bursar tenant`: list tenants and set their shares, over the HTTP API with an admin's key.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Target};

/// `bursar tenant …`
#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// List all tenants, newest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Set a tenant's share of workers and how many missions it may have at once.
    Set(Set),
}

/// A tenant and its shares.
#[derive(Debug, Args)]
pub struct Set {
    /// Its name, or ten_…
    tenant: String,
    /// How much of the workers it gets beside others (1 to 1,000; a new tenant has 1).
    #[arg(long)]
    weight: Option<i64>,
    /// How many missions that are not over it may have, or `none` for any number.
    #[arg(long, value_name = "NUMBER|none")]
    max_queued: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Tenant {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { json, target } => {
                let rows = all(&target.client(true)?).await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&rows)?);
                } else {
                    println!("{:<31} {:>6} {:>12} NAME", "TENANT", "WEIGHT", "MAX QUEUED");
                    for row in rows {
                        println!("{}", line(&row));
                    }
                }
            }
            Self::Set(set) => set.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Set {
    async fn run(self) -> anyhow::Result<()> {
        let mut body = Map::new();
        body.extend(self.weight.map(|weight| ("weight".to_owned(), json!(weight))));
        if let Some(text) = &self.max_queued {
            let most = match text.as_str() {
                "none" => Value::Null,
                number => json!(number.parse::<i64>().context("--max-queued takes a number or `none`")?),
            };
            body.insert("max_queued".to_owned(), most);
        }
        if body.is_empty() {
            bail!("name what to set: --weight, --max-queued");
        }
        let client = self.target.client(true)?;
        let id =
            if self.tenant.starts_with("ten_") { self.tenant.clone() } else { named(&client, &self.tenant).await? };
        let request = client.request(Method::PATCH, &format!("/v1/admin/tenants/{id}")).json(&body);
        let tenant: Value = client.send(request).await?.json().await?;
        println!("{}", if self.json { serde_json::to_string_pretty(&tenant)? } else { line(&tenant) });
        Ok(())
    }
}

/// All tenants, page by page.
async fn all(client: &Client) -> anyhow::Result<Vec<Value>> {
    let mut rows = Vec::new();
    let mut path = "/v1/admin/tenants?limit=100".to_owned();
    loop {
        let mut page = client.get(&path).await?;
        if let Value::Array(data) = page["data"].take() {
            rows.extend(data);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/admin/tenants?limit=100&cursor={cursor}"),
            None => return Ok(rows),
        }
    }
}

async fn named(client: &Client, name: &str) -> anyhow::Result<String> {
    let rows = all(client).await?;
    let found = rows.iter().find(|row| row["name"] == name).and_then(|row| row["id"].as_str());
    found.map(str::to_owned).with_context(|| format!("there is no tenant `{name}`; `bursar tenant list` shows all"))
}

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or("-").to_owned();
    let most = row["max_queued"].as_i64().map_or_else(|| "-".to_owned(), |most| most.to_string());
    format!("{:<31} {:>6} {most:>12} {}", text("id"), row["weight"], text("name"))
}
