//! Usage as clients read it: what calls used, who paid, and the words by which it is reported.

use serde_json::{Value, json};

use super::server::Server;

fn ucr(text: &Value) -> i64 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

async fn tagged(server: &Server, prompt: &str, tags: &[&str]) -> Value {
    let body = json!({"workflow": "talk", "input": {"prompt": prompt}, "tags": tags});
    server.post("/v1/missions?wait=25", &body).await.expect(202)
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_reported_by_the_tags_of_missions() {
    let server = Server::start().await;
    let first = tagged(&server, "Hello", &["team:red", "q3"]).await;
    assert_eq!(first["tags"], json!(["team:red", "q3"]));
    assert_eq!(
        server.get(&format!("/v1/missions/{}", first["id"].as_str().unwrap())).await.expect(200)["tags"],
        first["tags"]
    );
    let second = tagged(&server, "Hello", &["q3"]).await;
    let third = tagged(&server, "Hello", &[]).await;
    let usage = server.get("/v1/wallet/usage?group_by=tag").await.expect(200);
    let cost = |mission: &Value| ucr(&mission["budget"]["spent"]) - ucr(&mission["fee"]);
    let groups: Vec<(Option<&str>, i64, i64)> = usage["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (group["group"].as_str(), group["calls"].as_i64().unwrap(), ucr(&group["billed"])))
        .collect();
    assert_eq!(
        groups,
        [(None, 1, cost(&third)), (Some("q3"), 2, cost(&first) + cost(&second)), (Some("team:red"), 1, cost(&first))]
    );
    assert_eq!(usage["total"]["calls"], 3, "each call once, whatever its tags");
    assert_eq!(ucr(&usage["total"]["billed"]), cost(&first) + cost(&second) + cost(&third));

    let mut paged = Vec::new();
    let mut path = "/v1/wallet/usage?group_by=tag&limit=1".to_owned();
    loop {
        let page = server.get(&path).await.expect(200);
        paged.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        server.get(&format!("/v1/wallet/usage?group_by=day&cursor={cursor}")).await.refused(400, "bad-cursor");
        path = format!("/v1/wallet/usage?group_by=tag&limit=1&cursor={cursor}");
    }
    assert_eq!(json!(paged), usage["data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_paid_by_the_platform() {
    let server = Server::start().await;
    let good = tagged(&server, "Hello", &[]).await;
    let bad = tagged(&server, "Hello [[simulate fail=permanent after_tokens=5]]", &[]).await;
    assert_eq!((bad["status"].as_str(), bad["budget"]["spent"].as_str()), (Some("failed"), Some("0.000000")));
    for (group_by, name) in [("model", "simulated/simulated-small"), ("workflow", "talk")] {
        let usage = server.get(&format!("/v1/wallet/usage?group_by={group_by}")).await.expect(200);
        let [group] = usage["data"].as_array().unwrap().as_slice() else { panic!("{usage}") };
        assert_eq!(group["group"], name);
        assert_eq!(group["billed"], usage["total"]["billed"]);
        assert_eq!(ucr(&group["billed"]), ucr(&good["budget"]["spent"]) - ucr(&good["fee"]));
        assert!(ucr(&group["unbilled"]) > 0, "{usage}");
        assert!(group["input_tokens"].as_i64() > Some(0) && group["output_tokens"].as_i64() > Some(0));
        assert_eq!(ucr(&group["pending"]), 0);
    }
    let today = bursar::calendar::date_of_day(i64::from(bursar::calendar::day_number(server.engine.clock().now())));
    let usage = server.get(&format!("/v1/wallet/usage?from={today}")).await.expect(200);
    assert_eq!(usage["data"][0]["group"].as_str(), Some(today.as_str()));
    assert_eq!(server.get("/v1/wallet/usage?from=2020-01-01&to=2020-02-01").await.expect(200)["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missions_usage_makes_what_it_was_charged() {
    let server = Server::start().await;
    let mission = tagged(&server, "Hello", &[]).await;
    let usage = server.get(&format!("/v1/missions/{}/usage", mission["id"].as_str().unwrap())).await.expect(200);
    let charged = &usage["charged"];
    assert_eq!(ucr(&charged["usage"]) + ucr(&charged["fees"]), ucr(&mission["budget"]["spent"]));
    assert_eq!((charged["fees"].as_str(), charged["refunded"].as_str()), (Some("2.000000"), Some("0.000000")));
    assert_eq!(ucr(&charged["usage"]), ucr(&usage["total"]["billed"]) + ucr(&charged["units"]));
    assert_eq!(usage["nodes"][0]["group"], "write");
    assert_eq!(usage["models"][0]["group"], "simulated/simulated-small");
    assert_eq!(usage["models"][0]["billed"], usage["total"]["billed"]);
}
