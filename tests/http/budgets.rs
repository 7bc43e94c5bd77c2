//! A mission's budget, changed by its user while it runs.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

/// Two steps of a credit and of five, after each other.
fn stairs() -> Value {
    json!({
        "workflow": "stairs", "flat_fee": "0",
        "nodes": {
            "low": {"transform": {"x": 1}, "units": {"tool_call": 100}},
            "high": {"needs": ["low"], "transform": {"x": 1}, "units": {"tool_call": 500}},
        },
    })
}

async fn patch(server: &Server, id: &str, body: &Value) -> Answer {
    let request = server.request(Method::PATCH, &format!("/v1/missions/{id}")).bearer_auth(&server.ours.key);
    server.send(request.json(body)).await
}

/// A mission that waits for room in its budget of two credits.
async fn waiting(server: &Server) -> String {
    let put = server.request(Method::PUT, "/v1/workflows/stairs").bearer_auth(&server.ours.key).json(&stairs());
    server.send(put).await;
    let body = json!({"workflow": "stairs", "input": {}, "budget": {"max_credits": "2"}});
    let mission = server.post("/v1/missions", &body).await.expect(202);
    let id = mission["id"].as_str().unwrap().to_owned();
    server.long_poll(&id, |mission| mission["budget"]["spent"] == "1.000000").await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_budget_lets_the_mission_go_on() {
    let server = Server::start().await;
    let id = waiting(&server).await;
    let changed = patch(&server, &id, &json!({"budget": {"max_credits": "6", "on_exhausted": "fail"}})).await;
    assert!(changed.header("etag").is_some());
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["budget"]["max_credits"], &changed["budget"]["on_exhausted"]),
        (&json!("6.000000"), &json!("fail"))
    );
    let over = server.finished(&id).await;
    assert_eq!((over["status"].as_str(), over["budget"]["spent"].as_str()), (Some("succeeded"), Some("6.000000")));
    // what is over may be given more before it is forked, never less than it spent
    patch(&server, &id, &json!({"budget": {"max_credits": "9"}})).await.expect(200);
    patch(&server, &id, &json!({"budget": {"max_credits": "5"}})).await.refused(422, "validation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifted_budget_is_none_and_an_empty_change_changes_nothing() {
    let server = Server::start().await;
    let id = waiting(&server).await;
    for nothing in [json!({}), json!({"budget": null}), json!({"budget": {}})] {
        let same = patch(&server, &id, &nothing).await.expect(200);
        assert_eq!(
            (&same["budget"]["max_credits"], &same["status"]),
            (&json!("2.000000"), &json!("running")),
            "{nothing}"
        );
    }
    let lifted = patch(&server, &id, &json!({"budget": {"max_credits": null}})).await.expect(200);
    assert_eq!(lifted["budget"]["max_credits"], Value::Null);
    assert_eq!(server.finished(&id).await["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_budget_is_refused_where_it_stands_and_changes_nothing() {
    let server = Server::start().await;
    let id = waiting(&server).await;
    for (body, pointer) in [
        (json!({"budget": {"max_credits": "0"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": "-3"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": "0.999999"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": "1.0000001"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": "99999999999999999999"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": "more"}}), "/budget/max_credits"),
        (json!({"budget": {"max_credits": 7}}), "/budget/max_credits"),
        (json!({"budget": {"on_exhausted": "beg"}}), "/budget/on_exhausted"),
        (json!({"budget": {"spent": "0"}}), "/budget/spent"),
        (json!({"budget": 7}), "/budget"),
        (json!({"priority": 3}), "/priority"),
    ] {
        let told = patch(&server, &id, &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{body} {told}");
    }
    let mission = server.get(&format!("/v1/missions/{id}")).await.expect(200);
    assert_eq!(mission["budget"]["max_credits"], "2.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_mission_is_not_found() {
    let server = Server::start().await;
    let id = waiting(&server).await;
    let body = json!({"budget": {"max_credits": "50"}});
    let theirs = server.request(Method::PATCH, &format!("/v1/missions/{id}")).bearer_auth(&server.other.key);
    server.send(theirs.json(&body)).await.refused(404, "not-found");
    patch(&server, "mis_01h455vb4pex5vsknk084sn02q", &body).await.refused(404, "not-found");
    let nobody = server.request(Method::PATCH, &format!("/v1/missions/{id}")).json(&body);
    server.send(nobody).await.refused(401, "unauthorized");
    let mission = server.get(&format!("/v1/missions/{id}")).await.expect(200);
    assert_eq!((&mission["budget"]["max_credits"], &mission["status"]), (&json!("2.000000"), &json!("running")));
}
