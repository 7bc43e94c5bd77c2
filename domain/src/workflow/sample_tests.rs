//! The workflows that ship with the project parse, and mean what they show.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use serde_json::{Value, json};

use super::template::{render_text, render_value};
use super::{Action, Budget, Definition, OnError, OnExhausted, Syntax, Wait, json_schema, parse, parse_value};
use crate::credits::Ucr;
use crate::retry::RetryPolicy;

fn sample(name: &str) -> Definition {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    parse(&text, Syntax::Yaml).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        unreachable!("{name}:\n{}", lines.join("\n"))
    })
}

fn published() -> jsonschema::Validator {
    jsonschema::validator_for(&json_schema()).unwrap()
}

fn keys(definition: &Definition, indexes: &[u32]) -> Vec<String> {
    indexes.iter().map(|index| definition.node(*index).unwrap().key.clone()).collect()
}

#[test]
fn every_shipped_workflow_parses_and_survives_its_canonical_form() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let definition = sample(&name);
        assert_eq!(format!("{}.yaml", definition.name), name, "a file is called like its workflow");
        let again = parse_value(&definition.source).unwrap();
        assert_eq!(again, definition, "{name}");
        assert!(published().is_valid(&definition.source), "{name} keeps to the published schema");
        assert_eq!(again.content_hash(), definition.content_hash());
        let as_json = parse(&definition.source.to_string(), Syntax::Json).unwrap();
        assert_eq!(as_json, definition, "{name}");
        seen += 1;
    }
    assert!(seen >= 3, "the folder holds the samples");
}

#[test]
fn every_example_of_the_format_parses_and_survives_its_canonical_form() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let pages = ["workflow-format.md", "agent-step.md"].map(|name| std::fs::read_to_string(folder.join(name)).unwrap());
    assert!(pages.iter().all(|page| page.contains("```yaml\n")));
    let examples: Vec<&str> = pages
        .iter()
        .flat_map(|page| page.split("```yaml\n").skip(1))
        .filter_map(|rest| Some(rest.split_once("```")?.0))
        .collect();
    for example in examples {
        let definition =
            parse(example, Syntax::Yaml).unwrap_or_else(|problems| unreachable!("{problems:?} in\n{example}"));
        assert_eq!(parse_value(&definition.source).unwrap(), definition);
        assert!(published().is_valid(&definition.source), "the published schema refuses\n{example}");
    }
}

#[test]
fn the_software_company_works_in_the_order_of_its_needs() {
    let company = sample("software-company.yaml");
    let order: Vec<&str> = company.nodes.iter().map(|node| node.key.as_str()).collect();
    assert_eq!(order, ["prd", "approve", "design", "plan", "code", "tests", "summary"]);
    let plan = company.node_by_key("plan").unwrap();
    assert_eq!(keys(&company, &plan.needs), ["design"]);
    assert_eq!(keys(&company, &plan.dependents), ["code"]);
    assert_eq!(keys(&company, &plan.uses), ["prd", "design"], "an ancestor may be read without being a need");
    assert_eq!(company.budget, Some(Budget { credits: Ucr::from_credits(300), on_exhausted: OnExhausted::Pause }));
    assert_eq!(company.deadline_ms, Some(2 * 60 * 60 * 1_000));
    assert_eq!(company.flat_fee, None);
    assert_eq!(company.outputs["report"].nodes(), "summary");
    assert_eq!(company.outputs.len(), 5);
    let layers =
        |key: &str| -> Vec<&str> { company.node_by_key(key).unwrap().layers.iter().map(super::Layer::kind).collect() };
    assert_eq!((layers("code"), layers("tests"), layers("plan")), (vec!["map", "review"], vec!["repeat"], vec![]));
}

#[test]
fn a_call_is_settled_by_the_node_then_its_agent_then_the_defaults() {
    let company = sample("software-company.yaml");
    let call = |key: &str| {
        let Action::Agent(step) = &company.node_by_key(key).unwrap().action else { unreachable!() };
        (step.model.clone(), step.max_output_tokens, step.temperature.as_ref().map(ToString::to_string))
    };
    assert_eq!(call("prd"), ("gpt-4.1-mini".to_owned(), 4_096, None));
    assert_eq!(call("plan"), ("gpt-4.1-mini".to_owned(), 4_096, Some("0.2".to_owned())));
    assert_eq!(call("code"), ("gpt-4.1".to_owned(), 16_384, None));
    assert_eq!(call("summary"), ("gpt-4.1-mini".to_owned(), 1_024, None));
    let node = company.node_by_key("code").unwrap();
    assert_eq!(node.timeout_ms, 20 * 60 * 1_000);
    assert_eq!(node.retry, RetryPolicy { max_attempts: 4, ..RetryPolicy::default() });
    assert_eq!((node.pool.as_str(), node.priority), ("agent", 0));
}

#[test]
fn what_a_definition_leaves_out_has_its_default() {
    let text = "
workflow: small
agents: { a: { instructions: Be brief., model: m } }
nodes:
  ask: { agent: a, prompt: Hello }
  nap: { needs: [ask], sleep: 90s, retry: { max_attempts: 1, backoff: { jitter: false } } }
  out: { needs: [ask], transform: '{{ nodes }}', units: { page: 3 }, pool: cpu, priority: -5 }
";
    let small = parse(text, Syntax::Yaml).unwrap();
    let Action::Agent(ask) = &small.node_by_key("ask").unwrap().action else { unreachable!() };
    assert_eq!((ask.max_output_tokens, &ask.temperature), (1_024, &None));
    let nap = small.node_by_key("nap").unwrap();
    assert_eq!(nap.action, Action::Wait(Wait::Sleep { duration_ms: 90_000 }));
    assert_eq!((nap.pool.as_str(), nap.timeout_ms), ("default", 600_000));
    assert_eq!(nap.retry, RetryPolicy { max_attempts: 1, jitter: false, ..RetryPolicy::default() });
    let out = small.node_by_key("out").unwrap();
    assert_eq!(out.uses, out.needs, "the whole of `nodes` is the direct needs");
    assert_eq!((out.units["page"], out.pool.as_str(), out.priority), (3, "cpu", -5));
    let outputs: Vec<&str> = small.outputs.keys().map(String::as_str).collect();
    assert_eq!(outputs, ["nap", "out"], "what nothing depends on is handed back");
    assert_eq!((small.budget, small.deadline_ms, small.inputs.as_ref()), (None, None, None));
    assert_eq!(small.check_input(&json!({"anything": 1})), Ok(()));
    assert_eq!(small.check_input(&json!([])).unwrap_err()[0].message, "expected a mapping, found a list");
}

#[test]
fn what_becomes_of_a_failure_is_said_for_all_nodes_or_for_one() {
    let text = "
workflow: small
defaults: { on_error: skip }
nodes: { a: { transform: 1 }, b: { transform: 1, on_error: fail }, c: { transform: 1, on_error: continue } }
";
    let small = parse(text, Syntax::Yaml).unwrap();
    let on_error: Vec<OnError> = small.nodes.iter().map(|node| node.on_error).collect();
    assert_eq!(on_error, [OnError::Skip, OnError::Fail, OnError::Continue]);
    assert!(published().is_valid(&small.source));
}

#[test]
fn the_order_of_writing_changes_nothing() {
    let one = "{workflow: w, nodes: {b: {transform: {x: 1, y: 2}}, a: {transform: 1}}}";
    let two = r#"{"nodes": {"a": {"transform": 1}, "b": {"transform": {"y": 2, "x": 1}}}, "workflow": "w"}"#;
    let (one, two) = (parse(one, Syntax::Yaml).unwrap(), parse(two, Syntax::Json).unwrap());
    assert_eq!(one, two);
    assert_eq!(one.content_hash(), two.content_hash());
    assert_eq!(
        one.source.to_string(),
        r#"{"nodes":{"a":{"transform":1},"b":{"transform":{"x":1,"y":2}}},"workflow":"w"}"#
    );
    let written = |definition: &Definition| {
        let Action::Transform(step) = &definition.node_by_key("b").unwrap().action else { unreachable!() };
        step.output.to_string()
    };
    assert_eq!(written(&one), written(&two), "what a transform writes does not depend on it either");
    let other = parse("{workflow: w, nodes: {b: {transform: {x: 1, y: 3}}, a: {transform: 1}}}", Syntax::Yaml).unwrap();
    assert_ne!(one.content_hash(), other.content_hash());
}

#[test]
fn the_samples_render_with_the_context_of_a_run() {
    let hello = sample("hello.yaml");
    assert_eq!(hello.flat_fee, Some(Ucr::ZERO));
    let input = json!({"name": "Ada"});
    assert_eq!(hello.check_input(&input), Ok(()));
    assert_eq!(hello.check_input(&json!({"name": "Ada", "tone": "rude"})).unwrap_err()[0].pointer, "/tone");
    let context = json!({
        "inputs": input, "nodes": {"greet": {"output": "Hello, Ada! "}}, "run": {"id": "run_1"}, "task": {"attempt": 1}
    });
    let Action::Agent(greet) = &hello.nodes[0].action else { unreachable!() };
    assert_eq!(render_text(&greet.prompt, &context).unwrap(), "Greet Ada in a warm tone.");
    let Action::Transform(card) = &hello.nodes[1].action else { unreachable!() };
    let output: Value = render_value(&card.output, &context).unwrap();
    assert_eq!(output, json!({"to": "Ada", "greeting": "Hello, Ada!", "run": "run_1"}));
    assert_eq!(hello.outputs["card"].resolve(&output), output);
    let brief = sample("research-brief.yaml");
    assert_eq!(brief.nodes.iter().map(|node| node.needs.len()).collect::<Vec<_>>(), [0, 1, 1, 2]);
}
