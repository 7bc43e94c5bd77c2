//! Estimates: what runs taught one process sizes the holds of all of them.

use bursar::store::LearnedNode;
use bursar_domain::credits::Ucr;
use bursar_domain::flow::Source;
use bursar_domain::state::RunState;
use bursar_domain::time::Timestamp;
use serde_json::json;

use crate::support::eventually;
use crate::support::stores::on_both_stores;
use crate::support::world::{PATIENCE, World};

on_both_stores!(World::on:
    what_tasks_cost_sizes_the_holds_of_later_ones_in_every_process,
    a_draining_process_leaves_its_lessons_behind,
    an_absurd_usage_report_is_billed_at_the_estimate,
    missing_usage_is_billed_at_the_estimate_and_teaches_nothing_about_counts,
);

/// One call of ten tokens with room for a thousand.
const TALK: &str = r#"
workflow: talk
flat_fee: 0
inputs: { type: object, properties: { prompt: { type: string } } }
agents: { a: { instructions: "Be brief.", model: simulated-large, max_output_tokens: 1000 } }
nodes: { say: { agent: a, prompt: "{{ inputs.prompt }}" } }
"#;

const TEN_TOKENS: &str = "Say something. [[simulate tokens=10]]";

/// What is known about nodes once so many tasks taught it. A mission is over a moment before its lesson is noted.
async fn taught(world: &World, tasks: i64) -> Vec<LearnedNode> {
    let look = || async {
        world.engine().fold_lessons().await.unwrap();
        let known = world.store().learned_nodes(Timestamp::from_ms(0), 9).await.unwrap();
        (known.iter().map(|node| node.cost.samples).sum::<i64>() >= tasks).then_some(known)
    };
    eventually("the tasks taught", PATIENCE, look).await
}

async fn what_tasks_cost_sizes_the_holds_of_later_ones_in_every_process(world: World) {
    let workflow = world.put(TALK).await;
    let input = json!({"prompt": TEN_TOKENS});
    let before = world.engine().forecast(&world.submission(workflow.id, input.clone())).await.unwrap();
    assert_eq!(before.nodes[0].source, Source::Limits);
    for _ in 0..20 {
        let mission = world.submit_with(workflow.id, input.clone()).await;
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    }
    let known = taught(&world, 20).await;
    assert_eq!((known.len(), known[0].key.node.as_str()), (1, "say"));
    let models = world.store().learned_factors(Timestamp::from_ms(0), 9).await.unwrap();
    assert_eq!((models[0].model.as_str(), models[0].factor.samples), ("simulated-large", 20));

    let mut other = world.another_process().await;
    other.engine.refresh_estimates().await.unwrap();
    let after = other.engine.forecast(&world.submission(workflow.id, input.clone())).await.unwrap();
    assert_eq!(after.nodes[0].source, Source::Experience);
    assert!(after.hold_needed < before.hold_needed, "{after:?} {before:?}");
    let submission = world.submission(workflow.id, input);
    let mission = other.engine.submit(submission).await.unwrap().mission_id;
    let over = world.finished(mission).await;
    let task = world.task(mission, "say").await;
    assert_eq!((over.state, task.estimate_ucr), (RunState::Succeeded, Some(after.nodes[0].hold)));
    let first = world.tasks(mission).await;
    assert!(first[0].cost_ucr <= after.nodes[0].hold, "19 of 20 cost no more");
    world.balances().await;
    other.end().await;
}

async fn a_draining_process_leaves_its_lessons_behind(mut world: World) {
    let workflow = world.put(TALK).await;
    let mission = world.submit_with(workflow.id, json!({"prompt": TEN_TOKENS})).await;
    world.finished(mission).await;
    world.process.drain(std::time::Duration::from_secs(5)).await;
    let known = world.store().learned_nodes(Timestamp::from_ms(0), 9).await.unwrap();
    assert_eq!(known.iter().map(|node| node.cost.samples).sum::<i64>(), 1);
}

/// What a mission of `talk` with that prompt was charged, and its call.
async fn charged(world: &World, prompt: &str) -> (Ucr, bursar::store::read::CallView) {
    let workflow = world.put(TALK).await;
    let mission = world.submit_with(workflow.id, json!({"prompt": prompt})).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{over:?}");
    let call = world.store().calls_of_run(over.run_id, 9).await.unwrap().remove(0);
    (over.spent_ucr, call)
}

async fn an_absurd_usage_report_is_billed_at_the_estimate(world: World) {
    // one believed, one more than fits through the model, one more than fits into anything
    let honest = charged(&world, "Hi. [[simulate tokens=10 output_tokens_reported=10]]").await;
    assert!(!honest.1.estimated);
    for absurd in ["90000000", "1000000000000"] {
        let prompt = format!("Hi. [[simulate tokens=10 output_tokens_reported={absurd}]]");
        let (spent, call) = charged(&world, &prompt).await;
        assert!(call.estimated && call.billable, "{call:?}");
        assert_eq!(call.usage.unwrap().output_tokens, 10, "our own count");
        assert!(spent.is_positive() && spent < Ucr::new(2 * honest.0.get()), "{spent} {}", honest.0);
    }
    world.balances().await;
}

async fn missing_usage_is_billed_at_the_estimate_and_teaches_nothing_about_counts(world: World) {
    let (spent, call) = charged(&world, "Hi. [[simulate tokens=10 no_usage]]").await;
    assert!(call.estimated && call.billable && spent.is_positive(), "{call:?}");
    assert_eq!(taught(&world, 1).await.len(), 1);
    assert_eq!(world.store().learned_factors(Timestamp::from_ms(0), 9).await.unwrap(), []);
    world.balances().await;
}
