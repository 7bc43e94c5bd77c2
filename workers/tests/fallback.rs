//! Models in turn: which failures go on with the next model, which do not, and what is recorded of them.

use bursar_domain::outcome::{CallPermit, ErrorClass, FinishedCall};
use bursar_domain::usage::Usage;
use bursar_domain::workflow::Action;
use bursar_workers::providers::{Models, OpenAiConfig};
use bursar_workers::{Job, Providers, run};
use serde_json::json;

use crate::support::{DONE, Recorder, Server, agent_job, call_id, event, failed, finish, succeeded, text, usage};

/// A step that asks `first` and then `second`.
fn job() -> Job {
    let mut job = agent_job("first", "Say hi");
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.fallbacks = vec!["second".to_owned()];
    job
}

fn serving(server: &Server, model: &str) -> OpenAiConfig {
    OpenAiConfig { name: format!("of-{model}"), models: Models::Listed(vec![model.to_owned()]), ..server.config() }
}

fn both(first: &Server, second: &Server) -> Providers {
    Providers::builder().openai(serving(first, "first")).openai(serving(second, "second")).build().unwrap()
}

async fn answering(words: &str) -> Server {
    Server::streaming([text(words), finish("stop"), usage(11, 2), DONE.into()]).await
}

#[tokio::test]
async fn a_model_whose_provider_is_down_is_stood_in_for() {
    for (status, code) in [
        (503, "provider_unavailable"),
        (429, "provider_rate_limited"),
        (404, "provider_not_found"),
        (401, "provider_unauthorized"),
    ] {
        let (down, up) = (Server::refusing(status, &[], "{}").await, answering("hello").await);
        let context = Recorder::default();
        let (output, calls) = succeeded(run(&job(), &context, &both(&down, &up)).await);
        assert_eq!(output, json!("hello"));
        let ends: Vec<bool> = calls.iter().map(|call| call.succeeded).collect();
        assert_eq!(ends, [false, true]);
        let asked = context.asked();
        let models: Vec<(i32, &str, &str)> =
            asked.iter().map(|wish| (wish.number, wish.provider.as_str(), wish.model.as_str())).collect();
        assert_eq!(models, [(1, "of-first", "first"), (1, "of-second", "second")], "one call, reserved for twice");
        assert_eq!(asked[0].alternatives, [asked[1].request_hash.clone()]);
        assert_eq!(asked[1].alternatives, [asked[0].request_hash.clone()]);
        assert_eq!((&asked[0].in_place_of, &asked[1].in_place_of), (&None, &Some(("first".into(), code.into()))));
        assert_eq!(asked[1].finished, calls[..1], "what failed is journaled with the next");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_stood_in_for_and_stays_the_platforms() {
    let (broken, up) = (Server::streaming([text("hel")]).await, answering("hello").await);
    let (output, calls) = succeeded(run(&job(), &Recorder::default(), &both(&broken, &up)).await);
    assert_eq!((output, calls[0].succeeded, calls[1].succeeded), (json!("hello"), false, true));
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_wrong_with_every_model() {
    let (refusing, up) = (Server::refusing(400, &[], "{}").await, answering("hello").await);
    let (error, calls) = failed(run(&job(), &Recorder::default(), &both(&refusing, &up)).await);
    assert_eq!((error.code.as_str(), calls.len(), up.received().len()), ("provider_refused", 1, 0));
    // and so is what the first model says
    let mut job = job();
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.max_turns = 1;
    let wish = json!({"index": 0, "id": "c1", "function": {"name": "look", "arguments": "{}"}});
    let asks = event(&json!({"choices": [{"index": 0, "delta": {"tool_calls": [wish]}}]}));
    let odd = Server::streaming([asks, finish("tool_calls"), usage(11, 2), DONE.into()]).await;
    let (error, _) = failed(run(&job, &Recorder::default(), &both(&odd, &up)).await);
    assert_eq!((error.code.as_str(), up.received().len()), ("max_turns_exceeded", 0));
}

#[tokio::test]
async fn where_nobody_answers_the_error_with_most_hope_counts() {
    let limited = Server::refusing(429, &[("retry-after", "7")], "{}").await;
    let (down, gone) = (Server::refusing(503, &[], "{}").await, Server::refusing(404, &[], "{}").await);
    for (first, second, class) in [
        (&limited, &gone, ErrorClass::RateLimited),
        (&down, &limited, ErrorClass::RateLimited),
        (&gone, &down, ErrorClass::Retryable),
        (&gone, &gone, ErrorClass::Permanent),
    ] {
        let (error, calls) = failed(run(&job(), &Recorder::default(), &both(first, second)).await);
        assert_eq!((error.class, calls.len()), (class, 2));
        assert_eq!(error.retry_after_ms, (class == ErrorClass::RateLimited).then_some(7_000));
    }
}

#[tokio::test]
async fn a_journaled_answer_is_taken_and_nobody_is_asked() {
    let (down, up) = (Server::refusing(503, &[], "{}").await, answering("hello").await);
    let known = FinishedCall {
        id: call_id(),
        usage: Some(Usage::default()),
        counted: Usage::default(),
        succeeded: true,
        rejected: false,
        response: json!({"text": "from the journal", "finish_reason": "stop"}),
        duration_ms: 5,
        first_token_ms: None,
    };
    let context = Recorder::answering(Ok(CallPermit::Replay(known)));
    let (output, _) = succeeded(run(&job(), &context, &both(&down, &up)).await);
    assert_eq!((output, down.received().len(), up.received().len()), (json!("from the journal"), 0, 0));
}
