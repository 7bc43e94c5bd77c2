//! Decisions of people on the dashboard: shown with buttons, made by a form of ours alone, counted on the overview.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bursar::store::Role;
use bursar::store::read::ApprovalFilter;
use serde_json::json;

use super::site::{Site, Tenant};

const GATE: &str = "
workflow: gate
flat_fee: 0
nodes:
  ask: { approval: { show: 'Is <b>{{ inputs.what }}</b> fine?' } }
  next: { needs: [ask], transform: '{{ nodes.ask.output.comment }}' }
outputs: { said: nodes.next.output }
";

/// A mission that waits, and where its decision is posted.
async fn asked(site: &Site, tenant: &Tenant) -> (String, String) {
    let (mission, _watch) = site.submit(tenant, GATE, json!({"what": "this"})).await;
    let filter = ApprovalFilter { mission: Some(mission), limit: 1, ..ApprovalFilter::default() };
    let open = site.app.engine.store().open_approvals(&filter).await.unwrap();
    (format!("/dashboard/missions/{mission}"), format!("/dashboard/approvals/{}/decide", open[0].id))
}

#[tokio::test]
async fn a_decision_is_made_on_the_missions_page() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let (page, decide) = asked(&site, &acme).await;
    let cookie = site.sign_in(&acme).await;
    let body = site.get(&page, &cookie).await.body;
    assert!(body.contains("Is &lt;b&gt;this&lt;/b&gt; fine?") && body.contains(&decide), "{body}");
    let overview = site.get("/dashboard", &cookie).await.body;
    assert!(overview.contains("To decide"), "{overview}");

    let answer = site.post(&decide, &cookie, "decision=approved&comment=well+done").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, page.as_str()));
    let id = page.rsplit_once('/').unwrap().1.parse().unwrap();
    let mut watch = site.app.engine.relay().hub().watch(id);
    site.until_over(id, &mut watch).await;
    let body = site.get(&page, &cookie).await.body;
    assert!(body.contains("well done") && !body.contains(&decide), "{body}");
    assert!(!site.get("/dashboard", &cookie).await.body.contains("To decide"));

    assert_eq!(site.post(&decide, &cookie, "decision=approved").await.status, StatusCode::SEE_OTHER, "twice is once");
    assert_eq!(site.post(&decide, &cookie, "decision=rejected").await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn nobody_decides_for_others() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let globex = site.tenant("globex", Role::User).await;
    let (page, decide) = asked(&site, &acme).await;
    let stranger = site.sign_in(&globex).await;
    assert_eq!(site.post(&decide, &stranger, "decision=approved").await.status, StatusCode::NOT_FOUND);
    assert!(!site.get("/dashboard", &stranger).await.body.contains("To decide"));
    let cookie = site.sign_in(&acme).await;
    let foreign = Request::post(&decide)
        .header(header::COOKIE, &cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "cross-site");
    let answer = site.send(foreign.body(Body::from("decision=approved")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(site.post(&decide, &cookie, "decision=maybe").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(site.get(&page, &cookie).await.body.contains(&decide), "it is still open");
}
