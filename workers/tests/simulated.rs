//! The simulated model: the same for the same request, and obedient to its directives.

use bursar_domain::outcome::{ErrorClass, FinishedCall};
use bursar_workers::providers::SimulatedConfig;
use bursar_workers::{Job, Providers, run};
use serde_json::Value;

use crate::support::{DONE, Recorder, Server, agent_job, failed, finish, simulated, succeeded, text};

const MODEL: &str = "simulated-small";

async fn answer(prompt: &str) -> (Value, FinishedCall) {
    let (output, mut calls) = succeeded(run(&agent_job(MODEL, prompt), &Recorder::default(), &simulated()).await);
    (output, calls.remove(0))
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_one_another() {
    let (first, _) = answer("Write the PRD for a to-do list").await;
    assert_eq!(answer("Write the PRD for a to-do list").await.0, first);
    assert_ne!(answer("Write the PRD for a calendar").await.0, first);
}

#[tokio::test]
async fn an_answer_names_its_agent_and_the_beginning_of_the_prompt() {
    let (output, _) = answer("Write the PRD for a to-do list, please [[simulate tokens=60]]").await;
    let text = output.as_str().unwrap();
    assert!(text.starts_with("engineer on \"Write the PRD for a to-do\":"), "{text}");
    assert!(!text.contains("[["), "a directive must not reach the next step: {text}");
}

#[tokio::test]
async fn an_answer_streams_word_by_word() {
    let context = Recorder::default();
    let (output, _) = succeeded(run(&agent_job(MODEL, "Go"), &context, &simulated()).await);
    assert_eq!(context.streamed(), output.as_str().unwrap());
    assert!(context.deltas.lock().unwrap().len() > 20);
}

#[tokio::test]
async fn the_wished_number_of_tokens_is_met_exactly() {
    for tokens in [1, 5, 50, 200] {
        let (_, call) = answer(&format!("Ünïcode prompt, naturally! [[simulate tokens={tokens}]]")).await;
        assert_eq!(call.usage.unwrap().output_tokens, tokens);
        assert_eq!(call.response["finish_reason"], "stop");
    }
}

#[tokio::test]
async fn the_cap_cuts_the_answer() {
    let (_, call) = answer("Go [[simulate tokens=5000]]").await;
    assert_eq!((call.usage.unwrap().output_tokens, &call.response["finish_reason"]), (200, &Value::from("length")));
}

#[tokio::test]
async fn failures_have_the_class_asked_for_and_cost_nothing_before_the_first_token() {
    let cases = [
        ("retryable", ErrorClass::Retryable, None),
        ("permanent", ErrorClass::Permanent, None),
        ("rate_limited", ErrorClass::RateLimited, Some(1_000)),
        ("rate_limited retry_after_ms=70", ErrorClass::RateLimited, Some(70)),
    ];
    for (kind, class, wait) in cases {
        let job = agent_job(MODEL, &format!("Go [[simulate fail={kind}]]"));
        let (error, calls) = failed(run(&job, &Recorder::default(), &simulated()).await);
        assert_eq!((error.class, error.retry_after_ms), (class, wait), "{kind}");
        assert_eq!(calls[0].counted.input_tokens, 0);
    }
}

#[tokio::test]
async fn a_failure_holds_for_the_first_attempts_only() {
    let job = agent_job(MODEL, "Go [[simulate fail=retryable times=2]]");
    for attempt in [1, 2] {
        failed(run(&Job { attempt, ..job.clone() }, &Recorder::default(), &simulated()).await);
    }
    succeeded(run(&Job { attempt: 3, ..job }, &Recorder::default(), &simulated()).await);
}

#[tokio::test]
async fn a_failure_in_mid_stream_leaves_what_was_streamed_counted() {
    let context = Recorder::default();
    let (error, calls) =
        failed(run(&agent_job(MODEL, "Go [[simulate fail=retryable after_tokens=5]]"), &context, &simulated()).await);
    assert_eq!(error.class, ErrorClass::Retryable);
    assert!(!context.streamed().is_empty());
    let counted = calls[0].counted;
    assert!(counted.input_tokens > 0 && (5..12).contains(&counted.output_tokens), "{counted:?}");
}

#[tokio::test]
async fn usage_can_be_withheld_or_exaggerated() {
    let (_, call) = answer("Go [[simulate no_usage tokens=40]]").await;
    assert_eq!((call.usage, call.counted.output_tokens), (None, 40));
    let (_, call) = answer("Go [[simulate output_tokens_reported=9999]]").await;
    assert_eq!(call.usage.unwrap().output_tokens, 9_999);
}

#[tokio::test(start_paused = true)]
async fn delays_and_pace_take_the_time_they_say() {
    let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 10 }).build().unwrap();
    let started = tokio::time::Instant::now();
    let (_, calls) =
        succeeded(run(&agent_job(MODEL, "Go [[simulate delay_ms=500]]"), &Recorder::default(), &providers).await);
    assert_eq!(calls[0].first_token_ms, Some(510));
    assert!(started.elapsed().as_millis() > 700);
}

#[tokio::test]
async fn a_typo_in_a_directive_fails_by_name() {
    let (error, _) = failed(run(&agent_job(MODEL, "Go [[simulate stal]]"), &Recorder::default(), &simulated()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "simulate_directive_invalid"));
}

#[tokio::test]
async fn no_other_provider_obeys_directives() {
    let server = Server::streaming([text("fine"), finish("stop"), DONE.into()]).await;
    let (output, _) = succeeded(
        run(&agent_job("m", "Go [[simulate fail=permanent]]"), &Recorder::default(), &server.providers()).await,
    );
    assert_eq!(output, "fine");
}
