//! Tools of an MCP server while the worker dies by `kill -9`: the server's own journal says what it was asked to do.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::PATIENCE;
use super::processes::{Installation, items};
use crate::support::mcp::McpServer;
use crate::support::{eventually, unique_name};

/// A server that runs, and a configuration that names it.
fn desk() -> (McpServer, String) {
    let folder: PathBuf = std::env::temp_dir().join(unique_name("bursar-mcp"));
    let mut server = McpServer::prepare(folder);
    server.serve(None);
    let settings = format!(
        "[mcp.servers.shop]\nurl = \"{}\"\nallow_private = true\n\
         [mcp.servers.shop.tools.look]\neffects = \"none\"\n\
         [mcp.servers.shop.tools.order]\nname = \"slow\"\neffects = \"once\"\ntimeout = \"60s\"\n",
        server.url()
    );
    let config = server.folder.join("bursar.toml");
    std::fs::write(&config, settings).unwrap();
    let config = config.display().to_string();
    (server, config)
}

/// A step that uses a tool as the simulated model is told to.
fn shopping(tool: &str, directive: &str) -> String {
    format!(
        "{{workflow: shopping, flat_fee: 0, agents: {{buyer: {{instructions: 'You buy.', model: simulated-small, \
          max_output_tokens: 100, tools: [mcp__shop__{tool}]}}}}, nodes: {{buy: {{agent: buyer, retry: {{max_attempts: 1}}, \
          prompt: 'Go [[simulate tool=mcp__shop__{tool} args={{\"n\":$n}} {directive}]]'}}}}, \
          outputs: {{said: nodes.buy.output}}}}"
    )
}

async fn over(installation: &Installation, mission: &str) -> Value {
    let path = format!("/v1/missions/{mission}");
    eventually("the mission is over", PATIENCE, || async {
        let mission = installation.get(&path).await?;
        ["succeeded", "failed"].contains(&mission["status"].as_str()?).then_some(mission)
    })
    .await
}

#[tokio::test]
async fn kill_nine_in_a_loop_of_tools_of_a_server_calls_none_of_them_twice() {
    let (server, config) = desk();
    let environment = [("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "0"), ("BURSAR_CONFIG", config.as_str())];
    let mut installation = Installation::start_with(&environment).await;
    installation.put("shopping", &shopping("look", "tool_turns=4 tokens=12 delay_ms=700")).await;
    let doomed = installation.worker(&environment);
    let mission = installation.submit("shopping", json!({}), None).await;
    // the model is asked for the third time: what two tools said is journaled
    let asked = || async {
        let run = installation.get(&format!("/v1/missions/{mission}")).await?["run_id"].as_str()?.to_owned();
        let calls = items(&installation.get(&format!("/v1/runs/{run}/calls")).await?).len();
        (calls >= 3).then_some(())
    };
    eventually("two tools have run", PATIENCE, asked).await;
    installation.kill_nine(doomed);
    // the server tells other things of its tools from now on, and what was bought stays bought
    server.note("This tool is another one now.");
    let worker = installation.worker(&environment);
    let first = over(&installation, &mission).await;
    assert_eq!(first["status"], "succeeded", "{first:#}");
    let looks = [1, 2, 3, 4].map(|n| format!("look {{\"n\": {n}}}"));
    assert_eq!(server.ran(), looks, "each call reached the server once");
    let run = first["run_id"].as_str().unwrap();
    let calls = items(&installation.get(&format!("/v1/runs/{run}/calls")).await.unwrap());
    let billed = calls.iter().filter(|call| call["billable"] == true).count();
    assert_eq!(billed, 5, "{calls:#?}");
    assert!(calls.len() <= 6, "at most the one in flight was bought again: {calls:#?}");

    // the same wish of another tenant is another wish, and nobody sees the other's
    installation.speak_for("other").await;
    installation.put("shopping", &shopping("look", "tool_turns=4 tokens=12 delay_ms=700")).await;
    let theirs = installation.submit("shopping", json!({}), None).await;
    assert_eq!(over(&installation, &theirs).await["status"], "succeeded");
    assert_eq!(server.ran(), [&looks[..], &looks[..]].concat());
    assert_eq!(installation.get(&format!("/v1/missions/{mission}")).await, None);
    installation.terminate(worker);
    installation.verify();
}

#[tokio::test]
async fn a_tool_that_takes_effect_once_and_was_in_flight_at_a_kill_nine_is_not_called_again() {
    let (server, config) = desk();
    let environment = [("BURSAR_LEASE", "2s"), ("BURSAR_SIMULATED_WORD_MS", "0"), ("BURSAR_CONFIG", config.as_str())];
    let mut installation = Installation::start_with(&environment).await;
    installation.put("shopping", &shopping("order", "")).await;
    let doomed = installation.worker(&environment);
    let mission = installation.submit("shopping", json!({}), None).await;
    eventually("the order is under way", PATIENCE, || async { (server.ran().len() == 1).then_some(()) }).await;
    installation.kill_nine(doomed);
    let worker = installation.worker(&environment);
    let failed = over(&installation, &mission).await;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("tool_fate_unknown")));
    assert_eq!(server.ran().iter().filter(|line| line.starts_with("slow")).count(), 1, "{:?}", server.ran());
    installation.terminate(worker);
    installation.verify();
}
