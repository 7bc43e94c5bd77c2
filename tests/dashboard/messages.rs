//! Conversations on the dashboard: shown, with a box that says something, by a form of ours alone.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bursar::store::Role;
use serde_json::json;

use super::site::Site;

const ECHO: &str = "
workflow: echo
flat_fee: 0
nodes: { tell: { transform: 'heard {{ message|default(inputs.q) }}' } }
";

#[tokio::test]
async fn a_conversation_goes_on_from_the_missions_page() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let (id, mut watch) = site.submit(&acme, ECHO, json!({"q": "first"})).await;
    site.until_over(id, &mut watch).await;
    let cookie = site.sign_in(&acme).await;
    let (page, say) = (format!("/dashboard/missions/{id}"), format!("/dashboard/missions/{id}/messages"));
    let body = site.get(&page, &cookie).await.body;
    assert!(body.contains("Conversation") && body.contains("heard first") && body.contains(&say), "{body}");

    let answer = site.post(&say, &cookie, "content=%3Cb%3Esecond%3C%2Fb%3E").await;
    assert_eq!((answer.status, answer.location()), (StatusCode::SEE_OTHER, page.as_str()));
    let mut watch = site.app.engine.relay().hub().watch(id);
    site.until_over(id, &mut watch).await;
    let body = site.get(&page, &cookie).await.body;
    assert!(body.contains("heard &lt;b&gt;second&lt;/b&gt;") && !body.contains("<b>second"), "{body}");
    assert_eq!(site.post(&say, &cookie, "content=+").await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn nobody_speaks_for_others() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let globex = site.tenant("globex", Role::User).await;
    let (id, mut watch) = site.submit(&acme, ECHO, json!({"q": "first"})).await;
    site.until_over(id, &mut watch).await;
    let say = format!("/dashboard/missions/{id}/messages");
    let stranger = site.sign_in(&globex).await;
    assert_eq!(site.post(&say, &stranger, "content=x").await.status, StatusCode::NOT_FOUND);
    let cookie = site.sign_in(&acme).await;
    let foreign = Request::post(&say)
        .header(header::COOKIE, &cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "cross-site");
    let answer = site.send(foreign.body(Body::from("content=x")).unwrap()).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let (mute, mut watch) =
        site.submit(&acme, "{workflow: mute, flat_fee: 0, nodes: {a: {transform: 1}}}", json!({})).await;
    site.until_over(mute, &mut watch).await;
    assert!(!site.get(&format!("/dashboard/missions/{mute}"), &cookie).await.body.contains("<h2>Conversation"));
    let refused = site.post(&format!("/dashboard/missions/{mute}/messages"), &cookie, "content=x").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
}
