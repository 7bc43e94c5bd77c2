//! Callback links over HTTP: looking decides nothing, deciding is done once, strangers are told nothing.

use reqwest::Method;
use serde_json::{Value, json};

use super::approvals::asked;
use super::server::{Answer, Server};

/// Makes a link; its id and the path of its address.
async fn link(server: &Server, path: &str, body: &Value) -> (String, String) {
    let answer = server.post(&format!("{path}/links"), body).await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let made = answer.expect(201);
    let url = made["url"].as_str().unwrap();
    let at = url.find("/c/cbl_").unwrap_or_else(|| panic!("{made}"));
    assert_eq!(url.len() - at, "/c/cbl_".len() + 43);
    (made["id"].as_str().unwrap().to_owned(), url[at..].to_owned())
}

/// Asks for JSON, without any key.
async fn look(server: &Server, path: &str) -> Answer {
    server.send(server.request(Method::GET, path).header("accept", "application/json")).await
}

async fn decide(server: &Server, path: &str, body: &Value) -> Answer {
    server.send(server.request(Method::POST, path).header("accept", "application/json").json(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_shows_and_never_decides_until_somebody_does_once() {
    let server = Server::start().await;
    let (mission, approval) = asked(&server, &json!({"show": "Are <b>bees</b> fine?", "expires": "2h"})).await;
    let (id, path) = link(&server, &approval, &json!({})).await;
    for _ in 0..3 {
        let shown = look(&server, &path).await.expect(200);
        assert_eq!((&shown["subject"], &shown["status"]), (&json!("approval"), &json!("open")));
        assert_eq!(shown["shown"], "Are <b>bees</b> fine?");
        assert_eq!(shown["decisions"], json!(["approved", "rejected"]));
    }
    let page = server.send(server.request(Method::GET, &path).header("accept", "text/html")).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text.contains("Are &lt;b&gt;bees&lt;/b&gt; fine?") && page.text.contains("<form method=\"post\""));
    assert!(!page.text.contains("<script") && !page.text.contains(&mission) && !page.text.contains("cbl_"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in
        [("referrer-policy", "no-referrer"), ("cache-control", "no-store"), ("x-frame-options", "DENY")]
    {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    let _ = server.send(server.request(Method::HEAD, &path)).await;
    assert_eq!(server.get(&approval).await.expect(200)["status"], "open", "nobody decided by looking");

    // as the page's form sends it
    let form = server.request(Method::POST, &path).header("accept", "text/html");
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("comment=fine&decision=approved");
    let thanks = server.send(form).await;
    assert!(thanks.status == 200 && thanks.text.contains("Thank you"), "{}", thanks.text);
    let made = server.get(&approval).await.expect(200);
    assert_eq!(
        (&made["status"], &made["decision"]["by"], &made["decision"]["comment"]),
        (&json!("approved"), &json!(id), &json!("fine"))
    );
    assert_eq!(server.finished(&mission).await["output"], json!({"said": "approved", "by": id, "why": "fine"}));

    // the same again is the same, another is refused, and there is nothing left to see
    let again = decide(&server, &path, &json!({"decision": "approved", "comment": "other words"})).await.expect(200);
    assert_eq!((&again["status"], &again["decisions"]), (&json!("approved"), &json!([])));
    decide(&server, &path, &json!({"decision": "rejected"})).await.refused(409, "already-decided");
    look(&server, &path).await.refused(410, "link-over");
    let page = server.send(server.request(Method::GET, &path).header("accept", "text/html")).await;
    assert!(page.status == 410 && page.text.contains("This link is over") && !page.text.contains("bees"));
    assert_eq!(server.get(&approval).await.expect(200)["decision"], made["decision"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_decide_at_the_same_moment_are_told_what_stands() {
    let server = Server::start().await;
    let (_, approval) = asked(&server, &json!({"show": "?"})).await;
    let (_, path) = link(&server, &approval, &json!({})).await;
    let (yes, no) = (json!({"decision": "approved"}), json!({"decision": "rejected"}));
    let answers = tokio::join!(
        decide(&server, &path, &yes),
        decide(&server, &path, &no),
        decide(&server, &path, &yes),
        decide(&server, &path, &no)
    );
    let mut statuses: Vec<u16> =
        [&answers.0, &answers.1, &answers.2, &answers.3].iter().map(|answer| answer.status.as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 409, 409], "one decision, told to all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_decides_what_its_maker_allowed_and_no_longer_than_they_said() {
    let server = Server::start().await;
    let (_, approval) = asked(&server, &json!({"show": "?", "expires": "1h"})).await;
    let (_, only_no) = link(&server, &approval, &json!({"decisions": ["rejected"], "expires": "9h"})).await;
    let shown = look(&server, &only_no).await.expect(200);
    assert_eq!(shown["decisions"], json!(["rejected"]));
    let one = server.get(&approval).await.expect(200);
    assert_eq!(shown["expires_at"], one["expires_at"], "a link ends with its approval at the latest");
    decide(&server, &only_no, &json!({"decision": "approved"})).await.refused(403, "forbidden");
    for (body, pointer) in [
        (json!({}), "/decision"),
        (json!({"decision": "SECRET"}), "/decision"),
        (json!({"decision": "rejected", "payload": {"SECRET": 1}}), "/payload"),
        (json!({"decision": "rejected", "coment": "SECRET"}), "/coment"),
        (json!({"decision": "rejected", "comment": "x".repeat(4_097)}), "/comment"),
    ] {
        let answer = decide(&server, &only_no, &body).await;
        assert_eq!(answer.refused(422, "validation")["errors"][0]["pointer"], pointer);
        assert!(!answer.text.contains("SECRET"), "{}", answer.text);
    }
    for (body, pointer) in [
        (json!({"decisions": []}), "/decisions"),
        (json!({"decisions": ["maybe"]}), "/decisions/0"),
        (json!({"expires": "soon"}), "/expires"),
        (json!({"expires": "1ms"}), "/expires"),
        (json!({"expire": "1h"}), "/expire"),
    ] {
        let answer = server.post(&format!("{approval}/links"), &body).await;
        assert_eq!(answer.refused(422, "validation")["errors"][0]["pointer"], pointer, "{body}");
    }
    let (_, short) = link(&server, &approval, &json!({"expires": "1s"})).await;
    crate::support::eventually("its time is over", crate::support::world::PATIENCE, || async {
        (look(&server, &short).await.status == 410).then_some(())
    })
    .await;
    decide(&server, &short, &json!({"decision": "approved"})).await.refused(410, "link-over");
    assert_eq!(server.get(&approval).await.expect(200)["status"], "open");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_over_when_somebody_else_decided_and_when_it_is_asked_again() {
    let server = Server::start().await;
    let (mission, approval) = asked(&server, &json!({"show": "?"})).await;
    let (first, used) = link(&server, &approval, &json!({})).await;
    let (_, spare) = link(&server, &approval, &json!({})).await;
    decide(&server, &used, &json!({"decision": "rejected"})).await.expect(200);
    decide(&server, &spare, &json!({"decision": "rejected"})).await.refused(410, "link-over");
    look(&server, &spare).await.refused(410, "link-over");
    let over = server.finished(&mission).await;
    assert_eq!(over["error"]["code"], "approval_rejected");
    server.post(&format!("{approval}/links"), &json!({})).await.refused(409, "illegal-state");

    // tried again, it is another question: neither link answers it
    server.post(&format!("/v1/missions/{mission}/retry"), &json!({})).await.expect(200);
    let open = server.get(&format!("/v1/approvals?mission_id={mission}")).await.expect(200);
    let again = format!("/v1/approvals/{}", open["data"][0]["id"].as_str().unwrap());
    for path in [&used, &spare] {
        look(&server, path).await.refused(410, "link-over");
        decide(&server, path, &json!({"decision": "approved"})).await.refused(410, "link-over");
    }
    assert_eq!(server.get(&again).await.expect(200)["status"], "open");
    let (second, fresh) = link(&server, &again, &json!({})).await;
    assert_ne!(first, second);
    decide(&server, &fresh, &json!({"decision": "approved"})).await.expect(200);
    assert_eq!(server.finished(&mission).await["output"]["by"], json!(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_sends_its_signal_once() {
    let server = Server::start().await;
    let workflow = json!({
        "workflow": "order", "flat_fee": "0",
        "nodes": {"paid": {"signal": {"name": "paid"}}, "more": {"needs": ["paid"], "signal": {"name": "paid"}}},
        "outputs": {"first": "nodes.paid.output", "second": "nodes.more.output"},
    });
    let put = server.request(Method::PUT, "/v1/workflows/order").bearer_auth(&server.ours.key).json(&workflow);
    assert!(server.send(put).await.status.is_success());
    let mission = server.submit("order", &json!({})).await;
    let signals = format!("/v1/missions/{mission}/signals");
    server.post(&format!("{signals}/payed/links"), &json!({})).await.refused(404, "not-found");
    let misplaced = server.post(&format!("{signals}/paid/links"), &json!({"decisions": ["approved"]})).await;
    assert_eq!(misplaced.refused(422, "validation")["errors"][0]["pointer"], "/decisions");
    let (_, path) = link(&server, &format!("{signals}/paid"), &json!({"expires": "1h"})).await;
    let shown = look(&server, &path).await.expect(200);
    assert_eq!((&shown["subject"], &shown["signal"]), (&json!("signal"), &json!("paid")));
    assert_eq!(decide(&server, &path, &json!({"payload": {"n": 1}})).await.expect(200)["status"], "sent");
    assert_eq!(decide(&server, &path, &json!({"payload": {"n": 1}})).await.expect(200)["status"], "sent");
    decide(&server, &path, &json!({"payload": {"n": 2}})).await.refused(409, "already-decided");
    look(&server, &path).await.refused(410, "link-over");
    let (_, other) = link(&server, &format!("{signals}/paid"), &json!({})).await;
    decide(&server, &other, &json!({"comment": "thanks", "decision": "sent"})).await.expect(200);
    let over = server.finished(&mission).await;
    assert_eq!(over["output"], json!({"first": {"n": 1}, "second": {"message": "thanks"}}));
    server.post(&format!("{signals}/paid/links"), &json!({})).await.refused(409, "illegal-state");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_nothing_and_other_tenants_make_no_links() {
    let server = Server::start().await;
    let (_, approval) = asked(&server, &json!({"show": "?"})).await;
    let (_, path) = link(&server, &approval, &json!({})).await;
    let mut wrong = path.clone();
    let last = if wrong.pop() == Some('x') { 'y' } else { 'x' };
    wrong.push(last);
    for path in [wrong.as_str(), "/c/cbl_", "/c/x", "/c/lnk_01h455vb4pex5vsknk084sn02q"] {
        look(&server, path).await.refused(404, "not-found");
        // whatever the body says: the same answer
        decide(&server, path, &json!({"decision": "approved"})).await.refused(404, "not-found");
        decide(&server, path, &json!({"nonsense": true})).await.refused(404, "not-found");
    }
    let theirs = server.request(Method::POST, &format!("{approval}/links")).bearer_auth(&server.other.key);
    server.send(theirs.json(&json!({}))).await.refused(404, "not-found");
    let nobody = server.request(Method::POST, &format!("{approval}/links"));
    server.send(nobody.json(&json!({}))).await.refused(401, "unauthorized");
    // only the hash is kept
    let rows = server.engine.store().rows("select * from callback_links", &[]).await.unwrap();
    assert!(rows.len() == 1 && !rows[0].to_string().contains("cbl_"), "{rows:?}");
}
