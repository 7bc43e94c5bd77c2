//! What a prompt tells the simulated model to do: `[[simulate key=value key …]]` anywhere in a message.
//!
//! | key | effect |
//! |---|---|
//! | `fail=retryable`, `fail=permanent`, `fail=rate_limited` | fails, before the first token or after `after_tokens` |
//! | `stall` | streams `after_tokens`, then nothing for ever |
//! | `times=N` | `fail` and `stall` hold for the first N attempts only |
//! | `after_tokens=N` | where to fail or stall (default 0) |
//! | `retry_after_ms=N` | what `rate_limited` asks to wait (default 1000) |
//! | `tokens=N` | answers with exactly N tokens |
//! | `delay_ms=N` | waits before it begins |
//! | `no_usage` | reports no usage |
//! | `tool=NAME` | asks for this tool before it answers |
//! | `args=JSON` | with these arguments, without blanks; `$n` becomes the call's number (default `{}`) |
//! | `tool_turns=N` | in so many turns, one after the other (default 1) |
//! | `parallel=N` | so many times in each turn (default 1) |
//! | `json=VALUE` | answers with this text, which has no blanks |
//! | `wrong_json=N` | the first N answers of the conversation are no JSON |
//! | `output_tokens_reported=N` | reports this output, whatever it streamed |
//!
//! Several directives add up, later ones win. An unknown key fails the call by name: a typo in a test must not
//! look like a passing one. No other provider reads any of this.

use bursar_domain::outcome::ErrorClass;

use crate::providers::ProviderError;

const OPEN: &str = "[[simulate";
const CLOSE: &str = "]]";

/// How to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Retryable,
    Permanent,
    RateLimited,
}

/// Everything the messages of one request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) fail: Option<Failure>,
    pub(super) stall: bool,
    pub(super) times: u64,
    pub(super) after_tokens: u64,
    pub(super) retry_after_ms: i64,
    pub(super) tokens: Option<u64>,
    pub(super) delay_ms: u64,
    pub(super) no_usage: bool,
    pub(super) tool: Option<String>,
    pub(super) args: String,
    pub(super) tool_turns: u64,
    pub(super) parallel: u64,
    pub(super) json: Option<String>,
    pub(super) wrong_json: u64,
    pub(super) output_tokens_reported: Option<u64>,
}

impl Default for Directives {
    fn default() -> Self {
        Self {
            fail: None,
            stall: false,
            times: u64::MAX,
            after_tokens: 0,
            retry_after_ms: 1_000,
            tokens: None,
            delay_ms: 0,
            no_usage: false,
            tool: None,
            args: "{}".to_owned(),
            tool_turns: 1,
            parallel: 1,
            json: None,
            wrong_json: 0,
            output_tokens_reported: None,
        }
    }
}

impl Directives {
    /// Reads the directives of all messages.
    pub(super) fn of(contents: &[&str]) -> Result<Self, ProviderError> {
        let mut directives = Self::default();
        for content in contents {
            let mut rest = *content;
            while let Some((_, after)) = rest.split_once(OPEN) {
                let (words, after) = after.split_once(CLOSE).ok_or_else(|| invalid("it never ends with `]]`"))?;
                for word in words.split_whitespace() {
                    directives.obey(word)?;
                }
                rest = after;
            }
        }
        Ok(directives)
    }

    fn obey(&mut self, word: &str) -> Result<(), ProviderError> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "fail" => self.fail = Some(failure(value)?),
            "stall" => self.stall = true,
            "no_usage" => self.no_usage = true,
            "times" => self.times = number(key, value)?,
            "after_tokens" => self.after_tokens = number(key, value)?,
            "retry_after_ms" => self.retry_after_ms = i64::try_from(number(key, value)?).unwrap_or(i64::MAX),
            "tokens" => self.tokens = Some(number(key, value)?),
            "tool" => self.tool = Some(value.to_owned()),
            "args" => value.clone_into(&mut self.args),
            "tool_turns" => self.tool_turns = number(key, value)?,
            "parallel" => self.parallel = number(key, value)?,
            "json" => self.json = Some(value.to_owned()),
            "wrong_json" => self.wrong_json = number(key, value)?,
            "delay_ms" => self.delay_ms = number(key, value)?,
            "output_tokens_reported" => self.output_tokens_reported = Some(number(key, value)?),
            _ => return Err(invalid(&format!("`{}` is no key of it", key.chars().take(40).collect::<String>()))),
        }
        Ok(())
    }
}

/// The text without its directives, which must not be repeated: an answer becomes another step's prompt.
pub(super) fn strip(text: &str) -> String {
    let mut stripped = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        stripped.push_str(before);
        rest = after.split_once(CLOSE).map_or("", |(_, after)| after);
    }
    stripped + rest
}

fn failure(value: &str) -> Result<Failure, ProviderError> {
    match value {
        "retryable" => Ok(Failure::Retryable),
        "permanent" => Ok(Failure::Permanent),
        "rate_limited" => Ok(Failure::RateLimited),
        _ => Err(invalid("`fail` is one of `retryable`, `permanent`, `rate_limited`")),
    }
}

fn number(key: &str, value: &str) -> Result<u64, ProviderError> {
    value.parse().map_err(|_| invalid(&format!("`{key}` needs a whole number, as in `{key}=2`")))
}

fn invalid(reason: &str) -> ProviderError {
    ProviderError::refused(
        ErrorClass::Permanent,
        "simulate_directive_invalid",
        format!("the prompt's `[[simulate …]]` cannot be obeyed: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_prompt_without_directives_asks_for_nothing() {
        assert_eq!(Directives::of(&["Write [[something]] nice", ""]).unwrap(), Directives::default());
    }

    #[test]
    fn directives_add_up_and_later_ones_win() {
        let directives = Directives::of(&[
            "You are Bob. [[simulate tokens=50 no_usage]]",
            "Go [[simulate fail=rate_limited times=2 after_tokens=5]] on [[simulate tokens=60 delay_ms=500]][[simulate]]",
        ]);
        let expected = Directives {
            fail: Some(Failure::RateLimited),
            times: 2,
            after_tokens: 5,
            tokens: Some(60),
            delay_ms: 500,
            no_usage: true,
            ..Directives::default()
        };
        assert_eq!(directives.unwrap(), expected);
    }

    #[test]
    fn a_directive_that_cannot_be_obeyed_is_refused_by_name() {
        let cases = [
            ("[[simulate explode]]", "`explode`"),
            ("[[simulate fail=sometimes]]", "`fail` is one of"),
            ("[[simulate fail]]", "`fail` is one of"),
            ("[[simulate times=two]]", "`times=2`"),
            ("[[simulate tokens=-1]]", "`tokens` needs"),
            ("[[simulate stall", "never ends"),
        ];
        for (prompt, reason) in cases {
            let error = Directives::of(&[prompt]).unwrap_err();
            assert_eq!(error.class, ErrorClass::Permanent);
            assert!(error.message.contains(reason), "{prompt}: {}", error.message);
        }
    }

    #[test]
    fn stripping_leaves_only_the_words() {
        assert_eq!(strip("a [[simulate stall]]b[[simulate x]] c"), "a b c");
        assert_eq!(strip("a [[simulate stall"), "a ");
        assert_eq!(strip("plain"), "plain");
    }
}
