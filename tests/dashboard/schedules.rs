//! The page of schedules: what there is, for whom, and its buttons.

use axum::http::StatusCode;
use bursar::clock::new_id;
use bursar::store::Role;
use bursar_domain::record::{CatchUp, Overlap, Schedule};
use bursar_domain::workflow::{Syntax, parse};
use serde_json::json;

use super::site::{Site, Tenant};

const FREE: &str = "workflow: brief\nflat_fee: 0\nnodes: { x: { transform: 1 } }";

/// A schedule of a tenant, under a name.
pub(super) async fn create(site: &Site, tenant: &Tenant, name: &str) -> Schedule {
    let engine = &site.app.engine;
    engine.put_workflow(tenant.id, &parse(FREE, Syntax::Yaml).unwrap()).await.unwrap();
    let now = engine.clock().now();
    let schedule = Schedule {
        id: new_id(),
        tenant_id: tenant.id,
        name: name.to_owned(),
        cron: "30 7 * * MON-FRI".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        workflow: "brief".to_owned(),
        input: Some(json!({})),
        budget_ucr: None,
        on_exhausted: None,
        priority: 0,
        tags: None,
        overlap: Overlap::Skip,
        catch_up: CatchUp::None,
        jitter_ms: 0,
        paused: false,
        next_at: None,
        due_at: None,
        waiting_for: None,
        last_fired_at: None,
        last_mission_id: None,
        last_error: None,
        fired: 0,
        skipped: 0,
        refused: 0,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    engine.create_schedule(schedule).await.unwrap()
}

#[tokio::test]
async fn schedules_are_shown_to_their_tenant_and_paused_resumed_and_run_by_buttons() {
    let site = Site::start().await;
    let (acme, other) = (site.tenant("acme", Role::User).await, site.tenant("other", Role::User).await);
    let schedule = create(&site, &acme, "morning brief").await;
    let (acme, other) = (site.sign_in(&acme).await, site.sign_in(&other).await);
    let page = site.get("/dashboard/schedules", &acme).await.body;
    for text in ["morning brief", "30 7 * * MON-FRI", "Europe/Berlin", "overlap skip", "brief", "active", "05:30:00"] {
        let is_summer = text == "05:30:00" && page.contains("06:30:00");
        assert!(page.contains(text) || is_summer, "{text}: {page}");
    }
    let act = |what: &str| format!("/dashboard/schedules/{}/{what}", schedule.id);
    assert!(page.contains(&act("pause")) && page.contains(&act("run")) && !page.contains(&act("resume")));
    assert!(!site.get("/dashboard/schedules", &other).await.body.contains("morning brief"));
    assert_eq!(site.post(&act("pause"), &other, "").await.status, StatusCode::NOT_FOUND);

    let done = site.post(&act("pause"), &acme, "").await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/dashboard/schedules"));
    let page = site.get("/dashboard/schedules?part=live", &acme).await.body;
    assert!(page.contains("paused") && page.contains(&act("resume")), "{page}");
    assert_eq!(site.post(&act("resume"), &acme, "").await.status, StatusCode::SEE_OTHER);
    let ran = site.post(&act("run"), &acme, "").await;
    assert!(ran.location().starts_with("/dashboard/missions/mis_"), "{}", ran.location());
    assert_eq!(site.post(&act("explode"), &acme, "").await.status, StatusCode::NOT_FOUND);
}
