//! Reading wallets through the HTTP API: as tables for people, or as the JSON that the API sent.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::bail;
use clap::Args;
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Client, Target};
use super::table::{Side, lines};
use crate::calendar::Month;
use crate::clock::Clock;

/// What all reads take.
#[derive(Debug, Args)]
pub struct Reading {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Another tenant's wallet (needs an admin key).
    #[arg(long, value_name = "ten_…")]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// What lists of operations take.
#[derive(Debug, Args)]
pub struct List {
    /// Only of these kinds, separated by commas.
    #[arg(long)]
    kind: Option<String>,
    /// Only of this mission.
    #[arg(long, value_name = "mis_…")]
    mission: Option<String>,
    /// Posted from then on: RFC 3339, or a date.
    #[arg(long)]
    from: Option<String>,
    /// Posted before.
    #[arg(long)]
    to: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print all of them as CSV.
    #[arg(long)]
    csv: bool,
}

impl List {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let given =
            [("kind", &self.kind), ("mission_id", &self.mission), ("from", &self.from), ("to", &self.to)].into_iter();
        given.filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

/// The most rows that the API gives at once.
const MOST_PER_PAGE: usize = 100;

struct Reader<'a> {
    client: Client,
    reading: &'a Reading,
}

impl<'a> Reader<'a> {
    fn new(reading: &'a Reading) -> anyhow::Result<Self> {
        Ok(Self { client: reading.target.client(reading.tenant.is_some())?, reading })
    }

    fn request(&self, path: &str, parameters: &[(&'static str, String)]) -> reqwest::RequestBuilder {
        let mut request = self.client.request(Method::GET, path);
        let mut separator = '?';
        let mut address = path.to_owned();
        for (name, value) in parameters {
            address.push(separator);
            address.extend([name, "=", &escaped(value)]);
            separator = '&';
        }
        if !parameters.is_empty() {
            request = self.client.request(Method::GET, &address);
        }
        match &self.reading.tenant {
            Some(tenant) => request.header("X-Bursar-Tenant", tenant),
            None => request,
        }
    }

    async fn one(&self, path: &str, parameters: &[(&'static str, String)]) -> anyhow::Result<Value> {
        Ok(self.client.send(self.request(path, parameters)).await?.json().await?)
    }

    /// At most `limit` rows of a list, page by page; the last page is given as it came, with all rows.
    async fn list(&self, path: &str, parameters: Vec<(&'static str, String)>, limit: usize) -> anyhow::Result<Value> {
        let mut rows: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut parameters = parameters.clone();
            parameters.push(("limit", limit.saturating_sub(rows.len()).clamp(1, MOST_PER_PAGE).to_string()));
            parameters.extend(cursor.map(|cursor| ("cursor", cursor)));
            let mut page = self.one(path, &parameters).await?;
            if let Value::Array(some) = page["data"].take() {
                rows.extend(some);
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || rows.len() >= limit {
                page["data"] = json!(rows);
                return Ok(page);
            }
        }
    }

    /// A file, byte for byte as it comes.
    async fn csv(&self, path: &str, mut parameters: Vec<(&'static str, String)>) -> anyhow::Result<()> {
        parameters.push(("format", "csv".to_owned()));
        let response = self.client.send(self.request(path, &parameters)).await?;
        let mut bytes = response.bytes_stream();
        let mut out = std::io::stdout().lock();
        while let Some(chunk) = bytes.next().await {
            out.write_all(&chunk?)?;
        }
        Ok(out.flush()?)
    }

    /// Prints JSON where it is asked for; otherwise the table.
    fn print(
        &self,
        body: &Value,
        head: &[(&str, Side)],
        row: impl Fn(&Value) -> Vec<Vec<String>>,
    ) -> anyhow::Result<()> {
        if self.reading.json {
            println!("{}", serde_json::to_string_pretty(body)?);
            return Ok(());
        }
        let rows: Vec<Vec<String>> = body["data"].as_array().into_iter().flatten().flat_map(row).collect();
        for line in lines(head, &rows) {
            println!("{line}");
        }
        if body["has_more"] == true {
            println!("(there are more: --limit, or --csv for all)");
        }
        Ok(())
    }
}

/// A value as it may stand in an address.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~,:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // writing to a string cannot fail
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The text of a field; a dash where there is none.
fn text(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn cells(value: &Value, fields: &[&str]) -> Vec<Vec<String>> {
    vec![fields.iter().map(|field| text(value, field)).collect()]
}

/// `bursar wallet show`
pub(super) async fn wallet(reading: &Reading) -> anyhow::Result<()> {
    let wallet = Reader::new(reading)?.one("/v1/wallet", &[]).await?;
    if reading.json {
        println!("{}", serde_json::to_string_pretty(&wallet)?);
        return Ok(());
    }
    for figure in ["available", "held", "debt"] {
        println!("{figure:<14} {:>20}", text(&wallet, figure));
    }
    for period in ["day", "month"] {
        let limit = wallet["limits"][period].as_str().map(|limit| format!(" of {limit}")).unwrap_or_default();
        println!("{:<14} {:>20}{limit}", format!("spent/{period}"), text(&wallet["spent"], period));
    }
    if let Some(limit) = wallet["limits"]["mission"].as_str() {
        println!("{:<14} {limit:>20}", "limit/mission");
    }
    for policy in ["overrun", "charge_failed"] {
        println!("{policy:<14} {:>20}", text(&wallet["policies"], policy));
    }
    if wallet["frozen"] == true {
        println!("the wallet is frozen: nothing new starts");
    }
    for alert in wallet["alerts"].as_array().into_iter().flatten() {
        println!("look at: {}, {} % used", text(alert, "code"), text(alert, "used_percent"));
    }
    Ok(())
}

/// `bursar wallet entries`
pub(super) async fn entries(list: &List, reading: &Reading) -> anyhow::Result<()> {
    let reader = Reader::new(reading)?;
    if list.csv {
        return reader.csv("/v1/wallet/entries", list.parameters()).await;
    }
    let body = reader.list("/v1/wallet/entries", list.parameters(), list.limit).await?;
    let head = [
        ("created", Side::Left),
        ("kind", Side::Left),
        ("amount", Side::Right),
        ("from", Side::Left),
        ("to", Side::Left),
        ("available after", Side::Right),
    ];
    reader.print(&body, &head, |entry| {
        let legs = entry["legs"].as_array().into_iter().flatten();
        let of_leg = |leg: &Value| {
            let created = text(entry, "created_at");
            let (kind, after) = (text(entry, "kind"), text(entry, "available_after"));
            vec![created, kind, text(leg, "amount"), text(leg, "from"), text(leg, "to"), after]
        };
        legs.map(of_leg).collect()
    })
}

/// `bursar wallet transactions`
pub(super) async fn transactions(holds: bool, list: &List, reading: &Reading) -> anyhow::Result<()> {
    let reader = Reader::new(reading)?;
    let mut parameters = list.parameters();
    if holds {
        parameters.push(("include", "holds".to_owned()));
    }
    if list.csv {
        return reader.csv("/v1/wallet/transactions", parameters).await;
    }
    let body = reader.list("/v1/wallet/transactions", parameters, list.limit).await?;
    let head = [
        ("created", Side::Left),
        ("kind", Side::Left),
        ("amount", Side::Right),
        ("balance after", Side::Right),
        ("reference", Side::Left),
        ("reason", Side::Left),
    ];
    let fields = ["created_at", "kind", "amount", "balance_after", "reference", "reason"];
    reader.print(&body, &head, |row| cells(row, &fields))
}

/// `bursar wallet statement`
pub(super) async fn statement(month: Option<String>, reading: &Reading) -> anyhow::Result<()> {
    let month = match month {
        None => Month::of(Clock::new().now()),
        Some(text) => match Month::parse(&text) {
            Some(month) => month,
            None => bail!("`{text}` is no month: write it as 2026-01"),
        },
    };
    let body = Reader::new(reading)?.one(&format!("/v1/wallet/statements/{month}"), &[]).await?;
    if reading.json {
        println!("{}", serde_json::to_string_pretty(&body)?);
        return Ok(());
    }
    let is_final = if body["is_final"] == true { "" } else { " (so far)" };
    println!("{}{is_final}, in UTC", text(&body, "month"));
    println!("{:<14} {:>20}", "opening", text(&body["opening"], "total"));
    for movement in body["movements"].as_array().into_iter().flatten() {
        if text(movement, "amount") != "0.000000" {
            println!("  {:<12} {:>20}", text(movement, "kind"), text(movement, "amount"));
        }
    }
    println!("{:<14} {:>20}", "closing", text(&body["closing"], "total"));
    for part in ["available", "held", "debt"] {
        println!("  {part:<12} {:>20}", text(&body["closing"], part));
    }
    Ok(())
}

/// `bursar wallet usage`
pub(super) async fn usage(by: &str, from: Option<String>, to: Option<String>, reading: &Reading) -> anyhow::Result<()> {
    let reader = Reader::new(reading)?;
    let mut parameters = vec![("group_by", by.to_owned())];
    parameters.extend([("from", from), ("to", to)].into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mut body = reader.list("/v1/wallet/usage", parameters, usize::MAX).await?;
    let fields = [
        "group",
        "calls",
        "input_tokens",
        "cache_read_tokens",
        "output_tokens",
        "reasoning_tokens",
        "billed",
        "unbilled",
        "pending",
    ];
    let head = [
        (by, Side::Left),
        ("calls", Side::Right),
        ("in", Side::Right),
        ("cached", Side::Right),
        ("out", Side::Right),
        ("reasoning", Side::Right),
        ("billed", Side::Right),
        ("unbilled", Side::Right),
        ("pending", Side::Right),
    ];
    if !reading.json {
        let mut total = body["total"].clone();
        total["group"] = json!("total");
        if let Some(rows) = body["data"].as_array_mut() {
            rows.push(total);
        }
    }
    reader.print(&body, &head, |group| cells(group, &fields))
}

/// `bursar wallet holds`
pub(super) async fn holds(reading: &Reading) -> anyhow::Result<()> {
    let reader = Reader::new(reading)?;
    let body = reader.list("/v1/wallet/holds", Vec::new(), usize::MAX).await?;
    let head = [
        ("hold", Side::Left),
        ("for", Side::Left),
        ("owner", Side::Left),
        ("mission", Side::Left),
        ("amount", Side::Right),
        ("used", Side::Right),
        ("created", Side::Left),
    ];
    let fields = ["id", "owner_kind", "owner_id", "mission_id", "amount", "used", "created_at"];
    reader.print(&body, &head, |hold| cells(hold, &fields))
}

/// `bursar wallet grants`
pub(super) async fn grants(reading: &Reading) -> anyhow::Result<()> {
    let reader = Reader::new(reading)?;
    let body = reader.list("/v1/wallet/grants", Vec::new(), usize::MAX).await?;
    let head = [
        ("grant", Side::Left),
        ("kind", Side::Left),
        ("priority", Side::Right),
        ("amount", Side::Right),
        ("remaining", Side::Right),
        ("expires", Side::Left),
        ("reason", Side::Left),
    ];
    let fields = ["id", "kind", "priority", "amount", "remaining", "expires_at", "reason"];
    reader.print(&body, &head, |grant| cells(grant, &fields))
}
