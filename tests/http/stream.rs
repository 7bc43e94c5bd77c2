//! Streams: everything once, in order, from wherever the client was.

use std::time::{Duration, Instant};

use bursar::http::StreamEvent;
use futures::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::server::{Server, Setup};

/// A stream that is being read.
pub struct Sse {
    pieces: futures::stream::BoxStream<'static, Vec<u8>>,
    text: String,
    last: String,
    silence_ends: Instant,
}

/// The longest pause between two events; heartbeats do not count.
const SILENCE: Duration = Duration::from_secs(20);

/// One event as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    pub id: Option<i64>,
    /// When the client is asked to come again, in ms, where it is.
    pub retry: Option<u64>,
    pub kind: String,
    pub data: Value,
}

impl Sse {
    pub fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        Self::read(response.bytes_stream().map(|piece| piece.unwrap().to_vec()).boxed())
    }

    /// The same, of a server that may die: then the stream is over.
    pub fn until_it_breaks(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        let whole = response.bytes_stream().take_while(|piece| futures::future::ready(piece.is_ok()));
        Self::read(whole.map(|piece| piece.unwrap().to_vec()).boxed())
    }

    fn read(pieces: futures::stream::BoxStream<'static, Vec<u8>>) -> Self {
        Self { pieces, text: String::new(), last: String::new(), silence_ends: Instant::now() + SILENCE }
    }

    /// The next event; `None` when the server closed the stream.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                if let Some(data) = line("data: ") {
                    let data: Value = serde_json::from_str(&data).unwrap();
                    let kind = line("event: ").unwrap();
                    assert_eq!(data["type"], kind);
                    self.silence_ends = Instant::now() + SILENCE;
                    self.last.clone_from(&kind);
                    let id = line("id: ").map(|id| id.parse().unwrap());
                    let retry = line("retry: ").map(|retry| retry.parse().unwrap());
                    return Some(Heard { id, retry, kind, data });
                }
            }
            let left = self.silence_ends.saturating_duration_since(Instant::now());
            let piece = tokio::time::timeout(left, self.pieces.next()).await;
            let piece = piece.unwrap_or_else(|_| panic!("no event for {SILENCE:?} after {:?}", self.last))?;
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// Everything until the server closes.
    pub async fn rest(mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(event) = self.next().await {
            heard.push(event);
        }
        heard
    }
}

async fn open(server: &Server, id: &str, after: Option<i64>) -> Response {
    let request = server.request(Method::GET, &format!("/v1/missions/{id}/stream")).bearer_auth(&server.ours.key);
    let request = match after {
        Some(seq) => request.header("Last-Event-ID", seq.to_string()),
        None => request,
    };
    request.send().await.unwrap()
}

/// The log as JSON.
async fn log(server: &Server, id: &str) -> Vec<Value> {
    server.get(&format!("/v1/missions/{id}/events?limit=100")).await.expect(200)["data"].as_array().unwrap().clone()
}

fn durable(heard: &[Heard]) -> Vec<Value> {
    heard.iter().filter(|event| event.id.is_some()).map(|event| event.data.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_whole_log_and_then_ends() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let id = mission["id"].as_str().unwrap();
    let response = open(&server, id, None).await;
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/event-stream");
    assert_eq!(header("cache-control"), "no-cache, no-transform");
    assert_eq!(header("x-accel-buffering"), "no");
    let heard = Sse::of(response).rest().await;
    assert_eq!(durable(&heard), log(&server, id).await);
    assert_eq!(heard.last().unwrap().kind, "stream.end");
    let kinds: Vec<_> = heard.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["mission.created", "task.succeeded", "task.succeeded", "mission.succeeded", "stream.end"]);
    let after_the_end = open(&server, id, Some(heard.len() as i64 - 1)).await;
    assert_eq!(after_the_end.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_misses_nothing_and_hears_nothing_twice() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let id = mission["id"].as_str().unwrap();
    let log = log(&server, id).await;
    for after in 0..log.len() {
        let heard = Sse::of(open(&server, id, Some(after as i64)).await).rest().await;
        assert_eq!(durable(&heard), log[after..], "after {after}");
    }
    let by_query =
        server.request(Method::GET, &format!("/v1/missions/{id}/stream?after=2")).bearer_auth(&server.ours.key);
    assert_eq!(durable(&Sse::of(by_query.send().await.unwrap()).rest().await), log[2..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_hear_a_running_mission_without_gap_or_double() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate delay_ms=300 tokens=150]]"})).await;
    let streams = (0..50).map(|_| async { Sse::of(open(&server, &id, None).await).rest().await });
    let all = futures::future::join_all(streams).await;
    let log = log(&server, &id).await;
    for heard in &all {
        assert_eq!(durable(heard), log);
    }
    let text = |heard: &[Heard]| -> String {
        let said = heard.iter().filter(|event| event.kind == "task.delta" || event.kind == "task.delta_snapshot");
        said.map(|event| event.data["data"]["text"].as_str().unwrap()).collect()
    };
    let said = server.finished(&id).await["output"]["text"].clone();
    assert_eq!(text(&all[0]).trim(), said.as_str().unwrap().trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_is_told_what_was_said_before() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall after_tokens=30]]"})).await;
    let mut first = Sse::of(open(&server, &id, None).await);
    let mut said = String::new();
    while said.split_whitespace().count() < 10 {
        let event = first.next().await.unwrap();
        if event.kind.starts_with("task.delta") {
            said.push_str(event.data["data"]["text"].as_str().unwrap());
        }
    }
    let mut late = Sse::of(open(&server, &id, None).await);
    let snapshot = loop {
        let event = late.next().await.unwrap();
        assert_ne!(event.kind, "stream.caught_up", "the snapshot comes before");
        if event.kind == "task.delta_snapshot" {
            break event;
        }
    };
    assert_eq!(snapshot.id, None);
    assert!(snapshot.data["data"]["text"].as_str().unwrap().starts_with(said.trim_end()));
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(late.rest().await.last().unwrap().kind, "stream.end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_attempt_voids_the_text_of_the_earlier_one() {
    let server = Server::start_with(Setup { agent_slots: 1, ..Setup::default() }).await;
    // the only slot is taken, so that the stream stands before the first attempt
    let blocker = server.submit("talk", &json!({"prompt": "[[simulate delay_ms=700 tokens=1]]"})).await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate fail=retryable times=1 after_tokens=20]] go"})).await;
    let heard = Sse::of(open(&server, &id, None).await).rest().await;
    let place = |kind: &str| heard.iter().position(|event| event.kind == kind).unwrap_or_else(|| panic!("no {kind}"));
    assert!(place("stream.caught_up") < place("task.started"));
    assert!(place("task.delta") < place("task.retrying"));
    assert!(place("task.retrying") < place("task.attempt_reset"));
    assert_eq!(durable(&heard), log(&server, &id).await);
    server.finished(&blocker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_frame_told_the_look_at_the_log_finds() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let mut stream = Sse::of(open(&server, &id, None).await);
    while stream.next().await.unwrap().kind != "stream.caught_up" {}
    // another process, without a relay between the two, ends the mission
    let relay = bursar::stream::Relay::local(std::sync::Arc::default());
    let queue = std::sync::Arc::new(bursar::queue::MemoryQueue::default());
    let clock = server.engine.clock().clone();
    let elsewhere = bursar::engine::Engine::new(server.engine.store().clone(), queue, relay, clock);
    elsewhere.cancel(id.parse().unwrap(), None).await.unwrap();
    let heard = stream.rest().await;
    assert_eq!(heard.last().unwrap().kind, "stream.end");
    assert!(heard.iter().any(|event| event.kind == "mission.cancelled"));
    let metrics = server.send(server.request(Method::GET, "/metrics")).await.text;
    let finds = metrics.lines().find_map(|line| line.strip_prefix("bursar_stream_backstop_finds_total ")).unwrap();
    assert!(finds.parse::<u64>().unwrap() >= 1, "{finds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_loses_texts_but_no_events() {
    use bursar::stream::{Frame, FrameBody};
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let mut slow = Sse::of(open(&server, &id, None).await);
    while slow.next().await.unwrap().kind != "stream.caught_up" {}
    // far more than sockets and the hub can hold while nobody reads
    let (mission_id, task_id) = (id.parse().unwrap(), bursar::clock::new_id());
    for index in 0..60_000 {
        let text = "x".repeat(200);
        let body = FrameBody::Delta { task_id, node: "write".to_owned(), attempt: 1, index, text };
        server.engine.relay().publish(Frame { mission_id, body });
    }
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    server.finished(&id).await;
    let heard = slow.rest().await;
    let texts = heard.iter().filter(|event| event.kind == "task.delta").count();
    assert!(texts < 60_000, "the test did not overrun anything");
    assert_eq!(durable(&heard), log(&server, &id).await[1..]);
    assert_eq!(heard.last().unwrap().kind, "stream.end");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_come_twice_or_too_early_change_nothing() {
    use bursar::stream::{Frame, FrameBody};
    use bursar_domain::record::Event;
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let mut stream = Sse::of(open(&server, &id, None).await);
    while stream.next().await.unwrap().kind != "stream.caught_up" {}
    let mission_id = id.parse().unwrap();
    for seq in [1, 3, 1] {
        let event = Event {
            mission_id,
            seq,
            tenant_id: server.ours.id,
            run_id: bursar::clock::new_id(),
            kind: "mission.created".to_owned(),
            task_id: None,
            node: None,
            attempt: None,
            data: json!({}),
            at: server.engine.clock().now(),
        };
        let body = FrameBody::Event { seq, event: Some(Box::new(event)) };
        server.engine.relay().publish(Frame { mission_id, body });
    }
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    server.finished(&id).await;
    assert_eq!(durable(&stream.rest().await), log(&server, &id).await[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_token_opens_its_own_stream_and_nothing_else() {
    let server = Server::start().await;
    let mine = server.run("note", &json!({"name": "a"})).await;
    let other = server.run("note", &json!({"name": "b"})).await;
    let (id, token) = (mine["id"].as_str().unwrap(), mine["stream"]["token"].as_str().unwrap());
    let open = |id: &str, token: &str| {
        let path = format!("/v1/missions/{id}/stream?access_token={token}");
        server.send(server.request(Method::GET, &path))
    };
    assert_eq!(open(id, token).await.status, 200);
    open(other["id"].as_str().unwrap(), token).await.refused(401, "unauthorized");
    open(id, "st_1.x").await.refused(401, "unauthorized");
    let elsewhere = server.request(Method::GET, &format!("/v1/missions/{id}?access_token={token}"));
    server.send(elsewhere).await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_as_the_description_says() {
    let server = Server::start().await;
    let retried = "[[simulate fail=retryable times=1 after_tokens=5]]";
    let mut kinds = Vec::new();
    // the last two do not end by themselves: they are cancelled once the event has come that they are here for
    for (prompt, cancelled_at) in [
        ("plain", None),
        ("[[simulate fail=permanent]]", None),
        (retried, None),
        ("[[simulate fail=rate_limited retry_after_ms=50]]", Some("task.waiting")),
        ("[[simulate stall after_tokens=3]]", Some("stream.caught_up")),
    ] {
        let id = server.submit("talk", &json!({"prompt": prompt})).await;
        let mut stream = Sse::of(open(&server, &id, None).await);
        let mut cancelled_at = cancelled_at;
        while let Some(event) = stream.next().await {
            let read = serde_json::from_value::<StreamEvent>(event.data.clone());
            assert!(read.is_ok(), "{:?}: {}", read.unwrap_err(), event.data);
            if cancelled_at.is_some_and(|kind| kind == event.kind) {
                server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
                cancelled_at = None;
            }
            kinds.push(event.kind);
        }
    }
    for kind in ["mission.failed", "task.failed", "task.skipped", "task.retrying", "task.waiting", "mission.cancelling"]
    {
        assert!(kinds.iter().any(|heard| heard == kind), "{kind} never came: {kinds:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_in_pages() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let path = format!("/v1/missions/{}/events", mission["id"].as_str().unwrap());
    let (mut after, mut seqs) = (0, Vec::new());
    loop {
        let page = server.get(&format!("{path}?after={after}&limit=1")).await.expect(200);
        seqs.extend(page["data"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()));
        after = page["next_after"].as_i64().unwrap();
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seqs, [1, 2, 3, 4]);
}
