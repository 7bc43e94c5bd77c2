//! Clients that follow missions while the server is killed or told to stop, and clients that leave in the middle or do
//! not read. No mission depends on who watches it, and whoever comes back has each event once and in order.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bursar::stream::{Frame, FrameBody};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::processes::{Installation, WorkerProcess, items};
use super::{PATIENCE, all_succeed, ending};
use crate::http::server::Server;
use crate::http::stream::{Heard, Sse};
use crate::support::eventually;
use crate::support::held::Held;

/// A mission for each; its first answer waits in the middle, so that nothing ends while the test breaks something.
const MARKS: [&str; 4] = ["middle-north", "middle-east", "middle-south", "middle-west"];

const PIECE: &str = "
workflow: piece
flat_fee: 1
defaults: { model: gpt-4.1-mini, max_output_tokens: 40 }
agents: { a: { instructions: 'You write.' } }
nodes:
  write: { agent: a, prompt: 'Write {{ inputs.mark }}.' }
  ask: { needs: [write], approval: { show: '{{ nodes.write.output }}' } }
  last: { needs: [ask], transform: '{{ nodes.write.output }}', units: { step: 1 } }
";

/// How long the server gives its connections at a stop.
const GRACE: Duration = Duration::from_secs(10);

/// Missions that people watch.
struct Show {
    installation: Installation,
    provider: Held,
    missions: Vec<String>,
}

impl Show {
    async fn open() -> Self {
        let installation = Installation::start().await;
        installation.put("piece", PIECE).await;
        let mut missions = Vec::new();
        for mark in MARKS {
            missions.push(installation.submit("piece", json!({"mark": mark}), None).await);
        }
        Self { installation, provider: Held::start(&MARKS).await, missions }
    }

    fn worker(&mut self) -> WorkerProcess {
        let environment = [("OPENAI_BASE_URL", self.provider.url()), ("OPENAI_API_KEY", "k"), ("RUST_LOG", "error")];
        self.installation.worker(&environment)
    }

    /// While nobody serves: the answers end, and each mission comes to where it asks a person.
    async fn go_on_unwatched(&self) {
        self.provider.open();
        let store = bursar::store::open(self.installation.database_url(), 2).await.unwrap();
        let asked = "select count(*) as n from events where kind = 'approval.requested'";
        eventually("each mission asks", PATIENCE, async || {
            (store.rows(asked, &[]).await.unwrap()[0]["n"] == MARKS.len()).then_some(())
        })
        .await;
        store.close().await;
    }

    async fn approve_all(&self) {
        for mission in &self.missions {
            let open = self.installation.get(&format!("/v1/approvals?mission_id={mission}")).await.unwrap();
            let path = format!("/v1/approvals/{}/decide", items(&open)[0]["id"].as_str().unwrap());
            let (status, told) = self.installation.post(&path, &json!({"decision": "approved"})).await;
            assert_eq!(status, 200, "{told:#}");
        }
    }

    /// The numbered events of a mission.
    async fn log(&self, mission: &str) -> Vec<Value> {
        items(&self.installation.get(&format!("/v1/missions/{mission}/events?limit=100")).await.unwrap())
    }

    async fn ends(mut self, worker: WorkerProcess) {
        all_succeed(&self.installation, &self.missions).await;
        for mark in MARKS {
            assert_eq!(self.provider.asked(mark), 1, "no call is made twice because of who watches");
        }
        ending::holds_at(self.installation.database_url()).await;
        self.installation.terminate(worker);
    }
}

fn numbered(heard: &[Heard]) -> Vec<Value> {
    heard.iter().filter(|event| event.id.is_some()).map(|event| event.data.clone()).collect()
}

fn has(heard: &[Heard], kind: &str) -> bool {
    heard.iter().any(|event| event.kind == kind)
}

/// A client that comes back after its last event until it is told that there is no more, as an `EventSource` does.
struct Reader {
    mission: String,
    /// What it heard on each of its connections.
    heard: Arc<Mutex<Vec<Vec<Heard>>>>,
    reading: JoinHandle<()>,
}

impl Reader {
    fn start(installation: &Installation, mission: &str) -> Self {
        let request = installation.stream(mission, None);
        let heard = Arc::new(Mutex::default());
        Self { mission: mission.to_owned(), heard: heard.clone(), reading: tokio::spawn(read(request, heard)) }
    }

    /// What it heard on its connection of that number, from 0 on.
    fn on(&self, connection: usize) -> Vec<Heard> {
        self.heard.lock().unwrap().get(connection).cloned().unwrap_or_default()
    }
}

async fn read(request: RequestBuilder, heard: Arc<Mutex<Vec<Vec<Heard>>>>) {
    let mut last = None;
    loop {
        let response = eventually("the stream opens", PATIENCE, async || {
            let request = request.try_clone().unwrap();
            let request = last.into_iter().fold(request, |request, seq: i64| request.header("Last-Event-ID", seq));
            request.send().await.ok().filter(|response| response.status() == 200)
        })
        .await;
        heard.lock().unwrap().push(Vec::new());
        let mut stream = Sse::until_it_breaks(response);
        while let Some(event) = stream.next().await {
            last = event.id.or(last);
            let is_end = event.kind == "stream.end";
            heard.lock().unwrap().last_mut().unwrap().push(event);
            if is_end {
                return;
            }
        }
    }
}

async fn all_heard(readers: &[Reader], connection: usize, kind: &str) {
    eventually(&format!("each client hears {kind} on connection {connection}"), PATIENCE, async || {
        readers.iter().all(|reader| has(&reader.on(connection), kind)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_of_the_api_in_mid_stream_gives_each_client_every_event_once_and_in_order() {
    let mut show = Show::open().await;
    let readers: Vec<Reader> =
        show.missions.iter().flat_map(|id| (0..5).map(|_| Reader::start(&show.installation, id))).collect();
    all_heard(&readers, 0, "stream.caught_up").await;
    let worker = show.worker();
    all_heard(&readers, 0, "task.delta").await;
    // nothing happens while it is away
    show.installation.restart_server().await;
    all_heard(&readers, 1, "stream.caught_up").await;
    // much happens while it is away
    show.installation.kill_server();
    show.go_on_unwatched().await;
    show.installation.restart_server().await;
    all_heard(&readers, 2, "stream.caught_up").await;
    // and the rest while everybody listens
    show.approve_all().await;
    for reader in readers {
        reader.reading.await.unwrap();
        let connections = reader.heard.lock().unwrap().clone();
        assert_eq!(connections.len(), 3);
        assert!(connections[..2].iter().all(|heard| !has(heard, "stream.closing")), "nobody said good-bye");
        assert!(has(&connections[2], "approval.requested"), "what it missed came from the log: {:?}", connections[2]);
        let heard = numbered(&connections.concat());
        let seqs: Vec<i64> = heard.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert!(seqs.iter().copied().eq(1..=seqs.len() as i64), "{seqs:?}");
        assert_eq!(heard, show.log(&reader.mission).await);
        assert_eq!(connections[2].last().unwrap().kind, "stream.end");
    }
    show.ends(worker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_of_a_server_with_200_streams_tells_each_to_come_again_and_loses_nothing() {
    let mut show = Show::open().await;
    let worker = show.worker();
    for mark in MARKS {
        eventually("the call is made", PATIENCE, async || (show.provider.asked(mark) > 0).then_some(())).await;
    }
    let mut streams = Vec::new();
    for mission in show.missions.iter().cycle().take(200) {
        let mut stream = Sse::of(show.installation.stream(mission, None).send().await.unwrap());
        let (mut last, mut is_live) = (0, false);
        while !is_live {
            let event = stream.next().await.unwrap();
            last = event.id.unwrap_or(last);
            is_live = event.kind == "stream.caught_up";
        }
        streams.push((mission.clone(), stream, last));
    }
    let (status, took) = show.installation.terminate_server().await;
    println!("200 streams closed and the process ended after {} ms", took.as_millis());
    assert!(status.success() && took < GRACE, "{status} after {took:?}");
    let mut resumed = Vec::new();
    for (mission, stream, mut last) in streams {
        let heard = stream.rest().await;
        last = heard.iter().filter_map(|event| event.id).next_back().unwrap_or(last);
        let closing = heard.last().unwrap();
        assert_eq!(closing.kind, "stream.closing");
        assert_eq!(closing.retry, closing.data["data"]["retry_ms"].as_u64());
        assert!((1_000..=2_000).contains(&closing.retry.unwrap()), "{closing:?}");
        resumed.push((mission, last));
    }
    show.go_on_unwatched().await;
    show.installation.restart_server().await;
    let installation = &show.installation;
    let streams = resumed.into_iter().map(async |(mission, last)| {
        let stream = Sse::of(installation.stream(&mission, Some(last)).send().await.unwrap());
        (mission, last, stream)
    });
    let streams = futures::future::join_all(streams).await;
    show.approve_all().await;
    for (mission, last, stream) in streams {
        let heard = stream.rest().await;
        assert_eq!(heard.last().unwrap().kind, "stream.end");
        let log = show.log(&mission).await;
        assert_eq!(numbered(&heard), log[usize::try_from(last).unwrap()..]);
    }
    show.ends(worker).await;
}

async fn open(server: &Server, id: &str) -> Response {
    let request = server.request(Method::GET, &format!("/v1/missions/{id}/stream")).bearer_auth(&server.ours.key);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

/// Reads so many pieces; whether there were as many.
async fn read_pieces(response: &mut Response, pieces: usize) -> bool {
    for _ in 0..pieces {
        if response.chunk().await.unwrap().is_none() {
            return false;
        }
    }
    true
}

/// Waits until nobody streams: by the gauge, and by who watches missions.
async fn nobody_streams(server: &Server) {
    eventually("the streams are gone", PATIENCE, async || {
        let metrics = server.send(server.request(Method::GET, "/metrics")).await.text;
        let open = metrics.lines().find_map(|line| line.strip_prefix("bursar_streams_open ")).unwrap().to_owned();
        (open == "0" && server.engine.relay().hub().watchers() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_leave_after_each_piece_of_a_stream_leave_no_stream_behind_and_no_mission_harmed() {
    let server = Server::start().await;
    // of missions that run to their end
    let mut pieces = 0;
    loop {
        let id = server.submit("talk", &json!({"prompt": "[[simulate delay_ms=30 tokens=8]]"})).await;
        let mut leaving = open(&server, &id).await;
        let staying = Sse::of(open(&server, &id).await);
        let is_more = read_pieces(&mut leaving, pieces).await;
        drop(leaving);
        let heard = staying.rest().await;
        assert_eq!(heard.last().unwrap().kind, "stream.end", "after {pieces} pieces");
        assert_eq!(server.finished(&id).await["status"], "succeeded", "after {pieces} pieces");
        if !is_more {
            break;
        }
        pieces += 1;
    }
    assert!(pieces >= 7, "{pieces} pieces are no stream");
    nobody_streams(&server).await;
    // of one that says nothing any more: the server finds out by the connection alone
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall after_tokens=5]]"})).await;
    let mut first = Sse::of(open(&server, &id).await);
    while first.next().await.unwrap().kind != "task.delta" {}
    drop(first);
    for pieces in 0..3 {
        let mut leaving = open(&server, &id).await;
        assert!(read_pieces(&mut leaving, pieces).await);
    }
    nobody_streams(&server).await;
    assert_eq!(server.get(&format!("/v1/missions/{id}")).await.expect(200)["status"], "running");
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    server.finished(&id).await;
    ending::holds(server.engine.store()).await;
}

/// How many texts are said at once, fewer than a reader may lag behind, and how often: far more than sockets hold.
const TEXTS: u64 = 100;
const ROUNDS: u64 = 300;

/// Says texts about a mission, which nobody said, to one who reads all of them as they come.
async fn talk_on(server: &Server, id: &str, reader: &mut Sse) {
    let (mission_id, task_id) = (id.parse().unwrap(), bursar::clock::new_id());
    let mut heard = 0;
    for round in 0..ROUNDS {
        for index in round * TEXTS..(round + 1) * TEXTS {
            let text = "x".repeat(200);
            let body = FrameBody::Delta { task_id, node: "write".to_owned(), attempt: 1, index, text };
            server.engine.relay().publish(Frame { mission_id, body });
        }
        while heard < (round + 1) * TEXTS {
            let event = reader.next().await.unwrap();
            heard += u64::from(event.data["data"]["text"].as_str().is_some_and(|text| text.len() == 200));
        }
    }
}

async fn live(server: &Server, id: &str) -> Sse {
    let mut stream = Sse::of(open(server, id).await);
    while stream.next().await.unwrap().kind != "stream.caught_up" {}
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_holds_up_neither_another_client_nor_the_mission() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall after_tokens=3]]"})).await;
    let (stuck, mut other) = (live(&server, &id).await, live(&server, &id).await);
    talk_on(&server, &id, &mut other).await;
    let beside = server.run("talk", &json!({"prompt": "[[simulate tokens=8]]"})).await;
    assert_eq!(beside["status"], "succeeded");
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(other.rest().await.last().unwrap().kind, "stream.end");
    assert_eq!(server.finished(&id).await["status"], "cancelled");
    // it lost texts, so it was stuck; it lost no event
    let late = stuck.rest().await;
    let texts = late.iter().filter(|event| event.kind == "task.delta").count() as u64;
    assert!(texts < ROUNDS * TEXTS, "nobody was stuck");
    let log = server.get(&format!("/v1/missions/{id}/events?limit=100")).await.expect(200);
    let log = items(&log);
    let told = numbered(&late);
    assert_eq!(told, log[log.len() - told.len()..]);
    assert_eq!((told.is_empty(), late.last().unwrap().kind.as_str()), (false, "stream.end"));
    nobody_streams(&server).await;
    ending::holds(server.engine.store()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_keeps_a_stopping_server_no_longer_than_its_grace() {
    let mut server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall after_tokens=3]]"})).await;
    let (_stuck, mut other) = (live(&server, &id).await, live(&server, &id).await);
    talk_on(&server, &id, &mut other).await;
    let began = Instant::now();
    server.stop.cancel();
    assert_eq!(other.rest().await.last().unwrap().kind, "stream.closing");
    assert!(began.elapsed() < Duration::from_secs(3), "nobody waits for the one who does not read");
    server.listener.take().unwrap().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}
