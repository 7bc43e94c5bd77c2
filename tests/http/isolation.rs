//! Another tenant's objects are not found, by no route.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::Server;

/// What stands for each path parameter, by what the path begins with.
async fn our_objects(server: &Server) -> Vec<(&'static str, String)> {
    let mission = server.run("talk", &json!({"prompt": "Hi"})).await;
    let run = mission["run_id"].as_str().unwrap().to_owned();
    let tasks = server.get(&format!("/v1/runs/{run}/tasks")).await.expect(200);
    let wallet = server.get("/v1/wallet").await.expect(200);
    let key = server.post("/v1/api-keys", &json!({"name": "spare"})).await.expect(201);
    let (_, approval) = super::approvals::asked(server, &json!({"show": "?"})).await;
    let approval = approval.rsplit_once('/').unwrap().1.to_owned();
    let project = server.post("/v1/projects", &json!({"name": "ours"})).await.expect(201);
    let daily = json!({"name": "daily", "cron": "@daily", "mission": {"workflow": "note", "input": {"name": "x"}}});
    let schedule = server.post("/v1/schedules", &daily).await.expect(201);
    server.run("talk", &json!({"prompt": "[[simulate fail=permanent]]"})).await;
    let dead = server.get("/v1/dead-letters").await.expect(200);
    let redrive = json!({"kind": "redrive", "fingerprint": dead["data"][0]["fingerprint"]});
    let redrive = server.post("/v1/bulk-actions", &redrive).await.expect(202);
    vec![
        ("/v1/dead-letters/", dead["data"][0]["fingerprint"].as_str().unwrap().to_owned()),
        ("/v1/bulk-actions/", redrive["id"].as_str().unwrap().to_owned()),
        ("/v1/projects/", project["id"].as_str().unwrap().to_owned()),
        ("/v1/approvals/", approval),
        ("/v1/schedules/", schedule["id"].as_str().unwrap().to_owned()),
        ("/v1/missions/", mission["id"].as_str().unwrap().to_owned()),
        ("/v1/runs/", run),
        ("/v1/tasks/", tasks["data"][0]["id"].as_str().unwrap().to_owned()),
        ("/v1/api-keys/", key["id"].as_str().unwrap().to_owned()),
        ("/v1/wallets/", wallet["id"].as_str().unwrap().to_owned()),
        ("/v1/workflows/", "note".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_opens_another_tenants_object() {
    let server = Server::start().await;
    let objects = our_objects(&server).await;
    let api = serde_json::to_value(bursar::http::openapi()).unwrap();
    let mut swept = 0;
    for (path, item) in api["paths"].as_object().unwrap() {
        let Some((prefix, rest)) = path.split_once('{') else { continue };
        // a code, a price book and a month are nobody's, a link is everybody's who has it: what a month shows is the
        // caller's own; operators see all
        let nobodys = ["/c/", "/problems/", "/v1/prices/", "/v1/wallet/statements/"];
        if nobodys.contains(&prefix) || prefix.starts_with("/v1/admin/") {
            continue;
        }
        let (_, object) =
            objects.iter().find(|(begin, _)| *begin == prefix).unwrap_or_else(|| panic!("nothing for {path}"));
        let path = format!("{prefix}{object}{}", rest.split_once('}').unwrap().1);
        for method in item.as_object().unwrap().keys() {
            if method == "put" {
                // a name of one's own may be the same: it makes a workflow, and touches nobody's
                continue;
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            for key in [&server.other.key, &server.admin] {
                if key == &server.admin && prefix == "/v1/workflows/" {
                    continue; // the admin's tenant has a workflow of this name
                }
                let request = server.request(method.clone(), &path).bearer_auth(key);
                let request = match (&method, path.ends_with("/fork")) {
                    (_, true) => request.json(&json!({"from_node": "talk"})),
                    (&Method::POST, _) if path.ends_with("/messages") => request.json(&json!({"content": "Hello"})),
                    (&Method::PATCH, _) => request.json(&json!({})),
                    _ => request,
                };
                server.send(request).await.refused(404, "not-found");
            }
            swept += 1;
        }
    }
    assert!(swept >= 11, "{swept} routes with objects");
    // nothing was cancelled or revoked on the way
    for (prefix, object) in &objects {
        if *prefix != "/v1/api-keys/" {
            assert_eq!(server.get(&format!("{prefix}{object}")).await.status, 200);
        }
    }
    assert!(server.get("/v1/api-keys").await.expect(200)["data"][0]["revoked_at"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_ones_own_alone() {
    let server = Server::start().await;
    our_objects(&server).await;
    for path in [
        "/v1/approvals",
        "/v1/bulk-actions",
        "/v1/projects",
        "/v1/dead-letters",
        "/v1/missions",
        "/v1/workflows",
        "/v1/schedules",
        "/v1/wallet/holds",
    ] {
        let request = server.request(Method::GET, path).bearer_auth(&server.other.key);
        assert_eq!(server.send(request).await.expect(200)["data"], json!([]), "{path}");
    }
    for path in ["/v1/wallet/entries", "/v1/wallet/transactions", "/v1/wallet/grants", "/v1/api-keys"] {
        let request = server.request(Method::GET, path).bearer_auth(&server.other.key);
        let rows = server.send(request).await.expect(200);
        assert_eq!(rows["data"].as_array().unwrap().len(), 1, "{path}: its own first grant or key");
    }
    let usage = server.request(Method::GET, "/v1/wallet/usage").bearer_auth(&server.other.key);
    assert_eq!(server.send(usage).await.expect(200)["total"]["calls"], 0);
    let submit = server.request(Method::POST, "/v1/missions").bearer_auth(&server.other.key);
    let answer = server.send(submit.json(&json!({"workflow": "note", "input": {"name": "x"}}))).await;
    assert_eq!(answer.refused(422, "validation")["errors"][0]["pointer"], "/workflow");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_acts_for_a_tenant_by_naming_it() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    let path = format!("/v1/missions/{}", mission["id"].as_str().unwrap());
    let named = |tenant: String| {
        server.request(Method::GET, &path).bearer_auth(&server.admin).header("X-Bursar-Tenant", tenant)
    };
    assert_eq!(server.send(named(server.ours.id.to_string())).await.expect(200)["id"], mission["id"]);
    server.send(named(server.other.id.to_string())).await.refused(404, "not-found");
    server.send(named("ten_01h455vb4pex5vsknk084sn02q".to_owned())).await.refused(404, "not-found");
    server.send(named("nobody".to_owned())).await.refused(400, "bad-parameter");
    let body: Value = server.admin_get("/v1/missions").await.expect(200);
    assert_eq!(body["data"], json!([]), "without a name it is the admin's own tenant");
}
