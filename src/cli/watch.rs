//! Shows a mission live in the terminal, from its event stream. Reconnects by itself without a gap.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::client::Client;

/// How often a broken stream is opened again before giving up.
const MOST_RECONNECTS: u32 = 30;

/// Follows a mission to its end.
pub(super) async fn watch(client: &Client, id: &str) -> anyhow::Result<ExitCode> {
    let mut view = View::new();
    let mut after: i64 = 0;
    for _ in 0..MOST_RECONNECTS {
        match follow(client, id, &mut after, &mut view).await {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => {}
            Err(error) if after == 0 && !view.has_begun => return Err(error),
            Err(error) => view.line(&format!("… {error}; reconnecting")),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("the stream broke {MOST_RECONNECTS} times; `bursar mission watch {id}` goes on where it stopped")
}

/// One connection; the exit code when the mission is over.
async fn follow(client: &Client, id: &str, after: &mut i64, view: &mut View) -> anyhow::Result<Option<ExitCode>> {
    let path = format!("/v1/missions/{id}/stream?after={after}");
    let response = client.send(client.request(Method::GET, &path)).await?;
    if response.status() == StatusCode::NO_CONTENT {
        let mission = client.get(&format!("/v1/missions/{id}")).await?;
        return Ok(Some(view.end(mission["status"].as_str().unwrap_or("?"))));
    }
    let mut bytes = response.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(chunk) = bytes.next().await {
        buffer.extend_from_slice(&chunk?);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = buffer.drain(..end + 2).collect();
            let Some(event) = parse(&String::from_utf8_lossy(&block)) else { continue };
            if let Some(seq) = event["seq"].as_i64() {
                *after = seq;
            }
            if let Some(code) = view.show(&event) {
                return Ok(Some(code));
            }
        }
    }
    Ok(None)
}

/// The JSON of one server-sent event; comments have none.
fn parse(block: &str) -> Option<Value> {
    let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim_start).collect();
    serde_json::from_str(&data.join("\n")).ok()
}

/// What is on the screen.
struct View {
    has_begun: bool,
    colours: bool,
    /// Words said so far by running nodes.
    said: BTreeMap<String, usize>,
    status_shown: bool,
    /// How the run ended that was seen to end last.
    ended: Option<String>,
}

impl View {
    fn new() -> Self {
        Self {
            has_begun: false,
            colours: std::io::stdout().is_terminal(),
            said: BTreeMap::new(),
            status_shown: false,
            ended: None,
        }
    }

    /// Shows one event; the exit code when it is the last.
    fn show(&mut self, event: &Value) -> Option<ExitCode> {
        self.has_begun = true;
        let kind = event["type"].as_str().unwrap_or_default();
        let node = event["task"]["node"].as_str().unwrap_or_default().to_owned();
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        match kind {
            "task.started" => self.line(&self.paint("36", &format!("▶ {node}"))),
            "task.delta" | "task.delta_snapshot" => {
                *self.said.entry(node).or_default() += text("text").split_whitespace().count();
                self.status();
            }
            "task.succeeded" => {
                self.said.remove(&node);
                let usage = &data["usage"];
                let tokens = usage["input_tokens"]
                    .as_i64()
                    .map(|input| format!("  {input} → {} tokens", usage["output_tokens"].as_i64().unwrap_or(0)));
                let ms = data["duration_ms"].as_i64().unwrap_or(0);
                let line = format!("✔ {node}  {} credits{}  {ms} ms", text("credits"), tokens.unwrap_or_default());
                self.line(&self.paint("32", &line));
            }
            "task.retrying" | "task.waiting" => {
                let why = data["error"]["message"].as_str().map_or_else(|| text("reason"), str::to_owned);
                self.line(&self.paint("33", &format!("… {node}: {why}")));
            }
            "task.tool_call" => self.line(&self.paint("36", &format!("⚒ {node}: {}", text("tool")))),
            "task.failed" => {
                let why = data["error"]["message"].as_str().unwrap_or("failed");
                self.line(&self.paint("31", &format!("✘ {node}: {why}")));
            }
            "task.cancelled" | "task.skipped" => self.line(&format!("- {node} {}", &kind["task.".len()..])),
            "mission.succeeded" | "mission.failed" | "mission.cancelled" | "mission.expired" => {
                let total = text("credits");
                if !total.is_empty() {
                    self.line(&format!("charged {total} credits (flat fee {} included)", text("fee")));
                }
                if let Some(why) = data["error"]["message"].as_str() {
                    self.line(&self.paint("31", why));
                }
                self.ended = Some(kind["mission.".len()..].to_owned());
            }
            "mission.retried" | "mission.forked" => {
                self.ended = None;
                self.line(&self.paint("36", &format!("mission {}", &kind["mission.".len()..])));
            }
            // a run that ended may have been retried since: only the end of the stream is the end
            "stream.end" => return self.ended.take().map(|status| self.end(&status)),
            _ => {}
        }
        None
    }

    fn end(&mut self, status: &str) -> ExitCode {
        let good = status == "succeeded";
        self.line(&self.paint(if good { "1;32" } else { "1;31" }, &format!("mission {status}")));
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// The running nodes with what they said, on one line that is written over; only on a terminal.
    fn status(&mut self) {
        if !self.colours {
            return;
        }
        let nodes: Vec<String> = self.said.iter().map(|(node, words)| format!("{node}: {words} words")).collect();
        let line: String = nodes.join("  ").chars().take(100).collect();
        print!("\r\x1b[2K\x1b[2m  {line}\x1b[0m");
        let _ = std::io::stdout().flush();
        self.status_shown = true;
    }

    fn line(&mut self, text: &str) {
        let clear = if std::mem::take(&mut self.status_shown) { "\r\x1b[2K" } else { "" };
        println!("{clear}{text}");
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_carry_nothing_and_data_lines_are_joined() {
        assert_eq!(parse(": heartbeat\n\n"), None);
        assert_eq!(parse("id: 3\nevent: x\ndata: {\"a\":\ndata: 1}\n\n"), Some(serde_json::json!({"a": 1})));
    }
}
