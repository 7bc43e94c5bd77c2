//! Submitting: once per wish, and not at all without credits.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

async fn submit(server: &Server, key: &str, body: &Value) -> Answer {
    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key);
    server.send(request.header("Idempotency-Key", key).json(body)).await
}

async fn missions(server: &Server) -> usize {
    server.get("/v1/missions?limit=100").await.expect(200)["data"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_wish_twice_is_one_mission() {
    let server = Server::start().await;
    let body = json!({"workflow": "note", "input": {"name": "Ada"}});
    let first = submit(&server, "wish-1", &body).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    // quoted, and with its fields in another order: the same wish
    let again = json!({"input": {"name": "Ada"}, "workflow": "note"});
    let second = submit(&server, "\"wish-1\"", &again).await;
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    assert_eq!(second.header("location"), first.header("location"));
    assert_eq!(second.expect(202)["id"], first.expect(202)["id"]);
    assert_eq!(missions(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused() {
    let server = Server::start().await;
    submit(&server, "wish", &json!({"workflow": "note", "input": {"name": "Ada"}})).await.expect(202);
    let other = json!({"workflow": "note", "input": {"name": "Bob"}});
    submit(&server, "wish", &other).await.refused(422, "idempotency-key-reused");
    let not_even_valid = json!({"workflow": "note", "input": {}});
    submit(&server, "wish", &not_even_valid).await.refused(422, "idempotency-key-reused");
    assert_eq!(missions(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_under_one_key_make_one_mission() {
    let server = Server::start().await;
    let body = json!({"workflow": "talk", "input": {"prompt": "Hi"}});
    let answers = futures::future::join_all((0..20).map(|_| submit(&server, "race", &body))).await;
    let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_none()).count();
    assert_eq!(fresh, 1);
    let mut ids: Vec<_> = answers.into_iter().map(|answer| answer.expect(202)["id"].to_string()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(missions(&server).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_once_is_replayed_even_if_the_workflow_would_refuse_it_today() {
    let server = Server::start().await;
    let body = json!({"workflow": "note", "input": {"name": "Ada"}});
    let first = submit(&server, "old", &body).await.expect(202);
    let mut stricter = super::server::note();
    stricter["inputs"]["properties"]["name"]["maxLength"] = json!(1);
    let request = server.request(Method::PUT, "/v1/workflows/note").bearer_auth(&server.ours.key).json(&stricter);
    server.send(request).await.expect(201);
    assert_eq!(submit(&server, "old", &body).await.expect(202)["id"], first["id"]);
    submit(&server, "new", &body).await.refused(422, "validation");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credits_nothing_is_created_and_the_figures_are_told() {
    let server = Server::start().await;
    let before = server.get("/v1/wallet").await.expect(200);
    let body = json!({"workflow": "dear", "input": {"name": "Ada"}});
    let told = submit(&server, "rich", &body).await.refused(402, "insufficient-credits");
    assert_eq!(told["required"], "1000.500000");
    assert_eq!(told["available"], "100.000000");
    assert_eq!(told["shortfall"], "900.500000");
    assert_eq!(told["top_up_url"], "https://shop.example/credits");
    assert_eq!(told["retryable"], true);
    assert_eq!(missions(&server).await, 0);
    assert_eq!(server.get("/v1/wallet").await.expect(200), before);
    assert_eq!(server.get("/v1/wallet/holds").await.expect(200)["data"], json!([]));

    // after a top-up the same key works
    let grant = json!({"amount": "1000", "kind": "paid", "tenant_id": server.ours.id.to_string()});
    let request = server.request(Method::POST, "/v1/wallet/grants").bearer_auth(&server.admin);
    server.send(request.header("Idempotency-Key", "top-up").json(&grant)).await.expect(201);
    submit(&server, "rich", &body).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_does_not_cover_the_start_is_refused() {
    let server = Server::start().await;
    let body = json!({"workflow": "talk", "input": {"prompt": "Hi"}, "budget": {"max_credits": "1"}});
    let told = submit(&server, "small", &body).await.refused(402, "budget-too-small");
    assert_eq!(told["available"], "1.000000");
    assert_eq!(missions(&server).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_runs_the_version_it_names() {
    let server = Server::start().await;
    let mut second = super::server::note();
    second["nodes"]["card"]["transform"]["to"] = json!("second {{ inputs.name }}");
    let request = server.request(Method::PUT, "/v1/workflows/note").bearer_auth(&server.ours.key).json(&second);
    assert_eq!(server.send(request).await.expect(201)["version"], 2);
    assert_eq!(server.run("note", &json!({"name": "Ada"})).await["output"]["to"], "second Ada");
    assert_eq!(server.run("note@1", &json!({"name": "Ada"})).await["output"]["to"], "Ada");
}

fn once(key: &str, mode: &str) -> Value {
    json!({
        "workflow": "talk", "input": {"prompt": "[[stall]]"},
        "dedupe": {"key": key, "window": "1h", "mode": mode},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_mission_of_the_same_wish_is_refused_or_answered_with_the_first() {
    let server = Server::start().await;
    let first = server.post("/v1/missions", &once("invoice-7", "reject")).await.expect(202);
    let told = server.post("/v1/missions", &once("invoice-7", "reject")).await.refused(409, "duplicate-mission");
    assert_eq!((&told["mission_id"], &told["retryable"]), (&first["id"], &json!(false)));
    let answer = server.post("/v1/missions", &once("invoice-7", "return_existing")).await;
    assert_eq!(answer.header("location").unwrap(), format!("/v1/missions/{}", first["id"].as_str().unwrap()));
    assert_eq!(answer.expect(200)["id"], first["id"]);
    server.post("/v1/missions", &once("invoice-8", "reject")).await.expect(202);
    assert_eq!(missions(&server).await, 2);

    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.other.key);
    let of_another = server.send(request.json(&once("invoice-7", "reject"))).await;
    assert_eq!(of_another.refused(422, "validation")["errors"][0]["pointer"], "/workflow", "keys are a tenant's own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_no_second_wish() {
    let server = Server::start().await;
    let first = submit(&server, "wish", &once("invoice-7", "reject")).await.expect(202);
    let again = submit(&server, "wish", &once("invoice-7", "reject")).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202)["id"], first["id"]);
    let body = once("invoice-8", "reject");
    let many = (0..10).map(|_| submit(&server, "race", &body));
    let answers = futures::future::join_all(many).await;
    let mut ids: Vec<_> = answers.into_iter().map(|answer| answer.expect(202)["id"].to_string()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
