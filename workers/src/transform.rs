//! The transform step: renders a JSON value from its templates. Pure, free, and over at once.

use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::workflow::TransformStep;
use bursar_domain::workflow::template::{TemplateError, render_value};
use serde_json::Value;

/// Renders the step's output. A template that fails once fails always.
pub(crate) fn run(step: &TransformStep, context: &Value) -> Outcome {
    match render_value(&step.output, context) {
        Ok(output) => Outcome::Succeeded { output, calls: Vec::new() },
        Err(error) => Outcome::Failed { error: template_failed("output", &error), calls: Vec::new() },
    }
}

/// The error of a template in the named field.
pub(crate) fn template_failed(field: &str, error: &TemplateError) -> StepError {
    StepError::new(
        ErrorClass::Permanent,
        "template_error",
        format!("the template in `{field}` cannot be rendered: {error}"),
    )
}
