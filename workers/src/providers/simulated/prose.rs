//! Made-up sentences, one token at a time.
//!
//! Each word of the vocabulary below is exactly one token of `o200k_base`, leading space included, so that a
//! text of any wished length can be written without counting it again and again. A test counts.

/// What the sentences are made of, in the order of their words.
const SENTENCE: &[&[&str]] = &[
    &[" The", " This", " Our", " Each", " Every", " That"],
    &[" first", " small", " final", " simple", " common", " next", " clear", " whole"],
    &[" plan", " team", " design", " service", " user", " report", " test", " budget", " interface", " review"],
    &[" covers", " needs", " shows", " keeps", " improves", " supports", " explains", " follows"],
    &[" the", " a", " its", " one"],
    &[" new", " main", " short", " open", " shared", " complete", " stable", " visible"],
    &[" list", " result", " goal", " change", " answer", " process", " feature", " version", " page", " idea"],
    &["."],
];

/// An endless source of tokens that depends on nothing but its seed.
pub(super) struct Prose {
    state: u64,
    position: usize,
}

impl Prose {
    /// Seeds from a hexadecimal hash.
    pub(super) fn new(hash: &str) -> Self {
        let state = hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).unwrap_or(0);
        // Xorshift cannot leave zero.
        Self { state: state | 1, position: 0 }
    }

    /// A number below `bound` (0 for an empty range).
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16).checked_rem(bound).unwrap_or(0)
    }
}

impl Iterator for Prose {
    type Item = &'static str;

    /// The next token.
    fn next(&mut self) -> Option<&'static str> {
        let choices = SENTENCE.get(self.position % SENTENCE.len())?;
        self.position += 1;
        let choice = self.below(choices.len() as u64);
        choices.get(choice as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::super::counter;
    use super::*;

    #[test]
    fn every_word_is_one_token() {
        for word in SENTENCE.iter().copied().flatten() {
            assert_eq!(counter().count(word), 1, "{word:?}");
        }
    }

    #[test]
    fn any_number_of_words_is_that_number_of_tokens() {
        for length in [1, 7, 8, 9, 50, 1_000, 5_000] {
            let text: String = Prose::new("00ff00ff00ff00ff").take(length).collect();
            assert_eq!(counter().count(&text), length as u64);
        }
    }

    #[test]
    fn another_seed_makes_another_text() {
        let text = |seed: &str| Prose::new(seed).take(40).collect::<String>();
        assert_eq!(text("0123456789abcdef"), text("0123456789abcdef"));
        assert_ne!(text("0123456789abcdef"), text("1123456789abcdef"));
        assert!(text("").ends_with('.'));
    }
}
