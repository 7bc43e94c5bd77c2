//! Corrections as an admin makes them: refunds, adjustments, write-offs, top-ups and the terms of a wallet, and what
//! is refused of them, one row per mistake.

use std::time::Duration;

use bursar::clock::new_id;
use bursar_domain::credits::Ucr;
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};
use crate::support::eventually;

const REFUNDS: &str = "/v1/wallet/refunds";
const ADJUSTMENTS: &str = "/v1/wallet/adjustments";
const WRITE_OFFS: &str = "/v1/wallet/write-offs";
const TOP_UPS: &str = "/v1/wallet/top-ups";
/// A hold that nobody has.
const NOBODYS: &str = "hld_01h455vb4pex5vsknk084sn02q";

/// An admin's request for the tenant of the tests.
async fn send(server: &Server, method: Method, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let mut request = server.request(method, path).bearer_auth(&server.admin).json(body);
    request = request.header("X-Bursar-Tenant", server.ours.id.to_string());
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    server.send(request).await
}

async fn post(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    send(server, Method::POST, path, Some(key), body).await
}

async fn available(server: &Server) -> String {
    server.get("/v1/wallet").await.expect(200)["available"].as_str().unwrap().to_owned()
}

fn ucr(text: &Value) -> i64 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

/// A task that was charged: its id, its hold and what it cost.
async fn charged_task(server: &Server) -> (String, String, i64) {
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let path = format!("/v1/runs/{}/tasks", mission["run_id"].as_str().unwrap());
    let task = server.get(&path).await.expect(200)["data"][0].clone();
    let id = task["id"].as_str().unwrap().to_owned();
    let entries = server.get("/v1/wallet/entries").await.expect(200);
    let is_settle = |entry: &&Value| entry["kind"] == "settle" && entry["task_id"] == id.as_str();
    let settle = entries["data"].as_array().unwrap().iter().find(is_settle).unwrap();
    let hold = settle["key"].as_str().unwrap().strip_prefix("settle:").unwrap().to_owned();
    (id, hold, ucr(&task["cost_credits"]))
}

async fn clean(server: &Server) {
    let report = bursar::verify::verify(server.engine.store()).await.unwrap();
    assert!(report.is_clean(), "{}", report.to_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_charge_is_refunded_by_its_task_or_its_hold_and_once_per_key() {
    let server = Server::start().await;
    let (task, hold, cost) = charged_task(&server).await;
    let before = ucr(&json!(available(&server).await));
    let body = json!({"of": task, "amount": "0.000010", "reason": "it was dull"});
    let first = post(&server, REFUNDS, "dull", &body).await;
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = post(&server, REFUNDS, "dull", &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let first = first.expect(201);
    assert_eq!(again.expect(201), first);
    assert_eq!((first["kind"].as_str(), first["reason"].as_str()), (Some("refund"), Some("it was dull")));
    assert_eq!((first["key"].as_str(), &first["task_id"]), (Some("refund:dull"), &json!(task)));
    assert_eq!(first["legs"][0]["from"], "usage");
    assert!(first["actor"].as_str().unwrap().starts_with("key_"), "{first}");
    for other in [
        json!({"of": task, "amount": "0.000011", "reason": "it was dull"}),
        json!({"of": NOBODYS, "amount": "0.000010", "reason": "it was dull"}),
    ] {
        let answer = post(&server, REFUNDS, "dull", &other).await;
        if other["of"] == NOBODYS {
            answer.refused(404, "not-found");
        } else {
            answer.refused(422, "idempotency-key-reused");
        }
    }
    let rest = Ucr::new(cost - 10).to_string();
    post(&server, REFUNDS, "rest", &json!({"of": hold, "amount": rest, "reason": "all of it"})).await.expect(201);
    let told = post(&server, REFUNDS, "more", &json!({"of": hold, "amount": "0.000001", "reason": "more"})).await;
    let told = told.refused(409, "illegal-state");
    assert_eq!(told["refundable"], "0.000000");
    assert_eq!(ucr(&json!(available(&server).await)), before + cost);
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_into_an_expired_grant_is_a_new_grant_of_kind_refund() {
    let server = Server::start().await;
    let now = server.engine.clock().now();
    let wallet = server.engine.store().wallet_of(server.ours.id, now).await.unwrap().unwrap().id;
    let gift = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet,
        kind: GrantKind::Promo,
        priority: 0,
        amount: Ucr::from_credits(50),
        expires_at: Some(now.plus_ms(1_500)),
        reason: None,
        cost_basis_uusd: None,
        actor: None,
        reference: "gift".to_owned(),
    };
    server.engine.grant(&gift).await.unwrap();
    let (task, _, cost) = charged_task(&server).await;
    eventually("the gift expires", Duration::from_secs(20), || async {
        let grants = server.engine.store().grants(wallet, None, 10).await.unwrap();
        grants.iter().any(|grant| grant.id == gift.id && grant.expired).then_some(())
    })
    .await;
    let all = Ucr::new(cost).to_string();
    post(&server, REFUNDS, "key", &json!({"of": task, "amount": all, "reason": "sorry"})).await.expect(201);
    let grants = server.get("/v1/wallet/grants").await.expect(200);
    let newest = &grants["data"][0];
    assert_eq!((newest["kind"].as_str(), newest["remaining"].as_str()), (Some("refund"), Some(all.as_str())));
    assert_eq!(newest["expires_at"], Value::Null);
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_is_adjusted_both_ways_and_never_below_zero() {
    let server = Server::start().await;
    let up = json!({"amount": "2.5", "reason": "counted wrong"});
    let first = post(&server, ADJUSTMENTS, "one", &up).await.expect(201);
    assert_eq!((first["kind"].as_str(), first["available_after"].as_str()), (Some("adjust"), Some("102.500000")));
    assert_eq!(post(&server, ADJUSTMENTS, "one", &up).await.header("idempotent-replayed"), Some("true"));
    let other = json!({"amount": "-2.5", "reason": "counted wrong"});
    post(&server, ADJUSTMENTS, "one", &other).await.refused(422, "idempotency-key-reused");
    post(&server, ADJUSTMENTS, "two", &other).await.expect(201);
    let told = post(&server, ADJUSTMENTS, "three", &json!({"amount": "-100.000001", "reason": "all"})).await;
    let told = told.refused(402, "insufficient-credits");
    assert_eq!((told["available"].as_str(), told["shortfall"].as_str()), (Some("100.000000"), Some("0.000001")));
    post(&server, ADJUSTMENTS, "three", &json!({"amount": "-100", "reason": "all"})).await.expect(201);
    assert_eq!(available(&server).await, "0.000000");
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debt_is_written_off_and_no_more_than_there_is() {
    let server = Server::start().await;
    let nothing = post(&server, WRITE_OFFS, "early", &json!({"amount": "1", "reason": "gone"})).await;
    assert_eq!(nothing.refused(409, "illegal-state")["debt"], "0.000000");
    // all credits but a few are taken, then a call costs far more than it was held for
    let body = json!({"amount": "-97.9", "reason": "for the test"});
    post(&server, ADJUSTMENTS, "down", &body).await.expect(201);
    let id = server.submit("talk", &json!({"prompt": "[[simulate tokens=20 output_tokens_reported=36000]]"})).await;
    server.finished(&id).await;
    let debt = server.get("/v1/wallet").await.expect(200)["debt"].clone();
    assert!(ucr(&debt) > 1_000_000, "{debt}");
    let one = post(&server, WRITE_OFFS, "one", &json!({"amount": "1", "reason": "gone"})).await.expect(201);
    assert_eq!((one["kind"].as_str(), one["legs"][0]["from"].as_str()), (Some("write_off"), Some("writeoff")));
    post(&server, WRITE_OFFS, "one", &json!({"amount": "2", "reason": "gone"}))
        .await
        .refused(422, "idempotency-key-reused");
    let told = post(&server, WRITE_OFFS, "all", &json!({"amount": debt, "reason": "gone"})).await;
    told.refused(409, "illegal-state");
    let rest = Ucr::new(ucr(&debt) - 1_000_000).to_string();
    post(&server, WRITE_OFFS, "rest", &json!({"amount": rest, "reason": "gone"})).await.expect(201);
    assert_eq!(server.get("/v1/wallet").await.expect(200)["debt"], "0.000000");
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_tops_up_once_per_external_reference() {
    let server = Server::start().await;
    let body = json!({"external_reference": "in_1Q2w3E", "amount": "100.00", "paid_usd": "10.00"});
    let first = send(&server, Method::POST, TOP_UPS, None, &body).await.expect(201);
    let again = send(&server, Method::POST, TOP_UPS, None, &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(201)["id"], first["id"]);
    assert_eq!((first["kind"].as_str(), available(&server).await.as_str()), (Some("paid"), "200.000000"));
    let other = json!({"external_reference": "in_1Q2w3E", "amount": "100.01", "paid_usd": "10.00"});
    send(&server, Method::POST, TOP_UPS, None, &other).await.refused(422, "idempotency-key-reused");
    for (body, pointer) in [
        (json!({"external_reference": "", "amount": "1"}), "/external_reference"),
        (json!({"external_reference": "a b", "amount": "1"}), "/external_reference"),
        (json!({"external_reference": "x".repeat(256), "amount": "1"}), "/external_reference"),
        (json!({"external_reference": "x", "amount": "0"}), "/amount"),
        (json!({"external_reference": "x", "amount": "-1"}), "/amount"),
        (json!({"external_reference": "x", "amount": "1", "paid_usd": "-1"}), "/paid_usd"),
        (json!({"external_reference": "x", "amount": "1", "expires_at": "2001-01-01T00:00:00Z"}), "/expires_at"),
    ] {
        let told = send(&server, Method::POST, TOP_UPS, None, &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{body}");
    }
    assert_eq!(available(&server).await, "200.000000");
    clean(&server).await;
}

/// What is wrong with a body, and where.
const MISTAKES: [(&str, Option<&str>, &str); 19] = [
    ("amount", Some("\"-1\""), "/amount"),
    ("amount", Some("\"0\""), "/amount"),
    ("amount", Some("\"0.000000\""), "/amount"),
    ("amount", Some("\"0.0000001\""), "/amount"),
    ("amount", Some("\"99999999999999999999\""), "/amount"),
    ("amount", Some("\"9223372036854.775808\""), "/amount"),
    ("amount", Some("\"1e3\""), "/amount"),
    ("amount", Some("\"1,5\""), "/amount"),
    ("amount", Some("\"ten\""), "/amount"),
    ("amount", Some("\"\""), "/amount"),
    ("amount", Some("\" 1\""), "/amount"),
    ("amount", Some("1.5"), "/amount"),
    ("amount", None, "/amount"),
    ("reason", Some("\"\""), "/reason"),
    ("reason", Some("\" \\n \""), "/reason"),
    ("reason", Some("7"), "/reason"),
    ("reason", None, "/reason"),
    ("actor", Some("\"me\""), "/actor"),
    ("wallet_id", Some("\"wal_01h455vb4pex5vsknk084sn02q\""), "/wallet_id"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_with_a_mistake_is_refused_where_it_stands_and_moves_nothing() {
    let server = Server::start().await;
    let (task, ..) = charged_task(&server).await;
    let before = server.get("/v1/wallet/entries").await.expect(200);
    for path in [REFUNDS, ADJUSTMENTS, WRITE_OFFS] {
        let mut good = json!({"amount": "0.000001", "reason": "why"});
        if path == REFUNDS {
            good["of"] = json!(task);
        }
        for (field, value, pointer) in MISTAKES {
            if path == ADJUSTMENTS && value == Some("\"-1\"") {
                continue;
            }
            let mut body = good.clone();
            match value {
                Some(text) => body[field] = serde_json::from_str(text).unwrap(),
                None => drop(body.as_object_mut().unwrap().remove(field)),
            }
            let told = post(&server, path, "key", &body).await.refused(422, "validation");
            assert_eq!(told["errors"][0]["pointer"], pointer, "{path} {body} {told}");
        }
        let long = json!("x".repeat(501));
        let mut body = good.clone();
        body["reason"] = long;
        let told = post(&server, path, "key", &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], "/reason");
        send(&server, Method::POST, path, None, &good).await.refused(400, "idempotency-key-required");
        for key in ["", "a b", "\u{7f}x", &"x".repeat(256)] {
            let request = server.request(Method::POST, path).bearer_auth(&server.admin).json(&good);
            let Ok(value) = reqwest::header::HeaderValue::from_bytes(key.as_bytes()) else { continue };
            let answer = server.send(request.header("Idempotency-Key", value)).await;
            assert_eq!(answer.status, 400, "{key:?} {}", answer.text);
        }
        let unknown = format!("{path}?force=true");
        post(&server, &unknown, "key", &good).await.refused(400, "bad-parameter");
    }
    for of in ["", "mis_01h455vb4pex5vsknk084sn02q", "hld_short", "tsk_", "7"] {
        let body = json!({"of": of, "amount": "1", "reason": "why"});
        let told = post(&server, REFUNDS, "key", &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], "/of", "{of}");
    }
    let too_large = json!({"amount": "9223372036854.775807", "reason": "why"});
    let told = post(&server, ADJUSTMENTS, "key", &too_large).await.refused(422, "validation");
    assert_eq!(told["errors"][0]["pointer"], "/amount", "what would overflow the balance");
    assert_eq!(server.get("/v1/wallet/entries").await.expect(200), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ones_own_is_not_found_and_only_admins_correct() {
    let server = Server::start().await;
    let (task, hold, _) = charged_task(&server).await;
    let refund = |of: &str| json!({"of": of, "amount": "0.000001", "reason": "why"});
    // for the other tenant, ours is not there
    for of in [task.as_str(), hold.as_str(), NOBODYS, "tsk_01h455vb4pex5vsknk084sn02q"] {
        let request = server.request(Method::POST, REFUNDS).bearer_auth(&server.admin).json(&refund(of));
        let request = request.header("X-Bursar-Tenant", server.other.id.to_string()).header("Idempotency-Key", "k");
        server.send(request).await.refused(404, "not-found");
    }
    let wallet = server.get("/v1/wallet").await.expect(200);
    let path = format!("/v1/wallets/{}", wallet["id"].as_str().unwrap());
    assert_eq!(server.get(&path).await.expect(200), wallet);
    let foreign = server.request(Method::GET, &path).bearer_auth(&server.other.key);
    server.send(foreign).await.refused(404, "not-found");
    server.get("/v1/wallets/wal_01h455vb4pex5vsknk084sn02q").await.refused(404, "not-found");
    server.get("/v1/wallets/tsk_01h455vb4pex5vsknk084sn02q").await.refused(400, "wrong-id-kind");
    let stranger = "ten_01h455vb4pex5vsknk084sn02q";
    let good = json!({"amount": "1", "reason": "why"});
    for (method, path, body) in [
        (Method::POST, REFUNDS, refund(&hold)),
        (Method::POST, ADJUSTMENTS, good.clone()),
        (Method::POST, WRITE_OFFS, good.clone()),
        (Method::POST, TOP_UPS, json!({"external_reference": "x", "amount": "1"})),
        (Method::PATCH, "/v1/wallet", json!({"frozen": true})),
    ] {
        let of = |key: &str| {
            server.request(method.clone(), path).bearer_auth(key).json(&body).header("Idempotency-Key", "k")
        };
        let unknown = of(&server.admin).header("X-Bursar-Tenant", stranger);
        server.send(unknown).await.refused(404, "not-found");
        server.send(of(&server.ours.key)).await.refused(403, "forbidden");
        let acting = of(&server.ours.key).header("X-Bursar-Tenant", server.other.id.to_string());
        server.send(acting).await.refused(403, "forbidden");
        server.send(of("nonsense")).await.refused(401, "unauthorized");
        let request = server.request(method.clone(), path).json(&body).header("Idempotency-Key", "k");
        server.send(request).await.refused(401, "unauthorized");
    }
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terms_of_a_wallet_bind_until_they_are_lifted() {
    let server = Server::start().await;
    let change = async |body: Value| send(&server, Method::PATCH, "/v1/wallet", None, &body).await;
    let talk = json!({"workflow": "talk", "input": {"prompt": "Hello"}});
    assert_eq!(change(json!({"frozen": true})).await.expect(200)["frozen"], true);
    server.post("/v1/missions", &talk).await.refused(402, "wallet-frozen");
    assert_eq!(change(json!({})).await.expect(200)["frozen"], true, "what is left out stays");
    assert_eq!(change(json!({"frozen": false})).await.expect(200)["frozen"], false);
    for (limit, code) in
        [("day_limit", "limit-reached"), ("month_limit", "limit-reached"), ("mission_limit", "budget-too-small")]
    {
        change(json!({limit: "1.5"})).await.expect(200);
        let told = server.post("/v1/missions", &talk).await.refused(402, code);
        assert_eq!(told["available"], "1.500000", "{told}");
        if code == "limit-reached" {
            assert_eq!((told["limit"].as_str(), told["period"].as_str()), (Some("1.500000"), limit.split('_').next()));
        }
        change(json!({limit: null})).await.expect(200);
    }
    let policies = json!({"overrun": "absorb", "charge_failed": "always"});
    change(policies).await.expect(200);
    let over = server.run("talk", &json!({"prompt": "[[simulate fail=permanent after_tokens=10]]"})).await;
    assert_ne!(over["budget"]["spent"], "0.000000", "a failure is charged now: {over}");
    clean(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_terms_are_refused_where_they_stand_and_change_nothing() {
    let server = Server::start().await;
    for (body, pointer) in [
        (json!({"day_limit": "-1"}), "/day_limit"),
        (json!({"day_limit": "1.0000001"}), "/day_limit"),
        (json!({"month_limit": "9223372036854.775808"}), "/month_limit"),
        (json!({"mission_limit": "lots"}), "/mission_limit"),
        (json!({"mission_limit": 5}), "/mission_limit"),
        (json!({"frozen": "yes"}), "/frozen"),
        (json!({"frozen": true, "day_limit": "x"}), "/day_limit"),
        (json!({"overrun": "forgive"}), "/overrun"),
        (json!({"charge_failed": "sometimes"}), "/charge_failed"),
        (json!({"available": "1000"}), "/available"),
    ] {
        let told = send(&server, Method::PATCH, "/v1/wallet", None, &body).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{body} {told}");
    }
    assert_eq!(server.get("/v1/wallet").await.expect(200)["frozen"], false);
    server.run("talk", &json!({"prompt": "Hello"})).await;
}
