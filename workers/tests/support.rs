//! What the tests share: a context that records what a step asks of it, jobs, and a small OpenAI-like server.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bursar_domain::id::{CallId, TaskId, ToolCallId};
use bursar_domain::outcome::{
    CallPermit, CallRefusal, CallRequest, FinishedCall, Outcome, StepError, ToolEffects, ToolEnd, ToolIntent,
    ToolPermit, ToolRequest,
};
use bursar_domain::workflow::{self, Action, AgentStep};
use bursar_workers::providers::{Models, OpenAiConfig, SimulatedConfig};
use bursar_workers::tools::{Tool, ToolError, ToolLimits};
use bursar_workers::{Context, Job, Providers};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A context over values: answers from a list (then always with a permit), and remembers everything.
#[derive(Default)]
pub struct Recorder {
    pub token: CancellationToken,
    pub answers: Mutex<VecDeque<Result<CallPermit, CallRefusal>>>,
    pub asked: Mutex<Vec<CallRequest>>,
    pub deltas: Mutex<Vec<String>>,
    /// Answers to wishes for tools; then always with permits.
    pub tool_answers: Mutex<VecDeque<Result<Vec<ToolPermit>, CallRefusal>>>,
    pub tools_asked: Mutex<Vec<ToolRequest>>,
    pub tools_ended: Mutex<Vec<ToolEnd>>,
    /// What is kept under any hash, and the hashes that were asked for.
    pub kept: Option<Value>,
    pub hashes: Mutex<Vec<String>>,
    /// What steps wanted to be remembered.
    pub remembered: Mutex<Vec<String>>,
    /// Cancels as soon as text arrives.
    pub cancel_at_first_delta: bool,
    /// Cancels while it gives the permit.
    pub cancel_at_reserve: bool,
}

impl Recorder {
    pub fn answering(answer: Result<CallPermit, CallRefusal>) -> Self {
        Self { answers: Mutex::new([answer].into()), ..Self::default() }
    }

    pub fn streamed(&self) -> String {
        self.deltas.lock().unwrap().concat()
    }

    pub fn asked(&self) -> Vec<CallRequest> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Context for Recorder {
    fn cancelled(&self) -> &CancellationToken {
        &self.token
    }

    async fn reserve(&self, call: CallRequest) -> Result<CallPermit, CallRefusal> {
        let number = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(call);
            asked.len() as u128
        };
        if self.cancel_at_reserve {
            self.token.cancel();
        }
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(CallPermit::Send(nth_call_id(number))))
    }

    async fn begin_tools(&self, request: ToolRequest) -> Result<Vec<ToolPermit>, CallRefusal> {
        let first = {
            let mut asked = self.tools_asked.lock().unwrap();
            asked.push(request.clone());
            asked.len() as u128 * 100
        };
        let permit = |(at, _): (u128, &ToolIntent)| ToolPermit::Run(ToolCallId::from_uuid(Uuid::from_u128(first + at)));
        let permits = (0..).zip(&request.calls).map(permit).collect();
        self.tool_answers.lock().unwrap().pop_front().unwrap_or(Ok(permits))
    }

    async fn end_tool(&self, end: ToolEnd) -> Result<(), CallRefusal> {
        self.tools_ended.lock().unwrap().push(end);
        Ok(())
    }

    async fn said(&self, after: i64, upto: i64) -> Result<Vec<String>, CallRefusal> {
        Ok((after + 1..=upto).map(|number| format!("message {number}")).collect())
    }

    fn remember(&self, prompt: String) {
        self.remembered.lock().unwrap().push(prompt);
    }

    async fn kept_output(&self, hash: &str) -> Option<Value> {
        self.hashes.lock().unwrap().push(hash.to_owned());
        self.kept.clone()
    }

    fn delta(&self, text: &str) {
        self.deltas.lock().unwrap().push(text.to_owned());
        if self.cancel_at_first_delta {
            self.token.cancel();
        }
    }

    fn tokenizer(&self, _model: &str) -> (Option<String>, u32) {
        (None, 1_000_000)
    }
}

/// A job of the one node of a workflow, from the node's YAML, with `inputs` as the mission's.
pub fn node_job(node: &str, inputs: &Value) -> Job {
    let text = format!("workflow: w\nnodes:\n  n: {{ {node} }}\n");
    let definition = workflow::parse(&text, workflow::Syntax::Yaml).unwrap();
    let mut job = agent_job("m", "");
    job.action = definition.nodes[0].action.clone();
    job.context["inputs"] = inputs.clone();
    job
}

/// The id of the first call that a [`Recorder`] grants.
pub fn call_id() -> CallId {
    nth_call_id(1)
}

fn nth_call_id(number: u128) -> CallId {
    CallId::from_uuid(Uuid::from_u128(41 + number))
}

/// A tool that notes what it was asked and says so.
#[derive(Debug, Clone)]
pub struct Probe {
    name: &'static str,
    pub parameters: Value,
    pub limits: ToolLimits,
    /// Never answers.
    pub hangs: bool,
    ran: Arc<Mutex<Vec<Value>>>,
}

impl Probe {
    pub fn new(name: &'static str) -> Self {
        let parameters = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        Self { name, parameters, limits: ToolLimits::default(), hangs: false, ran: Arc::default() }
    }

    pub fn ran(&self) -> Vec<Value> {
        self.ran.lock().unwrap().clone()
    }
}

#[async_trait]
impl Tool for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> &'static str {
        "Looks at number n."
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn effects(&self) -> ToolEffects {
        ToolEffects::None
    }

    fn limits(&self) -> ToolLimits {
        self.limits
    }

    async fn call(&self, arguments: &Value) -> Result<String, ToolError> {
        self.ran.lock().unwrap().push(arguments.clone());
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Ok(format!("saw {}", arguments["n"]))
    }
}

/// A first attempt of an agent step with this prompt.
pub fn agent_job(model: &str, prompt: &str) -> Job {
    Job {
        task_id: TaskId::from_uuid(Uuid::from_u128(7)),
        node: "prd".into(),
        attempt: 1,
        action: Action::Agent(AgentStep {
            agent: "engineer".into(),
            instructions: "You are an engineer.".into(),
            model: model.into(),
            fallbacks: Vec::new(),
            prompt: prompt.into(),
            max_output_tokens: 200,
            temperature: None,
            output: None,
            tools: Vec::new(),
            max_turns: 4,
            max_tool_calls: 8,
            memory: None,
        }),
        cache: None,
        context: json!({"inputs": {"idea": "a to-do list"}, "nodes": {}, "run": {}, "task": {}}),
        heard: 0,
        memory: Vec::new(),
        keeps_prompt: false,
        timeout_ms: 30_000,
    }
}

/// The simulated provider without any pace.
pub fn simulated() -> Providers {
    Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).build().unwrap()
}

/// The output and calls of a success.
#[track_caller]
pub fn succeeded(outcome: Outcome) -> (Value, Vec<FinishedCall>) {
    match outcome {
        Outcome::Succeeded { output, calls } => (output, calls),
        other => panic!("expected a success, got {other:?}"),
    }
}

/// The error and calls of a failure.
#[track_caller]
pub fn failed(outcome: Outcome) -> (StepError, Vec<FinishedCall>) {
    match outcome {
        Outcome::Failed { error, calls } => (error, calls),
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// Fails instead of hanging when what is awaited never comes.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.unwrap_or_else(|_| panic!("{what} never came"))
}

/// One request as a server got it.
#[derive(Clone)]
pub struct Received {
    pub headers: HeaderMap,
    pub body: Value,
}

/// A server on a free port whose every path gives one answer.
pub struct Server {
    pub base_url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Starts it; `answer` makes the response to each request.
    pub async fn start<A, F>(answer: A) -> Self
    where
        A: Fn() -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let received = Arc::new(Mutex::new(Vec::new()));
        let journal = Arc::clone(&received);
        let app = axum::Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            journal.lock().unwrap().push(Received { headers, body });
            answer()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { base_url, received }
    }

    /// A server that streams these pieces and closes.
    pub async fn streaming<P: Into<Vec<u8>>>(pieces: impl IntoIterator<Item = P>) -> Self {
        let pieces: Vec<Vec<u8>> = pieces.into_iter().map(Into::into).collect();
        Self::start(move || {
            let pieces = pieces.clone();
            async move { event_stream(stream::iter(pieces)) }
        })
        .await
    }

    /// A server that answers with this status, these headers, this body.
    pub async fn refusing(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Self {
        let (headers, body) = (headers.to_vec(), body.to_owned());
        Self::start(move || {
            let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
            for (name, value) in &headers {
                response = response.header(*name, *value);
            }
            std::future::ready(response.body(Body::from(body.clone())).unwrap())
        })
        .await
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// A configuration that reaches this server, for model `m`.
    pub fn config(&self) -> OpenAiConfig {
        // Fails only when it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        OpenAiConfig {
            api_key: Some("sk-test-key-123456".into()),
            models: Models::Listed(vec!["m".into()]),
            ..OpenAiConfig::new("fake", &self.base_url)
        }
    }

    pub fn providers(&self) -> Providers {
        Providers::builder().openai(self.config()).build().unwrap()
    }
}

/// A streaming response of these pieces.
pub fn event_stream(pieces: impl Stream<Item = Vec<u8>> + Send + 'static) -> Response {
    let pieces = pieces.map(Ok::<_, Infallible>);
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(pieces)).unwrap()
}

/// One event with this JSON.
pub fn event(json: &Value) -> String {
    format!("data: {json}\n\n")
}

/// One event with a piece of text.
pub fn text(text: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}], "usage": null}))
}

/// One event with a finish reason.
pub fn finish(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

/// One event with usage and no choice.
pub fn usage(input: i64, output: i64) -> String {
    event(&json!({"choices": [], "usage": {"prompt_tokens": input, "completion_tokens": output}}))
}

/// The end of a stream.
pub const DONE: &str = "data: [DONE]\n\n";

/// Tells when it is dropped: how a server sees its client leave.
pub struct Farewell(pub Arc<Notify>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
