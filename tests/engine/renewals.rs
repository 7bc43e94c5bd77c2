//! Missions that go on after they were over, on both stores: what a preview shows is what then happens.

use bursar::engine::{ControlError, ForkWish};
use bursar_domain::credits::Ucr;
use bursar_domain::flow::{Order, Ordered, Plan, Preview, Refusal};
use bursar_domain::id::MissionId;
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::state::{RunState, TaskState};
use serde_json::json;

use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, World};

on_both_stores!(World::on:
    a_retry_does_what_its_preview_shows,
    a_retry_without_credits_changes_nothing,
    a_cancelled_mission_goes_on_and_pays_each_call_once,
    a_fork_does_what_its_preview_shows,
    a_fork_with_another_input_keeps_the_old_run_as_it_was,
    a_cancel_does_what_its_preview_shows,
    an_order_is_carried_out_once,
);

/// `bad` fails for good in its first attempt and succeeds in its second.
const SHAKY: &str = "{workflow: shaky, flat_fee: 2, inputs: {type: object, properties: {word: {type: string}}}, \
    agents: {a: {instructions: be kind, model: simulated-large, max_output_tokens: 80}}, \
    nodes: {good: {agent: a, prompt: 'say {{ inputs.word|default(\"x\") }} [[simulate tokens=10]]'}, \
            bad: {needs: [good], agent: a, retry: {max_attempts: 1}, prompt: 'go on [[simulate fail=permanent times=1 tokens=20]]'}, \
            other: {transform: {word: '{{ inputs.word|default(\"none\") }}'}}, \
            last: {needs: [bad, other], transform: {done: '{{ nodes.other.output.word }}'}}}, \
    outputs: {done: nodes.last.output}}";

async fn failed(world: &World) -> MissionId {
    let mission = world.run(SHAKY).await;
    assert_eq!(world.finished(mission).await.state, RunState::Failed);
    // the sibling may have been ended with the run; then it is renewed with it
    mission
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.nodes.iter().map(|node| node.node.as_str()).collect()
}

/// What is held at once and what runs is what was shown.
async fn is_as_shown(world: &World, mission: MissionId, shown: &Preview) {
    let now = world.mission(mission).await;
    assert_eq!((now.held_ucr, now.tasks_done), (shown.plan.hold_needed, shown.plan.kept));
    let tasks = world.tasks(mission).await;
    let open = tasks.iter().filter(|task| !task.state.is_final());
    let told: Vec<_> = open.map(|task| (task.node.as_str(), task.state != TaskState::Pending, task.held_ucr)).collect();
    let plan: Vec<_> = shown.plan.nodes.iter().map(|node| (node.node.as_str(), node.begins, node.hold)).collect();
    assert_eq!(told, plan);
    assert_eq!(shown.refusal, None);
    world.balances().await;
    verify(world).await;
}

/// What was charged in the end lies within what was shown.
fn costs_what_was_shown(shown: &Preview, charged: Ucr) {
    let sum = |cost: fn(&bursar_domain::flow::PlannedNode) -> Ucr| {
        shown.plan.nodes.iter().map(cost).sum::<Ucr>().saturating_add(shown.plan.fee)
    };
    let (low, expected, high) = (sum(|node| node.low), sum(|node| node.expected), sum(|node| node.high));
    assert!(low <= charged && charged <= high, "{charged} is not between {low} and {high}");
    assert!(low <= expected && expected <= high);
}

async fn verify(world: &World) {
    let report = bursar::verify::verify(world.store()).await.unwrap();
    assert_eq!(report.violations, []);
}

async fn a_retry_does_what_its_preview_shows(mut world: World) {
    let mission = failed(&world).await;
    world.process.drain(PATIENCE).await;
    let before = world.mission(mission).await;
    let shown = world.engine().preview_retry(mission).await.unwrap();
    assert_eq!(world.mission(mission).await, before, "a preview changes nothing");
    assert!(names(&shown.plan).starts_with(&["bad"]) || names(&shown.plan).contains(&"bad"));
    let Ordered::Done(plan) = world.engine().retry(mission, None).await.unwrap() else { panic!("there was no key") };
    assert_eq!(plan, shown.plan);
    is_as_shown(&world, mission, &shown).await;
    assert_eq!(world.mission(mission).await.run_id, before.run_id);

    world.process.work(4);
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.retries, over.held_ucr), (RunState::Succeeded, 1, Ucr::ZERO));
    costs_what_was_shown(&shown, Ucr::new(over.spent_ucr.get() - before.spent_ucr.get()));
    let (good, bad) = (world.task(mission, "good").await, world.task(mission, "bad").await);
    assert_eq!((good.attempt, bad.attempt, bad.failures), (1, 2, 0));
    assert_eq!(over.spent_ucr.get(), 2_000_000 + good.cost_ucr.get() + bad.cost_ucr.get());
    world.balances().await;
    verify(&world).await;
}

async fn a_retry_without_credits_changes_nothing(mut world: World) {
    let mission = failed(&world).await;
    world.process.drain(PATIENCE).await;
    let wallet = world.store().wallet(None, world.wallet, world.engine().clock().now()).await.unwrap().unwrap();
    let shown = world.engine().preview_retry(mission).await.unwrap();
    // all but one µcr less than what is needed
    let hold = wallet.available_ucr.get() - shown.plan.hold_needed.get() + 1;
    let text = format!("{{workflow: hungry, flat_fee: '{}', nodes: {{nap: {{sleep: 1h}}}}}}", Ucr::new(hold));
    let hungry = world.run(&text).await;
    let before = (world.mission(mission).await, world.tasks(mission).await);
    let refused = world.engine().retry(mission, None).await;
    let is_short = |refusal: &Refusal| matches!(refusal, Refusal::Ledger(LedgerRefusal::Insufficient { required, .. }) if *required == shown.plan.hold_needed);
    assert!(matches!(&refused, Err(ControlError::Refused(refusal)) if is_short(refusal)), "{refused:?}");
    assert!(world.engine().preview_retry(mission).await.unwrap().refusal.is_some_and(|refusal| is_short(&refusal)));
    assert_eq!((world.mission(mission).await, world.tasks(mission).await), before);
    world.engine().cancel(hungry, None).await.unwrap();
    assert!(matches!(world.engine().retry(mission, None).await, Ok(Ordered::Done(_))));
    verify(&world).await;
}

async fn a_cancelled_mission_goes_on_and_pays_each_call_once(mut world: World) {
    // two calls: the first is answered, the second never ends in the first attempt
    let text = "{workflow: long, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 60}}, \
                nodes: {one: {agent: a, prompt: 'one [[simulate tokens=10]]'}, \
                        two: {needs: [one], agent: a, prompt: 'two [[simulate tokens=10 stall times=1 after_tokens=5]]'}}}";
    let mission = world.run(text).await;
    world.task_when(mission, "two", "running", |task| task.state == TaskState::Running).await;
    world.engine().cancel(mission, None).await.unwrap();
    let cancelled = world.finished(mission).await;
    let one = world.task(mission, "one").await;
    world.process.drain(PATIENCE).await;
    let shown = world.engine().preview_retry(mission).await.unwrap();
    assert_eq!((names(&shown.plan), shown.plan.kept), (vec!["two"], 1));
    world.engine().retry(mission, None).await.unwrap();
    is_as_shown(&world, mission, &shown).await;
    world.process.work(2);
    let over = world.finished(mission).await;
    let two = world.task(mission, "two").await;
    assert_eq!((over.state, two.attempt), (RunState::Succeeded, 2));
    assert_eq!(over.spent_ucr.get(), one.cost_ucr.get() + two.cost_ucr.get());
    let stopped = cancelled.spent_ucr.get() - one.cost_ucr.get();
    let bought = world.store().calls_of_run(over.run_id, 10).await.unwrap();
    let billed: i64 = bought.iter().filter(|call| call.billable).map(|call| call.cost_ucr.get()).sum();
    assert_eq!(billed, over.spent_ucr.get(), "what was stopped stays paid ({stopped}), the rest is paid once");
    world.balances().await;
    verify(&world).await;
}

async fn a_fork_does_what_its_preview_shows(mut world: World) {
    let mission = failed(&world).await;
    // the fork begins where attempts are counted anew: what failed for good once fails again, so the input says otherwise
    world.process.drain(PATIENCE).await;
    let before = world.mission(mission).await;
    let wish = ForkWish { from_node: "good".to_owned(), ..ForkWish::default() };
    let request = world.engine().fork_request(mission, &wish).await.unwrap();
    let shown = world.engine().preview_fork(&request).await.unwrap();
    assert_eq!(world.mission(mission).await, before, "a preview changes nothing");
    assert!(names(&shown.plan).contains(&"good") && names(&shown.plan).contains(&"last"));
    assert!(matches!(world.engine().fork(&request, None).await, Ok(Ordered::Done(_))));
    is_as_shown(&world, mission, &shown).await;
    let forked = world.mission(mission).await;
    assert_eq!((forked.run_number, forked.run_id), (2, request.run_id));

    world.process.work(4);
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Failed, "its first attempt fails in every run");
    world.process.drain(PATIENCE).await;
    let again = world.engine().preview_retry(mission).await.unwrap();
    world.engine().retry(mission, None).await.unwrap();
    is_as_shown(&world, mission, &again).await;
    world.process.work(4);
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded);
    costs_what_was_shown(&shown, Ucr::new(over.spent_ucr.get() - before.spent_ucr.get()));
    world.balances().await;
    verify(&world).await;
}

async fn a_fork_with_another_input_keeps_the_old_run_as_it_was(world: World) {
    let text = SHAKY.replace("fail=permanent times=1 ", "");
    let workflow = world.put(&text).await;
    let mission = world.submit_with(workflow.id, json!({"word": "first"})).await;
    let first = world.finished(mission).await;
    assert_eq!(world.task(mission, "last").await.output, Some(json!({"done": "first"})));
    let patch = Some(json!({"word": "second"}));
    let wish = ForkWish { from_node: "other".to_owned(), version: None, input_patch: patch };
    let request = world.engine().fork_request(mission, &wish).await.unwrap();
    let Ordered::Done(plan) = world.engine().fork(&request, None).await.unwrap() else { panic!("there was no key") };
    assert_eq!((names(&plan), plan.kept), (vec!["other", "last"], 2));
    let second = world.finished(mission).await;
    assert_eq!((second.state, second.run_number), (RunState::Succeeded, 2));
    assert_eq!(world.task(mission, "last").await.output, Some(json!({"done": "second"})));
    let (old, new) = (world.store().tasks_of_run(first.run_id, true, 10).await.unwrap(), world.tasks(mission).await);
    assert_eq!(old[0].output, new[0].output, "kept by value");
    assert_eq!((new[0].cost_ucr, new[0].attempt, new[0].state), (Ucr::ZERO, 0, TaskState::Succeeded));
    assert_eq!(second.spent_ucr.get() - first.spent_ucr.get(), 2_000_000, "the fee alone: nothing else was bought");
    assert_eq!(second.input, Some(json!({"word": "second"})));
    let was = world.store().mission_of_run(None, first.run_id).await.unwrap().unwrap();
    assert_eq!((was.input, was.run_number, was.tasks_done), (Some(json!({"word": "first"})), 1, 4));
    // the next fork has the latest input
    let wish = ForkWish { from_node: "last".to_owned(), ..ForkWish::default() };
    let request = world.engine().fork_request(mission, &wish).await.unwrap();
    world.engine().fork(&request, None).await.unwrap();
    assert_eq!(world.finished(mission).await.input, Some(json!({"word": "second"})));
    world.balances().await;
    verify(&world).await;
}

async fn a_cancel_does_what_its_preview_shows(world: World) {
    let text = "{workflow: mixed, flat_fee: 3, agents: {a: {instructions: be kind, model: simulated-small, max_output_tokens: 60}}, \
                nodes: {nap: {sleep: 1h, units: {step: 2}}, stuck: {agent: a, prompt: '[[simulate stall]]'}, \
                        then: {needs: [nap, stuck], agent: a, prompt: 'x'}}}";
    let mission = world.run(text).await;
    world.task_when(mission, "stuck", "running", |task| task.state == TaskState::Running).await;
    let before = world.mission(mission).await;
    let shown = world.engine().preview_cancel(mission).await.unwrap();
    assert_eq!(
        (shown.ends.clone(), shown.stops.clone()),
        (vec!["nap".to_owned(), "then".to_owned()], vec!["stuck".to_owned()])
    );
    assert_eq!(shown.charged, Ucr::ZERO);
    assert_eq!(shown.released.saturating_add(shown.held), before.held_ucr);
    assert_eq!(world.mission(mission).await.state, before.state, "a preview changes nothing");
    world.engine().cancel(mission, None).await.unwrap();
    let states = world.tasks(mission).await;
    for task in states.iter().filter(|task| shown.ends.contains(&task.node)) {
        assert!(task.state.is_final(), "{task:?}");
    }
    assert_eq!(world.finished(mission).await.held_ucr, Ucr::ZERO);
    assert!(matches!(world.engine().preview_cancel(mission).await, Ok(told) if told.ends.is_empty()));
    verify(&world).await;
}

async fn an_order_is_carried_out_once(world: World) {
    let text = SHAKY.replace("fail=permanent times=1 ", "");
    let mission = world.run(&text).await;
    world.finished(mission).await;
    let wish = ForkWish { from_node: "last".to_owned(), ..ForkWish::default() };
    let order = Order { key: "again".to_owned(), hash: "fork last".to_owned() };
    for turn in 0..3 {
        let request = world.engine().fork_request(mission, &wish).await.unwrap();
        let ordered = world.engine().fork(&request, Some(&order)).await.unwrap();
        assert_eq!(matches!(ordered, Ordered::Done(_)), turn == 0);
        let over = world.finished(mission).await;
        assert_eq!((over.run_number, over.spent_ucr.get() % 1_000_000 >= 0), (2, true));
    }
    let other = Order { hash: "something else".to_owned(), ..order };
    let request = world.engine().fork_request(mission, &wish).await.unwrap();
    let refused = world.engine().fork(&request, Some(&other)).await;
    assert!(matches!(refused, Err(ControlError::Refused(Refusal::Ledger(LedgerRefusal::KeyReused(_))))), "{refused:?}");
    let (engine, request) = (world.engine(), &request);
    let many = futures::future::join_all((0..8).map(async |_| engine.fork(request, None).await.is_ok())).await;
    assert_eq!(many.into_iter().filter(|done| *done).count(), 1, "one of many at once");
    world.finished(mission).await;
    world.balances().await;
}
