//! Renders templates: minijinja, pure, with strict undefined variables and bounds on work, size and nesting.
//!
//! A template sees its context and nothing else: no loaders, no files, no clock, no random numbers. Errors name
//! the line and what the author wrote there, never the values that flowed through. The context has the shape
//! `{"inputs": {…}, "nodes": {"prd": {"output": …}}, "run": {"id": "…"}, "task": {"attempt": 1}}`.

use std::io;

use minijinja::value::ValueKind;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Number, Value};

use super::problem::{Problem, Problems, did_you_mean};
use super::scan::{Scan, TooComplex, scan};
use crate::limits::{MAX_RENDERED_BYTES, MAX_RENDERED_DEPTH, TEMPLATE_FUEL};

/// Why a template did not render. No other attempt with the same context will do better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is not well formed.
    #[error("line {line}: {reason}")]
    Syntax {
        /// The line in the template, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template is too large or too nested to be handled safely.
    #[error("line {line}: {reason}")]
    TooComplex {
        /// The line in the template where it became too much.
        line: usize,
        /// The limit.
        reason: String,
    },
    /// Something is used that the context does not have.
    #[error("line {line}: `{name}` is undefined")]
    Undefined {
        /// The line in the template.
        line: usize,
        /// What is undefined, as written in the template.
        name: String,
    },
    /// The template does more work than any template should.
    #[error("the template does not end within its limit of {TEMPLATE_FUEL} steps")]
    OutOfFuel,
    /// The result has more than [`MAX_RENDERED_BYTES`].
    #[error("the template produces more than {MAX_RENDERED_BYTES} bytes")]
    TooLarge,
    /// An operation failed, such as adding text to a number.
    #[error("line {line}: {reason}")]
    Failed {
        /// The line in the template.
        line: usize,
        /// What failed, by types and names.
        reason: String,
    },
}

/// Renders a template to text of at most [`MAX_RENDERED_BYTES`].
pub fn render_text(template: &str, context: &Value) -> Result<String, TemplateError> {
    scan_checked(template)?;
    Rendering::new(context).text(template)
}

/// As [`render_text`], with so much fuel.
pub(super) fn render_with(template: &str, context: &Value, fuel: u64) -> Result<String, TemplateError> {
    scan_checked(template)?;
    let mut rendering = Rendering::new(context);
    rendering.environment.set_fuel(Some(fuel));
    rendering.text(template)
}

/// The value of an expression, as JSON of at most so many bytes.
pub(super) fn evaluate(expression: &str, context: &Value, max_bytes: usize) -> Result<Value, TemplateError> {
    super::scan::scan_expression(expression)?;
    let mut rendering = Rendering::new(context);
    rendering.bytes_left = max_bytes;
    let environment = rendering.environment.clone();
    let compiled = environment.compile_expression(expression).map_err(|error| convert(&error, expression))?;
    let value = compiled.eval(rendering.context.clone()).map_err(|error| convert(&error, expression))?;
    rendering.json(&value, expression, 0)
}

/// Renders every string inside of a JSON value; keys stay as they are. A string that is exactly one
/// `{{ expression }}` becomes the expression's value with its JSON type; any other string stays a string.
pub fn render_value(template: &Value, context: &Value) -> Result<Value, TemplateError> {
    Rendering::new(context).value(template, 0)
}

/// Checks the syntax and tells what the template refers to.
pub(super) fn inspect(template: &str) -> Result<Inspection<'_>, TemplateError> {
    let scan = scan_checked(template)?;
    let environment = environment();
    let compiled = environment.template_from_str(template).map_err(|error| convert(&error, template))?;
    if let Some(expression) = scan.sole_expression {
        environment.compile_expression(expression).map_err(|error| convert(&error, template))?;
    }
    let undeclared = compiled.undeclared_variables(false).into_iter().collect();
    Ok(Inspection::of(&environment, scan, undeclared))
}

/// What a well-formed template refers to.
pub(super) struct Inspection<'t> {
    /// The tags and what they mention.
    pub(super) scan: Scan<'t>,
    /// Variables that no context has and the template does not set.
    pub(super) unknown: Vec<String>,
    /// Filters that do not exist, with their lines.
    pub(super) unknown_filters: Vec<(&'t str, usize)>,
    /// Tests that do not exist, with their lines.
    pub(super) unknown_tests: Vec<(&'t str, usize)>,
}

impl<'t> Inspection<'t> {
    /// Finds the names that do not exist.
    pub(super) fn of(environment: &Environment<'_>, scan: Scan<'t>, undeclared: Vec<String>) -> Self {
        let globals: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
        let mut unknown = undeclared;
        unknown.retain(|name| !super::scan::RESERVED.contains(&name.as_str()) && !globals.contains(&name.as_str()));
        unknown.sort();
        // There is no plain lookup; a call without arguments tells names that exist from names that do not.
        let mut state = environment.empty_state();
        let mut unknown_filters: Vec<(&str, usize)> = scan.filters.iter().copied().collect();
        unknown_filters.retain(
            |(name, _)| matches!(state.apply_filter(name, &[]), Err(error) if error.kind() == ErrorKind::UnknownFilter),
        );
        let mut unknown_tests: Vec<(&str, usize)> = scan.tests.iter().copied().collect();
        unknown_tests.retain(
            |(name, _)| matches!(state.perform_test(name, &[]), Err(error) if error.kind() == ErrorKind::UnknownTest),
        );
        Self { scan, unknown, unknown_filters, unknown_tests }
    }

    /// Reports the names that do not exist; `what` is what uses them, `roots` are the variables it may use.
    pub(super) fn report(&self, at: &str, what: &str, roots: &[&str], problems: &mut Problems) {
        for name in self.unknown.iter().filter(|name| !roots.contains(&name.as_str())) {
            let known = || format!("known here: {}", roots.join(", "));
            let hint = did_you_mean(name, roots.iter().copied()).unwrap_or_else(known);
            let message = format!("the {what} uses `{name}`, which does not exist");
            problems.push(Problem::new(at, "unknown_variable", message).with_hint(hint));
        }
        for (name, line) in &self.unknown_filters {
            problems.add(at, "unknown_filter", format!("line {line}: there is no filter `{name}`"));
        }
        for (name, line) in &self.unknown_tests {
            problems.add(at, "unknown_test", format!("line {line}: there is no test `{name}`"));
        }
    }
}

impl From<TooComplex> for TemplateError {
    fn from(TooComplex { line, reason }: TooComplex) -> Self {
        Self::TooComplex { line, reason }
    }
}

fn scan_checked(template: &str) -> Result<Scan<'_>, TemplateError> {
    scan(template).map_err(TemplateError::from)
}

pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(TEMPLATE_FUEL));
    // Makes errors name what is undefined. What else it keeps is never shown.
    environment.set_debug(true);
    // `debug` would print the whole context; a namespace could nest a value once per loop iteration.
    environment.remove_global("debug");
    environment.remove_global("namespace");
    environment.remove_filter("pprint");
    environment
}

/// One pass over a template with its context and what is left of its output.
struct Rendering {
    environment: Environment<'static>,
    context: minijinja::Value,
    bytes_left: usize,
}

impl Rendering {
    fn new(context: &Value) -> Self {
        let context = minijinja::Value::from(minijinja::value::Serde(context));
        Self { environment: environment(), context, bytes_left: MAX_RENDERED_BYTES }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TemplateError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(TemplateError::TooLarge)?;
        Ok(())
    }

    fn text(&mut self, template: &str) -> Result<String, TemplateError> {
        let compiled = self.environment.template_from_str(template).map_err(|error| convert(&error, template))?;
        let mut out = Bounded { bytes: Vec::new(), left: self.bytes_left };
        let rendered = compiled.render_captured_to(self.context.clone(), &mut out).map(drop);
        rendered.map_err(|error| convert(&error, template))?;
        let text = String::from_utf8(out.bytes);
        let text = text.map_err(|_| failed(1, "the template produces text that is not UTF-8"))?;
        self.spend(text.len())?;
        Ok(text)
    }

    fn value(&mut self, template: &Value, depth: usize) -> Result<Value, TemplateError> {
        let below = depth.saturating_add(1);
        match template {
            Value::String(text) => self.string(text, depth),
            Value::Array(items) => {
                self.spend(2)?;
                items.iter().map(|item| self.value(item, below)).collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Object(fields) => {
                self.spend(2)?;
                let field = |(key, value): (&String, &Value)| {
                    self.spend(key.len())?;
                    Ok((key.clone(), self.value(value, below)?))
                };
                fields.iter().map(field).collect::<Result<_, _>>().map(Value::Object)
            }
            other => {
                self.spend(1)?;
                Ok(other.clone())
            }
        }
    }

    fn string(&mut self, template: &str, depth: usize) -> Result<Value, TemplateError> {
        if !template.contains('{') {
            self.spend(template.len().saturating_add(2))?;
            return Ok(Value::String(template.to_owned()));
        }
        let Some(expression) = scan_checked(template)?.sole_expression else {
            return self.text(template).map(Value::String);
        };
        let compiled = self.environment.compile_expression(expression).map_err(|error| convert(&error, template))?;
        let result = compiled.eval(self.context.clone()).map_err(|error| convert(&error, template))?;
        self.json(&result, expression, depth)
    }

    /// Turns a value of the engine into JSON, item by item, so that a lazy list cannot outgrow the limit.
    fn json(&mut self, value: &minijinja::Value, expression: &str, depth: usize) -> Result<Value, TemplateError> {
        self.spend(1)?;
        if depth > MAX_RENDERED_DEPTH {
            return Err(failed(1, &format!("the value nests more than {MAX_RENDERED_DEPTH} deep")));
        }
        let lift = |error: minijinja::Error| convert(&error, expression);
        match value.kind() {
            ValueKind::Undefined => {
                Err(TemplateError::Undefined { line: 1, name: expression.trim().chars().take(80).collect() })
            }
            ValueKind::None => Ok(Value::Null),
            ValueKind::Bool => Ok(Value::Bool(value.is_true())),
            ValueKind::Number => number(value).map(Value::Number),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut items = Vec::new();
                for item in value.try_iter().map_err(lift)? {
                    items.push(self.json(&item, expression, depth.saturating_add(1))?);
                }
                Ok(Value::Array(items))
            }
            ValueKind::Map => {
                let mut fields = Map::new();
                for key in value.try_iter().map_err(lift)? {
                    let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    self.spend(name.len())?;
                    let field = value.get_item(&key).map_err(lift)?;
                    fields.insert(name, self.json(&field, expression, depth.saturating_add(1))?);
                }
                Ok(Value::Object(fields))
            }
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                self.spend(text.len())?;
                Ok(Value::String(text.to_owned()))
            }
            // An item whose evaluation failed, e.g. for lack of fuel; reading it in any way brings the error out.
            ValueKind::Invalid => Err(value.try_iter().map_or_else(lift, |_| failed(1, "the expression has no value"))),
            _ => Err(failed(1, "the expression has no JSON value")),
        }
    }
}

fn number(value: &minijinja::Value) -> Result<Number, TemplateError> {
    match serde_json::to_value(value) {
        Ok(Value::Number(number)) => Ok(number),
        _ => Err(failed(1, "the expression is a number that JSON cannot hold")),
    }
}

fn failed(line: usize, reason: &str) -> TemplateError {
    TemplateError::Failed { line, reason: reason.to_owned() }
}

/// Text that refuses to grow beyond what is left.
struct Bounded {
    bytes: Vec<u8>,
    left: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.checked_sub(bytes.len());
        self.left = left.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine's error in our words. Its details name types and what the author wrote; the few that may quote a
/// number from the data are left out.
pub(super) fn convert(error: &minijinja::Error, template: &str) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let detail = error.detail().unwrap_or_default();
    if let Some(name) = undefined_name(detail) {
        return TemplateError::Undefined { line, name: name.to_owned() };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel,
        ErrorKind::WriteFailure => TemplateError::TooLarge,
        ErrorKind::UndefinedError => TemplateError::Undefined { line, name: source_line(template, line) },
        ErrorKind::SyntaxError | ErrorKind::BadEscape => {
            let reason = if detail.is_empty() { "syntax error".to_owned() } else { detail.to_owned() };
            TemplateError::Syntax { line, reason }
        }
        kind if detail.is_empty() || detail.starts_with("unable to calculate") => failed(line, &kind.to_string()),
        _ => failed(line, detail),
    }
}

/// The part in backticks of "`name` is undefined", which may stand in brackets behind another message.
fn undefined_name(detail: &str) -> Option<&str> {
    let (before, _) = detail.split_once("` is undefined")?;
    before.rsplit_once('`').map(|(_, name)| name)
}

fn source_line(template: &str, line: usize) -> String {
    let text = template.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    text.trim().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::limits::{MAX_TAG_TOKENS, MAX_TEMPLATE_NESTINGS, MAX_TEMPLATE_TAGS};
    use serde_json::json;

    fn context() -> Value {
        json!({
            "inputs": {"idea": "<snake & co>", "count": 3, "ratio": 0.5, "yes": true, "none": null, "tags": ["a", "b"]},
            "nodes": {"plan": {"output": {"files": [{"path": "a.rs"}], "title": "Plan"}}},
            "run": {"id": "run_1"},
            "task": {"attempt": 1}
        })
    }

    fn undefined(line: usize, name: &str) -> TemplateError {
        TemplateError::Undefined { line, name: name.to_owned() }
    }

    #[test]
    fn text_is_rendered_as_it_is_without_escapes() {
        let template =
            "Idea: {{ inputs.idea }}\n{% for file in nodes.plan.output.files %}- {{ file.path }}{% endfor %}\n";
        assert_eq!(render_text(template, &context()).unwrap(), "Idea: <snake & co>\n- a.rs");
        assert_eq!(
            render_text("{{ nodes.plan.output|tojson }}", &context()).unwrap(),
            r#"{"files": [{"path": "a.rs"}], "title": "Plan"}"#
        );
    }

    #[test]
    fn a_sole_expression_keeps_its_type_and_other_strings_stay_text() {
        let template = json!({
            "object": "{{ nodes.plan.output }}", "list": "{{ inputs.tags }}", "number": "{{ inputs.count }}",
            "sum": "{{ inputs.count + 1 }}", "ratio": "{{ inputs.ratio }}", "flag": "{{ inputs.yes }}", "none": "{{ inputs.none }}",
            "text": "{{ inputs.count }} tags", "spaced": " {{ inputs.count }}", "built": "{{ {'a': [1, inputs.count]} }}",
            "lazy": "{{ range(3) }}", "plain": "no tags { here", "fixed": [1, null, {"deep": "{{ run.id }}"}], "{{ key }}": 1
        });
        let expected = json!({
            "object": {"files": [{"path": "a.rs"}], "title": "Plan"}, "list": ["a", "b"], "number": 3,
            "sum": 4, "ratio": 0.5, "flag": true, "none": null,
            "text": "3 tags", "spaced": " 3", "built": {"a": [1, 3]},
            "lazy": [0, 1, 2], "plain": "no tags { here", "fixed": [1, null, {"deep": "run_1"}], "{{ key }}": 1
        });
        assert_eq!(render_value(&template, &context()).unwrap(), expected);
    }

    #[test]
    fn what_is_undefined_is_named_with_its_line() {
        let cases = [
            ("{{ nodes.prd.output }}", 1, "nodes.prd"),
            ("one\n{{ inputs.missing }}", 2, "inputs.missing"),
            ("{{ inputs.missing|upper }}", 1, "inputs.missing"),
            ("{{ inputs.missing + 1 }}", 1, "inputs.missing"),
            ("{% for file in nodes.plan.output.files %}{{ file.size }}{% endfor %}", 1, "file.size"),
            ("{{ inputs.tags[7] }}", 1, "inputs.tags[7]"),
            ("{{ nowhere }}", 1, "nowhere"),
        ];
        for (template, line, name) in cases {
            assert_eq!(render_text(template, &context()), Err(undefined(line, name)), "{template}");
        }
        assert_eq!(render_value(&json!("{{ inputs.missing }}"), &context()), Err(undefined(1, "inputs.missing")));
        assert_eq!(render_value(&json!(["{{ [inputs.missing] }}"]), &context()), Err(undefined(1, "[inputs.missing]")));
        assert_eq!(render_text("{{ inputs.missing|default('x') }}", &context()).unwrap(), "x");
        assert_eq!(render_text("{{ inputs.missing is defined }}", &context()).unwrap(), "False");
    }

    #[test]
    fn endless_work_is_stopped_by_fuel() {
        let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert_eq!(render_text(loops, &context()), Err(TemplateError::OutOfFuel));
        assert_eq!(render_text("{{ 'x' * 90000000 }}", &context()), Err(TemplateError::OutOfFuel));
        assert_eq!(
            render_value(&json!("{{ range(99999)|map('upper')|map('lower')|map('upper')|map('lower') }}"), &context())
                .map(drop),
            Err(TemplateError::OutOfFuel)
        );
        assert_eq!(render_value(&json!("{{ 'x' * 90000000 }}"), &context()), Err(TemplateError::OutOfFuel));
    }

    #[test]
    fn huge_results_are_refused() {
        let megabyte = "{% for a in range(1100) %}{{ 'x' * 1000 }}{% endfor %}";
        assert_eq!(render_text(megabyte, &context()), Err(TemplateError::TooLarge));
        let repeated = json!("{{ [1] * 90000000 }}");
        assert_eq!(
            render_value(&repeated, &context()),
            Err(TemplateError::TooLarge),
            "a lazy list must not be unrolled"
        );
        let half = "{{ 'x' * 600000 }}";
        assert_eq!(render_text(half, &context()).unwrap().len(), 600_000);
        assert_eq!(
            render_value(&json!([half, half]), &context()),
            Err(TemplateError::TooLarge),
            "all strings together count"
        );
        let texts = json!([format!("{half}."), format!("{half}.")]);
        assert_eq!(render_value(&texts, &context()), Err(TemplateError::TooLarge));
    }

    #[test]
    fn text_stops_growing_at_the_limit() {
        let mut out = Bounded { bytes: Vec::new(), left: 5 };
        assert!(io::Write::write(&mut out, b"abc").is_ok());
        assert!(io::Write::write(&mut out, b"def").is_err());
        assert_eq!(out.bytes, b"abc");
    }

    #[test]
    fn deep_results_are_refused() {
        let nested = |levels: usize| json!({"inputs": (0..levels).fold(json!(1), |inner, _| json!([inner]))});
        assert!(render_value(&json!("{{ inputs }}"), &nested(100)).is_ok());
        let too_deep = Err(failed(1, "the value nests more than 100 deep"));
        assert_eq!(render_value(&json!("{{ inputs }}"), &nested(101)), too_deep);
        assert_eq!(render_value(&json!([["{{ inputs }}"]]), &nested(99)), too_deep, "what is around it counts");
    }

    #[test]
    fn there_is_no_way_out_of_the_context() {
        for (template, reason) in [
            ("{% include 'x' %}", "unknown statement include"),
            ("{% import 'x' as y %}", "unknown statement import"),
            ("{% extends 'x' %}", "unknown statement extends"),
        ] {
            assert_eq!(
                render_text(template, &context()),
                Err(TemplateError::Syntax { line: 1, reason: reason.to_owned() })
            );
        }
        for name in ["debug", "namespace", "now", "env"] {
            let failure = render_text(&format!("{{{{ {name}() }}}}"), &context()).unwrap_err();
            assert_eq!(failure, failed(1, &format!("{name} is unknown")));
        }
    }

    #[test]
    fn errors_do_not_repeat_what_flowed_through() {
        let secret = json!({"inputs": {"text": "hunter2", "number": 424_242}, "nodes": {}, "run": {}, "task": {}});
        for template in [
            "{{ inputs.text|int }}",
            "{{ inputs.text + 1 }}",
            "{{ inputs.text|nope }}",
            "{{ inputs.text.nope() }}",
            "{{ inputs.number // 0 }}",
            "{{ inputs.number ** 424242 }}",
            "{{ inputs.text|join }}",
            "{% for x in inputs.number %}{% endfor %}",
            "{{ inputs.text.x.y }}",
            "{{ inputs[inputs.text] }}",
            "{{ inputs[inputs.text].x }}",
            "{{ inputs.text|sum }}",
            "{{ -inputs.text }}",
            "{{ inputs.text|round }}",
            "{{ inputs.text|batch(0) }}",
            "{{ inputs.text() }}",
            "{{ 'x'|replace(inputs.text) }}",
        ] {
            for result in [render_text(template, &secret).err(), render_value(&json!(template), &secret).err()] {
                let shown = result.map(|error| error.to_string()).unwrap_or_default();
                assert!(!shown.contains("hunter2") && !shown.contains("424242 "), "{template}: {shown}");
            }
        }
        assert_eq!(
            render_text("{{ inputs.text + 1 }}", &secret),
            Err(failed(1, "tried to use + operator on unsupported types string and number"))
        );
    }

    /// Runs with the stack of a worker thread and no more.
    fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn the_most_complex_templates_that_are_allowed_do_not_overflow_the_stack() {
        let half = (MAX_TAG_TOKENS - 2) / 2;
        let wrapped = |inner: String| format!("{{{{ {inner} }}}}");
        let set = format!("{{% set x = {}x{} %}}", "[".repeat(100), "]".repeat(100));
        let nest = format!("{{% set x = 1 %}}{}", set.repeat(MAX_TEMPLATE_NESTINGS / 100 - 1));
        let templates = [
            wrapped(format!("1{}", "+1".repeat(half))),
            wrapped(format!("run{}", "~run".repeat(half))),
            wrapped(format!("run{}", ".id".repeat(half))),
            wrapped(format!("run{}", "|e".repeat(half))),
            wrapped(format!("{}1", "-".repeat(MAX_TAG_TOKENS - 1))),
            wrapped(format!("{}1", "not ".repeat(MAX_TAG_TOKENS - 1))),
            wrapped(format!("1{}", "**1".repeat(half))),
            wrapped(format!("{}1{}", "(".repeat(half), ")".repeat(half))),
            wrapped(format!("run{}", "()".repeat(half))),
            format!("{{% if run %}}{}{{% endif %}}", "{% elif run %}".repeat(MAX_TEMPLATE_TAGS - 2)),
            "{% if run %}".repeat(MAX_TEMPLATE_TAGS - 1),
            format!("{nest}{{{{ x }}}}"),
            format!("{nest}{{% set y = {{1: x}} == x %}}{{{{ x == x }}}}"),
        ];
        on_a_small_stack(move || {
            for template in templates {
                assert!(scan(&template).is_ok(), "{}", template.chars().take(60).collect::<String>());
                let _ = inspect(&template).is_ok();
                let _ = render_text(&template, &context()).is_ok();
                let _ = render_value(&json!(template), &context()).is_ok();
            }
        });
    }

    #[test]
    fn a_variable_set_in_a_loop_starts_anew_each_time() {
        // Otherwise a loop could nest a value once per iteration, beyond any bound on the template's text.
        let template = "{% for i in range(3) %}{{ y|default(0) }}{% set y = [y|default(0)] %}{% endfor %}";
        assert_eq!(render_text(template, &context()).unwrap(), "000");
    }
}
