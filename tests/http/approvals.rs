//! Decisions of people over HTTP: listed, read, made once, refused by name.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::Server;

/// A workflow that asks at once; `more` goes into the node.
pub fn gate(name: &str, approval: &Value) -> Value {
    json!({
        "workflow": name,
        "flat_fee": "0",
        "nodes": {"ask": {"approval": approval}, "next": {"needs": ["ask"], "transform": "{{ nodes.ask.output.decision }}"}},
        "outputs": {"said": "nodes.next.output", "by": "nodes.ask.output.by", "why": "nodes.ask.output.comment"},
    })
}

/// Puts the workflow, submits a mission and returns it with the path of its approval.
pub async fn asked(server: &Server, approval: &Value) -> (String, String) {
    let workflow = gate("gate", approval);
    let request = server.request(Method::PUT, "/v1/workflows/gate").bearer_auth(&server.ours.key).json(&workflow);
    let put = server.send(request).await;
    assert!(put.status.is_success(), "{}", put.text);
    let mission = server.submit("gate", &json!({"what": "bees"})).await;
    let open = server.get(&format!("/v1/approvals?mission_id={mission}")).await.expect(200);
    let id = open["data"][0]["id"].as_str().unwrap();
    (mission, format!("/v1/approvals/{id}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_listed_read_made_and_handed_on() {
    let server = Server::start().await;
    let (mission, path) = asked(&server, &json!({"show": "Are {{ inputs.what }} fine?", "expires": "2h"})).await;
    let list = server.get("/v1/approvals").await.expect(200);
    let open = &list["data"][0];
    assert_eq!(
        (&open["mission_id"], &open["node"], &open["workflow"]),
        (&json!(mission), &json!("ask"), &json!("gate"))
    );
    assert_eq!((&open["status"], &open["shown"], &open["decision"]), (&json!("open"), &json!(null), &json!(null)));
    let one = server.get(&path).await.expect(200);
    assert_eq!((&one["shown"], &one["status"]), (&json!("Are bees fine?"), &json!("open")));
    assert!(one["asked_at"].is_string() && one["expires_at"].is_string() && one["ended_at"].is_null());

    let decide = format!("{path}/decide");
    let made = server.post(&decide, &json!({"decision": "approved", "comment": "fine"})).await.expect(200);
    assert_eq!((&made["status"], &made["decision"]["comment"]), (&json!("approved"), &json!("fine")));
    assert!(made["decision"]["by"].as_str().unwrap().starts_with("key_"));
    let over = server.finished(&mission).await;
    assert_eq!(over["output"], json!({"said": "approved", "by": made["decision"]["by"], "why": "fine"}));
    assert_eq!(server.get("/v1/approvals").await.expect(200)["data"], json!([]));

    // twice the same is once, and another one is refused
    let again = server.post(&decide, &json!({"decision": "approved", "comment": "other words"})).await.expect(200);
    assert_eq!(again["decision"], made["decision"]);
    server.post(&decide, &json!({"decision": "rejected"})).await.refused(409, "already-decided");
    let events = server.get(&format!("/v1/missions/{mission}/events")).await.expect(200);
    let kinds: Vec<&str> =
        events["data"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"approval.requested") && kinds.contains(&"approval.decided"), "{kinds:?}");
    for event in events["data"].as_array().unwrap() {
        let told = serde_json::from_value::<bursar::http::StreamEvent>(event.clone());
        assert!(told.is_ok(), "{told:?}: {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_fails_the_mission_by_name() {
    let server = Server::start().await;
    let (mission, path) = asked(&server, &json!({"show": "?"})).await;
    let decide = format!("{path}/decide");
    let made = server.post(&decide, &json!({"decision": "rejected", "comment": "not now"})).await.expect(200);
    assert_eq!((&made["status"], &made["expires_at"]), (&json!("rejected"), &json!(null)));
    let over = server.finished(&mission).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("failed"), &json!("approval_rejected")));
    server.post(&decide, &json!({"decision": "approved"})).await.refused(409, "already-decided");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_comes_too_late_is_refused_by_name() {
    let server = Server::start().await;
    let (mission, path) = asked(&server, &json!({"show": "?", "expires": "200ms"})).await;
    let over = server.finished(&mission).await;
    assert_eq!((&over["status"], &over["error"]["code"]), (&json!("failed"), &json!("approval_expired")));
    let late = server.post(&format!("{path}/decide"), &json!({"decision": "approved"})).await;
    late.refused(409, "approval-expired");
    let one = server.get(&path).await.expect(200);
    assert_eq!((&one["status"], &one["decision"]["by"]), (&json!("expired"), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_decision_is_refused() {
    let server = Server::start().await;
    let (mission, path) = asked(&server, &json!({"show": "?"})).await;
    let decide = format!("{path}/decide");
    for (body, pointer) in [
        (json!({}), "/decision"),
        (json!({"decision": "SECRET"}), "/decision"),
        (json!({"decision": "approved", "coment": "SECRET"}), "/coment"),
        (json!({"decision": "approved", "comment": "x".repeat(4_097)}), "/comment"),
    ] {
        let answer = server.post(&decide, &body).await;
        assert_eq!(answer.refused(422, "validation")["errors"][0]["pointer"], pointer);
        assert!(!answer.text.contains("SECRET"), "{}", answer.text);
    }
    // a task that asks nobody is no approval
    let run = server.get(&format!("/v1/missions/{mission}")).await.expect(200)["run_id"].clone();
    let tasks = server.get(&format!("/v1/runs/{}/tasks", run.as_str().unwrap())).await.expect(200);
    let next = tasks["data"][1]["id"].as_str().unwrap();
    server.get(&format!("/v1/approvals/{next}")).await.refused(404, "not-found");
    server
        .post(&format!("/v1/approvals/{next}/decide"), &json!({"decision": "approved"}))
        .await
        .refused(404, "not-found");
    // nor is one whose mission was cancelled still open
    server.post(&format!("/v1/missions/{mission}/cancel"), &json!({})).await.expect(200);
    server.post(&decide, &json!({"decision": "approved"})).await.refused(409, "illegal-state");
    assert_eq!(server.get(&path).await.expect(200)["status"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_continues_where_it_stopped() {
    let server = Server::start().await;
    for _ in 0..3 {
        asked(&server, &json!({"show": "?"})).await;
    }
    let first = server.get("/v1/approvals?limit=2").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("/v1/approvals?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((first["data"].as_array().unwrap().len(), rest["data"].as_array().unwrap().len()), (2, 1));
    assert_eq!((&first["has_more"], &rest["has_more"]), (&json!(true), &json!(false)));
}
