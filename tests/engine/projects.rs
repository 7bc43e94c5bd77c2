//! Projects and the missions in them, on both stores.

use bursar::clock::new_id;
use bursar::engine::ProjectError;
use bursar::store::read::MissionFilter;
use bursar::store::{Project, ProjectFilter};
use bursar_domain::id::{ProjectId, TenantId};
use serde_json::json;

use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    a_project_is_made_changed_archived_and_removed,
    missions_are_found_by_their_project,
    changes_at_the_same_moment_are_all_kept,
);

const FREE: &str = "{workflow: free, flat_fee: 0, nodes: {x: {transform: 1}}}";

async fn create(world: &World, tenant: TenantId, name: &str) -> Result<Project, ProjectError> {
    let now = world.engine().clock().now();
    let project = Project {
        id: new_id(),
        tenant_id: tenant,
        name: name.to_owned(),
        description: None,
        metadata: Some(json!({"a": [1]})),
        archived_at: None,
        created_at: now,
        updated_at: now,
    };
    world.engine().create_project(&project).await.map(|()| project)
}

async fn stored(world: &World, id: ProjectId) -> Option<Project> {
    world.store().project(Some(world.tenant), id).await.unwrap()
}

async fn submit(world: &World, project: Option<ProjectId>) -> bursar_domain::id::MissionId {
    let workflow = world.put(FREE).await;
    let mut submission = world.submission(workflow.id, json!({}));
    submission.project_id = project;
    world.try_submit(submission).await.unwrap().mission_id
}

async fn a_project_is_made_changed_archived_and_removed(world: World) {
    let project = create(&world, world.tenant, "one").await.unwrap();
    assert_eq!(stored(&world, project.id).await.as_ref(), Some(&project));
    let twin = create(&world, world.tenant, "one").await;
    assert!(matches!(twin, Err(ProjectError::NameTaken)), "{twin:?}");
    let other = create(&world, world.tenant, "two").await.unwrap();
    let taken = world.engine().change_project(world.tenant, other.id, |row| "one".clone_into(&mut row.name)).await;
    assert!(matches!(taken, Err(ProjectError::NameTaken)), "{taken:?}");

    let stranger = new_id();
    for refused in [
        world.engine().change_project(stranger, project.id, |row| "mine".clone_into(&mut row.name)).await.map(drop),
        world.engine().remove_project(stranger, project.id).await,
    ] {
        assert!(matches!(refused, Err(ProjectError::NotFound)), "{refused:?}");
    }
    assert_eq!(world.store().project(Some(stranger), project.id).await.unwrap(), None);

    let live = world.engine().remove_project(world.tenant, project.id).await;
    assert!(matches!(live, Err(ProjectError::InUse)), "{live:?}");
    let now = world.engine().clock().now();
    let archive = |row: &mut Project| {
        row.archived_at = Some(now);
        row.description = Some("over".to_owned());
        row.metadata = None;
    };
    let changed = world.engine().change_project(world.tenant, project.id, archive).await.unwrap();
    assert_eq!((changed.archived_at, changed.updated_at > project.updated_at), (Some(now), true));
    assert_eq!(stored(&world, project.id).await, Some(changed));
    for (archived, names) in [(None, vec!["two", "one"]), (Some(true), vec!["one"]), (Some(false), vec!["two"])] {
        let filter = ProjectFilter { tenant: Some(world.tenant), archived, limit: 10, ..ProjectFilter::default() };
        let listed = world.store().projects(&filter).await.unwrap();
        assert_eq!(listed.iter().map(|project| project.name.as_str()).collect::<Vec<_>>(), names, "{archived:?}");
    }
    world.engine().remove_project(world.tenant, project.id).await.unwrap();
    assert_eq!(stored(&world, project.id).await, None);
}

async fn missions_are_found_by_their_project(world: World) {
    let project = create(&world, world.tenant, "one").await.unwrap();
    let (inside, outside) = (submit(&world, Some(project.id)).await, submit(&world, None).await);
    assert_eq!(world.mission(inside).await.project_id, Some(project.id));
    assert_eq!(world.finished(outside).await.project_id, None);
    let filter = MissionFilter { project: Some(project.id), limit: 10, ..MissionFilter::default() };
    let listed = world.store().missions(&filter).await.unwrap();
    assert_eq!(listed.iter().map(|mission| mission.id).collect::<Vec<_>>(), [inside]);
    let elsewhere = MissionFilter { tenant: Some(new_id()), ..filter };
    assert_eq!(world.store().missions(&elsewhere).await.unwrap(), []);
    assert_eq!(world.finished(inside).await.project_id, Some(project.id), "it stays in it");

    let now = world.engine().clock().now();
    world.engine().change_project(world.tenant, project.id, |row| row.archived_at = Some(now)).await.unwrap();
    let used = world.engine().remove_project(world.tenant, project.id).await;
    assert!(matches!(used, Err(ProjectError::InUse)), "it has a mission: {used:?}");
}

async fn changes_at_the_same_moment_are_all_kept(world: World) {
    let project = create(&world, world.tenant, "one").await.unwrap();
    let add = async |number: usize| {
        let note = format!("{number} ");
        let change =
            |row: &mut Project| row.description = Some(row.description.clone().unwrap_or_default() + note.as_str());
        world.engine().change_project(world.tenant, project.id, change).await
    };
    let changed = futures::future::join_all((0..5).map(add)).await;
    assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    let text = stored(&world, project.id).await.unwrap().description.unwrap();
    let mut numbers: Vec<&str> = text.split_whitespace().collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["0", "1", "2", "3", "4"]);
}
