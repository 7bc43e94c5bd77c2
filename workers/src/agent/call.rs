//! One model call of an agent step: count, reserve, send, stream, take usage.
//!
//! Nothing is sent without a permit, nothing is sent twice, and whatever way a sent call ends, it is kept with its
//! usage: reported where the provider reported something believable, counted where not. A permit to replay sends
//! nothing and gives the answer that the first purchase gave.

use bursar_domain::agent::{Answer, Message};
use bursar_domain::id::CallId;
use bursar_domain::outcome::{CallPermit, CallRefusal, CallRequest, ErrorClass, FinishedCall, StepError};
use futures::StreamExt;
use serde_json::Value;

use super::Performance;
use super::answer::Arriving;
use crate::context::{CallEnd, Context};
use crate::providers::{AnswerFormat, ChatRequest, Provider, ProviderError, ToolDefinition, request_hash};
use crate::tokens::{self, Counter};

/// What came of asking.
pub(super) enum Asked {
    /// The model answered, now or before.
    Answered(Answer),
    /// Users said more, up to the message with this number: the conversation has to hear it first.
    Listen(i64),
}

impl Performance<'_> {
    /// Makes the call with this number to one of the step's models, or replays it; whatever was sent is among the calls
    /// of the step afterwards. `after` is the model that did not answer it, with the code of its error.
    pub(super) async fn ask(
        &mut self,
        number: i32,
        messages: &[Message],
        model: &str,
        after: Option<(String, String)>,
    ) -> Result<Asked, StepError> {
        let provider = self.providers.resolve(model)?;
        let request = self.request(&*provider, model, messages);
        let counter = Counter::for_model(&request.model, self.context.tokenizer(&request.model));
        let schema = request.format.as_ref().map(|format| format.schema.to_string());
        let texts = request.contents().into_iter().chain(schema.as_deref());
        let contents: Vec<tokens::Message<'_>> = texts.map(|content| tokens::Message { name: None, content }).collect();
        let tools: Vec<Value> = request.tools.iter().map(ToolDefinition::to_wire).collect();
        // The last chance to stop without a trace: from here on the call is recorded.
        let input_tokens = tokio::select! {
            biased;
            reason = self.stop.wait() => return Err(reason),
            tokens = counter.count_request(&contents, &tools) => tokens,
        };
        let wish = CallRequest {
            number,
            request_hash: self.hash(&*provider, &request),
            provider: provider.name().to_owned(),
            model: request.model.clone(),
            input_tokens,
            max_output_tokens: request.max_output_tokens,
            alternatives: self.alternatives(model, messages),
            in_place_of: after,
            heard: self.heard,
            finished: self.calls.get(self.journaled..).unwrap_or_default().to_vec(),
        };
        let known = self.calls.len();
        let permit = self.context.reserve(wish).await.map_err(refused)?;
        self.journaled = known;
        match permit {
            CallPermit::Listen(upto) => Ok(Asked::Listen(upto)),
            CallPermit::Replay(call) => {
                let answer = Answer::from_journal(&call.response).ok_or_else(unreadable_journal)?;
                self.context.delta(&answer.text);
                // consumed, so billed: by this attempt, at what the earlier one paid, once
                self.calls.push(call);
                self.journaled = self.calls.len();
                Ok(Asked::Answered(answer))
            }
            CallPermit::Send(id) => {
                let (call, result) = self.send(id, &*provider, &request, counter, input_tokens).await;
                let answer = Answer::from_journal(&call.response);
                self.calls.push(call);
                result.and_then(|()| answer.map(Asked::Answered).ok_or_else(unreadable_journal))
            }
        }
    }

    /// The hashes of the same call to the step's other models.
    fn alternatives(&self, model: &str, messages: &[Message]) -> Vec<String> {
        let hash = |other: &str| {
            let provider = self.providers.resolve(other).ok()?;
            let request = self.request(&*provider, other, messages);
            Some(self.hash(&*provider, &request))
        };
        self.step.models().filter(|other| *other != model).filter_map(hash).collect()
    }

    /// The request as this provider takes it.
    fn request(&self, provider: &dyn Provider, model: &str, messages: &[Message]) -> ChatRequest {
        let mut messages = messages.to_vec();
        let mut format = None;
        if let Some(output) = &self.step.output {
            if provider.takes_schema() {
                format = Some(AnswerFormat { name: output.name.clone(), schema: output.schema.clone() });
            } else {
                let wish = format!(
                    "Answer with one JSON value that matches this JSON Schema, and with nothing else:\n{}",
                    output.schema
                );
                // some servers take no second system message
                match messages.first_mut() {
                    Some(Message::System { content }) => *content = format!("{content}\n\n{wish}"),
                    _ => messages.insert(0, Message::System { content: wish }),
                }
            }
        }
        ChatRequest {
            agent: self.step.agent.clone(),
            attempt: self.job.attempt,
            model: model.to_owned(),
            messages,
            max_output_tokens: self.step.max_output_tokens,
            temperature: self.step.temperature.clone(),
            format,
            tools: self.toolbox.definitions(),
        }
    }

    /// What makes a call this very call. Of tools that MCP servers have, only the names count: what such a server tells
    /// of them may change between two attempts, and what was bought before stays bought.
    fn hash(&self, provider: &dyn Provider, request: &ChatRequest) -> String {
        let body = if self.toolbox.has_remote() {
            let tools = self.toolbox.lasting_definitions();
            provider.body(&ChatRequest { tools, ..request.clone() })
        } else {
            provider.body(request)
        };
        request_hash(provider.name(), &request.model, &body)
    }

    /// Makes the call it has a permit for, until it ends or `stop` says so. Always gives the call back, finished.
    async fn send(
        &self,
        id: CallId,
        provider: &dyn Provider,
        request: &ChatRequest,
        counter: Counter,
        input_tokens: u64,
    ) -> (FinishedCall, Result<(), StepError>) {
        let mut arriving = Arriving::begin();
        let mut was_sent = true;
        let result = if let Some(reason) = self.stop.reason() {
            // Stopped while the permit was on its way: it was never sent and costs nothing.
            arriving.refused();
            was_sent = false;
            Err(reason)
        } else {
            // When `stop` wins, `receive` is dropped, and with it the connection: the provider sees a disconnect.
            tokio::select! {
                biased;
                reason = self.stop.wait() => Err(reason),
                result = receive(provider, request, self.context, &mut arriving) => result.map_err(StepError::from),
            }
        };
        let call = arriving.finish(id, counter, input_tokens, request.max_output_tokens, result.is_ok()).await;
        let end = match &result {
            _ if !was_sent => CallEnd::NotSent,
            Ok(()) => CallEnd::Answered,
            Err(error) if self.stop.reason().is_some() && error.class == ErrorClass::Cancelled => CallEnd::Stopped,
            Err(error) => CallEnd::Failed(error),
        };
        self.context.call_ended(&call, end).await;
        (call, result)
    }
}

/// Takes the answer in, up to its end. An error after the finish reason took nothing away but perhaps the
/// usage, which is then counted: the answer is complete.
async fn receive(
    provider: &dyn Provider,
    request: &ChatRequest,
    context: &dyn Context,
    arriving: &mut Arriving,
) -> Result<(), ProviderError> {
    let result = pull(provider, request, context, arriving).await;
    match result {
        _ if arriving.is_complete() => Ok(()),
        Ok(()) => Err(truncated(provider.name())),
        Err(error) => {
            if !error.may_have_cost {
                arriving.refused();
            }
            Err(error)
        }
    }
}

async fn pull(
    provider: &dyn Provider,
    request: &ChatRequest,
    context: &dyn Context,
    arriving: &mut Arriving,
) -> Result<(), ProviderError> {
    let mut events = provider.stream(request).await?;
    while let Some(event) = events.next().await {
        arriving.take(event?, context);
    }
    Ok(())
}

/// The engine's no, as the step's error.
pub(super) fn refused(refusal: CallRefusal) -> StepError {
    let message = refusal.to_string();
    let (class, code) = match refusal {
        CallRefusal::Wait(wait) => {
            let mut error = StepError::new(ErrorClass::RateLimited, wait.kind.code(), message);
            error.retry_after_ms = Some(wait.wait_ms);
            return error;
        }
        CallRefusal::StaleFence => (ErrorClass::Lost, "stale_fence"),
        CallRefusal::NotPriced(_) => (ErrorClass::Permanent, "model_not_priced"),
        CallRefusal::InsufficientCredits { .. } => (ErrorClass::Budget, "insufficient_credits"),
        CallRefusal::FateUnknown { .. } => (ErrorClass::Permanent, "tool_fate_unknown"),
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
