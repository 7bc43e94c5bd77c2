//! `bursar approval`: list, show, approve, reject, over the HTTP API.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Target;

/// `bursar approval …`
#[derive(Debug, Subcommand)]
pub enum Approval {
    /// List what is to be decided.
    List {
        /// Only of this mission (mis_…).
        #[arg(long, value_name = "ID")]
        mission: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Show what is to be decided, or what was.
    Show {
        /// The task that waits: tsk_…
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Say yes.
    Approve {
        /// The task that waits: tsk_…
        id: String,
        /// Why, for people and for the nodes that follow.
        #[arg(long)]
        comment: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Say no.
    Reject {
        /// The task that waits: tsk_…
        id: String,
        /// Why, for people and for the nodes that follow.
        #[arg(long)]
        comment: Option<String>,
        #[command(flatten)]
        target: Target,
    },
}

impl Approval {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { mission, json, target } => list(&target, mission.as_deref(), json).await?,
            Self::Show { id, json, target } => show(&target, &id, json).await?,
            Self::Approve { id, comment, target } => decide(&target, &id, "approved", comment).await?,
            Self::Reject { id, comment, target } => decide(&target, &id, "rejected", comment).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

async fn list(target: &Target, mission: Option<&str>, json: bool) -> anyhow::Result<()> {
    let filter = mission.map(|id| format!("&mission_id={id}")).unwrap_or_default();
    let page = target.client(false)?.get(&format!("/v1/approvals?limit=100{filter}")).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&page)?);
        return Ok(());
    }
    println!("{:<31} {:<20} {:<20} {:<31} EXPIRES", "APPROVAL", "WORKFLOW", "NODE", "MISSION");
    for approval in page["data"].as_array().into_iter().flatten() {
        let [id, workflow, node, mission, expires] =
            ["/id", "/workflow", "/node", "/mission_id", "/expires_at"].map(|pointer| text(approval, pointer));
        println!("{id:<31} {workflow:<20} {node:<20} {mission:<31} {expires}");
    }
    if page["has_more"] == true {
        println!("(more: use the API with next_cursor)");
    }
    Ok(())
}

async fn show(target: &Target, id: &str, json: bool) -> anyhow::Result<()> {
    let approval = target.client(false)?.get(&format!("/v1/approvals/{id}")).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&approval)?);
        return Ok(());
    }
    let [workflow, node, status] = ["/workflow", "/node", "/status"].map(|pointer| text(&approval, pointer));
    println!("{workflow} / {node}: {status}");
    if approval["decision"].is_null() {
        println!("to be decided until {}", text(&approval, "/expires_at"));
    } else {
        let [by, at, comment] =
            ["/decision/by", "/decision/at", "/decision/comment"].map(|pointer| text(&approval, pointer));
        println!("by {by} at {at}: {comment}");
    }
    println!("\n{}", text(&approval, "/shown"));
    Ok(())
}

async fn decide(target: &Target, id: &str, decision: &str, comment: Option<String>) -> anyhow::Result<()> {
    let client = target.client(false)?;
    let path = format!("/v1/approvals/{id}/decide");
    let body = json!({"decision": decision, "comment": comment});
    let decided: Value = client.send(client.request(Method::POST, &path).json(&body)).await?.json().await?;
    println!("{id} is {}", text(&decided, "/status"));
    Ok(())
}
