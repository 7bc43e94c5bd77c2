//! Bad requests: each with its status, code and pointer, and never with what was sent.

use bursar::http::TABLE;
use reqwest::Method;
use serde_json::json;

use super::server::Server;

/// A request and how it is refused: status, code, pointer (or parameter) of the first error.
struct Case {
    request: (&'static str, &'static str),
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    refused: (u16, &'static str, &'static str),
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
const SUBMIT: (&str, &str) = ("POST", "/v1/missions");

const fn bad(body: &'static str, refused: (u16, &'static str, &'static str)) -> Case {
    Case { request: SUBMIT, headers: JSON, body, refused }
}

const fn at(request: (&'static str, &'static str), refused: (u16, &'static str, &'static str)) -> Case {
    Case { request, headers: &[], body: "", refused }
}

const fn redrive(body: &'static str, refused: (u16, &'static str, &'static str)) -> Case {
    Case { request: ("POST", "/v1/bulk-actions"), headers: JSON, body, refused }
}

const fn project(body: &'static str, refused: (u16, &'static str, &'static str)) -> Case {
    Case { request: ("POST", "/v1/projects"), headers: JSON, body, refused }
}

const SOME_TASK: &str = "/v1/missions/tsk_01h455vb4pex5vsknk084sn02q";

/// Bodies of a submit.
fn bodies() -> Vec<Case> {
    vec![
        bad("", (400, "malformed-json", "")),
        bad("{\"workflow\": \"note\"", (400, "malformed-json", "")),
        bad("{\"workflow\": \"note\", \"workflow\": \"note\"}", (400, "malformed-json", "")),
        bad("[1]", (422, "validation", "")),
        bad("{}", (422, "validation", "/workflow")),
        bad("{\"workflow\": \"note\", \"budget\": [\"1\", null]}", (422, "validation", "/budget")),
        bad("{\"workflow\": 7}", (422, "validation", "/workflow")),
        bad("{\"workflow\": \"nothing\"}", (422, "validation", "/workflow")),
        bad("{\"workflow\": \"note@0\"}", (422, "validation", "/workflow")),
        bad("{\"workflow\": \"note@9\"}", (422, "validation", "/workflow")),
        bad("{\"workflow\": \"note\"}", (422, "validation", "/input/name")),
        bad("{\"workflow\": \"note\", \"input\": \"SECRET\"}", (422, "validation", "/input")),
        bad("{\"workflow\": \"note\", \"input\": {\"name\": 7}}", (422, "validation", "/input/name")),
        bad(
            "{\"workflow\": \"note\", \"input\": {\"name\": \"x\", \"colour\": \"SECRET\"}}",
            (422, "validation", "/input"),
        ),
        bad("{\"workflow\": \"note\", \"inptu\": {}}", (422, "validation", "/inptu")),
        bad("{\"workflow\": \"note\", \"budget\": {\"max_credit\": \"1\"}}", (422, "validation", "/budget/max_credit")),
        bad(
            "{\"workflow\": \"note\", \"input\": {\"name\": \"x\"}, \"budget\": {\"max_credits\": \"-1\"}}",
            (422, "validation", "/budget/max_credits"),
        ),
        bad(
            "{\"workflow\": \"note\", \"input\": {\"name\": \"x\"}, \"budget\": {\"max_credits\": \"SECRET\"}}",
            (422, "validation", "/budget/max_credits"),
        ),
        bad("{\"workflow\": \"note\", \"budget\": {\"max_credits\": 5}}", (422, "validation", "/budget/max_credits")),
        bad(
            "{\"workflow\": \"note\", \"budget\": {\"on_exhausted\": \"SECRET\"}}",
            (422, "validation", "/budget/on_exhausted"),
        ),
        bad("{\"workflow\": \"note\", \"priority\": 101}", (422, "validation", "/priority")),
        bad("{\"workflow\": \"note\", \"metadata\": [\"SECRET\"]}", (422, "validation", "/metadata")),
        bad("{\"workflow\": \"note\", \"tags\": \"SECRET\"}", (422, "validation", "/tags")),
        bad("{\"workflow\": \"note\", \"tags\": [\"a\", \"\"]}", (422, "validation", "/tags/1")),
        bad("{\"workflow\": \"note\", \"tags\": [\"SECRET\", \"b\", \"SECRET\"]}", (422, "validation", "/tags/2")),
        bad("{\"workflow\": \"note\", \"dedupe\": [\"SECRET\"]}", (422, "validation", "/dedupe")),
        bad("{\"workflow\": \"note\", \"dedupe\": {\"window\": \"1h\"}}", (422, "validation", "/dedupe/key")),
        bad("{\"workflow\": \"note\", \"dedupe\": {\"key\": \"\"}}", (422, "validation", "/dedupe/key")),
        bad("{\"workflow\": \"note\", \"dedupe\": {\"key\": \"a\\u0007\"}}", (422, "validation", "/dedupe/key")),
        bad(
            "{\"workflow\": \"note\", \"dedupe\": {\"key\": \"a\", \"window\": \"SECRET\"}}",
            (422, "validation", "/dedupe/window"),
        ),
        bad(
            "{\"workflow\": \"note\", \"dedupe\": {\"key\": \"a\", \"window\": \"367d\"}}",
            (422, "validation", "/dedupe/window"),
        ),
        bad(
            "{\"workflow\": \"note\", \"dedupe\": {\"key\": \"a\", \"mode\": \"SECRET\"}}",
            (422, "validation", "/dedupe/mode"),
        ),
        Case { headers: &[], ..bad("{}", (415, "unsupported-media-type", "")) },
        Case { headers: &[("content-type", "text/plain")], ..bad("{}", (415, "unsupported-media-type", "")) },
        Case {
            headers: &[("content-type", "application/json"), ("idempotency-key", "a b")],
            ..bad("{\"workflow\": \"note\"}", (400, "bad-parameter", "Idempotency-Key"))
        },
        Case {
            request: ("POST", "/v1/missions?wiat=3"),
            ..bad("{\"workflow\": \"note\"}", (400, "bad-parameter", "wiat"))
        },
    ]
}

/// Addresses, headers and definitions.
fn others() -> Vec<Case> {
    vec![
        at(("GET", "/v1/missions?limit=0"), (400, "bad-parameter", "limit")),
        at(("GET", "/v1/missions?limit=101"), (400, "bad-parameter", "limit")),
        at(("GET", "/v1/missions?limit=5&limit=6"), (400, "bad-parameter", "limit")),
        at(("GET", "/v1/missions?status=SECRET"), (400, "bad-parameter", "status")),
        at(("GET", "/v1/missions?colour=red"), (400, "bad-parameter", "colour")),
        at(("GET", "/v1/missions?cursor=SECRET"), (400, "bad-cursor", "")),
        at(("GET", SOME_TASK), (400, "wrong-id-kind", "")),
        at(("GET", "/v1/missions/SECRET"), (400, "malformed-id", "")),
        at(("GET", "/v1/missions/mis_01h455vb4pex5vsknk084sn02q"), (404, "not-found", "")),
        at(("GET", "/v1/missions/%ff"), (404, "not-found", "")),
        at(("GET", "/v1/nothing/SECRET"), (404, "not-found", "")),
        at(("GET", "/v1/workflows/nothing"), (404, "not-found", "")),
        at(("GET", "/v1/wallet/entries?kind=SECRET"), (400, "bad-parameter", "kind")),
        at(("GET", "/v1/wallet/entries?format=SECRET"), (400, "bad-parameter", "format")),
        at(("GET", "/v1/wallet/entries?format=csv&limit=5"), (400, "bad-parameter", "limit")),
        at(("GET", "/v1/wallet/entries?from=SECRET"), (400, "bad-parameter", "from")),
        at(("GET", "/v1/wallet/entries?mission_id=SECRET"), (400, "malformed-id", "")),
        at(("GET", "/v1/wallet/transactions?include=SECRET"), (400, "bad-parameter", "include")),
        at(("GET", "/v1/wallet/transactions?kind=settle"), (400, "bad-parameter", "kind")),
        at(("GET", "/v1/wallet/statements/2026-13"), (400, "bad-parameter", "month")),
        at(("GET", "/v1/wallet/statements/2999-01"), (404, "not-found", "")),
        at(("GET", "/v1/wallet/usage?group_by=SECRET"), (400, "bad-parameter", "group_by")),
        at(("GET", "/v1/wallet/usage?from=2026-02-01&to=2026-02-01"), (400, "bad-parameter", "from")),
        at(("GET", "/v1/wallet/usage?from=2024-01-01&to=2026-01-01"), (400, "bad-parameter", "from")),
        at(("GET", "/v1/wallet/usage?cursor=SECRET"), (400, "bad-cursor", "")),
        bad("{\"workflow\": \"note\", \"project_id\": \"SECRET\"}", (422, "validation", "/project_id")),
        bad(
            "{\"workflow\": \"note\", \"input\": {\"name\": \"x\"}, \"project_id\": \"prj_01h455vb4pex5vsknk084sn02q\"}",
            (422, "validation", "/project_id"),
        ),
        at(("GET", "/v1/missions?project_id=SECRET"), (400, "malformed-id", "")),
        at(("GET", "/v1/missions?project_id=mis_01h455vb4pex5vsknk084sn02q"), (400, "wrong-id-kind", "")),
        at(("GET", "/v1/projects?archived=SECRET"), (400, "bad-parameter", "archived")),
        at(("GET", "/v1/projects/prj_01h455vb4pex5vsknk084sn02q"), (404, "not-found", "")),
        project("{}", (422, "validation", "/name")),
        project("{\"name\": \" \"}", (422, "validation", "/name")),
        project("{\"name\": \"a\", \"metadata\": \"SECRET\"}", (422, "validation", "/metadata")),
        project("{\"name\": \"a\", \"archived\": true}", (422, "validation", "/archived")),
        Case {
            request: ("POST", "/v1/workflows/validate"),
            headers: JSON,
            body: "{\"workflow\": \"x\", \"nodes\": {\"a\": {\"exec\": {\"command\": [\"date\"]}}}}",
            refused: (422, "validation", "/nodes/a/exec"),
        },
        at(("DELETE", "/v1/missions"), (405, "method-not-allowed", "")),
        at(("GET", "/v1/admin/overview"), (403, "forbidden", "")),
        at(("GET", "/v1/admin/rates"), (403, "forbidden", "")),
        at(("GET", "/v1/admin/reconciliation"), (403, "forbidden", "")),
        Case {
            headers: &[("x-bursar-tenant", "ten_01h455vb4pex5vsknk084sn02q")],
            ..at(("GET", "/v1/wallet"), (403, "forbidden", ""))
        },
        Case {
            request: ("PUT", "/v1/workflows/other"),
            headers: &[("content-type", "application/yaml")],
            body: "workflow: note\nnodes: {a: {transform: 1}}",
            refused: (422, "validation", "/workflow"),
        },
        Case {
            request: ("POST", "/v1/workflows/validate"),
            headers: JSON,
            body: "{\"workflow\": \"x\", \"nodes\": {\"a\": {\"needs\": [\"b\"], \"transform\": 1}}}",
            refused: (422, "validation", "/nodes/a/needs/0"),
        },
    ]
}

/// Decisions, links and what is done to many at once.
fn decisions() -> Vec<Case> {
    vec![
        at(("GET", "/v1/approvals?mission_id=SECRET"), (400, "malformed-id", "")),
        at(("GET", "/v1/approvals?status=SECRET"), (400, "bad-parameter", "status")),
        at(("GET", "/v1/approvals?cursor=SECRET"), (400, "bad-cursor", "")),
        at(("GET", "/v1/approvals/mis_01h455vb4pex5vsknk084sn02q"), (400, "wrong-id-kind", "")),
        at(("POST", "/v1/approvals/tsk_01h455vb4pex5vsknk084sn02q/decide"), (404, "not-found", "")),
        at(("POST", "/v1/approvals/tsk_01h455vb4pex5vsknk084sn02q/links"), (404, "not-found", "")),
        at(("POST", "/v1/approvals/mis_01h455vb4pex5vsknk084sn02q/links"), (400, "wrong-id-kind", "")),
        at(("POST", "/v1/missions/mis_01h455vb4pex5vsknk084sn02q/signals/x/links"), (404, "not-found", "")),
        Case { headers: &[("accept", "application/json")], ..at(("GET", "/c/cbl_SECRET"), (404, "not-found", "")) },
        Case {
            headers: &[("accept", "application/json")],
            ..at(("POST", "/c/bsk_live_SECRET"), (404, "not-found", ""))
        },
        at(("GET", "/v1/bulk-actions?cursor=SECRET"), (400, "bad-cursor", "")),
        at(("GET", "/v1/bulk-actions?colour=red"), (400, "bad-parameter", "colour")),
        at(("GET", "/v1/bulk-actions/SECRET"), (400, "malformed-id", "")),
        at(("GET", "/v1/bulk-actions/mis_01h455vb4pex5vsknk084sn02q"), (400, "wrong-id-kind", "")),
        at(("POST", "/v1/bulk-actions/blk_01h455vb4pex5vsknk084sn02q/abort"), (404, "not-found", "")),
        at(("GET", "/v1/admin/bulk-actions"), (403, "forbidden", "")),
        at(("GET", "/v1/admin/tenants"), (403, "forbidden", "")),
        Case {
            headers: JSON,
            body: "{\"weight\": 3}",
            ..at(("PATCH", "/v1/admin/tenants/ten_01h455vb4pex5vsknk084sn02q"), (403, "forbidden", ""))
        },
        redrive("{\"fingerprint\": \"x\"}", (422, "validation", "/kind")),
        redrive("{\"kind\": \"SECRET\", \"fingerprint\": \"x\"}", (422, "validation", "/kind")),
        redrive("{\"kind\": \"redrive\"}", (422, "validation", "/fingerprint")),
        redrive("{\"kind\": \"redrive\", \"fingerprint\": \"SECRET\"}", (404, "not-found", "")),
        redrive("{\"kind\": \"redrive\", \"fingerprint\": \"x\", \"speed\": 3}", (422, "validation", "/speed")),
        redrive(
            "{\"kind\": \"redrive\", \"fingerprint\": \"x\", \"per_second\": 0}",
            (422, "validation", "/per_second"),
        ),
        redrive("{\"kind\": \"redrive\", \"fingerprint\": \"x\", \"limit\": 10001}", (422, "validation", "/limit")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_request_is_refused_by_name_and_place() {
    let server = Server::start().await;
    for Case { request: (method, path), headers, body, refused: (status, code, place) } in
        bodies().into_iter().chain(others()).chain(decisions())
    {
        let mut request =
            server.request(Method::from_bytes(method.as_bytes()).unwrap(), path).bearer_auth(&server.ours.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = server.send(request.body(body)).await;
        let told = answer.refused(status, code);
        let first = &told["errors"][0];
        let pointed = first["pointer"].as_str().or(first["parameter"].as_str()).unwrap_or_default();
        assert_eq!(pointed, place, "{method} {path} {body}: {told}");
        assert!(!answer.text.contains("SECRET"), "{method} {path} {body}: {}", answer.text);
    }
    assert_eq!(server.get("/v1/missions").await.expect(200)["data"], json!([]), "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_is_not_taken_is_told_which_are() {
    let server = Server::start().await;
    let answer = server.send(server.request(Method::DELETE, "/v1/missions")).await;
    let allowed = answer.header("allow").unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
    answer.refused(405, "method-not-allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_list_is_refused() {
    let server = Server::start().await;
    for _ in 0..2 {
        server.run("note", &json!({"name": "x"})).await;
    }
    let page = server.get("/v1/missions?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().unwrap();
    server.get(&format!("/v1/missions?limit=5&cursor={cursor}")).await.expect(200);
    server.get(&format!("/v1/missions?status=failed&cursor={cursor}")).await.refused(400, "bad-cursor");
    server.get(&format!("/v1/wallet/entries?cursor={cursor}")).await.refused(400, "bad-cursor");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused() {
    let server = Server::start().await;
    let deep = format!("{{\"workflow\": \"note\", \"input\": {{\"a\": {}{}}}}}", "[".repeat(80), "]".repeat(80));
    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key);
    server.send(request.header("content-type", "application/json").body(deep)).await.refused(400, "malformed-json");
    let huge = json!({"workflow": "note", "metadata": {"x": "y".repeat(17 * 1024)}});
    let told = server.post("/v1/missions", &huge).await.refused(422, "validation");
    assert_eq!(told["errors"][0]["pointer"], "/metadata");
    let huge = json!({"workflow": "note", "input": {"name": "y".repeat(5 * 1024 * 1024)}});
    let request = server.request(Method::POST, "/v1/missions").bearer_auth(&server.ours.key).json(&huge);
    // the server may answer and close while the client is still sending
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_valid_key_nothing_is_told() {
    let server = Server::start().await;
    let answer = server.send(server.request(Method::GET, "/v1/wallet")).await;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"bursar\""));
    answer.refused(401, "unauthorized");
    for secret in ["bsk_live_nothing", "", "x y"] {
        let answer = server.send(server.request(Method::GET, "/v1/wallet").bearer_auth(secret)).await;
        assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"));
        answer.refused(401, "unauthorized");
    }
    let basic = server.request(Method::GET, "/v1/wallet").basic_auth("a", Some("b"));
    server.send(basic).await.refused(401, "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_its_page() {
    let server = Server::start().await;
    let list = server.send(server.request(Method::GET, "/problems")).await;
    for entry in TABLE {
        assert!(list.text.contains(&format!("/problems/{}", entry.code)), "{}", entry.code);
        let path = format!("/problems/{}", entry.code);
        let page = server.send(server.request(Method::GET, &path).header("accept", "text/html")).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(page.text.contains(entry.title) && page.text.contains("What to do"), "{}", page.text);
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        let data =
            server.send(server.request(Method::GET, &path).header("accept", "application/json")).await.expect(200);
        assert_eq!((data["code"].as_str(), data["status"].as_u64()), (Some(entry.code), Some(u64::from(entry.status))));
    }
    server.send(server.request(Method::GET, "/problems/nothing")).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_name() {
    let server = Server::start().await;
    let named = server.get_with("/v1/nothing", "x-request-id", "trace-1.2:3").await;
    assert_eq!(named.refused(404, "not-found")["request_id"], "trace-1.2:3");
    let unsafe_name = server.get_with("/v1/wallet", "x-request-id", "<b>").await;
    assert!(unsafe_name.header("x-request-id").unwrap().starts_with("req_"));
}
