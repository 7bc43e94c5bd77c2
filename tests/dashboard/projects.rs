//! Missions by project in the dashboard.

use axum::http::StatusCode;
use bursar::clock::new_id;
use bursar::store::{Project, Role};
use serde_json::json;

use super::site::{Site, Tenant};

const FREE: &str = "workflow: free\nflat_fee: 0\nnodes: { x: { transform: 1 } }";

async fn create(site: &Site, tenant: &Tenant, name: &str) -> Project {
    let now = site.app.engine.clock().now();
    let project = Project {
        id: new_id(),
        tenant_id: tenant.id,
        name: name.to_owned(),
        description: None,
        metadata: None,
        archived_at: None,
        created_at: now,
        updated_at: now,
    };
    site.app.engine.create_project(&project).await.unwrap();
    project
}

#[tokio::test]
async fn missions_are_filtered_by_project_and_say_in_which_they_are() {
    let site = Site::start().await;
    let (acme, other) = (site.tenant("acme", Role::User).await, site.tenant("other", Role::User).await);
    let outside = site.run(&acme, FREE, json!({})).await;
    let cookie = site.sign_in(&acme).await;
    assert!(!site.get("/dashboard/missions", &cookie).await.body.contains("name=\"project\""), "there are none");
    let (project, strange) = (create(&site, &acme, "launch").await, create(&site, &other, "secret").await);
    let (inside, mut watch) = site.submit_into(&acme, FREE, json!({}), Some(project.id)).await;
    site.until_over(inside, &mut watch).await;

    let all = site.get("/dashboard/missions", &cookie).await.body;
    assert!(all.contains("launch") && !all.contains("secret"), "{all}");
    assert!(all.contains(&inside.to_string()) && all.contains(&outside.to_string()));
    let filtered = site.get(&format!("/dashboard/missions?project={}", project.id), &cookie).await.body;
    assert!(filtered.contains(&inside.to_string()) && !filtered.contains(&outside.to_string()), "{filtered}");
    assert!(filtered.contains(&format!("project={}&amp;part=live", project.id)), "it stays filtered: {filtered}");
    let nothing = site.get(&format!("/dashboard/missions?project={}", strange.id), &cookie).await;
    assert_eq!(nothing.status, StatusCode::OK);
    assert!(nothing.body.contains("No missions here") && !nothing.body.contains("secret"), "{}", nothing.body);
    let page = site.get(&format!("/dashboard/missions/{inside}"), &cookie).await.body;
    assert!(page.contains(&format!("/dashboard/missions?project={}", project.id)), "{page}");
}
