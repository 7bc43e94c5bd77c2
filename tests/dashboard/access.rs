//! Who gets in, who stays out, and what a browser is allowed to do with our pages.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bursar::dashboard::login_link;
use bursar::store::Role;
use serde_json::json;

use super::site::Site;

const HELLO: &str = "
workflow: hello
nodes:
  card: { transform: { text: 'Hello {{ inputs.name }}' } }
";

#[tokio::test]
async fn a_key_signs_in_and_signing_out_forgets_it() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let form = format!("key=%20{}%20&next=%2Fdashboard%2Fmissions%3Fstate%3Dlive", acme.secret);
    let answer = site.post("/dashboard/login", "", &form).await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/dashboard/missions?state=live"));
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.contains(word), "{set}");
    }
    assert!(!set.contains("Secure"), "plain http: {set}");
    assert!(!set.contains(&acme.secret));
    let page = site.get("/dashboard", &answer.cookie()).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("acme&#39;s key") || page.body.contains("acme's key"), "{}", page.body);

    let out = site.post("/dashboard/logout", &answer.cookie(), "").await;
    assert_eq!(out.location(), "/dashboard/login");
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    let asked = site.get("/dashboard/missions?state=live", &out.cookie()).await;
    assert_eq!(asked.location(), "/dashboard/login?next=/dashboard/missions%3fstate%3dlive");
}

#[tokio::test]
async fn a_wrong_key_is_told_so_and_nobody_is_sent_elsewhere() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let answer = site.post("/dashboard/login", "", "key=bsk_test_wrong&next=%22%3E%3Cscript%3E").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.headers.get(header::SET_COOKIE).is_none());
    assert!(answer.body.contains("role=\"alert\"") && !answer.body.contains("\"><script>"), "{}", answer.body);
    for evil in ["https%3A%2F%2Fevil.example", "%2F%2Fevil.example", "%2Fdashboard%2F..%2Fv1", "%2Fv1%2Fkeys"] {
        let answer = site.post("/dashboard/login", "", &format!("key={}&next={evil}", acme.secret)).await;
        assert_eq!(answer.location(), "/dashboard", "{evil}");
    }
}

#[tokio::test]
async fn cookies_over_https_are_secure() {
    let site = Site::start_at("https://bursar.example").await;
    let acme = site.tenant("acme", Role::User).await;
    let answer = site.post("/dashboard/login", "", &format!("key={}", acme.secret)).await;
    assert!(answer.headers[header::SET_COOKIE].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn a_session_that_was_made_up_is_none() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let globex = site.tenant("globex", Role::User).await;
    let cookie = site.sign_in(&acme).await;
    let forged = [
        cookie.replace(&acme.id.to_string(), &globex.id.to_string()),
        cookie.replace(".user.", ".admin."),
        cookie.replace(&acme.key.id.to_string(), &globex.key.id.to_string()),
        format!("{cookie}0"),
        "bursar_session=".to_owned(),
        "bursar_session=a.b.c.d.e".to_owned(),
        String::new(),
    ];
    for forged in forged {
        assert_ne!(forged, cookie);
        let answer = site.get("/dashboard", &forged).await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, "/dashboard/login"), "{forged}");
    }
    assert_eq!(site.get("/dashboard", &format!("other=1; {cookie}")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_ends_with_its_time() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let cookie = site.sign_in(&acme).await;
    let later = site.app.engine.clock().now().plus_ms(12 * 3_600_000 + 1);
    site.app.engine.clock().synchronise(later, std::time::Instant::now());
    assert_eq!(site.get("/dashboard", &cookie).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_revoked_key_gets_no_further() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let cookie = site.sign_in(&acme).await;
    // no page was asked for yet, so nothing is remembered about the key
    let now = site.app.engine.clock().now();
    assert!(site.app.engine.store().revoke_key(acme.id, acme.key.id, now).await.unwrap());
    assert_eq!(site.get("/dashboard", &cookie).await.status, StatusCode::SEE_OTHER);
    let again = site.post("/dashboard/login", "", &format!("key={}", acme.secret)).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_one_time_link_works_once() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let link = login_link(&site.app, &acme.key, "/dashboard/missions");
    let preview = Request::head(&link).body(Body::empty()).unwrap();
    assert_eq!(site.send(preview).await.status, StatusCode::FORBIDDEN, "a preview does not use it up");
    let first = site.get(&link, "").await;
    assert_eq!((first.status, first.location()), (StatusCode::SEE_OTHER, "/dashboard/missions"));
    assert_eq!(site.get("/dashboard/missions", &first.cookie()).await.status, StatusCode::OK);
    let second = site.get(&link, "").await;
    assert_eq!(second.status, StatusCode::FORBIDDEN);
    assert!(second.headers.get(header::SET_COOKIE).is_none());
}

#[tokio::test]
async fn a_one_time_link_leads_where_it_was_made_for_and_only_for_ten_minutes() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let elsewhere = login_link(&site.app, &acme.key, "https://evil.example/");
    assert!(elsewhere.ends_with("&to=/dashboard"), "{elsewhere}");
    let bent = login_link(&site.app, &acme.key, "/dashboard").replace("&to=/dashboard", "&to=/dashboard/missions");
    assert_eq!(site.get(&bent, "").await.status, StatusCode::FORBIDDEN);
    let code_as_session = elsewhere.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let answer = site.get("/dashboard", &format!("bursar_session={code_as_session}")).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    let link = login_link(&site.app, &acme.key, "/dashboard");
    let later = site.app.engine.clock().now().plus_ms(10 * 60_000 + 1);
    site.app.engine.clock().synchronise(later, std::time::Instant::now());
    assert_eq!(site.get(&link, "").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn another_tenants_mission_does_not_exist() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let globex = site.tenant("globex", Role::User).await;
    let root = site.tenant("root", Role::Admin).await;
    let id = site.run(&acme, HELLO, json!({"name": "Ada"})).await;
    let mission = site.app.engine.store().mission(None, id).await.unwrap().unwrap();
    let (acme_cookie, globex_cookie) = (site.sign_in(&acme).await, site.sign_in(&globex).await);
    let paths = [
        format!("/dashboard/missions/{id}"),
        format!("/dashboard/missions/{id}?part=live"),
        format!("/dashboard/missions/{id}/live"),
        format!("/dashboard/runs/{}", mission.run_id),
        "/dashboard/missions/mis_nonsense".to_owned(),
        format!("/dashboard/missions/{}", mission.run_id),
    ];
    for path in paths {
        assert_eq!(site.get(&path, &globex_cookie).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let cancel = format!("/dashboard/missions/{id}/cancel");
    assert_eq!(site.post(&cancel, &globex_cookie, "").await.status, StatusCode::NOT_FOUND);
    for list in ["/dashboard", "/dashboard/missions"] {
        assert!(!site.get(list, &globex_cookie).await.body.contains(&id.to_string()), "{list}");
        assert!(site.get(list, &acme_cookie).await.body.contains(&id.to_string()), "{list}");
    }
    let root_cookie = site.sign_in(&root).await;
    assert_eq!(site.get(&format!("/dashboard/missions/{id}"), &root_cookie).await.status, StatusCode::OK);
    let run = site.get(&format!("/dashboard/runs/{}", mission.run_id), &acme_cookie).await;
    assert_eq!(run.location(), format!("/dashboard/missions/{id}"));
}

#[tokio::test]
async fn a_tenant_sees_no_queues_workers_or_wallets_of_others() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let root = site.tenant("root", Role::Admin).await;
    let mine = site.get("/dashboard", &site.sign_in(&acme).await).await.body;
    assert!(!mine.contains("test-box") && !mine.contains("id=\"queues\""), "{mine}");
    assert!(mine.contains("1,000.00") && !mine.contains("2,000.00"), "{mine}");
    let all = site.get("/dashboard", &site.sign_in(&root).await).await.body;
    assert!(all.contains("id=\"queues\"") && all.contains("id=\"workers\"") && all.contains("2,000.00"), "{all}");
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let stall = "
workflow: stall
agents: { bot: { instructions: 'You help.' } }
nodes:
  think: { agent: bot, prompt: '[[simulate stall]] think', model: simulated-small }
";
    let (id, _watch) = site.submit(&acme, stall, json!({})).await;
    let cookie = site.sign_in(&acme).await;
    let path = format!("/dashboard/missions/{id}/cancel");
    let attempts: [&[(&str, &str)]; 4] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:8080")],
        &[("origin", "https://evil.example"), ("host", "localhost:8080")],
        &[],
    ];
    for headers in attempts {
        for path in [path.as_str(), "/dashboard/login", "/dashboard/logout"] {
            let mut request = Request::post(path).header(header::COOKIE, &cookie);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = site.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} with {headers:?}");
        }
    }
    let mission = site.app.engine.store().mission(None, id).await.unwrap().unwrap();
    assert!(mission.state.is_live(), "{:?}", mission.state);
    let ours = site.post(&path, &cookie, "").await;
    assert_eq!((ours.status, ours.location()), (StatusCode::SEE_OTHER, format!("/dashboard/missions/{id}").as_str()));
    let mission = site.app.engine.store().mission(None, id).await.unwrap().unwrap();
    assert!(!mission.state.is_live(), "{:?}", mission.state);
}

#[tokio::test]
async fn a_workers_key_looks_and_changes_nothing() {
    let site = Site::start().await;
    let worker = site.tenant("acme", Role::Worker).await;
    let id = site.run(&worker, HELLO, json!({"name": "Ada"})).await;
    let cookie = site.sign_in(&worker).await;
    assert_eq!(site.get(&format!("/dashboard/missions/{id}"), &cookie).await.status, StatusCode::OK);
    let cancel = site.post(&format!("/dashboard/missions/{id}/cancel"), &cookie, "").await;
    assert_eq!(cancel.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn cancelling_what_is_over_says_so() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let id = site.run(&acme, HELLO, json!({"name": "Ada"})).await;
    let cookie = site.sign_in(&acme).await;
    let answer = site.post(&format!("/dashboard/missions/{id}/cancel"), &cookie, "").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_mission_is_paused_and_resumed_from_its_page() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let nap = "{workflow: nap, nodes: {nap: {sleep: 1h}}}";
    let (id, _watch) = site.submit(&acme, nap, json!({})).await;
    let cookie = site.sign_in(&acme).await;
    let page = format!("/dashboard/missions/{id}");
    for (action, state, other) in [("pause", "paused", "resume"), ("resume", "queued", "pause")] {
        let path = format!("{page}/{action}");
        assert!(site.get(&page, &cookie).await.body.contains(&format!("action=\"{path}\"")), "{action}");
        let answer = site.post(&path, &cookie, "").await;
        assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, page.as_str()));
        let mission = site.app.engine.store().mission(None, id).await.unwrap().unwrap();
        assert_eq!(mission.state.as_str(), state);
        let body = site.get(&page, &cookie).await.body;
        assert!(body.contains(&format!("{page}/{other}\"")) && !body.contains(&format!("{path}\"")), "{body}");
    }
    let worker = site.tenant("works", Role::Worker).await;
    let (id, _watch) = site.submit(&worker, nap, json!({})).await;
    let answer = site.post(&format!("/dashboard/missions/{id}/pause"), &site.sign_in(&worker).await, "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_mission_is_retried_and_forked_after_its_page_showed_what_that_does() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let shaky = "
workflow: shaky
flat_fee: 3
agents: { bot: { instructions: 'You help.' } }
nodes:
  think: { agent: bot, prompt: '[[simulate fail=permanent times=1]] think', model: simulated-small }
";
    let id = site.run(&acme, shaky, json!({})).await;
    let cookie = site.sign_in(&acme).await;
    let page = format!("/dashboard/missions/{id}");
    let shown = site.get(&page, &cookie).await.body;
    assert!(
        shown.contains(&format!("href=\"{page}/retry\"")) && shown.contains(&format!("action=\"{page}/fork\"")),
        "{shown}"
    );
    let ask = site.get(&format!("{page}/retry"), &cookie).await;
    assert_eq!(ask.status, StatusCode::OK);
    assert!(
        ask.body.contains("think") && ask.body.contains("Held at once") && ask.body.contains("3.00"),
        "{}",
        ask.body
    );
    let answer = site.post(&format!("{page}/retry"), &cookie, "").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, page.as_str()));
    let state = || async { site.app.engine.store().mission(None, id).await.unwrap().unwrap() };
    crate::support::eventually("it succeeds", std::time::Duration::from_secs(30), || async {
        (state().await.state == bursar_domain::state::RunState::Succeeded).then_some(())
    })
    .await;
    assert_eq!(site.get(&format!("{page}/retry"), &cookie).await.status, StatusCode::CONFLICT);
    assert_eq!(site.get(&format!("{page}/fork?from=nowhere"), &cookie).await.status, StatusCode::CONFLICT);
    let ask = site.get(&format!("{page}/fork?from=think"), &cookie).await.body;
    assert!(ask.contains("name=\"from\" value=\"think\""), "{ask}");
    let answer = site.post(&format!("{page}/fork"), &cookie, "from=think").await;
    assert_eq!((answer.status, state().await.run_number), (StatusCode::SEE_OTHER, 2));
}
