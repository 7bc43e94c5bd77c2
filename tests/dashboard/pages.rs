//! What stands on the pages, and what never does.

use axum::http::{StatusCode, header};
use bursar::store::Role;
use bursar::stream::FrameBody;
use serde_json::json;

use super::site::{Site, Tenant, until};

const COMPANY: &str = include_str!("../../workflows/software-company.yaml");

/// The sample with the simulated model in place of real ones.
fn company() -> String {
    COMPANY.replace("gpt-4.1-mini", "simulated-small").replace("gpt-4.1", "simulated-large")
}

/// Two branches of a fan-in, of which one fails for good.
const HALF: &str = "
workflow: half
agents: { bot: { instructions: 'You help.' } }
nodes:
  start: { transform: { ok: 'yes' } }
  good: { needs: [start], agent: bot, prompt: 'a [[simulate tokens=9]]', model: simulated-small }
  bad: { needs: [good], agent: bot, prompt: 'b [[simulate fail=permanent]]', model: simulated-small }
  never: { needs: [bad], transform: { x: 'y' } }
";

const STALLED: &str = "
workflow: stalled
agents: { bot: { instructions: 'You help.' } }
nodes:
  talk: { agent: bot, prompt: 'c [[simulate stall after_tokens=3]]', model: simulated-small }
  after: { needs: [talk], transform: { x: 'y' } }
";

const HOSTILE: &str = "
workflow: hostile
nodes:
  echo: { transform: { text: '{{ inputs.evil }}' } }
outputs: { evil: nodes.echo.output }
";
const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&";

/// Pages of every kind, with missions that succeeded, failed, run and carry hostile text.
async fn pages(site: &Site, acme: &Tenant) -> Vec<(String, String)> {
    let done = site.run(acme, &company(), json!({"idea": "a chess clock"})).await;
    let failed = site.run(acme, HALF, json!({})).await;
    let (running, mut watch) = site.submit(acme, STALLED, json!({})).await;
    until(&mut watch, |body| matches!(body, FrameBody::Delta { .. })).await;
    let hostile = site.run(acme, HOSTILE, json!({"evil": EVIL})).await;
    let (ended, mut watch) = site.submit(acme, STALLED, json!({})).await;
    site.app.engine.cancel(ended, Some(EVIL)).await.unwrap();
    site.until_over(ended, &mut watch).await;
    site.grant(acme, 5, 50, EVIL).await;
    super::schedules::create(site, acme, EVIL).await;
    let cookie = site.sign_in(acme).await;
    let mut pages = Vec::new();
    let mut paths = [
        "/dashboard",
        "/dashboard/missions",
        "/dashboard/schedules",
        "/dashboard/dead-letters",
        "/dashboard/bulk-actions",
        "/dashboard/prices",
        "/dashboard/login",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect::<Vec<_>>();
    paths.extend([done, failed, running, hostile, ended].map(|id| format!("/dashboard/missions/{id}")));
    paths.extend(["/dashboard/wallets".to_owned(), format!("/dashboard/wallets/{}", acme.wallet)]);
    paths.extend(["/dashboard/ledger", "/dashboard/ledger?kind=grant&mission=%3Cb%3E&from=%22%3E"].map(str::to_owned));
    paths.extend(["/dashboard/nothing".to_owned(), "/dashboard/missions?workflow=%3Cscript%3E&state=x".to_owned()]);
    for path in paths {
        let answer = site.get(&path, &cookie).await;
        assert!(answer.status == StatusCode::OK || path.ends_with("nothing"), "{path}: {}", answer.status);
        pages.push((path, answer.body));
    }
    pages
}

#[tokio::test]
async fn no_page_carries_script_style_or_markup_of_others() {
    let site = Site::start().await;
    let acme = site.tenant("acme<b>", Role::Admin).await;
    for (path, body) in pages(&site, &acme).await {
        let scripts: Vec<&str> = body.match_indices("<script").map(|(at, _)| &body[at..at + 40]).collect();
        assert!(
            scripts.len() == 1 && scripts[0].starts_with("<script src=\"/dashboard/assets/"),
            "{path}: {scripts:?}"
        );
        assert!(!body.contains("<style") && !body.contains(" style="), "{path}");
        assert!(!body.contains("<img src=x") && !body.contains("acme<b>"), "{path}");
        let attributes = body.split('<').filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag);
        for tag in attributes {
            let handler = tag.split(' ').any(|word| word.starts_with("on") && word.contains('='));
            assert!(!handler && !tag.contains("javascript:"), "{path}: <{tag}>");
        }
    }
}

#[tokio::test]
async fn hostile_text_is_shown_as_text() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let pages = pages(&site, &acme).await;
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;";
    let showing = pages.iter().filter(|(_, body)| body.contains(escaped)).count();
    // the hostile output, the hostile reason, and the lists that show the reason
    assert!(showing >= 3, "{showing} pages show it");
    let of_money = pages.iter().filter(|(path, _)| path.contains("/wallets/") || path.contains("/ledger"));
    assert!(of_money.clone().count() == 3 && of_money.into_iter().all(|(_, body)| body.contains(escaped)));
}

#[tokio::test]
async fn every_answer_carries_the_policy() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let cookie = site.sign_in(&acme).await;
    let style = "/dashboard/assets/style.css";
    let paths = [
        "/dashboard",
        "/dashboard/login",
        "/dashboard/missions",
        "/dashboard/none",
        "/dashboard/missions/x",
        "/dashboard/wallets",
        "/dashboard/wallets/x",
        "/dashboard/ledger",
        style,
    ];
    for path in paths {
        for cookie in [cookie.as_str(), ""] {
            let headers = site.get(path, cookie).await.headers;
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
            assert!(!policy.contains("unsafe"));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
            let kept = if path == style { "public, max-age=31536000, immutable" } else { "no-store" };
            assert_eq!(headers[header::CACHE_CONTROL], kept, "{path}");
        }
    }
    let refused =
        site.send(axum::http::Request::post("/dashboard/logout").body(axum::body::Body::empty()).unwrap()).await;
    assert!(refused.headers.contains_key(header::CONTENT_SECURITY_POLICY));
}

#[tokio::test]
async fn the_graph_has_every_node_and_every_edge() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let id = site.run(&acme, &company(), json!({"idea": "a chess clock"})).await;
    let page = site.get(&format!("/dashboard/missions/{id}"), &site.sign_in(&acme).await).await.body;
    let svg = page.split("<svg class=\"graph\"").nth(1).and_then(|rest| rest.split("</svg>").next()).expect("a graph");
    for node in ["prd", "design", "plan", "code", "tests", "summary"] {
        assert!(svg.contains(&format!("id=\"node-{node}\" class=\"node s-succeeded\"")), "{node}: {svg}");
    }
    assert!(svg.contains("id=\"node-approve\" class=\"node s-skipped\""), "nobody asked for an approval");
    let store = site.app.engine.store();
    let run = store.mission(None, id).await.unwrap().unwrap().run_id;
    let tasks = store.tasks_of_run(run, false, 500).await.unwrap();
    let cost = |node: &str| {
        let of_node = tasks.iter().filter(|task| task.node == node);
        let cost: bursar_domain::credits::Ucr = of_node.map(|task| task.cost_ucr).sum();
        cost.to_string().trim_end_matches('0').to_owned()
    };
    for (node, words) in [("prd", "1 attempt"), ("plan", "1 attempt"), ("code", "tasks"), ("tests", "tasks")] {
        let label =
            svg.split(&format!("aria-label=\"{node}: succeeded, ")).nth(1).and_then(|rest| rest.split('"').next());
        let label = label.unwrap_or_else(|| panic!("{node} has no label"));
        assert!(label.contains(words) && label.contains(&cost(node)), "{node}: {label}, {} credits", cost(node));
    }
    let edges = [
        ("prd", "approve"),
        ("prd", "design"),
        ("approve", "design"),
        ("design", "plan"),
        ("plan", "code"),
        ("code", "tests"),
        ("code", "summary"),
        ("tests", "summary"),
    ];
    for (from, to) in edges {
        assert!(svg.contains(&format!("data-from=\"{from}\" data-to=\"{to}\"")), "{from} → {to}");
    }
    assert_eq!(svg.matches("marker-end=").count(), edges.len());
    assert_eq!(svg.matches("<a id=\"node-").count(), 7);
}

#[tokio::test]
async fn a_mission_that_succeeded_shows_output_usage_cost_and_that_it_was_simulated() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let id = site.run(&acme, &company(), json!({"idea": "a chess clock"})).await;
    let page = site.get(&format!("/dashboard/missions/{id}"), &site.sign_in(&acme).await).await.body;
    let store = site.app.engine.store();
    let mission = store.mission(None, id).await.unwrap().unwrap();
    assert!(page.contains("<title>succeeded · software-company · Bursar</title>"));
    let total = mission.tasks_total;
    assert!(page.contains("budget 300.00") && page.contains(&format!("{total} of {total} tasks ended")));
    let spent = mission.spent_ucr.to_string();
    assert!(page.contains(&format!("spent <strong>{}</strong>", spent.trim_end_matches('0'))), "spent {spent}");
    let tasks = store.tasks_of_run(mission.run_id, true, 500).await.unwrap();
    for node in ["prd", "design", "summary"] {
        let task = tasks.iter().find(|task| task.node == node).unwrap();
        let text = task.output.as_ref().unwrap().as_str().unwrap();
        let shown = maud::html! { (text) }.into_string();
        assert!(page.contains(&shown), "the output of {node}");
    }
    assert!(page.contains("draft 1") && page.contains("review 1") && page.contains("round 1"), "what the page folds");
    assert_eq!(page.matches("class=\"result\"").count(), 5);
    assert!(page.matches("class=\"simulated\"").count() >= 12, "outputs and calls say that they are simulated");
    assert!(page.contains("mission.succeeded") && page.contains("task.succeeded"));
    assert!(!page.contains("data-feed") && !page.contains("Cancel mission"), "it is over");
}

#[tokio::test]
async fn a_mission_that_failed_says_where_and_why() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let id = site.run(&acme, HALF, json!({})).await;
    let page = site.get(&format!("/dashboard/missions/{id}"), &site.sign_in(&acme).await).await.body;
    assert!(page.contains("<title>failed · half · Bursar</title>"));
    assert!(page.contains("node <code>bad</code> failed"), "the reason");
    for (node, state) in [("start", "succeeded"), ("good", "succeeded"), ("bad", "failed"), ("never", "skipped")] {
        assert!(page.contains(&format!("id=\"node-{node}\" class=\"node s-{state}\"")), "{node} is {state}");
    }
    assert!(page.contains("class=\"card failure\""));
}

#[tokio::test]
async fn a_mission_that_runs_can_be_watched_and_cancelled() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let (id, mut watch) = site.submit(&acme, STALLED, json!({})).await;
    until(&mut watch, |body| matches!(body, FrameBody::Delta { .. })).await;
    let page = site.get(&format!("/dashboard/missions/{id}"), &site.sign_in(&acme).await).await.body;
    assert!(page.contains(&format!("data-feed=\"/dashboard/missions/{id}/live\"")));
    assert!(page.contains(&format!("action=\"/dashboard/missions/{id}/cancel\"")));
    let run = site.app.engine.store().mission(None, id).await.unwrap().unwrap().run_id;
    let tasks = site.app.engine.store().tasks_of_run(run, false, 10).await.unwrap();
    let talk = tasks.iter().find(|task| task.node == "talk").unwrap().id;
    assert!(page.contains(&format!("data-said=\"{talk}\" data-attempt=\"1\"")));
    assert!(page.contains("id=\"node-talk\" class=\"node s-running\"") && page.contains("node s-pending"));
    assert!(page.contains("data-since="), "its clocks grow");
}

#[tokio::test]
async fn a_page_is_fit_for_keyboards_and_screen_readers() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::Admin).await;
    for (path, body) in pages(&site, &acme).await {
        for needed in
            ["<html lang=\"en\">", "id=\"main\"", "href=\"#main\"", "aria-live=\"polite\"", "<h1", "name=\"viewport\""]
        {
            assert!(body.contains(needed), "{path} lacks {needed}");
        }
        assert_eq!(body.matches("<h1").count(), 1, "{path}");
        let heads = body.split("<th").skip(1).filter(|rest| !rest.starts_with("ead")).collect::<Vec<_>>();
        assert!(
            heads.iter().all(|rest| rest.split('>').next().unwrap().contains("scope=")),
            "{path}: a head without scope"
        );
        let ids: Vec<&str> = body.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let unique: std::collections::BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(ids.len(), unique.len(), "{path}: an id twice in {ids:?}");
    }
}

#[tokio::test]
async fn the_list_filters_and_pages_by_its_address() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let mut ids = Vec::new();
    for number in 0..27 {
        ids.push(site.run(&acme, HOSTILE, json!({"evil": number})).await);
    }
    let failed = site.run(&acme, HALF, json!({})).await;
    let cookie = site.sign_in(&acme).await;
    let list = async |query: &str| site.get(&format!("/dashboard/missions{query}"), &cookie).await.body;
    let has =
        |body: &str, id: &bursar_domain::id::MissionId| body.contains(&format!("href=\"/dashboard/missions/{id}\""));

    let first = list("").await;
    assert!(has(&first, &failed) && has(&first, &ids[26]) && !has(&first, &ids[2]));
    let next =
        first.split("<a href=\"/dashboard/missions?").nth(1).and_then(|rest| rest.split('"').next()).expect("older");
    let second = list(&format!("?{}", next.replace("&amp;", "&"))).await;
    assert!(has(&second, &ids[0]) && has(&second, &ids[2]) && !has(&second, &ids[3]) && !second.contains("Older"));
    let only_failed = list("?state=failed").await;
    assert!(has(&only_failed, &failed) && !has(&only_failed, &ids[26]));
    let by_name = list("?workflow=hostile&state=succeeded").await;
    assert!(!has(&by_name, &failed) && has(&by_name, &ids[26]));
    assert!(by_name.contains("?state=succeeded&amp;workflow=hostile&amp;before="), "paging keeps the filters");
    assert!(list("?state=live").await.contains("No missions here."));
}
