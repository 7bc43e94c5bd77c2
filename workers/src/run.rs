//! Runs a job: the one list of all node kinds, each with the module that performs it.
//!
//! Adding a node kind means a variant in the domain, a module here, and a line in this match.

use bursar_domain::outcome::{ErrorClass, Outcome, StepError};
use bursar_domain::workflow::Action;

use crate::context::Context;
use crate::job::Job;
use crate::providers::Providers;
use crate::stop::Stop;
use crate::{agent, exec, http, transform};

/// Performs one attempt and says how it ended. Ends within the job's timeout, soon after a cancellation, and
/// never with less than what is known about money: a call that was stopped or failed is in the outcome too.
///
/// Dropping the future aborts what is in flight and loses that report; cancel through the context instead.
pub async fn run(job: &Job, context: &dyn Context, providers: &Providers) -> Outcome {
    let stop = Stop::new(context.cancelled(), job.timeout_ms);
    if let Some(error) = stop.reason() {
        return Outcome::Failed { error, calls: Vec::new() };
    }
    match &job.action {
        Action::Agent(step) => agent::run(job, step, context, providers, &stop).await,
        Action::Http(step) => http::run(job, step, providers.http(), &stop).await,
        Action::Exec(step) => exec::run(job, step, providers.exec(), &stop).await,
        Action::Transform(step) => transform::run(step, &job.context),
        // no slot is held while waiting: the engine parks such a task and never hands it out
        Action::Wait(_) => {
            let message = "waiting is done by the engine, it is no step of a worker";
            let error = StepError::new(ErrorClass::Permanent, "not_a_step", message);
            Outcome::Failed { error, calls: Vec::new() }
        }
    }
}
