//! Tenants' shares over the API and the command line.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

async fn change(server: &Server, tenant: &str, body: &Value) -> Answer {
    let path = format!("/v1/admin/tenants/{tenant}");
    server.send(server.request(Method::PATCH, &path).bearer_auth(&server.admin).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sets_shares_and_what_is_left_out_stays() {
    let server = Server::start().await;
    let ours = server.ours.id.to_string();
    let set = change(&server, &ours, &json!({"weight": 3, "max_queued": 50})).await.expect(200);
    assert_eq!((&set["id"], &set["weight"], &set["max_queued"]), (&json!(ours), &json!(3), &json!(50)));
    assert_eq!(change(&server, &ours, &json!({})).await.expect(200), set);
    assert_eq!(change(&server, &ours, &json!({"weight": 1000})).await.expect(200)["max_queued"], 50);
    let lifted = change(&server, &ours, &json!({"max_queued": null})).await.expect(200);
    assert_eq!((&lifted["weight"], &lifted["max_queued"]), (&json!(1000), &Value::Null));
    assert_eq!(change(&server, &ours, &json!({"max_queued": 0})).await.expect(200)["max_queued"], 0);
    let listed = server.admin_get("/v1/admin/tenants").await.expect(200);
    let found = |id: &str| listed["data"].as_array().unwrap().iter().find(|row| row["id"] == *id).cloned().unwrap();
    assert_eq!((&found(&ours)["weight"], &found(&ours)["max_queued"]), (&json!(1000), &json!(0)));
    let other = found(&server.other.id.to_string());
    assert_eq!((&other["weight"], &other["max_queued"]), (&json!(1), &Value::Null), "as every new tenant");
    let first = server.admin_get("/v1/admin/tenants?limit=1").await.expect(200);
    let next = format!("/v1/admin/tenants?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_ne!(server.admin_get(&next).await.expect(200)["data"], first["data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_out_of_their_limits_and_strangers_are_refused() {
    let server = Server::start().await;
    let ours = server.ours.id.to_string();
    for (body, pointer) in [
        (json!({"weight": 0}), "/weight"),
        (json!({"weight": 1001}), "/weight"),
        (json!({"weight": 65_537}), "/weight"),
        (json!({"weight": "3"}), "/weight"),
        (json!({"max_queued": -1}), "/max_queued"),
        (json!({"max_queued": 1_000_000_001}), "/max_queued"),
        (json!({"share": 1}), "/share"),
    ] {
        let told = change(&server, &ours, &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{body}: {told}");
    }
    change(&server, "ten_01h455vb4pex5vsknk084sn02q", &json!({"weight": 2})).await.refused(404, "not-found");
    change(&server, "ten_01h455vb4pex5vsknk084sn02q", &json!({})).await.refused(404, "not-found");
    server.get("/v1/admin/tenants").await.refused(403, "forbidden");
    let path = format!("/v1/admin/tenants/{ours}");
    let request = server.request(Method::PATCH, &path).bearer_auth(&server.ours.key).json(&json!({"weight": 9}));
    server.send(request).await.refused(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_tenants_and_sets_their_shares() {
    let server = Server::start().await;
    let bursar = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bursar"));
        let output = command.args(words).args(["--url", &server.base, "--key", &server.admin]).output().await.unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, listed) = bursar(&["tenant", "list"]).await;
    let ours = server.ours.id.to_string();
    let row = listed.lines().find(|line| line.contains(&ours)).unwrap();
    let name = row.split_whitespace().last().unwrap();
    let (_, set) = bursar(&["tenant", "set", name, "--weight", "7", "--max-queued", "20"]).await;
    assert_eq!(set.split_whitespace().collect::<Vec<_>>(), [ours.as_str(), "7", "20", name]);
    let (_, set) = bursar(&["tenant", "set", &ours, "--max-queued", "none", "--json"]).await;
    let set: Value = serde_json::from_str(&set).unwrap();
    assert_eq!((&set["weight"], &set["max_queued"]), (&json!(7), &Value::Null));
    for refused in [vec!["tenant", "set", name], vec!["tenant", "set", "nobody", "--weight", "2"]] {
        assert!(!bursar(&refused).await.0, "{refused:?}");
    }
}
