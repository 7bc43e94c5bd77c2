//! `bursar mission say` and `bursar mission messages`: a mission as a conversation, over the HTTP API.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::Target;

/// Says something and tells what it did.
pub(super) async fn say(
    target: &Target,
    id: &str,
    text: &str,
    idempotency_key: Option<String>,
) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let path = format!("/v1/missions/{id}/messages");
    let mut request = client.request(Method::POST, &path).json(&json!({"content": text}));
    if let Some(key) = idempotency_key {
        request = request.header("Idempotency-Key", key);
    }
    let message: Value = client.send(request).await?.json().await?;
    let (id, run) = (message["id"].as_str().unwrap_or_default(), message["run_id"].as_str().unwrap_or_default());
    match message["effect"].as_str() {
        Some("begins_run") => println!("{id} begins {run}"),
        _ => println!("{id} steers {run}: agents hear of it with their next call"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the whole conversation.
pub(super) async fn messages(target: &Target, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let client = target.client(false)?;
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/v1/missions/{id}/messages?limit=100{cursor}")).await?;
        for message in page["data"].as_array().into_iter().flatten() {
            if json {
                println!("{message}");
                continue;
            }
            let text = |field: &str| message[field].as_str().unwrap_or("-");
            println!("#{} {} {} {}", message["number"], text("role"), text("author"), text("created_at"));
            for line in message["content"].as_str().unwrap_or("(pruned)").lines() {
                println!("    {line}");
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}
