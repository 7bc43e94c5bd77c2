//! The feed of a mission's page: hints and words, until the mission is over.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use bursar::store::Role;
use bursar::stream::FrameBody;
use futures::StreamExt;
use serde_json::json;
use tower::ServiceExt;

use super::site::{Site, until};

const STALLED: &str = "
workflow: stalled
agents: { bot: { instructions: 'You help.' } }
nodes:
  talk: { agent: bot, prompt: 'c [[simulate stall after_tokens=3]]', model: simulated-small }
";

/// Reads the feed until its text holds all of the words.
async fn read_until(body: &mut axum::body::BodyDataStream, heard: &mut String, words: &[&str]) {
    let read = async {
        while !words.iter().all(|word| heard.contains(word)) {
            let chunk = body.next().await.expect("the feed goes on").unwrap();
            heard.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap_or_else(|_| panic!("{words:?} in {heard}"));
}

#[tokio::test]
async fn the_feed_tells_words_said_before_changes_and_the_end() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let (id, mut watch) = site.submit(&acme, STALLED, json!({})).await;
    let mut said = String::new();
    until(&mut watch, |body| match body {
        FrameBody::Delta { text, .. } => {
            said.push_str(text);
            true
        }
        _ => false,
    })
    .await;
    let cookie = site.sign_in(&acme).await;
    let request = Request::get(format!("/dashboard/missions/{id}/live")).header(header::COOKIE, &cookie);
    let response = site.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache, no-transform");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body().into_data_stream();
    let mut heard = String::new();
    let first_word = said.split_whitespace().next().unwrap();
    read_until(&mut body, &mut heard, &["event: changed", "event: delta", "\"whole\":", first_word]).await;
    site.app.engine.cancel(id, None).await.unwrap();
    read_until(&mut body, &mut heard, &["event: end"]).await;
    let rest = tokio::time::timeout(Duration::from_secs(30), body.next()).await.unwrap();
    assert!(rest.is_none(), "the feed is over");
    // what is over has no feed: the browser stays away
    let again = site.get(&format!("/dashboard/missions/{id}/live"), &cookie).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_part_is_the_page_without_its_frame() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::Admin).await;
    let (id, mut watch) = site.submit(&acme, STALLED, json!({})).await;
    until(&mut watch, |body| matches!(body, FrameBody::Delta { .. })).await;
    let cookie = site.sign_in(&acme).await;
    for path in ["/dashboard".to_owned(), "/dashboard/missions".to_owned(), format!("/dashboard/missions/{id}")] {
        let page = site.get(&path, &cookie).await.body;
        let part = site.get(&format!("{path}?part=live"), &cookie).await.body;
        assert!(!part.contains("<html") && !part.contains("<script"), "{path}");
        let swapped = |body: &str| body.matches("data-swap").count();
        assert!(swapped(&part) > 0 && swapped(&part) == swapped(&page), "{path}");
        let parts =
            page.split("data-parts=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a place for parts");
        assert_eq!(parts, format!("{path}?part=live"));
    }
}
