//! Bulk actions over the API: a dry run, an order, its progress, its end; a tenant's own, and an operator's over all.

use std::process::Output;
use std::time::Duration;

use bursar::engine::Redriver;
use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};
use crate::support::eventually;

const PATIENCE: Duration = Duration::from_secs(30);

/// A server with this many missions that failed alike; the group's fingerprint.
async fn with_dead_letters(count: usize) -> (Server, String) {
    let server = Server::start().await;
    for _ in 0..count {
        let mission = server.run("talk", &json!({"prompt": "[[simulate fail=permanent times=1]]"})).await;
        assert_eq!(mission["status"], "failed", "{mission}");
    }
    let list = server.get("/v1/dead-letters").await.expect(200);
    let fingerprint = list["data"][0]["fingerprint"].as_str().unwrap().to_owned();
    (server, fingerprint)
}

fn wish(fingerprint: &str) -> Value {
    json!({"kind": "redrive", "fingerprint": fingerprint, "per_second": 50})
}

async fn admin_post(server: &Server, path: &str, body: &Value) -> Answer {
    server.send(server.request(Method::POST, path).bearer_auth(&server.admin).json(body)).await
}

fn work(server: &Server) {
    tokio::spawn(Redriver::new(server.engine.clone()).run(server.stop.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_rehearsed_redriven_and_watched_to_its_end() {
    let (server, fingerprint) = with_dead_letters(3).await;
    let mut dry = wish(&fingerprint);
    dry["dry_run"] = json!(true);
    let told = server.post("/v1/bulk-actions", &dry).await.expect(200);
    assert_eq!((&told["total"], &told["looked_at"], &told["would_retry"]), (&json!(3), &json!(3), &json!(3)));
    let nodes = json!([{"node": "write", "kind": "agent", "missions": 3}, {"node": "card", "kind": "transform", "missions": 3}]);
    assert_eq!((&told["nodes"], &told["refusals"]), (&nodes, &json!([])));
    let mission = told["missions"][0]["mission_id"].as_str().unwrap();
    let path = format!("/v1/missions/{mission}/retry?preview=true");
    let preview = server.post(&path, &json!({})).await.expect(200);
    for figure in ["hold_needed", "cost"] {
        assert_eq!(told["missions"][0][figure], preview[figure], "as the mission's own preview");
    }
    let credits = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap();
    assert!((credits(&told["hold_needed"]) - 3.0 * credits(&preview["hold_needed"])).abs() < 1e-9);
    assert_eq!(server.get("/v1/bulk-actions").await.expect(200)["data"], json!([]), "nothing was ordered");

    let answer = server.post("/v1/bulk-actions", &wish(&fingerprint)).await;
    let path = answer.header("location").unwrap().to_owned();
    let made = answer.expect(202);
    assert_eq!(
        (&made["state"], &made["kind"], &made["tenant_id"]),
        (&json!("running"), &json!("redrive"), &json!(server.ours.id))
    );
    let figures = json!({"total": 3, "done": 0, "retried": 0, "refused": 0, "failed": 0});
    assert_eq!((&made["progress"], made["eta"].is_string()), (&figures, true));
    assert_eq!(server.get(&path).await.expect(200)["id"], made["id"]);
    work(&server);
    let done = eventually("it is done", PATIENCE, async || {
        Some(server.get(&path).await.expect(200)).filter(|action| action["state"] != "running")
    })
    .await;
    let figures = json!({"total": 3, "done": 3, "retried": 3, "refused": 0, "failed": 0});
    assert_eq!((&done["state"], &done["progress"], &done["eta"]), (&json!("done"), &figures, &Value::Null));
    for mission in told["missions"].as_array().unwrap() {
        let mission = server.finished(mission["mission_id"].as_str().unwrap()).await;
        assert_eq!(mission["status"], "succeeded", "{mission}");
    }
    server.post(&format!("{path}/abort"), &json!({})).await.refused(409, "illegal-state");
    assert_eq!(server.get("/v1/dead-letters").await.expect(200)["data"], json!([]));
    server.post("/v1/bulk-actions", &wish(&fingerprint)).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_redrives_one_tenants_group_or_all_tenants() {
    let (server, fingerprint) = with_dead_letters(2).await;
    let other = server.request(Method::POST, "/v1/bulk-actions").bearer_auth(&server.other.key);
    server.send(other.json(&wish(&fingerprint))).await.refused(404, "not-found");
    server.post("/v1/admin/bulk-actions", &wish(&fingerprint)).await.refused(403, "forbidden");
    let with_tenant = |tenant: Value| {
        let mut body = wish(&fingerprint);
        body["tenant_id"] = tenant;
        body
    };
    let refused =
        server.post("/v1/bulk-actions", &with_tenant(json!(server.other.id))).await.refused(422, "validation");
    assert_eq!(refused["errors"][0]["pointer"], "/tenant_id", "a tenant has no say over others");
    admin_post(&server, "/v1/admin/bulk-actions", &with_tenant(json!(server.other.id))).await.refused(404, "not-found");
    let nobody = json!("ten_01h455vb4pex5vsknk084sn02q");
    admin_post(&server, "/v1/admin/bulk-actions", &with_tenant(nobody)).await.refused(404, "not-found");

    let answer = admin_post(&server, "/v1/admin/bulk-actions", &with_tenant(json!(server.ours.id))).await;
    assert!(answer.header("location").unwrap().starts_with("/v1/admin/bulk-actions/blk_"));
    let ours = answer.expect(202);
    let all = admin_post(&server, "/v1/admin/bulk-actions", &wish(&fingerprint)).await.expect(202);
    assert_eq!((&ours["tenant_id"], &all["tenant_id"]), (&json!(server.ours.id), &Value::Null));
    let listed = server.admin_get("/v1/admin/bulk-actions").await.expect(200);
    assert_eq!((&listed["data"][0]["id"], &listed["data"][1]["id"]), (&all["id"], &ours["id"]));
    // a tenant sees what is about its missions alone
    let listed = server.get("/v1/bulk-actions").await.expect(200);
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["data"][0]["id"]), (1, &ours["id"]));
    let all = all["id"].as_str().unwrap();
    server.get(&format!("/v1/bulk-actions/{all}")).await.refused(404, "not-found");
    server.post(&format!("/v1/bulk-actions/{all}/abort"), &json!({})).await.refused(404, "not-found");
    server.get(&format!("/v1/admin/bulk-actions/{all}")).await.refused(403, "forbidden");
    let path = format!("/v1/admin/bulk-actions/{all}/abort");
    for _ in 0..2 {
        assert_eq!(admin_post(&server, &path, &json!({})).await.expect(200)["state"], "aborted");
    }
    let mine = format!("/v1/bulk-actions/{}/abort", ours["id"].as_str().unwrap());
    assert_eq!(server.post(&mine, &json!({})).await.expect(200)["state"], "aborted");
    work(&server);
    let page = server.get("/v1/bulk-actions?limit=1&fingerprint=0123456789abcdef").await.expect(200);
    assert_eq!(page["data"], json!([]));
    assert_eq!(server.get("/v1/dead-letters").await.expect(200)["data"][0]["missions"], 2, "they were left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_may_be_repeated_under_its_key() {
    let (server, fingerprint) = with_dead_letters(1).await;
    let send = async |body: &Value| {
        let request = server.request(Method::POST, "/v1/bulk-actions").bearer_auth(&server.ours.key);
        server.send(request.header("Idempotency-Key", "friday").json(body)).await
    };
    let first = send(&wish(&fingerprint)).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = send(&wish(&fingerprint)).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(first.expect(202)["id"], again.expect(202)["id"]);
    let mut other = wish(&fingerprint);
    other["limit"] = json!(1);
    send(&other).await.refused(422, "idempotency-key-reused");
    assert_eq!(server.get("/v1/bulk-actions").await.expect(200)["data"].as_array().unwrap().len(), 1);
}

/// `bursar dlq …` against the server.
async fn dlq(server: &Server, words: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.arg("dlq").args(words).args(["--url", &server.base, "--key", &server.ours.key]);
    command.output().await.unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_rehearses_redrives_and_watches() {
    let (server, fingerprint) = with_dead_letters(2).await;
    let list = said(&dlq(&server, &["list"]).await);
    assert!(list.contains(&fingerprint) && list.contains("talk"), "{list}");
    let group = said(&dlq(&server, &["show", &fingerprint]).await);
    assert!(group.contains("2 missions of talk, node write") && group.contains("mis_"), "{group}");
    let told = said(&dlq(&server, &["redrive", &fingerprint, "--dry-run", "--limit", "1"]).await);
    assert!(told.contains("1 of 1 missions would be tried again") && told.contains("node write (agent)"), "{told}");
    let made = said(&dlq(&server, &["redrive", &fingerprint, "--per-second", "1", "--json"]).await);
    let made: Value = serde_json::from_str(&made).unwrap();
    let id = made["id"].as_str().unwrap();
    let stopped = said(&dlq(&server, &["abort", id]).await);
    assert!(stopped.contains(&format!("{id} aborted: 0 of 2")), "{stopped}");
    work(&server);
    let watched = said(&dlq(&server, &["redrive", &fingerprint, "--per-second", "50", "--watch"]).await);
    assert!(watched.contains("done: 2 of 2 had their turn, 2 retried"), "{watched}");
    let id = watched.split_once(' ').unwrap().0;
    assert_eq!(said(&dlq(&server, &["status", id]).await), watched);
    let late = dlq(&server, &["abort", id]).await;
    assert!(!late.status.success() && String::from_utf8_lossy(&late.stderr).contains("is done"), "{late:?}");
}
