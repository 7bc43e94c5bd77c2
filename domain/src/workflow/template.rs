//! Templates. Scaffold to be replaced.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// Renders one text.
pub fn render_text(template: &str, context: &Value) -> Result<String, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(100_000));
    environment.render_str(template, minijinja::value::Serde(context)).map_err(|error| TemplateError(error.to_string()))
}

/// Renders every string of a value.
pub fn render_value(template: &Value, context: &Value) -> Result<Value, TemplateError> {
    Ok(match template {
        Value::String(text) => Value::String(render_text(text, context)?),
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| render_value(item, context)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| Ok((key.clone(), render_value(value, context)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
        other => other.clone(),
    })
}
