//! A provider over HTTP whose answers never end: it counts the connections that are open, so that a test sees which were
//! dropped.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use futures::StreamExt;
use futures::stream;
use tokio::time::MissedTickBehavior;

/// How often it says a word.
const PACE: Duration = Duration::from_millis(100);

/// The server, on a port of its own.
#[derive(Debug)]
pub(crate) struct Endless {
    url: String,
    served: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

/// One answer under way; dropped with its connection.
struct Answer(Arc<AtomicUsize>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Endless {
    /// Starts it; it ends with the test.
    pub(crate) async fn start() -> Self {
        let (served, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (served.clone(), open.clone());
        let answer = async move || {
            counts.0.fetch_add(1, Ordering::SeqCst);
            counts.1.fetch_add(1, Ordering::SeqCst);
            talk(Answer(counts.1.clone()))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let site = Router::new().route("/v1/chat/completions", post(answer));
        tokio::spawn(async move { axum::serve(listener, site).await });
        Self { url, served, open }
    }

    /// Where workers reach it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How many calls it took.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// How many of them are still being answered.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

fn talk(answer: Answer) -> Response {
    const WORD: &str = "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":0,\"model\":\"gpt-4.1-mini\",\
                        \"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";
    let mut ticks = tokio::time::interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let words = stream::unfold((ticks, answer), |(mut ticks, answer)| async move {
        ticks.tick().await;
        Some((Ok::<_, Infallible>(Bytes::from_static(WORD.as_bytes())), (ticks, answer)))
    });
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(words.boxed())).unwrap()
}
