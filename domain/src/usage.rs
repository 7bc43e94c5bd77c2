//! What one call used, in the canonical shape every provider's answer is brought to.
//!
//! `input_tokens` and `output_tokens` are inclusive totals: cached tokens are part of the input, reasoning
//! tokens part of the output. A part larger than its total is an error, never clamped: a clamp would hide a
//! provider's answer that was read wrongly, and bill it.

use serde::{Deserialize, Serialize};

/// Tokens and requests of one call. All counts are whole numbers; unknown parts are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// All tokens sent, cached ones included.
    pub input_tokens: u64,
    /// The part of the input that the provider read from its cache.
    pub cache_read_tokens: u64,
    /// The part of the input that the provider wrote to its cache, for however long.
    pub cache_write_tokens: u64,
    /// The part of the cache writes that was made for one hour. Left out of what is stored where there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write_1h_tokens: u64,
    /// All tokens produced, reasoning included.
    pub output_tokens: u64,
    /// The part of the output that the model spent on reasoning.
    pub reasoning_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The same call cut into disjoint parts, each of which has exactly one price.
///
/// `input + cache_read + cache_write + cache_write_1h` is the usage's `input_tokens`, `output + reasoning` its `output_tokens`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leaves {
    /// Input tokens that touched no cache.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache, those for one hour left out.
    pub cache_write: u64,
    /// Input tokens written to the provider's cache for one hour.
    pub cache_write_1h: u64,
    /// Output tokens without the reasoning.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

/// Why counts cannot be the usage of a call: a part is larger than its total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// The cached parts together are more than the input.
    #[error(
        "{cache_read_tokens} tokens read from and {cache_write_tokens} written to the cache are more than the \
         {input_tokens} input tokens they should be part of"
    )]
    CachedExceedsInput {
        /// Tokens read from the cache.
        cache_read_tokens: u64,
        /// Tokens written to the cache.
        cache_write_tokens: u64,
        /// All input tokens.
        input_tokens: u64,
    },
    /// The cache writes for one hour are more than all cache writes.
    #[error(
        "{cache_write_1h_tokens} tokens written to the cache for an hour are more than the {cache_write_tokens} \
         cache writes they should be part of"
    )]
    HourExceedsCacheWrites {
        /// Tokens written to the cache for one hour.
        cache_write_1h_tokens: u64,
        /// All tokens written to the cache.
        cache_write_tokens: u64,
    },
    /// The reasoning is more than the output.
    #[error(
        "{reasoning_tokens} reasoning tokens are more than the {output_tokens} output tokens they should be part of"
    )]
    ReasoningExceedsOutput {
        /// Tokens spent on reasoning.
        reasoning_tokens: u64,
        /// All output tokens.
        output_tokens: u64,
    },
}

impl Usage {
    /// Whether every part fits into its total.
    pub fn check(&self) -> Result<(), UsageError> {
        self.leaves().map(|_| ())
    }

    /// The disjoint parts of the call. Refuses a negative one, the input's before the output's.
    pub fn leaves(&self) -> Result<Leaves, UsageError> {
        let input = self
            .input_tokens
            .checked_sub(self.cache_read_tokens)
            .and_then(|rest| rest.checked_sub(self.cache_write_tokens))
            .ok_or(UsageError::CachedExceedsInput {
                cache_read_tokens: self.cache_read_tokens,
                cache_write_tokens: self.cache_write_tokens,
                input_tokens: self.input_tokens,
            })?;
        let cache_write = self.cache_write_tokens.checked_sub(self.cache_write_1h_tokens).ok_or(
            UsageError::HourExceedsCacheWrites {
                cache_write_1h_tokens: self.cache_write_1h_tokens,
                cache_write_tokens: self.cache_write_tokens,
            },
        )?;
        let output =
            self.output_tokens.checked_sub(self.reasoning_tokens).ok_or(UsageError::ReasoningExceedsOutput {
                reasoning_tokens: self.reasoning_tokens,
                output_tokens: self.output_tokens,
            })?;
        Ok(Leaves {
            input,
            cache_read: self.cache_read_tokens,
            cache_write,
            cache_write_1h: self.cache_write_1h_tokens,
            output,
            reasoning: self.reasoning_tokens,
        })
    }

    /// Both usages together, `None` on overflow. For totals on pages: costs are added per call, never priced
    /// from a sum (context tiers and the ceil belong to the call).
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            input_tokens: self.input_tokens.checked_add(other.input_tokens)?,
            cache_read_tokens: self.cache_read_tokens.checked_add(other.cache_read_tokens)?,
            cache_write_tokens: self.cache_write_tokens.checked_add(other.cache_write_tokens)?,
            cache_write_1h_tokens: self.cache_write_1h_tokens.checked_add(other.cache_write_1h_tokens)?,
            output_tokens: self.output_tokens.checked_add(other.output_tokens)?,
            reasoning_tokens: self.reasoning_tokens.checked_add(other.reasoning_tokens)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(counts: [u64; 5]) -> Usage {
        let [input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = counts;
        let cache_write_1h_tokens = 0;
        Usage {
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
            reasoning_tokens,
        }
    }

    #[test]
    fn leaves_are_what_is_left_of_the_inclusive_totals() {
        let leaves = usage([12_307, 1_000, 11_304, 550, 50]).leaves();
        let expected =
            Leaves { input: 3, cache_read: 1_000, cache_write: 11_304, cache_write_1h: 0, output: 500, reasoning: 50 };
        assert_eq!(leaves, Ok(expected));
        let partly = Usage { cache_write_1h_tokens: 304, ..usage([12_307, 1_000, 11_304, 550, 50]) };
        assert_eq!(partly.leaves(), Ok(Leaves { cache_write: 11_000, cache_write_1h: 304, ..expected }));
        assert_eq!(usage([7, 3, 4, 9, 9]).leaves().map(|leaves| (leaves.input, leaves.output)), Ok((0, 0)));
    }

    #[test]
    fn a_negative_leaf_is_an_error_and_not_a_clamp() {
        for cached in [[3, 4, 0], [3, 0, 4], [3, 2, 2], [3, u64::MAX, u64::MAX], [0, 1, 0]] {
            let [input_tokens, cache_read_tokens, cache_write_tokens] = cached;
            let refused = UsageError::CachedExceedsInput { cache_read_tokens, cache_write_tokens, input_tokens };
            let given = usage([input_tokens, cache_read_tokens, cache_write_tokens, 1, 2]);
            assert_eq!(given.check(), Err(refused), "{given:?}");
            assert_eq!(given.leaves(), Err(refused), "{given:?}");
        }
        let hour = Usage { cache_write_1h_tokens: 5, ..usage([9, 0, 4, 1, 2]) };
        let refused = UsageError::HourExceedsCacheWrites { cache_write_1h_tokens: 5, cache_write_tokens: 4 };
        assert_eq!(hour.check(), Err(refused));
        let refused = UsageError::ReasoningExceedsOutput { reasoning_tokens: 22, output_tokens: 21 };
        assert_eq!(usage([9, 0, 0, 21, 22]).check(), Err(refused));
        assert_eq!(
            refused.to_string(),
            "22 reasoning tokens are more than the 21 output tokens they should be part of"
        );
    }

    #[test]
    fn a_sum_adds_every_field_and_never_wraps() {
        let sum = usage([10, 2, 3, 20, 5]).checked_add(&usage([1, 1, 0, 2, 2]));
        assert_eq!(sum, Some(usage([11, 3, 3, 22, 7])));
        for field in 0..5 {
            let counts = std::array::from_fn(|at| if at == field { u64::MAX } else { 0 });
            assert_eq!(usage(counts).checked_add(&usage([1; 5])), None, "field {field}");
        }
        let hour = |cache_write_1h_tokens| Usage { cache_write_1h_tokens, ..Usage::default() };
        assert_eq!(hour(2).checked_add(&hour(3)), Some(hour(5)));
        assert_eq!(hour(u64::MAX).checked_add(&hour(1)), None);
    }

    #[test]
    fn writes_for_an_hour_are_stored_where_there_are_any() {
        let plain = serde_json::to_string(&usage([5, 0, 4, 1, 0])).unwrap_or_default();
        assert!(!plain.contains("1h"), "{plain}");
        let hour = Usage { cache_write_1h_tokens: 2, ..usage([5, 0, 4, 1, 0]) };
        let stored = serde_json::to_string(&hour).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Usage>(&stored).ok(), Some(hour));
    }
}
