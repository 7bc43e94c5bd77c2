//! What failures have in common: a fingerprint of the workflow, the node, the error's code and its message without what
//! differs from one time to the next (numbers, ids, quoted texts). Pure; the same failure always has the same one.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Characters of a message that count. What comes after them is detail.
const MOST_CHARS: usize = 300;
/// A word with a digit in it that is as long as this is an id or a hash.
const ID_CHARS: usize = 16;
/// Bytes of the digest that are kept: 64 bits, so that a billion different failures hardly share one.
const KEPT_BYTES: usize = 8;

/// The fingerprint of a failure: 16 hexadecimal digits.
pub fn fingerprint(workflow: &str, node: &str, code: &str, message: &str) -> String {
    let digest = Sha256::digest(format!("{workflow}\0{node}\0{code}\0{}", normalised(message)).as_bytes());
    digest.iter().take(KEPT_BYTES).fold(String::new(), |mut text, byte| {
        // writing to a String cannot fail
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The message with `*` for quoted texts and ids, `#` for numbers and one space for any white space.
pub fn normalised(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        let quoted = matches!(first, '"' | '\'' | '`') && !before.is_alphanumeric();
        if let Some((_, after)) = Some(tail).filter(|_| quoted).and_then(|tail| tail.split_once(first)) {
            text.extend([first, '*', first]);
            (before, rest) = (first, after);
        } else if is_wordly(first) {
            let end = rest.find(|letter: char| !is_wordly(letter)).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            push_word(&mut text, word);
            (before, rest) = (word.chars().next_back().unwrap_or(' '), after);
        } else {
            let plain = if first.is_whitespace() { ' ' } else { first };
            if !(plain == ' ' && text.ends_with(' ')) {
                text.push(plain);
            }
            (before, rest) = (first, tail);
        }
    }
    text.trim().chars().take(MOST_CHARS).collect()
}

fn is_wordly(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

fn push_word(text: &mut String, word: &str) {
    let has_digit = word.chars().any(|letter| letter.is_ascii_digit());
    if has_digit && word.chars().count() >= ID_CHARS {
        text.push('*');
        return;
    }
    let mut is_number = false;
    for letter in word.chars() {
        if !letter.is_ascii_digit() {
            text.push(letter);
        } else if !is_number {
            text.push('#');
        }
        is_number = letter.is_ascii_digit();
    }
}

#[cfg(test)]
mod tests {
    use super::{fingerprint, normalised};

    #[test]
    fn what_differs_from_one_time_to_the_next_is_left_out() {
        for (message, plain) in [
            ("timed out after 30000 ms", "timed out after # ms"),
            ("HTTP 503 from node12", "HTTP # from node#"),
            ("task tsk_01h455vb4pex5vsknk084sn02q is gone", "task * is gone"),
            ("id 0192e4a0-1111-7bcd-8ef0-123456789abc failed", "id * failed"),
            ("the model said \"Hello 7\" and `x`", "the model said \"*\" and `*`"),
            ("can't read 'a b' or \"open", "can't read '*' or \"open"),
            ("  two\n\tlines  ", "two lines"),
            ("0.125 of 1,000", "#.# of #,#"),
        ] {
            assert_eq!(normalised(message), plain, "{message}");
        }
        assert_eq!(normalised(&"ä ".repeat(1_000)).chars().count(), 300);
    }

    #[test]
    fn failures_of_one_kind_share_a_fingerprint_and_others_do_not() {
        let one = fingerprint("w", "n", "provider_timeout", "no answer within 30 s (request req-81)");
        assert_eq!(one, fingerprint("w", "n", "provider_timeout", "no answer within 5 s (request req-7)"));
        assert_eq!(one.len(), 16);
        for other in [
            fingerprint("v", "n", "provider_timeout", "no answer within 30 s (request req-81)"),
            fingerprint("w", "m", "provider_timeout", "no answer within 30 s (request req-81)"),
            fingerprint("w", "n", "provider_error", "no answer within 30 s (request req-81)"),
            fingerprint("w", "n", "provider_timeout", "no route"),
            fingerprint("w", "nprovider_timeout", "", "no answer within 30 s (request req-81)"),
        ] {
            assert_ne!(one, other);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_message_has_a_normal_form_without_numbers(message in "\\PC{0,80}", numbers in "[0-9a-z\"'` _-]{0,60}") {
            for text in [message, numbers] {
                proptest::prop_assert!(!normalised(&text).chars().any(|letter| letter.is_ascii_digit()));
            }
        }
    }
}
