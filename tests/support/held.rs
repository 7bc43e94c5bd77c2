//! A provider over HTTP that the test holds by the hand: a call whose prompt says so waits at a gate, before its answer
//! or in the middle of it. Only the first call of each prompt waits; whoever asks again is answered at once.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use futures::{StreamExt, stream};
use tokio::sync::watch;

/// The server, on a port of its own.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    url: String,
    /// How often each prompt's mark was asked for.
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    gate: watch::Sender<bool>,
}

impl Held {
    /// Starts it with a shut gate; it ends with the test. Prompts are told apart by the `marks` in them; a mark that
    /// begins with `before` waits before its answer, one that begins with `middle` after its first words.
    pub(crate) async fn start(marks: &'static [&'static str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let held = Self { url, asked: Arc::default(), gate: watch::Sender::new(false) };
        let own = held.clone();
        let answer = async move |body: String| {
            let mark = marks.iter().find(|mark| body.contains(**mark)).expect("a prompt has a mark");
            let times = {
                let mut asked = own.asked.lock().unwrap();
                let times = asked.entry((*mark).to_owned()).or_default();
                *times += 1;
                *times
            };
            let mut gate = own.gate.subscribe();
            if times == 1 && mark.starts_with("before") {
                let _ = gate.wait_for(|is_open| *is_open).await;
            }
            talk((times == 1 && mark.starts_with("middle")).then_some(gate))
        };
        let site = Router::new().route("/v1/chat/completions", post(answer));
        tokio::spawn(async move { axum::serve(listener, site).await });
        held
    }

    /// Where workers reach it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How often a mark was asked for.
    pub(crate) fn asked(&self, mark: &str) -> usize {
        self.asked.lock().unwrap().get(mark).copied().unwrap_or_default()
    }

    /// Lets everybody go on, for good.
    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }
}

fn chunk(rest: &str) -> String {
    format!(
        "data: {{\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"gpt-4.1-mini\",{rest}}}\n\n"
    )
}

/// Two words, the end, ten tokens in and two out; it waits at the gate after the first.
fn talk(gate: Option<watch::Receiver<bool>>) -> Response {
    let word = |word: &str, end: &str| {
        chunk(&format!("\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":{end}}}]"))
    };
    let usage = chunk("\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"total_tokens\":12}");
    let rest = format!("{}{usage}data: [DONE]\n\n", word("word", "\"stop\""));
    let first = word("first ", "null");
    let words = stream::once(async move { Bytes::from(first) }).chain(stream::once(async move {
        if let Some(mut gate) = gate {
            let _ = gate.wait_for(|is_open| *is_open).await;
        }
        Bytes::from(rest)
    }));
    let words = words.map(Ok::<_, Infallible>);
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(words.boxed())).unwrap()
}
