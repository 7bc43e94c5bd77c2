//! Workflows: versions come in, and what is wrong is told at once.

use reqwest::Method;
use serde_json::json;

use super::server::{Answer, Server, note};

const YAML: &str = "
workflow: greet
nodes:
  hello: { transform: { text: 'Hello {{ inputs.name }}' } }
";

async fn put(server: &Server, name: &str, media_type: &str, body: &str) -> Answer {
    let request = server.request(Method::PUT, &format!("/v1/workflows/{name}")).bearer_auth(&server.ours.key);
    server.send(request.header("content-type", media_type).body(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_content_is_a_new_version_and_the_same_content_is_not() {
    let server = Server::start().await;
    let first = put(&server, "greet", "application/yaml; charset=utf-8", YAML).await;
    assert_eq!(first.header("location"), Some("/v1/workflows/greet?version=1"));
    let first = first.expect(201);
    let again = put(&server, "greet", "application/yaml", YAML).await.expect(200);
    assert_eq!((again["id"].clone(), again["version"].as_i64()), (first["id"].clone(), Some(1)));
    // the same content as JSON is the same content
    let same = first["definition"].to_string();
    assert_eq!(put(&server, "greet", "application/json", &same).await.expect(200)["id"], first["id"]);
    let second = put(&server, "greet", "application/yaml", &YAML.replace("Hello", "Hi")).await.expect(201);
    assert_eq!(second["version"], 2);

    assert_eq!(server.get("/v1/workflows/greet").await.expect(200)["version"], 2);
    assert_eq!(server.get("/v1/workflows/greet?version=1").await.expect(200)["id"], first["id"]);
    server.get("/v1/workflows/greet?version=3").await.refused(404, "not-found");
    let list = server.get("/v1/workflows?limit=2").await.expect(200);
    assert_eq!((list["data"][0]["name"].as_str(), list["has_more"].as_bool()), (Some("dear"), Some(true)));
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("/v1/workflows?limit=2&cursor={cursor}")).await.expect(200);
    let names: Vec<_> = rest["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["note", "talk"]);
    assert!(rest["data"][0].get("definition").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_is_told_at_once() {
    let server = Server::start().await;
    let broken = json!({"workflow": "broken", "nodes": {
        "a": {"needs": ["nobody"], "transform": {"x": "{{ nodes.b.output }}"}},
        "c": {"transfrom": 1},
    }});
    for (method, path) in [(Method::PUT, "/v1/workflows/broken"), (Method::POST, "/v1/workflows/validate")] {
        let request = server.request(method, path).bearer_auth(&server.ours.key).json(&broken);
        let told = server.send(request).await.refused(422, "validation");
        let errors = told["errors"].as_array().unwrap();
        assert!(errors.len() >= 3, "{told}");
        assert!(errors.iter().any(|error| error["pointer"] == "/nodes/a/needs/0"), "{told}");
        assert!(errors.iter().any(|error| error["hint"].is_string()), "{told}");
    }
    server.get("/v1/workflows/broken").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_checked_without_being_put() {
    let server = Server::start().await;
    let mut fresh = note();
    fresh["workflow"] = json!("fresh");
    let valid = server.post("/v1/workflows/validate", &fresh).await.expect(200);
    assert_eq!((valid["valid"].as_bool(), valid["name"].as_str()), (Some(true), Some("fresh")));
    let card = json!([{"key": "card", "kind": "transform", "pool": "default", "needs": [], "fallback": null}]);
    assert_eq!(valid["nodes"], card);
    assert_eq!(valid["outputs"], json!(["gone", "second", "to"]));
    server.get("/v1/workflows/fresh").await.refused(404, "not-found");

    let line = json!({"workflow": "line", "nodes": {
        "a": {"transform": 1, "on_error": {"fallback": "b"}}, "b": {"transform": 2}, "c": {"needs": ["a"], "transform": 3},
    }});
    let told = server.post("/v1/workflows/validate", &line).await.expect(200);
    let node = |at: usize| (told["nodes"][at]["needs"].clone(), told["nodes"][at]["fallback"].clone());
    assert_eq!((node(0), node(1)), ((json!([]), json!("b")), (json!(["a"]), json!(null))));
    assert_eq!((node(2).0, &told["outputs"]), (json!(["a", "b"]), &json!(["c"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_a_price_is_refused() {
    let server = Server::start().await;
    let body = "workflow: unpriced\nagents: {a: {instructions: x, model: nobodys-model, max_output_tokens: 5}}\nnodes: {n: {agent: a, prompt: x}}\n";
    let told = put(&server, "unpriced", "application/yaml", body).await.refused(422, "validation");
    assert_eq!(told["errors"][0]["code"], "model_not_priced");
    put(&server, "unpriced", "text/plain", body).await.refused(415, "unsupported-media-type");
}
