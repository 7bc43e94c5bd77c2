//! Reads Rust source just far enough for the rules: which bytes are code, which code is test code, which paths it
//! names, where its functions begin and end.
//!
//! A small lexer instead of a parser: rustfmt has already put the text in order, and a rule that must guess may miss
//! something, but must not cry wolf over a word in a comment or a string.

/// A Rust file's code with comments and strings blanked: outside and inside `#[cfg(test)]` items.
pub(super) struct Reading {
    pub(super) product: String,
    pub(super) tests: String,
    /// Names in `#[cfg(test)] mod name;`.
    pub(super) test_modules: Vec<String>,
}

/// A word, a number, `::`, or one other character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A path as it appears in code, `use` trees written out: `use std::{env, fmt}` mentions `std::env` and `std::fmt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// Whether it stands in a `use` declaration.
    pub(super) imported: bool,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) line: usize,
    /// From the line of its `fn` to the line of its closing brace, both counted.
    pub(super) lines: usize,
}

/// Splits a file into product and test code.
pub(super) fn read(text: &str) -> Reading {
    let code = mask(text);
    let mut product = code.clone().into_bytes();
    let mut tests = code.clone().into_bytes();
    let mut test_modules = Vec::new();
    let mut from = 0;
    blank(&mut tests);
    while let Some((start, end)) = next_test_item(&code, from) {
        tests[start..end].copy_from_slice(&code.as_bytes()[start..end]);
        blank(&mut product[start..end]);
        let item = tokens(&code[start..end]);
        if let [.., module, name, semicolon] = item.as_slice()
            && (module.text, semicolon.text) == ("mod", ";")
        {
            test_modules.push(name.text.to_owned());
        }
        from = end;
    }
    let text_of = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Reading { product: text_of(product), tests: text_of(tests), test_modules }
}

/// Puts the code of two halves of one file back together.
pub(super) fn overlay(one: &str, other: &str) -> String {
    let merged = one.bytes().zip(other.bytes()).map(|(a, b)| if a == b' ' { b } else { a });
    String::from_utf8_lossy(&merged.collect::<Vec<u8>>()).into_owned()
}

/// Comments and the insides of strings and characters become spaces; lines stay where they are.
pub(super) fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(text, at);
        if end > at {
            blank(&mut out[at..end]);
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The end of the comment, string or character that starts at `at`; `at` itself when none does.
fn literal_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|&b| b == b'\n').map_or(text.len(), |n| at + n),
        [b'/', b'*', ..] => block_comment_end(bytes, at),
        [b'"', ..] => string_end(bytes, at),
        [b'r', ..] if starts_word(bytes, at) => raw_string_end(bytes, at),
        [b'\'', ..] => char_end(text, at),
        _ => at,
    }
}

/// Whether a word starts at `at`, or after the `b` or `c` before it.
fn starts_word(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    let in_word = |byte: Option<u8>| byte.is_some_and(|b| b == b'_' || b.is_ascii_alphanumeric());
    !in_word(before(1)) || (matches!(before(1), Some(b'b' | b'c')) && !in_word(before(2)))
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut i, mut depth) = (at, 0_usize);
    while i < bytes.len() {
        match &bytes[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return at;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = bytes[open + 1..].windows(closing.len()).position(|window| window == closing.as_slice());
    found.map_or(bytes.len(), |n| open + 1 + n + closing.len())
}

/// A character, as opposed to a lifetime.
fn char_end(text: &str, at: usize) -> usize {
    let mut rest = text[at + 1..].char_indices();
    match rest.next() {
        Some((_, '\\')) => {
            let escaped = at + 3;
            text.as_bytes()[escaped.min(text.len())..]
                .iter()
                .position(|&b| b == b'\'')
                .map_or(text.len(), |n| escaped + n + 1)
        }
        Some((_, first)) if rest.next().is_some_and(|(_, second)| second == '\'') => at + 2 + first.len_utf8(),
        _ => at,
    }
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// The next item under a `cfg` that asks for tests, attribute included, as a range of bytes.
fn next_test_item(code: &str, from: usize) -> Option<(usize, usize)> {
    let mut search = from;
    loop {
        let inner = code[search..].find("#![cfg(");
        let outer = code[search..].find("#[cfg(");
        let start = search + [inner, outer].into_iter().flatten().min()?;
        let attribute_end = start + balanced_end(&code[start..]);
        let condition = tokens(&code[start..attribute_end]);
        let asks_for_tests = condition.iter().any(|token| token.text == "test")
            && !condition.windows(3).any(|w| (w[0].text, w[1].text, w[2].text) == ("not", "(", "test"));
        if asks_for_tests {
            let whole_file = code[start..].starts_with("#!");
            return Some((start, if whole_file { code.len() } else { item_end(code, attribute_end) }));
        }
        search = attribute_end;
    }
}

/// The length up to the end of the first bracketed group in `code`.
fn balanced_end(code: &str) -> usize {
    let mut depth = 0_usize;
    for (i, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// The end of the item after an attribute: further attributes, then up to its `;` or its closing brace.
fn item_end(code: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        let trimmed = code[at..].trim_start();
        at = code.len() - trimmed.len();
        if !trimmed.starts_with("#[") {
            break;
        }
        at += balanced_end(trimmed);
    }
    let mut depth = 0_usize;
    for (i, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b';' if depth == 0 => return i + 1,
            b'{' if depth == 0 => return i + balanced_end(&code[i..]),
            b'}' if depth == 0 => return i,
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    code.len()
}

/// The tokens of masked code.
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let mut found: Vec<Token<'_>> = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let start = at;
        let byte = bytes[at];
        if byte == b'\n' {
            line += 1;
        }
        if byte.is_ascii_whitespace() || !byte.is_ascii() {
            at += 1;
            continue;
        }
        if byte.is_ascii_digit() {
            let after_dot = found.last().is_some_and(|token| token.text == ".");
            at = number_end(bytes, at, after_dot);
        } else if is_word(byte) {
            at += bytes[at..].iter().take_while(|&&b| is_word(b)).count();
        } else {
            at += if bytes[at..].starts_with(b"::") { 2 } else { 1 };
        }
        found.push(Token { text: &code[start..at], line });
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// The end of a number; its fraction belongs to it, except in `pair.0.1`.
fn number_end(bytes: &[u8], at: usize, after_dot: bool) -> usize {
    let word = |from: usize| bytes[from..].iter().take_while(|&&b| is_word(b)).count();
    let whole = at + word(at);
    let has_fraction = bytes.get(whole) == Some(&b'.') && bytes.get(whole + 1).is_some_and(u8::is_ascii_digit);
    if has_fraction && !after_dot { whole + 1 + word(whole + 1) } else { whole }
}

fn is_name(token: &Token<'_>) -> bool {
    token.text.bytes().next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
}

/// All paths that masked code names; a lone word is a path of one segment.
pub(super) fn mentions(code: &str) -> Vec<Mention> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let opens_use = tokens[at].text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<");
        if opens_use {
            at = use_tree(&tokens, at + 1, &[], &mut found);
        } else if is_name(&tokens[at]) {
            let line = tokens[at].line;
            let mut segments = vec![tokens[at].text.to_owned()];
            at += 1;
            while let [separator, name, ..] = &tokens[at..]
                && separator.text == "::"
                && is_name(name)
            {
                segments.push(name.text.to_owned());
                at += 2;
            }
            found.push(Mention { segments, line, imported: false });
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one branch of a `use` tree and returns where it stopped: at `,`, `}` or `;`.
fn use_tree(tokens: &[Token<'_>], from: usize, prefix: &[String], found: &mut Vec<Mention>) -> usize {
    let mut path = prefix.to_vec();
    let mut at = from;
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    let mut grouped = false;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "," | "}" | ";" => break,
            "::" => at += 1,
            "as" => at += 2,
            "{" => {
                grouped = true;
                loop {
                    at = use_tree(tokens, at + 1, &path, found);
                    if tokens.get(at).is_none_or(|token| token.text != ",") {
                        break;
                    }
                }
                at += 1;
            }
            "self" if !path.is_empty() => at += 1,
            name => {
                path.push(name.to_owned());
                line = token.line;
                at += 1;
            }
        }
    }
    // `{a, b,}` ends in an empty branch; `{self}` names what stands before it.
    let says_something = at > from;
    if !grouped && says_something {
        found.push(Mention { segments: path, line, imported: true });
    }
    at
}

/// All functions with a body in masked code.
pub(super) fn functions(code: &str) -> Vec<Function<'_>> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    for (i, pair) in tokens.windows(2).enumerate() {
        let [keyword, name] = pair else { continue };
        if keyword.text == "fn"
            && is_name(name)
            && let Some(end) = body_end(&tokens[i + 2..])
        {
            found.push(Function { name: name.text, line: keyword.line, lines: end - keyword.line + 1 });
        }
    }
    found
}

/// The line of the brace that closes a function's body; `None` for a declaration without one.
fn body_end(tokens: &[Token<'_>]) -> Option<usize> {
    let (mut brackets, mut braces) = (0_usize, 0_usize);
    for token in tokens {
        match token.text {
            "(" | "[" => brackets += 1,
            ")" | "]" => brackets = brackets.saturating_sub(1),
            ";" if brackets == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(code: &str) -> Vec<String> {
        mentions(&mask(code)).into_iter().map(|mention| mention.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        let code =
            "let a = \"sqlx // \\\" x\"; // sqlx\n/* sqlx /* sqlx */ sqlx */ let b = r#\"sqlx \" sqlx\"#;\nlet c;";
        let masked = mask(code);
        assert!(!masked.contains("sqlx"), "{masked}");
        assert!(masked.contains("let a =") && masked.contains("let b ="), "{masked}");
        assert_eq!(masked.lines().nth(2), Some("let c;"));
    }

    #[test]
    fn a_quote_character_opens_no_string_and_a_lifetime_no_character() {
        let masked = mask("fn f<'a>(x: &'a str) { g('\"', '\\'', b'x', 'é'); sqlx }");
        assert!(masked.contains("&'a str") && masked.contains("sqlx"), "{masked}");
        assert!(!masked.contains('é'), "{masked}");
    }

    #[test]
    fn a_raw_name_is_no_raw_string() {
        assert_eq!(mask("let r#type = for r in b\"x\"; br\"y\""), "let r#type = for r in b   ; b    ");
    }

    #[test]
    fn a_test_module_is_test_code_and_what_follows_it_is_not() {
        let reading = read("fn one() {}\n#[cfg(test)]\n#[path]\nmod tests {\n    fn two() {}\n}\nfn three() {}\n");
        assert!(reading.product.contains("one") && reading.product.contains("three"));
        assert!(!reading.product.contains("two") && reading.tests.contains("two"));
        assert!(!reading.tests.contains("one") && !reading.tests.contains("three"));
        assert_eq!(reading.tests.lines().nth(4), Some("    fn two() {}"));
    }

    #[test]
    fn code_for_everything_but_tests_is_product_code() {
        let reading = read("#[cfg(not(test))]\nfn one() {}\n#[cfg(any(test, windows))]\nfn two() {}\n");
        assert!(reading.product.contains("one") && reading.tests.contains("two"));
    }

    #[test]
    fn a_whole_file_can_be_for_tests() {
        assert!(!read("//! x\n#![cfg(test)]\nfn one() {}\n").product.contains("one"));
    }

    #[test]
    fn declared_test_modules_are_named() {
        assert_eq!(read("#[cfg(test)]\nmod checks;\nmod other;\n").test_modules, ["checks"]);
    }

    #[test]
    fn use_trees_are_written_out() {
        let found = paths("use std::{env, fmt::{self, Display}, time::*}; use a::b as c;");
        assert_eq!(found, ["std::env", "std::fmt", "std::fmt::Display", "std::time::*", "a::b"]);
    }

    #[test]
    fn paths_in_expressions_are_found_with_their_line() {
        let found = mentions("let x = crate::queue::push(\n    sqlx::query());");
        assert!(found.iter().any(|m| m.segments.join("::") == "crate::queue::push" && m.line == 1));
        assert!(found.iter().any(|m| m.segments.join("::") == "sqlx::query" && m.line == 2 && !m.imported));
    }

    #[test]
    fn a_number_keeps_its_fraction_but_a_nested_tuple_field_has_none() {
        let words: Vec<&str> = tokens("1.5 + pair.0.1 + 0..7").iter().map(|token| token.text).collect();
        assert_eq!(words, ["1.5", "+", "pair", ".", "0", ".", "1", "+", "0", ".", ".", "7"]);
    }

    #[test]
    fn a_function_is_measured_from_its_keyword_to_its_brace() {
        let code =
            "trait T {\n    fn declared(&self) -> [u8; 2];\n}\npub fn one<F: Fn()>(\n    f: F,\n) {\n    f();\n}\n";
        assert_eq!(functions(code), [Function { name: "one", line: 4, lines: 5 }]);
    }
}
