//! What owners read of their money: the wallet with its limits, transactions, statements, files for spreadsheets.

use bursar::clock::new_id;
use bursar_domain::credits::Ucr;
use bursar_domain::ledger::GrantRequest;
use bursar_domain::record::GrantKind;
use reqwest::Method;
use serde_json::{Value, json};

use super::server::{CREDITS, Server};

fn ucr(text: &Value) -> i64 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

/// All rows of a list, two at a time.
async fn all(server: &Server, path: &str) -> Vec<Value> {
    let join = if path.contains('?') { '&' } else { '?' };
    let mut rows = Vec::new();
    let mut next = format!("{path}{join}limit=2");
    loop {
        let page = server.get(&next).await.expect(200);
        rows.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { return rows };
        next = format!("{path}{join}limit=2&cursor={cursor}");
    }
}

/// This month, by the server's clock.
fn month(server: &Server) -> String {
    bursar::calendar::Month::of(server.engine.clock().now()).to_string()
}

async fn grant(server: &Server, reference: &str, reason: Option<&str>) {
    let wallet = server.engine.store().wallet_of(server.ours.id, server.engine.clock().now()).await.unwrap().unwrap();
    let request = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id: wallet.id,
        kind: GrantKind::Promo,
        priority: 50,
        amount: Ucr::new(1),
        expires_at: None,
        reason: reason.map(str::to_owned),
        cost_basis_uusd: None,
        actor: None,
        reference: reference.to_owned(),
    };
    server.engine.grant(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_signed_and_follow_the_balance() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let rows = all(&server, "/v1/wallet/transactions").await;
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["charge", "charge", "grant"], "the task's and the fee's; holds are no transactions");
    let charged: i64 = rows[..2].iter().map(|row| ucr(&row["amount"])).sum();
    assert_eq!(-charged, ucr(&mission["budget"]["spent"]));
    assert_eq!((ucr(&rows[2]["amount"]), rows[2]["reference"].as_str()), (CREDITS * 1_000_000, Some("start")));
    assert!(rows[..2].iter().all(|row| row["mission_id"] == mission["id"]));
    let wallet = server.get("/v1/wallet").await.expect(200);
    assert_eq!(rows[0]["balance_after"], wallet["available"]);

    let with_holds = all(&server, "/v1/wallet/transactions?include=holds").await;
    assert!(with_holds.len() > rows.len() && with_holds.iter().any(|row| row["kind"] == "hold"));
    for pair in with_holds.windows(2) {
        let (after, before) = (ucr(&pair[0]["balance_after"]), ucr(&pair[1]["balance_after"]));
        assert_eq!(after, before + ucr(&pair[0]["available_change"]), "{pair:?}");
    }
    let of_mission = format!("/v1/wallet/transactions?kind=charge&mission_id={}", mission["id"].as_str().unwrap());
    assert_eq!(all(&server, &of_mission).await, rows[..2]);
    assert_eq!(all(&server, "/v1/wallet/entries?kind=grant").await.len(), 1);
    assert_eq!(all(&server, "/v1/wallet/entries?to=2001-01-01").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_closes_with_what_the_wallet_has() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    let body = server.get(&format!("/v1/wallet/statements/{}", month(&server))).await.expect(200);
    let moved = |kind: &str| {
        let movements = body["movements"].as_array().unwrap();
        ucr(&movements.iter().find(|movement| movement["kind"] == kind).unwrap()["amount"])
    };
    assert_eq!(moved("granted"), CREDITS * 1_000_000);
    assert_eq!(moved("fees"), -2_000_000);
    assert_eq!(moved("usage") + moved("fees"), -ucr(&mission["budget"]["spent"]));
    let total: i64 = body["movements"].as_array().unwrap().iter().map(|movement| ucr(&movement["amount"])).sum();
    assert_eq!(ucr(&body["opening"]["total"]) + total, ucr(&body["closing"]["total"]));
    let wallet = server.get("/v1/wallet").await.expect(200);
    for figure in ["available", "held", "debt"] {
        assert_eq!(body["closing"][figure], wallet[figure], "{figure}");
    }
    assert!(ucr(&wallet["held"]) > 2_000_000 && body["is_final"] == false);
    let past = server.get("/v1/wallet/statements/2020-02").await.expect(200);
    assert_eq!((past["is_final"].as_bool(), past["closing"]["total"].as_str()), (Some(true), Some("0.000000")));
    assert_eq!(
        (past["from"].as_str(), past["to"].as_str()),
        (Some("2020-02-01T00:00:00.000Z"), Some("2020-03-01T00:00:00.000Z"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_says_what_may_be_spent_and_what_to_look_at() {
    let server = Server::start().await;
    let wallet = server.get("/v1/wallet").await.expect(200);
    assert_eq!(wallet["limits"], json!({"day": null, "month": null, "mission": null}));
    assert_eq!(wallet["policies"], json!({"overrun": "debt", "charge_failed": "never"}));
    assert_eq!((&wallet["frozen"], &wallet["alerts"]), (&json!(false), &json!([])));
    let now = server.engine.clock().now();
    let sql = "
        update wallets set day_limit_ucr = 100, month_limit_ucr = 1000000000, mission_limit_ucr = 5, day = $2,
          month = $3, day_spent_ucr = 85, month_spent_ucr = 85
        where tenant_id = $1";
    let day = i64::from(bursar::calendar::day_number(now));
    let month = i64::from(bursar::calendar::Month::of(now).number());
    server.engine.store().execute(sql, &[server.ours.id.into(), day.into(), month.into()]).await.unwrap();
    let wallet = server.get("/v1/wallet").await.expect(200);
    assert_eq!(wallet["limits"], json!({"day": "0.000100", "month": "1000.000000", "mission": "0.000005"}));
    assert_eq!(wallet["spent"], json!({"day": "0.000085", "month": "0.000085"}));
    let alert = json!({"code": "day_limit", "used_percent": 85, "used": "0.000085", "limit": "0.000100"});
    assert_eq!(wallet["alerts"], json!([alert]));
    // yesterday's counter says nothing about today
    server.engine.store().execute("update wallets set day = day - 1", &[]).await.unwrap();
    let wallet = server.get("/v1/wallet").await.expect(200);
    assert_eq!((wallet["spent"]["day"].as_str(), &wallet["alerts"]), (Some("0.000000"), &json!([])));
}

async fn csv(server: &Server, path: &str) -> Vec<csv::StringRecord> {
    let answer = server.get_with(path, "accept", "text/csv").await;
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert!(answer.header("content-disposition").unwrap().ends_with(".csv\""));
    assert!(answer.text.ends_with("\r\n"), "lines end as RFC 4180 says");
    csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(answer.text.as_bytes())
        .records()
        .map(Result::unwrap)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_everything_and_no_formulas() {
    let server = Server::start().await;
    server.run("talk", &json!({"prompt": "Hello"})).await;
    grant(&server, "=1+1", Some("@SUM(A1), \"quoted\"\nand more")).await;
    let json = all(&server, "/v1/wallet/transactions").await;
    let lines = csv(&server, "/v1/wallet/transactions").await;
    assert_eq!(lines.len(), json.len() + 1, "a head and a line each");
    let head: Vec<&str> = lines[0].iter().collect();
    for (line, row) in lines[1..].iter().zip(&json) {
        for (name, cell) in head.iter().zip(line) {
            let text = row[*name].as_str().unwrap_or_default();
            let is_formula = text.starts_with(['=', '@']);
            assert_eq!(cell, if is_formula { format!("'{text}") } else { text.to_owned() }, "{name}");
        }
    }
    assert!(lines[1].iter().any(|cell| cell == "'=1+1"), "{:?}", lines[1]);
    assert!(lines[2].iter().any(|cell| cell.starts_with('-')), "a charge stays a number");

    let entries = all(&server, "/v1/wallet/entries").await;
    let legs: usize = entries.iter().map(|entry| entry["legs"].as_array().unwrap().len()).sum();
    let file = server.get("/v1/wallet/entries?format=csv").await;
    assert_eq!(file.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    assert_eq!(csv(&server, "/v1/wallet/entries").await.len(), legs + 1);
    let asked = server.get_with("/v1/wallet/entries?format=json", "accept", "text/csv").await;
    assert_eq!(asked.header("content-type"), Some("application/json"), "the parameter goes over the header");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_is_sent_page_by_page_without_gap_or_repeat() {
    let server = Server::start().await;
    for number in 0..1_100 {
        grant(&server, &format!("n{number}"), None).await;
    }
    let lines = csv(&server, "/v1/wallet/transactions").await;
    let references: Vec<&str> = lines[1..].iter().map(|line| line.get(6).unwrap()).collect();
    let mut expected: Vec<String> = (0..1_100).rev().map(|number| format!("n{number}")).collect();
    expected.push("start".to_owned());
    assert_eq!(references, expected);
    // nobody else's are among them
    let other = server.request(Method::GET, "/v1/wallet/transactions?format=csv").bearer_auth(&server.other.key);
    assert_eq!(server.send(other).await.text.lines().count(), 2);
}
