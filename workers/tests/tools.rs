//! Tools between model, engine and the outside world: who may run, what is journaled, what the model is told.

use std::sync::Arc;

use bursar_domain::outcome::{CallRefusal, ErrorClass, ToolAnswer, ToolEffects, ToolPermit};
use bursar_domain::workflow::Action;
use bursar_workers::providers::SimulatedConfig;
use bursar_workers::tools::{HttpGet, HttpGetConfig, Tool, ToolLimits, Tools, ToolsError};
use bursar_workers::{Job, Providers, run};
use serde_json::{Value, json};

use crate::support::{DONE, Probe, Recorder, Server, agent_job, event, failed, finish, succeeded, text, usage};

fn job(prompt: &str, tools: &[&str]) -> Job {
    let mut job = agent_job("simulated-small", prompt);
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.tools = tools.iter().map(|name| (*name).to_owned()).collect();
    job
}

fn with(probe: &Probe) -> Providers {
    let tools = Tools::default().with(Arc::new(probe.clone())).unwrap();
    Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).tools(tools).build().unwrap()
}

#[tokio::test]
async fn tools_run_side_by_side_and_each_result_is_journaled() {
    let (probe, context) = (Probe::new("look"), Recorder::default());
    let job = job("Go [[simulate tool=look args={\"n\":$n} tool_turns=2 parallel=2]]", &["look"]);
    let (output, calls) = succeeded(run(&job, &context, &with(&probe)).await);
    assert!(output.as_str().unwrap().starts_with("engineer on"));
    assert_eq!(probe.ran(), [json!({"n": 1}), json!({"n": 2}), json!({"n": 3}), json!({"n": 4})]);
    assert_eq!(calls.len(), 3);
    let turns = context.tools_asked.lock().unwrap().clone();
    let numbers: Vec<Vec<i32>> = turns.iter().map(|turn| turn.calls.iter().map(|call| call.number).collect()).collect();
    assert_eq!(numbers, [[1, 2], [3, 4]]);
    assert_eq!((&turns[0].finished, &turns[1].finished), (&calls[..1].to_vec(), &calls[1..2].to_vec()));
    assert!(context.asked().iter().all(|wish| wish.finished.is_empty()), "the turns had journaled them");
    let ended = context.tools_ended.lock().unwrap().clone();
    assert_eq!(
        ended.iter().map(|end| end.answer.content.as_str()).collect::<Vec<_>>(),
        ["saw 1", "saw 2", "saw 3", "saw 4"]
    );
}

#[tokio::test]
async fn what_ran_before_is_replayed_and_what_may_have_run_once_stops_the_step() {
    let (probe, context) = (Probe::new("look"), Recorder::default());
    let replay = ToolPermit::Replay(ToolAnswer { content: "seen before".into(), is_error: false });
    context.tool_answers.lock().unwrap().push_back(Ok(vec![replay]));
    let job = job("Go [[simulate tool=look args={\"n\":$n}]]", &["look"]);
    succeeded(run(&job, &context, &with(&probe)).await);
    assert_eq!((probe.ran(), context.tools_ended.lock().unwrap().len()), (Vec::new(), 0));

    let context = Recorder::default();
    let unknown = CallRefusal::FateUnknown { tool: "look".into(), number: 1 };
    context.tool_answers.lock().unwrap().push_back(Err(unknown));
    let (error, calls) = failed(run(&job, &context, &with(&probe)).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "tool_fate_unknown"));
    assert_eq!((probe.ran(), calls.len(), calls[0].rejected), (Vec::new(), 1, false), "the answer is not to blame");
}

#[tokio::test]
async fn what_the_model_gets_wrong_is_told_to_it_and_runs_nothing() {
    for (name, arguments, told) in [
        ("other", "{}", "error: there is no such tool; there are: look"),
        ("look", "{\"n\": true}", "error: the arguments do not match the tool's schema: /n: "),
        ("look", "{\"n\": ", "error: the arguments are no JSON: "),
    ] {
        let call = json!({"index": 0, "id": "c1", "function": {"name": name, "arguments": arguments}});
        let asks = event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}));
        let server = Server::streaming([asks, finish("tool_calls"), usage(11, 2), DONE.into()]).await;
        let (probe, context) = (Probe::new("look"), Recorder::default());
        let tools = Tools::default().with(Arc::new(probe.clone())).unwrap();
        let providers = Providers::builder().openai(server.config()).tools(tools).build().unwrap();
        let mut job = job("Go", &["look"]);
        let Action::Agent(step) = &mut job.action else { panic!("an agent") };
        (step.model, step.max_turns) = ("m".into(), 2);
        let (_, calls) = failed(run(&job, &context, &providers).await);
        let heard = server.received()[1].body["messages"][3]["content"].as_str().unwrap().to_owned();
        assert!(heard.starts_with(told), "{heard}");
        assert_eq!((probe.ran(), calls.len(), context.tools_asked.lock().unwrap().len()), (Vec::new(), 2, 0), "{told}");
        assert_eq!(context.asked()[1].finished, calls[..1]);
    }
}

#[tokio::test]
async fn a_tool_that_nobody_configured_fails_the_step_before_any_call() {
    let context = Recorder::default();
    let (error, calls) = failed(run(&job("Go", &["look", "post"]), &context, &with(&Probe::new("look"))).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "tool_unknown"));
    assert!(error.message.contains("`post`") && error.message.contains("known: look"), "{}", error.message);
    assert_eq!((calls, context.asked()), (Vec::new(), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_cut_to_its_limit_and_a_tool_that_hangs_is_given_up() {
    let mut probe = Probe::new("look");
    probe.limits = ToolLimits { result_bytes: 3, timeout_ms: 500 };
    let context = Recorder::default();
    let job = job("Go [[simulate tool=look args={\"n\":$n}]]", &["look"]);
    succeeded(run(&job, &context, &with(&probe)).await);
    assert_eq!(context.tools_ended.lock().unwrap()[0].answer.content, "saw\n[the rest is cut off]");

    probe.limits.result_bytes = 1_000;
    probe.hangs = true;
    let context = Recorder::default();
    succeeded(run(&job, &context, &with(&probe)).await);
    let end = context.tools_ended.lock().unwrap()[0].clone();
    assert!(end.answer.is_error && end.answer.content.starts_with("no result within 500 ms"), "{}", end.answer.content);
    assert_eq!(end.duration_ms, 500);
}

#[tokio::test]
async fn an_endpoint_gets_tools_and_results_as_openai_defines_them_and_its_pieces_are_put_together() {
    let piece = |call: Value| event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}));
    let asks = [
        text("Let me see."),
        piece(json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}})),
        piece(json!({"index": 0, "function": {"arguments": "{\"n\""}})),
        piece(json!({"index": 0, "function": {"arguments": ": 7}"}})),
        finish("tool_calls"),
        usage(11, 2),
        DONE.into(),
    ];
    let server = Server::streaming(asks).await;
    let probe = Probe::new("look");
    let tools = Tools::default().with(Arc::new(probe.clone())).unwrap();
    let providers = Providers::builder().openai(server.config()).tools(tools).build().unwrap();
    let mut job = job("Go", &["look"]);
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    (step.model, step.max_turns) = ("m".into(), 2);
    // this server asks for the tool for ever
    let (error, calls) = failed(run(&job, &Recorder::default(), &providers).await);
    assert_eq!((error.code.as_str(), calls.len(), calls[1].rejected), ("max_turns_exceeded", 2, true));
    assert_eq!(probe.ran(), [json!({"n": 7})]);
    let second = &server.received()[1].body;
    assert_eq!(second["tools"][0]["function"]["name"], "look");
    assert_eq!(second["tools"][0]["function"]["parameters"], *probe.parameters());
    let call = json!({"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"n\": 7}"}});
    assert_eq!(second["messages"][2], json!({"role": "assistant", "content": "Let me see.", "tool_calls": [call]}));
    assert_eq!(second["messages"][3], json!({"role": "tool", "tool_call_id": "c1", "content": "saw 7"}));
}

#[test]
fn a_set_of_tools_is_checked_when_it_is_made() {
    let twice = Tools::default().with(Arc::new(Probe::new("look"))).unwrap().with(Arc::new(Probe::new("look")));
    assert_eq!(twice.unwrap_err(), ToolsError::DuplicateName("look".into()));
    let mut odd = Probe::new("odd");
    odd.parameters = json!({"type": "objekt"});
    assert!(matches!(Tools::default().with(Arc::new(odd)), Err(ToolsError::BadParameters { .. })));
    assert_eq!(Probe::new("look").effects(), ToolEffects::None);
}

fn http_get(allow: &[&str], allow_private: bool) -> Result<HttpGet, ToolsError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let allow = allow.iter().map(|host| (*host).to_owned()).collect();
    let limits = ToolLimits { result_bytes: 20, timeout_ms: 2_000 };
    HttpGet::new(&HttpGetConfig { allow, allow_private, limits })
}

async fn get(tool: &HttpGet, url: &str) -> Result<String, String> {
    tool.call(&json!({"url": url})).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn http_get_reads_what_the_list_allows_and_nothing_else() {
    let page = Server::refusing(200, &[("content-type", "text/plain")], "0123456789012345678901234567890").await;
    let address = page.base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap().to_owned();
    let tool = http_get(&[&address, "*.example.com", "localhost"], true).unwrap();
    let read = get(&tool, &format!("http://{address}/x")).await.unwrap();
    assert_eq!(read, "HTTP 200 text/plain\n\n012345678901234567890", "one byte more than it is cut to");
    for (url, why) in [
        ("http://127.0.0.1:1/".to_owned(), "not on the operator's list"),
        (format!("http://localhost{}/", &address[address.find(':').unwrap()..]), "not on the operator's list"),
        ("https://example.com/".to_owned(), "not on the operator's list"),
        ("https://notexample.com/".to_owned(), "not on the operator's list"),
        (format!("http://user:secret@{address}/"), "user name"),
        ("file:///etc/passwd".to_owned(), "only http"),
        ("no url".to_owned(), "refused"),
    ] {
        let error = get(&tool, &url).await.unwrap_err();
        assert!(error.contains(why), "{url}: {error}");
    }
    assert_eq!(page.received().len(), 1);
}

#[tokio::test]
async fn http_get_connects_to_no_private_address_however_it_is_written() {
    let page = Server::refusing(200, &[], "hidden").await;
    let port = page.base_url.strip_prefix("http://127.0.0.1:").unwrap().strip_suffix("/v1").unwrap().to_owned();
    let hosts = ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"];
    let allow: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    let tool = http_get(&allow.iter().map(String::as_str).collect::<Vec<_>>(), false).unwrap();
    for host in hosts {
        let error = get(&tool, &format!("http://{host}:{port}/")).await.unwrap_err();
        assert!(error.contains("not public"), "{host}: {error}");
    }
    assert_eq!(page.received().len(), 0);
}

#[tokio::test]
async fn http_get_follows_no_redirect_to_another_host_and_tells_failures() {
    let elsewhere = Server::refusing(200, &[], "elsewhere").await;
    let target: &'static str = Box::leak(elsewhere.base_url.clone().into_boxed_str());
    let page = Server::refusing(302, &[("location", target)], "").await;
    let host =
        |server: &Server| server.base_url.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap().to_owned();
    let tool = http_get(&[&host(&page), &host(&elsewhere)], true).unwrap();
    let error = get(&tool, &page.base_url).await.unwrap_err();
    assert!(error.contains("redirects to another host"), "{error}");
    assert_eq!(elsewhere.received().len(), 0);

    let missing = Server::refusing(404, &[("content-type", "text/plain")], "nothing here").await;
    let tool = http_get(&[&host(&missing)], true).unwrap();
    assert_eq!(get(&tool, &missing.base_url).await, Err("HTTP 404 text/plain\n\nnothing here".to_owned()));
}

#[test]
fn a_list_of_hosts_is_checked_when_the_tool_is_made() {
    assert!(matches!(http_get(&[], false), Err(ToolsError::BadConfig { .. })));
    for odd in ["https://example.com", "example.com/path", "*", "exa mple.com", "user@example.com", "*.*.com"] {
        assert!(http_get(&[odd], false).is_err(), "{odd}");
    }
}
