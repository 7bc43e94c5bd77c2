//! The simulated model: makes up readable text from a hash of the request, streams it word by word, reports
//! usage, and fails or stalls on request. For development and tests; free of network, chance and secrets.
//! Where a journal is asked for, each request is noted in it before it is answered.
//!
//! The same request gets the same answer for ever. What it does is decided beforehand, as a script of a few
//! kinds of steps (`script`); this file only plays it. Whoever shows an answer tells that it is simulated by
//! the provider's name in the call, which no other provider can take.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bursar_domain::agent::Message;
use bursar_domain::outcome::ErrorClass;
use bursar_domain::usage::Usage;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::conversation::to_wire;
use super::{ChatEvent, ChatRequest, ChatStream, Provider, ProviderError, ToolDefinition};
use crate::tokens::Counter;

mod directives;
mod prose;
mod sample;
mod script;

use directives::Directives;
use script::{Script, Step};

/// The provider's name, in prices and journals: what labels a call as simulated.
pub(super) const NAME: &str = "simulated";

/// Whether a model's name is one of the simulated provider's.
pub(super) fn serves(model: &str) -> bool {
    model.starts_with("simulated-")
}

/// How the simulated model behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedConfig {
    /// Milliseconds before each word. Zero streams as fast as it is read.
    pub word_delay_ms: u64,
}

impl Default for SimulatedConfig {
    /// A pace that an eye can follow.
    fn default() -> Self {
        Self { word_delay_ms: 25 }
    }
}

/// The built-in provider of `simulated-*` models.
#[derive(Debug)]
pub(super) struct Simulated {
    config: SimulatedConfig,
    journal: Option<CallJournal>,
}

impl Simulated {
    pub(super) fn new(config: SimulatedConfig, journal: Option<CallJournal>) -> Self {
        Self { config, journal }
    }
}

/// What the simulated model was asked, for tests that count what was really sent. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct CallJournal(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    requests: Vec<String>,
    file: Option<File>,
}

impl CallJournal {
    /// A journal that also adds a line to a file for each request, so that it outlives the process, as a provider's own
    /// books would. Errors: the file cannot be opened.
    pub fn in_file(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(Noted { requests: Vec::new(), file: Some(file) }))))
    }

    /// The hashes of all requests so far, in their order.
    pub fn requests(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).requests.clone()
    }

    /// Notes a request before anything of it is answered. One that cannot be noted is refused.
    fn note(&self, hash: &str) -> Result<(), ProviderError> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut noted.file {
            file.write_all(format!("{hash}\n").as_bytes()).map_err(|error| {
                let message = format!("the simulated model's journal cannot be written: {error}");
                ProviderError::refused(ErrorClass::Retryable, "simulated_journal_unwritable", message)
            })?;
        }
        noted.requests.push(hash.to_owned());
        Ok(())
    }
}

#[async_trait]
impl Provider for Simulated {
    fn name(&self) -> &str {
        NAME
    }

    fn takes_schema(&self) -> bool {
        true
    }

    fn body(&self, request: &ChatRequest) -> Value {
        let messages = to_wire(&request.messages);
        let mut body = json!({
            "model": request.model,
            "messages": messages,
            "max_tokens": request.max_output_tokens,
            "temperature": request.temperature,
        });
        if let (Some(format), Some(fields)) = (&request.format, body.as_object_mut()) {
            fields.insert("response_format".to_owned(), format.to_wire());
        }
        if let (false, Some(fields)) = (request.tools.is_empty(), body.as_object_mut()) {
            fields.insert("tools".to_owned(), request.tools.iter().map(ToolDefinition::to_wire).collect());
        }
        body
    }

    async fn stream(&self, request: &ChatRequest) -> Result<ChatStream, ProviderError> {
        // what tools gave is no wish of the prompt's author
        let told: Vec<&str> =
            request.messages.iter().filter(|message| message.role() != "tool").map(Message::content).collect();
        let directives = Directives::of(&told)?;
        let input_tokens = counter().count_messages(&request.contents()).await;
        let seed = super::request_hash(NAME, &request.model, &self.body(request));
        if let Some(journal) = &self.journal {
            journal.note(&seed)?;
        }
        let script = Script::write(request, &directives, input_tokens, &seed);
        wait(directives.delay_ms).await;
        if let Some(refusal) = script.refusal {
            return Err(refusal);
        }
        let word_delay_ms = self.config.word_delay_ms;
        let steps = stream::iter(script.steps).then(move |step| play(step, word_delay_ms));
        Ok(steps.boxed())
    }
}

/// The vocabulary that the simulated model believes to be its own.
fn counter() -> Counter {
    Counter::for_model(NAME, (None, 0))
}

async fn play(step: Step, word_delay_ms: u64) -> Result<ChatEvent, ProviderError> {
    match step {
        Step::Word(word) => {
            wait(word_delay_ms).await;
            Ok(ChatEvent::Text(word))
        }
        Step::ToolCall(piece) => {
            wait(word_delay_ms).await;
            Ok(ChatEvent::ToolCall(piece))
        }
        Step::Finish(reason) => Ok(ChatEvent::Finish(reason.to_owned())),
        Step::Report(usage) => Ok(ChatEvent::Usage(Some(usage))),
        Step::Fail(error) => Err(error),
        Step::Stall => std::future::pending().await,
    }
}

async fn wait(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// The usage of a request and its answer, by counting.
fn count(input_tokens: u64, text: &str) -> Usage {
    Usage { input_tokens, output_tokens: counter().count(text), ..Usage::default() }
}
