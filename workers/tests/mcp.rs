//! Tools of MCP servers: a real server in a process of its own, over HTTP and over its standard streams.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bursar_domain::outcome::{ErrorClass, ToolEffects};
use bursar_domain::workflow::Action;
use bursar_workers::mcp::{Place, ServerConfig, Servers, ToolConfig};
use bursar_workers::providers::SimulatedConfig;
use bursar_workers::tools::{ToolLimits, Tools};
use bursar_workers::{Job, Providers, run};

use crate::mcp_server::{McpServer, config, servers};
use crate::support::{Recorder, agent_job, failed, soon, succeeded};

/// A server that is not started, in a folder of its own.
fn server() -> McpServer {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let folder: PathBuf = std::env::temp_dir().join(format!("bursar-mcp-{}-{number}", std::process::id()));
    McpServer::prepare(folder)
}

/// Where it is over HTTP.
fn at(server: &McpServer) -> Place {
    Place::Http { url: server.url(), headers: BTreeMap::new(), allow_private: true }
}

fn serving() -> McpServer {
    let mut server = server();
    server.serve(None);
    server
}

fn with(servers: Servers) -> Providers {
    let tools = Tools::default().with_servers(servers);
    Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).tools(tools).build().unwrap()
}

/// A step that calls this tool, as the simulated model is told to.
fn job(tool: &str, directive: &str) -> Job {
    let prompt = format!("Go [[simulate tool=mcp__t__{tool} args={{\"n\":$n}} {directive}]]");
    let mut job = agent_job("simulated-small", &prompt);
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.tools = vec![format!("mcp__t__{tool}")];
    job
}

/// What the model was told by each tool, and whether it was an error.
fn told(context: &Recorder) -> Vec<(String, bool)> {
    let ended = context.tools_ended.lock().unwrap();
    ended.iter().map(|end| (end.answer.content.clone(), end.answer.is_error)).collect()
}

/// One call of the tool; what the model is told.
async fn call(providers: &Providers, tool: &str) -> (String, bool) {
    let context = Recorder::default();
    succeeded(run(&job(tool, ""), &context, providers).await);
    told(&context).remove(0)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    soon(what, async {
        while !is_so() {
            looks.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_agent_calls_tools_over_http_and_over_standard_streams_in_one_session() {
    let over_http = serving();
    let over_stdio = server();
    for (server, place) in [(&over_http, at(&over_http)), (&over_stdio, over_stdio.over_stdio())] {
        let providers = with(servers(config(place, ToolEffects::None)));
        for _ in 0..2 {
            let context = Recorder::default();
            succeeded(run(&job("look", "tool_turns=2 parallel=2"), &context, &providers).await);
            let mut seen = told(&context);
            seen.sort();
            let expected = ["saw 1", "saw 2", "saw 3", "saw 4"].map(|text| (text.to_owned(), false));
            assert_eq!(seen, expected);
            let intents = context.tools_asked.lock().unwrap()[0].calls.clone();
            assert_eq!((intents[0].tool.as_str(), intents[0].effects), ("mcp__t__look", ToolEffects::None));
        }
        let journal = server.journal();
        let count = |what: &str| journal.iter().filter(|line| *line == what).count();
        // a list of two pages
        assert_eq!((count("session"), count("list"), server.ran().len()), (1, 2, 8), "{journal:?}");
    }
}

#[tokio::test]
async fn what_a_tool_says_is_told_to_the_model_cut_and_as_text() {
    let server = serving();
    let providers = with(servers(config(at(&server), ToolEffects::None)));
    let error = |text: &str| (text.to_owned(), true);
    assert_eq!(call(&providers, "fail").await, error("mcp_tool_failed: there is no such page"));
    assert_eq!(call(&providers, "refuse").await, error("mcp_tool_failed: n must be even"));
    let picture = "[an image (image/png) is left out: only text is supported]\n{\"seen\":1}";
    assert_eq!(call(&providers, "picture").await, (picture.to_owned(), false));
    let (big, is_error) = call(&providers, "big").await;
    assert_eq!((big.len(), is_error), (1_000 + "\n[the rest is cut off]".len(), false));
    assert_eq!(server.ran().len(), 4, "each was called once");
}

#[tokio::test]
async fn an_answer_of_more_bytes_than_any_model_could_read_ends_the_call_and_not_the_worker() {
    let (over_http, over_stdio) = (serving(), server());
    for place in [at(&over_http), over_stdio.over_stdio()] {
        let mut config = config(place, ToolEffects::None);
        if let Some(others) = &mut config.others {
            others.limits.timeout_ms = 3_000;
        }
        let providers = with(servers(config));
        let context = Recorder::default();
        let outcome = soon("its end", run(&job("huge", ""), &context, &providers)).await;
        let heard = told(&context).first().is_none_or(|(text, is_error)| *is_error && text.len() < 200);
        assert!(heard, "{outcome:?}");
        assert_eq!(call(&providers, "look").await, ("saw 1".to_owned(), false));
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled_at_the_server() {
    let (over_http, over_stdio) = (serving(), server());
    for (server, place) in [(&over_http, at(&over_http)), (&over_stdio, over_stdio.over_stdio())] {
        let mut config = config(place, ToolEffects::None);
        if let Some(others) = &mut config.others {
            others.limits.timeout_ms = 300;
        }
        let slow = with(servers(config.clone()));
        let (text, is_error) = call(&slow, "slow").await;
        assert!(is_error && text.starts_with("no result within 300 ms"), "{text}");
        until("the cancellation", || server.ran().iter().filter(|line| *line == "cancelled").count() == 1).await;

        // the whole step is cancelled
        if let Some(others) = &mut config.others {
            others.limits.timeout_ms = 60_000;
        }
        let providers = with(servers(config));
        let context = Arc::new(Recorder::default());
        let running = {
            let (context, providers) = (context.clone(), providers.clone());
            tokio::spawn(async move { run(&job("slow", ""), &*context, &providers).await })
        };
        until("the call", || server.ran().iter().filter(|line| line.starts_with("slow")).count() == 2).await;
        context.token.cancel();
        let (error, _) = failed(soon("the end of the step", running).await.unwrap());
        assert_eq!((error.class, told(&context).len()), (ErrorClass::Cancelled, 0));
        until("the cancellation", || server.ran().iter().filter(|line| *line == "cancelled").count() == 2).await;
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_to_be_and_found_again() {
    let mut server = serving();
    let mut config = config(at(&server), ToolEffects::Once);
    config.connect_ms = 1_000;
    let providers = with(servers(config.clone()));
    assert_eq!(call(&providers, "look").await.0, "saw 1");
    server.kill();
    let context = Recorder::default();
    let (error, _) = failed(run(&job("look", ""), &context, &providers).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "mcp_unavailable"), "{}", error.message);
    assert!(error.message.contains("MCP server `t`"), "{}", error.message);
    let ends: Vec<bool> = context.tools_ended.lock().unwrap().iter().map(|end| end.ran).collect();
    assert_eq!(ends, [false], "it surely did not run: another attempt may run it, although it takes effect once");

    // nobody was ever there: the step fails before anything is bought
    let fresh = with(servers(config));
    let context = Recorder::default();
    let (error, calls) = failed(run(&job("look", ""), &context, &fresh).await);
    assert_eq!((error.code.as_str(), calls.len(), context.asked().len()), ("mcp_unavailable", 0, 0));

    server.serve(None);
    assert_eq!(call(&providers, "look").await.0, "saw 1");
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    soon("the pause after a failure", async {
        loop {
            let outcome = run(&job("look", ""), &Recorder::default(), &fresh).await;
            if matches!(outcome, bursar_domain::outcome::Outcome::Succeeded { .. }) {
                break;
            }
            looks.tick().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_dies_with_a_call_leaves_its_fate_unknown() {
    for effects in [ToolEffects::None, ToolEffects::Once] {
        let (over_http, over_stdio) = (serving(), server());
        for place in [at(&over_http), over_stdio.over_stdio()] {
            let mut config = config(place, effects);
            if let Some(others) = &mut config.others {
                others.limits.timeout_ms = 60_000;
            }
            let context = Recorder::default();
            let outcome = soon("its end", run(&job("die", ""), &context, &with(servers(config)))).await;
            let (error, _) = failed(outcome);
            let expected = match effects {
                ToolEffects::Once => (ErrorClass::Permanent, "tool_fate_unknown"),
                _ => (ErrorClass::Retryable, "mcp_unavailable"),
            };
            assert_eq!((error.class, error.code.as_str()), expected, "{}", error.message);
            assert_eq!(told(&context).len(), 0, "its journal stays open");
        }
        assert_eq!((over_http.ran().len(), over_stdio.ran().len()), (1, 1), "nothing was tried twice");
    }
}

#[tokio::test]
async fn a_program_that_ended_is_started_again_by_the_next_step() {
    let server = server();
    let providers = with(servers(config(server.over_stdio(), ToolEffects::None)));
    failed(soon("its end", run(&job("die", ""), &Recorder::default(), &providers)).await);
    assert_eq!(call(&providers, "look").await.0, "saw 1");
    assert_eq!(server.journal().iter().filter(|line| *line == "session").count(), 2);
}

#[tokio::test]
async fn a_private_address_is_refused_unless_the_operator_allows_it() {
    let server = serving();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = |host: &str| Place::Http {
        url: format!("http://{host}:{}/mcp", server.port),
        headers: BTreeMap::new(),
        allow_private: false,
    };
    for host in ["127.0.0.1", "[::1]", "2130706433", "[::ffff:127.0.0.1]"] {
        let refused = Servers::new(vec![config(place(host), ToolEffects::None)]).unwrap_err();
        assert!(refused.to_string().contains("mcp.servers.t: url: its address is not public"), "{host}: {refused}");
    }
    // a name is judged when it is resolved
    let providers = with(servers(config(place("localhost"), ToolEffects::None)));
    let (error, calls) = failed(run(&job("look", ""), &Recorder::default(), &providers).await);
    assert_eq!((error.class, error.code.as_str(), calls.len()), (ErrorClass::Permanent, "mcp_address_refused", 0));
    assert_eq!(server.journal().len(), 0);
}

#[tokio::test]
async fn headers_reach_the_server_and_nobody_else() {
    let mut server = server();
    server.serve(Some("Bearer sesame-street"));
    let url = server.url();
    let place = |value: &str| Place::Http {
        url: url.clone(),
        headers: BTreeMap::from([("Authorization".to_owned(), value.to_owned().into())]),
        allow_private: true,
    };
    let wrong = servers(config(place("Bearer wrong-word"), ToolEffects::None));
    assert!(!format!("{wrong:?}").contains("wrong-word"));
    let (error, _) = failed(run(&job("look", ""), &Recorder::default(), &with(wrong)).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "mcp_unauthorized"), "{}", error.message);
    let right = with(servers(config(place("Bearer sesame-street"), ToolEffects::None)));
    assert_eq!(call(&right, "look").await.0, "saw 1");
}

#[tokio::test]
async fn a_program_sees_the_environment_that_the_operator_gave_it_and_no_other() {
    let server = server();
    let place = Place::Program {
        command: server.command(),
        env: BTreeMap::from([("ONLY".to_owned(), "this".to_owned().into())]),
        folder: "/".into(),
    };
    let (text, _) = call(&with(servers(config(place, ToolEffects::None))), "env").await;
    let seen: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    // the interpreter adds one of its own
    let seen: Vec<(&str, &str)> = seen.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(seen.into_iter().filter(|(name, _)| *name != "LC_CTYPE").collect::<Vec<_>>(), [("ONLY", "this")]);
}

#[tokio::test]
async fn a_server_that_tells_other_things_of_its_tools_makes_no_other_call_of_the_same() {
    let server = serving();
    let mut config = config(at(&server), ToolEffects::None);
    config.tools_ttl_ms = 0;
    let providers = with(servers(config));
    let (before, after) = (Recorder::default(), Recorder::default());
    succeeded(run(&job("look", ""), &before, &providers).await);
    server.note("It has changed.");
    succeeded(run(&job("look", ""), &after, &providers).await);
    let hashes = |context: &Recorder| context.asked().iter().map(|wish| wish.request_hash.clone()).collect::<Vec<_>>();
    assert_eq!(hashes(&before), hashes(&after), "what was bought before the change is replayed after it");
    let tokens = |context: &Recorder| context.asked()[0].input_tokens;
    assert!(tokens(&after) > tokens(&before), "and the model is told of the change");
    let tools = |context: &Recorder| context.tools_asked.lock().unwrap()[0].calls[0].request_hash.clone();
    assert_eq!(tools(&before), tools(&after));
}

#[tokio::test]
async fn what_the_operator_lists_can_be_called_as_often_as_they_say() {
    let server = serving();
    let limits = ToolLimits { result_bytes: 1_000, timeout_ms: 10_000 };
    let listed =
        ToolConfig { name: Some("dotted.name".into()), effects: ToolEffects::Once, max_calls: Some(1), limits };
    let absent = ToolConfig { name: None, ..listed.clone() };
    let config = ServerConfig {
        tools: BTreeMap::from([("dotted".to_owned(), listed), ("absent".to_owned(), absent)]),
        others: None,
        ..config(at(&server), ToolEffects::None)
    };
    let providers = with(servers(config));
    let context = Recorder::default();
    succeeded(run(&job("dotted", "tool_turns=2"), &context, &providers).await);
    assert_eq!(server.ran(), ["dotted.name {\"n\": 1}"]);
    assert_eq!(context.tools_asked.lock().unwrap()[0].calls[0].effects, ToolEffects::Once);
    assert_eq!(told(&context).len(), 1, "the second call was answered without the server");
    for (tool, why) in [("look", "the operator does not list"), ("absent", "has no usable tool `absent`")] {
        let context = Recorder::default();
        let (error, calls) = failed(run(&job(tool, ""), &context, &providers).await);
        assert_eq!((error.class, error.code.as_str(), calls.len()), (ErrorClass::Permanent, "tool_unknown", 0));
        assert!(error.message.contains(why), "{}", error.message);
    }
    let mut elsewhere = job("look", "");
    let Action::Agent(step) = &mut elsewhere.action else { panic!("an agent") };
    step.tools = vec!["mcp__other__look".into()];
    let (error, _) = failed(run(&elsewhere, &Recorder::default(), &providers).await);
    assert!(error.message.contains("not configured (known: t)"), "{}", error.message);
}
