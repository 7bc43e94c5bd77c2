//! Tools of MCP servers on real stores: what nobody configured is refused, and the example of the page runs.

use std::collections::BTreeMap;

use bursar_domain::outcome::ToolEffects;
use bursar_domain::state::RunState;
use bursar_workers::Providers;
use bursar_workers::mcp::ServerConfig;
use bursar_workers::providers::SimulatedConfig;
use bursar_workers::tools::Tools;
use serde_json::json;

use crate::support::hand::definition;
use crate::support::mcp::{McpServer, config, servers};
use crate::support::stores::{Storage, on_both_stores};
use crate::support::unique_name;
use crate::support::world::{LEASE, Queues, World};
use bursar::engine::{PutWorkflowError, SubmitError};

on_both_stores!(idle:
    an_agent_uses_tools_of_a_server,
    tools_that_nobody_configured_are_refused_where_they_are_put_and_submitted,
);

async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// An agent with a tool of a server called `t`, used as the simulated model is told to.
fn using(tool: &str, directive: &str) -> String {
    format!(
        "{{workflow: using, flat_fee: 0, agents: {{a: {{instructions: be kind, model: simulated-small, \
          max_output_tokens: 100, tools: [http_get, mcp__t__{tool}]}}}}, nodes: {{ask: {{agent: a, tools: [mcp__t__{tool}], \
          prompt: 'Go [[simulate tool=mcp__t__{tool} args={{\"n\":$n}} {directive}]]', retry: {{max_attempts: 1}}}}}}}}"
    )
}

async fn an_agent_uses_tools_of_a_server(mut world: World) {
    let server = McpServer::prepare(std::env::temp_dir().join(unique_name("bursar-mcp")));
    let config = ServerConfig { name: "t".into(), ..config(server.over_stdio(), ToolEffects::Idempotent) };
    let tools = Tools::default().with_servers(servers(config));
    let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).tools(tools).build();
    world.process.work_with(providers.unwrap(), 2, LEASE);
    world.engine().know_mcp(BTreeMap::from([("t".to_owned(), None)]));
    let mission = world.run(&using("look", "tool_turns=2")).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    assert_eq!(server.ran(), ["look {\"n\": 1}", "look {\"n\": 2}"]);
    world.balances().await;
}

async fn tools_that_nobody_configured_are_refused_where_they_are_put_and_submitted(world: World) {
    let unknown = definition(&using("look", ""));
    let refused = world.engine().put_workflow(world.tenant, &unknown).await;
    let Err(PutWorkflowError::NotAllowed(problems)) = refused else { panic!("{refused:?}") };
    let seen: Vec<_> = problems.iter().map(|problem| (problem.pointer.as_str(), problem.code)).collect();
    assert_eq!(
        seen,
        [("/agents/a/tools/1", "unknown_mcp_server"), ("/nodes/ask/tools/0", "unknown_mcp_server")],
        "{problems:?}"
    );

    // put where it was known, submitted where it is not
    let elsewhere = world.another_process().await;
    elsewhere.engine.know_mcp(BTreeMap::from([("t".to_owned(), Some(vec!["look".to_owned()]))]));
    let refused = elsewhere.engine.put_workflow(world.tenant, &definition(&using("list", ""))).await;
    let Err(PutWorkflowError::NotAllowed(problems)) = refused else { panic!("{refused:?}") };
    assert_eq!(problems[0].code, "unknown_mcp_tool");
    assert_eq!(problems[0].hint.as_deref(), Some("known here: look"));
    let workflow = elsewhere.engine.put_workflow(world.tenant, &unknown).await.unwrap().workflow;
    let refused = world.try_submit(world.submission(workflow.id, json!({}))).await;
    assert!(matches!(&refused, Err(SubmitError::NotAllowed(_))), "{refused:?}");
    elsewhere.stop().await;
}
