//! What one call used, in the canonical shape every provider's answer is brought to.
//!
//! `input_tokens` and `output_tokens` are inclusive totals: cached tokens are part of the input, reasoning
//! tokens part of the output. A part larger than its total is an error, never clamped.

use serde::{Deserialize, Serialize};

/// Tokens and requests of one call. All counts are whole numbers; unknown parts are zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// All tokens sent, cached ones included.
    pub input_tokens: u64,
    /// The part of the input that the provider read from its cache.
    pub cache_read_tokens: u64,
    /// The part of the input that the provider wrote to its cache.
    pub cache_write_tokens: u64,
    /// All tokens produced, reasoning included.
    pub output_tokens: u64,
    /// The part of the output that the model spent on reasoning.
    pub reasoning_tokens: u64,
}
