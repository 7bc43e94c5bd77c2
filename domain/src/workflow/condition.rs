//! Conditions: expressions of the template engine that say whether a node runs; and the short templates that the
//! engine renders itself, such as the time until which a node waits.
//!
//! Decided while a transaction holds its locks, so they get little fuel. They see what a mission was given and what
//! nodes handed on, and nothing that differs between attempts: deciding again gives the same answer.

use minijinja::UndefinedBehavior;
use minijinja::value::ValueKind;
use serde_json::Value;

use super::problem::{Problem, Problems};
use super::reader::Fields;
use super::scan::{Mention, RESERVED, scan_expression};
use super::template::{self, Inspection, TemplateError};
use crate::limits::{CONDITION_FUEL, MAX_CONDITION_BYTES};

/// What a condition sees.
const ROOTS: [&str; 2] = ["inputs", "nodes"];

/// Reads `when` and notes what it refers to.
pub(super) fn read<'v>(fields: &mut Fields<'v, '_>, mentions: &mut Vec<(Mention<'v>, String)>) -> Option<&'v str> {
    let text = fields.text("when", MAX_CONDITION_BYTES)?;
    let at = fields.at("when");
    read_expression(text, "when", &at, &[], mentions, fields.problems).then_some(text)
}

/// Checks an expression that stands under `key` and may use `known` besides what all conditions see. Whether it is
/// one at all.
pub(super) fn read_expression<'v>(
    text: &'v str,
    key: &str,
    at: &str,
    known: &[&str],
    mentions: &mut Vec<(Mention<'v>, String)>,
    problems: &mut Problems,
) -> bool {
    if text.trim().is_empty() {
        problems.add(at, "no_condition", format!("`{key}` is an expression, this one is empty"));
        return false;
    }
    if text.contains("{{") || text.contains("{%") {
        let message = format!("`{key}` is an expression, not a template");
        let hint = Some("write the expression without braces, e.g. `inputs.count > 3`".to_owned());
        problems.push(Problem::new(at, "condition_syntax", message).with_hint(hint));
        return false;
    }
    inspect(text, at, known, mentions, problems);
    true
}

fn inspect<'v>(
    text: &'v str,
    at: &str,
    known: &[&str],
    mentions: &mut Vec<(Mention<'v>, String)>,
    problems: &mut Problems,
) {
    let found = scan_expression(text).map_err(TemplateError::from).and_then(|scan| {
        let environment = template::environment();
        let compiled = environment.compile_expression(text).map_err(|error| template::convert(&error, text))?;
        let undeclared: Vec<String> = compiled.undeclared_variables(false).into_iter().collect();
        Ok(Inspection::of(&environment, scan, undeclared))
    });
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            let too_complex = matches!(error, TemplateError::TooComplex { .. });
            problems.add(at, if too_complex { "template_too_complex" } else { "condition_syntax" }, error.to_string());
            return;
        }
    };
    note(found, at, ("condition", known), mentions, problems);
}

/// Checks a template that the engine renders itself, as far as that goes without knowing the other nodes.
pub(super) fn read_template<'v>(
    text: &'v str,
    at: &str,
    mentions: &mut Vec<(Mention<'v>, String)>,
    problems: &mut Problems,
) {
    read_template_with(text, at, &[], mentions, problems);
}

/// As [`read_template`], for a template that may use `known` besides what conditions see.
pub(super) fn read_template_with<'v>(
    text: &'v str,
    at: &str,
    known: &[&str],
    mentions: &mut Vec<(Mention<'v>, String)>,
    problems: &mut Problems,
) {
    match template::inspect(text) {
        Ok(found) => note(found, at, ("template", known), mentions, problems),
        Err(error) => {
            let too_complex = matches!(error, TemplateError::TooComplex { .. });
            problems.add(at, if too_complex { "template_too_complex" } else { "template_syntax" }, error.to_string());
        }
    }
}

/// Reports what does not exist, and notes what is mentioned.
fn note<'v>(
    found: Inspection<'v>,
    at: &str,
    (what, known): (&str, &[&str]),
    mentions: &mut Vec<(Mention<'v>, String)>,
    problems: &mut Problems,
) {
    let roots = [ROOTS.as_slice(), known].concat();
    let foreign =
        found.scan.mentions.iter().filter(|mention| RESERVED.contains(&mention.root) && !ROOTS.contains(&mention.root));
    for mention in foreign {
        let message = format!("line {}: this {what} does not know `{}`", mention.line, mention.root);
        let hint = format!("known here: {}", roots.join(", "));
        problems.push(Problem::new(at, "unknown_variable", message).with_hint(hint));
    }
    found.report(at, what, &roots, problems);
    let own = found.scan.mentions.into_iter().filter(|mention| ROOTS.contains(&mention.root));
    mentions.extend(own.map(|mention| (mention, at.to_owned())));
}

/// Whether the condition holds: whether its value is true in the sense of the template engine, which takes `false`,
/// `none`, `0` and what is empty for false. Errors: as templates; what is undefined is no answer.
pub fn holds(condition: &str, context: &Value) -> Result<bool, TemplateError> {
    scan_expression(condition).map_err(TemplateError::from)?;
    let mut environment = template::environment();
    environment.set_fuel(Some(CONDITION_FUEL));
    debug_assert_eq!(environment.undefined_behavior(), UndefinedBehavior::Strict, "what is undefined is an error");
    let lift = |error: minijinja::Error| template::convert(&error, condition);
    let compiled = environment.compile_expression(condition).map_err(lift)?;
    let value = compiled.eval(minijinja::Value::from(minijinja::value::Serde(context))).map_err(lift)?;
    match value.kind() {
        ValueKind::Undefined => {
            Err(TemplateError::Undefined { line: 1, name: condition.trim().chars().take(80).collect() })
        }
        _ => Ok(value.is_true()),
    }
}

/// Renders a template that the engine needs itself, with no more fuel than a condition has. Errors: as templates.
pub fn render(template: &str, context: &Value) -> Result<String, TemplateError> {
    template::render_with(template, context, CONDITION_FUEL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn answer(condition: &str) -> Result<bool, TemplateError> {
        let context = json!({
            "inputs": {"yes": true, "no": false, "count": 3, "empty": "", "tags": ["a"], "none": null},
            "nodes": {"plan": {"output": {"files": [1, 2], "verdict": "LGTM"}}, "skipped": {"output": null}},
        });
        holds(condition, &context)
    }

    #[test]
    fn a_condition_holds_when_its_value_is_true() {
        for (condition, expected) in [
            ("inputs.yes", true),
            ("inputs.no", false),
            ("not inputs.no", true),
            ("inputs.count > 2 and inputs.tags", true),
            ("inputs.empty", false),
            ("inputs.none", false),
            ("inputs.missing|default(false)", false),
            ("inputs.missing is defined", false),
            ("nodes.plan.output.files|length == 2", true),
            ("'LGTM' in nodes.plan.output.verdict", true),
            ("nodes.skipped.output is none", true),
            ("nodes.skipped.output", false),
        ] {
            assert_eq!(answer(condition), Ok(expected), "{condition}");
        }
    }

    #[test]
    fn a_condition_without_an_answer_is_an_error() {
        let undefined = |name: &str| Err(TemplateError::Undefined { line: 1, name: name.to_owned() });
        assert_eq!(answer("inputs.missing"), undefined("inputs.missing"));
        assert_eq!(answer("not inputs.missing"), undefined("inputs.missing"));
        assert_eq!(answer("inputs.missing == 1"), undefined("inputs.missing"));
        assert_eq!(answer("nodes.plan.output.nothing > 1"), undefined("nodes.plan.output.nothing"));
        let failed = answer("inputs.count + inputs.empty").unwrap_err();
        assert!(matches!(failed, TemplateError::Failed { .. }), "{failed}");
        assert_eq!(answer("range(99999)|map('upper')|list|length > 1"), Err(TemplateError::OutOfFuel));
    }

    #[test]
    fn one_expression_is_all_there_is() {
        for text in ["1 }} {{ 2", "1 2", "", "(", "1)", "{% if 1 %}"] {
            assert!(answer(text).is_err(), "{text}");
        }
    }
}
