//! Whether an earlier output can be used: decided after a step rendered what it is given, before it asks for anything.

use bursar_domain::outcome::StepError;
use bursar_domain::workflow::template::render_text;
use serde_json::Value;

use crate::context::Context;
use crate::job::Job;
use crate::providers::hash_of;
use crate::transform::template_failed;

/// The output of an earlier task that was given the same, where the node wants that. `given` is what the step's templates
/// became; it is only asked for when no `key` of the node stands for it.
pub(crate) async fn find(
    job: &Job,
    context: &dyn Context,
    given: impl FnOnce() -> String,
) -> Result<Option<Value>, StepError> {
    let Some(reuse) = &job.cache else { return Ok(None) };
    let given = match &reuse.key {
        None => given(),
        Some(key) => render_text(key, &job.context).map_err(|error| template_failed("cache.key", &error))?,
    };
    Ok(context.kept_output(&hash_of(&[&reuse.source, &given])).await)
}
