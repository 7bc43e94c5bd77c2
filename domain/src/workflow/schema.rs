//! The JSON Schema of a workflow's inputs: compiled once, checked against every mission's input.
//!
//! Schemas come from tenants, so they are bounded before they are compiled: references stay inside of the schema
//! and do not go in circles, shared references do not multiply without end, patterns run in linear time. Nothing
//! is ever fetched.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

use super::problem::{Problem, Problems, below};
use super::reader::wrong_type;
use crate::limits::{
    MAX_PATTERN_COMPILED_BYTES, MAX_PROBLEMS, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_PATTERNS, MAX_SCHEMA_STEPS,
};

/// The drafts whose `$ref` means what [`bound`] takes it to mean, as parts of their addresses.
const DRAFTS: [&str; 3] = ["2020-12", "2019-09", "draft-07"];

/// A compiled schema. Two are equal: they are compared by the schemas they were compiled from.
#[derive(Clone)]
pub(super) struct InputCheck(Option<Arc<Validator>>);

impl fmt::Debug for InputCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputCheck")
    }
}

impl PartialEq for InputCheck {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl InputCheck {
    /// Without a schema every mapping is an input.
    pub(super) const ANY_MAPPING: Self = Self(None);

    /// Compiles the schema at `at`; what is wrong with it goes to `problems`.
    pub(super) fn compile(schema: &Value, at: &str, problems: &mut Problems) -> Self {
        if !schema.is_object() {
            problems.push(wrong_type(at.to_owned(), "a JSON Schema (a mapping)", schema));
            return Self::ANY_MAPPING;
        }
        if let Err(problem) = bound(schema, at) {
            problems.push(problem);
            return Self::ANY_MAPPING;
        }
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_COMPILED_BYTES);
        match jsonschema::options().offline().with_pattern_options(patterns).build(schema) {
            Ok(validator) => Self(Some(Arc::new(validator))),
            Err(error) => {
                let pointer = format!("{at}{}", error.instance_path());
                problems.add(
                    pointer,
                    "invalid_schema",
                    format!("this is not a usable JSON Schema: {}", error.masked()),
                );
                Self::ANY_MAPPING
            }
        }
    }

    /// Checks an input. Messages name keys and rules, never the input's values.
    pub(super) fn check(&self, input: &Value) -> Result<(), Vec<Problem>> {
        let Some(validator) = &self.0 else {
            return if input.is_object() { Ok(()) } else { Err(vec![wrong_type(String::new(), "a mapping", input)]) };
        };
        let problems: Vec<Problem> =
            validator.iter_errors(input).take(MAX_PROBLEMS).map(|error| explain(&error)).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// A JSON Schema that is no part of a definition, such as that of a tool's arguments; bounded like those that are.
#[derive(Debug, Clone)]
pub struct Schema(InputCheck);

impl Schema {
    /// Compiles it. Errors: what is wrong with it, by JSON pointers.
    pub fn compile(schema: &Value) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::default();
        let check = InputCheck::compile(schema, "", &mut problems);
        problems.or(Some(Self(check)))
    }

    /// Checks a value. Errors: what is wrong with it, by places and rules, never by values.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Problem>> {
        self.0.check(value)
    }
}

fn explain(error: &jsonschema::ValidationError<'_>) -> Problem {
    let parent = error.instance_path().to_string();
    if let ValidationErrorKind::Required { property: Value::String(key) } = error.kind() {
        return Problem::new(below(&parent, key), "missing", format!("`{key}` is missing"));
    }
    Problem::new(parent, "invalid_input", error.masked_with("the value").to_string())
}

/// Whether a template may use `inputs.key`: false only if the schema lists its properties and this is none.
pub(super) fn may_have(schema: &Value, key: &str) -> bool {
    let open = ["patternProperties", "$ref", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"];
    let listed = schema.get("properties").and_then(Value::as_object);
    let closed = matches!(schema.get("additionalProperties"), None | Some(Value::Bool(false)));
    match listed {
        Some(listed) if closed && !open.iter().any(|keyword| schema.get(keyword).is_some()) => listed.contains_key(key),
        _ => true,
    }
}

/// The properties that the schema lists at its top.
pub(super) fn listed(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str)
}

/// Refuses schemas that would be costly or endless to compile or to check.
fn bound(schema: &Value, at: &str) -> Result<(), Problem> {
    if schema.to_string().len() > MAX_SCHEMA_BYTES {
        return Err(Problem::new(at, "too_large", format!("a schema has at most {MAX_SCHEMA_BYTES} bytes")));
    }
    let mut walk = Walk { root: schema, at, sizes: BTreeMap::new(), open: Vec::new(), depth: 0, patterns: 0 };
    let size = walk.schema(schema, at)?;
    if size.steps > MAX_SCHEMA_STEPS {
        let message =
            format!("with all references followed, a schema has at most {MAX_SCHEMA_STEPS} parts, this has more");
        return Err(Problem::new(at, "too_large", message));
    }
    if walk.patterns > MAX_SCHEMA_PATTERNS {
        return Err(Problem::new(at, "too_many", format!("a schema has at most {MAX_SCHEMA_PATTERNS} patterns")));
    }
    Ok(())
}

/// What checking an input by a schema may take.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Subschemas visited.
    steps: usize,
    /// Levels of nesting.
    height: usize,
}

impl Size {
    const ONE: Self = Self { steps: 1, height: 1 };

    fn and(self, sibling: Self) -> Self {
        Self { steps: self.steps.saturating_add(sibling.steps), height: self.height.max(sibling.height) }
    }

    fn and_below(self, child: Self) -> Self {
        self.and(Self { height: child.height.saturating_add(1), ..child })
    }
}

/// Measures a schema with every reference followed.
struct Walk<'v> {
    root: &'v Value,
    at: &'v str,
    /// Targets of references that were measured already.
    sizes: BTreeMap<&'v str, Size>,
    /// The references that are being followed.
    open: Vec<&'v str>,
    depth: usize,
    patterns: usize,
}

impl<'v> Walk<'v> {
    fn schema(&mut self, schema: &'v Value, at: &str) -> Result<Size, Problem> {
        self.depth = self.depth.saturating_add(1);
        self.refuse_depth(0, at)?;
        let mut size = Size::ONE;
        match schema {
            Value::Object(keywords) => {
                for (keyword, value) in keywords {
                    size = size.and_below(self.keyword(keyword, value, &below(at, keyword))?);
                }
            }
            Value::Array(schemas) => {
                for (index, item) in schemas.iter().enumerate() {
                    size = size.and_below(self.schema(item, &below(at, index))?);
                }
            }
            _ => {}
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(size)
    }

    fn keyword(&mut self, keyword: &'v str, value: &'v Value, at: &str) -> Result<Size, Problem> {
        match (keyword, value) {
            ("$ref", Value::String(target)) => self.reference(target, at),
            ("$schema", Value::String(draft)) if DRAFTS.iter().any(|known| draft.contains(known)) => Ok(Size::ONE),
            ("$schema", _) => {
                let message = format!("`$schema` must be one of these drafts: {}", DRAFTS.join(", "));
                Err(Problem::new(at, "unsupported_schema", message))
            }
            ("$id" | "$anchor" | "$dynamicRef" | "$dynamicAnchor" | "$recursiveRef" | "$recursiveAnchor", _) => {
                let message =
                    format!("`{keyword}` is not allowed here; refer to parts of the schema by `$ref: '#/$defs/…'`");
                Err(Problem::new(at, "unsupported_schema", message))
            }
            ("const" | "enum" | "default" | "examples", _) => Ok(Size::ONE),
            (
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas",
                Value::Object(named),
            ) => {
                if keyword == "patternProperties" {
                    self.patterns = self.patterns.saturating_add(named.len());
                }
                let mut size = Size::default();
                for (name, schema) in named {
                    size = size.and(self.schema(schema, &below(at, name))?);
                }
                Ok(size)
            }
            ("pattern", _) => {
                self.patterns = self.patterns.saturating_add(1);
                Ok(Size::ONE)
            }
            _ => self.schema(value, at),
        }
    }

    fn reference(&mut self, target: &'v str, at: &str) -> Result<Size, Problem> {
        if self.open.contains(&target) {
            return Err(Problem::new(at, "unsupported_schema", format!("`$ref: {target}` leads back to itself")));
        }
        if let Some(size) = self.sizes.get(target).copied() {
            self.refuse_depth(size.height, at)?;
            return Ok(size);
        }
        let inside = target.strip_prefix('#').filter(|_| !target.contains('%'));
        let Some(schema) = inside.and_then(|pointer| self.root.pointer(pointer)) else {
            return Err(Problem::new(
                at,
                "unsupported_schema",
                format!("`$ref: {target}` leads to nothing in this schema"),
            ));
        };
        self.open.push(target);
        let size = self.schema(schema, &format!("{}{}", self.at, inside.unwrap_or_default()))?;
        self.open.pop();
        self.sizes.insert(target, size);
        Ok(size)
    }

    fn refuse_depth(&self, below: usize, at: &str) -> Result<(), Problem> {
        if self.depth.saturating_add(below) <= MAX_SCHEMA_DEPTH {
            return Ok(());
        }
        let message = format!("with all references followed, a schema nests at most {MAX_SCHEMA_DEPTH} deep");
        Err(Problem::new(at, "too_deep", message))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn refusal(schema: &Value) -> Problem {
        let mut problems = Problems::default();
        InputCheck::compile(schema, "/inputs", &mut problems);
        problems.or(Some(())).unwrap_err().remove(0)
    }

    #[test]
    fn references_in_circles_are_refused_before_they_overflow_the_stack() {
        assert_eq!(refusal(&json!({"$ref": "#"})).message, "`$ref: #` leads back to itself");
        let around = json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}});
        assert_eq!(refusal(&around).pointer, "/inputs/$defs/b/not/$ref");
        assert_eq!(refusal(&json!({"$dynamicRef": "#x"})).code, "unsupported_schema");
    }

    #[test]
    fn references_that_multiply_are_counted() {
        let level = |below: usize| json!({"allOf": [{"$ref": format!("#/$defs/l{below}")}, {"$ref": format!("#/$defs/l{below}")}]});
        let mut defs: Map<String, Value> = (1..15).map(|number| (format!("l{number}"), level(number - 1))).collect();
        defs.insert("l0".to_owned(), json!({"type": "string"}));
        assert_eq!(refusal(&json!({"$ref": "#/$defs/l14", "$defs": defs})).code, "too_large");
    }

    #[test]
    fn long_chains_of_references_are_refused_in_any_order() {
        let chain = |order: fn(usize) -> usize| {
            let def =
                |number: usize| (format!("l{number}"), json!({"items": {"$ref": format!("#/$defs/l{}", number + 1)}}));
            let mut defs: Map<String, Value> = (0..60).map(|number| def(order(number))).collect();
            defs.insert("l60".to_owned(), json!(true));
            json!({"$defs": defs, "$ref": "#/$defs/l0"})
        };
        assert_eq!(refusal(&chain(|number| number)).code, "too_deep");
        assert_eq!(refusal(&chain(|number| 59 - number)).code, "too_deep");
    }

    #[test]
    fn patterns_that_cost_too_much_are_refused() {
        let bomb = json!({"properties": {"a": {"type": "string", "pattern": r"\p{L}{30}"}}});
        assert_eq!(refusal(&bomb).pointer, "/inputs/properties/a/pattern");
        let backtracking = json!({"properties": {"a": {"pattern": r"(?=a)b"}}});
        assert_eq!(refusal(&backtracking).code, "invalid_schema");
        let many: Map<String, Value> = (0..65).map(|number| (format!("p{number}"), json!({"pattern": "a"}))).collect();
        assert_eq!(refusal(&json!({"properties": many})).code, "too_many");
    }

    #[test]
    fn nothing_outside_of_the_schema_is_reached() {
        let remote = json!({"$ref": "https://example.com/schema.json"});
        assert_eq!(refusal(&remote).message, "`$ref: https://example.com/schema.json` leads to nothing in this schema");
        assert_eq!(refusal(&json!({"properties": {"a": {"$ref": "#/$defs/a"}}})).pointer, "/inputs/properties/a/$ref");
    }

    #[test]
    fn a_property_may_be_called_like_a_keyword() {
        let mut problems = Problems::default();
        let schema = json!({"properties": {"const": {"$ref": "#/$defs/d"}, "$ref": {"type": "string"}, "enum": {}}, "$defs": {"d": {"type": "integer"}}});
        let check = InputCheck::compile(&schema, "/inputs", &mut problems);
        assert_eq!(problems.or(Some(())), Ok(()));
        assert_eq!(check.check(&json!({"const": "x"})).unwrap_err()[0].pointer, "/const");
    }

    #[test]
    fn an_inputs_values_are_not_repeated() {
        let mut problems = Problems::default();
        let schema =
            json!({"type": "object", "required": ["idea"], "properties": {"idea": {"type": "string", "maxLength": 3}}});
        let check = InputCheck::compile(&schema, "/inputs", &mut problems);
        assert_eq!(check.check(&json!({"idea": "abc"})), Ok(()));
        let long = check.check(&json!({"idea": "secret"})).unwrap_err();
        assert_eq!(long, [Problem::new("/idea", "invalid_input", "the value is longer than 3 characters")]);
        let missing = check.check(&json!({})).unwrap_err();
        assert_eq!(missing, [Problem::new("/idea", "missing", "`idea` is missing")]);
    }

    #[test]
    fn inputs_are_checked_by_name_only_where_the_schema_is_closed_enough() {
        let closed = json!({"properties": {"idea": {}}});
        assert!(may_have(&closed, "idea"));
        assert!(!may_have(&closed, "other"));
        for open in [
            json!({}),
            json!({"properties": {"idea": {}}, "additionalProperties": true}),
            json!({"properties": {"idea": {}}, "patternProperties": {"^x": {}}}),
            json!({"properties": {"idea": {}}, "allOf": [{"properties": {"other": {}}}]}),
        ] {
            assert!(may_have(&open, "other"), "{open}");
        }
    }
}
