//! Dead letters over the API: failures with something in common stand together, each tenant's own.

use serde_json::{Value, json};

use super::server::Server;

async fn fail(server: &Server, how: &str) -> Value {
    let mission = server.run("talk", &json!({"prompt": how})).await;
    assert_eq!(mission["status"], "failed", "{mission}");
    mission["id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_one_kind_are_one_group() {
    let server = Server::start().await;
    server.run("note", &json!({"name": "fine"})).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(fail(&server, &format!("{n} [[simulate fail=permanent]]")).await);
    }
    let late = fail(&server, "[[simulate fail=retryable]]").await;
    let list = server.get("/v1/dead-letters").await.expect(200);
    let groups = list["data"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{list}");
    assert_eq!((&groups[0]["missions"], &groups[0]["sample_id"]), (&json!(1), &late));
    let three = &groups[1];
    assert_eq!((&three["missions"], &three["tenants"], &three["workflow"]), (&json!(3), &json!(1), &json!("talk")));
    assert_eq!((&three["node"], &three["sample_id"]), (&json!("write"), &ids[2]));
    assert!(three["first_at"].as_str() <= three["last_at"].as_str());
    assert!(!three["message"].as_str().unwrap().is_empty() && !three["code"].as_str().unwrap().is_empty());

    let path = format!("/v1/dead-letters/{}", three["fingerprint"].as_str().unwrap());
    let first = server.get(&format!("{path}?limit=2")).await.expect(200);
    assert_eq!((&first["group"], &first["has_more"]), (three, &json!(true)));
    assert_eq!((&first["data"][0]["id"], &first["data"][1]["id"]), (&ids[2], &ids[1]));
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server.get(&format!("{path}?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!((&second["data"][0]["id"], &second["has_more"]), (&ids[0], &json!(false)));
    assert_eq!(second["data"][0]["error"]["code"], three["code"]);

    let page = server.get("/v1/dead-letters?limit=1").await.expect(200);
    let next = format!("/v1/dead-letters?limit=1&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(&server.get(&next).await.expect(200)["data"][0], three);
    server.get("/v1/dead-letters/0123456789abcdef").await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_failures_of_all_tenants() {
    let server = Server::start().await;
    fail(&server, "[[simulate fail=permanent]]").await;
    server.get("/v1/admin/dead-letters").await.refused(403, "forbidden");
    assert_eq!(server.admin_get("/v1/dead-letters").await.expect(200)["data"], json!([]), "not among his own");
    let all = server.admin_get("/v1/admin/dead-letters").await.expect(200);
    assert_eq!((all["data"].as_array().unwrap().len(), &all["data"][0]["missions"]), (1, &json!(1)));
    let path = format!("/v1/admin/dead-letters/{}", all["data"][0]["fingerprint"].as_str().unwrap());
    assert_eq!(server.admin_get(&path).await.expect(200)["data"].as_array().unwrap().len(), 1);
}
