//! A mission's life as a client sees it.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_is_submitted_runs_and_hands_back_its_result() {
    let server = Server::start().await;
    let body = json!({"workflow": "talk", "input": {"prompt": "Hello"}, "metadata": {"ticket": 7}, "priority": 5,
        "budget": {"max_credits": "25", "on_exhausted": "fail"}});
    let submitted = server.post("/v1/missions", &body).await;
    let location = submitted.header("location").unwrap().to_owned();
    assert!(submitted.header("etag").is_some());
    let mission = submitted.expect(202);
    let id = mission["id"].as_str().unwrap();
    assert_eq!(location, format!("/v1/missions/{id}"));
    assert_eq!(mission["workflow"]["name"], "talk");
    assert_eq!(mission["workflow"]["version"], 1);
    assert_eq!(mission["budget"]["max_credits"], "25.000000");
    assert_eq!(mission["budget"]["on_exhausted"], "fail");
    assert_eq!(mission["fee"], "2.000000");
    assert_eq!(mission["stream"]["url"], format!("/v1/missions/{id}/stream"));
    assert_eq!(mission["links"]["self"], format!("https://bursar.example/v1/missions/{id}"));

    let mission = server.finished(id).await;
    assert_eq!(mission["status"], "succeeded", "{mission}");
    assert_eq!(mission["progress"], json!({"done": 2, "total": 2, "percent": 100}));
    assert_eq!(mission["budget"]["held"], "0.000000");
    assert_eq!(mission["allowed_actions"], json!(["fork"]));
    assert_eq!(mission["input"], json!({"prompt": "Hello"}));
    assert_eq!(mission["metadata"], json!({"ticket": 7}));
    assert!(mission["output"]["text"].as_str().unwrap().len() > 3);
    let result = server.get(&format!("/v1/missions/{id}/result")).await.expect(200);
    assert_eq!(result["output"], mission["output"]);
    assert_eq!(result["spent"], mission["budget"]["spent"]);
    assert_ne!(result["spent"], "2.000000", "the fee and the tokens");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runs_tasks_and_calls_add_up_to_what_was_charged() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Count"})).await;
    let run = mission["run_id"].as_str().unwrap();
    let shown = server.get(&format!("/v1/runs/{run}")).await.expect(200);
    assert_eq!((shown["status"].as_str(), shown["number"].as_i64()), (Some("succeeded"), Some(1)));
    assert_eq!(shown["mission_id"], mission["id"]);
    let tasks = server.get(&format!("/v1/runs/{run}/tasks")).await.expect(200);
    let nodes: Vec<_> = tasks["data"].as_array().unwrap().iter().map(|task| task["node"].clone()).collect();
    assert_eq!(nodes, ["write", "card"]);
    let calls = server.get(&format!("/v1/runs/{run}/calls")).await.expect(200);
    let call = &calls["data"][0];
    assert_eq!((call["status"].as_str(), call["billable"].as_bool()), (Some("done"), Some(true)));
    assert_eq!(call["cost"], tasks["data"][0]["cost_credits"]);
    assert!(call["usage"]["output_tokens"].as_u64().unwrap() > 0);
    let task = server.get(&format!("/v1/tasks/{}", tasks["data"][0]["id"].as_str().unwrap())).await.expect(200);
    assert!(task["output"].is_string());
    assert_eq!(tasks["data"][0]["output"], Value::Null, "lists leave outputs out");
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_follow_their_paths_and_lead_to_null_where_nothing_is() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    assert_eq!(mission["output"], json!({"gone": null, "second": "b", "to": "Ada"}));
    assert_eq!(mission["budget"]["spent"], "0.000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mission_says_why_and_charges_nothing() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "[[simulate fail=permanent]] secret words"})).await;
    assert_eq!(mission["status"], "failed");
    assert_eq!(mission["error"]["node"], "write");
    assert_eq!(mission["error"]["class"], "permanent");
    assert_eq!(mission["budget"]["spent"], "0.000000");
    let result = server.get(&format!("/v1/missions/{}/result", mission["id"].as_str().unwrap())).await.expect(200);
    assert_eq!((result["status"].as_str(), &result["output"]), (Some("failed"), &Value::Null));
    assert!(result["error"]["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_mission_has_no_result_and_can_be_cancelled_twice() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    server.long_poll(&id, |mission| mission["status"] == "running").await;
    server.get(&format!("/v1/missions/{id}/result")).await.refused(409, "not-finished");
    let cancelled =
        server.post(&format!("/v1/missions/{id}/cancel"), &json!({"reason": "no longer needed"})).await.expect(200);
    assert!(["cancelling", "cancelled"].contains(&cancelled["status"].as_str().unwrap()), "{cancelled}");
    let mission = server.finished(&id).await;
    assert_eq!(
        (mission["status"].as_str(), mission["status_reason"].as_str()),
        (Some("cancelled"), Some("no longer needed"))
    );
    assert_eq!(mission["budget"]["held"], "0.000000");
    let request = server.request(Method::POST, &format!("/v1/missions/{id}/cancel")).bearer_auth(&server.ours.key);
    server.send(request).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_that_is_over_cannot_be_cancelled() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    let path = format!("/v1/missions/{}/cancel", mission["id"].as_str().unwrap());
    server.post(&path, &json!({})).await.refused(409, "illegal-state");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_missions_follow_each_other_within_their_filters() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.run("note", &json!({"name": "x"})).await["id"].clone());
    }
    let failed = server.run("talk", &json!({"prompt": "[[simulate fail=permanent]]"})).await["id"].clone();
    let mut seen = Vec::new();
    let mut path = "/v1/missions?status=succeeded&workflow=note&limit=2".to_owned();
    loop {
        let page = server.get(&path).await.expect(200);
        seen.extend(page["data"].as_array().unwrap().iter().map(|mission| mission["id"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else {
            assert_eq!(page["has_more"], false);
            break;
        };
        path = format!("/v1/missions?status=succeeded&workflow=note&limit=2&cursor={cursor}");
    }
    ids.reverse();
    assert_eq!(seen, ids, "newest first, each once");
    let page = server.get("/v1/missions?status=failed,expired&status=cancelled").await.expect(200);
    assert_eq!(page["data"][0]["id"], failed);
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_has_already_is_not_sent_again() {
    let server = Server::start().await;
    let mission = server.run("note", &json!({"name": "Ada"})).await;
    let run = mission["run_id"].as_str().unwrap();
    let tasks = server.get(&format!("/v1/runs/{run}/tasks")).await.expect(200);
    for path in [
        format!("/v1/missions/{}", mission["id"].as_str().unwrap()),
        format!("/v1/runs/{run}"),
        format!("/v1/tasks/{}", tasks["data"][0]["id"].as_str().unwrap()),
        "/v1/workflows/note".to_owned(),
    ] {
        let first = server.get(&path).await;
        let etag = first.header("etag").unwrap();
        assert_eq!(etag.len(), 18, "{etag}");
        let again = server.get_with(&path, "if-none-match", etag).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), Some(etag));
        assert_eq!(server.get_with(&path, "if-none-match", "\"other\"").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mission_is_paused_and_resumed_and_says_what_can_be_done() {
    let server = Server::start().await;
    let id = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    let running = server.long_poll(&id, |mission| mission["status"] == "running").await;
    assert_eq!(running["allowed_actions"], json!(["cancel", "pause"]));
    let path = |action: &str| format!("/v1/missions/{id}/{action}");
    for _ in 0..2 {
        let paused = server.post(&path("pause"), &json!({"reason": "lunch"})).await.expect(200);
        assert_eq!((paused["status"].as_str(), paused["status_reason"].as_str()), (Some("paused"), Some("lunch")));
        assert_eq!(paused["allowed_actions"], json!(["cancel", "resume"]));
    }
    assert_eq!(server.get("/v1/missions?status=paused").await.expect(200)["data"][0]["id"], json!(id));
    server.post(&path("pause"), &json!({"reason": "x".repeat(501)})).await.refused(422, "validation");
    server.post(&path("resume"), &json!({"reason": "x"})).await.refused(422, "validation");
    for _ in 0..2 {
        let resumed = server.post(&path("resume"), &json!({})).await.expect(200);
        assert_eq!((resumed["status"].as_str(), &resumed["status_reason"]), (Some("running"), &Value::Null));
    }
    server.post(&path("cancel"), &json!({})).await.expect(200);
    server.finished(&id).await;
    for action in ["pause", "resume"] {
        server.post(&path(action), &json!({})).await.refused(409, "illegal-state");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mission_is_retried_and_forked_after_a_preview() {
    let server = Server::start().await;
    let prompt = json!({"prompt": "[[simulate fail=permanent times=1]] x"});
    let failed = server.run("talk", &prompt).await;
    assert_eq!(failed["allowed_actions"], json!(["retry", "fork"]));
    let id = failed["id"].as_str().unwrap().to_owned();
    let path = |action: &str| format!("/v1/missions/{id}/{action}");
    let preview = server.post(&path("retry?preview=true"), &json!({})).await.expect(200);
    assert_eq!((&preview["affordable"], preview["nodes"][0]["node"].as_str()), (&json!(true), Some("write")));
    assert_eq!(server.get(&format!("/v1/missions/{id}")).await.expect(200)["status"], "failed");
    server.post(&path("retry?preview=maybe"), &json!({})).await.refused(400, "bad-parameter");
    server.post(&path("retry"), &json!({"from": "start"})).await.refused(422, "validation");
    let retried = server.post(&path("retry"), &json!({"from": "failed"})).await.expect(200);
    assert_eq!(retried["run_id"], failed["run_id"]);
    let over = server.finished(&id).await;
    assert_eq!((over["status"].as_str(), &over["allowed_actions"]), (Some("succeeded"), &json!(["fork"])));
    server.post(&path("retry"), &json!({})).await.refused(409, "illegal-state");

    let wish = json!({"from_node": "write", "input_patch": {"prompt": "another"}});
    let preview = server.post(&path("fork?preview=true"), &wish).await.expect(200);
    assert_eq!(preview["nodes"][0]["begins"], true);
    server.post(&path("fork"), &json!({"from_node": "nowhere"})).await.refused(422, "validation");
    server.post(&path("fork"), &json!({"from_node": "write", "version": 99})).await.refused(422, "validation");
    server.post(&path("fork"), &json!({"from_node": "write", "input_patch": [1]})).await.refused(422, "validation");
    let mut runs = std::collections::BTreeSet::new();
    for turn in 0..2 {
        let request = server.request(Method::POST, &path("fork")).bearer_auth(&server.ours.key);
        let answer = server.send(request.header("Idempotency-Key", "once").json(&wish)).await;
        assert_eq!(answer.headers.contains_key("idempotent-replayed"), turn == 1);
        runs.insert(answer.expect(200)["run_id"].to_string());
    }
    assert_eq!(runs.len(), 1, "the same wish is one run");
    let over = server.finished(&id).await;
    assert_eq!((over["status"].as_str(), over["input"]["prompt"].as_str()), (Some("succeeded"), Some("another")));
    let old = server.get(&format!("/v1/runs/{}", failed["run_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(
        (old["number"].as_i64(), old["retries"].as_i64(), old["status"].as_str()),
        (Some(1), Some(1), Some("succeeded"))
    );
    let running = server.submit("talk", &json!({"prompt": "[[simulate stall]]"})).await;
    server.long_poll(&running, |mission| mission["status"] == "running").await;
    let told = server.post(&format!("/v1/missions/{running}/cancel?preview=true"), &json!({})).await.expect(200);
    assert_eq!((&told["stops"], &told["charged"]), (&json!(["write"]), &json!("0.000000")));
    server.post(&format!("/v1/missions/{running}/fork"), &wish).await.refused(409, "illegal-state");
    server.post(&format!("/v1/missions/{running}/cancel"), &json!({})).await.expect(200);
}
