//! Two versions of the program on one database, as they meet during a deploy: this program is the older one, and what the
//! newer one left in the database is made by hand.

use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::hand::DIAMOND;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Queues, World};

on_both_stores!(idle:
    missions_run_before_and_after_a_schema_was_extended,
    a_task_of_a_workflow_that_this_version_cannot_read_is_handed_back_to_a_newer_one,
);

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// What a migration may do while older programs run: new tables, nullable columns, columns with defaults, indexes.
const ADDITIONS: [&str; 8] = [
    "alter table missions add column mood text",
    "alter table runs add column pace bigint not null default 7",
    "alter table tasks add column humour text",
    "alter table tasks add column patience bigint not null default 3",
    "alter table holds add column colour text",
    "alter table usage_calls add column weather text not null default 'fair'",
    "create index tasks_humour on tasks (humour) where humour is not null",
    "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
     select 9999, description, success, checksum, execution_time from _sqlx_migrations limit 1",
];

async fn extend(world: &World) {
    for sql in ADDITIONS {
        let integer =
            if matches!(world.store().dialect(), bursar::store::Dialect::Sqlite) { "integer" } else { "bigint" };
        world.store().execute(&sql.replace("bigint", integer), &[]).await.unwrap();
    }
}

const ASK: &str = "{workflow: ask, flat_fee: 1, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 50}}, \
                   nodes: {list: {transform: {items: [1, 2, 3]}}, ask: {needs: [list], map: {over: nodes.list.output.items, as: word}, agent: a, \
                   prompt: 'hello {{ word }} [[simulate tokens=5]]'}}}";

async fn missions_run_before_and_after_a_schema_was_extended(mut world: World) {
    let (diamond, ask) = (world.put(DIAMOND).await, world.put(ASK).await);
    world.process.work(4);
    let mut missions = world.submit_many(diamond.id, 4).await;
    // those that are running now were begun on the schema that the program knows
    extend(&world).await;
    missions.extend(world.submit_many(diamond.id, 4).await);
    missions.extend(world.submit_many(ask.id, 3).await);
    // as if it had only now been started beside the newer one
    let mut late = world.another_process().await;
    assert!(late.engine.store().check_schema().await.unwrap().is_newer());
    late.work(4);
    for mission in missions {
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded);
        assert!(world.tasks(mission).await.iter().all(|task| task.failures == 0));
    }
    late.stop().await;
    world.balances().await;
}

async fn a_task_of_a_workflow_that_this_version_cannot_read_is_handed_back_to_a_newer_one(mut world: World) {
    let workflow = world.put(DIAMOND).await;
    let mission = world.submit(workflow.id).await;
    // a kind of node that only the first process, which has read the workflow already, knows
    let unknown = json!({"workflow": "w", "nodes": {"a": {"telepathy": {"to": "b"}}}});
    let update = "update workflows set definition = {json:2} where id = $1";
    world.store().execute(update, &[workflow.id.into(), unknown.into()]).await.unwrap();
    let mut older = world.another_process().await;
    older.work(4);
    let returned = |reason: &Option<String>| reason.as_deref().is_some_and(|words| words.contains("handed back"));
    let task = world
        .task_when(mission, "a", "handed back", |task| task.state == TaskState::Ready && returned(&task.status_reason));
    let task = task.await;
    assert!(task.status_reason.as_deref().unwrap().contains("not valid"), "it says why: {task:?}");
    assert_eq!((task.failures, task.error.is_none()), (0, true));
    world.process.work(4);
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let lost = "select id from tasks where losses > 0 or failures > 0";
    assert!(world.store().rows(lost, &[]).await.unwrap().is_empty(), "no attempt was used up and no loss counted");
    older.stop().await;
    world.balances().await;
}
