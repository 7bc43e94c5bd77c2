//! Agent steps of many calls on real stores: the documented examples run, crashes buy nothing twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::credits::Ucr;
use bursar_domain::id::MissionId;
use bursar_domain::outcome::ToolEffects;
use bursar_domain::state::{RunState, TaskState};
use bursar_workers::Providers;
use bursar_workers::providers::{CallJournal, SimulatedConfig};
use bursar_workers::tools::{Tool, ToolError, Tools};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{LEASE, PATIENCE, Process, Queues, World};

on_both_stores!(idle:
    every_example_of_the_page_runs,
    each_repair_is_a_call_that_is_billed,
    an_output_that_stays_wrong_fails_for_good_and_costs_nothing,
    a_worker_that_vanishes_between_repairs_leaves_its_answers_to_the_next,
    a_crash_in_a_loop_of_five_tool_calls_buys_and_runs_nothing_twice,
    a_tool_call_of_unknown_fate_is_not_run_again,
);

/// The page that explains agent steps.
const PAGE: &str = include_str!("../../docs/agent-step.md");

/// The workflows on the page.
fn examples() -> Vec<&'static str> {
    PAGE.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

async fn every_example_of_the_page_runs(mut world: World) {
    world.process.work_with(with(&Probe::new("http_get", ToolEffects::None)), 8, LEASE);
    assert!(!examples().is_empty());
    for example in examples() {
        let mission = world.run(example).await;
        let over = world.finished(mission).await;
        assert_eq!(over.state, RunState::Succeeded, "{example}: {:?}", over.error);
    }
    world.balances().await;
}

/// A world with credits and without workers.
async fn idle(storage: Storage) -> World {
    let world = World::new(storage, Queues::Memory).await;
    world.grant(1_000).await;
    world
}

/// One step whose answer must be a plan; `directive` is for the simulated model.
fn plan(directive: &str) -> String {
    format!(
        "{{workflow: plan, flat_fee: 0, schemas: {{Plan: {{type: object, required: [title, files], \
          properties: {{title: {{type: string}}, files: {{type: array, items: {{type: string}}}}}}}}}}, \
          agents: {{a: {{instructions: be kind, model: simulated-small, max_output_tokens: 100}}}}, \
          nodes: {{ask: {{agent: a, prompt: 'plan [[simulate {directive}]]', output: {{schema: Plan, repair: 2}}, \
          retry: {{max_attempts: 1}}}}, then: {{needs: [ask], transform: {{first: '{{{{ nodes.ask.output.files[0] }}}}'}}}}}}}}"
    )
}

/// Number, attempt, state and whether it is billed, of each call of the mission.
async fn calls(world: &World, mission: MissionId) -> Vec<(i64, i64, String, bool)> {
    let run = world.mission(mission).await.run_id;
    let calls = world.store().calls_of_run(run, 100).await.unwrap();
    let mut seen: Vec<_> =
        calls.iter().map(|call| (call.number, call.attempt, call.state.clone(), call.billable)).collect();
    seen.sort();
    seen
}

/// Waits until that many calls of the mission were sent.
async fn sent(world: &World, mission: MissionId, count: usize) {
    let look = || async { (calls(world, mission).await.len() >= count).then_some(()) };
    eventually("the calls are sent", PATIENCE, look).await;
}

/// Runs the mission on a process that vanishes as soon as that many of its calls were sent; then on another one.
async fn vanish_after(world: &mut World, yaml: &str, count: usize) -> MissionId {
    let providers = Providers::builder().simulated_with(SimulatedConfig { word_delay_ms: 0 }).build().unwrap();
    vanish(world, providers, yaml, async |world, mission| sent(world, mission, count).await).await
}

/// Runs the mission on a process that vanishes when it is time to; then on another one. Both have these providers.
async fn vanish(
    world: &mut World,
    providers: Providers,
    yaml: &str,
    time_to: impl AsyncFn(&World, MissionId),
) -> MissionId {
    // a process in a runtime of its own, which is torn down under it
    let (url, doomed_providers) = (world.place.url(), providers.clone());
    let doomed = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = doomed.spawn(async move {
        let mut process = Process::start(&url, None).await;
        process.work_with(doomed_providers, 2, LEASE);
        process
    });
    let process = started.await.unwrap();
    let mission = world.run(yaml).await;
    time_to(world, mission).await;
    doomed.shutdown_timeout(Duration::ZERO);
    drop(process);
    world.process.work_with(providers, 2, LEASE);
    mission
}

async fn each_repair_is_a_call_that_is_billed(mut world: World) {
    world.process.work(8);
    let mission = world.run(&plan("wrong_json=2")).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let billed = |number| (number, 1, "done".to_owned(), true);
    assert_eq!(calls(&world, mission).await, [billed(1), billed(2), billed(3)]);
    let ask = world.task(mission, "ask").await;
    let output = ask.output.clone().unwrap();
    assert_eq!(world.task(mission, "then").await.output.unwrap(), json!({"first": output["files"][0]}));
    let rows = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    assert_eq!(ask.cost_ucr, rows.iter().map(|call| call.cost_ucr).sum::<Ucr>());
    world.balances().await;
}

async fn an_output_that_stays_wrong_fails_for_good_and_costs_nothing(mut world: World) {
    world.process.work(8);
    let mission = world.run(&plan("json={\"title\":\"hidden\",\"files\":[7]}")).await;
    let over = world.finished(mission).await;
    let error = over.error.clone().unwrap();
    assert_eq!((over.state, &error["code"]), (RunState::Failed, &json!("output_invalid")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("/files/0") && !message.contains("hidden"), "{message}");
    let states: Vec<_> =
        calls(&world, mission).await.into_iter().map(|(_, _, state, billed)| (state, billed)).collect();
    let not_billed = |state: &str| (state.to_owned(), false);
    assert_eq!(states, [not_billed("done"), not_billed("done"), not_billed("rejected")]);
    let ask = world.task(mission, "ask").await;
    assert_eq!((ask.state, ask.attempt, over.spent_ucr), (TaskState::Failed, 1, Ucr::ZERO));
    world.balances().await;
}

async fn a_worker_that_vanishes_between_repairs_leaves_its_answers_to_the_next(mut world: World) {
    let mission = vanish_after(&mut world, &plan("wrong_json=2 delay_ms=700"), 2).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let seen = calls(&world, mission).await;
    let expected = [(1, 1, "done", true), (2, 1, "lost", false), (2, 2, "done", true), (3, 2, "done", true)];
    assert_eq!(seen, expected.map(|(number, attempt, state, billed)| (number, attempt, state.to_owned(), billed)));
    assert_eq!(over.spent_ucr, world.task(mission, "ask").await.cost_ucr);
    world.balances().await;
}

/// A tool that notes what it was asked. Asked for number 3 the first time, it hangs if it is told to.
#[derive(Debug, Clone)]
struct Probe {
    name: &'static str,
    effects: ToolEffects,
    parameters: Value,
    hangs_at: Option<i64>,
    ran: Arc<Mutex<Vec<i64>>>,
}

impl Probe {
    fn new(name: &'static str, effects: ToolEffects) -> Self {
        let parameters = json!({"type": "object"});
        Self { name, effects, parameters, hangs_at: None, ran: Arc::default() }
    }

    fn ran(&self) -> Vec<i64> {
        self.ran.lock().unwrap().clone()
    }
}

#[async_trait]
impl Tool for Probe {
    fn name(&self) -> &str {
        self.name
    }

    fn description(&self) -> &'static str {
        "Looks."
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn effects(&self) -> ToolEffects {
        self.effects
    }

    async fn call(&self, arguments: &Value) -> Result<String, ToolError> {
        let number = arguments["n"].as_i64().unwrap_or(0);
        self.ran.lock().unwrap().push(number);
        if self.hangs_at == Some(number) {
            std::future::pending::<()>().await;
        }
        Ok(format!("saw {number}"))
    }
}

fn with(probe: &Probe) -> Providers {
    with_journal(probe, CallJournal::default())
}

fn with_journal(probe: &Probe, journal: CallJournal) -> Providers {
    let tools = Tools::default().with(Arc::new(probe.clone())).unwrap();
    let simulated = SimulatedConfig { word_delay_ms: 0 };
    Providers::builder().simulated_with(simulated).simulated_journal(journal).tools(tools).build().unwrap()
}

/// One step that calls a tool in each of five turns and then answers.
fn five_tool_calls(delay_ms: u64) -> String {
    format!(
        "{{workflow: loop, flat_fee: 0, agents: {{a: {{instructions: be kind, model: simulated-small, \
          max_output_tokens: 100, tools: [look]}}}}, nodes: {{ask: {{agent: a, retry: {{max_attempts: 1}}, \
          prompt: 'go [[simulate tool=look args={{\"n\":$n}} tool_turns=5 tokens=9 delay_ms={delay_ms}]]'}}}}}}"
    )
}

/// The kinds of the mission's events, those of tools only.
async fn tool_events(world: &World, mission: MissionId) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for event in world.store().events(mission, 0, 100).await.unwrap() {
        if event.kind.starts_with("task.tool") {
            *kinds.entry(event.kind).or_default() += 1;
        }
    }
    kinds
}

async fn a_crash_in_a_loop_of_five_tool_calls_buys_and_runs_nothing_twice(mut world: World) {
    let (probe, journal) = (Probe::new("look", ToolEffects::Once), CallJournal::default());
    let providers = with_journal(&probe, journal.clone());
    let asked = journal.clone();
    // in the middle of the third call: two are answered, two tools have run
    let third = async |_: &World, _: MissionId| {
        let look = || async { (asked.requests().len() >= 3).then_some(()) };
        eventually("the third call is sent", PATIENCE, look).await;
    };
    let mission = vanish(&mut world, providers, &five_tool_calls(500), third).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    assert_eq!(probe.ran(), [1, 2, 3, 4, 5], "each tool call ran once");
    let mut sent: BTreeMap<String, usize> = BTreeMap::new();
    journal.requests().into_iter().for_each(|hash| *sent.entry(hash).or_default() += 1);
    assert_eq!(sent.len(), 6, "six different calls");
    assert_eq!(sent.values().sum::<usize>(), 7, "of which the one in flight was sent again");
    assert_eq!(sent[&journal.requests()[0]], 1);
    let seen = calls(&world, mission).await;
    let billed: Vec<_> = seen.iter().filter(|call| call.3).map(|call| (call.0, call.1)).collect();
    assert_eq!(billed, [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 2)], "numbers and the attempts that bought them");
    let both = [("task.tool_call".to_owned(), 5), ("task.tool_result".to_owned(), 5)];
    assert_eq!(tool_events(&world, mission).await, BTreeMap::from(both));
    // the same as undisturbed
    let undisturbed = world.run(&five_tool_calls(0).replace("workflow: loop", "workflow: calm")).await;
    let calm = world.finished(undisturbed).await;
    assert_eq!(world.task(mission, "ask").await.usage, world.task(undisturbed, "ask").await.usage);
    assert_eq!((over.spent_ucr, calm.state), (calm.spent_ucr, RunState::Succeeded));
    world.balances().await;
}

async fn a_tool_call_of_unknown_fate_is_not_run_again(mut world: World) {
    let mut probe = Probe::new("look", ToolEffects::Once);
    probe.hangs_at = Some(3);
    let ran = probe.clone();
    let third = async |_: &World, _: MissionId| {
        let look = || async { (ran.ran().len() >= 3).then_some(()) };
        eventually("the third tool runs", PATIENCE, look).await;
    };
    let mission = vanish(&mut world, with(&probe), &five_tool_calls(0), third).await;
    let over = world.finished(mission).await;
    assert_eq!((over.state, &over.error.unwrap()["code"]), (RunState::Failed, &json!("tool_fate_unknown")));
    assert_eq!(probe.ran(), [1, 2, 3], "not once more");
    assert_eq!(over.spent_ucr, Ucr::ZERO);
    let rejected = calls(&world, mission).await.into_iter().filter(|call| call.2 == "rejected").count();
    assert_eq!(rejected, 0, "no answer is to blame");
    world.balances().await;
}
