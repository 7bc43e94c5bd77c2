//! `bursar dlq`: dead letters: list, show, redrive, status, abort, over the HTTP API.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Client, Target};

/// How often `--watch` asks.
const PASS: Duration = Duration::from_secs(1);

/// `bursar dlq …`
#[derive(Debug, Subcommand)]
pub enum Dlq {
    /// List groups of missions that failed for the same reason, the latest failure first.
    List {
        #[command(flatten)]
        scope: Scope,
    },
    /// Show one group with its latest missions.
    Show {
        /// The group, as `bursar dlq list` shows it.
        fingerprint: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Try a group's missions again, a few each second.
    Redrive(Redrive),
    /// Show how far a redrive is.
    Status {
        /// blk_…
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
    /// Stop a redrive; missions that were tried again go on.
    Abort {
        /// blk_…
        id: String,
        #[command(flatten)]
        scope: Scope,
    },
}

/// Whose dead letters, and how they are shown.
#[derive(Debug, Args)]
pub struct Scope {
    /// Those of all tenants; needs an admin's key.
    #[arg(long)]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What to try again, and how fast.
#[derive(Debug, Args)]
pub struct Redrive {
    /// The group, as `bursar dlq list` shows it.
    fingerprint: String,
    /// Only show what would happen.
    #[arg(long)]
    dry_run: bool,
    /// Missions tried again in a second, 1 to 100 [default: 5].
    #[arg(long, value_name = "N")]
    per_second: Option<i64>,
    /// The most missions; the oldest go first.
    #[arg(long, value_name = "N")]
    limit: Option<i64>,
    /// Missions of one tenant, ten_…; needs an admin's key.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Makes it safe to repeat.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Follow it to its end. Fails when it is aborted.
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Scope {
    fn client(&self) -> anyhow::Result<Client> {
        self.target.client(self.all)
    }

    fn path(&self, rest: &str) -> String {
        if self.all { format!("/v1/admin/{rest}") } else { format!("/v1/{rest}") }
    }

    /// Prints the answer as JSON, or as lines for people.
    fn print(&self, answer: &Value, lines: impl Fn(&Value) -> Vec<String>) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(answer)?);
        } else {
            lines(answer).iter().for_each(|line| println!("{line}"));
        }
        Ok(())
    }
}

impl Dlq {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::List { scope } => {
                let page = scope.client()?.get(&scope.path("dead-letters?limit=100")).await?;
                scope.print(&page, groups)?;
            }
            Self::Show { fingerprint, scope } => {
                let path = scope.path(&format!("dead-letters/{fingerprint}?limit=20"));
                scope.print(&scope.client()?.get(&path).await?, group)?;
            }
            Self::Redrive(redrive) => return redrive.run().await,
            Self::Status { id, scope } => {
                let action = scope.client()?.get(&scope.path(&format!("bulk-actions/{id}"))).await?;
                scope.print(&action, action_lines)?;
            }
            Self::Abort { id, scope } => {
                let client = scope.client()?;
                let request = client.request(Method::POST, &scope.path(&format!("bulk-actions/{id}/abort")));
                let action: Value = client.send(request).await?.json().await?;
                scope.print(&action, action_lines)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Redrive {
    async fn run(mut self) -> anyhow::Result<ExitCode> {
        // only an operator may name a tenant
        self.scope.all |= self.tenant.is_some();
        let client = self.scope.client()?;
        let mut body = Map::from_iter([
            ("kind".to_owned(), json!("redrive")),
            ("fingerprint".to_owned(), json!(self.fingerprint)),
            ("dry_run".to_owned(), json!(self.dry_run)),
        ]);
        let numbers = [("per_second", self.per_second), ("limit", self.limit)];
        body.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), json!(number?)))));
        body.extend(self.tenant.as_ref().map(|tenant| ("tenant_id".to_owned(), json!(tenant))));
        let mut request = client.request(Method::POST, &self.scope.path("bulk-actions")).json(&body);
        if let Some(key) = &self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let answer: Value = client.send(request).await?.json().await?;
        if self.dry_run {
            self.scope.print(&answer, rehearsal)?;
        } else if self.watch {
            return self.follow(&client, answer).await;
        } else {
            self.scope.print(&answer, action_lines)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Asks until the action is over.
    async fn follow(&self, client: &Client, mut action: Value) -> anyhow::Result<ExitCode> {
        let id = text(&action, "/id");
        let is_terminal = std::io::stdout().is_terminal();
        while action["state"] == "running" {
            if is_terminal {
                print!("\r\x1b[2K{}", progress(&action));
                std::io::stdout().flush()?;
            }
            tokio::time::sleep(PASS).await;
            action = client.get(&self.scope.path(&format!("bulk-actions/{id}"))).await?;
        }
        if is_terminal {
            print!("\r\x1b[2K");
        }
        self.scope.print(&action, action_lines)?;
        Ok(if action["state"] == "done" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn groups(page: &Value) -> Vec<String> {
    let mut lines =
        vec![format!("{:<18} {:>8} {:<24} {:<20} {:<24} FAILURE", "GROUP", "MISSIONS", "LAST", "WORKFLOW", "NODE")];
    for row in page["data"].as_array().into_iter().flatten() {
        let cell = |pointer: &str| text(row, pointer);
        let message: String = cell("/message").chars().take(80).collect();
        lines.push(format!(
            "{:<18} {:>8} {:<24} {:<20} {:<24} {}: {message}",
            cell("/fingerprint"),
            cell("/missions"),
            cell("/last_at"),
            cell("/workflow"),
            cell("/node"),
            cell("/code"),
        ));
    }
    if page["has_more"] == true {
        lines.push("(more: use the API with next_cursor)".to_owned());
    }
    lines
}

fn group(page: &Value) -> Vec<String> {
    let cell = |pointer: &str| text(page, pointer);
    let mut lines = vec![
        format!(
            "{}: {} missions of {}, node {}",
            cell("/group/fingerprint"),
            cell("/group/missions"),
            cell("/group/workflow"),
            cell("/group/node")
        ),
        format!("  {}: {}", cell("/group/code"), cell("/group/message")),
        format!("  first {}, last {}", cell("/group/first_at"), cell("/group/last_at")),
    ];
    let missions = page["data"].as_array().into_iter().flatten();
    lines.extend(missions.map(|mission| format!("  {}  ended {}", text(mission, "/id"), text(mission, "/ended_at"))));
    if page["has_more"] == true {
        lines.push("  (more: use the API with next_cursor)".to_owned());
    }
    lines
}

fn reasons(answer: &Value) -> impl Iterator<Item = String> {
    let refusals = answer["refusals"].as_array().into_iter().flatten();
    refusals.map(|refusal| {
        let cell = |pointer: &str| text(refusal, pointer);
        format!("  {} not, for {} (e.g. {})", cell("/missions"), cell("/reason"), cell("/sample_id"))
    })
}

/// What a redrive would do, for people.
fn rehearsal(answer: &Value) -> Vec<String> {
    let cell = |pointer: &str| text(answer, pointer);
    let mut lines = vec![format!("{} of {} missions would be tried again", cell("/would_retry"), cell("/looked_at"))];
    if answer["total"] != answer["looked_at"] {
        lines.push(format!("  ({} are meant; these are the oldest of them)", cell("/total")));
    }
    lines.extend(reasons(answer));
    for node in answer["nodes"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  node {} ({}) runs in {}",
            text(node, "/node"),
            text(node, "/kind"),
            text(node, "/missions")
        ));
    }
    lines.push(format!(
        "  held {} if none ended, expected {} ({} to {})",
        cell("/hold_needed"),
        cell("/cost/expected"),
        cell("/cost/low"),
        cell("/cost/high"),
    ));
    lines
}

fn progress(action: &Value) -> String {
    let cell = |pointer: &str| text(action, pointer);
    format!(
        "{} {}: {} of {} had their turn, {} retried, {} refused, {} failed",
        cell("/id"),
        cell("/state"),
        cell("/progress/done"),
        cell("/progress/total"),
        cell("/progress/retried"),
        cell("/progress/refused"),
        cell("/progress/failed"),
    )
}

fn action_lines(action: &Value) -> Vec<String> {
    std::iter::once(progress(action)).chain(reasons(action)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_tells_counts_reasons_nodes_and_credits() {
        let shown = rehearsal(&json!({
            "total": 300, "looked_at": 200, "would_retry": 199, "would_refuse": 1, "hold_needed": "3.5",
            "refusals": [{"reason": "insufficient-credits", "missions": 1, "sample_id": "mis_1"}],
            "nodes": [{"node": "write", "kind": "agent", "missions": 199}],
            "cost": {"low": "1", "expected": "2", "high": "3"},
        }))
        .join("\n");
        for words in [
            "199 of 200",
            "300 are meant",
            "1 not, for insufficient-credits (e.g. mis_1)",
            "node write (agent) runs in 199",
            "held 3.5",
            "expected 2 (1 to 3)",
        ] {
            assert!(shown.contains(words), "{words} in\n{shown}");
        }
    }
}
