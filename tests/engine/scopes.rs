//! Workflows inside of a run, planned by an agent or named by a node: end to end, on both stores.

use bursar::engine::{PutWorkflowError, Retention, SignalWish};
use bursar_domain::flow::Answer;
use bursar_domain::id::MissionId;
use bursar_domain::state::{RunState, TaskState};
use serde_json::{Value, json};

use crate::support::docs::example;
use crate::support::eventually;
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, World};

on_both_stores!(World::on:
    a_plan_is_carried_out_and_billed_step_by_step,
    a_plan_that_is_sent_back_is_mended_and_its_calls_are_billed,
    a_plan_may_be_planned_further,
    another_workflow_is_pinned_when_it_is_named,
    workflows_that_would_multiply_are_refused,
    a_workflow_for_each_item_of_a_map,
    an_approval_and_a_signal_inside_are_answered_from_outside,
    a_failure_inside_ends_the_mission_and_a_retry_begins_only_that,
    one_that_is_abandoned_goes_on_alone,
    a_cancel_ends_everything_inside_and_gives_the_credits_back,
    what_a_plan_made_goes_with_the_outputs_of_its_run,
    the_examples_of_plans_and_other_workflows_run,
);

async fn run(world: &World, yaml: &str, input: Value) -> (RunState, MissionId) {
    let workflow = world.put(yaml).await;
    let mission = world.submit_with(workflow.id, input).await;
    (world.finished(mission).await.state, mission)
}

/// A step of a plan; its prompt is spelt so that nothing but JSON understands it.
fn step(key: &str, prompt: &str, needs: &[&str]) -> String {
    let letters: Vec<String> = prompt.chars().map(|letter| format!("\\u{:04x}", u32::from(letter))).collect();
    let prompt = letters.concat();
    let needs = json!(needs);
    format!("{{\"key\":\"{key}\",\"agent\":\"hand\",\"prompt\":\"{prompt}\",\"needs\":{needs}}}")
}

/// A plan without blanks.
fn plan(steps: &[String]) -> String {
    format!("{{\"nodes\":[{}]}}", steps.join(","))
}

/// A planner that answers with these steps.
fn team(steps: &[String], more: &str) -> String {
    let plan = plan(steps);
    format!(
        "workflow: team
flat_fee: 0
defaults: {{ model: simulated-small, max_output_tokens: 3000 }}
agents:
  lead: {{ instructions: You plan. }}
  hand: {{ instructions: You work. }}
nodes:
  team:
    plan: {{ agent: lead, agents: [hand], max_nodes: 6, depth: 2 }}
    prompt: 'Plan. [[simulate json={plan}{more}]]'
  tell: {{ needs: [team], transform: '{{{{ nodes.team.output }}}}' }}
"
    )
}

async fn a_plan_is_carried_out_and_billed_step_by_step(world: World) {
    let steps = [step("dig", "dig {{ here }}", &[]), step("rest", "rest", &[]), step("fill", "fill", &["dig", "rest"])];
    let (state, mission) = run(&world, &team(&steps, ""), json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    let team = world.task(mission, "team").await;
    let told = team.output.unwrap();
    assert_eq!(told.as_object().unwrap().keys().collect::<Vec<_>>(), ["fill"], "only what nothing needs is handed on");
    let tasks = world.tasks(mission).await;
    let inside: Vec<&str> =
        tasks.iter().filter(|task| task.parent_id == Some(team.id)).map(|task| task.node.as_str()).collect();
    assert_eq!(inside, ["team", "dig", "rest", "fill"]);
    let billed = tasks.iter().filter(|task| task.cost_ucr.is_positive()).count();
    assert_eq!(billed, 4, "the plan and its three steps");
    world.balances().await;
}

async fn a_plan_that_is_sent_back_is_mended_and_its_calls_are_billed(world: World) {
    let steps = [step("dig", "dig", &[])];
    let (state, mission) = run(&world, &team(&steps, " wrong_json=1"), json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    let run = world.mission(mission).await.run_id;
    let calls = world.store().calls_of_run(run, 100).await.unwrap();
    assert_eq!(calls.iter().filter(|call| call.billable).count(), 3, "a plan, its repair, a step");
    let steps = [step("dig", "dig", &["dug"])];
    let (state, mission) = self::run(&world, &team(&steps, ""), json!({})).await;
    assert_eq!(state, RunState::Failed);
    let error = world.mission(mission).await.error.unwrap();
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("the plan: after 2 repairs") && message.contains("there is no node `dug`"), "{error}");
    world.balances().await;
}

async fn a_plan_may_be_planned_further(world: World) {
    let inner = plan(&[step("deep", "dig", &[])]);
    let part = format!(
        "{{{},\"plan\":true}}",
        step("part", &format!("[[simulate json={inner}]]"), &[]).trim_matches(['{', '}'])
    );
    let (state, mission) = run(&world, &team(&[part], ""), json!({})).await;
    assert_eq!(state, RunState::Succeeded, "{:?}", world.mission(mission).await.error);
    let tasks = world.tasks(mission).await;
    let kinds =
        |node: &str| tasks.iter().filter(|task| task.node == node).map(|task| task.kind.as_str()).collect::<Vec<_>>();
    assert_eq!((kinds("part"), kinds("deep")), (vec!["plan", "agent"], vec!["agent"]));
    assert_eq!(world.task(mission, "team").await.output.unwrap()["part"].as_object().unwrap().len(), 1);
    world.balances().await;
}

const INNER: &str = "workflow: inner
flat_fee: 0
inputs: { type: object, required: [word], properties: { word: { type: string } } }
nodes:
  shout: { when: inputs.word, transform: '{{ inputs.word|upper }}' }
  count: { needs: [shout], transform: { letters: '{{ (nodes.shout.output or \"\")|length }}' } }
outputs: { said: nodes.shout.output, letters: nodes.count.output.letters }
";

async fn another_workflow_is_pinned_when_it_is_named(world: World) {
    world.put(INNER).await;
    let outer = "workflow: outer
flat_fee: 0
nodes:
  call: { workflow: { name: inner, inputs: { word: '{{ inputs.x }}' } } }
  last: { needs: [call], transform: '{{ nodes.call.output.said }} {{ nodes.call.output.letters }}' }
";
    let first = world.put(outer).await;
    assert_eq!(first.definition.as_ref().unwrap()["nodes"]["call"]["workflow"]["name"], "inner@1");
    assert_eq!(world.put(outer).await.id, first.id, "the same content is the same version");
    world.put(&INNER.replace("|upper", "|reverse")).await;
    let mission = world.submit_with(first.id, json!({"x": "hey"})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "last").await.output, Some(json!("HEY 3")));
    let second = world.put(outer).await;
    assert_ne!(second.id, first.id);
    let mission = world.submit_with(second.id, json!({"x": "hey"})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "last").await.output, Some(json!("yeh 3")));
    let mission = world.submit_with(second.id, json!({"x": ""})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "last").await.output, Some(json!("None 0")));
}

async fn workflows_that_would_multiply_are_refused(world: World) {
    let wide = |name: &str, node: &str| {
        let nodes: Vec<String> = (0..100).map(|number| format!("  n{number}: {{ {node} }}\n")).collect();
        format!("workflow: {name}\nflat_fee: 0\nnodes:\n{}", nodes.concat())
    };
    world.put(&wide("one", "transform: 1")).await;
    let two = bursar_domain::workflow::parse(&wide("two", "workflow: one"), bursar_domain::workflow::Syntax::Yaml);
    let refused = world.engine().put_workflow(world.tenant, &two.unwrap()).await;
    let Err(PutWorkflowError::Unresolved(problems)) = refused else { panic!("10,100 nodes were put") };
    assert_eq!((problems[0].code, problems[0].pointer.as_str()), ("too_many", "/nodes"));
    let unknown = bursar_domain::workflow::parse(
        "workflow: three\nnodes: { a: { workflow: { name: one@7 } }, b: { workflow: nobody } }",
        bursar_domain::workflow::Syntax::Yaml,
    );
    let refused = world.engine().put_workflow(world.tenant, &unknown.unwrap()).await;
    let Err(PutWorkflowError::Unresolved(problems)) = refused else { panic!("unknown workflows were put") };
    let told: Vec<(&str, &str)> =
        problems.iter().map(|problem| (problem.pointer.as_str(), problem.message.as_str())).collect();
    assert_eq!(
        told,
        [
            ("/nodes/a/workflow/name", "there is no workflow `one` in version 7"),
            ("/nodes/b/workflow", "there is no workflow `nobody`"),
        ]
    );
}

async fn a_workflow_for_each_item_of_a_map(world: World) {
    world.put(INNER).await;
    let outer = "workflow: outer
flat_fee: 0
nodes:
  each: { map: { over: inputs.words, as: word, max_parallel: 3 }, workflow: { name: inner, inputs: { word: '{{ word }}' } } }
  last: { needs: [each], transform: \"{{ nodes.each.output|map(attribute='said')|join(' ') }}\" }
";
    let words: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
    let (state, mission) = run(&world, outer, json!({"words": words})).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(world.task(mission, "last").await.output, Some(json!(words.join(" ").to_uppercase())));
    // two nodes, and for each item itself, its input and two nodes
    assert_eq!(world.mission(mission).await.tasks_done, 2 + 20 * 4);
    world.balances().await;
}

async fn an_approval_and_a_signal_inside_are_answered_from_outside(world: World) {
    let inner = "workflow: inner
flat_fee: 0
nodes:
  ask: { approval: { show: 'Go on?', expires: 1h } }
  hear: { needs: [ask], signal: { name: paid, expires: 1h } }
  done: { needs: [hear], transform: '{{ nodes.hear.output.amount }}' }
";
    world.put(inner).await;
    let outer = "workflow: outer\nflat_fee: 0\nnodes:\n  call: { workflow: inner }\n";
    let workflow = world.put(outer).await;
    let mission = world.submit_with(workflow.id, json!({})).await;
    let asked = || async {
        let tasks = world.tasks(mission).await;
        tasks.into_iter().find(|task| task.node == "ask" && task.state == TaskState::Waiting)
    };
    let ask = eventually("a person is asked", PATIENCE, asked).await;
    let approval = world.store().approval(Some(world.tenant), ask.id).await.unwrap().expect("it is an approval");
    let answer = Answer { task_id: ask.id, is_approved: true, by: "key_of_mine".to_owned(), comment: None };
    world.engine().decide_approval(&approval, &answer).await.unwrap();
    let paid = SignalWish {
        mission_id: mission,
        name: "paid".to_owned(),
        key: None,
        request_hash: "paid".to_owned(),
        payload: json!({"amount": 7}),
    };
    let received = world.engine().receive_signal(&paid).await.unwrap();
    assert!(received.signal.task_id.is_some(), "it is taken where it is waited for");
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    assert_eq!(world.task(mission, "call").await.output, Some(json!({"done": 7})));
}

async fn a_failure_inside_ends_the_mission_and_a_retry_begins_only_that(world: World) {
    let inner = "workflow: inner
flat_fee: 0
agents: { a: { instructions: i, model: simulated-small, max_output_tokens: 50 } }
nodes:
  good: { agent: a, prompt: fine }
  bad: { needs: [good], agent: a, prompt: 'x [[simulate fail=permanent times=1]]', retry: { max_attempts: 1 } }
";
    world.put(inner).await;
    let (state, mission) =
        run(&world, "workflow: outer\nflat_fee: 0\nnodes:\n  call: { workflow: inner }\n", json!({})).await;
    assert_eq!(state, RunState::Failed);
    let error = world.mission(mission).await.error.unwrap();
    assert_eq!(error["node"], "call");
    let before = world.tasks(mission).await;
    let good = before.iter().find(|task| task.node == "good").unwrap();
    world.engine().retry(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let after = world.tasks(mission).await;
    assert_eq!(after.len(), before.len());
    assert_eq!(after.iter().find(|task| task.node == "good").unwrap().attempt, good.attempt);
    world.balances().await;
}

async fn one_that_is_abandoned_goes_on_alone(world: World) {
    world.put("workflow: inner\nflat_fee: 0\nnodes:\n  nap: { sleep: 1h }\n").await;
    let outer = "workflow: outer
flat_fee: 0
nodes:
  call: { workflow: { name: inner, parent_close: abandon } }
  last: { needs: [call], transform: '{{ nodes.call.output.mission_id }}' }
";
    let (state, mission) = run(&world, outer, json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    let output = world.task(mission, "last").await.output.unwrap();
    let other: MissionId = serde_json::from_value(output).unwrap();
    assert!(world.mission(other).await.state.is_open());
}

async fn a_cancel_ends_everything_inside_and_gives_the_credits_back(world: World) {
    let steps = [step("a", "[[simulate delay_ms=60000]]", &[]), step("b", "b", &["a"])];
    let yaml = team(&steps, "");
    let workflow = world.put(&yaml).await;
    let mission = world.submit_with(workflow.id, json!({})).await;
    let planned = || async { (world.tasks(mission).await.len() > 3).then_some(()) };
    eventually("the plan is there", PATIENCE, planned).await;
    world.engine().cancel(mission, None).await.unwrap();
    assert_eq!(world.finished(mission).await.state, RunState::Cancelled);
    assert!(world.tasks(mission).await.iter().all(|task| task.state.is_final()));
    assert!(world.mission(mission).await.held_ucr.is_zero());
    world.balances().await;
}

async fn what_a_plan_made_goes_with_the_outputs_of_its_run(world: World) {
    let steps = [step("dig", "dig", &[])];
    let (state, _) = run(&world, &team(&steps, ""), json!({})).await;
    assert_eq!(state, RunState::Succeeded);
    let planned = || async {
        let rows = world.store().rows("select id from workflows where planned_by is not null", &[]).await.unwrap();
        rows.len()
    };
    assert_eq!(planned().await, 1);
    let name = world.store().rows("select name from workflows where planned_by is not null", &[]).await.unwrap();
    let name = name[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(world.store().workflow_id(world.tenant, &name, None).await.unwrap(), None, "it is nobody's to submit");
    let listed = world.store().workflows(world.tenant, None, 100).await.unwrap();
    assert!(listed.iter().all(|row| !row.name.contains('/')), "no list shows what plans made");
    let all = Retention { details_ms: 0, outputs_ms: 0, missions_ms: 86_400_000 };
    world.engine().prune(&all).await.unwrap();
    world.engine().prune(&all).await.unwrap();
    assert_eq!(planned().await, 0);
}

async fn the_examples_of_plans_and_other_workflows_run(world: World) {
    let (state, mission) = run(&world, &example("trip"), json!({"where": "Lisbon"})).await;
    assert_eq!(state, RunState::Succeeded, "{:?}", world.mission(mission).await.error);
    world.put(&example("triage")).await;
    let (state, mission) = run(&world, &example("letters"), json!({"names": ["Ada", "Bo"]})).await;
    assert_eq!(state, RunState::Succeeded);
    assert_eq!(world.task(mission, "all").await.output, Some(json!("Dear Ada, Dear Bo")));
}
