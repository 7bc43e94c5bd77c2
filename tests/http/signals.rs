//! Signals over HTTP: taken, kept, repeated, refused by name.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::server::{Answer, Server};

/// A mission that waits for the signal `paid`, twice.
async fn waiting(server: &Server) -> String {
    let workflow = json!({
        "workflow": "order", "flat_fee": "0",
        "nodes": {"paid": {"signal": {"name": "paid"}}, "more": {"needs": ["paid"], "signal": {"name": "paid"}}},
        "outputs": {"first": "nodes.paid.output", "second": "nodes.more.output"},
    });
    let request = server.request(Method::PUT, "/v1/workflows/order").bearer_auth(&server.ours.key).json(&workflow);
    assert!(server.send(request).await.status.is_success());
    server.submit("order", &json!({})).await
}

fn signal(server: &Server, mission: &str, name: &str) -> RequestBuilder {
    server.request(Method::POST, &format!("/v1/missions/{mission}/signals/{name}")).bearer_auth(&server.ours.key)
}

async fn send(server: &Server, mission: &str, key: &str, body: &Value) -> Answer {
    server.send(signal(server, mission, "paid").header("Idempotency-Key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_taken_once_and_told_again_under_its_key() {
    let server = Server::start().await;
    let mission = waiting(&server).await;
    let first = send(&server, &mission, "k1", &json!({"amount": 5, "of": "Ada"})).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let first = first.expect(202);
    assert!(first["id"].as_str().unwrap().starts_with("sig_") && first["task_id"].is_string(), "{first}");
    // the same with its fields in another order
    let again = send(&server, &mission, "\"k1\"", &json!({"of": "Ada", "amount": 5})).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202), first);
    send(&server, &mission, "k1", &json!({"amount": 6})).await.refused(422, "idempotency-key-reused");
    // any JSON is a payload
    send(&server, &mission, "k2", &json!("a word")).await.expect(202);
    let over = server.finished(&mission).await;
    assert_eq!(over["output"], json!({"first": {"amount": 5, "of": "Ada"}, "second": "a word"}));
    send(&server, &mission, "k3", &json!({})).await.refused(409, "illegal-state");
    assert_eq!(send(&server, &mission, "k1", &json!({"amount": 5, "of": "Ada"})).await.expect(202), first, "for ever");
    let events = server.get(&format!("/v1/missions/{mission}/events")).await.expect(200);
    let told = events["data"].as_array().unwrap().iter().filter(|event| event["type"] == "signal.received");
    let told: Vec<&Value> = told.collect();
    assert_eq!((told.len(), &told[0]["data"]["name"], &told[0]["data"]["is_taken"]), (2, &json!("paid"), &json!(true)));
    serde_json::from_value::<bursar::http::StreamEvent>(told[0].clone()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_signal_is_refused() {
    let server = Server::start().await;
    let mission = waiting(&server).await;
    server.send(signal(&server, &mission, "payed").json(&json!({}))).await.refused(404, "not-found");
    server.send(signal(&server, "mis_nonsense", "paid").json(&json!({}))).await.refused(400, "malformed-id");
    server.send(signal(&server, &mission, "paid").body("SECRET")).await.refused(415, "unsupported-media-type");
    let broken = signal(&server, &mission, "paid").header("content-type", "application/json").body("{\"SECRET");
    server.send(broken).await.refused(400, "malformed-json");
    let huge = signal(&server, &mission, "paid").json(&json!({"x": "y".repeat(33 * 1024)}));
    server.send(huge).await.refused(422, "validation");
    let other =
        server.request(Method::POST, &format!("/v1/missions/{mission}/signals/paid")).bearer_auth(&server.other.key);
    server.send(other.json(&json!({}))).await.refused(404, "not-found");
    // nothing came of all that; without a body a signal says nothing
    server.send(signal(&server, &mission, "paid")).await.expect(202);
    server.send(signal(&server, &mission, "paid").json(&json!(null))).await.expect(202);
    assert_eq!(server.finished(&mission).await["output"], json!({"first": {}, "second": {}}));
}
