//! Counts tokens before a call and, where a provider reports nothing usable, after it.
//!
//! These are estimates: they size reservations and cover missing usage, and never replace a reported count.
//! Counting is tiktoken's with the overheads of messages and tools in the [OpenAI cookbook]; models of other families
//! are counted with `OpenAI`'s newest vocabulary times a factor on the safe side, which the engine's learned factor
//! then corrects. Special-token strings in a text count as the ordinary text they are.
//!
//! Whatever the text, counting is linear in its length and never panics (`chunks`). Large requests are counted off the
//! async threads, a few at a time, and no longer than somebody waits for the count.
//!
//! [OpenAI cookbook]: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb

mod chunks;
mod tools;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
use tokio::sync::Semaphore;

use crate::limits::{COUNT_INLINE_BYTES, COUNTS_AT_ONCE};
use chunks::Chunks;

/// Parts per million of a factor that changes nothing.
const ONE_PPM: u64 = 1_000_000;

/// Framing of one chat message, its role (one token) included.
const TOKENS_PER_MESSAGE: u64 = 4;

/// What a name adds to a message besides its own tokens.
const TOKENS_PER_NAME: u64 = 1;

/// What primes the reply, once for each request.
const TOKENS_PER_REPLY: u64 = 3;

/// Framing of one tool, with the newer vocabularies and with the older ones.
const TOKENS_PER_TOOL: u64 = 7;
const TOKENS_PER_TOOL_BEFORE_O200K: u64 = 10;

/// Where large requests wait for their turn to be counted.
static LARGE_COUNTS: Semaphore = Semaphore::const_new(COUNTS_AT_ONCE);

/// Model families whose vocabulary is not public or not compiled in: the beginning of the name and the factor
/// on `o200k_base`. Rough figures for English prose and code, above what was seen rather than below it.
const FAMILIES: &[(&str, u64)] = &[
    ("simulated", ONE_PPM),
    ("gpt-", ONE_PPM),
    ("claude", 1_300_000),
    ("gemini", 1_100_000),
    ("gemma", 1_100_000),
    ("llama", 1_150_000),
    ("meta-llama", 1_150_000),
    ("deepseek", 1_150_000),
    ("qwen", 1_150_000),
    ("mistral", 1_200_000),
    ("grok", 1_150_000),
];

/// The factor on `o200k_base` for a model that nobody here has heard of.
const UNKNOWN_FAMILY_PPM: u64 = 1_200_000;

/// Loads the vocabulary that most models use (0.1–0.3 s of CPU, 45 MB), so that the first job does not wait
/// for it. Blocks; call it once at the start, off the async threads.
pub fn warm_up() {
    vocabulary(Tokenizer::O200kBase).map(|vocabulary| vocabulary.count_ordinary("warm up"));
}

/// One message of a chat request, as far as it counts.
#[derive(Debug, Clone, Copy)]
pub struct Message<'t> {
    /// The participant's name, where the message has one.
    pub name: Option<&'t str>,
    /// What is said.
    pub content: &'t str,
}

/// Somebody who waits for a count; gone, the count is over.
#[derive(Default)]
struct Waiting {
    is_over: Arc<AtomicBool>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Counts the tokens of texts for one model.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    tokenizer: Tokenizer,
    factor_ppm: u64,
}

impl Counter {
    /// A counter for `model`, given what the price book says: `(tokenizer name, factor in ppm)`.
    ///
    /// A name such as `o200k_base` or `cl100k_base` is used with the given factor alone. Without a name, or
    /// with one that is not compiled in, the model's family decides on both and the given factor is applied on
    /// top. A factor of zero counts as one.
    pub fn for_model(model: &str, (name, factor_ppm): (Option<String>, u32)) -> Self {
        let given_ppm = if factor_ppm == 0 { ONE_PPM } else { u64::from(factor_ppm) };
        if let Some(tokenizer) = name.as_deref().and_then(named) {
            return Self { tokenizer, factor_ppm: given_ppm };
        }
        let (tokenizer, family_ppm) = family(model);
        Self { tokenizer, factor_ppm: (family_ppm * given_ppm).div_ceil(ONE_PPM) }
    }

    /// Tokens of one text. Blocks for about 5 ms per 100 kB.
    pub fn count(&self, text: &str) -> u64 {
        self.scaled(self.raw(text, &AtomicBool::new(false)))
    }

    /// Tokens of one text, counted on a blocking thread where it is long.
    pub async fn count_text(&self, text: &str) -> u64 {
        self.count_all(&[text], 0).await
    }

    /// Tokens of a chat request with unnamed messages of these contents and no tools, overheads included.
    pub async fn count_messages(&self, contents: &[&str]) -> u64 {
        let messages: Vec<Message<'_>> = contents.iter().map(|content| Message { name: None, content }).collect();
        self.count_request(&messages, &[]).await
    }

    /// Tokens of a chat request: messages, and definitions of tools as they are sent, all overheads included.
    ///
    /// Dropping the future stops the count within a chunk of 16 KiB.
    pub async fn count_request(&self, messages: &[Message<'_>], tools: &[Value]) -> u64 {
        let per_tool = match self.tokenizer {
            Tokenizer::O200kBase | Tokenizer::O200kHarmony => TOKENS_PER_TOOL,
            _ => TOKENS_PER_TOOL_BEFORE_O200K,
        };
        let rendered = tools::render(tools, per_tool);
        let named = messages.iter().filter(|message| message.name.is_some()).count() as u64;
        let framing = TOKENS_PER_REPLY + TOKENS_PER_MESSAGE * messages.len() as u64 + TOKENS_PER_NAME * named;
        let names = messages.iter().filter_map(|message| message.name);
        let contents = messages.iter().map(|message| message.content);
        let texts: Vec<&str> = names.chain(contents).chain(rendered.texts.iter().map(String::as_str)).collect();
        self.count_all(&texts, framing.saturating_add(rendered.overhead)).await
    }

    /// Tokens of all texts and of what is between them; the factor is on the sum.
    async fn count_all(&self, texts: &[&str], between: u64) -> u64 {
        let counter = *self;
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        if bytes <= COUNT_INLINE_BYTES {
            let never = AtomicBool::new(false);
            let tokens: u64 = texts.iter().map(|text| counter.raw(text, &never)).sum();
            return counter.scaled(tokens.saturating_add(between));
        }
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let waiting = Waiting::default();
        let is_over = Arc::clone(&waiting.is_over);
        // the permit goes with the work: a count that nobody waits for any more still has its processor for a moment
        let permit = LARGE_COUNTS.acquire().await;
        let count = move || {
            let _permit = permit;
            texts.iter().map(|text| counter.raw(text, &is_over)).sum::<u64>()
        };
        let counted = tokio::task::spawn_blocking(count).await;
        drop(waiting);
        // Only a runtime that shuts down refuses: two bytes for a token are more than any prose has.
        counter.scaled(counted.unwrap_or_else(|_| bytes.div_ceil(2) as u64).saturating_add(between))
    }

    /// Tokens by the vocabulary, without the factor. Stops between two chunks once `is_over`.
    fn raw(&self, text: &str, is_over: &AtomicBool) -> u64 {
        let Some(vocabulary) = vocabulary(self.tokenizer) else {
            return text.len().div_ceil(2) as u64;
        };
        let chunks = Chunks::of(text).take_while(|_| !is_over.load(Ordering::Relaxed));
        chunks.map(|chunk| vocabulary.count_ordinary(chunk.text) as u64 + u64::from(chunk.is_forced)).sum()
    }

    fn scaled(&self, tokens: u64) -> u64 {
        let scaled = (u128::from(tokens) * u128::from(self.factor_ppm)).div_ceil(u128::from(ONE_PPM));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// The compiled-in vocabulary. `None` never happens with the current tiktoken; its API allows it.
fn vocabulary(tokenizer: Tokenizer) -> Option<&'static CoreBPE> {
    tiktoken_rs::bpe_for_tokenizer(tokenizer).ok()
}

/// The tokenizer of that name.
fn named(name: &str) -> Option<Tokenizer> {
    Some(match name {
        "o200k_base" => Tokenizer::O200kBase,
        "o200k_harmony" => Tokenizer::O200kHarmony,
        "cl100k_base" => Tokenizer::Cl100kBase,
        "p50k_base" => Tokenizer::P50kBase,
        "p50k_edit" => Tokenizer::P50kEdit,
        "r50k_base" | "gpt2" => Tokenizer::R50kBase,
        _ => return None,
    })
}

/// The tokenizer and factor of a model's family. A provider's prefix (`openai/gpt-4.1`) is ignored.
fn family(model: &str) -> (Tokenizer, u64) {
    let bare = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    if let Some(tokenizer) = get_tokenizer(&bare) {
        return (tokenizer, ONE_PPM);
    }
    let factor_ppm = FAMILIES.iter().find(|(prefix, _)| bare.starts_with(prefix)).map(|(_, factor_ppm)| *factor_ppm);
    (Tokenizer::O200kBase, factor_ppm.unwrap_or(UNKNOWN_FAMILY_PPM))
}

#[cfg(test)]
mod tests;
