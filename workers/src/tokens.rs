//! Counts tokens before a call and, where a provider reports nothing usable, after it.
//!
//! These are estimates: they size reservations and cover missing usage, and never replace a reported count.
//! Counting is tiktoken's with the message overheads of the [OpenAI cookbook]; models of other families are
//! counted with `OpenAI`'s newest vocabulary times a factor on the safe side, which the engine's learned factor
//! then corrects. Special-token strings in a text count as the ordinary text they are.
//!
//! Whatever the text, counting is linear in its length and never panics: the tokenizer sees at most
//! a chunk of 16 KiB at once, cut between words wherever there is a place.
//!
//! [OpenAI cookbook]: https://github.com/openai/openai-cookbook/blob/main/examples/How_to_count_tokens_with_tiktoken.ipynb

use tiktoken_rs::CoreBPE;
use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};

use crate::limits::{COUNT_CHUNK_BYTES, COUNT_INLINE_BYTES};

/// Parts per million of a factor that changes nothing.
const ONE_PPM: u64 = 1_000_000;

/// Framing of one chat message, its role (one token) included.
const TOKENS_PER_MESSAGE: u64 = 4;

/// What primes the reply, once for each request.
const TOKENS_PER_REPLY: u64 = 3;

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
        self.scaled(self.raw(text))
    }

    /// Tokens of one text, counted on a blocking thread where it is long.
    pub async fn count_text(&self, text: &str) -> u64 {
        let counter = *self;
        if text.len() <= COUNT_INLINE_BYTES {
            return counter.count(text);
        }
        let (owned, length) = (text.to_owned(), text.len());
        let counted = tokio::task::spawn_blocking(move || counter.count(&owned)).await;
        // Only a runtime that shuts down refuses: two bytes for a token are more than any prose has.
        counted.unwrap_or_else(|_| self.scaled(length.div_ceil(2) as u64))
    }

    /// Tokens of a chat request with messages of these contents, overheads included.
    pub async fn count_messages(&self, contents: &[&str]) -> u64 {
        let mut tokens = self.scaled(TOKENS_PER_REPLY + TOKENS_PER_MESSAGE * contents.len() as u64);
        for content in contents {
            tokens = tokens.saturating_add(self.count_text(content).await);
        }
        tokens
    }

    /// Tokens by the vocabulary, without the factor.
    fn raw(&self, text: &str) -> u64 {
        let Some(vocabulary) = vocabulary(self.tokenizer) else {
            return text.len().div_ceil(2) as u64;
        };
        let mut rest = text;
        let mut tokens = 0;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(cut(rest));
            tokens += vocabulary.count_ordinary(chunk) as u64;
            rest = after;
        }
        tokens
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

/// Where to cut the next chunk off: before the last single space between two words, where every vocabulary
/// cuts as well, so that chunks add up to the same count; without one, at the last whole character.
fn cut(text: &str) -> usize {
    if text.len() <= COUNT_CHUNK_BYTES {
        return text.len();
    }
    let bytes = text.as_bytes();
    let solid = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    let space = (COUNT_CHUNK_BYTES / 2..COUNT_CHUNK_BYTES)
        .rev()
        .find(|&at| bytes.get(at) == Some(&b' ') && solid(at - 1) && solid(at + 1));
    space.unwrap_or_else(|| text.floor_char_boundary(COUNT_CHUNK_BYTES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]

    use super::*;

    fn plain(model: &str) -> Counter {
        Counter::for_model(model, (None, 1_000_000))
    }

    #[test]
    fn a_known_text_has_its_known_number_of_tokens() {
        assert_eq!(plain("gpt-4.1").count("hello world"), 2);
        assert_eq!(plain("openai/gpt-4.1").count("hello world"), 2);
        assert_eq!(plain("gpt-4").count("tiktoken is great!"), 6);
    }

    #[tokio::test]
    async fn messages_carry_their_overheads() {
        let counter = plain("gpt-4.1");
        assert_eq!(counter.count_messages(&["hello world", "hello world"]).await, 3 + 2 * (4 + 2));
        assert_eq!(counter.count_messages(&[]).await, 3);
    }

    #[test]
    fn special_token_strings_count_as_ordinary_text() {
        assert!(plain("gpt-4.1").count("<|endoftext|><|endoftext|>") > 2);
    }

    #[test]
    fn a_named_tokenizer_and_its_factor_are_obeyed() {
        let text = "Der Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetzentwurf";
        let newer = Counter::for_model("unheard-of", (Some("o200k_base".into()), 1_000_000)).count(text);
        let older = Counter::for_model("unheard-of", (Some("cl100k_base".into()), 1_000_000)).count(text);
        assert!(older > newer, "{older} > {newer}");
        let doubled = Counter::for_model("unheard-of", (Some("o200k_base".into()), 2_000_000)).count(text);
        assert_eq!(doubled, 2 * newer);
    }

    #[test]
    fn an_unknown_model_is_counted_on_the_safe_side() {
        let text = "Write the product requirements for a to-do list that five people share. ".repeat(20);
        let exact = plain("gpt-4.1").count(&text);
        for model in ["claude-sonnet-4", "unheard-of", "anthropic/claude-sonnet-4", "deepseek-chat"] {
            assert!(plain(model).count(&text) > exact, "{model}");
        }
        let learned = Counter::for_model("unheard-of", (None, 500_000)).count(&text);
        assert_eq!(learned, (exact * 600_000).div_ceil(1_000_000));
        assert_eq!(Counter::for_model("gpt-4.1", (None, 0)).count(&text), exact);
    }

    #[test]
    fn cutting_a_long_text_into_chunks_does_not_change_its_count() {
        let text = "The quick brown fox (aged 7) can't jump: \n  it's 12345 años, sí? 漢字 and so on. ".repeat(2_000);
        for tokenizer in [Tokenizer::O200kBase, Tokenizer::Cl100kBase] {
            let counter = Counter { tokenizer, factor_ppm: ONE_PPM };
            let whole = vocabulary(tokenizer).expect("compiled in").count_ordinary(&text) as u64;
            assert_eq!(counter.raw(&text), whole, "{tokenizer:?}");
        }
    }

    #[test]
    fn two_hundred_kilobytes_of_anything_are_counted_quickly() {
        for tokenizer in [Tokenizer::O200kBase, Tokenizer::Cl100kBase, Tokenizer::R50kBase] {
            let counter = Counter { tokenizer, factor_ppm: ONE_PPM };
            counter.raw("load");
            for unit in
                ["a", "A", " ", "\n", " \n", "\t", "0", ".", "'", "é", "漢", "🦀", "\u{301}", "aA", "\u{0}", "a\u{301}"]
            {
                let text = unit.repeat(200_000 / unit.len());
                let started = std::time::Instant::now();
                let tokens = counter.raw(&text);
                let took = started.elapsed();
                assert!(tokens > 0 && tokens <= text.len() as u64, "{unit:?}: {tokens}");
                assert!(took.as_millis() < 2_000, "{tokenizer:?} took {took:?} for {unit:?}");
            }
        }
    }

    #[test]
    fn megabytes_of_nothing_do_not_exhaust_the_tokenizer() {
        // As one piece this runs into the regular expression's backtracking limit, which tiktoken unwraps.
        let counter = plain("gpt-4.1");
        for unit in [" ", "\u{a0}"] {
            assert!(counter.raw(&unit.repeat(1_200_000)) > 0, "{unit:?}");
        }
    }

    #[tokio::test]
    async fn a_text_counted_on_a_blocking_thread_has_the_same_count() {
        let text = "one two three ".repeat(10_000);
        let counter = plain("gpt-4.1");
        assert!(text.len() > COUNT_INLINE_BYTES);
        assert_eq!(counter.count_text(&text).await, counter.count(&text));
    }
}
