//! Retry, fork and cancel from the command line, and what they would do, as a table.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Target, json_argument};

/// A mission that was over goes on.
#[derive(Debug, Args)]
pub struct Renewal {
    /// mis_…
    id: String,
    /// Only show what would happen.
    #[arg(long)]
    preview: bool,
    /// Makes it safe to repeat.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// What a fork needs beyond.
#[derive(Debug, Args)]
pub struct Fork {
    /// The node from which on everything runs anew.
    #[arg(long, value_name = "NODE")]
    from: String,
    /// What to change about the input: a JSON Merge Patch, or @FILE.
    #[arg(long, value_name = "JSON")]
    input_patch: Option<String>,
    /// Another version of the workflow.
    #[arg(long, value_name = "N")]
    version: Option<i64>,
    #[command(flatten)]
    renewal: Renewal,
}

impl Renewal {
    /// Retries.
    pub(super) async fn retry(self) -> anyhow::Result<ExitCode> {
        self.order("retry", &json!({})).await
    }

    async fn order(self, action: &str, body: &Value) -> anyhow::Result<ExitCode> {
        let client = self.target.client(false)?;
        let path = format!("/v1/missions/{}/{action}?preview={}", self.id, self.preview);
        let mut request = client.request(Method::POST, &path).json(body);
        if let Some(key) = self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let answer: Value = client.send(request).await?.json().await?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&answer)?);
        } else if self.preview {
            print!("{}", table(&answer));
        } else {
            println!("{} is {}", self.id, answer["status"].as_str().unwrap_or("?"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Fork {
    /// Forks.
    pub(super) async fn fork(self) -> anyhow::Result<ExitCode> {
        let mut body = Map::from_iter([("from_node".to_owned(), json!(self.from))]);
        if let Some(patch) = &self.input_patch {
            body.insert("input_patch".to_owned(), json_argument(patch)?);
        }
        if let Some(version) = self.version {
            body.insert("version".to_owned(), json!(version));
        }
        self.renewal.order("fork", &Value::Object(body)).await
    }
}

/// What a cancel would do.
pub(super) async fn preview_cancel(target: &Target, id: &str) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let request = client.request(Method::POST, &format!("/v1/missions/{id}/cancel?preview=true")).json(&json!({}));
    let told: Value = client.send(request).await?.json().await?;
    let names = |key: &str| {
        let names: Vec<&str> = told[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    println!("ends at once:  {}", names("ends"));
    println!("is stopped:    {}", names("stops"));
    for (name, key) in [("charged", "charged"), ("released", "released"), ("still held", "held")] {
        println!("{:<14} {}", format!("{name}:"), told[key].as_str().unwrap_or("?"));
    }
    Ok(ExitCode::SUCCESS)
}

/// A preview for people.
fn table(preview: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let mut lines = vec![format!("{:<24} {:<10} {:<8} {:>14} {:>14}", "NODE", "KIND", "BEGINS", "HOLD", "EXPECTED")];
    for node in preview["nodes"].as_array().into_iter().flatten() {
        lines.push(format!(
            "{:<24} {:<10} {:<8} {:>14} {:>14}",
            text(&node["node"]),
            text(&node["kind"]),
            if node["begins"] == true { "at once" } else { "later" },
            text(&node["hold"]),
            text(&node["cost"]["expected"]),
        ));
    }
    lines.push(format!("{} tasks keep what came out of them", preview["kept"].as_i64().unwrap_or(0)));
    lines.push(format!(
        "held at once {}, expected {} ({} to {}), flat fee {} included",
        text(&preview["hold_needed"]),
        text(&preview["cost"]["expected"]),
        text(&preview["cost"]["low"]),
        text(&preview["cost"]["high"]),
        text(&preview["fee"]),
    ));
    if let Some(refusal) = preview["refusal"].as_str() {
        lines.push(format!("it would be refused: {refusal}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preview_names_nodes_and_credits_and_why_it_would_be_refused() {
        let cost = json!({"low": "0.1", "expected": "0.2", "high": "0.3"});
        let node = json!({"node": "write", "kind": "agent", "begins": true, "hold": "0.5", "cost": cost});
        let shown = table(&json!({
            "nodes": [node], "kept": 2, "fee": "1", "hold_needed": "1.5", "cost": cost, "refusal": "too dear",
        }));
        for words in ["write", "at once", "2 tasks keep", "held at once 1.5", "0.1 to 0.3", "refused: too dear"] {
            assert!(shown.contains(words), "{words} in\n{shown}");
        }
    }
}
