//! A made-up value that a JSON Schema allows, so that workflows with structured output run without a real model.
//!
//! Covers what people write in schemas of outputs: types, properties, items, enumerations, bounds, references. What it
//! does not know (most patterns, formats, `not`, …) may be missed; then the step's own check says so.

use serde_json::{Map, Number, Value};

use super::prose::Prose;

/// Nesting that is followed; deeper values are null.
const MOST_DEPTH: usize = 32;

/// Items or characters that a lower bound can ask for: more would be a schema made to exhaust memory.
const MOST_LENGTH: u64 = 1_000;

/// The value for the schema, made up from the prose.
pub(super) fn value(schema: &Value, prose: &mut Prose) -> Value {
    Sampler { root: schema, prose }.value(schema, 0)
}

struct Sampler<'s> {
    root: &'s Value,
    prose: &'s mut Prose,
}

impl Sampler<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > MOST_DEPTH {
            return Value::Null;
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)).cloned();
            return target.map_or(Value::Null, |target| self.value(&target, depth + 1));
        }
        if let Some(constant) = schema.get("const").or_else(|| schema.get("default")) {
            return constant.clone();
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            let chosen = self.prose.below(choices.len() as u64);
            return choices.get(chosen as usize).cloned().unwrap_or_default();
        }
        for keyword in ["oneOf", "anyOf", "allOf"] {
            if let Some(first) = schema.get(keyword).and_then(|all| all.get(0)).cloned() {
                return self.value(&first, depth + 1);
            }
        }
        let kind = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
            kind => kind.and_then(Value::as_str),
        };
        match kind {
            Some("string") => Value::String(self.text(schema)),
            Some("integer" | "number") => number(schema),
            Some("boolean") => Value::Bool(self.prose.below(2) == 1),
            Some("array") => self.list(schema, depth),
            Some("null") => Value::Null,
            Some("object") => self.object(schema, depth),
            _ if schema.get("properties").is_some() => self.object(schema, depth),
            _ => Value::String(self.text(schema)),
        }
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut object = Map::new();
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            object.insert(key.clone(), self.value(property, depth + 1));
        }
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            object.entry(key).or_insert_with(|| Value::from("simulated"));
        }
        Value::Object(object)
    }

    fn list(&mut self, schema: &Value, depth: usize) -> Value {
        let (least, most) = (bound(schema, "minItems", 0), bound(schema, "maxItems", MOST_LENGTH));
        let any = Value::Bool(true);
        let item = schema.get("items").unwrap_or(&any);
        // two, as far as the bounds allow: enough to see that it is a list
        (0..2_u64.min(most).max(least)).map(|_| self.value(item, depth + 1)).collect()
    }

    fn text(&mut self, schema: &Value) -> String {
        let (least, most) = (bound(schema, "minLength", 0), bound(schema, "maxLength", MOST_LENGTH));
        let mut text: String = self.prose.take(4).collect::<String>().trim().to_owned();
        while (text.chars().count() as u64) < least {
            text.push('x');
        }
        let text: String = text.chars().take(most as usize).collect();
        // of patterns, the most common is known: a name
        if schema.get("pattern").and_then(Value::as_str).is_some_and(|pattern| pattern.starts_with("^[a-z]")) {
            return name_of(&text);
        }
        text
    }
}

/// A text as a name: lower case letters, digits and `_`, a letter first.
fn name_of(text: &str) -> String {
    let is_kept = |letter: &char| letter.is_ascii_alphanumeric() || *letter == ' ';
    let kept: String = text.chars().filter(is_kept).collect::<String>().trim().to_lowercase().replace(' ', "_");
    let name: String = kept.trim_start_matches(|letter: char| !letter.is_ascii_lowercase()).chars().take(32).collect();
    if name.is_empty() { "simulated".to_owned() } else { name }
}

/// A keyword that bounds a length.
fn bound(schema: &Value, keyword: &str, default: u64) -> u64 {
    schema.get(keyword).and_then(Value::as_u64).unwrap_or(default).min(MOST_LENGTH)
}

/// The smallest number allowed that is one or more, or the largest allowed below that.
fn number(schema: &Value) -> Value {
    let limit = |keyword: &str| schema.get(keyword).and_then(Value::as_i64);
    let least = limit("minimum").or_else(|| limit("exclusiveMinimum").map(|least| least.saturating_add(1)));
    let most = limit("maximum").or_else(|| limit("exclusiveMaximum").map(|most| most.saturating_sub(1)));
    let step = limit("multipleOf").filter(|step| *step > 0).unwrap_or(1);
    let wished = least.unwrap_or(1).min(most.unwrap_or(i64::MAX));
    let rest = wished.rem_euclid(step);
    let rounded = if rest == 0 { wished } else { wished.saturating_add(step - rest) };
    Value::Number(Number::from(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sample_keeps_to_its_schema() {
        let schema = json!({
            "type": "object",
            "required": ["files", "extra"],
            "properties": {
                "files": {"type": "array", "minItems": 3, "items": {"$ref": "#/$defs/file"}},
                "verdict": {"enum": ["LGTM"]},
                "count": {"type": "integer", "minimum": 7, "multipleOf": 5},
                "low": {"type": "number", "maximum": -2},
                "flag": {"type": ["boolean", "null"]},
                "either": {"anyOf": [{"const": 4}, {"type": "string"}]},
            },
            "$defs": {"file": {"type": "object", "properties": {"path": {"type": "string", "minLength": 90, "maxLength": 90}}}},
        });
        let sample = value(&schema, &mut Prose::new("00ff00ff00ff00ff"));
        assert_eq!(sample["files"].as_array().map(Vec::len), Some(3));
        assert_eq!(sample["files"][0]["path"].as_str().map(|path| path.chars().count()), Some(90));
        let rest = (&sample["verdict"], &sample["count"], &sample["low"], &sample["either"], &sample["extra"]);
        assert_eq!(rest, (&json!("LGTM"), &json!(10), &json!(-2), &json!(4), &json!("simulated")));
        assert!(sample["flag"].is_boolean());
    }

    #[test]
    fn a_schema_that_leads_back_to_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        let sample = value(&schema, &mut Prose::new("1"));
        assert!(sample["next"]["next"].is_object());
    }
}
