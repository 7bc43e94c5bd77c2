//! The transform step: renders a JSON value from its templates. Pure, free, and over at once.

use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::workflow::TransformStep;
use bursar_domain::workflow::template::{TemplateError, render_value};
use serde_json::Value;

use crate::cache;
use crate::context::Context;
use crate::job::Job;

/// Renders the step's output. A template that fails once fails always. With a key of its own, an earlier output is looked
/// for before anything is rendered.
pub(crate) async fn run(job: &Job, step: &TransformStep, context: &dyn Context) -> Outcome {
    match perform(job, step, context).await {
        Ok(output) => Outcome::Succeeded { output, calls: Vec::new() },
        Err(error) => Outcome::Failed { error, calls: Vec::new() },
    }
}

async fn perform(job: &Job, step: &TransformStep, context: &dyn Context) -> Result<Value, StepError> {
    let render = || render_value(&step.output, &job.context).map_err(|error| template_failed("output", &error));
    if job.cache.as_ref().is_some_and(|reuse| reuse.key.is_some()) {
        return match cache::find(job, context, String::new).await? {
            Some(output) => Ok(output),
            None => render(),
        };
    }
    let output = render()?;
    let earlier = cache::find(job, context, || output.to_string()).await?;
    Ok(earlier.unwrap_or(output))
}

/// The error of a template in the named field.
pub(crate) fn template_failed(field: &str, error: &TemplateError) -> StepError {
    StepError::new(
        ErrorClass::Permanent,
        "template_error",
        format!("the template in `{field}` cannot be rendered: {error}"),
    )
}
