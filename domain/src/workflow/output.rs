//! What an agent's answer must be: a JSON value that a schema allows, with how many second chances.
//!
//! A schema stands under the workflow's `schemas` and is named, or stands in place. Its violations are told in words
//! that name places and rules, never values: they go back to the model, and into the error when no chance is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::name::SCHEMA;
use super::plan::PlanForm;
use super::problem::{Problem, Problems, did_you_mean};
use super::reader::{Fields, wrong_type};
use super::schema::{self, InputCheck};
use crate::limits::{MAX_REPAIRS, MAX_SCHEMAS};

/// How often a model may mend its answer unless the definition says otherwise.
const DEFAULT_REPAIRS: u32 = 2;

/// The name of a schema that has none.
const IN_PLACE: &str = "output";

/// What an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputSchema {
    /// Its name under `schemas`; `output` when it stands in place.
    pub name: String,
    /// The JSON Schema.
    pub schema: Value,
    /// How many answers that break it are sent back to be mended. Each is a call of its own.
    pub repairs: u32,
    check: InputCheck,
    /// How it is read, where it is a plan.
    plan: Option<Arc<PlanForm>>,
}

impl OutputSchema {
    /// Checks an answer's value. Errors: what is wrong with it, by places and rules.
    pub fn check(&self, value: &Value) -> Result<(), Vec<Problem>> {
        self.check.check(value)?;
        match &self.plan {
            Some(form) => form.assemble(value).map(drop),
            None => Ok(()),
        }
    }

    /// The fields that the schema lists at its top.
    pub(super) fn fields(&self) -> Vec<String> {
        schema::listed(&self.schema).map(str::to_owned).collect()
    }

    /// What a reviewer answers unless its agent says otherwise: `{"verdict", "feedback"}`, both texts.
    pub(super) fn of_reviewer(problems: &mut Problems) -> Self {
        let schema = serde_json::json!({
            "properties": {
                "feedback": {"description": "what must change, where something must", "type": "string"},
                "verdict": {"type": "string"},
            },
            "required": ["verdict"],
            "type": "object",
        });
        let check = InputCheck::compile(&schema, "", problems);
        Self { name: "review".to_owned(), schema, repairs: DEFAULT_REPAIRS, check, plan: None }
    }

    /// What a planner answers.
    pub(super) fn of_plan(form: Arc<PlanForm>, repairs: u32, problems: &mut Problems) -> Self {
        let schema = form.schema();
        let check = InputCheck::compile(&schema, "", problems);
        Self { name: "plan".to_owned(), schema, repairs, check, plan: Some(form) }
    }
}

/// The workflow's named schemas, compiled.
pub(super) type Schemas<'v> = BTreeMap<&'v str, (&'v Value, InputCheck)>;

/// Reads the top-level `schemas`.
pub(super) fn read_schemas<'v>(fields: &mut Fields<'v, '_>) -> Schemas<'v> {
    let entries = fields.entries("schemas", &SCHEMA, MAX_SCHEMAS);
    let compile = |entry: super::reader::Entry<'v>, problems: &mut Problems| {
        (entry.name, (entry.value, InputCheck::compile(entry.value, &entry.at, problems)))
    };
    entries.into_iter().map(|entry| compile(entry, fields.problems)).collect()
}

/// Reads `output: { schema, repair }`.
pub(super) fn read_output(fields: &mut Fields<'_, '_>, schemas: &Schemas<'_>) -> Option<OutputSchema> {
    let mut section = fields.section("output")?;
    if !section.has_any(&["schema"]) {
        section.missing("schema", "it is the name of one of the `schemas`, or a JSON Schema in place");
    }
    let repairs = section.whole("repair", 0..=MAX_REPAIRS).and_then(|repairs| u32::try_from(repairs).ok());
    let schema = section.value("schema");
    let at = section.at("schema");
    let found = match schema {
        None => None,
        Some(Value::String(name)) => {
            let found = schemas.get_key_value(name.as_str());
            if found.is_none() {
                let shown: String = name.chars().take(64).collect();
                let problem = Problem::new(at, "unknown_schema", format!("there is no schema `{shown}`"));
                section.problems.push(problem.with_hint(did_you_mean(name, schemas.keys().copied())));
            }
            found.map(|(name, (schema, check))| (*name, *schema, check.clone()))
        }
        Some(schema @ Value::Object(_)) => Some((IN_PLACE, schema, InputCheck::compile(schema, &at, section.problems))),
        Some(other) => {
            section.problems.push(wrong_type(at, "the name of a schema or a JSON Schema", other));
            None
        }
    };
    section.close(&[]);
    found.map(|(name, schema, check)| {
        let mut schema = schema.clone();
        schema.sort_all_objects();
        OutputSchema { name: name.to_owned(), schema, repairs: repairs.unwrap_or(DEFAULT_REPAIRS), check, plan: None }
    })
}
