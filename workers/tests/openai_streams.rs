//! What arrives from an OpenAI-compatible endpoint that answers: text in every framing, usage in every shape.

use bursar_domain::usage::Usage;
use bursar_workers::providers::{OpenAiConfig, OutputCapField};
use bursar_workers::{Providers, run};
use serde_json::{Value, json};

use crate::support::{DONE, Recorder, Server, agent_job, event, finish, succeeded, text, usage};

/// Runs one step against a server that streams these pieces.
async fn answer(pieces: Vec<Vec<u8>>) -> (Value, bursar_domain::outcome::FinishedCall, Recorder) {
    let server = Server::streaming(pieces).await;
    let context = Recorder::default();
    let (output, mut calls) = succeeded(run(&agent_job("m", "Say hi"), &context, &server.providers()).await);
    assert_eq!(calls.len(), 1);
    (output, calls.remove(0), context)
}

fn pieces(events: &[&str]) -> Vec<Vec<u8>> {
    events.iter().map(|event| event.as_bytes().to_vec()).collect()
}

#[tokio::test]
async fn an_answer_streams_to_the_watchers_and_becomes_the_output() {
    let (output, call, context) =
        answer(pieces(&[&text("Hel"), &text("lo"), &finish("stop"), &usage(11, 2), DONE])).await;
    assert_eq!(output, "Hello");
    assert_eq!(*context.deltas.lock().unwrap(), ["Hel", "lo"]);
    assert!(call.succeeded);
    assert_eq!(call.response, json!({"text": "Hello", "finish_reason": "stop"}));
    assert!(call.first_token_ms.unwrap() <= call.duration_ms);
}

#[tokio::test]
async fn the_request_is_what_the_step_says() {
    let server = Server::streaming([text("x"), finish("stop"), DONE.to_owned()]).await;
    let context = Recorder::default();
    let mut job = agent_job("m", "Build {{ inputs.idea }}");
    let bursar_domain::workflow::Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.temperature = Some(serde_json::Number::from_f64(0.2).unwrap());
    succeeded(run(&job, &context, &server.providers()).await);

    let received = server.received().remove(0);
    assert_eq!(
        received.body,
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "You are an engineer."},
                {"role": "user", "content": "Build a to-do list"},
            ],
            "max_tokens": 200, "temperature": 0.2, "stream": true, "stream_options": {"include_usage": true},
        })
    );
    assert_eq!(received.headers["authorization"], "Bearer sk-test-key-123456");
    let asked = context.asked().remove(0);
    assert_eq!((asked.number, asked.provider.as_str(), asked.model.as_str()), (1, "fake", "m"));
    assert_eq!((asked.max_output_tokens, asked.request_hash.len()), (200, 64));
}

#[tokio::test]
async fn capability_flags_change_the_request() {
    let server = Server::streaming([text("x"), finish("stop"), DONE.to_owned()]).await;
    let config = OpenAiConfig {
        api_key: None,
        include_usage: false,
        output_cap_field: OutputCapField::MaxCompletionTokens,
        ..server.config()
    };
    let providers = Providers::builder().openai(config).build().unwrap();
    succeeded(run(&agent_job("m", "Hi"), &Recorder::default(), &providers).await);
    let received = server.received().remove(0);
    assert_eq!(received.body.get("stream_options"), None);
    assert_eq!(received.body.get("max_tokens"), None);
    assert_eq!(received.body["max_completion_tokens"], 200);
    assert_eq!(received.headers.get("authorization"), None);
}

#[tokio::test]
async fn usage_is_found_in_every_shape_and_never_summed() {
    let report = json!({"prompt_tokens": 20, "completion_tokens": 5});
    let on_finish = event(&json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": report}));
    let no_op = event(
        &json!({"choices": [{"delta": {"content": null, "role": "assistant"}, "finish_reason": null}], "usage": report}),
    );
    let in_choice = event(&json!({"choices": [{"delta": {}, "finish_reason": "stop", "usage": report}]}));
    let cumulative = |output: i64, word: &str| {
        event(
            &json!({"choices": [{"delta": {"content": word}}], "usage": {"prompt_tokens": 20, "completion_tokens": output}}),
        )
    };
    let shapes: Vec<(&str, Vec<String>)> = vec![
        ("choices: []", vec![text("a b c"), finish("stop"), usage(20, 5), DONE.into()]),
        ("no-op choice", vec![text("a b c"), finish("stop"), no_op, DONE.into()]),
        ("on the finish chunk", vec![text("a b c"), on_finish, DONE.into()]),
        ("in the choice", vec![text("a b c"), in_choice, DONE.into()]),
        ("cumulative", vec![cumulative(1, "a"), cumulative(3, " b"), cumulative(5, " c"), finish("stop"), DONE.into()]),
        ("twice", vec![text("a"), finish("stop"), usage(20, 5), usage(20, 5), DONE.into()]),
        ("no [DONE]", vec![text("a"), finish("stop"), usage(20, 5)]),
    ];
    for (shape, events) in shapes {
        let (_, call, _) = answer(events.into_iter().map(String::into_bytes).collect()).await;
        let expected = Usage { input_tokens: 20, output_tokens: 5, ..Usage::default() };
        assert_eq!(call.usage, Some(expected), "{shape}");
    }
}

#[tokio::test]
async fn cached_and_reasoning_tokens_are_parts_of_their_totals() {
    let report = event(&json!({"choices": [], "usage": {
        "prompt_tokens": 9, "completion_tokens": 22, "total_tokens": 31,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 21},
    }}));
    let (_, call, _) = answer(pieces(&[&text("4"), &finish("stop"), &report, DONE])).await;
    let expected =
        Usage { input_tokens: 9, cache_read_tokens: 4, output_tokens: 22, reasoning_tokens: 21, ..Usage::default() };
    assert_eq!(call.usage, Some(expected));
}

#[tokio::test]
async fn missing_or_insane_usage_leaves_the_count() {
    let insane = event(&json!({"choices": [], "usage": {"prompt_tokens": -5, "completion_tokens": 2}}));
    for report in [None, Some(insane), Some(usage(20, 0)), Some(usage(0, 5))] {
        let events = [Some(text("one two three")), Some(finish("stop")), report.clone(), Some(DONE.into())];
        let (_, call, context) = answer(events.into_iter().flatten().map(String::into_bytes).collect()).await;
        assert_eq!(call.usage, None, "{report:?}");
        assert_eq!(call.counted.input_tokens, context.asked()[0].input_tokens);
        assert!(call.counted.input_tokens > 10);
        // The unknown model `m` counts with a factor of 1.2: ceil(3 × 1.2).
        assert_eq!(call.counted.output_tokens, 4);
    }
}

#[tokio::test]
async fn a_later_insane_report_is_not_outvoted_by_an_earlier_one() {
    let (_, call, _) = answer(pieces(&[&text("a"), &finish("stop"), &usage(20, 5), &usage(20, -5), DONE])).await;
    assert_eq!(call.usage, None);
}

#[tokio::test]
async fn reasoning_is_counted_but_is_no_part_of_the_text() {
    let thought = event(&json!({"choices": [{"delta": {"reasoning_content": "let me think about it"}}]}));
    let (output, call, context) = answer(pieces(&[&thought, &text("Hi"), &finish("stop"), DONE])).await;
    assert_eq!(output, "Hi");
    assert_eq!(context.streamed(), "Hi");
    assert!(call.counted.output_tokens >= 6, "{:?}", call.counted);
}

#[tokio::test]
async fn characters_and_events_split_anywhere_arrive_whole() {
    let whole = [text("héllo 漢字 🦀"), finish("stop"), usage(20, 9), DONE.into()].concat();
    let bytes: Vec<Vec<u8>> = whole.into_bytes().chunks(1).map(<[u8]>::to_vec).collect();
    let (output, ..) = answer(bytes).await;
    assert_eq!(output, "héllo 漢字 🦀");
}

#[tokio::test]
async fn every_framing_of_server_sent_events_is_read() {
    let framed = [
        ": keep-alive\r\n\r\n",
        "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n",
        "event: message\nid: 7\ndata: {\"choices\":\ndata: [{\"delta\":{\"content\":\"b\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"c\"},\"finish_reason\":\"stop\"}]}\n\n",
        DONE,
    ];
    let (output, ..) = answer(pieces(&framed)).await;
    assert_eq!(output, "abc");
}

#[tokio::test]
async fn a_nul_in_the_answer_becomes_a_replacement_character() {
    let (output, call, context) = answer(pieces(&[&text("a\0b"), &finish("stop"), DONE])).await;
    assert_eq!(output, "a\u{FFFD}b");
    assert_eq!(call.response["text"], "a\u{FFFD}b");
    assert_eq!(context.streamed(), "a\u{FFFD}b");
}

#[tokio::test]
async fn an_answer_cut_by_its_cap_is_a_success_that_says_so() {
    let (output, call, _) = answer(pieces(&[&text("a"), &finish("length"), DONE])).await;
    assert_eq!((output, &call.response["finish_reason"]), (json!("a"), &json!("length")));
    assert!(call.succeeded);
}

#[tokio::test]
async fn a_dialect_with_missing_and_unknown_fields_is_understood() {
    let odd = event(
        &json!({"object": "x", "timings": {"a": 1.5}, "choices": [{"delta": {"content": [{"type": "text", "text": "hi"}]}}]}),
    );
    let odder = event(&json!({"hello": "world"}));
    let bare = event(&json!({"choices": [{"finish_reason": "eos"}]}));
    let (output, call, _) = answer(pieces(&[&odd, &odder, &bare])).await;
    assert_eq!((output, &call.response["finish_reason"]), (json!("hi"), &json!("eos")));
}
