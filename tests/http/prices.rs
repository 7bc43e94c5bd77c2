//! Price books over HTTP: read by all, published and activated by admins, tried out by anybody.

use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Answer, Server};

/// The active book with everything of the simulated models at three times the price.
async fn dearer(server: &Server, name: &str) -> Value {
    let list = server.get("/v1/prices").await.expect(200);
    let id = list["data"][0]["id"].as_str().unwrap();
    let mut book = server.get(&format!("/v1/prices/{id}")).await.expect(200)["content"].clone();
    book["name"] = json!(name);
    for model in book["model"].as_array_mut().unwrap() {
        if model["name"] == "simulated-small" {
            model["rates"] = json!({"input": "0.30", "input.cache_read": "0.03", "output": "1.20"});
        }
    }
    book
}

async fn admin_post(server: &Server, path: &str, body: &Value) -> Answer {
    server.send(server.request(Method::POST, path).bearer_auth(&server.admin).json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_book_changes_nothing_until_it_is_activated() {
    let server = Server::start().await;
    let body = dearer(&server, "dearer").await;
    let first = admin_post(&server, "/v1/prices", &body).await;
    let location = first.header("location").unwrap().to_owned();
    let book = first.expect(201);
    assert_eq!((book["name"].as_str(), book["is_active"].as_bool()), (Some("dearer"), Some(false)));
    assert_eq!(location, format!("/v1/prices/{}", book["id"].as_str().unwrap()));
    let again = admin_post(&server, "/v1/prices", &body).await.expect(200);
    assert_eq!(again["id"], book["id"], "the same content is the same book");

    let before = server.run("talk", &json!({"prompt": "Hello"})).await;
    let active = admin_post(&server, &format!("{location}/activate"), &json!({})).await.expect(200);
    assert_eq!((active["is_active"].as_bool(), &active["id"]), (Some(true), &book["id"]));
    let after = server.run("talk", &json!({"prompt": "Hello"})).await;
    let list = server.get("/v1/prices").await.expect(200);
    let names = list["data"].as_array().unwrap().iter().map(|book| (book["name"].clone(), book["is_active"].clone()));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [(json!("dearer"), json!(true)), (json!("default-2026-11-23"), json!(false))]
    );
    let pinned = async |mission: &Value| {
        let run = server.get(&format!("/v1/runs/{}", mission["run_id"].as_str().unwrap())).await.expect(200);
        run["price_book_id"].clone()
    };
    assert_eq!(pinned(&after).await, book["id"]);
    assert_ne!(pinned(&before).await, book["id"], "a run keeps the book it started with");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_book_is_refused_with_a_pointer_to_each_mistake() {
    let server = Server::start().await;
    let mut body = dearer(&server, "broken").await;
    body["model"][0]["rates"]["input"] = json!("0");
    body["unit"][0]["price"] = json!(5);
    body["markup"] = json!("7");
    let told = admin_post(&server, "/v1/prices", &body).await.refused(422, "validation");
    let pointers = told["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap());
    assert_eq!(pointers.collect::<Vec<_>>(), ["/model/0/rates/input", "/unit/0/price", "/markup"]);
    assert_eq!(server.get("/v1/prices").await.expect(200)["data"].as_array().unwrap().len(), 1);
    admin_post(&server, "/v1/prices", &json!([])).await.refused(422, "validation");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_admins_decide_about_prices() {
    let server = Server::start().await;
    let body = dearer(&server, "mine").await;
    server.post("/v1/prices", &body).await.refused(403, "forbidden");
    let book = admin_post(&server, "/v1/prices", &body).await.expect(201);
    let path = format!("/v1/prices/{}", book["id"].as_str().unwrap());
    server.post(&format!("{path}/activate"), &json!({})).await.refused(403, "forbidden");
    assert_eq!(server.get(&path).await.expect(200)["content"]["name"], "mine");
    server.get("/v1/prices/prb_01h455vb4pex5vsknk084sn02q").await.refused(404, "not-found");
    server.get("/v1/prices/mis_01h455vb4pex5vsknk084sn02q").await.refused(400, "wrong-id-kind");
    let missing = "/v1/prices/prb_01h455vb4pex5vsknk084sn02q/activate";
    admin_post(&server, missing, &json!({})).await.refused(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_price_that_holds_later_is_not_activated_today() {
    let server = Server::start().await;
    let mut body = dearer(&server, "next year").await;
    body["name"] = json!("next-year");
    body["model"][0]["valid_from"] = json!("2999-01-01");
    let book = admin_post(&server, "/v1/prices", &body).await.expect(201);
    let path = format!("/v1/prices/{}/activate", book["id"].as_str().unwrap());
    let told = admin_post(&server, &path, &json!({})).await.refused(409, "illegal-state");
    assert!(told["detail"].as_str().unwrap().contains("from 2999-01-01"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_priced_line_by_line() {
    let server = Server::start().await;
    let usage = json!({"input_tokens": 300, "cache_read_tokens": 100, "cache_write_tokens": 100, "output_tokens": 50,
        "reasoning_tokens": 10});
    let ask = json!({"call": {"model": "simulated-large", "usage": usage}});
    let priced = server.post("/v1/prices/simulate", &ask).await.expect(200);
    // 100 · 1 + 100 · 0.1 + 100 · 1.25 + 40 · 4 + 10 · 5 per million
    assert_eq!(
        (priced["call"]["usd"].as_str(), priced["call"]["credits"].as_str()),
        (Some("0.000445"), Some("0.044500"))
    );
    let lines = priced["call"]["lines"].as_array().unwrap();
    let parts = lines.iter().map(|line| line["dimension"].as_str().unwrap());
    let expected = ["input", "input.cache_read", "input.cache_write", "output", "output.reasoning"];
    assert_eq!(parts.collect::<Vec<_>>(), expected);
    let batch = json!({"call": {"model": "gpt-4.1", "variant": "batch", "usage": {"input_tokens": 1_000_000}}});
    assert_eq!(server.post("/v1/prices/simulate", &batch).await.expect(200)["call"]["usd"], "1");

    for (ask, pointer) in [
        (json!({}), ""),
        (json!({"days": 0}), "/days"),
        (json!({"days": 367}), "/days"),
        (json!({"call": {"model": "nobody", "usage": {}}}), "/call/model"),
        (json!({"call": {"model": "gpt-4.1", "variant": "x", "usage": {}}}), "/call/variant"),
        (json!({"call": {"model": "gpt-4.1", "usage": {"cache_read_tokens": 1}}}), "/call/usage"),
        (json!({"call": {"model": "gpt-4.1", "usage": {"tokens": 1}}}), "/call/usage/tokens"),
        (json!({"days": 1, "price_book_id": "prb_01h455vb4pex5vsknk084sn02q"}), "/price_book_id"),
        (json!({"days": 1, "price_book_id": "best"}), "/price_book_id"),
    ] {
        let told = server.post("/v1/prices/simulate", &ask).await.refused(422, "validation");
        assert_eq!(told["errors"][0]["pointer"], pointer, "{ask}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_days_are_priced_by_another_book() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let calls = server.get(&format!("/v1/runs/{}/calls", mission["run_id"].as_str().unwrap())).await.expect(200);
    let cost = calls["data"][0]["cost"].as_str().unwrap().to_owned();
    let same = server.post("/v1/prices/simulate", &json!({"days": 1})).await.expect(200);
    let total = &same["recorded"]["total"];
    assert_eq!((total["calls"].as_u64(), total["before"].as_str()), (Some(1), Some(cost.as_str())));
    assert_eq!((&total["after"], &total["billed_after"]), (&total["before"], &total["billed_before"]));

    let book = admin_post(&server, "/v1/prices", &dearer(&server, "dearer").await).await.expect(201);
    let ask = json!({"days": 1, "price_book_id": book["id"]});
    let priced = server.post("/v1/prices/simulate", &ask).await.expect(200);
    let ucr = |value: &Value| value.as_str().unwrap().replace('.', "").parse::<i64>().unwrap();
    let model = &priced["recorded"]["models"][0];
    assert_eq!(model["model"], "simulated-small");
    assert_eq!(ucr(&model["after"]), 3 * ucr(&model["before"]));

    let mut without = dearer(&server, "without").await;
    without["model"].as_array_mut().unwrap().retain(|model| model["name"] != "simulated-small");
    let book = admin_post(&server, "/v1/prices", &without).await.expect(201);
    let ask = json!({"days": 1, "price_book_id": book["id"]});
    let total = server.post("/v1/prices/simulate", &ask).await.expect(200)["recorded"]["total"].clone();
    assert_eq!((total["calls"].as_u64(), total["unpriced_calls"].as_u64()), (Some(0), Some(1)));
    assert_eq!(total["unpriced_before"], cost.as_str());

    // another tenant used nothing
    let request = server.request(Method::POST, "/v1/prices/simulate").bearer_auth(&server.other.key);
    let theirs = server.send(request.json(&json!({"days": 1}))).await.expect(200);
    assert_eq!(theirs["recorded"]["total"]["calls"], 0);
}
