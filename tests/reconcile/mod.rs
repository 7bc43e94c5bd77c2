//! The reconciliation: a world where nothing was tampered with agrees, and each kind of difference is named by its id, on
//! both stores and both queues.

use std::process::Command;
use std::time::Duration;

use bursar::queue::{QueueError, ReadyTask, Running};
use bursar::reconcile::{PoolComparison, Reconciliation, reconcile};
use bursar::store::Arg;
use bursar_domain::id::TaskId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::eventually;
use crate::support::stores::Storage;
use crate::support::world::{Queues, World};

const POOL: &str = "agent";
const PATIENCE: Duration = Duration::from_secs(20);
/// One priced step of a pool that can be left without workers, and a fee.
const WORKFLOW: &str = r#"
workflow: compared
flat_fee: 1
agents: { writer: { model: simulated-large, instructions: "You write.", max_output_tokens: 60 } }
nodes:
  draft: { agent: writer, prompt: "Draft. [[simulate tokens=10]]", units: { step: 2 } }
"#;

async fn look(world: &World) -> Reconciliation {
    reconcile(world.store(), Some(world.engine().queue()), world.engine().clock()).await.unwrap()
}

fn pool(report: &Reconciliation) -> &PoolComparison {
    let pools = &report.queue.as_ref().expect("the queue was asked").pools;
    pools.iter().find(|pool| pool.pool == POOL).unwrap_or_else(|| panic!("{}", report.to_text()))
}

/// The id in the first row.
async fn id(world: &World, sql: &str) -> String {
    let rows = world.store().rows(sql, &[]).await.unwrap();
    rows.first().unwrap_or_else(|| panic!("no row: {sql}"))["id"].as_str().unwrap().to_owned()
}

/// A world with a mission that is over and two that are ready; nobody works or sweeps there any more.
async fn at_rest(storage: Storage, queues: Queues) -> World {
    let mut world = World::working(storage, queues).await;
    let mission = world.run(WORKFLOW).await;
    world.finished(mission).await;
    world.process.drain(Duration::from_secs(5)).await;
    world.process.stop_sweep().await;
    let workflow = world.put(WORKFLOW).await;
    for _ in 0..2 {
        world.submit(workflow.id).await;
    }
    eventually("the queue knows both", PATIENCE, || async {
        (world.engine().queue().depth(POOL).await.ok()? == 2).then_some(())
    })
    .await;
    world
}

/// Says that the report tells of this, differs, and gives advice.
fn tells(report: &Reconciliation, id: &str, what: &str) {
    let found = report.differences().iter().any(|told| told.contains(id) && told.contains(what));
    assert!(found, "{id} {what}: {}", report.to_text());
    assert!(!report.agrees);
}

const WORLDS: [(Storage, Queues); 4] = [
    (Storage::Sqlite, Queues::Memory),
    (Storage::Sqlite, Queues::Redis),
    (Storage::Postgres, Queues::Memory),
    (Storage::Postgres, Queues::Redis),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_world_reports_nothing() {
    for (storage, queues) in WORLDS {
        let world = at_rest(storage, queues).await;
        let report = look(&world).await;
        assert!(report.agrees, "{storage:?} {queues:?}: {}", report.to_text());
        assert_eq!(report.differences(), Vec::<String>::new());
        assert_eq!((pool(&report).ready, pool(&report).waiting, pool(&report).epoch_stands), (2, 2, true));
        assert_eq!(report.verdict, "queue and store agree, ledger and usage agree");
        let money = report.money.expect("the money was compared");
        let tenant = money.tenants.iter().find(|one| one.tenant_id == world.tenant.to_string()).unwrap();
        assert!(tenant.charged.get() > 0 && tenant.calls.get() > 0 && tenant.units.get() > 0, "{tenant:?}");
        assert_eq!((tenant.fees.get(), tenant.unexplained.get()), (1_000_000, 0), "{tenant:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_at_work_agrees_at_every_look() {
    for queues in [Queues::Memory, Queues::Redis] {
        let world = World::working(Storage::Postgres, queues).await;
        let workflow = world.put(WORKFLOW).await;
        let work = async {
            let missions = world.submit_many(workflow.id, 60).await;
            for mission in missions {
                world.finished(mission).await;
            }
        };
        let is_over = CancellationToken::new();
        let looks = async {
            let mut looks = 0;
            while !is_over.is_cancelled() {
                let report = look(&world).await;
                assert!(report.agrees, "{queues:?}, look {looks}: {}", report.to_text());
                looks += 1;
            }
            looks
        };
        let work = async {
            work.await;
            is_over.cancel();
        };
        let (looks, ()) = futures::future::join(looks, work).await;
        assert!(looks > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ready_task_that_the_queue_lost_is_named() {
    for storage in [Storage::Sqlite, Storage::Postgres] {
        let world = at_rest(storage, Queues::Redis).await;
        let lost = id(&world, "select id from tasks where state = 'ready' order by id").await;
        let mut redis = world.redis.as_ref().unwrap().connection().await.unwrap();
        let key = format!("bursar:{{{POOL}}}:tenant:{}", world.tenant);
        let gone: i64 = redis::cmd("ZREM").arg(key).arg(&lost).query_async(&mut redis).await.unwrap();
        assert_eq!(gone, 1);
        let report = look(&world).await;
        tells(&report, &lost, "the queue does not know it");
        assert_eq!((pool(&report).unknown.count, pool(&report).stale.count), (1, 0));
        assert!(pool(&report).advice[0].contains("the sweep brings these back within a second"), "{report:?}");
    }
    // the memory's queue loses what is popped and neither claimed nor given back
    let world = at_rest(Storage::Sqlite, Queues::Memory).await;
    let popped = world.engine().queue().pop(POOL, 1, Duration::ZERO).await.unwrap();
    world.engine().queue().end(POOL, world.tenant, popped[0]);
    tells(&look(&world).await, &popped[0].to_string(), "the queue does not know it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_the_queue_and_not_ready_is_named() {
    for (storage, queues) in WORLDS {
        let world = at_rest(storage, queues).await;
        let stale = TaskId::from_uuid(Uuid::from_u128(7));
        let task = ReadyTask {
            task_id: stale,
            tenant_id: world.tenant,
            pool: POOL.to_owned(),
            weight: 1,
            priority: 0,
            ready_at: world.engine().clock().now(),
        };
        let over = id(&world, "select id from tasks where state = 'succeeded'").await;
        let again = ReadyTask { task_id: over.parse().unwrap(), ..task.clone() };
        world.engine().queue().push(&[task, again]).await.unwrap();
        let report = look(&world).await;
        tells(&report, &stale.to_string(), "not ready");
        tells(&report, &over, "not ready");
        assert_eq!((pool(&report).stale.count, pool(&report).unknown.count), (2, 0));
        assert!(report.verdict.starts_with("queue and store differ"), "{}", report.verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_is_said_and_put_right_by_the_sweep() {
    let world = at_rest(Storage::Postgres, Queues::Redis).await;
    world.redis.as_ref().unwrap().flush().await;
    let report = look(&world).await;
    assert!(pool(&report).was_emptied && !pool(&report).epoch_stands && !report.agrees, "{}", report.to_text());
    assert_eq!(pool(&report).unknown.count, 2);
    // another process's sweep brings everything back
    let other = world.another_process().await;
    eventually("both agree again", PATIENCE, || async { look(&world).await.agrees.then_some(()) }).await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_by_one_side_only_is_told_and_is_no_difference() {
    for queues in [Queues::Memory, Queues::Redis] {
        let world = at_rest(Storage::Sqlite, queues).await;
        let ghost = Running {
            task_id: TaskId::from_uuid(Uuid::from_u128(9)),
            tenant_id: world.tenant,
            pool: POOL.to_owned(),
            lease_ms: 60_000,
        };
        world.engine().queue().confirm(POOL, &[ghost.task_id], std::slice::from_ref(&ghost)).await.unwrap();
        let report = look(&world).await;
        // beside it may stand what ended a moment ago: that is told with the next pop
        let ids = &pool(&report).running_without_lease.ids;
        assert!(ids.contains(&ghost.task_id.to_string()), "{}", report.to_text());
        assert!(report.agrees, "only the order depends on it: {}", report.to_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_does_not_answer_is_said() {
    let mut world = at_rest(Storage::Sqlite, Queues::Redis).await;
    world.redis.as_mut().unwrap().kill();
    let report = look(&world).await;
    assert!(report.queue.is_none() && !report.agrees && report.missed.len() == 1, "{}", report.to_text());
    assert!(report.money.is_some() && report.missed[0].starts_with(&QueueError(String::new()).to_string()));
}

/// One way to make the ledger and usage differ: finds the row, changes it, says who must be named.
struct Forgery {
    row: &'static str,
    sql: &'static str,
    invariant: &'static str,
    changes_sums: bool,
}

const SETTLED: &str = "select id from tasks where state = 'succeeded'";
const FORGERIES: [Forgery; 5] = [
    Forgery {
        row: SETTLED,
        sql: "update usage_calls set cost_ucr = cost_ucr + 1 where task_id = $1",
        invariant: "I9",
        changes_sums: true,
    },
    Forgery {
        row: SETTLED,
        sql: "update tasks set units_ucr = units_ucr + 5 where id = $1",
        invariant: "I9",
        changes_sums: true,
    },
    Forgery {
        row: "select id from runs where state = 'succeeded'",
        sql: "update runs set fee_ucr = fee_ucr + 1 where id = $1",
        invariant: "I9",
        changes_sums: true,
    },
    Forgery {
        row: "select id from holds where state = 'open' and owner_kind = 'fee' order by id",
        sql: "update runs set fee_hold_id = null where fee_hold_id = $1",
        invariant: "I12",
        changes_sums: false,
    },
    Forgery {
        row: "select id from tasks where state = 'ready' order by id",
        sql: "update tasks set hold_id = null where id = $1",
        invariant: "I12",
        changes_sums: false,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn money_that_differs_is_named_with_its_tenant_and_its_id() {
    for storage in [Storage::Sqlite, Storage::Postgres] {
        for forgery in &FORGERIES {
            let world = at_rest(storage, Queues::Memory).await;
            let row = id(&world, forgery.row).await;
            let changed = world.store().execute(forgery.sql, &[Arg::from(row.as_str())]).await.unwrap();
            assert_eq!(changed, 1, "{}", forgery.sql);
            let report = look(&world).await;
            tells(&report, &row, forgery.invariant);
            let money = report.money.as_ref().unwrap();
            let tenant = world.tenant.to_string();
            assert!(money.differences.iter().all(|one| one.tenant_id.as_ref() == Some(&tenant)), "{money:?}");
            let sums = money.tenants.iter().any(|one| one.tenant_id == tenant && one.unexplained.get() != 0);
            assert_eq!(sums, forgery.changes_sums, "{}: {}", forgery.sql, report.to_text());
            assert!(report.verdict.contains("`bursar verify`"), "{}", report.verdict);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_exits_with_1_when_something_differs() {
    let world = at_rest(Storage::Postgres, Queues::Redis).await;
    let redis = world.redis.as_ref().unwrap().url();
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_bursar"))
            .env_clear()
            .envs([("DATABASE_URL", world.place.url()), ("REDIS_URL", redis.clone())])
            .current_dir(std::env::temp_dir())
            .arg("reconcile")
            .args(words)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&[]);
    assert!(code == Some(0) && text.ends_with("queue and store agree, ledger and usage agree\n"), "{code:?} {text}");
    let lost = id(&world, "select id from tasks where state = 'ready' order by id").await;
    world.redis.as_ref().unwrap().flush().await;
    let (code, text) = run(&["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["agrees"]), (Some(1), &Value::Bool(false)), "{report:#}");
    assert!(report["queue"]["pools"][0]["unknown"]["ids"].to_string().contains(&lost), "{report:#}");
}
