//! How large a task's first hold is, without rendering anything.
//!
//! The worker renders and counts after the claim and re-sizes the hold before its first call, so this need
//! not be exact: it must be quick, never zero for a priced node, and rather too large than too small.

use crate::credits::Ucr;
use crate::pricing::{PriceBook, PricingError};
use crate::workflow::{Action, Node};

/// Bytes of text per token, on the careful side (English has about four, code and other scripts fewer).
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens for roles and separators of a two-message prompt.
const MESSAGE_OVERHEAD_TOKENS: u64 = 16;

/// As many bytes as [`hold_size`] takes for so many tokens.
pub(super) fn bytes_of_tokens(tokens: u64) -> i64 {
    i64::try_from(tokens.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(i64::MAX)
}

/// Bytes that a node's own templates bring, before any input.
pub(super) fn template_bytes(node: &Node) -> i64 {
    match &node.action {
        Action::Agent(step) => {
            i64::try_from(step.instructions.len().saturating_add(step.prompt.len())).unwrap_or(i64::MAX)
        }
        Action::Transform(_) | Action::Sleep { .. } => 0,
    }
}

/// Whether the node can cost anything at all.
pub(super) fn is_priced(node: &Node) -> bool {
    matches!(node.action, Action::Agent(_)) || !node.units.is_empty()
}

/// Credits to hold for one execution of the node, in µcr.
pub(super) fn hold_size(node: &Node, input_bytes: i64, prices: &PriceBook) -> Result<Ucr, PricingError> {
    let units = prices.units_cost(&node.units)?;
    let tokens = match &node.action {
        Action::Agent(step) => {
            let bytes = u64::try_from(input_bytes).unwrap_or(0);
            let input_tokens = bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(MESSAGE_OVERHEAD_TOKENS);
            prices.call_ceiling(&step.model, input_tokens, step.max_output_tokens)?
        }
        Action::Transform(_) | Action::Sleep { .. } => Ucr::ZERO,
    };
    // never zero, so that "priced and live" and "has a hold" are the same thing
    Ok(units.saturating_add(tokens).max(Ucr::new(i64::from(is_priced(node)))))
}
