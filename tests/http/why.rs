//! "Why is it waiting?", over HTTP: of a mission, of its tasks, and of one task.

use reqwest::Method;
use serde_json::json;

use super::server::{Server, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_says_what_it_waits_for() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let first = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let second = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let why = server.get(&format!("/v1/missions/{second}/waiting")).await.expect(200);
    assert_eq!((&why["mission_id"], &why["running"]), (&json!(second), &json!(0)), "{why}");
    let causes: Vec<_> = why["waiting"].as_array().unwrap().iter().map(|group| &group["cause"]).collect();
    assert_eq!(causes, ["no_worker", "needs"], "{why}");
    let longest = &why["waiting"][0]["longest"];
    assert_eq!((&longest["node"], &longest["pool"]), (&json!("write"), &json!("agent")));
    let waiting = &longest["waiting"];
    assert_eq!((&waiting["position"], &waiting["ahead"]), (&json!(2), &json!(1)), "{waiting}");
    assert!(
        waiting["reason"].as_str().unwrap().starts_with("ready, and no worker listens to pool `agent`"),
        "{waiting}"
    );
    let needs = &why["waiting"][1]["longest"]["waiting"];
    assert_eq!((&needs["blockers"], &needs["blocked_by"][0]["node"]), (&json!(1), &json!("write")), "{needs}");

    // a list says what costs nothing to know, one task says all
    let run = server.get(&format!("/v1/missions/{second}")).await.expect(200)["run_id"].clone();
    let tasks = server.get(&format!("/v1/runs/{}/tasks", run.as_str().unwrap())).await.expect(200);
    let row = &tasks["data"][0];
    assert_eq!((&row["waiting"]["cause"], &row["waiting"]["position"]), (&json!("no_worker"), &json!(null)), "{row}");
    let task = server.get(&format!("/v1/tasks/{}", row["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(task["waiting"]["position"], 2, "{task}");

    // the line moves
    server.post(&format!("/v1/missions/{first}/cancel"), &json!({})).await;
    server.finished(&first).await;
    let task = server.get(&format!("/v1/tasks/{}", row["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(task["waiting"]["position"], 1, "{task}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_waits_for_nothing() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    let id = mission["id"].as_str().unwrap();
    let why = server.get(&format!("/v1/missions/{id}/waiting")).await.expect(200);
    assert_eq!((&why["running"], &why["waiting"]), (&json!(0), &json!([])), "{why}");
    let tasks = server.get(&format!("/v1/runs/{}/tasks", mission["run_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(tasks["data"][0]["waiting"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_about_others() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let path = format!("/v1/missions/{id}/waiting");
    let request = server.request(Method::GET, &path).bearer_auth(&server.other.key);
    server.send(request).await.refused(404, "not-found");
    server.get(&format!("{path}?limit=2")).await.refused(400, "bad-parameter");
}
