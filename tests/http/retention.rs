//! What a client is told of a mission that was pruned.

use bursar::engine::Retention;
use serde_json::{Value, json};

use super::server::Server;

const LONG: i64 = 86_400_000;

async fn prune(server: &Server, outputs_ms: i64, missions_ms: i64) {
    server.engine.prune(&Retention { details_ms: 0, outputs_ms, missions_ms }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_mission_says_what_is_gone() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    let path = format!("/v1/missions/{}", mission["id"].as_str().unwrap());
    let last = mission["version"].as_i64().unwrap();

    prune(&server, LONG, LONG).await;
    assert_eq!(server.get(&path).await.expect(200)["output"]["to"], "Ada");
    let events = server.get(&format!("{path}/events")).await.expect(200);
    assert_eq!(
        (&events["data"], &events["pruned_to"], &events["next_after"]),
        (&json!([]), &json!(last), &json!(last))
    );
    let stream = server.get(&format!("{path}/stream")).await.text;
    let told: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .map(|data| serde_json::from_str(data.trim()).unwrap())
        .collect();
    assert_eq!((&told[0]["type"], &told[0]["data"]), (&json!("stream.gap"), &json!({"from": 1, "to": last})));
    assert_eq!((&told[1]["type"], told.len()), (&json!("stream.end"), 2));

    prune(&server, 0, LONG).await;
    assert_eq!(server.get(&path).await.expect(200)["output"], Value::Null);
    assert_eq!(server.get(&format!("{path}/result")).await.refused(410, "pruned")["pruned"], "outputs");

    prune(&server, 0, 0).await;
    for part in ["", "/result", "/events", "/stream"] {
        assert_eq!(server.get(&format!("{path}{part}")).await.refused(410, "pruned")["pruned"], "mission", "{part}");
    }
    assert_eq!(server.get("/v1/missions").await.expect(200)["data"], json!([]));
}
