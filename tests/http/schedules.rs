//! Schedules over the API.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

fn daily(name: &str) -> Value {
    json!({
        "name": name, "cron": "30 2 * * *", "zone": "Europe/Berlin",
        "mission": {"workflow": "note", "input": {"name": "Ada"}, "budget": {"max_credits": "5"}, "priority": -3, "tags": ["t"]},
        "overlap": "queue", "catch_up": "last", "jitter_ms": 1000,
    })
}

async fn patch(server: &Server, path: &str, body: &Value) -> Answer {
    server.send(server.request(Method::PATCH, path).bearer_auth(&server.ours.key).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_made_read_changed_paused_run_and_removed() {
    let server = Server::start().await;
    let answer = server.post("/v1/schedules", &daily("nightly")).await;
    let path = answer.header("location").unwrap().to_owned();
    let made = answer.expect(201);
    assert_eq!((&made["status"], &made["version"], &made["overlap"]), (&json!("active"), &json!(1), &json!("queue")));
    assert_eq!(made["mission"]["budget"]["max_credits"], "5.000000");
    assert_eq!(made["next"].as_array().unwrap().len(), 5);
    assert_eq!(made["next"][0], made["next_at"]);

    let seen = server.get(&path).await;
    let etag = seen.header("etag").unwrap().to_owned();
    assert_eq!(seen.expect(200), made);
    assert_eq!(server.get_with(&path, "if-none-match", &etag).await.status, 304);
    let listed = server.get("/v1/schedules").await.expect(200);
    assert_eq!((listed["data"][0]["id"].clone(), listed["data"][0].get("next")), (made["id"].clone(), None));

    let changed =
        patch(&server, &path, &json!({"cron": "@hourly", "overlap": "skip", "jitter_ms": 0})).await.expect(200);
    assert_ne!(changed["next_at"], made["next_at"]);
    assert_eq!((&changed["mission"], &changed["zone"]), (&made["mission"], &json!("Europe/Berlin")));
    let paused = server.post(&format!("{path}/pause"), &json!({})).await.expect(200);
    assert_eq!((&paused["status"], &paused["next_at"], &paused["next"]), (&json!("paused"), &Value::Null, &json!([])));
    let resumed = server.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    assert_eq!((&resumed["status"], &resumed["next_at"]), (&json!("active"), &changed["next_at"]));

    let run = server.post(&format!("{path}/run"), &json!({})).await;
    assert!(run.header("location").unwrap().starts_with("/v1/missions/mis_"));
    let mission = run.expect(202);
    assert_eq!((&mission["priority"], &mission["tags"]), (&json!(-3), &json!(["t"])));
    assert_eq!(mission["metadata"]["schedule_id"], made["id"]);
    server.finished(mission["id"].as_str().unwrap()).await;

    let remove = || server.request(Method::DELETE, &path).bearer_auth(&server.ours.key);
    assert_eq!(server.send(remove()).await.status, 204);
    server.send(remove()).await.refused(404, "not-found");
    server.get(&path).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_that_makes_no_sense_is_refused_where_it_does_not() {
    let server = Server::start().await;
    let with = |pointer: &str, value: Value| {
        let mut body = daily("nightly");
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[key] = value;
        body
    };
    for (pointer, value) in [
        ("/name", json!("")),
        ("/cron", json!("SECRET")),
        ("/cron", json!("0 0 30 2 *")),
        ("/zone", json!("SECRET")),
        ("/overlap", json!("SECRET")),
        ("/jitter_ms", json!(3_600_001)),
        ("/mission/workflow", json!("nothing")),
        ("/mission/workflow", json!("note@0")),
        ("/mission/input", json!({"name": 7})),
        ("/mission/budget/max_credits", json!("-1")),
        ("/mission/priority", json!(101)),
        ("/mission/tags", json!(["a", "a"])),
        ("/mission/dedupe", json!({})),
    ] {
        let told = server.post("/v1/schedules", &with(pointer, value.clone())).await.refused(422, "validation");
        let at = told["errors"][0]["pointer"].as_str().unwrap();
        assert!(at.starts_with(pointer), "{pointer} {value}: {told}");
        assert!(!told.to_string().contains("SECRET"), "{told}");
    }
    assert_eq!(server.get("/v1/schedules").await.expect(200)["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_once_and_lists_go_page_by_page() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(server.post("/v1/schedules", &daily(name)).await.expect(201)["id"].clone());
    }
    server.post("/v1/schedules", &daily("b")).await.refused(409, "name-taken");
    let path = format!("/v1/schedules/{}", ids[0].as_str().unwrap());
    patch(&server, &path, &json!({"name": "b"})).await.refused(409, "name-taken");
    let first = server.get("/v1/schedules?limit=2").await.expect(200);
    assert_eq!((&first["data"][0]["id"], &first["data"][1]["id"]), (&ids[2], &ids[1]));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("/v1/schedules?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["data"][0]["id"], second["has_more"].as_bool()), (&ids[0], Some(false)));
}
