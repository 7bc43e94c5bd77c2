//! Reads the tags of a template token by token, before the template engine sees it: to bound what would overflow
//! the engine's stack, and to find what the template refers to.
//!
//! Follows the engine's own lexer (minijinja 3.1, `compiler/lexer.rs`) in where tags begin and end. Judges no
//! syntax: on a broken template it may find too much or too little, and the engine refuses the template anyway.

use std::collections::BTreeSet;

use crate::limits::{MAX_TAG_TOKENS, MAX_TEMPLATE_NESTINGS, MAX_TEMPLATE_TAGS};

/// What a template refers to, and its shape.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan<'t> {
    /// Parts of the context that are mentioned, with the line of the first mention.
    pub(super) mentions: Vec<Mention<'t>>,
    /// Names of filters that are applied, with their lines.
    pub(super) filters: BTreeSet<(&'t str, usize)>,
    /// Names of tests (`is …`) that are applied, with their lines.
    pub(super) tests: BTreeSet<(&'t str, usize)>,
    /// How many tags there are.
    pub(super) tags: usize,
    /// The expression, when the template is exactly one `{{ expression }}`.
    pub(super) sole_expression: Option<&'t str>,
    nestings: usize,
}

/// One mention of a part of the context: `root.key.then` or `root["key"]["then"]`, or the root as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mention<'t> {
    /// One of [`ROOTS`].
    pub(super) root: &'t str,
    /// The part, or `None` when the root is used as a whole or under a computed key.
    pub(super) key: Option<&'t str>,
    /// What is taken from the part, where that is written out.
    pub(super) then: Option<&'t str>,
    /// What is taken from that in turn, where that is written out.
    pub(super) field: Option<&'t str>,
    /// The line, counted from 1.
    pub(super) line: usize,
}

/// Why a template is refused before the engine sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooComplex {
    /// The line where it became too much.
    pub(super) line: usize,
    /// What is too much.
    pub(super) reason: String,
}

/// The names that always mean a part of the context: nothing else may be called so.
pub(super) const RESERVED: [&str; 4] = ["inputs", "nodes", "run", "task"];

/// The names at the top of the context of templates that workers render. The last two came later than the others: what a
/// definition calls so itself is meant then.
pub(super) const ROOTS: [&str; 6] = ["inputs", "nodes", "run", "task", "message", "messages"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Text(&'t str),
    Mark(char),
    Number,
}

/// Scans the template.
pub(super) fn scan(template: &str) -> Result<Scan<'_>, TooComplex> {
    let mut scan = Scan::default();
    let mut source = Source { rest: template, line: 1, balance: 0 };
    let mut only_tag = None;
    while let Some(opening) = source.next_opening() {
        match opening {
            Opening::Comment => source.skip_past("#}"),
            Opening::Raw => source.skip_raw(),
            Opening::Tag(end) => {
                scan.tags = scan.tags.saturating_add(1);
                let tokens = source.tokens(Some(end))?;
                let whole = template.strip_prefix("{{").and_then(|inner| inner.strip_suffix("}}"));
                only_tag = whole.filter(|_| end == "}}" && source.rest.is_empty());
                scan.read_tag(&tokens)?;
            }
        }
    }
    // One tag that ends at the end, of a template that begins with a tag: it is the same one.
    scan.sole_expression = only_tag.filter(|_| scan.tags == 1).map(without_trim_marks);
    Ok(scan)
}

/// Scans one expression, which stands alone without braces.
pub(super) fn scan_expression(expression: &str) -> Result<Scan<'_>, TooComplex> {
    let mut scan = Scan::default();
    let tokens = Source { rest: expression, line: 1, balance: 0 }.tokens(None)?;
    scan.read_tag(&tokens)?;
    Ok(scan)
}

/// `-` or `+` right inside of the braces trims or keeps the space around; a sole expression has none.
fn without_trim_marks(inner: &str) -> &str {
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    inner.strip_suffix(['-', '+']).unwrap_or(inner)
}

enum Opening {
    Comment,
    Raw,
    Tag(&'static str),
}

struct Source<'t> {
    rest: &'t str,
    line: usize,
    /// Open brackets. The engine carries the balance from tag to tag, so this does too.
    balance: i64,
}

impl<'t> Source<'t> {
    fn advance(&mut self, bytes: usize) -> &'t str {
        let (skipped, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line = self.line.saturating_add(skipped.bytes().filter(|byte| *byte == b'\n').count());
        self.rest = rest;
        skipped
    }

    fn skip_past(&mut self, end: &str) {
        let bytes = self.rest.find(end).map_or(self.rest.len(), |at| at.saturating_add(end.len()));
        self.advance(bytes);
    }

    /// Moves behind the next `{{`, `{%` or `{#`.
    fn next_opening(&mut self) -> Option<Opening> {
        loop {
            let at = self.rest.find('{')?;
            self.advance(at.saturating_add(1));
            let opening = match self.rest.bytes().next() {
                Some(b'{') => Opening::Tag("}}"),
                Some(b'#') => Opening::Comment,
                Some(b'%') => Opening::Tag("%}"),
                _ => continue,
            };
            self.advance(1);
            let raw = matches!(opening, Opening::Tag("%}")) && basic_tag(self.rest, "raw");
            return Some(if raw { Opening::Raw } else { opening });
        }
    }

    fn skip_raw(&mut self) {
        while !self.rest.is_empty() {
            self.skip_past("{%");
            if basic_tag(self.rest, "endraw") {
                return self.skip_past("%}");
            }
        }
    }

    /// The tokens up to the end of the tag, which is passed as well; without one, up to the end of the text.
    fn tokens(&mut self, end: Option<&str>) -> Result<Vec<(Token<'t>, usize)>, TooComplex> {
        let mut tokens = Vec::new();
        // A trim mark belongs to the braces.
        if self.rest.starts_with(['-', '+']) {
            self.advance(1);
        }
        loop {
            let space = self.rest.len().saturating_sub(self.rest.trim_ascii_start().len());
            self.advance(space);
            if let Some(end) = end.filter(|_| self.balance == 0) {
                let trimmed = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest);
                if let Some(after) = trimmed.strip_prefix(end) {
                    self.advance(self.rest.len().saturating_sub(after.len()));
                    return Ok(tokens);
                }
            }
            if self.rest.is_empty() {
                return Ok(tokens);
            }
            let line = self.line;
            tokens.push((self.token(), line));
            if tokens.len() > MAX_TAG_TOKENS {
                return Err(too_complex(line, format!("one tag has at most {MAX_TAG_TOKENS} tokens")));
            }
        }
    }

    fn token(&mut self) -> Token<'t> {
        let first = self.rest.chars().next().unwrap_or_default();
        if matches!(first, '"' | '\'') {
            return self.text(first);
        }
        if first.is_ascii_digit() {
            let bytes = self.rest.find(|letter: char| !letter.is_ascii_digit());
            self.advance(bytes.unwrap_or(self.rest.len()));
            return Token::Number;
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let bytes = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            return Token::Word(self.advance(bytes.unwrap_or(self.rest.len())));
        }
        match first {
            '(' | '[' | '{' => self.balance = self.balance.saturating_add(1),
            ')' | ']' | '}' => self.balance = self.balance.saturating_sub(1),
            _ => {}
        }
        let double = ["//", "**", "==", "!=", ">=", "<="].iter().any(|mark| self.rest.starts_with(mark));
        self.advance(if double { 2 } else { first.len_utf8() });
        // The second letter of a double mark plays no part; `=` alone must stay apart from `==`.
        Token::Mark(if double { ' ' } else { first })
    }

    fn text(&mut self, quote: char) -> Token<'t> {
        self.advance(1);
        let mut escaped = false;
        let end = self.rest.find(|letter: char| {
            let ends = letter == quote && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let text = self.advance(end.unwrap_or(self.rest.len()));
        self.advance(1);
        Token::Text(text)
    }
}

/// Whether the text right behind `{%` is the given word and the end of the tag, with optional trim marks.
fn basic_tag(rest: &str, word: &str) -> bool {
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest).trim_ascii_start();
    rest.strip_prefix(word).is_some_and(|rest| {
        let rest = rest.trim_ascii_start();
        rest.strip_prefix(['-', '+']).unwrap_or(rest).starts_with("%}")
    })
}

fn too_complex(line: usize, reason: String) -> TooComplex {
    TooComplex { line, reason }
}

impl<'t> Scan<'t> {
    fn read_tag(&mut self, tokens: &[(Token<'t>, usize)]) -> Result<(), TooComplex> {
        let line = tokens.first().map_or(1, |(_, line)| *line);
        if self.tags > MAX_TEMPLATE_TAGS {
            return Err(too_complex(line, format!("one template has at most {MAX_TEMPLATE_TAGS} tags")));
        }
        let nests = |(token, _): &&(Token<'_>, usize)| matches!(token, Token::Mark('(' | '[' | '{' | '|'));
        self.nestings = self.nestings.saturating_add(tokens.iter().filter(nests).count());
        if self.nestings > MAX_TEMPLATE_NESTINGS {
            let reason = format!("one template has at most {MAX_TEMPLATE_NESTINGS} opening brackets and filters");
            return Err(too_complex(line, reason));
        }
        let is_loop = matches!(tokens.first(), Some((Token::Word("for"), _)));
        if is_loop && matches!(tokens.last(), Some((Token::Word("recursive"), _))) {
            return Err(too_complex(line, "recursive loops are not allowed".to_owned()));
        }
        let mut previous = None;
        let mut rest = tokens;
        while let Some(((token, line), after)) = rest.split_first() {
            if let Token::Word(word) = *token {
                self.read_word(word, *line, previous, after);
            }
            previous = Some(*token);
            rest = after;
        }
        Ok(())
    }

    fn read_word(&mut self, word: &'t str, line: usize, previous: Option<Token<'_>>, after: &[(Token<'t>, usize)]) {
        let next = after.first().map(|(token, _)| *token);
        match previous {
            // An attribute: whatever it is called, it is not a variable.
            Some(Token::Mark('.')) => {}
            Some(Token::Mark('|')) => {
                self.filters.insert((word, line));
            }
            None if word == "filter" => {
                if let Some(Token::Word(filter)) = next {
                    self.filters.insert((filter, line));
                }
            }
            _ if word == "is" => {
                let negated = matches!(next, Some(Token::Word("not")));
                if let Some((Token::Word(test), line)) = after.get(usize::from(negated)) {
                    self.tests.insert((test, *line));
                }
            }
            _ if ROOTS.contains(&word) => {
                let (key, after) = key_of(after).unzip();
                let (then, after) = after.and_then(key_of).unzip();
                let field = after.and_then(key_of).map(|(field, _)| field);
                let mention = Mention { root: word, key, then, field, line };
                let known = |seen: &Mention<'_>| Mention { line, ..*seen } == mention;
                if !self.mentions.iter().any(known) {
                    self.mentions.push(mention);
                }
            }
            _ => {}
        }
    }
}

/// The key in `.key` or `["key"]` at the beginning of the tokens, and what follows it.
fn key_of<'t, 'a>(after: &'a [(Token<'t>, usize)]) -> Option<(&'t str, &'a [(Token<'t>, usize)])> {
    match after {
        [(Token::Mark('.'), _), (Token::Word(key), _), rest @ ..] => Some((key, rest)),
        [(Token::Mark('['), _), (Token::Text(key), _), (Token::Mark(']'), _), rest @ ..] if !key.contains('\\') => {
            Some((key, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn mentioned(template: &str) -> Vec<(&str, Option<&str>)> {
        scan(template).unwrap().mentions.into_iter().map(|mention| (mention.root, mention.key)).collect()
    }

    #[test]
    fn mentions_are_found_wherever_an_expression_may_stand() {
        let template = r#"{{ nodes.a.output }} {{ nodes["b"] }} {% if nodes.c %}{% endif %}
            {% filter replace(nodes.d.output, "") %}{% endfilter %}{% set nodes2 = nodes.e %}
            {{ "x" ~ inputs.idea|upper }} {{ {"k": {"l": nodes.f}} }} {{ [nodes.g, run.id] }}"#;
        let expected = ["a", "b", "c", "d", "e"].map(|key| ("nodes", Some(key)));
        let rest = [("inputs", Some("idea")), ("nodes", Some("f")), ("nodes", Some("g")), ("run", Some("id"))];
        assert_eq!(mentioned(template), [expected.as_slice(), rest.as_slice()].concat());
    }

    #[test]
    fn computed_keys_mention_the_whole() {
        assert_eq!(mentioned("{{ nodes[inputs.which] }}"), [("nodes", None), ("inputs", Some("which"))]);
        assert_eq!(mentioned("{% for key in nodes %}{% endfor %}"), [("nodes", None)]);
        assert_eq!(mentioned(r#"{{ nodes["\x61"] }}"#), [("nodes", None)]);
    }

    #[test]
    fn what_is_taken_from_a_part_is_told() {
        let found = scan(r#"{{ nodes.a.output.title }}{{ nodes["b"].title }}{{ nodes.c[0] }}{{ nodes.d }}"#).unwrap();
        let then: Vec<_> = found.mentions.iter().map(|mention| (mention.key.unwrap(), mention.then)).collect();
        assert_eq!(then, [("a", Some("output")), ("b", Some("title")), ("c", None), ("d", None)]);
    }

    #[test]
    fn text_comments_raw_blocks_and_strings_mention_nothing() {
        for template in [
            "nodes.a",
            "{# nodes.a {{ nodes.b }} #}",
            "{% raw %}{{ nodes.a }}{% endraw %}",
            "{%- raw -%}{% if %}{{ nodes.a }}{%- endraw -%}",
            "{{ 'nodes.a' }}{{ \"it's {{ nodes.b }}\" }}{{ 'don\\'t nodes.c' }}",
            "{{ inner.nodes.a }}",
            "{ {nodes.a}",
        ] {
            assert_eq!(mentioned(template), [], "{template}");
        }
    }

    #[test]
    fn filters_and_tests_are_named() {
        let found =
            scan("{{ a|upper|replace('x', b|trim) is not defined }}\n{% filter lower %}{% endfilter %}").unwrap();
        let filters: Vec<&str> = found.filters.iter().map(|(name, _)| *name).collect();
        assert_eq!(filters, ["lower", "replace", "trim", "upper"]);
        assert_eq!(found.tests.into_iter().collect::<Vec<_>>(), [("defined", 1)]);
    }

    #[test]
    fn a_sole_expression_is_recognised() {
        for (template, expression) in [
            ("{{ a }}", Some(" a ")),
            ("{{- a -}}", Some(" a ")),
            ("{{ {'k': {'l': 1}} }}", Some(" {'k': {'l': 1}} ")),
            ("{{ '}}' }}", Some(" '}}' ")),
            ("{{ a }} ", None),
            (" {{ a }}", None),
            ("{{ a }}{{ b }}", None),
            ("{# c #}{{ a }}", None),
            ("{% if a %}{% endif %}", None),
            ("{{ a", None),
        ] {
            assert_eq!(scan(template).unwrap().sole_expression, expression, "{template}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        let found = scan("one\n{{ inputs.a }}\n{# \n #}{{ nodes.b }}").unwrap();
        assert_eq!(found.mentions.iter().map(|mention| mention.line).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn what_would_overflow_the_engines_stack_is_refused() {
        let chain = format!("{{{{ a{} }}}}", "+a".repeat(MAX_TAG_TOKENS));
        assert_eq!(scan(&chain).unwrap_err().reason, "one tag has at most 256 tokens");
        let branches = format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(MAX_TEMPLATE_TAGS));
        assert_eq!(scan(&branches).unwrap_err().reason, "one template has at most 500 tags");
        let nested = "{% set x = [[[[[[[[[[x]]]]]]]]]] %}".repeat(51);
        assert_eq!(scan(&nested).unwrap_err().reason, "one template has at most 500 opening brackets and filters");
        let recursive = "\n{% for x in xs recursive %}{{ loop([x]) }}{% endfor %}";
        assert_eq!(scan(recursive).unwrap_err(), too_complex(2, "recursive loops are not allowed".to_owned()));
    }
}
