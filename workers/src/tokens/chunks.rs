//! Cuts a text into chunks that every tokenizer finishes quickly, whatever the text is made of.
//!
//! A tokenizer's work grows faster than an unbroken run of letters, blanks or symbols is long: its regular expression
//! backtracks over the run, and merging looks at every pair in it again and again. So no chunk is longer than
//! [`COUNT_CHUNK_BYTES`], and none has more than [`COUNT_RUN_BYTES`] without a place where every vocabulary cuts as well:
//! before a single space between two words. A cut at such a place changes no count. Any other cut is a forced one, which
//! may split what would have been one token: it is counted as a token more, so that the sum never is too small.

use crate::limits::{COUNT_CHUNK_BYTES, COUNT_RUN_BYTES};

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk<'t> {
    /// The piece.
    pub(super) text: &'t str,
    /// Whether it ends in the middle of what may be one token.
    pub(super) is_forced: bool,
}

/// The chunks of a text, in order; together they are the text.
pub(super) struct Chunks<'t> {
    rest: &'t str,
}

impl<'t> Chunks<'t> {
    /// Begins at the beginning. Nothing is looked at yet.
    pub(super) fn of(text: &'t str) -> Self {
        Self { rest: text }
    }
}

impl<'t> Iterator for Chunks<'t> {
    type Item = Chunk<'t>;

    fn next(&mut self) -> Option<Chunk<'t>> {
        if self.rest.is_empty() {
            return None;
        }
        let (end, is_forced) = cut(self.rest);
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(Chunk { text, is_forced })
    }
}

/// Where to cut the next chunk off, and whether that is a forced cut.
fn cut(text: &str) -> (usize, bool) {
    let bytes = text.as_bytes();
    let mut last_place = 0;
    for at in 1..bytes.len().min(COUNT_CHUNK_BYTES) {
        if is_between_words(bytes, at) {
            last_place = at;
        } else if at - last_place >= COUNT_RUN_BYTES {
            return match last_place {
                0 => (text.floor_char_boundary(COUNT_RUN_BYTES), true),
                place => (place, false),
            };
        }
    }
    // no run was too long: a text that fits is a chunk, a longer one is cut at the last place, which it then has
    if bytes.len() <= COUNT_CHUNK_BYTES { (bytes.len(), false) } else { (last_place, false) }
}

/// Whether a single space between two letters or digits is there. ASCII only, so it is a boundary of characters too.
fn is_between_words(bytes: &[u8], at: usize) -> bool {
    let solid = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    bytes.get(at) == Some(&b' ') && solid(at.checked_sub(1)) && solid(at.checked_add(1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::pathological;
    use super::*;

    #[test]
    fn a_megabyte_of_anything_is_cut_into_bounded_runs() {
        for (name, text) in pathological(1 << 20) {
            let chunks: Vec<Chunk<'_>> = Chunks::of(&text).collect();
            assert_eq!(chunks.iter().map(|chunk| chunk.text).collect::<String>(), text, "{name}");
            let longest = chunks.iter().map(|chunk| chunk.text.len()).max().unwrap_or(0);
            assert!(longest <= COUNT_RUN_BYTES, "{name}: {longest} bytes without a cut");
            // a character is at most four bytes: hardly more chunks than runs
            assert!(chunks.len() <= text.len() / (COUNT_RUN_BYTES - 3) + 1, "{name}: {} chunks", chunks.len());
            let forced = chunks.iter().filter(|chunk| chunk.is_forced).count();
            assert_eq!(forced, chunks.len() - 1, "{name}: all but the last one");
        }
    }

    #[test]
    fn prose_is_cut_between_words_only() {
        let text = "The quick brown fox jumps over the lazy dog again and again. ".repeat(2_000);
        let chunks: Vec<Chunk<'_>> = Chunks::of(&text).collect();
        assert!(chunks.len() <= text.len() / (COUNT_CHUNK_BYTES - COUNT_RUN_BYTES) + 1, "{} chunks", chunks.len());
        assert!(chunks.iter().all(|chunk| !chunk.is_forced && chunk.text.len() <= COUNT_CHUNK_BYTES));
        assert_eq!(chunks.iter().map(|chunk| chunk.text).collect::<String>(), text);
    }

    #[test]
    fn a_run_in_the_middle_of_prose_is_reached_at_a_word() {
        let text = format!("some words and then {} and more words", "x".repeat(3 * COUNT_RUN_BYTES));
        let chunks: Vec<Chunk<'_>> = Chunks::of(&text).collect();
        assert_eq!(chunks.first().map(|chunk| (chunk.text, chunk.is_forced)), Some(("some words and then", false)));
        assert_eq!(chunks.iter().filter(|chunk| chunk.is_forced).count(), 3);
        assert_eq!(chunks.iter().map(|chunk| chunk.text).collect::<String>(), text);
    }

    #[test]
    fn nothing_has_no_chunks() {
        assert_eq!(Chunks::of("").next(), None);
    }
}
