//! `bursar schedule`: create, list, show, pause, resume, delete, run, over the HTTP API.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, Target, json_argument};

/// `bursar schedule …`
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Submit a mission again and again.
    Create(Box<Create>),
    /// List schedules, newest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show one schedule with its next times.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        one: One,
    },
    /// Stop firing until it is resumed.
    Pause(One),
    /// Fire again, from the next time on.
    Resume(One),
    /// Remove it; missions that it made go on.
    Delete(One),
    /// Submit its mission now, beside its times.
    Run(One),
}

/// What to submit, and when.
#[derive(Debug, Args)]
pub struct Create {
    /// What people call it; unique among the tenant's.
    name: String,
    /// When: five cron fields, six with seconds first, or a nickname such as @daily.
    #[arg(long)]
    cron: String,
    /// By the clocks of which time zone, e.g. Europe/Berlin.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// The workflow's name, or `name@version`.
    #[arg(long)]
    workflow: String,
    /// The input: a JSON object, or @FILE.
    #[arg(long, default_value = "{}")]
    input: String,
    /// The most one mission may spend, in credits.
    #[arg(long, value_name = "CREDITS")]
    max_credits: Option<String>,
    /// Higher goes first, -100 to 100.
    #[arg(long, allow_hyphen_values = true)]
    priority: Option<i64>,
    /// What usage is grouped by later; may be given more than once.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// While the last mission still runs.
    #[arg(long, default_value = "skip", value_parser = ["skip", "queue", "replace"])]
    overlap: String,
    /// After an outage.
    #[arg(long, default_value = "none", value_parser = ["none", "last"])]
    catch_up: String,
    /// Spread firings over so many milliseconds after their time.
    #[arg(long, default_value_t = 0)]
    jitter_ms: i64,
    /// Do not fire before it is resumed.
    #[arg(long)]
    paused: bool,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A schedule.
#[derive(Debug, Args)]
pub struct One {
    /// sch_…
    id: String,
    #[command(flatten)]
    target: Target,
}

impl Schedule {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(create) => create.run().await?,
            Self::List { json, target } => list(&target.client(false)?, json).await?,
            Self::Show { json, one } => {
                let schedule = one.target.client(false)?.get(&format!("/v1/schedules/{}", one.id)).await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&schedule)?);
                } else {
                    show(&schedule);
                }
            }
            Self::Pause(one) => one.act("pause").await?,
            Self::Resume(one) => one.act("resume").await?,
            Self::Delete(one) => {
                let client = one.target.client(false)?;
                client.send(client.request(Method::DELETE, &format!("/v1/schedules/{}", one.id))).await?;
                println!("{} is gone", one.id);
            }
            Self::Run(one) => {
                let client = one.target.client(false)?;
                let path = format!("/v1/schedules/{}/run", one.id);
                let mission: Value = client.send(client.request(Method::POST, &path)).await?.json().await?;
                println!("{}", text(&mission, "/id"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Create {
    async fn run(self) -> anyhow::Result<()> {
        let client = self.target.client(false)?;
        let mut mission = json!({"workflow": self.workflow, "input": json_argument(&self.input)?, "tags": self.tags});
        if let Some(credits) = self.max_credits {
            mission["budget"] = json!({"max_credits": credits});
        }
        if let Some(priority) = self.priority {
            mission["priority"] = json!(priority);
        }
        let body = json!({
            "name": self.name, "cron": self.cron, "zone": self.zone, "mission": mission, "overlap": self.overlap,
            "catch_up": self.catch_up, "jitter_ms": self.jitter_ms, "paused": self.paused,
        });
        let made: Value = client.send(client.request(Method::POST, "/v1/schedules").json(&body)).await?.json().await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&made)?);
        } else {
            println!("{}", text(&made, "/id"));
        }
        Ok(())
    }
}

impl One {
    async fn act(self, what: &str) -> anyhow::Result<()> {
        let client = self.target.client(false)?;
        let path = format!("/v1/schedules/{}/{what}", self.id);
        let schedule: Value = client.send(client.request(Method::POST, &path)).await?.json().await?;
        println!("{} is {}; it fires next at {}", self.id, text(&schedule, "/status"), text(&schedule, "/next_at"));
        Ok(())
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned()
}

async fn list(client: &Client, json: bool) -> anyhow::Result<()> {
    let page = client.get("/v1/schedules?limit=100").await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&page)?);
        return Ok(());
    }
    println!(
        "{:<31} {:<20} {:<7} {:<18} {:<18} {:<24} LAST ERROR",
        "SCHEDULE", "NAME", "STATUS", "CRON", "ZONE", "NEXT"
    );
    for row in page["data"].as_array().into_iter().flatten() {
        let cell = |pointer: &str| text(row, pointer);
        let (id, name, status) = (cell("/id"), cell("/name"), cell("/status"));
        let (cron, zone, next) = (cell("/cron"), cell("/zone"), cell("/next_at"));
        println!("{id:<31} {name:<20} {status:<7} {cron:<18} {zone:<18} {next:<24} {}", cell("/last_error/code"));
    }
    if page["has_more"] == true {
        println!("(more: use the API with next_cursor)");
    }
    Ok(())
}

fn show(schedule: &Value) {
    let cell = |pointer: &str| text(schedule, pointer);
    println!("{} ({}), {}", cell("/name"), cell("/id"), cell("/status"));
    println!("  {} in {}, submits {}", cell("/cron"), cell("/zone"), cell("/mission/workflow"));
    println!("  overlap {}, catch up {}", cell("/overlap"), cell("/catch_up"));
    println!("  made {} missions, skipped {}, refused {}", schedule["fired"], schedule["skipped"], schedule["refused"]);
    println!("  last fired for {}: {}", cell("/last_fired_at"), cell("/last_mission_id"));
    if schedule["last_error"].is_object() {
        println!("  last error: {}: {}", cell("/last_error/code"), cell("/last_error/message"));
    }
    for time in schedule["next"].as_array().into_iter().flatten() {
        println!("  next {}", time.as_str().unwrap_or("-"));
    }
}
