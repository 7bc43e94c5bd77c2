//! What holds for every text, every value and every graph, tried with random ones. A failure prints its seed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::template::{render_text, render_value};
use super::{Definition, Problem, Syntax, json_schema, parse, parse_value};
use crate::limits::MAX_PROBLEMS;

/// Pieces of definitions, sound and broken, which random texts are put together from.
fn piece() -> impl Strategy<Value = String> {
    let fixed = [
        "workflow: w\n",
        "nodes:\n",
        "  a: { sleep: 1s }\n",
        "  b: { needs: [a], transform: '{{ nodes.a.output }}' }\n",
        "agents: { x: { instructions: hi, model: m } }\n",
        "  c: { agent: x, prompt: '{{ inputs.y }}' }\n",
        "budget: { credits: 1 }\n",
        "inputs: { type: object }\n",
        "outputs: { o: nodes.a.output }\n",
        "&a ",
        "*a",
        "<<: ",
        "---\n",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "- ",
        "\n",
        " ",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "!!str ",
        "%YAML 1.2\n",
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "1e999",
        "0x",
        "null",
        "~",
        "\u{0}",
        "é",
        "\u{feff}",
        "? ",
        "# ",
        "{\"workflow\":\"w\",",
        "\"nodes\":{\"a\":{\"sleep\":\"1s\"}}",
        "}",
    ];
    prop_oneof![4 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => ".{0,8}"]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![1 => ".{0,200}", 3 => proptest::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())]
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        proptest::sample::select(vec![
            "workflow",
            "nodes",
            "agents",
            "inputs",
            "budget",
            "credits",
            "defaults",
            "retry",
            "backoff",
            "needs",
            "agent",
            "prompt",
            "transform",
            "sleep",
            "until",
            "approval",
            "show",
            "signal",
            "name",
            "on",
            "outputs",
            "model",
            "units",
            "instructions",
            "$ref",
            "properties",
            "type",
            "a",
            "b",
        ])
        .prop_map(str::to_owned),
        ".{0,4}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        proptest::sample::select(vec![
            "w",
            "1s",
            "a",
            "nodes.a.output",
            "{{ nodes.a.output }}",
            "{{ inputs }}",
            "#",
            "object"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

static PUBLISHED: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&json_schema()).unwrap());

fn outcome_is_sound(outcome: Result<Definition, Vec<Problem>>) -> Result<(), TestCaseError> {
    match outcome {
        Ok(definition) => {
            let again = parse_value(&definition.source);
            prop_assert_eq!(again.as_ref(), Ok(&definition), "the canonical source is the same definition");
            prop_assert_eq!(parse(&definition.source.to_string(), Syntax::Json), again);
            prop_assert!(PUBLISHED.is_valid(&definition.source), "what is accepted keeps to the published schema");
        }
        Err(problems) => {
            prop_assert!(!problems.is_empty() && problems.len() <= MAX_PROBLEMS);
            prop_assert!(problems.iter().all(|problem| problem.pointer.is_empty() || problem.pointer.starts_with('/')));
        }
    }
    Ok(())
}

/// Needs of up to 12 nodes: any pairs at all, so that there may be cycles.
fn any_needs() -> impl Strategy<Value = Vec<BTreeSet<usize>>> {
    (1_usize..12)
        .prop_flat_map(|count| proptest::collection::vec(proptest::collection::btree_set(0..count, 0..3), count))
}

fn definition_of(needs: &[BTreeSet<usize>], key: impl Fn(usize) -> String) -> Value {
    let node = |(position, needs): (usize, &BTreeSet<usize>)| {
        let needs: Vec<String> = needs.iter().map(|need| key(*need)).collect();
        (key(position), json!({"needs": needs, "transform": "{{ nodes }}"}))
    };
    let nodes: serde_json::Map<String, Value> = needs.iter().enumerate().map(node).collect();
    json!({"workflow": "random", "nodes": nodes})
}

/// Whether some node reaches itself, by brute force.
fn has_cycle(needs: &[BTreeSet<usize>]) -> bool {
    let mut reach: Vec<BTreeSet<usize>> = needs.to_vec();
    for _ in 0..needs.len() {
        reach = reach
            .iter()
            .map(|own| own.iter().flat_map(|need| reach[*need].iter().copied()).chain(own.iter().copied()).collect())
            .collect();
    }
    reach.iter().enumerate().any(|(position, reached)| reached.contains(&position))
}

proptest! {
    // more by PROPTEST_CASES, e.g. 100000
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(500)))]

    #[test]
    fn any_text_parses_or_has_problems(text in any_text()) {
        outcome_is_sound(parse(&text, Syntax::Yaml))?;
        outcome_is_sound(parse(&text, Syntax::Json))?;
    }

    #[test]
    fn any_value_parses_or_has_problems(value in any_json()) {
        outcome_is_sound(parse_value(&value))?;
        outcome_is_sound(parse(&value.to_string(), Syntax::Json))?;
        let in_a_node = json!({"workflow": "w", "inputs": value, "nodes": {"a": {"transform": value}}});
        outcome_is_sound(parse_value(&in_a_node))?;
    }

    #[test]
    fn any_template_renders_or_fails(pieces in proptest::collection::vec(piece(), 0..12), value in any_json()) {
        let context = json!({"inputs": value, "nodes": {}, "run": {"id": "r"}, "task": {"attempt": 1}});
        let template = pieces.concat();
        let _ = render_text(&template, &context).is_ok();
        let _ = render_value(&json!(format!("{{{{ {template} }}}}")), &context).is_ok();
        // A value that passes through a sole expression is not changed.
        if let Ok(passed) = render_value(&json!("{{ inputs }}"), &context) {
            prop_assert_eq!(&passed, &value);
        }
    }

    #[test]
    fn needs_and_dependents_mirror_each_other(needs in any_needs()) {
        // Only needs of smaller positions: no cycles. The keys run against the positions.
        let needs: Vec<BTreeSet<usize>> =
            needs.iter().enumerate().map(|(position, own)| own.range(..position).copied().collect()).collect();
        let key = |position: usize| format!("n{:02}", 50 - position);
        let definition = parse_value(&definition_of(&needs, key)).unwrap();
        prop_assert_eq!(definition.nodes.len(), needs.len());
        for (index, node) in definition.nodes.iter().enumerate() {
            prop_assert_eq!(node.index as usize, index);
            prop_assert_eq!(definition.node_by_key(&node.key), Some(node));
            prop_assert!(node.needs.iter().all(|need| *need < node.index), "an index comes after what it needs");
            prop_assert_eq!(node.uses.iter().collect::<BTreeSet<_>>(), node.needs.iter().collect::<BTreeSet<_>>());
            prop_assert!(node.dependents.is_sorted());
            for need in &node.needs {
                prop_assert!(definition.node(*need).unwrap().dependents.contains(&node.index));
            }
            for dependent in &node.dependents {
                prop_assert!(definition.node(*dependent).unwrap().needs.contains(&node.index));
            }
        }
        let expected: usize = needs.iter().map(BTreeSet::len).sum();
        prop_assert_eq!(definition.nodes.iter().map(|node| node.dependents.len()).sum::<usize>(), expected);
        let terminal: BTreeSet<&String> = definition.nodes.iter().filter(|node| node.dependents.is_empty()).map(|node| &node.key).collect();
        prop_assert_eq!(definition.outputs.keys().collect::<BTreeSet<_>>(), terminal);
    }

    #[test]
    fn a_cycle_is_always_found_and_never_invented(needs in any_needs()) {
        let outcome = parse_value(&definition_of(&needs, |position| format!("n{position}")));
        let found = outcome.err().unwrap_or_default();
        let circular = found.iter().any(|problem| problem.code == "cycle" || problem.code == "self_need");
        prop_assert_eq!(circular, has_cycle(&needs), "{:?}", found);
    }
}
