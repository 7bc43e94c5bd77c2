//! Agents that remember, on both stores: what they are told shows in what the simulated model is told to do, because it
//! follows the directives of all messages of a conversation.

use bursar::store::read::MessageFilter;
use bursar_domain::id::MissionId;
use bursar_domain::record::MessageEffect;
use bursar_domain::state::RunState;
use serde_json::{Value, json};

use super::messages::say;
use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_memory_runs_as_it_says,
    an_agent_that_does_not_ask_for_the_message_is_told_it_and_remembers_it,
    all_that_was_said_is_remembered_by_who_remembers_the_mission,
    items_of_a_map_remember_those_that_ended_before,
);

/// How many tokens a node's answer had, and how many it was asked with.
async fn tokens(world: &World, mission: MissionId, node: &str) -> (u64, u64) {
    let usage = world.task(mission, node).await.usage.unwrap();
    (usage.output_tokens, usage.input_tokens)
}

async fn the_example_of_memory_runs_as_it_says(world: World) {
    for (memory, remembers) in
        [("{ kind: agent, tokens: 2000 }", true), ("none", false), ("{ kind: agent, tokens: 1 }", false)]
    {
        let text = example("tutor").replace("{ kind: agent, tokens: 2000 }", memory);
        let workflow = world.put(&text).await;
        let question = json!({"question": "What is a ledger? [[simulate tokens=5]]"});
        let mission = world.submit_with(workflow.id, question).await;
        assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
        let (short, first) = tokens(&world, mission, "lesson").await;
        assert_eq!(short, 5);
        say(&world, mission, "And?").await;
        let over = world.finished(mission).await;
        assert_eq!((over.state, over.run_number), (RunState::Succeeded, 2), "{:?}", over.error);
        let (answer, asked) = tokens(&world, mission, "lesson").await;
        assert_eq!((answer == 5, asked > first), (remembers, remembers), "{memory}: {answer} {asked} {first}");
    }
    world.balances().await;
}

async fn an_agent_that_does_not_ask_for_the_message_is_told_it_and_remembers_it(world: World) {
    let text = "{workflow: own, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, \
        max_output_tokens: 50, memory: agent}}, nodes: {ask: {agent: a, prompt: 'Go on'}}}";
    let workflow = world.put(text).await;
    let mission = world.submit(workflow.id).await;
    world.finished(mission).await;
    assert!(tokens(&world, mission, "ask").await.0 > 3);
    assert_eq!(
        say(&world, mission, "Briefly [[simulate tokens=3]]").await.message.effect,
        Some(MessageEffect::BeginsRun)
    );
    world.finished(mission).await;
    assert_eq!(tokens(&world, mission, "ask").await.0, 3, "it was told");
    say(&world, mission, "More").await;
    world.finished(mission).await;
    assert_eq!(tokens(&world, mission, "ask").await.0, 3, "it remembers that it was told");
    let sql = "select prompt from messages where mission_id = $1 and prompt is not null order by number";
    let rows = world.store().rows(sql, &[mission.into()]).await.unwrap();
    let prompts: Vec<&Value> = rows.iter().map(|row| &row["prompt"]).collect();
    assert_eq!(prompts, [&json!("Go on"), &json!("Go on\n\nBriefly [[simulate tokens=3]]"), &json!("Go on\n\nMore")]);
    world.balances().await;
}

async fn all_that_was_said_is_remembered_by_who_remembers_the_mission(world: World) {
    let text = "{workflow: team, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, \
        max_output_tokens: 50}, b: {instructions: be brief, model: simulated-small, max_output_tokens: 50, memory: mission}}, \
        nodes: {draft: {agent: a, prompt: Draft}, nap: {sleep: 300ms}, \
        judge: {needs: [draft, nap], agent: b, prompt: 'Judge'}}}";
    let workflow = world.put(text).await;
    let mission = world.submit(workflow.id).await;
    say(&world, mission, "Briefly [[simulate tokens=3]]").await;
    world.finished(mission).await;
    assert_eq!(tokens(&world, mission, "judge").await.0, 3);
    let filter = MessageFilter { mission, tenant: None, after: 0, upto: i64::MAX, latest: false, limit: 100 };
    let spoken = world.engine().conversation(&filter).await.unwrap();
    let told: Vec<_> =
        spoken.iter().map(|spoken| (spoken.message.author.as_str(), spoken.message.task_id.is_some())).collect();
    assert_eq!(told, [("key_1", false), ("a", true), ("b", true), ("team", false)]);
    assert_eq!(spoken[1].text.clone().map(Value::String), world.task(mission, "draft").await.output);
    let sql = "select c.number, c.heard from usage_calls c join tasks t on t.id = c.task_id
               where c.mission_id = $1 and t.node = 'judge'";
    let rows = world.store().rows(sql, &[mission.into()]).await.unwrap();
    assert_eq!(rows, [json!({"number": 1, "heard": 2})], "it began with all that was said, and was told nothing twice");
    world.balances().await;
}

async fn items_of_a_map_remember_those_that_ended_before(world: World) {
    let text = "{workflow: many, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, \
        max_output_tokens: 50, memory: agent}}, nodes: {each: {agent: a, prompt: 'Say {{ item }}', \
        map: {over: '[1, 2, 3]', max_parallel: 1}}}}";
    let mission = world.run(text).await;
    let over = world.finished(mission).await;
    assert_eq!(over.state, RunState::Succeeded, "{:?}", over.error);
    let tasks = world.tasks(mission).await;
    let mut items: Vec<_> = tasks.iter().filter(|task| task.parent_id.is_some()).collect();
    items.sort_by_key(|task| task.item);
    let asked: Vec<u64> = items.iter().map(|task| task.usage.unwrap().input_tokens).collect();
    assert!(asked.len() == 3 && asked.is_sorted_by(|a, b| a < b), "{asked:?}");
    world.balances().await;
}
