//! Dead letters redriven in the dashboard: what it would do, the order, its progress, its end.

use axum::http::StatusCode;
use bursar::store::{BulkScope, Role};
use bursar_domain::state::RunState;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::site::Site;

/// Fails for good in its first attempt and succeeds in its second.
const SHAKY: &str = "
workflow: shaky
flat_fee: 2
agents: { bot: { instructions: 'You help.', model: simulated-small, max_output_tokens: 50 } }
nodes:
  bad: { agent: bot, prompt: 'b [[simulate fail=permanent times=1]]', retry: { max_attempts: 1 } }
";

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).expect("the field");
    rest.split_once('"').unwrap().0.to_owned()
}

#[tokio::test]
async fn a_group_is_redriven_by_its_form_once_it_was_shown_what_that_would_do() {
    let site = Site::start().await;
    let (acme, other) = (site.tenant("acme", Role::User).await, site.tenant("other", Role::User).await);
    let missions = [site.run(&acme, SHAKY, json!({})).await, site.run(&acme, SHAKY, json!({})).await];
    let engine = site.app.engine.clone();
    let groups = engine.store().dead_letters(Some(acme.id), None, 10).await.unwrap();
    let path = format!("/dashboard/dead-letters/{}", groups[0].fingerprint);
    let (acme, other) = (site.sign_in(&acme).await, site.sign_in(&other).await);
    let ask = format!("{path}/redrive?per_second=5&limit=100");
    assert!(site.get(&path, &acme).await.body.contains(&format!("{path}/redrive")), "the group has a form");
    let told = site.get(&ask, &acme).await.body;
    for text in ["2 of 2 missions", "5 a second", "bad", "Held at once", "Redrive 2 missions"] {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert!(missions.iter().all(|id| told.contains(&format!("/dashboard/missions/{id}"))));
    assert_eq!(engine.store().bulk_actions(BulkScope::All, None, None, 10).await.unwrap(), [], "nothing was ordered");
    assert_eq!(site.get(&ask, &other).await.status, StatusCode::NOT_FOUND);
    let fast = format!("{path}/redrive?per_second=101&limit=100");
    assert_eq!(site.get(&fast, &acme).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let form = format!("per_second=5&limit=100&key={}", hidden(&told, "key"));
    let ordered = site.post(&format!("{path}/redrive"), &acme, &form).await;
    assert_eq!(ordered.status, StatusCode::SEE_OTHER);
    let progress = ordered.location().to_owned();
    assert!(progress.starts_with("/dashboard/bulk-actions/blk_"), "{progress}");
    let again = site.post(&format!("{path}/redrive"), &acme, &form).await;
    assert_eq!(again.location(), progress, "pressed twice, ordered once");
    assert_eq!(site.post(&format!("{path}/redrive"), &other, &form).await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.get(&progress, &other).await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.post(&format!("{progress}/abort"), &other, "").await.status, StatusCode::NOT_FOUND);
    let page = site.get(&progress, &acme).await.body;
    assert!(page.contains("running") && page.contains(&format!("{progress}/abort")), "{page}");

    engine.redrive_due(&CancellationToken::new()).await.unwrap();
    for mission in missions {
        let (mut watch, mission) = (engine.relay().hub().watch(mission), mission);
        site.until_over(mission, &mut watch).await;
        let mission = engine.store().mission(None, mission).await.unwrap().unwrap();
        assert_eq!((mission.state, mission.retries), (RunState::Succeeded, 1));
    }
    let part = site.get(&format!("{progress}?part=live"), &acme).await.body;
    assert!(part.contains("done") && part.contains("2 of 2") && !part.contains("abort"), "{part}");
    assert_eq!(site.post(&format!("{progress}/abort"), &acme, "").await.status, StatusCode::CONFLICT);
    let list = site.get("/dashboard/bulk-actions", &acme).await.body;
    assert!(list.contains(&progress) && list.contains("2 / 2"), "{list}");
    assert!(!site.get("/dashboard/bulk-actions", &other).await.body.contains("blk_"));
}

#[tokio::test]
async fn a_redrive_that_runs_is_stopped_by_its_button() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let mission = site.run(&acme, SHAKY, json!({})).await;
    let engine = site.app.engine.clone();
    let group = engine.store().dead_letters(Some(acme.id), None, 10).await.unwrap().remove(0);
    let path = format!("/dashboard/dead-letters/{}/redrive", group.fingerprint);
    let cookie = site.sign_in(&acme).await;
    let progress = site.post(&path, &cookie, "per_second=1&limit=1").await.location().to_owned();
    let stopped = site.post(&format!("{progress}/abort"), &cookie, "").await;
    assert_eq!((stopped.status, stopped.location()), (StatusCode::SEE_OTHER, progress.as_str()));
    assert!(site.get(&progress, &cookie).await.body.contains("aborted"));
    engine.redrive_due(&CancellationToken::new()).await.unwrap();
    assert_eq!(engine.store().mission(None, mission).await.unwrap().unwrap().retries, 0);
    let group = site.get(&format!("/dashboard/dead-letters/{}", group.fingerprint), &cookie).await.body;
    assert!(group.contains(&progress), "the group shows its redrives: {group}");
}
