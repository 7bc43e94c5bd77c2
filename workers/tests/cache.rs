//! When an earlier output is used, and what makes two tasks the same.

use bursar_domain::workflow::Action;
use bursar_workers::{Job, Reuse, run};
use serde_json::json;

use crate::support::{Recorder, agent_job, failed, node_job, simulated, succeeded};

fn cached(job: Job, key: Option<&str>) -> Job {
    Job { cache: Some(Reuse { source: "the node".to_owned(), key: key.map(str::to_owned) }), ..job }
}

/// The hash under which the job looks for an earlier output.
async fn hash_of(job: &Job) -> String {
    let context = Recorder::default();
    succeeded(run(job, &context, &simulated()).await);
    let hashes = context.hashes.lock().unwrap().clone();
    assert_eq!(hashes.len(), 1);
    hashes[0].clone()
}

#[tokio::test]
async fn an_earlier_answer_is_used_before_anything_is_reserved() {
    let context = Recorder { kept: Some(json!("said before")), ..Recorder::default() };
    let job = cached(agent_job("simulated-small", "Say hi"), None);
    let (output, calls) = succeeded(run(&job, &context, &simulated()).await);
    assert_eq!((output, calls, context.asked()), (json!("said before"), Vec::new(), Vec::new()));
    let transform = cached(node_job("transform: '{{ inputs.a }}'", &json!({"a": 1})), Some("{{ inputs.a }}"));
    assert_eq!(succeeded(run(&transform, &context, &simulated()).await).0, json!("said before"));
}

#[tokio::test]
async fn without_the_nodes_word_nothing_is_looked_for() {
    let context = Recorder { kept: Some(json!("said before")), ..Recorder::default() };
    let (output, _) = succeeded(run(&agent_job("simulated-small", "Say hi"), &context, &simulated()).await);
    assert_ne!(output, json!("said before"));
    assert!(context.hashes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn tasks_are_the_same_when_definition_and_rendered_templates_are() {
    let asking = |prompt: &str| cached(agent_job("simulated-small", prompt), None);
    let first = hash_of(&asking("Say hi to {{ inputs.idea }}")).await;
    assert_eq!(first, hash_of(&asking("Say {{ 'hi' }} to a to-do list")).await, "what templates became counts");
    assert_ne!(first, hash_of(&asking("Say hi")).await);
    let mut other = asking("Say hi to {{ inputs.idea }}");
    other.cache.as_mut().unwrap().source = "another node".to_owned();
    assert_ne!(first, hash_of(&other).await);
    let mut louder = asking("Say hi to {{ inputs.idea }}");
    let Action::Agent(step) = &mut louder.action else { panic!("an agent") };
    step.instructions = "Shout.".to_owned();
    assert_ne!(first, hash_of(&louder).await);
}

#[tokio::test]
async fn a_key_stands_for_everything_that_was_rendered() {
    let keyed = |prompt: &str, key: &str| cached(agent_job("simulated-small", prompt), Some(key));
    let first = hash_of(&keyed("Say hi", "{{ inputs.idea }}")).await;
    assert_eq!(first, hash_of(&keyed("Say something else", "a to-do list")).await);
    assert_ne!(first, hash_of(&keyed("Say hi", "another")).await);
    let broken = keyed("Say hi", "{{ inputs.nothing }}");
    let (error, _) = failed(run(&broken, &Recorder::default(), &simulated()).await);
    assert_eq!(error.code, "template_error");
}
