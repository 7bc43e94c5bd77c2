//! Agents that remember: what is kept of them, and from where on they hear.

use super::workflow;
use crate::flow::testbed::{Lease, World};
use crate::id::MissionId;
use crate::outcome::{ErrorClass, Outcome};
use crate::record::{Message, MessageEffect};
use crate::workflow::{MemoryKind, Syntax, parse};

use serde_json::json;

/// Two agents, of which one remembers itself.
const ONE_REMEMBERS: &str = "  one: { agent: a, prompt: p, memory: { kind: agent, tokens: 100 } }
  two: { needs: [one], agent: b, prompt: q }";

fn text(nodes: &str) -> String {
    workflow("", nodes).replace("agents: {", "agents: { b: { instructions: i, model: m, max_output_tokens: 100 },")
}

fn kept(world: &World, mission: MissionId) -> Vec<&Message> {
    let mut messages: Vec<_> = world.tables.messages.values().filter(|message| message.mission_id == mission).collect();
    messages.sort_by_key(|message| message.number);
    messages
}

fn succeed(world: &mut World, lease: &Lease, prompt: &str) {
    let outcome = Outcome::Succeeded { output: json!("done"), calls: Vec::new() };
    let request = crate::flow::SettleRequest { prompt: Some(prompt.to_owned()), ..lease.settle(outcome) };
    world.settle(lease, &request).unwrap();
}

#[test]
fn what_an_agent_was_asked_and_said_is_kept_where_it_is_to_remember_it() {
    let mut world = World::with_credits(100);
    let mission = world.submit(&text(ONE_REMEMBERS));
    for node in ["one", "two"] {
        let lease = world.claim(mission, node);
        succeed(&mut world, &lease, &format!("asked {node}"));
    }
    let told: Vec<_> = kept(&world, mission)
        .into_iter()
        .map(|row| {
            (row.number, row.author.as_str(), row.prompt.as_deref(), row.task_id.is_some(), row.content.is_some())
        })
        .collect();
    // the other agent's prompt and answer are nobody's to remember; the run's reply is part of the conversation
    assert_eq!(told, [(1, "a", Some("asked one"), true, false), (2, "w", None, false, false)]);

    let said = world.say(mission, "And now?", None).unwrap();
    assert_eq!(said.message.effect, Some(MessageEffect::BeginsRun), "memory makes another run differ");
    let task = world.task(mission, "one");
    assert_eq!(task.heard, Some(3), "it remembers what ended until then");
    world.verify();
}

#[test]
fn where_somebody_remembers_all_that_was_said_every_answer_is_kept_and_no_prompt() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p }\n  two: { needs: [one], agent: b, prompt: q, memory: mission }";
    let mission = world.submit(&text(nodes));
    for node in ["one", "two"] {
        let lease = world.claim(mission, node);
        succeed(&mut world, &lease, "asked");
    }
    let told: Vec<_> =
        kept(&world, mission).into_iter().map(|row| (row.author.as_str(), row.prompt.as_deref())).collect();
    assert_eq!(told, [("a", None), ("b", None), ("w", None)]);
    assert_eq!(world.task(mission, "two").heard, Some(1), "the first had ended before");
    world.verify();
}

#[test]
fn an_attempt_that_failed_is_not_remembered_and_the_next_remembers_the_same() {
    let mut world = World::with_credits(100);
    let nodes = "  one: { agent: a, prompt: p, memory: agent }\n  other: { agent: a, prompt: q }";
    let mission = world.submit(&text(nodes));
    let lease = world.claim(mission, "one");
    let other = world.claim(mission, "other");
    world.fail(&lease, ErrorClass::Retryable, Vec::new());
    succeed(&mut world, &other, "asked other");
    assert_eq!(kept(&world, mission).len(), 1, "all tasks of the agent are remembered, failures are not");
    world.pass_ms(60_000);
    world.sweep();
    assert_eq!(world.task(mission, "one").heard, Some(0), "it is told what the first attempt was told");
    let lease = world.claim(mission, "one");
    succeed(&mut world, &lease, "asked one");
    world.verify();
}

#[test]
fn a_hold_is_made_for_a_full_window() {
    let held = |memory: &str| {
        let mut world = World::with_credits(100);
        let mission = world.submit(&text(&format!("  one: {{ agent: a, prompt: p{memory} }}")));
        world.held(mission, "one").unwrap()
    };
    let window = 1_000 * 100;
    assert_eq!(held(", memory: { kind: mission, tokens: 1000 }"), held("") + window);
}

#[test]
fn the_nearest_word_about_memory_counts() {
    let yaml = "workflow: w
defaults: { model: m, memory: mission }
agents: { a: { instructions: i, memory: { kind: agent, tokens: 7 } }, b: { instructions: i } }
nodes:
  one: { agent: a, prompt: p }
  two: { agent: a, prompt: p, memory: none }
  three: { agent: b, prompt: p }
  four: { agent: b, prompt: p, review: { agent: a, accept: verdict, max: 1 } }
";
    let definition = parse(yaml, Syntax::Yaml).unwrap();
    let memory = |key: &str| definition.node_by_key(key).unwrap().memory().map(|memory| (memory.kind, memory.tokens));
    assert_eq!(memory("one"), Some((MemoryKind::Agent, 7)));
    assert_eq!(memory("two"), None);
    assert_eq!(memory("three"), Some((MemoryKind::Mission, 4_000)));
    assert!(definition.keeps_prompts_of("a") && definition.keeps_answers_of("b") && !definition.keeps_prompts_of("b"));
}

#[test]
fn from_where_on_a_node_hears_depends_on_what_it_is_told_at_first() {
    let yaml = "workflow: w
agents: { a: { instructions: i, model: m } }
nodes:
  plain: { agent: a, prompt: p }
  asks: { agent: a, prompt: '{{ message }}' }
  knows: { agent: a, prompt: '{{ messages }}' }
  all: { agent: a, prompt: p, memory: mission }
  own: { agent: a, prompt: p, memory: agent }
  both: { agent: a, prompt: '{{ message }}', memory: agent }
";
    let definition = parse(yaml, Syntax::Yaml).unwrap();
    // the run began with message 5, the task after message 8
    let from: Vec<_> = ["plain", "asks", "knows", "all", "own", "both"]
        .map(|key| definition.node_by_key(key).unwrap().heard_from(8, 5))
        .into();
    assert_eq!(from, [5, 5, 8, 8, 4, 5]);
    assert_eq!(definition.node_by_key("own").unwrap().heard_from(0, 0), 0);
}
