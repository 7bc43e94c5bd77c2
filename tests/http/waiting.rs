//! Long-polls: an answer as soon as something changed, and no later than asked for.

use std::time::{Duration, Instant};

use serde_json::json;

use super::server::{Server, Setup};

#[tokio::test(flavor = "multi_thread")]
async fn a_submit_may_wait_for_the_end() {
    let server = Server::start().await;
    let body = json!({"workflow": "note", "input": {"name": "Ada"}});
    let request = server.request(reqwest::Method::POST, "/v1/missions").bearer_auth(&server.ours.key);
    let answer = server.send(request.header("Prefer", "respond-async, wait=10").json(&body)).await;
    assert_eq!(answer.header("preference-applied"), Some("wait=10"));
    assert_eq!(answer.expect(202)["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_without_a_change_ends_with_304() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let path = format!("/v1/missions/{id}");
    let etag = server.get(&path).await.header("etag").unwrap().to_owned();
    let began = Instant::now();
    let answer = server.get_with(&format!("{path}?wait=1"), "if-none-match", &etag).await;
    assert_eq!(answer.status, 304);
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_the_mission_changes() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let path = format!("/v1/missions/{id}");
    let etag = server.get(&path).await.header("etag").unwrap().to_owned();
    let waiting = format!("{path}?wait=25");
    let began = Instant::now();
    let cancel = format!("{path}/cancel");
    let nothing = json!({});
    let (changed, _) = tokio::join!(server.get_with(&waiting, "if-none-match", &etag), server.post(&cancel, &nothing));
    assert_eq!(changed.status, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(server.finished(&id).await["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_the_server_stops() {
    let server = Server::start_with(Setup { agent_slots: 0, ..Setup::default() }).await;
    let id = server.submit("talk", &json!({"prompt": "Hi"})).await;
    let path = format!("/v1/missions/{id}");
    let etag = server.get(&path).await.header("etag").unwrap().to_owned();
    let waiting = format!("{path}?wait=25");
    let began = Instant::now();
    let stop = async {
        // the wait is in the server once its watcher is
        while server.engine.relay().hub().watchers() == 0 {
            tokio::task::yield_now().await;
        }
        server.stop.cancel();
    };
    let (answer, ()) = tokio::join!(server.get_with(&waiting, "if-none-match", &etag), stop);
    assert_eq!(answer.status, 304);
    assert!(began.elapsed() < Duration::from_secs(10));
}
