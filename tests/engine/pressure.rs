//! A tenant's queue is full: of many submits at once exactly as many are taken as there is room for, and whatever else
//! would begin a run waits or is refused by name.

use std::collections::BTreeMap;

use bursar::clock::new_id;
use bursar::engine::{ControlError, ForkWish, MessageError, RedriveOrder, SubmitError};
use bursar::store::{BulkOutcome, BulkScope, Dialect, TenantChange};
use bursar_domain::flow::{MessageRefusal, Refusal};
use bursar_domain::id::KeyKind;
use bursar_domain::record::{CatchUp, Overlap, Schedule};
use bursar_domain::state::RunState;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::messages::wish;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Process, Queues, World};

on_both_stores!(idle:
    of_many_submits_at_once_exactly_as_many_are_taken_as_there_is_room_for,
    a_default_holds_for_tenants_that_say_nothing_of_their_own,
    whatever_else_begins_a_run_is_refused_by_name_and_nothing_of_it_is_done,
    a_schedule_that_finds_its_tenants_queue_full_says_so_and_goes_on,
);

const NAP: &str = "{workflow: nap, flat_fee: 1, nodes: {nap: {sleep: 1h}}}";

/// Fails whenever it is tried, and would hear what is said to it.
const BROKEN: &str = "{workflow: broken, flat_fee: 1, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 60}}, \
    nodes: {heard: {transform: '{{ message }}'}, \
            bad: {agent: a, retry: {max_attempts: 1}, prompt: 'go on [[simulate fail=permanent]]'}}}";

async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

async fn limit(world: &World, most: Option<i64>) {
    let change = TenantChange { weight: None, max_queued: Some(most) };
    assert!(world.engine().change_tenant(world.tenant, change).await.unwrap().is_some());
}

async fn missions(world: &World) -> i64 {
    world.store().rows("select count(*) as n from missions", &[]).await.unwrap()[0]["n"].as_i64().unwrap()
}

fn is_full(error: &SubmitError) -> Option<(i64, i64)> {
    match error {
        SubmitError::Refused(Refusal::QueueFull { live, most }) => Some((*live, *most)),
        _ => None,
    }
}

async fn of_many_submits_at_once_exactly_as_many_are_taken_as_there_is_room_for(world: World) {
    let workflow = world.put(NAP).await;
    let is_shared = world.store().dialect() == Dialect::Postgres;
    let other: Option<Process> = if is_shared { Some(world.another_process().await) } else { None };
    limit(&world, Some(20)).await;
    let submits = (0..50).map(|n| {
        let process = other.as_ref().filter(|_| n % 2 == 0).unwrap_or(&world.process);
        let (engine, submission) = (process.engine.clone(), world.submission(workflow.id, json!({})));
        async move { engine.submit(submission).await }
    });
    let answers = futures::future::join_all(submits).await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).map(is_full).collect();
    assert_eq!(refused, vec![Some((20, 20)); 30]);
    assert_eq!(missions(&world).await, 20);

    // as many as end may follow; nobody heard of the limit's own rows
    for made in answers.iter().flatten().take(3) {
        world.engine().cancel(made.mission_id, None).await.unwrap();
    }
    let again = (0..10).map(|_| world.try_submit(world.submission(workflow.id, json!({}))));
    let taken = futures::future::join_all(again).await.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((taken, missions(&world).await), (3, 23));

    // what is there already is answered with, also where there is no room
    limit(&world, None).await;
    let mut keyed = world.submission(workflow.id, json!({}));
    keyed.idempotency_key = Some("k".to_owned());
    let made = world.try_submit(keyed.clone()).await.unwrap();
    limit(&world, Some(0)).await;
    let replay = world.try_submit(keyed).await.unwrap();
    assert_eq!((replay.mission_id, replay.replayed), (made.mission_id, true));
    world.balances().await;
}

async fn a_default_holds_for_tenants_that_say_nothing_of_their_own(world: World) {
    let workflow = world.put(NAP).await;
    world.engine().limit_queues(1);
    world.submit(workflow.id).await;
    let submit = || world.try_submit(world.submission(workflow.id, json!({})));
    assert_eq!(is_full(&submit().await.unwrap_err()), Some((1, 1)));
    limit(&world, Some(2)).await;
    submit().await.unwrap();
    assert_eq!(is_full(&submit().await.unwrap_err()), Some((2, 2)));
    world.balances().await;
}

async fn whatever_else_begins_a_run_is_refused_by_name_and_nothing_of_it_is_done(mut world: World) {
    world.process.work(4);
    let mission = world.run(BROKEN).await;
    let before = world.finished(mission).await;
    assert_eq!(before.state, RunState::Failed);
    limit(&world, Some(0)).await;
    let full = Refusal::QueueFull { live: 0, most: 0 };

    assert_eq!(world.engine().preview_retry(mission).await.unwrap().refusal, Some(full.clone()));
    let retried = world.engine().retry(mission, None).await;
    assert!(matches!(retried, Err(ControlError::Refused(refusal)) if refusal == full));
    let wanted = ForkWish { from_node: "bad".to_owned(), version: None, input_patch: None };
    let request = world.engine().fork_request(mission, &wanted).await.unwrap();
    let forked = world.engine().fork(&request, None).await;
    assert!(matches!(forked, Err(ControlError::Refused(refusal)) if refusal == full));
    let said = world.engine().say(&wish(mission, "go on", None)).await;
    assert!(matches!(said, Err(MessageError::Refused(MessageRefusal::Refused(refusal))) if refusal == full));

    let letters = world.store().dead_letters(Some(world.tenant), None, 10).await.unwrap();
    let order = RedriveOrder {
        owner_id: world.tenant,
        actor: new_id::<KeyKind>(),
        tenant_id: Some(world.tenant),
        fingerprint: letters[0].fingerprint.clone(),
        per_second: 10,
        limit: 10,
        idempotency_key: None,
    };
    let (action, _) = world.engine().order_redrive(&order).await.unwrap();
    world.engine().redrive_due(&CancellationToken::new()).await.unwrap();
    let counts = world.store().bulk_counts(&[action.id]).await.unwrap();
    let told: BTreeMap<_, _> = counts.iter().map(|count| (count.reason.clone(), count.outcome)).collect();
    assert_eq!(told, BTreeMap::from([(Some("queue-full".to_owned()), BulkOutcome::Refused)]));
    assert!(world.store().bulk_action(BulkScope::All, action.id).await.unwrap().is_some());

    let after = world.mission(mission).await;
    assert_eq!((after.run_id, after.last_seq, after.state), (before.run_id, before.last_seq, RunState::Failed));
    limit(&world, Some(1)).await;
    world.engine().say(&wish(mission, "go on", None)).await.unwrap();
    world.balances().await;
}

async fn a_schedule_that_finds_its_tenants_queue_full_says_so_and_goes_on(mut world: World) {
    world.process.work(4);
    world.put(NAP).await;
    let now = world.engine().clock().now();
    let schedule = Schedule {
        id: new_id(),
        tenant_id: world.tenant,
        name: "yearly".to_owned(),
        cron: "0 0 1 1 *".to_owned(),
        zone: "Europe/Berlin".to_owned(),
        workflow: "nap".to_owned(),
        input: Some(json!({})),
        budget_ucr: None,
        on_exhausted: None,
        priority: 0,
        tags: None,
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
    };
    let made = world.engine().create_schedule(schedule).await.unwrap();
    let fire = async || {
        let sql = "update schedules set next_at = $2, due_at = $2 where id = $1";
        world.store().execute(sql, &[made.id.into(), world.engine().clock().now().into()]).await.unwrap();
        world.engine().fire_due().await.unwrap();
        world.store().schedule(Some(world.tenant), made.id).await.unwrap().unwrap()
    };
    limit(&world, Some(0)).await;
    let row = fire().await;
    assert_eq!((row.fired, row.refused, missions(&world).await), (0, 1, 0));
    assert_eq!(row.last_error.unwrap()["code"], "queue-full");
    limit(&world, None).await;
    let row = fire().await;
    assert_eq!((row.fired, row.refused, row.last_error, missions(&world).await), (1, 1, None, 1));
    world.balances().await;
}
