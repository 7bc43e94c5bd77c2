//! What a step may ask of the engine while it runs: permission to spend, a place for its tokens, a signal to stop.
//!
//! The engine implements it over its store and its streams; a test implements it over values. A step gets
//! nothing else: no store, no queue, no clock.

use async_trait::async_trait;
use bursar_domain::outcome::{
    CallPermit, CallRefusal, CallRequest, FinishedCall, StepError, ToolEnd, ToolPermit, ToolRequest,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// How a granted call ended.
#[derive(Debug, Clone, Copy)]
pub enum CallEnd<'e> {
    /// The model came to an end of its own.
    Answered,
    /// It was stopped on our side.
    Stopped,
    /// It was never sent.
    NotSent,
    /// The provider refused it or broke it off.
    Failed(&'e StepError),
}

/// The engine as one step sees it.
#[async_trait]
pub trait Context: Send + Sync {
    /// Fires when the step shall stop: the user cancelled, a sibling failed, the lease is about to run out.
    fn cancelled(&self) -> &CancellationToken;

    /// Asks for permission to make a call. Nothing may be sent before the answer is
    /// [`CallPermit::Send`]; [`CallPermit::Replay`] carries the answer that an earlier attempt bought, and
    /// [`CallPermit::Listen`] says what the conversation must hear before it is asked for again.
    ///
    /// A step never abandons this future (a permit that nobody takes would stay in flight), so it must end in
    /// bounded time: with [`CallRefusal::Unavailable`] when the store does not answer.
    async fn reserve(&self, call: CallRequest) -> Result<CallPermit, CallRefusal>;

    /// Says how a call that was granted ended, right when it did: what others may send next depends on it. Never
    /// abandoned and bounded in time. What is billed comes with the step's outcome.
    async fn call_ended(&self, call: &FinishedCall, end: CallEnd<'_>) {
        let _ = (call, end);
    }

    /// Asks for permission to run the tools of one turn. Nothing may run before the answer, which has a permit for
    /// each call in the order of the request. Never abandoned and bounded in time, as [`Context::reserve`].
    async fn begin_tools(&self, request: ToolRequest) -> Result<Vec<ToolPermit>, CallRefusal>;

    /// Journals what a tool gave, before anybody uses it.
    async fn end_tool(&self, end: ToolEnd) -> Result<(), CallRefusal>;

    /// What users said to the mission after a message's number and up to another: what [`CallPermit::Listen`] asks to be
    /// heard. The same numbers always give the same texts.
    async fn said(&self, after: i64, upto: i64) -> Result<Vec<String>, CallRefusal>;

    /// Has what the step asks kept with what comes out of it, to be remembered.
    fn remember(&self, prompt: String);

    /// The output of an earlier task of the same tenant that was made from what has this hash, if it may still be used.
    /// The engine remembers the hash: where there is none, this step's own output is kept under it.
    async fn kept_output(&self, hash: &str) -> Option<Value>;

    /// Passes text on to whoever watches, in order and without waiting. The engine coalesces small pieces.
    fn delta(&self, text: &str);

    /// The tokenizer that the price book names for a model and the factor, in parts per million, that its
    /// counts are multiplied with (1,000,000 changes nothing). Without a name the workers choose by the
    /// model's family ([`crate::tokens`]) and apply the family's own factor as well.
    fn tokenizer(&self, model: &str) -> (Option<String>, u32);
}
