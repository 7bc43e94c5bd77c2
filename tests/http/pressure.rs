//! More comes in than there is room for: who is refused hears by what, and what to do.

use bursar::http::Patience;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::server::{Server, Setup};
use super::stream::Sse;
use crate::support::eventually;
use crate::support::world::PATIENCE;

fn talk() -> Value {
    json!({"workflow": "talk", "input": {"prompt": "hi"}})
}

async fn limit(server: &Server, most: &Value) {
    let path = format!("/v1/admin/tenants/{}", server.ours.id);
    let request = server.request(Method::PATCH, &path).bearer_auth(&server.admin).json(&json!({"max_queued": most}));
    server.send(request).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_clients_at_once_get_exactly_the_places_that_there_are() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    limit(&server, &json!(7)).await;
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let submits = keys.iter().map(|key| {
        let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key);
        server.send(request.header("idempotency-key", key).json(&talk()))
    });
    let answers = futures::future::join_all(submits).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().zip(&keys).partition(|(answer, _)| answer.status == 202);
    assert_eq!((made.len(), refused.len()), (7, 43));
    for (answer, _) in &refused {
        let told = answer.refused(429, "queue-full");
        assert_eq!((&told["queued"], &told["max_queued"], &told["retryable"]), (&json!(7), &json!(7), &json!(true)));
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert!(told["detail"].as_str().unwrap().contains("cancel some"), "{told}");
    }
    let listed = server.get("/v1/missions?limit=100").await.expect(200);
    assert_eq!(listed["data"].as_array().unwrap().len(), 7);

    // the same key again: the mission that is there; one that was refused takes the place that becomes free
    let submit = async |key: &str| {
        let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key);
        server.send(request.header("idempotency-key", key).json(&talk())).await
    };
    let replay = submit(made[0].1).await;
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    assert_eq!(replay.expect(202)["id"], made[0].0.json()["id"]);
    submit(refused[0].1).await.refused(429, "queue-full");
    let path = format!("/v1/missions/{}/cancel", made[0].0.json()["id"].as_str().unwrap());
    server.post(&path, &json!({})).await;
    submit(refused[0].1).await.expect(202);
    submit(refused[1].1).await.refused(429, "queue-full");

    // other tenants have their own
    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.admin).json(&talk());
    server.send(request).await.expect(202);
    limit(&server, &Value::Null).await;
    submit(refused[1].1).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_would_fill_the_memory_are_refused_and_find_room_again() {
    let patience = Patience { bodies_bytes: 64 * 1024, ..Patience::default() };
    let server = Server::start_with(Setup { agent_slots: 0, patience }).await;
    let large = json!({"workflow": "talk", "input": {"prompt": "x".repeat(40_000)}});
    let submit =
        || server.send(server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key).json(&large));
    submit().await.expect(202);
    // somebody announces much and has sent most of it
    let mut slow = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/missions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n",
        server.ours.key
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    submit().await.expect(202);
    slow.write_all(&vec![b' '; 50_000]).await.unwrap();
    let refused = || async {
        let answer = submit().await;
        (answer.status != 202).then_some(answer)
    };
    let answer = eventually("what has arrived counts", PATIENCE, refused).await;
    answer.refused(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let small = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key).json(&talk());
    server.send(small).await.expect(202);
    drop(slow);
    eventually("there is room again", PATIENCE, || async { (submit().await.status == 202).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_too_many_is_refused_in_words_that_its_client_understands() {
    let patience = Patience { streams: 1, ..Patience::default() };
    let server = Server::start_with(Setup { agent_slots: 0, patience }).await;
    let id = server.submit("talk", &json!({"prompt": "hi"})).await;
    let path = format!("/v1/missions/{id}/stream");
    let open = || server.request(Method::GET, &path).bearer_auth(&server.ours.key);
    let mut first = Sse::of(open().send().await.unwrap());
    first.next().await.unwrap();
    let answer = server.send(open()).await;
    answer.refused(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // an EventSource gives up for ever after such an answer
    let response = open().header("sec-fetch-mode", "cors").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let heard = Sse::of(response).rest().await;
    let kinds: Vec<_> = heard.iter().map(|frame| (frame.kind.as_str(), frame.id)).collect();
    assert_eq!(kinds, [("stream.closing", None)]);
    drop(first);
    let again = || async { (open().send().await.unwrap().status() == 200).then_some(()) };
    eventually("the place is free again", PATIENCE, again).await;
}
