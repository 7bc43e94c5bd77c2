//! Scenarios: workflows inside of a run, planned by an agent or named by a node.

use serde_json::{Value, json};

use crate::flow::testbed::tables::Want;
use crate::flow::testbed::{Lease, World};
use crate::flow::{self, Refusal};
use crate::id::{MissionId, TaskId};
use crate::outcome::{ErrorClass, Outcome, StepError};
use crate::record::{MessageEffect, Task};
use crate::state::{RunState, TaskState, WaitCause};

const TEAM: &str = "workflow: team
agents:
  lead: { instructions: you plan, model: m, max_output_tokens: 100 }
  hand: { instructions: you work, model: m, max_output_tokens: 100 }
nodes:
  ask: { transform: why }
  team: { needs: [ask], plan: { agent: lead, agents: [hand], max_nodes: 4 }, prompt: '{{ nodes.ask.output }}'MORE }
  tell: { needs: [team], transform: '{{ nodes.team.output }}' }
";

/// The tasks below a task, by their numbers.
fn below(world: &World, above: TaskId) -> Vec<&Task> {
    let mut tasks: Vec<&Task> = world.tables.tasks.values().filter(|task| task.parent_id == Some(above)).collect();
    tasks.sort_by_key(|task| task.item);
    tasks
}

/// The task of a node inside of the scope that a node opened.
fn inside(world: &World, mission: MissionId, node: &str, key: &str) -> TaskId {
    let tasks = below(world, world.task(mission, node).id);
    tasks
        .into_iter()
        .find(|task| task.layer == 0 && task.node == key)
        .unwrap_or_else(|| panic!("no {key} in {node}"))
        .id
}

fn claim(world: &mut World, task: TaskId) -> Lease {
    let (worker, state) = (world.worker, world.tables.tasks[&task].state);
    world.claim_for(worker, task).unwrap_or_else(|| panic!("it is {state:?}"))
}

fn end(world: &mut World, lease: &Lease, output: Value) {
    world.settle(lease, &lease.settle(Outcome::Succeeded { output, calls: Vec::new() })).unwrap();
    world.verify();
    world.sweep();
    world.verify();
}

fn break_down(world: &mut World, lease: &Lease) {
    let error = StepError::new(ErrorClass::Permanent, "test", "the test says so");
    let settlement = world.settle(lease, &lease.settle(Outcome::Failed { error, calls: Vec::new() })).unwrap();
    world.verify();
    if let Some(run) = settlement.ending {
        world.end_run(run);
    }
    for _ in 0..3 {
        world.sweep();
        world.verify();
    }
}

fn end_first_child(world: &mut World, mission: MissionId, node: &str, output: Value) {
    let planner = below(world, world.task(mission, node).id)[0].id;
    let lease = claim(world, planner);
    end(world, &lease, output);
}

/// A mission of the team whose plan was made.
fn planned(world: &mut World, more: &str, steps: Value) -> MissionId {
    let mission = world.submit(&TEAM.replace("MORE", more));
    let ask = world.claim(mission, "ask");
    end(world, &ask, json!("why"));
    end_first_child(world, mission, "team", json!({"nodes": steps}));
    mission
}

fn two_steps() -> Value {
    json!([
        {"key": "dig", "agent": "hand", "prompt": "dig {{ here }}"},
        {"key": "fill", "agent": "hand", "prompt": "fill", "needs": ["dig"]},
    ])
}

#[test]
fn a_plan_becomes_tasks_of_the_run_and_its_last_steps_are_handed_on() {
    let mut world = World::with_credits(100);
    let mission = planned(&mut world, "", two_steps());
    let team = world.task(mission, "team").clone();
    assert_eq!((team.state, team.wait, team.priced), (TaskState::Waiting, Some(WaitCause::Children), false));
    assert_eq!(team.status_reason.as_deref(), Some("waits for the 2 tasks of its plan"));
    assert_eq!(world.mission(mission).tasks_total, 6);
    let (dig, fill) = (inside(&world, mission, "team", "dig"), inside(&world, mission, "team", "fill"));
    assert_eq!(world.tables.tasks[&fill].state, TaskState::Pending);
    let lease = claim(&mut world, dig);
    end(&mut world, &lease, json!("a hole"));
    let lease = claim(&mut world, fill);
    end(&mut world, &lease, json!("no hole"));
    assert_eq!(world.task(mission, "team").output, Some(json!({"fill": "no hole"})));
    let tell = world.claim(mission, "tell");
    end(&mut world, &tell, json!(1));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
}

#[test]
fn the_prompts_of_a_plan_are_no_templates() {
    let mut world = World::with_credits(100);
    let mission = planned(&mut world, "", two_steps());
    let workflow = world.tables.tasks[&inside(&world, mission, "team", "dig")].workflow_id;
    let definition = &world.facts.workflows[&workflow];
    let crate::workflow::Action::Agent(step) = &definition.node_by_key("fill").unwrap().action else { panic!() };
    let context = json!({"nodes": {"dig": {"output": "a {{ hole }}"}}});
    let prompt = crate::workflow::template::render_text(&step.prompt, &context).unwrap();
    assert_eq!(prompt, "fill\n\n# What `dig` came to\n\na {{ hole }}");
    let crate::workflow::Action::Agent(step) = &definition.node_by_key("dig").unwrap().action else { panic!() };
    assert_eq!(crate::workflow::template::render_text(&step.prompt, &json!({})).unwrap(), "dig {{ here }}");
}

#[test]
fn a_step_that_fails_fails_the_node_and_with_it_the_run_and_a_retry_begins_only_what_failed() {
    let mut world = World::with_credits(100);
    let steps = json!([
        {"key": "dig", "agent": "hand", "prompt": "dig"},
        {"key": "rest", "agent": "hand", "prompt": "rest"},
        {"key": "fill", "agent": "hand", "prompt": "fill", "needs": ["dig", "rest"]},
    ]);
    let mission = planned(&mut world, "", steps);
    let rest = inside(&world, mission, "team", "rest");
    let lease = claim(&mut world, rest);
    end(&mut world, &lease, json!("zzz"));
    let dig = inside(&world, mission, "team", "dig");
    let lease = claim(&mut world, dig);
    break_down(&mut world, &lease);
    assert_eq!(world.run(mission).state, RunState::Failed);
    let error = world.run(mission).error.clone().unwrap();
    assert_eq!((&error["node"], &error["message"]), (&json!("team"), &json!("node `dig`: the test says so")));
    let plan = world.retry(mission).unwrap();
    world.verify();
    let told: Vec<(&str, bool, bool)> =
        plan.nodes.iter().map(|node| (node.node.as_str(), node.begins, node.high.is_positive())).collect();
    let steps = [("team", true, false), ("tell", false, false), ("dig", true, true), ("fill", false, true)];
    assert_eq!(told, steps, "the steps that begin anew are told with what they cost");
    assert_eq!(world.tables.tasks[&rest].state, TaskState::Succeeded);
    let lease = claim(&mut world, dig);
    end(&mut world, &lease, json!("a hole"));
    let fill = inside(&world, mission, "team", "fill");
    let lease = claim(&mut world, fill);
    end(&mut world, &lease, json!("no hole"));
    assert_eq!(world.task(mission, "team").state, TaskState::Succeeded);
}

#[test]
fn a_run_that_can_do_without_the_node_goes_on_and_what_was_planned_is_skipped() {
    let mut world = World::with_credits(100);
    let mission = planned(&mut world, ", on_error: continue", two_steps());
    let dig = inside(&world, mission, "team", "dig");
    let lease = claim(&mut world, dig);
    break_down(&mut world, &lease);
    let team = world.task(mission, "team");
    assert_eq!(team.state, TaskState::Failed);
    assert_eq!(team.output.as_ref().unwrap()["error"]["code"], json!("test"));
    assert_eq!(world.tables.tasks[&inside(&world, mission, "team", "fill")].state, TaskState::Skipped);
    let tell = world.claim(mission, "tell");
    end(&mut world, &tell, json!(1));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
}

#[test]
fn a_plan_that_can_not_be_carried_out_fails_by_name() {
    let mut world = World::with_credits(100);
    let steps = json!([{"key": "dig", "agent": "hand", "prompt": "dig", "needs": ["dug"]}]);
    let mission = planned(&mut world, "", steps);
    let error = world.task(mission, "team").error.clone().unwrap();
    assert_eq!(error.code, "plan_refused");
    assert!(error.message.contains("there is no node `dug`"), "{}", error.message);
}

#[test]
fn a_plan_that_costs_more_than_the_node_may_spend_is_not_begun() {
    let mut world = World::with_credits(100);
    let steps: Vec<Value> = (0..4).map(|n| json!({"key": format!("s{n}"), "agent": "hand", "prompt": "p"})).collect();
    let mission = planned(&mut world, ", budget: { credits: '0.07' }", json!(steps));
    let team = world.task(mission, "team");
    let error = team.error.clone().unwrap();
    assert_eq!((team.state, error.code.as_str()), (TaskState::Failed, "plan_over_budget"));
    assert!(
        error.message.starts_with("the plan's 4 steps are expected to need more than is left"),
        "{}",
        error.message
    );
    assert_eq!(world.mission(mission).tasks_total, 4, "no task of the plan was made");
}

#[test]
fn a_decision_that_saw_too_little_leaves_the_node_due() {
    let mut world = World::with_credits(100);
    let mission = planned(&mut world, "", json!([{"key": "dig", "agent": "hand", "prompt": "dig"}]));
    let team = world.task(mission, "team").id;
    let dig = inside(&world, mission, "team", "dig");
    let lease = claim(&mut world, dig);
    let outcome = Outcome::Succeeded { output: json!("a hole"), calls: Vec::new() };
    world.settle(&lease, &lease.settle(outcome)).unwrap();
    // looked at before the plan was there: what it handed on is not loaded
    let tasks = ["team", "tell"].map(|node| world.task(mission, node).id).to_vec();
    let stale = Want { tasks, missions: vec![mission], ..Want::default() };
    let refused = world.decide(&stale, |turn| flow::wake_task(turn, team));
    assert!(matches!(refused, Err(Refusal::Unloaded(_))), "{refused:?}");
    assert!(world.task(mission, "team").due_at.is_some(), "somebody will look again");
    world.sweep();
    assert_eq!(world.task(mission, "team").state, TaskState::Succeeded);
    world.verify();
}

#[test]
fn what_is_learned_of_a_node_is_not_told_of_the_steps_of_a_plan() {
    let mut world = World::with_credits(100);
    let mission = planned(&mut world, "", two_steps());
    let dig = inside(&world, mission, "team", "dig");
    let lease = claim(&mut world, dig);
    let request = lease.settle(Outcome::Succeeded { output: json!("a hole"), calls: Vec::new() });
    let want = world.settle_want(&lease, &request);
    let lesson = world.decide(&want, |turn| {
        let observed = flow::Observed::before(turn, &request);
        flow::settle(turn, &request).unwrap();
        observed.after(turn)
    });
    assert_eq!(lesson.node, None);
}

const INNER: &str = "workflow: inner
inputs: { type: object, required: [word], properties: { word: { type: string } } }
nodes:
  shout: { when: inputs.word, transform: '{{ inputs.word|upper }}' }
  count: { needs: [shout], transform: { letters: '{{ nodes.shout.output|length }}' } }
outputs: { said: nodes.shout.output, letters: nodes.count.output.letters }
";

fn outer(world: &mut World, node: &str) -> MissionId {
    world.define(INNER);
    let mission = world.submit(&format!(
        "workflow: outer\nnodes:\n  first: {{ transform: hi }}\n  call: {{ needs: [first], {node} }}\n  last: {{ needs: [call], transform: '{{{{ nodes.call.output.letters }}}}' }}\n"
    ));
    let first = world.claim(mission, "first");
    end(world, &first, json!("hi"));
    mission
}

#[test]
fn another_workflow_runs_in_place_of_a_node() {
    let mut world = World::with_credits(100);
    let mission = outer(&mut world, "workflow: { name: inner, inputs: { word: '{{ nodes.first.output }}' } }");
    assert_eq!(world.task(mission, "call").kind, "workflow");
    end_first_child(&mut world, mission, "call", json!({"word": "hi"}));
    let shout = inside(&world, mission, "call", "shout");
    let lease = claim(&mut world, shout);
    end(&mut world, &lease, json!("HI"));
    let count = inside(&world, mission, "call", "count");
    let lease = claim(&mut world, count);
    end(&mut world, &lease, json!({"letters": 2}));
    assert_eq!(world.task(mission, "call").output, Some(json!({"said": "HI", "letters": 2})));
}

#[test]
fn its_conditions_see_its_own_input() {
    let mut world = World::with_credits(100);
    let mission = outer(&mut world, "workflow: { name: inner, inputs: { word: '' } }");
    end_first_child(&mut world, mission, "call", json!({"word": ""}));
    assert_eq!(world.tables.tasks[&inside(&world, mission, "call", "shout")].state, TaskState::Skipped);
    let count = inside(&world, mission, "call", "count");
    let lease = claim(&mut world, count);
    end(&mut world, &lease, json!({"letters": 0}));
    assert_eq!(world.task(mission, "call").output, Some(json!({"said": null, "letters": 0})));
}

const TALKS: &str = "workflow: talks
agents: { one: { instructions: you talk, model: m, max_output_tokens: 100 } }
nodes:
  ask: { agent: one, prompt: Hello }
";

#[test]
fn a_message_is_heard_by_agents_of_workflows_inside_but_not_of_those_that_go_their_own_way() {
    let mut world = World::with_credits(100);
    world.define(TALKS);
    let steered = world.submit("workflow: outer\nnodes: { call: { workflow: talks } }\n");
    let said = world.say(steered, "be brief", None).unwrap();
    assert_eq!(said.message.effect, Some(MessageEffect::Steers));
    let alone = "workflow: outer\nnodes: { call: { workflow: { name: talks, parent_close: abandon } } }\n";
    let alone = world.submit(alone);
    assert_eq!(world.say(alone, "be brief", None), Err(flow::MessageRefusal::NobodyListens));
    world.verify();
}

#[test]
fn an_input_that_it_does_not_take_fails_the_node() {
    let mut world = World::with_credits(100);
    let mission = outer(&mut world, "workflow: inner");
    end_first_child(&mut world, mission, "call", json!({}));
    let error = world.task(mission, "call").error.clone().unwrap();
    assert_eq!(error.code, "input_refused");
}

#[test]
fn one_that_is_abandoned_is_a_mission_of_its_own() {
    let mut world = World::with_credits(100);
    let node = "workflow: { name: inner, inputs: { word: hi }, parent_close: abandon }";
    let mission = outer(&mut world, node);
    end_first_child(&mut world, mission, "call", json!({"word": "hi"}));
    let output = world.task(mission, "call").output.clone().unwrap();
    let other: MissionId = serde_json::from_value(output["mission_id"].clone()).unwrap();
    assert_eq!(world.run(other).state, RunState::Queued);
    assert_eq!(world.tables.missions[&other].input, Some(json!({"word": "hi"})));
    world.cancel(mission).unwrap();
    world.verify();
    assert_eq!(world.run(other).state, RunState::Queued);
}

#[test]
fn a_cancel_ends_what_is_inside_and_a_map_may_call_a_workflow_for_each_item() {
    let mut world = World::with_credits(100);
    let node = "workflow: { name: inner, inputs: { word: '{{ item }}' } }, map: { over: \"['a', 'b']\" }";
    let mission = outer(&mut world, node);
    world.spread();
    let items: Vec<TaskId> = below(&world, world.task(mission, "call").id).iter().map(|task| task.id).collect();
    assert_eq!(items.len(), 2);
    for (item, word) in items.iter().zip(["a", "b"]) {
        let input = below(&world, *item)[0].id;
        let lease = claim(&mut world, input);
        end(&mut world, &lease, json!({"word": word}));
    }
    for item in &items[..1] {
        for (at, output) in [(1, json!("A")), (2, json!({"letters": 1}))] {
            let task = below(&world, *item)[at].id;
            let lease = claim(&mut world, task);
            end(&mut world, &lease, output);
        }
    }
    assert_eq!(world.tables.tasks[&items[0]].output, Some(json!({"said": "A", "letters": 1})));
    world.cancel(mission).unwrap();
    let run = world.run(mission).id;
    world.end_run(run);
    world.verify();
    assert_eq!(world.run(mission).state, RunState::Cancelled);
}

#[test]
fn a_node_of_a_workflow_inside_may_be_stood_in_for() {
    let inner = "workflow: careful
nodes:
  try: { transform: 1, retry: { max_attempts: 1 }, on_error: { fallback: spare } }
  spare: { transform: 1 }
outputs: { said: nodes.try.output }
";
    let mut world = World::with_credits(100);
    world.define(inner);
    let mission = world.submit("workflow: outer\nnodes: { call: { workflow: careful } }\n");
    end_first_child(&mut world, mission, "call", json!({}));
    let first = inside(&world, mission, "call", "try");
    let lease = claim(&mut world, first);
    break_down(&mut world, &lease);
    let spare = inside(&world, mission, "call", "spare");
    assert_eq!(world.tables.tasks[&spare].state, TaskState::Ready, "the node goes on with it");
    let lease = claim(&mut world, spare);
    end(&mut world, &lease, json!("instead"));
    assert_eq!(world.task(mission, "call").output, Some(json!({"said": "instead"})));
    assert_eq!(world.run(mission).state, RunState::Succeeded);
}
