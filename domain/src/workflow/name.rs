//! What may be called how: one rule for each kind of name in a definition.
//!
//! Names travel into URLs, Redis keys, metrics and template paths, so each rule is the narrowest of its uses.

use crate::limits::{MAX_MODEL_NAME_BYTES, MAX_NAME_BYTES, MAX_POOL_NAME_BYTES};

/// A rule for names.
pub(super) struct NameRule {
    /// The rule in words, as it follows "must be".
    pub(super) says: &'static str,
    max_bytes: usize,
    first: fn(u8) -> bool,
    rest: fn(u8) -> bool,
}

impl NameRule {
    /// Whether the name keeps to the rule.
    pub(super) fn allows(&self, name: &str) -> bool {
        let mut bytes = name.bytes();
        name.len() <= self.max_bytes && bytes.next().is_some_and(self.first) && bytes.all(self.rest)
    }
}

fn is_dashed(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// Workflows: a part of a URL.
pub(super) const WORKFLOW: NameRule = NameRule {
    says: "1 to 64 of the characters a-z, 0-9 and -",
    max_bytes: MAX_NAME_BYTES,
    first: is_dashed,
    rest: is_dashed,
};

/// Worker pools: a part of Redis keys and of the command line.
pub(super) const POOL: NameRule = NameRule {
    says: "1 to 32 of the characters a-z, 0-9 and -",
    max_bytes: MAX_POOL_NAME_BYTES,
    first: is_dashed,
    rest: is_dashed,
};

/// Schemas: a name that model APIs take as it is.
pub(super) const SCHEMA: NameRule = NameRule {
    says: "1 to 64 letters, digits and _, a letter first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_alphabetic(),
    rest: |byte| byte.is_ascii_alphanumeric() || byte == b'_',
};

/// Tools: a name that model APIs take as it is.
pub(super) const TOOL: NameRule = NameRule {
    says: "1 to 64 letters, digits, _ and -, a letter first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_alphabetic(),
    rest: |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
};

/// Signals: a part of a URL.
pub(super) const SIGNAL: NameRule = NameRule {
    says: "1 to 64 of the characters a-z, 0-9, _ and -, a letter first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_lowercase(),
    rest: |byte| is_dashed(byte) || byte == b'_',
};

/// Secrets: a key of the operator's configuration.
pub(super) const SECRET: NameRule = NameRule { says: TOOL.says, ..TOOL };

/// HTTP headers, of RFC 9110's tokens those that are in use.
pub(super) const HEADER: NameRule = NameRule {
    says: "1 to 64 letters, digits, - and _",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_alphanumeric(),
    rest: |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
};

/// Names of values in a URL's query.
pub(super) const QUERY: NameRule = NameRule {
    says: "1 to 64 visible ASCII characters without spaces",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_graphic(),
    rest: |byte| byte.is_ascii_graphic(),
};

/// Environment variables.
pub(super) const VARIABLE: NameRule = NameRule {
    says: "1 to 64 letters, digits and _, no digit first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_alphabetic() || byte == b'_',
    rest: |byte| byte.is_ascii_alphanumeric() || byte == b'_',
};

/// Nodes, agents and outputs: parts of template paths, where `-` would be a minus.
pub(super) const IDENTIFIER: NameRule = NameRule {
    says: "1 to 64 of the characters a-z, 0-9 and _, a letter first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_lowercase(),
    rest: |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_',
};

/// Priced units, as the price book spells them.
pub(super) const UNIT: NameRule = NameRule {
    says: "1 to 64 of the characters a-z, 0-9, _, - and ., a letter or digit first",
    max_bytes: MAX_NAME_BYTES,
    first: |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit(),
    rest: |byte| is_dashed(byte) || byte == b'_' || byte == b'.',
};

/// Models, as providers spell them (`gpt-4.1-mini`, `meta-llama/Llama-3.3-70B-Instruct`, `ollama:qwen3`).
pub(super) const MODEL: NameRule = NameRule {
    says: "1 to 128 visible ASCII characters without spaces",
    max_bytes: MAX_MODEL_NAME_BYTES,
    first: |byte| byte.is_ascii_graphic(),
    rest: |byte| byte.is_ascii_graphic(),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_narrow_as_their_narrowest_use() {
        assert!(WORKFLOW.allows("software-company"));
        assert!(!WORKFLOW.allows("Software"));
        assert!(!WORKFLOW.allows(""));
        assert!(!WORKFLOW.allows(&"a".repeat(65)));
        assert!(!POOL.allows(&"a".repeat(33)));
        assert!(IDENTIFIER.allows("product_manager"));
        assert!(!IDENTIFIER.allows("product-manager"));
        assert!(!IDENTIFIER.allows("1st"));
        assert!(UNIT.allows("output.reasoning"));
        assert!(MODEL.allows("meta-llama/Llama-3.3-70B-Instruct"));
        assert!(!MODEL.allows("gpt 4"));
        assert!(!MODEL.allows("modèle"));
    }
}
