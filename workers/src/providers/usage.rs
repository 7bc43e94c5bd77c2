//! Brings the usage that OpenAI-compatible endpoints report to the canonical [`Usage`].
//!
//! Cached tokens are a part of the input, reasoning tokens a part of the output; nothing is ever added up.
//! A report that cannot be true is no report: the caller estimates and says so. It is never repaired.

use bursar_domain::usage::Usage;
use serde_json::Value;

use crate::limits::PLAUSIBLE_TOKENS;

/// The usage report in a chunk or a whole response, wherever the endpoint puts it: at the top (`OpenAI`),
/// in the first choice (Moonshot), or in `x_groq`. `null`, which `OpenAI` sends with every chunk, is no report.
pub fn find(chunk: &Value) -> Option<&Value> {
    ["/usage", "/choices/0/usage", "/x_groq/usage"]
        .iter()
        .filter_map(|pointer| chunk.pointer(pointer))
        .find(|usage| !usage.is_null())
}

/// Reads a report. `None` when a count is missing, negative, fractional, absurdly large, or larger than the
/// whole it is a part of, or when the input is empty, which no chat request is.
pub fn normalise(report: &Value) -> Option<Usage> {
    let usage = Usage {
        input_tokens: total(report, "/prompt_tokens")?,
        output_tokens: total(report, "/completion_tokens")?,
        // DeepSeek names its cache hits at the top; everyone else in the details.
        cache_read_tokens: part(report, &["/prompt_tokens_details/cached_tokens", "/prompt_cache_hit_tokens"])?,
        cache_write_tokens: part(
            report,
            &["/prompt_tokens_details/cache_write_tokens", "/prompt_tokens_details/cache_creation_tokens"],
        )?,
        // Anthropic's two lifetimes, as LiteLLM passes them on; nobody else tells them apart.
        cache_write_1h_tokens: part(
            report,
            &["/prompt_tokens_details/cache_creation_token_details/ephemeral_1h_input_tokens"],
        )?,
        reasoning_tokens: part(report, &["/completion_tokens_details/reasoning_tokens"])?,
    };
    let cached = usage.cache_read_tokens.checked_add(usage.cache_write_tokens)?;
    let sane = usage.input_tokens > 0
        && cached <= usage.input_tokens
        && usage.cache_write_1h_tokens <= usage.cache_write_tokens
        && usage.reasoning_tokens <= usage.output_tokens;
    sane.then_some(usage)
}

/// A count that has to be there.
fn total(report: &Value, pointer: &str) -> Option<u64> {
    report.pointer(pointer)?.as_u64().filter(|tokens| *tokens <= PLAUSIBLE_TOKENS)
}

/// A count that may be absent or null, which is zero; the first place that has one counts.
fn part(report: &Value, pointers: &[&str]) -> Option<u64> {
    match pointers.iter().find(|pointer| report.pointer(pointer).is_some_and(|count| !count.is_null())) {
        Some(pointer) => total(report, pointer),
        None => Some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_are_kept_inside_their_totals() {
        let report = json!({
            "prompt_tokens": 12_857, "completion_tokens": 550, "total_tokens": 13_407,
            "prompt_tokens_details": {
                "cached_tokens": 550,
                "cache_write_tokens": 12_304,
                "cache_creation_token_details": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 12_004},
            },
            "completion_tokens_details": {"reasoning_tokens": 21, "audio_tokens": null},
        });
        let usage = Usage {
            input_tokens: 12_857,
            cache_read_tokens: 550,
            cache_write_tokens: 12_304,
            cache_write_1h_tokens: 12_004,
            output_tokens: 550,
            reasoning_tokens: 21,
        };
        assert_eq!(normalise(&report), Some(usage));
    }

    #[test]
    fn missing_parts_and_null_details_are_zero() {
        for details in [json!(null), json!({}), json!({"cached_tokens": null})] {
            let report = json!({"prompt_tokens": 3, "completion_tokens": 0, "prompt_tokens_details": details});
            assert_eq!(normalise(&report), Some(Usage { input_tokens: 3, ..Usage::default() }), "{report}");
        }
    }

    #[test]
    fn what_cannot_be_true_is_no_report() {
        let cases = [
            ("negative", json!({"prompt_tokens": -1, "completion_tokens": 2})),
            ("negative output", json!({"prompt_tokens": 1, "completion_tokens": -2})),
            ("fractional", json!({"prompt_tokens": 1.5, "completion_tokens": 2})),
            ("text", json!({"prompt_tokens": "10", "completion_tokens": 2})),
            ("missing", json!({"prompt_tokens": 10})),
            ("absurd", json!({"prompt_tokens": 10, "completion_tokens": 1_000_000_000_000_i64})),
            ("no input", json!({"prompt_tokens": 0, "completion_tokens": 0})),
            (
                "cached above input",
                json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 11}}),
            ),
            (
                "written for an hour above written",
                json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details":
                    {"cache_creation_token_details": {"ephemeral_1h_input_tokens": 1}}}),
            ),
            (
                "reasoning above output",
                json!({"prompt_tokens": 10, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 3}}),
            ),
            (
                "negative part",
                json!({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -1}}),
            ),
            ("not an object", json!("many")),
        ];
        for (name, report) in cases {
            assert_eq!(normalise(&report), None, "{name}");
        }
    }

    #[test]
    fn a_report_is_found_wherever_an_endpoint_puts_it() {
        let report = json!({"prompt_tokens": 3, "completion_tokens": 4});
        let chunks = [
            json!({"choices": [], "usage": report}),
            json!({"choices": [{"delta": {}, "usage": report}], "usage": null}),
            json!({"choices": [], "x_groq": {"usage": report}}),
        ];
        for chunk in chunks {
            assert_eq!(find(&chunk), Some(&report), "{chunk}");
        }
        assert_eq!(find(&json!({"choices": [{"delta": {"content": "x"}}], "usage": null})), None);
    }
}
