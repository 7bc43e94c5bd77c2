//! The agent step: one LLM call, from templates to output.
//!
//! Render, count, reserve, send, stream, take usage. Nothing is sent without a permit, nothing is sent twice,
//! and whatever way a sent call ends, the outcome carries it with its usage: reported where the provider
//! reported something believable, counted where not. A permit to replay sends nothing and gives the output
//! that the first purchase gave. The output is the text of the answer and nothing else, so that a template
//! that names it reads as that text.

use bursar_domain::id::CallId;
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, Outcome, StepError};
use bursar_domain::workflow::AgentStep;
use bursar_domain::workflow::template::render_text;
use futures::StreamExt;
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::context::Context;
use crate::job::Job;
use crate::providers::{ChatMessage, ChatRequest, Provider, ProviderError, Providers, Role, request_hash};
use crate::stop::Stop;
use crate::tokens::Counter;
use crate::transform::template_failed;

/// Performs the step. `stop` is watched while the call is in flight.
pub(crate) async fn run(
    job: &Job,
    step: &AgentStep,
    context: &dyn Context,
    providers: &Providers,
    stop: &Stop<'_>,
) -> Outcome {
    let mut calls = Vec::new();
    match perform(job, step, context, providers, stop, &mut calls).await {
        Ok(output) => Outcome::Succeeded { output, calls },
        Err(error) => Outcome::Failed { error, calls },
    }
}

/// The step itself. What it leaves in `calls` counts however it ends.
async fn perform(
    job: &Job,
    step: &AgentStep,
    context: &dyn Context,
    providers: &Providers,
    stop: &Stop<'_>,
    calls: &mut Vec<FinishedCall>,
) -> Result<Value, StepError> {
    let provider = providers.resolve(&step.model)?;
    let request = render(job, step)?;
    let counter = Counter::for_model(&step.model, context.tokenizer(&step.model));
    let contents = request.contents();
    // The last chance to stop without a trace: from here on the call is recorded.
    let input_tokens = tokio::select! {
        biased;
        reason = stop.wait() => return Err(reason),
        tokens = counter.count_messages(&contents) => tokens,
    };
    let permit = context.reserve(ask(&*provider, &request, input_tokens)).await.map_err(refused)?;
    match permit {
        CallPermit::Replay(call) => {
            let text = answer::text(&call).ok_or_else(unreadable_journal)?.to_owned();
            context.delta(&text);
            // consumed, so billed: by this attempt, at what the earlier one paid, once
            calls.push(call);
            Ok(Value::String(text))
        }
        CallPermit::Send(id) => {
            let (call, result) = send(id, &*provider, &request, counter, input_tokens, context, stop).await;
            let text = answer::text(&call).map(str::to_owned);
            calls.push(call);
            result.and_then(|()| text.map(Value::String).ok_or_else(unreadable_journal))
        }
    }
}

/// The messages: the instructions as they stand, the prompt rendered. Empty instructions make no message.
fn render(job: &Job, step: &AgentStep) -> Result<ChatRequest, StepError> {
    let text =
        |field, template: &str| render_text(template, &job.context).map_err(|error| template_failed(field, &error));
    // instructions are plain text: what an agent is does not depend on the input
    let instructions = step.instructions.clone();
    let prompt = text("prompt", &step.prompt)?;
    let mut messages = Vec::new();
    if !instructions.is_empty() {
        messages.push(ChatMessage { role: Role::System, content: instructions });
    }
    messages.push(ChatMessage { role: Role::User, content: prompt });
    Ok(ChatRequest {
        agent: step.agent.clone(),
        attempt: job.attempt,
        model: step.model.clone(),
        messages,
        max_output_tokens: step.max_output_tokens,
        temperature: step.temperature.clone(),
    })
}

/// What the engine is asked before the call. A step makes one call, so it is number 1.
fn ask(provider: &dyn Provider, request: &ChatRequest, input_tokens: u64) -> CallRequest {
    CallRequest {
        number: 1,
        request_hash: request_hash(provider.name(), &request.model, &provider.body(request)),
        provider: provider.name().to_owned(),
        model: request.model.clone(),
        input_tokens,
        max_output_tokens: request.max_output_tokens,
    }
}

/// Makes the call it has a permit for, until it ends or `stop` says so. Always gives the call back, finished.
async fn send(
    id: CallId,
    provider: &dyn Provider,
    request: &ChatRequest,
    counter: Counter,
    input_tokens: u64,
    context: &dyn Context,
    stop: &Stop<'_>,
) -> (FinishedCall, Result<(), StepError>) {
    let mut answer = Answer::begin();
    let result = if let Some(reason) = stop.reason() {
        // Stopped while the permit was on its way: it was never sent and costs nothing.
        answer.refused();
        Err(reason)
    } else {
        // When `stop` wins, `receive` is dropped, and with it the connection: the provider sees a disconnect.
        tokio::select! {
            biased;
            reason = stop.wait() => Err(reason),
            result = receive(provider, request, context, &mut answer) => result.map_err(StepError::from),
        }
    };
    let call = answer.finish(id, counter, input_tokens, request.max_output_tokens, result.is_ok()).await;
    (call, result)
}

/// Takes the answer in, up to its end. An error after the finish reason took nothing away but perhaps the
/// usage, which is then counted: the answer is complete.
async fn receive(
    provider: &dyn Provider,
    request: &ChatRequest,
    context: &dyn Context,
    answer: &mut Answer,
) -> Result<(), ProviderError> {
    let result = pull(provider, request, context, answer).await;
    match result {
        _ if answer.is_complete() => Ok(()),
        Ok(()) => Err(truncated(provider.name())),
        Err(error) => {
            if !error.may_have_cost {
                answer.refused();
            }
            Err(error)
        }
    }
}

async fn pull(
    provider: &dyn Provider,
    request: &ChatRequest,
    context: &dyn Context,
    answer: &mut Answer,
) -> Result<(), ProviderError> {
    let mut events = provider.stream(request).await?;
    while let Some(event) = events.next().await {
        answer.take(event?, context);
    }
    Ok(())
}

/// The engine's no, as the step's error.
fn refused(refusal: CallRefusal) -> StepError {
    let message = refusal.to_string();
    let (class, code) = match refusal {
        CallRefusal::StaleFence => (ErrorClass::Lost, "stale_fence"),
        CallRefusal::NotPriced(_) => (ErrorClass::Permanent, "model_not_priced"),
        CallRefusal::InsufficientCredits { .. } => (ErrorClass::Budget, "insufficient_credits"),
        CallRefusal::Unavailable(_) => (ErrorClass::Retryable, "store_unavailable"),
    };
    StepError::new(class, code, message)
}

fn truncated(provider: &str) -> ProviderError {
    ProviderError::broken(
        ErrorClass::Retryable,
        "upstream_truncated",
        format!("the answer of provider `{provider}` ended without a finish reason: it was cut off on the way"),
    )
}

fn unreadable_journal() -> StepError {
    StepError::new(
        ErrorClass::Permanent,
        "journal_unreadable",
        "the journaled answer of this call has no text; fork the run from this node to buy it again",
    )
}
