//! For operators and tools: health, queues, metrics, and a description that covers every route.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Server, Setup};

/// Every operation, with its name.
const OPERATIONS: &[(&str, &str, &str)] = &[
    ("delete", "/v1/api-keys/{id}", "api_keys.revoke"),
    ("delete", "/v1/projects/{id}", "projects.delete"),
    ("delete", "/v1/schedules/{id}", "schedules.delete"),
    ("get", "/c/{token}", "callbacks.show"),
    ("get", "/docs", "ops.docs"),
    ("get", "/livez", "ops.livez"),
    ("get", "/openapi.json", "ops.openapi"),
    ("get", "/problems", "ops.problems"),
    ("get", "/problems/{code}", "ops.problem"),
    ("get", "/readyz", "ops.readyz"),
    ("get", "/schemas/workflow.json", "ops.workflow_schema"),
    ("get", "/startupz", "ops.startupz"),
    ("get", "/v1/admin/bulk-actions", "admin.bulk_actions"),
    ("get", "/v1/admin/bulk-actions/{id}", "admin.bulk_action"),
    ("get", "/v1/admin/dead-letters", "admin.dead_letters"),
    ("get", "/v1/admin/dead-letters/{fingerprint}", "admin.dead_letter"),
    ("get", "/v1/admin/estimates", "admin.estimates"),
    ("get", "/v1/admin/overview", "admin.overview"),
    ("get", "/v1/admin/queues", "admin.queues"),
    ("get", "/v1/admin/rates", "admin.rates"),
    ("get", "/v1/admin/reconciliation", "admin.reconciliation"),
    ("get", "/v1/admin/tenants", "admin.tenants"),
    ("get", "/v1/admin/workers", "admin.workers"),
    ("get", "/v1/api-keys", "api_keys.list"),
    ("get", "/v1/approvals", "approvals.list"),
    ("get", "/v1/approvals/{id}", "approvals.get"),
    ("get", "/v1/bulk-actions", "bulk_actions.list"),
    ("get", "/v1/bulk-actions/{id}", "bulk_actions.get"),
    ("get", "/v1/dead-letters", "dead_letters.list"),
    ("get", "/v1/dead-letters/{fingerprint}", "dead_letters.get"),
    ("get", "/v1/meta", "ops.meta"),
    ("get", "/v1/missions", "missions.list"),
    ("get", "/v1/missions/{id}", "missions.get"),
    ("get", "/v1/missions/{id}/events", "missions.events"),
    ("get", "/v1/missions/{id}/messages", "missions.messages"),
    ("get", "/v1/missions/{id}/result", "missions.result"),
    ("get", "/v1/missions/{id}/stream", "missions.stream"),
    ("get", "/v1/missions/{id}/usage", "missions.usage"),
    ("get", "/v1/missions/{id}/waiting", "missions.waiting"),
    ("get", "/v1/prices", "prices.list"),
    ("get", "/v1/prices/{id}", "prices.get"),
    ("get", "/v1/projects", "projects.list"),
    ("get", "/v1/projects/{id}", "projects.get"),
    ("get", "/v1/runs/{id}", "runs.get"),
    ("get", "/v1/runs/{id}/calls", "runs.calls"),
    ("get", "/v1/runs/{id}/tasks", "runs.tasks"),
    ("get", "/v1/schedules", "schedules.list"),
    ("get", "/v1/schedules/{id}", "schedules.get"),
    ("get", "/v1/tasks/{id}", "tasks.get"),
    ("get", "/v1/wallet", "wallet.get"),
    ("get", "/v1/wallet/entries", "wallet.entries"),
    ("get", "/v1/wallet/grants", "wallet.grants"),
    ("get", "/v1/wallet/holds", "wallet.holds"),
    ("get", "/v1/wallet/statements/{month}", "wallet.statement"),
    ("get", "/v1/wallet/transactions", "wallet.transactions"),
    ("get", "/v1/wallet/usage", "wallet.usage"),
    ("get", "/v1/wallets/{id}", "wallets.get"),
    ("get", "/v1/workflows", "workflows.list"),
    ("get", "/v1/workflows/{name}", "workflows.get"),
    ("patch", "/v1/admin/tenants/{id}", "admin.change_tenant"),
    ("patch", "/v1/missions/{id}", "missions.change"),
    ("patch", "/v1/projects/{id}", "projects.change"),
    ("patch", "/v1/schedules/{id}", "schedules.change"),
    ("patch", "/v1/wallet", "wallet.change"),
    ("post", "/c/{token}", "callbacks.decide"),
    ("post", "/v1/admin/bulk-actions", "admin.create_bulk_action"),
    ("post", "/v1/admin/bulk-actions/{id}/abort", "admin.abort_bulk_action"),
    ("post", "/v1/api-keys", "api_keys.create"),
    ("post", "/v1/approvals/{id}/decide", "approvals.decide"),
    ("post", "/v1/approvals/{id}/links", "approvals.create_link"),
    ("post", "/v1/bulk-actions", "bulk_actions.create"),
    ("post", "/v1/bulk-actions/{id}/abort", "bulk_actions.abort"),
    ("post", "/v1/missions", "missions.submit"),
    ("post", "/v1/missions/estimate", "missions.estimate"),
    ("post", "/v1/missions/{id}/cancel", "missions.cancel"),
    ("post", "/v1/missions/{id}/fork", "missions.fork"),
    ("post", "/v1/missions/{id}/messages", "missions.say"),
    ("post", "/v1/missions/{id}/pause", "missions.pause"),
    ("post", "/v1/missions/{id}/resume", "missions.resume"),
    ("post", "/v1/missions/{id}/retry", "missions.retry"),
    ("post", "/v1/missions/{id}/signals/{name}", "missions.signal"),
    ("post", "/v1/missions/{id}/signals/{name}/links", "missions.create_signal_link"),
    ("post", "/v1/prices", "prices.publish"),
    ("post", "/v1/prices/simulate", "prices.simulate"),
    ("post", "/v1/prices/{id}/activate", "prices.activate"),
    ("post", "/v1/projects", "projects.create"),
    ("post", "/v1/schedules", "schedules.create"),
    ("post", "/v1/schedules/{id}/pause", "schedules.pause"),
    ("post", "/v1/schedules/{id}/resume", "schedules.resume"),
    ("post", "/v1/schedules/{id}/run", "schedules.run"),
    ("post", "/v1/wallet/adjustments", "wallet.adjust"),
    ("post", "/v1/wallet/grants", "wallet.grant"),
    ("post", "/v1/wallet/refunds", "wallet.refund"),
    ("post", "/v1/wallet/top-ups", "wallet.top_up"),
    ("post", "/v1/wallet/write-offs", "wallet.write_off"),
    ("post", "/v1/workflows/validate", "workflows.validate"),
    ("put", "/v1/workflows/{name}", "workflows.put"),
];

fn operations(api: &Value) -> Vec<(String, String, Value)> {
    let mut list = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            list.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    list.sort_by(|left, right| (&left.0, &left.1).cmp(&(&right.0, &right.1)));
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_covers_every_route() {
    let server = Server::start().await;
    let api = server.send(server.request(Method::GET, "/openapi.json")).await.expect(200);
    assert_eq!(api["openapi"], "3.1.0");
    let described = operations(&api);
    let named: Vec<_> = described
        .iter()
        .map(|(method, path, operation)| (method.as_str(), path.as_str(), operation["operationId"].as_str().unwrap()))
        .collect();
    assert_eq!(named, OPERATIONS);
    for (method, path, operation) in &described {
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
        assert!(
            operation["responses"]["default"]["content"]["application/problem+json"].is_object(),
            "{method} {path}"
        );
        let is_open = operation["tags"][0] == "ops";
        // a link is its own credential, and one that nobody made is not found
        let is_link = operation["tags"][0] == "callbacks";
        assert_eq!(operation["security"] == json!([{}]), is_open || is_link, "{method} {path}");
        let concrete = path
            .replace("{id}", "mis_01h455vb4pex5vsknk084sn02q")
            .replace("{name}", "note")
            .replace("{token}", "cbl_0")
            .replace("{month}", "2026-01")
            .replace("{fingerprint}", "0123456789abcdef")
            .replace("{code}", "internal");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
        let status = server.send(server.request(method.clone(), &concrete)).await.status;
        // a key is asked for before the body is looked at, wherever the path is well formed
        let expected: &[u16] = if is_open { &[200] } else { &[401, 400] };
        let expected = if is_link { &[404] } else { expected };
        assert!(expected.contains(&status.as_u16()), "{method} {path}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reference_in_the_description_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let api = serde_json::to_value(bursar::http::openapi()).unwrap();
    let mut found = BTreeSet::new();
    references(&api, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let stream = &api["paths"]["/v1/missions/{id}/stream"]["get"]["responses"]["200"]["content"]["text/event-stream"];
    assert_eq!(stream["schema"]["$ref"], "#/components/schemas/StreamEvent");
    let union = &api["components"]["schemas"]["StreamEvent"]["oneOf"];
    assert!(union.as_array().unwrap().len() >= 19, "{union}");
    for schema in ["Mission", "Task", "Wallet", "Problem", "SubmitMission"] {
        let properties = api["components"]["schemas"][schema]["properties"].as_object().unwrap();
        for (name, property) in properties {
            // an optional object says it inside of its `oneOf`, a plain reference at its target
            let is_told = property.to_string().contains("\"description\"") || property.get("$ref").is_some();
            assert!(is_told, "{schema}.{name} is not documented: {property}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_docs_name_every_operation() {
    let server = Server::start().await;
    let page = server.send(server.request(Method::GET, "/docs")).await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(!page.text.contains("<script") && !page.text.contains("http://") && !page.text.contains("https://"));
    for (method, path, _) in OPERATIONS {
        assert!(page.text.contains(&format!("{} {path}", method.to_uppercase())), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_process_says_so_until_it_stops() {
    let server = Server::start().await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(server.send(server.request(Method::GET, path)).await.expect(200), json!({"status": "ok"}), "{path}");
    }
    let meta = server.send(server.request(Method::GET, "/v1/meta")).await.expect(200);
    assert_eq!(meta["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(meta["limits"]["body_bytes"], 4 * 1024 * 1024);
    server.engine.store().close().await;
    server.send(server.request(Method::GET, "/livez")).await.expect(200);
    let answer = server.send(server.request(Method::GET, "/readyz")).await;
    assert_eq!(answer.header("retry-after"), Some("1"));
    answer.refused(503, "store-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_that_nobody_serves_a_pool() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    for _ in 0..3 {
        server.submit("talk", &json!({"prompt": "Hi"})).await;
    }
    let queues = server.admin_get("/v1/admin/queues").await.expect(200);
    let pool = queues["data"].as_array().unwrap().iter().find(|pool| pool["pool"] == "agent").unwrap().clone();
    assert_eq!(
        (pool["ready"].as_i64(), pool["slots"].as_i64(), pool["queue_depth"].as_i64()),
        (Some(3), Some(0), Some(3))
    );
    assert_eq!(
        (pool["health"].as_str(), pool["verdict"].as_str()),
        (Some("unserved"), Some("3 waiting, no worker listens to `agent`"))
    );
    let overview = server.admin_get("/v1/admin/overview").await.expect(200);
    assert_eq!((overview["ready"].as_i64(), overview["wallets"].as_i64()), (Some(3), Some(3)));
    assert_eq!(overview["verdicts"], json!(["3 waiting, no worker listens to `agent`"]));
    assert_eq!(overview["queue_up"], true);
    let held = overview["held"].as_str().unwrap();
    assert!(held.starts_with('6') && held > "6.000000", "three fees of 2 and three small holds: {held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_workers() {
    let server = Server::start().await;
    // a worker's first heartbeat may come a moment after its start; a finished task proves that it is there
    server.run("note", &json!({"name": "x"})).await;
    let workers = server.admin_get("/v1/admin/workers").await.expect(200);
    assert_eq!(workers["data"][0]["pools"], json!({"agent": 4, "default": 4}), "{workers}");
    assert_eq!(workers["data"][0]["host"], "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_how_providers_are() {
    let server = Server::start().await;
    let rates = server.admin_get("/v1/admin/rates").await.expect(200);
    assert_eq!((&rates["shared"], &rates["data"]), (&json!(false), &json!([])), "{rates}");
    let text = server.send(server.request(Method::GET, "/metrics")).await.text;
    assert!(text.contains("bursar_rates_shared 0"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_requests_by_template() {
    let server = Server::start().await;
    server.run("note", &json!({"name": "x"})).await;
    server.get("/v1/missions/mis_01h455vb4pex5vsknk084sn02q").await.refused(404, "not-found");
    server.get("/v1/SECRET").await.refused(404, "not-found");
    let text = server.send(server.request(Method::GET, "/metrics")).await.text;
    let counted = "bursar_http_requests_total{method=\"GET\",route=\"/v1/missions/{id}\",status=\"4xx\"} 1";
    assert!(text.contains(counted), "{text}");
    assert!(text.contains("route=\"unmatched\"") && !text.contains("SECRET"));
    assert!(text.contains("bursar_settles_total") && text.contains("bursar_store_commits_total"));
}
