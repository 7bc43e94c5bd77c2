//! Outputs that are used again, on both stores: whose, for how long, and for nothing.

use bursar::clock::new_id;
use bursar_domain::credits::Ucr;
use bursar_domain::id::{MissionId, TenantId};
use bursar_domain::state::RunState;
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_using_outputs_again_runs_as_it_says,
    an_output_that_is_too_old_or_another_tenants_is_not_used,
);

async fn over(world: &World, mission: MissionId) -> (Ucr, Option<Value>) {
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    (over.spent_ucr, world.task(mission, "describe").await.output)
}

/// Whether the node's success was told as one of an earlier task.
async fn told_cached(world: &World, mission: MissionId) -> bool {
    let events = world.store().events(mission, 0, 100).await.unwrap();
    let told = events.iter().find(|event| event.kind == "task.succeeded" && event.node.as_deref() == Some("describe"));
    told.unwrap().data["cached"] == json!(true)
}

async fn the_example_of_using_outputs_again_runs_as_it_says(world: World) {
    let workflow = world.put(&example("catalogue")).await;
    let submit = |product: &str, note: &str| {
        let input = json!({"product": product, "note": note});
        let world = &world;
        async move { world.submit_with(workflow.id, input).await }
    };
    let first = submit("chair", "a").await;
    let (spent, text) = over(&world, first).await;
    assert!(spent > Ucr::ZERO && !told_cached(&world, first).await);

    // the same product with another note: the key says that the note does not count
    let second = submit("chair", "b").await;
    assert_eq!(over(&world, second).await, (Ucr::ZERO, text.clone()));
    assert!(told_cached(&world, second).await);
    let calls = world.store().calls_of_run(world.mission(second).await.run_id, 10).await.unwrap();
    assert!(calls.is_empty(), "nobody was asked");

    let third = submit("table", "a").await;
    let (spent, _) = over(&world, third).await;
    assert!(spent > Ucr::ZERO && !told_cached(&world, third).await);
    world.balances().await;
}

async fn an_output_that_is_too_old_or_another_tenants_is_not_used(world: World) {
    let workflow = world.put(&example("catalogue")).await;
    let input = json!({"product": "chair", "note": ""});
    let first = world.submit_with(workflow.id, input.clone()).await;
    over(&world, first).await;
    let rows = world.store().rows("select tenant_id, hash from kept_outputs", &[]).await.unwrap();
    let hash = rows[0]["hash"].as_str().unwrap();
    let now = world.engine().clock().now();
    let (ours, theirs) = (world.tenant, new_id());
    let world = &world;
    let look = |tenant: TenantId| async move { world.store().kept_output(tenant, hash, now).await.unwrap() };
    assert_eq!((look(ours).await.is_some(), look(theirs).await.is_some()), (true, false));

    let sql = "update kept_outputs set created_at = 1, expires_at = $1";
    world.store().execute(sql, &[now.into()]).await.unwrap();
    assert_eq!(look(ours).await, None);
    let again = world.submit_with(workflow.id, input).await;
    let (spent, _) = over(world, again).await;
    assert!(spent > Ucr::ZERO && !told_cached(world, again).await);
}
