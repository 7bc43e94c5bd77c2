//! Every hard limit of this package with its reason. Nothing else in here.

/// Characters of a provider's error message that are kept: enough to act on, too few to carry a prompt.
pub(crate) const ERROR_MESSAGE_CHARS: usize = 500;

/// Bytes of a provider's error body that are read: proxies answer with whole HTML pages.
pub(crate) const ERROR_BODY_BYTES: usize = 64 * 1024;

/// Bytes of one streamed answer, framing included. The longest outputs sold (128 k tokens, one frame of
/// about 200 bytes for each) stay below it; it bounds the memory of a stream that never ends.
pub(crate) const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The longest time a provider can make a task wait, in milliseconds: one hour.
pub(crate) const RETRY_AFTER_MS: i64 = 3_600_000;

/// Requests with more bytes of text than this are counted on a blocking thread (50 kB take 2–4 ms).
pub(crate) const COUNT_INLINE_BYTES: usize = 50_000;

/// Bytes that the tokenizer sees at once; between two chunks, counting can be stopped.
pub(crate) const COUNT_CHUNK_BYTES: usize = 16 * 1024;

/// Bytes without a break that the tokenizer sees at most. Bounds the regular expression's backtracking and the merge
/// of one piece, which both grow faster than the text. Long words, links and identifiers fit.
pub(crate) const COUNT_RUN_BYTES: usize = 2 * 1024;

/// Large requests that are counted at the same time; each takes a processor for itself.
pub(crate) const COUNTS_AT_ONCE: usize = 2;

/// Above this many tokens a reported count is a mistake: a hundred times the largest context on sale.
pub(crate) const PLAUSIBLE_TOKENS: u64 = 100_000_000;

/// Characters of a run shared between a provider's message and a prompt from which on it counts as an echo.
pub(crate) const PROMPT_ECHO_CHARS: usize = 24;

/// Characters of a run shared between a provider's message and the API key that count as an echo.
pub(crate) const KEY_ECHO_CHARS: usize = 6;

/// Bytes of one message of an MCP server. Results that models are told are cut far below it; it bounds the memory that a
/// server can take.
pub(crate) const MCP_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Tools of one MCP server that are known: more would not fit into any model's context.
pub(crate) const MCP_TOOLS: usize = 1_000;

/// Characters of what an MCP server says a tool does: each call of a model carries them.
pub(crate) const MCP_DESCRIPTION_CHARS: usize = 4_096;

/// Bytes of a tool's schema; one with more is not offered, for the same reason.
pub(crate) const MCP_SCHEMA_BYTES: usize = 64 * 1024;
