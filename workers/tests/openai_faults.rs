//! What happens when an OpenAI-compatible endpoint refuses, breaks, hangs, or is left.

use std::sync::Arc;

use bursar_domain::outcome::{ErrorClass, FinishedCall, StepError};
use bursar_domain::usage::Usage;
use bursar_workers::providers::OpenAiConfig;
use bursar_workers::{Providers, run};
use futures::{StreamExt, stream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{
    DONE, Farewell, Recorder, Server, agent_job, event, event_stream, failed, finish, soon, succeeded, text, usage,
};

/// Runs one step that must fail against this server.
async fn fail(server: &Server) -> (StepError, FinishedCall) {
    fail_with(server.config()).await
}

async fn fail_with(config: OpenAiConfig) -> (StepError, FinishedCall) {
    let providers = Providers::builder().openai(config).build().unwrap();
    let (error, mut calls) =
        failed(run(&agent_job("m", "Say hi to everybody"), &Recorder::default(), &providers).await);
    assert_eq!(calls.len(), 1);
    let call = calls.remove(0);
    assert!(!call.succeeded);
    assert!(call.response.is_null());
    (error, call)
}

#[tokio::test]
async fn each_status_has_its_class_and_costs_nothing() {
    let cases = [
        (400, ErrorClass::Permanent, "provider_refused"),
        (401, ErrorClass::Permanent, "provider_unauthorized"),
        (403, ErrorClass::Permanent, "provider_unauthorized"),
        (404, ErrorClass::Permanent, "provider_not_found"),
        (422, ErrorClass::Permanent, "provider_refused"),
        (307, ErrorClass::Permanent, "provider_refused"),
        (408, ErrorClass::Retryable, "provider_unavailable"),
        (409, ErrorClass::Retryable, "provider_unavailable"),
        (429, ErrorClass::RateLimited, "provider_rate_limited"),
        (500, ErrorClass::Retryable, "provider_unavailable"),
        (503, ErrorClass::Retryable, "provider_unavailable"),
        (529, ErrorClass::Retryable, "provider_unavailable"),
    ];
    for (status, class, code) in cases {
        let server = Server::refusing(status, &[], r#"{"error": {"message": "because"}}"#).await;
        let (error, call) = fail(&server).await;
        assert_eq!((error.class, error.code.as_str()), (class, code), "{status}");
        assert_eq!(error.message, format!("provider `fake` answered {status}: because"));
        assert_eq!((call.usage, call.counted), (None, Usage::default()), "{status}");
        assert_eq!(server.received().len(), 1, "{status}: sent once, never retried");
    }
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    for (wait, ms) in [
        ("7", Some(7_000)),
        ("86400", Some(3_600_000)),
        ("Thu, 01 Jan 2099 00:00:00 GMT", Some(3_600_000)),
        ("x", None),
    ] {
        let server = Server::refusing(429, &[("retry-after", wait)], "").await;
        let (error, _) = fail(&server).await;
        assert_eq!((error.class, error.retry_after_ms), (ErrorClass::RateLimited, ms), "{wait}");
    }
}

#[tokio::test]
async fn an_account_without_quota_is_not_waited_for() {
    let body = r#"{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}"#;
    let (error, _) = fail(&Server::refusing(429, &[], body).await).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_quota_exhausted"));
}

#[tokio::test]
async fn a_refusal_echoes_neither_prompt_nor_key_and_is_cut() {
    let long = "x".repeat(2_000);
    let body = json!({"error": {"message": format!("key sk-test-key-123456, input 'Say hi to everybody', {long}")}});
    let (error, _) = fail(&Server::refusing(400, &[], &body.to_string()).await).await;
    assert!(!error.message.contains("sk-test") && !error.message.contains("hi to"), "{}", error.message);
    assert!(error.message.chars().count() < 550);
}

#[tokio::test]
async fn an_unreachable_provider_is_retried_later_and_costs_nothing() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let server = Server::refusing(500, &[], "").await;
    let (error, call) = fail_with(OpenAiConfig { base_url: base_url.clone(), ..server.config() }).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_unreachable"));
    assert!(!error.message.contains(&base_url), "{}", error.message);
    assert_eq!((call.usage, call.counted), (None, Usage::default()));
}

#[tokio::test]
async fn a_stream_that_ends_without_a_finish_reason_is_truncated() {
    for end in [String::new(), DONE.to_owned()] {
        let server = Server::streaming([text("one two three"), end]).await;
        let (error, call) = fail(&server).await;
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "upstream_truncated"));
        assert_eq!(call.usage, None);
        assert!(call.counted.input_tokens > 10 && call.counted.output_tokens == 4, "{:?}", call.counted);
    }
}

#[tokio::test]
async fn a_failed_call_keeps_the_usage_it_reported() {
    let server = Server::streaming([text("one two three"), usage(20, 3)]).await;
    let (_, call) = fail(&server).await;
    assert_eq!(call.usage, Some(Usage { input_tokens: 20, output_tokens: 3, ..Usage::default() }));
}

/// A configuration for a server that promises more than these pieces and closes the connection after them.
async fn breaking(pieces: String) -> OpenAiConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        // What is left unread would turn the close into a reset that takes the answer with it.
        let mut request = Vec::new();
        while !request.ends_with(b"}}") {
            socket.read_buf(&mut request).await.unwrap();
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
        socket.write_all(format!("{head}{pieces}").as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    OpenAiConfig { base_url, ..Server::refusing(500, &[], "").await.config() }
}

#[tokio::test]
async fn a_broken_connection_is_retryable_and_its_cost_is_counted() {
    let (error, call) = fail_with(breaking(text("one two three")).await).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_disconnected"));
    assert!(call.counted.input_tokens > 0 && call.counted.output_tokens > 0);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_finish_reason_took_nothing_away() {
    let config = breaking(text("done") + &finish("stop")).await;
    let providers = Providers::builder().openai(config).build().unwrap();
    let (output, calls) = succeeded(run(&agent_job("m", "Hi"), &Recorder::default(), &providers).await);
    assert_eq!(output, "done");
    assert_eq!(calls[0].usage, None);
    assert!(calls[0].counted.output_tokens > 0);
}

#[tokio::test]
async fn garbage_in_the_stream_is_retryable_and_not_repeated() {
    let mut invalid = text("a").into_bytes();
    invalid.extend_from_slice(b"data: \xff\xfe\n\n");
    for pieces in [vec![text("a").into_bytes(), b"data: {garbage\n\n".to_vec()], vec![invalid]] {
        let (error, call) = fail(&Server::streaming(pieces).await).await;
        assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_answer_unreadable"));
        assert!(!error.message.contains("garbage"));
        assert!(call.counted.input_tokens > 0);
    }
}

#[tokio::test]
async fn an_error_inside_the_stream_ends_it_with_its_own_class() {
    let overloaded = event(&json!({"error": {"message": "slow down", "code": 429}}));
    let (error, call) = fail(&Server::streaming([text("a"), overloaded, finish("stop"), DONE.into()]).await).await;
    assert_eq!(error.class, ErrorClass::RateLimited);
    assert_eq!(error.message, "provider `fake` broke off its answer: slow down");
    assert!(call.counted.output_tokens > 0);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_refused_by_name() {
    let json = [("content-type", "application/json")];
    let (error, call) = fail(&Server::refusing(200, &json, r#"{"choices": []}"#).await).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "provider_not_streaming"));
    assert!(call.counted.input_tokens > 0, "it was answered, so it may cost");
    let (error, _) = fail(&Server::refusing(200, &json, r#"{"error": {"message": "busy", "code": 503}}"#).await).await;
    assert_eq!(error.class, ErrorClass::Retryable);
}

/// A server that sends these pieces, then nothing, and tells when its client has left.
async fn hanging(pieces: Vec<String>) -> (Server, Arc<Notify>) {
    let left = Arc::new(Notify::new());
    let guard = Arc::clone(&left);
    let server = Server::start(move || {
        let farewell = Farewell(Arc::clone(&guard));
        let pieces = stream::iter(pieces.clone()).map(String::into_bytes);
        let silence = stream::once(async move {
            let _farewell = farewell;
            std::future::pending::<Vec<u8>>().await
        });
        async move { event_stream(pieces.chain(silence)) }
    })
    .await;
    (server, left)
}

#[tokio::test]
async fn silence_in_the_middle_of_an_answer_times_out_and_hangs_up() {
    let (server, left) = hanging(vec![text("one two three")]).await;
    let (error, call) = fail_with(OpenAiConfig { idle_ms: 100, ..server.config() }).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_timeout"));
    assert!(call.counted.input_tokens > 0 && call.counted.output_tokens > 0);
    soon("the disconnect", left.notified()).await;
}

#[tokio::test]
async fn silence_before_the_answer_times_out_and_may_have_cost_its_input() {
    let server = Server::start(std::future::pending).await;
    let (error, call) = fail_with(OpenAiConfig { idle_ms: 100, ..server.config() }).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "provider_timeout"));
    assert!(call.counted.input_tokens > 0);
    assert_eq!(call.counted.output_tokens, 0);
}

#[tokio::test]
async fn keep_alives_prolong_the_silence_but_not_the_whole_call() {
    let server = Server::start(|| async {
        let ticks = stream::unfold(tokio::time::interval(std::time::Duration::from_millis(20)), |mut interval| async {
            interval.tick().await;
            Some((b": keep-alive\n\n".to_vec(), interval))
        });
        event_stream(ticks)
    })
    .await;
    let started = std::time::Instant::now();
    let (error, _) = fail_with(OpenAiConfig { idle_ms: 300, total_ms: 900, ..server.config() }).await;
    assert_eq!(error.code, "provider_timeout");
    assert!(started.elapsed().as_millis() >= 800, "{:?}", started.elapsed());
}

#[tokio::test]
async fn cancelling_in_mid_stream_hangs_up_and_reports_what_was_used() {
    let (server, left) = hanging(vec![text("one two three")]).await;
    let context = Recorder { cancel_at_first_delta: true, ..Recorder::default() };
    let (error, calls) = failed(run(&agent_job("m", "Hi"), &context, &server.providers()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Cancelled, "cancelled"));
    assert_eq!((calls[0].usage, calls[0].succeeded), (None, false));
    assert!(calls[0].counted.input_tokens > 0 && calls[0].counted.output_tokens > 0);
    soon("the disconnect", left.notified()).await;
}

#[tokio::test]
async fn cancelling_before_the_first_byte_hangs_up_and_counts_the_input() {
    let left = Arc::new(Notify::new());
    let arrived = Arc::new(Notify::new());
    let (guard, signal) = (Arc::clone(&left), Arc::clone(&arrived));
    let server = Server::start(move || {
        let farewell = Farewell(Arc::clone(&guard));
        signal.notify_one();
        async move {
            let _farewell = farewell;
            std::future::pending().await
        }
    })
    .await;
    let context = Recorder::default();
    let (job, providers) = (agent_job("m", "Hi"), server.providers());
    let cancel = async {
        soon("the request", arrived.notified()).await;
        context.token.cancel();
    };
    let (outcome, ()) = tokio::join!(run(&job, &context, &providers), cancel);
    let (error, calls) = failed(outcome);
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert!(calls[0].counted.input_tokens > 0);
    assert_eq!(calls[0].counted.output_tokens, 0);
    soon("the disconnect", left.notified()).await;
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off_for_good() {
    let server = Server::start(|| async {
        let padding = format!(": {}\n\n", "x".repeat(64 * 1024)).into_bytes();
        event_stream(stream::iter([text("a").into_bytes()]).chain(stream::repeat(padding)))
    })
    .await;
    let (error, call) = fail(&server).await;
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "provider_answer_too_long"));
    assert!(call.counted.output_tokens > 0);
}
