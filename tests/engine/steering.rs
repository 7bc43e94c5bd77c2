//! Messages that steer a step which is under way, on both stores, while its worker vanishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::id::MissionId;
use bursar_domain::outcome::ToolEffects;
use bursar_domain::state::RunState;
use bursar_workers::Providers;
use bursar_workers::providers::{CallJournal, SimulatedConfig};
use bursar_workers::tools::{Tool, ToolError, Tools};
use serde_json::{Value, json};

use super::messages::{say, talk};
use crate::support::eventually;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};

on_both_stores!(idle:
    a_crash_in_a_steered_loop_of_tool_calls_asks_the_very_same_again,
);

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// A tool that does nothing.
#[derive(Debug)]
struct Look(Value);

#[async_trait]
impl Tool for Look {
    fn name(&self) -> &'static str {
        "look"
    }

    fn description(&self) -> &'static str {
        "Looks."
    }

    fn parameters(&self) -> &Value {
        &self.0
    }

    fn effects(&self) -> ToolEffects {
        ToolEffects::Once
    }

    async fn call(&self, arguments: &Value) -> Result<String, ToolError> {
        Ok(format!("saw {}", arguments["n"]))
    }
}

fn providers(journal: CallJournal) -> Providers {
    let tools = Tools::default().with(Arc::new(Look(json!({"type": "object"})))).unwrap();
    let simulated = SimulatedConfig { word_delay_ms: 0 };
    Providers::builder().simulated_with(simulated).simulated_journal(journal).tools(tools).build().unwrap()
}

/// Of each call that is billed: its number, the attempt that bought it, and up to which message it had heard.
async fn billed(world: &World, mission: MissionId) -> Vec<(i64, i64, i64)> {
    let sql = "select number, attempt, heard from usage_calls where mission_id = $1 and state = 'done' order by number";
    let rows = world.store().rows(sql, &[mission.into()]).await.unwrap();
    let field = |row: &Value, name: &str| row[name].as_i64().unwrap();
    rows.iter().map(|row| (field(row, "number"), field(row, "attempt"), field(row, "heard"))).collect()
}

async fn a_crash_in_a_steered_loop_of_tool_calls_asks_the_very_same_again(mut world: World) {
    let journal = CallJournal::default();
    let text = "{workflow: loop, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, \
        max_output_tokens: 100, tools: [look]}}, nodes: {ask: {agent: a, retry: {max_attempts: 1}, \
        prompt: 'go [[simulate tool=look args={\"n\":$n} tool_turns=5 tokens=9 delay_ms=400]]'}}}";
    let (url, doomed_providers) = (world.place.url(), providers(journal.clone()));
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = doomed.spawn(async move {
        let mut process = Process::start(&url, None).await;
        process.work_with(doomed_providers, 2, LEASE);
        process
    });
    let process = started.await.unwrap();
    let mission = world.run(text).await;
    let sent = async |count: usize| {
        let look = || async { (journal.requests().len() >= count).then_some(()) };
        eventually("the calls are sent", PATIENCE, look).await;
    };
    sent(2).await;
    say(&world, mission, "Only three words [[simulate tokens=3]]").await;
    sent(4).await;
    doomed.shutdown_timeout(Duration::ZERO);
    drop(process);
    world.process.work_with(providers(journal.clone()), 2, LEASE);
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);

    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    journal.requests().into_iter().for_each(|hash| *asked.entry(hash).or_default() += 1);
    assert_eq!((asked.len(), asked.values().sum::<usize>()), (6, 7), "six calls, the one in flight a second time");
    assert_eq!(
        billed(&world, mission).await,
        [(1, 1, 0), (2, 1, 0), (3, 1, 1), (4, 2, 1), (5, 2, 1), (6, 2, 1)],
        "the third was the first to hear of it, in both attempts"
    );
    let rows = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    let last = rows.iter().find(|call| call.number == 6).unwrap();
    assert_eq!(last.usage.unwrap().output_tokens, 3, "and the answer is as it was told");
    assert_eq!(talk(&world, mission).await.len(), 2);
    world.balances().await;
}
