//! Schedules on real stores: each time makes one mission, however many processes look, and goes on after refusals.

use bursar::clock::{new_id, rfc3339};
use bursar::engine::{Engine, ScheduleError, Unfit};
use bursar_domain::record::{CatchUp, Overlap, Schedule};
use bursar_domain::state::RunState;
use bursar_domain::time::Timestamp;
use serde_json::json;

use crate::support::hand::SINGLE;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Process, Queues, World};

on_both_stores!(idle:
    many_processes_fire_a_schedule_once,
    a_refused_submit_is_noted_and_the_schedule_goes_on,
    a_client_that_uses_the_key_of_a_firing_does_not_stop_the_schedule,
    a_firing_waits_for_the_mission_before_it,
    what_replaces_a_mission_ends_it,
    a_change_works_out_the_next_time_and_a_pause_takes_it_away,
    a_schedule_that_could_not_submit_is_not_made,
);

/// A world that nobody works in: missions stay as they are until the test says otherwise.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// A schedule of the world's tenant that fires once a year, by itself.
fn yearly(world: &World, workflow: &str) -> Schedule {
    let now = world.engine().clock().now();
    Schedule {
        id: new_id(),
        tenant_id: world.tenant,
        name: "yearly".to_owned(),
        cron: "0 0 1 1 *".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        workflow: workflow.to_owned(),
        input: Some(json!({})),
        budget_ucr: None,
        on_exhausted: None,
        priority: 7,
        tags: Some(vec!["nightly".to_owned()]),
        overlap: Overlap::Skip,
        catch_up: CatchUp::Last,
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
    }
}

/// Makes it due now, for a time of the test's own.
async fn due(world: &World, schedule: &Schedule, at: Timestamp) {
    let sql = "update schedules set next_at = $2, due_at = $2 where id = $1";
    world.store().execute(sql, &[schedule.id.into(), at.into()]).await.unwrap();
}

async fn row(world: &World, schedule: &Schedule) -> Schedule {
    world.store().schedule(Some(world.tenant), schedule.id).await.unwrap().unwrap()
}

async fn missions(world: &World) -> i64 {
    world.store().rows("select count(*) as n from missions", &[]).await.unwrap()[0]["n"].as_i64().unwrap()
}

async fn many_processes_fire_a_schedule_once(world: World) {
    world.put(SINGLE).await;
    let schedule = world.engine().create_schedule(yearly(&world, "single")).await.unwrap();
    let is_shared = world.store().dialect() == bursar::store::Dialect::Postgres;
    let others: Vec<Process> =
        if is_shared { futures::future::join_all((0..3).map(|_| world.another_process())).await } else { Vec::new() };
    let mut engines: Vec<Engine> = others.iter().map(|process| process.engine.clone()).collect();
    engines.extend([world.engine().clone(), world.engine().clone()]);
    for round in 1..=5_i64 {
        let at = world.engine().clock().now().plus_ms(-10_000 * (6 - round));
        due(&world, &schedule, at).await;
        let looks = engines.iter().map(Engine::fire_due);
        for looked in futures::future::join_all(looks).await {
            looked.unwrap();
        }
        let after = row(&world, &schedule).await;
        assert_eq!((after.fired, missions(&world).await), (round, round));
        assert_eq!(after.last_fired_at, Some(at));
        assert!(after.next_at > Some(world.engine().clock().now()), "the next is the new year");
        let mission = world.mission(after.last_mission_id.unwrap()).await;
        assert_eq!(mission.idempotency_key, Some(format!("schedule:{}:{}", schedule.id, rfc3339(at))));
        assert_eq!(mission.metadata.unwrap()["scheduled_for"], rfc3339(at));
        assert_eq!((mission.priority, mission.tags), (7, Some(vec!["nightly".to_owned()])));
        world.engine().cancel(after.last_mission_id.unwrap(), None).await.unwrap();
    }
    world.balances().await;
}

async fn a_refused_submit_is_noted_and_the_schedule_goes_on(world: World) {
    world.put("workflow: dear\nflat_fee: 5000\nnodes: { x: { transform: 1 } }").await;
    let schedule = world.engine().create_schedule(yearly(&world, "dear")).await.unwrap();
    due(&world, &schedule, world.engine().clock().now()).await;
    world.engine().fire_due().await.unwrap();
    let after = row(&world, &schedule).await;
    let error = after.last_error.clone().unwrap();
    assert_eq!((after.fired, after.refused, error["code"].as_str()), (0, 1, Some("insufficient-credits")));
    assert!(after.next_at.is_some(), "it goes on");

    world.grant(10_000).await;
    due(&world, &schedule, world.engine().clock().now()).await;
    world.engine().fire_due().await.unwrap();
    let after = row(&world, &schedule).await;
    assert_eq!((after.fired, after.refused, after.last_error), (1, 1, None));

    // the workflow's next version takes no such input
    world
        .put("workflow: dear\nflat_fee: 0\ninputs: { type: object, required: [x] }\nnodes: { x: { transform: 1 } }")
        .await;
    world.engine().cancel(after.last_mission_id.unwrap(), None).await.unwrap();
    due(&world, &schedule, world.engine().clock().now()).await;
    world.engine().fire_due().await.unwrap();
    let after = row(&world, &schedule).await;
    assert_eq!((after.refused, after.last_error.unwrap()["code"].as_str()), (2, Some("validation")));
    world.balances().await;
}

async fn a_client_that_uses_the_key_of_a_firing_does_not_stop_the_schedule(world: World) {
    let workflow = world.put(SINGLE).await;
    let schedule = world.engine().create_schedule(yearly(&world, "single")).await.unwrap();
    let at = world.engine().clock().now();
    let mut theirs = world.submission(workflow.id, json!({}));
    theirs.idempotency_key = Some(format!("schedule:{}:{}", schedule.id, rfc3339(at)));
    world.try_submit(theirs).await.unwrap();
    due(&world, &schedule, at).await;
    world.engine().fire_due().await.unwrap();
    let after = row(&world, &schedule).await;
    assert_eq!(after.last_error.unwrap()["code"], "idempotency-key-reused");
    assert_eq!((after.fired, after.refused, missions(&world).await), (0, 1, 1));
    assert!(after.next_at > Some(at));
}

async fn a_firing_waits_for_the_mission_before_it(world: World) {
    world.put(SINGLE).await;
    let queued = Schedule { overlap: Overlap::Queue, ..yearly(&world, "single") };
    let schedule = world.engine().create_schedule(queued).await.unwrap();
    let now = world.engine().clock().now();
    due(&world, &schedule, now).await;
    world.engine().fire_due().await.unwrap();
    let first = row(&world, &schedule).await.last_mission_id.unwrap();
    due(&world, &schedule, now.plus_ms(1)).await;
    world.engine().fire_due().await.unwrap();
    let waiting = row(&world, &schedule).await;
    assert_eq!((waiting.waiting_for, waiting.fired), (Some(now.plus_ms(1)), 1));
    world.engine().fire_due().await.unwrap();
    assert_eq!(row(&world, &schedule).await, waiting, "it waits");
    world.engine().cancel(first, None).await.unwrap();
    world.finished(first).await;
    world.engine().fire_due().await.unwrap();
    let after = row(&world, &schedule).await;
    assert_eq!((after.waiting_for, after.fired, after.last_fired_at), (None, 2, Some(now.plus_ms(1))));
    assert_ne!(after.last_mission_id, Some(first));
}

async fn what_replaces_a_mission_ends_it(world: World) {
    world.put(SINGLE).await;
    let replacing = Schedule { overlap: Overlap::Replace, ..yearly(&world, "single") };
    let schedule = world.engine().create_schedule(replacing).await.unwrap();
    let mut made = Vec::new();
    for _ in 0..2 {
        due(&world, &schedule, world.engine().clock().now()).await;
        world.engine().fire_due().await.unwrap();
        made.push(row(&world, &schedule).await.last_mission_id.unwrap());
    }
    let old = world.finished(made[0]).await;
    assert_eq!(old.state, RunState::Cancelled);
    assert_eq!(old.status_reason.as_deref(), Some("replaced by the next firing of its schedule"));
    assert_eq!(world.mission(made[1]).await.state, RunState::Queued);
    world.balances().await;
}

async fn a_change_works_out_the_next_time_and_a_pause_takes_it_away(world: World) {
    world.put(SINGLE).await;
    let engine = world.engine();
    let schedule = engine.create_schedule(yearly(&world, "single")).await.unwrap();
    let change = |row: &mut Schedule| "@hourly".clone_into(&mut row.cron);
    let changed = engine.change_schedule(world.tenant, schedule.id, change).await.unwrap();
    assert!(changed.next_at.unwrap() < schedule.next_at.unwrap() && changed.version == 2);
    assert!(changed.next_at.unwrap().since_ms(engine.clock().now()) <= 3_600_000);
    assert_eq!(changed.input, Some(json!({})), "the rest stays");
    let paused = engine.change_schedule(world.tenant, schedule.id, |row| row.paused = true).await.unwrap();
    assert_eq!((paused.next_at, paused.due_at), (None, None));
    engine.fire_due().await.unwrap();
    assert_eq!(missions(&world).await, 0);
    let resumed = engine.change_schedule(world.tenant, schedule.id, |row| row.paused = false).await.unwrap();
    assert!(resumed.next_at.is_some());
    let wrong = |row: &mut Schedule| "nonsense".clone_into(&mut row.cron);
    assert!(matches!(engine.change_schedule(world.tenant, schedule.id, wrong).await, Err(ScheduleError::Cron(_))));
    let made = engine.run_schedule(world.tenant, schedule.id, None).await.unwrap().unwrap();
    assert_eq!(world.mission(made.mission_id).await.metadata.unwrap()["schedule_id"], schedule.id.to_string());
    assert_eq!(row(&world, &schedule).await, resumed, "a run by hand stands beside the times");
    engine.remove_schedule(world.tenant, schedule.id).await.unwrap();
    assert!(matches!(engine.remove_schedule(world.tenant, schedule.id).await, Err(ScheduleError::NotFound)));
}

async fn a_schedule_that_could_not_submit_is_not_made(world: World) {
    let engine = world.engine();
    let unknown = engine.create_schedule(yearly(&world, "nothing")).await;
    assert!(matches!(unknown, Err(ScheduleError::Unfit(Unfit::UnknownWorkflow))));
    world.put(SINGLE).await;
    engine.create_schedule(yearly(&world, "single")).await.unwrap();
    let again = engine.create_schedule(yearly(&world, "single")).await;
    assert!(matches!(again, Err(ScheduleError::NameTaken)), "{again:?}");
    assert_eq!(world.store().schedules(None, None, 10).await.unwrap().len(), 1);
}
