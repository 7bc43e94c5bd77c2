//! Missions as conversations, on both stores: runs that follow on each other, what templates see, what is kept.

use bursar::engine::{MessageError, MessageWish, Spoken};
use bursar::store::read::MessageFilter;
use bursar_domain::flow::{MessageRefusal, Said};
use bursar_domain::id::MissionId;
use bursar_domain::record::{MessageEffect, MessageRole};
use bursar_domain::state::RunState;
use serde_json::json;

use crate::support::docs::example;
use crate::support::stores::on_both_stores;
use crate::support::world::World;

on_both_stores!(World::on:
    the_example_of_a_conversation_runs_as_it_says,
    templates_see_what_was_said_and_what_runs_answered,
    one_key_is_one_message_whoever_sends_it_when,
    an_answer_that_was_steered_stands_in_for_no_other,
);

pub(super) fn wish(mission_id: MissionId, content: &str, key: Option<&str>) -> MessageWish {
    MessageWish {
        mission_id,
        author: "key_1".to_owned(),
        content: content.to_owned(),
        metadata: None,
        key: key.map(str::to_owned),
        request_hash: content.to_owned(),
    }
}

pub(super) async fn say(world: &World, mission: MissionId, content: &str) -> Said {
    world.engine().say(&wish(mission, content, None)).await.unwrap()
}

/// The whole conversation: who spoke, and what they said.
pub(super) async fn talk(world: &World, mission: MissionId) -> Vec<(MessageRole, String)> {
    let filter = MessageFilter { mission, tenant: None, after: 0, upto: i64::MAX, latest: false, limit: 100 };
    let spoken = world.engine().conversation(&filter).await.unwrap();
    spoken.into_iter().map(|Spoken { message, text }| (message.role, text.unwrap())).collect()
}

async fn the_example_of_a_conversation_runs_as_it_says(world: World) {
    let workflow = world.put(&example("chat")).await;
    let mission = world.submit_with(workflow.id, json!({"question": "What is a ledger?"})).await;
    assert_eq!(world.finished(mission).await.state, RunState::Succeeded);
    let said = say(&world, mission, "And a hold?").await;
    assert_eq!(said.message.effect, Some(MessageEffect::BeginsRun));
    let over = world.finished(mission).await;
    assert_eq!((over.state, over.run_number), (RunState::Succeeded, 2), "{:?}", over.error);
    let talk = talk(&world, mission).await;
    let roles: Vec<_> = talk.iter().map(|(role, _)| *role).collect();
    assert_eq!(roles, [MessageRole::Assistant, MessageRole::User, MessageRole::Assistant]);
    assert_eq!(json!(talk[2].1), world.task(mission, "answer").await.output.unwrap());
    world.balances().await;
}

async fn templates_see_what_was_said_and_what_runs_answered(world: World) {
    let text = "{workflow: echo, flat_fee: 0, nodes: {nap: {sleep: 300ms}, tell: {needs: [nap], transform: \
        '{{ message|default(inputs.q) }} after {% for m in messages %}{{ m.number }} {{ m.role }} {{ m.content }}; {% endfor %}'}}}";
    let workflow = world.put(text).await;
    let mission = world.submit_with(workflow.id, json!({"q": "one"})).await;
    world.finished(mission).await;
    assert_eq!(world.task(mission, "tell").await.output, Some(json!("one after ")));
    say(&world, mission, "two").await;
    // said while it runs, before its node begins
    say(&world, mission, "three").await;
    world.finished(mission).await;
    let expected = "two after 1 assistant one after ; 2 user two; 3 user three; ";
    assert_eq!(world.task(mission, "tell").await.output, Some(json!(expected)));
    assert_eq!(talk(&world, mission).await.last().unwrap(), &(MessageRole::Assistant, expected.to_owned()));
    world.balances().await;
}

async fn one_key_is_one_message_whoever_sends_it_when(world: World) {
    let workflow =
        world.put("{workflow: count, flat_fee: 1, nodes: {tell: {transform: '{{ messages|length }}'}}}").await;
    let mission = world.submit(workflow.id).await;
    world.finished(mission).await;
    let wish = wish(mission, "again", Some("k"));
    let all = (0..8).map(|_| world.engine().say(&wish));
    let said: Vec<Said> = futures::future::join_all(all).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(said.iter().filter(|said| !said.repeated).count(), 1);
    assert!(said.iter().all(|one| one.message.id == said[0].message.id));
    let over = world.finished(mission).await;
    assert_eq!((over.run_number, world.task(mission, "tell").await.output), (2, Some(json!(2))));
    let other = MessageWish { request_hash: "other".to_owned(), ..wish };
    let refused = world.engine().say(&other).await;
    assert!(matches!(refused, Err(MessageError::Refused(MessageRefusal::KeyReused))), "{refused:?}");
    world.balances().await;
}

async fn an_answer_that_was_steered_stands_in_for_no_other(world: World) {
    let text = "{workflow: kept, flat_fee: 0, agents: {a: {instructions: be kind, model: simulated-small, \
        max_output_tokens: 50}}, nodes: {nap: {sleep: 300ms}, ask: {needs: [nap], agent: a, prompt: 'go', cache: {ttl: 1h}}}}";
    let workflow = world.put(text).await;
    let steered = world.submit(workflow.id).await;
    assert_eq!(say(&world, steered, "Short [[simulate tokens=3]]").await.message.effect, Some(MessageEffect::Steers));
    world.finished(steered).await;
    let calm = world.submit(workflow.id).await;
    let over = world.finished(calm).await;
    let (short, usual) = (world.task(steered, "ask").await, world.task(calm, "ask").await);
    assert_eq!(short.usage.unwrap().output_tokens, 3, "it was told");
    assert!(over.spent_ucr.is_positive() && usual.usage.unwrap().output_tokens > 3, "it asked for itself");
    world.balances().await;
}
