//! More comes in than there is room for: who is refused hears by what, and what to do.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Server, Setup};

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
