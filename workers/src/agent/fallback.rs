//! Models in turn: a call that one of them does not answer, for a reason that another may not have, goes on with the next.
//!
//! Each model is asked once for each call, reserved for at its own price, and metered. Within an attempt the model that
//! answered is asked first from then on; another attempt begins with the first one again, and is given what any of them
//! had answered before. What a model says is never a reason: an answer that does not do is mended, or the step fails.

use bursar_domain::agent::{Answer, Machine};
use bursar_domain::limits::RATE_LIMIT_PAUSE_MS;
use bursar_domain::outcome::{ErrorClass, StepError};

use super::Performance;
use super::call::{Asked, refused};

/// Errors that say something about a model or its provider and nothing about what was asked.
const OF_THE_PROVIDER: [&str; 10] = [
    "no_provider_for_model",
    "provider_disconnected",
    "provider_not_found",
    "provider_not_streaming",
    "provider_quota_exhausted",
    "provider_timeout",
    "provider_unauthorized",
    "provider_unavailable",
    "provider_unreachable",
    "upstream_truncated",
];

impl Performance<'_> {
    /// Has the call with this number answered by the first of the step's models that answers.
    pub(super) async fn call_model(&mut self, number: i32, machine: &mut Machine) -> Result<Answer, StepError> {
        let models: Vec<&str> = self.step.models().collect();
        let mut failed: Vec<StepError> = Vec::new();
        let mut after = None;
        for turn in 0..models.len() {
            let place = (self.model + turn) % models.len();
            let Some(model) = models.get(place) else { break };
            match self.ask_heard(number, machine, model, after.take()).await {
                Ok(answer) => {
                    self.model = place;
                    return Ok(answer);
                }
                Err(error) if is_of_the_provider(&error) => {
                    after = Some(((*model).to_owned(), error.code.clone()));
                    failed.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(most_hopeful(failed))
    }

    /// Has one model asked, with all that users said until then: what the conversation has not heard is added to it first.
    async fn ask_heard(
        &mut self,
        number: i32,
        machine: &mut Machine,
        model: &str,
        after: Option<(String, String)>,
    ) -> Result<Answer, StepError> {
        loop {
            match self.ask(number, machine.messages(), model, after.clone()).await? {
                Asked::Answered(answer) => return Ok(answer),
                Asked::Listen(upto) if upto > self.heard => {
                    let said = self.context.said(self.heard, upto).await.map_err(refused)?;
                    self.told.extend(said.iter().cloned());
                    machine.told(said);
                    self.heard = upto;
                }
                Asked::Listen(upto) => {
                    let message = format!("the engine asks to hear message {upto} once more");
                    return Err(StepError::new(ErrorClass::Retryable, "told_twice", message));
                }
            }
        }
    }
}

fn is_of_the_provider(error: &StepError) -> bool {
    error.class == ErrorClass::RateLimited || OF_THE_PROVIDER.contains(&error.code.as_str())
}

/// The error that leaves most hope: one that asks to wait costs no attempt, one that may pass costs one. The first among
/// equals.
fn most_hopeful(errors: Vec<StepError>) -> StepError {
    let hope = |error: &StepError| match error.class {
        // the one that may be asked again first
        ErrorClass::RateLimited => (0, error.retry_after_ms.unwrap_or(RATE_LIMIT_PAUSE_MS)),
        ErrorClass::Retryable => (1, 0),
        _ => (2, 0),
    };
    let nobody = || StepError::new(ErrorClass::Permanent, "no_provider_for_model", "the step names no model");
    errors.into_iter().min_by_key(hope).unwrap_or_else(nobody)
}
