//! More than one hand on the same task: settlers of one attempt at once, and one job that every worker is given.

use bursar::queue::ReadyTask;
use bursar::store::read::ReadyRow;
use bursar_domain::flow::{self, Refusal};
use bursar_domain::state::RunState;
use serde_json::{Value, json};

use super::ending;
use crate::support::hand::{Hand, SeededChance, decide_with, succeeded};
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Process, Queues, World};

const PAID: &str = "{workflow: paid, flat_fee: 0, nodes: {only: {transform: {done: 1}, units: {step: 1}}}}";

on_both_stores!(Hand::new:
    settlers_of_one_task_at_once_settle_it_once_and_strangers_not_at_all,
);

async fn settlers_of_one_task_at_once_settle_it_once_and_strangers_not_at_all(mut hand: Hand) {
    hand.grant(100).await;
    let workflow = hand.put(PAID).await;
    for round in 0..50_u64 {
        let (_, ready) = hand.start(workflow).await;
        let (claimed, token) = hand.claim(&ready).await;
        let settles = (0..6_u64).map(|number| {
            let (store, facts, now) = (hand.store.clone(), hand.facts.clone(), hand.now);
            let want = hand.settle_want(&claimed[0]);
            // each with an answer of its own; the last two with a secret that is not the task's
            let is_stranger = number > 3;
            let mut guard = claimed[0].guard(&token);
            if is_stranger {
                guard = claimed[0].guard("somebody else's");
            }
            let outcome = succeeded(json!({"by": number}));
            let request = flow::SettleRequest { guard, outcome, handoff: None, cache: None, prompt: None };
            tokio::spawn(async move {
                let mut chance = SeededChance::new(round);
                chance.skip_ids(1_000_000 * (round + 1) + 1_000 * number);
                let settle = decide_with(&*store, &facts, now, &mut chance, &want, |turn| flow::settle(turn, &request));
                (is_stranger, settle.await.unwrap())
            })
        });
        let mut first = 0;
        for answer in futures::future::join_all(settles).await {
            let (is_stranger, answer) = answer.unwrap();
            match answer {
                Ok(settlement) => {
                    assert!(!is_stranger, "a stranger settled");
                    first += usize::from(!settlement.repeated);
                }
                Err(refusal) => assert!(is_stranger && matches!(refusal, Refusal::StaleFence { .. }), "{refusal:?}"),
            }
        }
        assert_eq!(first, 1, "one of them settles, the others are told what was settled");
    }
    assert_eq!(hand.count("ops where kind = 'settle'").await, 50);
    assert_eq!(hand.count("events where kind = 'task.succeeded'").await, 50);
    ending::holds(&hand.store).await;
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
    world.process.work(4);
    for process in &mut others {
        process.work(4);
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
