//! One job that every worker is given: a queue only hints, and the store lets one of them have it.

use std::time::Duration;

use bursar::queue::ReadyTask;
use bursar::store::read::ReadyRow;
use bursar_domain::state::RunState;
use bursar_workers::Providers;
use serde_json::Value;

use super::ending;
use crate::support::stores::Storage;
use crate::support::world::{Process, Queues, World};

const LONG: Duration = Duration::from_mins(2);

fn simulated() -> Providers {
    Providers::builder().simulated().build().unwrap()
}

const STEPS: &str = "
workflow: steps
flat_fee: 0
agents: { a: { instructions: be kind, model: simulated-small, max_output_tokens: 20 } }
nodes:
  ask: { agent: a, prompt: '[[simulate delay_ms=30 tokens=3]]' }
  last: { needs: [ask], transform: { x: 1 }, units: { step: 1 } }
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_gives_every_job_to_ten_workers_twice_has_each_done_and_billed_once() {
    let mut world = World::new(Storage::Postgres, Queues::Memory).await;
    world.grant(1_000).await;
    let workflow = world.put(STEPS).await;
    // each process has a queue of its own, and all are filled with everything
    let mut others: Vec<Process> = Vec::new();
    for _ in 1..10 {
        others.push(world.another_process().await);
    }
    let missions = world.submit_many(workflow.id, 100).await;
    let tasks = world.store().ready_tasks("agent", world.engine().clock().now(), 1_000).await.unwrap();
    assert_eq!(tasks.len(), 100);
    // leases that no machine is too slow to renew: whatever begins twice was given twice
    world.process.work_with(simulated(), 4, LONG);
    for process in &mut others {
        process.work_with(simulated(), 4, LONG);
    }
    let engines: Vec<_> = others.iter().map(|process| process.engine.clone()).chain([world.engine().clone()]).collect();
    // and once more with what is being done already
    let job = |row: &ReadyRow| ReadyTask {
        task_id: row.id,
        tenant_id: row.tenant_id,
        pool: row.pool.clone(),
        weight: 1,
        priority: row.priority,
        ready_at: row.ready_at,
    };
    let jobs: Vec<ReadyTask> = tasks.iter().map(job).collect();
    for _ in 0..2 {
        for engine in &engines {
            engine.queue().push(&jobs).await.unwrap();
        }
    }
    for mission in &missions {
        assert_eq!(world.finished(*mission).await.state, RunState::Succeeded);
    }
    let delivered: u64 = engines.iter().map(|engine| engine.metrics().claim_sources().1).sum();
    println!("claims that were granted: {delivered}");
    let again = world.store().rows("select id, node, attempt from tasks where attempt <> 1", &[]).await.unwrap();
    assert_eq!(again, [Value::Null; 0], "each was begun once");
    ending::holds(world.store()).await;
    for process in others {
        process.stop().await;
    }
}
