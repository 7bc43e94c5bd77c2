//! Structured output between engine and provider: how the schema is sent, how wrong answers are mended and paid.

use bursar_domain::outcome::ErrorClass;
use bursar_domain::workflow::{Action, Definition, Syntax, parse};
use bursar_workers::{Job, Providers, run};
use serde_json::{Value, json};

use crate::support::{DONE, Recorder, Server, agent_job, failed, finish, simulated, succeeded, text, usage};

/// A job whose answer must be a list of files under `files`.
fn plan_job(model: &str, prompt: &str, repair: u32) -> Job {
    let text = format!(
        "workflow: w\nagents: {{ engineer: {{ instructions: You are an engineer., model: {model}, max_output_tokens: 200 }} }}
schemas: {{ Plan: {{ type: object, required: [files], properties: {{ files: {{ type: array, items: {{ type: string }} }} }} }} }}
nodes: {{ plan: {{ agent: engineer, prompt: x, output: {{ schema: Plan, repair: {repair} }} }} }}\n"
    );
    let definition: Definition = parse(&text, Syntax::Yaml).unwrap();
    let Action::Agent(mut step) = definition.nodes[0].action.clone() else { panic!("an agent") };
    prompt.clone_into(&mut step.prompt);
    Job { action: Action::Agent(step), ..agent_job(model, "") }
}

fn providers(server: &Server, json_schema: Option<bool>) -> Providers {
    let mut config = server.config();
    config.json_schema = json_schema;
    Providers::builder().openai(config).build().unwrap()
}

#[tokio::test]
async fn a_provider_that_takes_a_schema_gets_it_and_any_other_is_told_in_words() {
    let pieces = [text(r#"{"files": ["a"]}"#), finish("stop"), usage(11, 2), DONE.into()];
    let server = Server::streaming(pieces).await;
    for json_schema in [Some(true), Some(false), None] {
        let job = plan_job("m", "Plan it", 0);
        let (output, _) = succeeded(run(&job, &Recorder::default(), &providers(&server, json_schema)).await);
        assert_eq!(output, json!({"files": ["a"]}), "a value, not its text");
    }
    let received = server.received();
    let format = &received[0].body["response_format"];
    assert_eq!((&format["type"], &format["json_schema"]["name"]), (&json!("json_schema"), &json!("Plan")));
    assert_eq!(format["json_schema"]["schema"]["required"], json!(["files"]));
    assert_eq!(received[0].body["messages"].as_array().unwrap().len(), 2);
    for told in &received[1..] {
        assert_eq!(told.body.get("response_format"), None);
        let system = told.body["messages"][0]["content"].as_str().unwrap();
        assert!(system.starts_with("You are an engineer.\n\nAnswer with one JSON value"), "{system}");
        assert!(system.contains(r#""required":["files"]"#), "{system}");
    }
}

#[tokio::test]
async fn a_wrong_answer_is_mended_by_a_call_of_its_own() {
    let context = Recorder::default();
    let job = plan_job("simulated-small", "Plan it [[simulate wrong_json=2]]", 2);
    let (output, calls) = succeeded(run(&job, &context, &simulated()).await);
    assert_eq!(output["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(calls.len(), 3);
    let asked = context.asked();
    assert_eq!(asked.iter().map(|wish| wish.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(asked[0].finished, []);
    assert_eq!((&asked[1].finished, &asked[2].finished), (&calls[..1].to_vec(), &calls[1..2].to_vec()));
    assert!(asked[1].input_tokens > asked[0].input_tokens, "the conversation grows");
}

#[tokio::test]
async fn an_answer_that_stays_wrong_fails_for_good_and_only_the_last_one_is_to_blame() {
    let job = plan_job("simulated-small", "[[simulate json={\"files\":[\"ok\",7]}]]", 1);
    let (error, calls) = failed(run(&job, &Recorder::default(), &simulated()).await);
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "output_invalid"));
    assert!(error.message.contains("/files/1") && !error.message.contains('7'), "{}", error.message);
    assert_eq!(
        calls.iter().map(|call| (call.succeeded, call.rejected)).collect::<Vec<_>>(),
        [(true, false), (true, true)]
    );
}

#[tokio::test]
async fn a_structured_answer_that_is_cut_off_says_so() {
    let mut job = plan_job("simulated-small", "Plan it", 0);
    let Action::Agent(step) = &mut job.action else { panic!("an agent") };
    step.max_output_tokens = 3;
    let (error, calls) = failed(run(&job, &Recorder::default(), &simulated()).await);
    assert_eq!(calls[0].response["finish_reason"], Value::from("length"));
    assert!(error.message.contains("cut off at the output limit"), "{}", error.message);
}
