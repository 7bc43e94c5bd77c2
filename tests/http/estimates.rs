//! Estimates: foretold before a submit, shown beside what was charged, and learned from it.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::Server;

fn ucr(amount: &Value) -> i64 {
    amount.as_str().unwrap_or_else(|| panic!("{amount} is no amount")).replace('.', "").parse().unwrap()
}

async fn estimate(server: &Server, body: &Value) -> Value {
    server.post("/v1/missions/estimate", body).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_names_what_a_submit_holds_and_creates_nothing() {
    let server = Server::start().await;
    let body = json!({"workflow": "talk", "input": {"prompt": "Hi"}});
    let told = estimate(&server, &body).await;
    assert_eq!(told["affordable"], true);
    assert_eq!(told["available"], "100.000000");
    let node = &told["nodes"][0];
    assert_eq!(node["source"], "limits");
    assert!(ucr(&node["cost"]["low"]) < ucr(&node["cost"]["expected"]), "{node}");
    assert!(ucr(&node["cost"]["expected"]) < ucr(&node["cost"]["high"]), "{node}");
    let nodes: i64 = told["nodes"].as_array().unwrap().iter().map(|node| ucr(&node["cost"]["high"])).sum();
    assert_eq!(ucr(&told["cost"]["high"]), nodes + ucr(&told["fee"]));
    assert_eq!(server.get("/v1/missions").await.expect(200)["data"], json!([]));
    assert_eq!(server.get("/v1/wallet").await.expect(200)["held"], "0.000000");

    let stalled = json!({"workflow": "talk", "input": {"prompt": "[[simulate stall]]"}});
    let needed = estimate(&server, &stalled).await["hold_needed"].clone();
    let id = server.submit("talk", &stalled["input"]).await;
    let entries = server.get("/v1/wallet/entries").await.expect(200);
    let legs = entries["data"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "hold");
    let held: i64 = legs.flat_map(|entry| entry["legs"].as_array().unwrap()).map(|leg| ucr(&leg["amount"])).sum();
    assert_eq!(ucr(&needed), held);
    server.post(&format!("/v1/missions/{id}/cancel"), &json!({})).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_paid_is_not_affordable() {
    let server = Server::start().await;
    let body = json!({"workflow": "talk", "input": {"prompt": "Hi"}, "budget": {"max_credits": "0.000001"}});
    assert_eq!(estimate(&server, &body).await["affordable"], false, "the budget is too small");
    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key).json(&body);
    server.send(request).await.refused(402, "budget-too-small");
    let dear = json!({"workflow": "dear", "input": {"name": "Ada"}});
    let told = estimate(&server, &dear).await;
    assert_eq!(told["affordable"], false, "the credits are too few: {told}");
    server.post("/v1/missions", &dear).await.refused(402, "insufficient-credits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_is_refused_as_a_submit_is() {
    let server = Server::start().await;
    for (body, pointer) in [
        (json!({"workflow": "nothing", "input": {}}), "/workflow"),
        (json!({"workflow": "note", "input": {}}), "/input"),
        (json!({"workflow": "note", "input": {"name": "Ada"}, "max_credits": "1"}), "/max_credits"),
    ] {
        let told = server.post("/v1/missions/estimate", &body).await.refused(422, "validation");
        assert!(told["errors"][0]["pointer"].as_str().unwrap().starts_with(pointer), "{body}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_was_learned_and_tasks_show_their_estimate() {
    let server = Server::start().await;
    let mut last = Value::Null;
    for _ in 0..20 {
        last = server.run("talk", &json!({"prompt": "Hi [[simulate tokens=10]]"})).await;
    }
    let tasks = server.get(&format!("/v1/runs/{}/tasks", last["run_id"].as_str().unwrap())).await.expect(200);
    let task = &tasks["data"][0];
    assert!(ucr(&task["estimated_credits"]) > ucr(&task["cost_credits"]), "{task}");
    let one = server.get(&format!("/v1/tasks/{}", task["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(one["estimated_credits"], task["estimated_credits"]);

    let learned = crate::support::eventually("twenty tasks taught", crate::support::world::PATIENCE, || async {
        server.engine.fold_lessons().await.unwrap();
        let learned = server.admin_get("/v1/admin/estimates").await.expect(200);
        (learned["nodes"]["data"][0]["samples"] == 20).then_some(learned)
    });
    let learned = learned.await;
    let node = &learned["nodes"]["data"][0];
    assert_eq!((&node["workflow"], &node["tenant_id"]), (&json!("talk"), &json!(server.ours.id.to_string())));
    assert_eq!(node["is_used"], true);
    assert!(ucr(&node["p95"]) >= ucr(&task["cost_credits"]), "{node} {task}");
    assert!(node["charged_percent"].as_i64().unwrap() < 100, "{node}");
    let model = &learned["models"][0];
    assert_eq!(
        (&model["provider"], &model["samples"], &model["is_used"]),
        (&json!("simulated"), &json!(20), &json!(true))
    );
    assert_eq!(model["factor_ppm"], 1_000_000, "the simulated model counts as we do");

    server.run("talk", &json!({"prompt": "Hi [[simulate no_usage]]"})).await;
    let metrics = crate::support::eventually("the doubt is counted", crate::support::world::PATIENCE, || async {
        let text = server.send(server.request(Method::GET, "/metrics")).await.text;
        text.contains("bursar_usage_doubts_total{model=\"simulated-small\"} 1").then_some(text)
    });
    let metrics = metrics.await;
    assert!(metrics.contains("bursar_estimate_error_ratio_count{model=\"simulated-small\"} 21"), "{metrics}");
    assert!(metrics.contains("bursar_input_count_ratio_bucket{le=\"1.0\",model=\"simulated-small\"} 20"), "{metrics}");

    server.engine.refresh_estimates().await.unwrap();
    let told = estimate(&server, &json!({"workflow": "talk", "input": {"prompt": "Hi"}})).await;
    assert_eq!((&told["nodes"][0]["source"], &told["nodes"][0]["hold"]), (&json!("experience"), &node["p95"]));
    let request = server.request(Method::GET, "/v1/admin/estimates").bearer_auth(&server.ours.key);
    server.send(request).await.refused(403, "forbidden");
}
