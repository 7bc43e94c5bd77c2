//! The listener: cuts who is too slow, refuses who is too many, ends in order.

use std::time::{Duration, Instant};

use bursar::http::Patience;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::server::{Server, Setup};
use super::stream::Sse;

const SHORT: Duration = Duration::from_millis(400);

async fn impatient(connections: usize) -> Server {
    let patience = Patience { header: SHORT, body: SHORT, connections, ..Patience::default() };
    Server::start_with(Setup { agent_slots: 1, patience }).await
}

/// Sends bytes and reads until the server closes.
async fn say(server: &Server, text: &str) -> String {
    let mut socket = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), socket.read_to_end(&mut answer)).await;
    read.expect("the server held a half-sent request").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_head_is_cut() {
    let server = impatient(100).await;
    for head in ["", "GET /livez HTT", "GET /livez HTTP/1.1\r\nhost: x\r\n"] {
        let began = Instant::now();
        say(&server, head).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{head}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_body_is_cut_with_an_answer() {
    let server = impatient(100).await;
    let head = format!(
        "POST /v1/missions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"work",
        server.ours.key
    );
    let answer = say(&server, &head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"request-timeout\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_at_once() {
    let server = Server::start().await;
    let head = format!(
        "POST /v1/missions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 5000000\r\n\r\n",
        server.ours.key
    );
    let began = Instant::now();
    let answer = say(&server, &head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_answered_and_closed() {
    let patience = Patience { connections: 2, ..Patience::default() };
    let server = Server::start_with(Setup { agent_slots: 1, patience }).await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    let path = format!("/v1/missions/{id}/stream");
    let open = || server.request(Method::GET, &path).bearer_auth(&server.ours.key).send();
    let (mut first, mut second) = (Sse::of(open().await.unwrap()), Sse::of(open().await.unwrap()));
    first.next().await.unwrap();
    second.next().await.unwrap();
    let answer = say(&server, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_streams_in_order_and_ends() {
    let mut server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    let path = format!("/v1/missions/{id}/stream");
    let response = server.request(Method::GET, &path).bearer_auth(&server.ours.key).send().await.unwrap();
    let mut stream = Sse::of(response);
    while stream.next().await.unwrap().kind != "stream.caught_up" {}
    let began = Instant::now();
    server.stop.cancel();
    let heard = stream.rest().await;
    let last = heard.last().unwrap();
    assert_eq!((last.kind.as_str(), last.id), ("stream.closing", None));
    assert!(last.data["data"]["retry_ms"].as_u64().unwrap() >= 1_000);
    server.listener.take().unwrap().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(server.request(Method::GET, "/livez").send().await.is_err(), "nobody listens any more");
}
