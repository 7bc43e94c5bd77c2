//! Credits: shown, granted once per reference, accounted for.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

async fn grant(server: &Server, key: Option<&str>, body: &Value) -> Answer {
    let mut request = server.request(Method::POST, "/v1/wallet/grants").bearer_auth(&server.admin).json(body);
    request = request.header("X-Bursar-Tenant", server.ours.id.to_string());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    server.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_is_given_once_per_reference() {
    let server = Server::start().await;
    let body = json!({"amount": "12.5", "kind": "promo", "priority": 10, "reason": "welcome", "expires_at": "2999-01-01T00:00:00Z"});
    let first = grant(&server, Some("invoice-7"), &body).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let second = grant(&server, Some("invoice-7"), &body).await;
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    let first = first.expect(201);
    assert_eq!(second.expect(201), first);
    assert_eq!(
        (first["amount"].as_str(), first["expires_at"].as_str()),
        (Some("12.500000"), Some("2999-01-01T00:00:00.000Z"))
    );
    assert_eq!(server.get("/v1/wallet").await.expect(200)["available"], "112.500000");
    let other = json!({"amount": "13", "kind": "promo", "priority": 10});
    grant(&server, Some("invoice-7"), &other).await.refused(422, "idempotency-key-reused");
    let grants = server.get("/v1/wallet/grants").await.expect(200);
    assert_eq!(grants["data"].as_array().unwrap().len(), 2);
    assert_eq!(grants["data"][0]["id"], first["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_grant_is_refused() {
    let server = Server::start().await;
    grant(&server, None, &json!({"amount": "1", "kind": "paid"})).await.refused(400, "idempotency-key-required");
    for (body, pointer) in [
        (json!({"amount": "0", "kind": "paid"}), "/amount"),
        (json!({"amount": "1.0000001", "kind": "paid"}), "/amount"),
        (json!({"amount": "1", "kind": "bought"}), "/kind"),
        (json!({"amount": "1", "kind": "paid", "priority": 101}), "/priority"),
        (json!({"amount": "1", "kind": "paid", "expires_at": "tomorrow"}), "/expires_at"),
        (json!({"amount": "1", "kind": "paid", "expires_at": "2001-01-01T00:00:00Z"}), "/expires_at"),
        (json!({"amount": "1", "kind": "paid", "tenant_id": "me"}), "/tenant_id"),
        (json!({"amount": "9223372036854", "kind": "paid"}), "/amount"),
    ] {
        let told = grant(&server, Some("k"), &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{body}");
    }
    let request = server.request(Method::POST, "/v1/wallet/grants").bearer_auth(&server.ours.key);
    let body = json!({"amount": "1", "kind": "paid"});
    server.send(request.header("Idempotency-Key", "k").json(&body)).await.refused(403, "forbidden");
    assert_eq!(server.get("/v1/wallet").await.expect(200)["available"], "100.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_account_for_every_credit_spent() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let mut entries = Vec::new();
    let mut path = "/v1/wallet/entries?limit=2".to_owned();
    loop {
        let page = server.get(&path).await.expect(200);
        entries.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/wallet/entries?limit=2&cursor={cursor}");
    }
    let legs = entries.iter().flat_map(|entry| entry["legs"].as_array().unwrap());
    let ucr = |text: &Value| text.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    let charged: i64 =
        legs.filter(|leg| leg["to"] == "usage" || leg["to"] == "fee").map(|leg| ucr(&leg["amount"])).sum();
    assert_eq!(charged, ucr(&mission["budget"]["spent"]));
    let wallet = server.get("/v1/wallet").await.expect(200);
    assert_eq!(ucr(&wallet["available"]), super::server::CREDITS * 1_000_000 - charged);
    assert_eq!(wallet["held"], "0.000000");
    assert_eq!(entries[0]["available_after"], wallet["available"]);
    assert_eq!(entries.last().unwrap()["kind"], "grant");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_mission_holds_is_shown() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    server.long_poll(&id, |mission| mission["status"] == "running").await;
    let holds = server.get("/v1/wallet/holds").await.expect(200);
    let kinds: Vec<_> =
        holds["data"].as_array().unwrap().iter().map(|hold| hold["owner_kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&"fee") && kinds.contains(&"task"), "{kinds:?}");
    assert!(holds["data"].as_array().unwrap().iter().all(|hold| hold["mission_id"] == id.as_str()));
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
    server.finished(&id).await;
    assert_eq!(server.get("/v1/wallet/holds").await.expect(200)["data"], json!([]));
}
