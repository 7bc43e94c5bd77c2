//! What the simulated model will do for one request, decided before it does anything. Pure.

use bursar_domain::agent::Message;
use bursar_domain::outcome::ErrorClass;
use bursar_domain::usage::Usage;

use super::directives::{Directives, Failure, strip};
use super::prose::Prose;
use super::sample;
use super::{count, counter};
use crate::providers::{ChatRequest, ProviderError, ToolCallPiece};

/// The shortest answer that nobody asked a length for, in tokens beyond its opening words.
const SHORTEST: u64 = 24;
/// How many tokens longer it may be.
const SPREAD: u64 = 48;
/// Characters of one streamed piece of a structured answer.
const PIECE_CHARS: usize = 12;
/// How many words of the prompt the answer repeats.
const QUOTED_WORDS: usize = 6;

/// One thing that happens on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Word(String),
    ToolCall(ToolCallPiece),
    Finish(&'static str),
    Report(Usage),
    Fail(ProviderError),
    Stall,
}

/// The whole course of one call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The call is refused before it begins.
    pub(super) refusal: Option<ProviderError>,
    /// What is streamed otherwise.
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// Decides. `seed` is the hash of the request in hexadecimal.
    pub(super) fn write(request: &ChatRequest, directives: &Directives, input_tokens: u64, seed: &str) -> Self {
        let struck = u64::from(request.attempt.unsigned_abs()) <= directives.times;
        let failure = directives.fail.filter(|_| struck).map(|kind| failure(kind, directives));
        if let Some(refusal) = failure.clone().filter(|_| directives.after_tokens == 0) {
            return Self { refusal: Some(refusal), steps: Vec::new() };
        }
        if let Some(steps) = tool_turn(request, directives, input_tokens).filter(|_| failure.is_none()) {
            return Self { refusal: None, steps };
        }
        let answer = Answer::structured(request, directives, seed)
            .unwrap_or_else(|| Answer::write(request, directives.tokens, seed));
        let cut_short = failure.map(|error| Step::Fail(ProviderError { may_have_cost: true, ..error }));
        let cut_short = cut_short.or_else(|| (directives.stall && struck).then_some(Step::Stall));
        let steps = match cut_short {
            Some(step) => {
                let mut steps = first_words(answer.words, directives.after_tokens);
                steps.push(step);
                steps
            }
            None => answer.steps(directives, input_tokens),
        };
        Self { refusal: None, steps }
    }
}

/// Words and why they end.
struct Answer {
    words: Vec<String>,
    finish: &'static str,
}

impl Answer {
    /// Opening words that name the agent and the prompt, then made-up sentences up to the length.
    fn write(request: &ChatRequest, tokens: Option<u64>, seed: &str) -> Self {
        let mut prose = Prose::new(seed);
        let opening = opening(request);
        let opening_tokens: u64 = opening.iter().map(|word| counter().count(word)).sum();
        let wished = tokens.unwrap_or(opening_tokens + SHORTEST + prose.below(SPREAD));
        let mut room = wished.min(request.max_output_tokens);
        let mut words = Vec::new();
        for word in opening {
            let word_tokens = counter().count(&word);
            if word_tokens > room {
                break;
            }
            room -= word_tokens;
            words.push(word);
        }
        let filler = prose.take(usize::try_from(room).unwrap_or(usize::MAX));
        words.extend(filler.map(str::to_owned));
        Self { words, finish: if wished > request.max_output_tokens { "length" } else { "stop" } }
    }

    /// The text that was asked for by name, or a value for the format that was asked for; `None` when neither was.
    fn structured(request: &ChatRequest, directives: &Directives, seed: &str) -> Option<Self> {
        let text = match (&directives.json, &request.format) {
            (Some(text), _) => text.clone(),
            (None, Some(format)) => sample::value(&format.schema, &mut Prose::new(seed)).to_string(),
            (None, None) => return None,
        };
        let earlier = request.messages.iter().filter(|message| message.role() == "assistant").count() as u64;
        let text = if earlier < directives.wrong_json { "This is no JSON.".to_owned() } else { text };
        let mut room = request.max_output_tokens;
        let (mut words, mut finish) = (Vec::new(), "stop");
        for piece in pieces(&text) {
            let tokens = counter().count(&piece);
            if tokens > room {
                finish = "length";
                break;
            }
            room -= tokens;
            words.push(piece);
        }
        Some(Self { words, finish })
    }

    fn steps(self, directives: &Directives, input_tokens: u64) -> Vec<Step> {
        let mut usage = count(input_tokens, &self.words.concat());
        if let Some(reported) = directives.output_tokens_reported {
            usage.output_tokens = reported;
        }
        let mut steps: Vec<Step> = self.words.into_iter().map(Step::Word).collect();
        steps.push(Step::Finish(self.finish));
        if !directives.no_usage {
            steps.push(Step::Report(usage));
        }
        steps
    }
}

/// The calls of a tool that the directives ask for in this turn; `None` when it is time to answer.
fn tool_turn(request: &ChatRequest, directives: &Directives, input_tokens: u64) -> Option<Vec<Step>> {
    let name = directives.tool.as_ref()?;
    let turns = request.messages.iter().filter(|message| !message.tool_calls().is_empty()).count() as u64;
    if turns >= directives.tool_turns {
        return None;
    }
    let mut steps = Vec::new();
    let mut said = String::new();
    for index in 0..directives.parallel {
        let number = turns * directives.parallel + index + 1;
        let arguments = directives.args.replace("$n", &number.to_string());
        said = said + name + &arguments;
        let id = Some(format!("call_{number}"));
        steps.push(Step::ToolCall(ToolCallPiece { index, id, name: Some(name.clone()), arguments }));
    }
    steps.push(Step::Finish("tool_calls"));
    if !directives.no_usage {
        steps.push(Step::Report(count(input_tokens, &said)));
    }
    Some(steps)
}

/// The text in pieces of some characters, as they would stream.
fn pieces(text: &str) -> Vec<String> {
    let letters: Vec<char> = text.chars().collect();
    letters.chunks(PIECE_CHARS).map(|piece| piece.iter().collect()).collect()
}

/// `engineer on "Write the PRD for a …":`, word by word.
fn opening(request: &ChatRequest) -> Vec<String> {
    let prompt = request.messages.iter().rfind(|message| message.role() == "user");
    let prompt = strip(prompt.map(Message::content).unwrap_or_default());
    let quoted: Vec<&str> = prompt.split_whitespace().take(QUOTED_WORDS).collect();
    let sentence = format!("{} on \"{}\":", request.agent, quoted.join(" "));
    let mut words = sentence.split(' ').filter(|word| !word.is_empty());
    words.next().map(str::to_owned).into_iter().chain(words.map(|word| format!(" {word}"))).collect()
}

/// The first words that make at least so many tokens.
fn first_words(words: Vec<String>, tokens: u64) -> Vec<Step> {
    let mut sent = 0;
    let mut steps = Vec::new();
    for word in words {
        if sent >= tokens {
            break;
        }
        sent += counter().count(&word);
        steps.push(Step::Word(word));
    }
    steps
}

fn failure(kind: Failure, directives: &Directives) -> ProviderError {
    let (class, code) = match kind {
        Failure::Retryable => (ErrorClass::Retryable, "provider_unavailable"),
        Failure::Permanent => (ErrorClass::Permanent, "provider_refused"),
        Failure::RateLimited => (ErrorClass::RateLimited, "provider_rate_limited"),
    };
    let mut error =
        ProviderError::refused(class, code, "the simulated model failed because the prompt asked it to".to_owned());
    if kind == Failure::RateLimited {
        error.retry_after_ms = Some(directives.retry_after_ms);
    }
    error
}
