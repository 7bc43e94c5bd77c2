//! The agent and transform steps between engine and provider: permits, refusals, timeouts, templates.

use bursar_domain::agent::Message;
use bursar_domain::credits::Ucr;
use bursar_domain::outcome::{CallPermit, CallRefusal, ErrorClass, FinishedCall};
use bursar_domain::usage::Usage;
use bursar_domain::workflow::{Action, Memory, MemoryKind, TransformStep};
use bursar_workers::{Job, Providers, run};
use serde_json::json;

use crate::support::{DONE, Recorder, Server, agent_job, call_id, failed, finish, simulated, succeeded, text, usage};

#[tokio::test]
async fn a_replayed_call_gives_the_same_output_and_sends_nothing() {
    let server = Server::streaming([text("Hello"), finish("length"), usage(11, 2), DONE.into()]).await;
    let job = agent_job("m", "Say hi");
    let (bought, calls) = succeeded(run(&job, &Recorder::default(), &server.providers()).await);

    let context = Recorder::answering(Ok(CallPermit::Replay(calls[0].clone())));
    let (replayed, new_calls) = succeeded(run(&Job { attempt: 2, ..job }, &context, &server.providers()).await);
    assert_eq!((replayed, bought), (json!("Hello"), json!("Hello")));
    assert_eq!(new_calls, calls, "a replayed call is billed to the attempt that consumes it");
    assert_eq!(context.streamed(), "Hello");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn the_same_request_has_the_same_hash_in_every_attempt_and_another_one_has_not() {
    let hash = async |job: Job| {
        let context = Recorder::default();
        run(&job, &context, &simulated()).await;
        context.asked()[0].request_hash.clone()
    };
    let job = agent_job("simulated-small", "Say hi");
    let first = hash(job.clone()).await;
    assert_eq!(hash(Job { attempt: 2, ..job }).await, first);
    assert_ne!(hash(agent_job("simulated-small", "Say hello")).await, first);
    assert_ne!(hash(agent_job("simulated-large", "Say hi")).await, first);
}

#[tokio::test]
async fn a_refused_call_fails_by_name_and_sends_nothing() {
    let server = Server::streaming([text("x"), finish("stop")]).await;
    let short = CallRefusal::InsufficientCredits { required: Ucr::new(5), available: Ucr::new(2) };
    let cases = [
        (CallRefusal::StaleFence, ErrorClass::Lost, "stale_fence"),
        (CallRefusal::NotPriced("m".into()), ErrorClass::Permanent, "model_not_priced"),
        (short, ErrorClass::Budget, "insufficient_credits"),
        (CallRefusal::Unavailable("timeout".into()), ErrorClass::Retryable, "store_unavailable"),
    ];
    for (refusal, class, code) in cases {
        let context = Recorder::answering(Err(refusal));
        let (error, calls) = failed(run(&agent_job("m", "Hi"), &context, &server.providers()).await);
        assert_eq!((error.class, error.code.as_str()), (class, code));
        assert_eq!(calls, []);
    }
    assert_eq!(server.received().len(), 0);
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_not_bought_again() {
    let call = FinishedCall {
        id: call_id(),
        usage: None,
        counted: Usage::default(),
        succeeded: true,
        rejected: false,
        response: json!({"text": 7}),
        duration_ms: 1,
        first_token_ms: None,
    };
    let (error, _) = failed(
        run(&agent_job("simulated-small", "Hi"), &Recorder::answering(Ok(CallPermit::Replay(call))), &simulated())
            .await,
    );
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "journal_unreadable"));
}

#[tokio::test]
async fn a_simulated_call_is_labelled_by_its_providers_name() {
    let context = Recorder::default();
    let (output, calls) = succeeded(run(&agent_job("simulated-small", "Write the plan"), &context, &simulated()).await);
    assert_eq!(context.asked()[0].provider, "simulated");
    assert_eq!(output, calls[0].response["text"]);
    assert_eq!(calls[0].usage, Some(calls[0].counted), "what it reports is what we count");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_runs_out_of_time_is_retryable_and_reports_what_was_used() {
    let job = Job { timeout_ms: 5_000, ..agent_job("simulated-small", "Go [[simulate stall after_tokens=3]]") };
    let started = tokio::time::Instant::now();
    let (error, calls) = failed(run(&job, &Recorder::default(), &simulated()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Retryable, "attempt_timeout"));
    assert_eq!(started.elapsed().as_millis(), 5_000);
    assert_eq!(calls[0].usage, None);
    assert!(calls[0].counted.input_tokens > 0 && calls[0].counted.output_tokens >= 3);
    assert_eq!(calls[0].duration_ms, 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_step_ends_at_once() {
    let context = Recorder { cancel_at_first_delta: true, ..Recorder::default() };
    let job = agent_job("simulated-small", "Go [[simulate stall after_tokens=1]]");
    let started = tokio::time::Instant::now();
    let (error, calls) = failed(run(&job, &context, &simulated()).await);
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert_eq!(started.elapsed().as_millis(), 0);
    assert!(calls[0].counted.output_tokens > 0);
}

#[tokio::test]
async fn a_step_cancelled_before_it_began_asks_for_nothing() {
    let context = Recorder::default();
    context.token.cancel();
    let (error, calls) = failed(run(&agent_job("simulated-small", "Hi"), &context, &simulated()).await);
    assert_eq!((error.class, calls), (ErrorClass::Cancelled, Vec::new()));
    assert_eq!(context.asked(), []);
}

#[tokio::test]
async fn a_step_cancelled_while_its_permit_was_on_its_way_sends_nothing_and_returns_the_call_free() {
    let server = Server::streaming([text("x"), finish("stop")]).await;
    let context = Recorder { cancel_at_reserve: true, ..Recorder::default() };
    let (error, calls) = failed(run(&agent_job("m", "Hi"), &context, &server.providers()).await);
    assert_eq!(error.class, ErrorClass::Cancelled);
    assert_eq!((calls[0].id, calls[0].usage, calls[0].counted), (call_id(), None, Usage::default()));
    assert_eq!(server.received().len(), 0);
}

#[tokio::test]
async fn a_template_that_cannot_be_rendered_fails_for_good_before_any_call() {
    let context = Recorder::default();
    let (error, calls) =
        failed(run(&agent_job("simulated-small", "{{ inputs.missing }}"), &context, &simulated()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "template_error"));
    assert!(error.message.contains("`prompt`"), "{}", error.message);
    assert_eq!((calls, context.asked()), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn instructions_are_sent_as_they_stand_braces_and_all() {
    let server = Server::streaming([text("x"), finish("stop"), DONE.into()]).await;
    let instructions = "Fill in {{ inputs.idea }} and {{ nobody }}, then close {% if.";
    let mut job = agent_job("m", "Say hi");
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.instructions = instructions.into();
    succeeded(run(&job, &Recorder::default(), &server.providers()).await);
    let system = json!({"role": "system", "content": instructions});
    assert_eq!(server.received()[0].body["messages"][0], system);
}

#[tokio::test]
async fn a_model_that_nobody_serves_fails_for_good_and_says_what_to_configure() {
    let (error, _) = failed(run(&agent_job("gpt-9", "Hi"), &Recorder::default(), &Providers::default()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "no_provider_for_model"));
    assert!(error.message.contains("configure"), "{}", error.message);
}

#[tokio::test]
async fn a_transform_renders_its_output_and_calls_nobody() {
    let output = json!({"title": "About {{ inputs.idea }}", "count": 3, "list": ["{{ inputs.idea }}"]});
    let job = Job { action: Action::Transform(TransformStep { output }), ..agent_job("m", "") };
    let context = Recorder::default();
    let (rendered, calls) = succeeded(run(&job, &context, &Providers::default()).await);
    assert_eq!(rendered, json!({"title": "About a to-do list", "count": 3, "list": ["a to-do list"]}));
    assert_eq!((calls, context.asked()), (Vec::new(), Vec::new()));

    let broken = Job { action: Action::Transform(TransformStep { output: json!("{{ nodes.nobody.output }}") }), ..job };
    let (error, _) = failed(run(&broken, &context, &Providers::default()).await);
    assert_eq!(error.code, "template_error");
}

#[tokio::test]
async fn a_job_can_be_spawned() {
    let spawned = tokio::spawn(async {
        let (job, context, providers) = (agent_job("simulated-small", "Hi"), Recorder::default(), simulated());
        run(&job, &context, &providers).await
    });
    succeeded(spawned.await.unwrap());
}

#[tokio::test]
async fn what_users_said_is_heard_before_the_call_is_asked_for_again() {
    let server = Server::streaming([text("Yes"), finish("stop"), usage(11, 2), DONE.into()]).await;
    let context = Recorder::answering(Ok(CallPermit::Listen(2)));
    succeeded(run(&agent_job("m", "Go"), &context, &server.providers()).await);
    let asked = context.asked();
    assert_eq!(asked.iter().map(|wish| (wish.number, wish.heard)).collect::<Vec<_>>(), [(1, 0), (1, 2)]);
    assert!(asked[0].request_hash != asked[1].request_hash && asked[0].input_tokens < asked[1].input_tokens);
    let received = server.received();
    assert_eq!(received.len(), 1, "nothing is sent before it was heard");
    let said: Vec<_> = received[0].body["messages"].as_array().unwrap().iter().skip(1).collect();
    let user = |content: &str| json!({"role": "user", "content": content});
    assert_eq!(said, [&user("Go"), &user("message 1"), &user("message 2")]);
}

#[tokio::test]
async fn an_engine_that_says_the_same_twice_is_not_listened_to_for_ever() {
    let context = Recorder::answering(Ok(CallPermit::Listen(0)));
    let (error, calls) = failed(run(&agent_job("simulated-small", "Go"), &context, &simulated()).await);
    assert_eq!((error.code.as_str(), calls.len()), ("told_twice", 0));
}

/// A step that remembers at most so many tokens, and what there is to remember.
fn remembering(tokens: u64) -> Job {
    let mut job = agent_job("m", "Go");
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.memory = Some(Memory { kind: MemoryKind::Agent, tokens });
    let exchange = |number: usize| {
        let asked = Message::User { content: format!("question {number}") };
        vec![asked, Message::Assistant { content: format!("answer {number}"), tool_calls: Vec::new() }]
    };
    job.memory = (1..=3).map(exchange).collect();
    job.keeps_prompt = true;
    job
}

#[tokio::test]
async fn what_does_not_fit_into_the_window_is_forgotten_the_oldest_first() {
    let mut tokens = Vec::new();
    for (window, expected) in [
        (1_000, vec!["question 1", "answer 1", "question 2", "answer 2", "question 3", "answer 3", "Go"]),
        // an exchange is about a dozen of tokens, and is remembered whole or not at all
        (45, vec!["question 2", "answer 2", "question 3", "answer 3", "Go"]),
        (1, vec!["Go"]),
    ] {
        let server = Server::streaming([text("Yes"), finish("stop"), usage(11, 2), DONE.into()]).await;
        let context = Recorder::default();
        succeeded(run(&remembering(window), &context, &server.providers()).await);
        let body = server.received()[0].body.clone();
        let told: Vec<_> =
            body["messages"].as_array().unwrap().iter().skip(1).map(|message| &message["content"]).collect();
        assert_eq!(told, expected, "{window}");
        tokens.push(context.asked()[0].input_tokens);
        assert_eq!(*context.remembered.lock().unwrap(), ["Go"]);
    }
    assert!(tokens.is_sorted_by(|a, b| a > b), "memory is counted as input: {tokens:?}");
}

#[tokio::test]
async fn what_was_said_on_the_way_is_remembered_with_the_prompt_and_failures_are_not() {
    let server = Server::streaming([text("Yes"), finish("stop"), usage(11, 2), DONE.into()]).await;
    let context = Recorder::answering(Ok(CallPermit::Listen(1)));
    succeeded(run(&remembering(1), &context, &server.providers()).await);
    assert_eq!(*context.remembered.lock().unwrap(), ["Go\n\nmessage 1"]);
    let context = Recorder::answering(Err(CallRefusal::StaleFence));
    failed(run(&remembering(1), &context, &server.providers()).await);
    assert_eq!(context.remembered.lock().unwrap().len(), 0);
}
