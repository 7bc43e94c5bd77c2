//! Conversations over HTTP: said, answered, listed, repeated, refused by name.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Server, Setup};

/// An agent that answers what was said last.
fn chat() -> Value {
    json!({
        "workflow": "chat", "flat_fee": "1",
        "agents": {"writer": {"instructions": "You write.", "model": "simulated-small", "max_output_tokens": 50}},
        "nodes": {"answer": {"agent": "writer", "prompt": "{{ message|default(inputs.question) }}"}},
    })
}

async fn put(server: &Server, workflow: &Value) {
    let path = format!("/v1/workflows/{}", workflow["workflow"].as_str().unwrap());
    let request = server.request(Method::PUT, &path).bearer_auth(&server.ours.key).json(workflow);
    server.send(request).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_is_a_conversation_over_all_its_runs() {
    let server = Server::start().await;
    put(&server, &chat()).await;
    let mission = server.run("chat", &json!({"question": "What is a ledger?"})).await;
    let path = format!("/v1/missions/{}/messages", mission["id"].as_str().unwrap());
    let first = server.get(&path).await.expect(200);
    assert_eq!((&first["data"][0]["role"], &first["data"][0]["author"]), (&json!("assistant"), &json!("chat")));
    assert_eq!(first["data"][0]["content"], mission["output"]["answer"]);

    let body = json!({"content": "And a hold?", "metadata": {"from": "Ada"}});
    let say = |key: &'static str, body: &Value| {
        let request = server.request(Method::POST, &path).bearer_auth(&server.ours.key).json(body);
        server.send(request.header("Idempotency-Key", key))
    };
    let said = say("k1", &body).await;
    assert_eq!(said.header("idempotent-replayed"), None);
    let said = said.expect(202);
    assert!(said["id"].as_str().unwrap().starts_with("msg_"), "{said}");
    assert_eq!((&said["effect"], &said["number"], &said["role"]), (&json!("begins_run"), &json!(2), &json!("user")));
    assert_ne!(said["run_id"], mission["run_id"]);
    let id = mission["id"].as_str().unwrap();
    let over = server.long_poll(id, |over| over["run_id"] == said["run_id"] && over["ended_at"].is_string()).await;
    let again = say("k1", &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202), said, "for ever");
    say("k1", &json!({"content": "Other"})).await.refused(422, "idempotency-key-reused");

    let all = server.get(&path).await.expect(200);
    let told: Vec<_> = all["data"].as_array().unwrap().iter().map(|row| (&row["number"], &row["role"])).collect();
    let (assistant, user) = (json!("assistant"), json!("user"));
    assert_eq!(told, [(&json!(1), &assistant), (&json!(2), &user), (&json!(3), &assistant)]);
    assert_eq!(all["data"][2]["content"], over["output"]["answer"]);
    assert_eq!((&all["data"][1]["metadata"], &all["data"][1]["run_id"]), (&json!({"from": "Ada"}), &over["run_id"]));
    let page = server.get(&format!("{path}?limit=2")).await.expect(200);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("{path}?limit=2&cursor={next}")).await.expect(200);
    assert_eq!((&rest["data"][0], &rest["has_more"]), (&all["data"][2], &json!(false)));

    let events = server.get(&format!("/v1/missions/{id}/events?limit=100")).await.expect(200);
    let kinds = ["message.created", "mission.continued"];
    let told: Vec<&Value> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| kinds.iter().any(|kind| event["type"] == *kind))
        .collect();
    assert_eq!(told.len(), 4);
    for event in told {
        serde_json::from_value::<bursar::http::StreamEvent>(event.clone()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_steers_what_runs() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let mission = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let path = format!("/v1/missions/{mission}/messages");
    let said = server.post(&path, &json!({"content": "Be brief"})).await.expect(202);
    assert_eq!((&said["effect"], &said["metadata"]), (&json!("steers"), &json!(null)));
    server.post(&format!("/v1/missions/{mission}/pause"), &json!({})).await.expect(200);
    assert_eq!(server.post(&path, &json!({"content": "Wait"})).await.expect(202)["effect"], "steers");
    server.post(&format!("/v1/missions/{mission}/cancel"), &json!({})).await.expect(200);
    server.finished(&mission).await;
    let refused = server.post(&path, &json!({"content": "More"})).await.refused(409, "messages-unread");
    assert!(refused["detail"].as_str().unwrap().contains("another run would do the same again"), "{refused}");
    assert_eq!(server.get(&path).await.expect(200)["data"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_is_refused() {
    let server = Server::start().await;
    put(&server, &chat()).await;
    let mission = server.run("chat", &json!({"question": "Hm?"})).await;
    let path = format!("/v1/missions/{}/messages", mission["id"].as_str().unwrap());
    for (body, pointer) in [
        (json!({"content": " \n"}), "/content"),
        (json!({"content": "x".repeat(33 * 1024)}), "/content"),
        (json!({"content": 5}), "/content"),
        (json!({"content": "x", "metadata": {"y": "x".repeat(17 * 1024)}}), "/metadata"),
        (json!({"content": "x", "role": "system"}), "/role"),
        (json!({}), "/content"),
    ] {
        let refused = server.post(&path, &body).await.refused(422, "validation");
        assert_eq!(refused["errors"][0]["pointer"], pointer, "{refused}");
    }
    server.post("/v1/missions/run_nonsense/messages", &json!({"content": "x"})).await.refused(400, "malformed-id");
    server.get(&format!("{path}?cursor=nonsense")).await.refused(400, "bad-cursor");
    server.get(&format!("{path}?limt=5")).await.refused(400, "bad-parameter");
    for method in [Method::GET, Method::POST] {
        let other = server.request(method, &path).bearer_auth(&server.other.key).json(&json!({"content": "x"}));
        server.send(other).await.refused(404, "not-found");
    }
    // 97 of 100 credits are left after two such
    let dear = server.put_dear_chat(&chat()).await;
    let refused = server.post(&dear, &json!({"content": "More"})).await.refused(402, "insufficient-credits");
    assert!(refused["required"].as_str().unwrap().starts_with("60."), "{refused}");
    let note = server.run("note", &json!({"name": "Ada"})).await;
    let note = format!("/v1/missions/{}/messages", note["id"].as_str().unwrap());
    server.post(&note, &json!({"content": "More"})).await.refused(409, "messages-unread");
    assert_eq!(server.get(&path).await.expect(200)["data"].as_array().unwrap().len(), 1, "nothing came of all that");
}

impl Server {
    /// A conversation of which a second run can't be paid; where its messages are.
    async fn put_dear_chat(&self, chat: &Value) -> String {
        let mut dear = chat.clone();
        dear["workflow"] = json!("dear-chat");
        dear["flat_fee"] = json!("60");
        put(self, &dear).await;
        let mission = self.run("dear-chat", &json!({"question": "Hm?"})).await;
        assert_eq!(mission["status"], "succeeded", "{mission}");
        format!("/v1/missions/{}/messages", mission["id"].as_str().unwrap())
    }
}
