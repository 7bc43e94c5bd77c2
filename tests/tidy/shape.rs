//! Rules about the shape of files: sizes, headers, names, leftovers. They judge text, never meaning.

use super::Finding;
use super::rust_text::{functions, tokens};
use super::tree::{Tree, has_extension};

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

/// What we write by hand, besides scripts that say so in their first line. Data, lock files and prose may be long.
const WRITTEN_BY_HAND: [&str; 8] = ["rs", "sql", "sh", "py", "js", "mjs", "ts", "css"];

/// A folder of other people's files, kept as they came.
const VENDOR_FOLDER: &str = "vendor";

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "shared"];

const UNFINISHED: [&str; 3] = ["todo", "unimplemented", "dbg"];

/// Files of ours with more than 600 lines.
pub(super) fn file_length(tree: &Tree) -> Vec<Finding> {
    let is_ours = |path: &str, text: &str| {
        let by_hand = WRITTEN_BY_HAND.iter().any(|extension| has_extension(path, extension)) || text.starts_with("#!");
        by_hand && !path.split('/').any(|part| part == VENDOR_FOLDER)
    };
    let counted =
        tree.files().filter(|(path, text)| is_ours(path, text)).map(|(path, text)| (path, text.lines().count()));
    counted
        .filter(|(_, lines)| *lines > MAX_FILE_LINES)
        .map(|(path, lines)| Finding::new(path, 0, format!("{lines} lines")))
        .collect()
}

/// Functions with more than 70 lines, tests included.
pub(super) fn function_length(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for function in file.halves().into_iter().flat_map(functions) {
            if function.lines > MAX_FUNCTION_LINES {
                let what = format!("`{}` has {} lines", function.name, function.lines);
                found.push(Finding::new(&file.path, function.line, what));
            }
        }
    }
    found
}

/// Rust files that do not open with a module comment.
pub(super) fn file_header(tree: &Tree) -> Vec<Finding> {
    let headless = tree.rust().filter(|file| {
        let says = file.text.lines().next().and_then(|line| line.strip_prefix("//!"));
        says.is_none_or(|words| words.trim().is_empty())
    });
    headless.map(|file| Finding::new(&file.path, 1, "the first line is no `//!` comment")).collect()
}

/// Files, folders and inline modules with an empty name.
pub(super) fn module_names(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let parts = file.path.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            found.push(Finding::new(&file.path, 0, format!("`{part}` says nothing about what is inside")));
        }
        for half in file.halves() {
            for declaration in tokens(half).windows(3) {
                let [keyword, name, brace] = declaration else { continue };
                if keyword.text == "mod" && brace.text == "{" && EMPTY_NAMES.contains(&name.text) {
                    let what = format!("module `{}` says nothing about what is inside", name.text);
                    found.push(Finding::new(&file.path, name.line, what));
                }
            }
        }
    }
    found
}

/// `todo!`, `unimplemented!` and `dbg!`.
pub(super) fn unfinished_code(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for half in file.halves() {
            for call in tokens(half).windows(3) {
                let [name, bang, bracket] = call else { continue };
                let is_macro = bang.text == "!" && matches!(bracket.text, "(" | "[" | "{");
                if is_macro && UNFINISHED.contains(&name.text) {
                    found.push(Finding::new(&file.path, name.line, format!("`{}!`", name.text)));
                }
            }
        }
    }
    found
}

/// `#[allow(…)]` and `#[expect(…)]` without a reason.
pub(super) fn reasoned_exceptions(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for half in file.halves() {
            let tokens = tokens(half);
            for (i, opening) in tokens.windows(3).enumerate() {
                let [bracket, name, parenthesis] = opening else { continue };
                let is_exception = bracket.text == "["
                    && matches!(name.text, "allow" | "expect")
                    && parenthesis.text == "("
                    && i.checked_sub(1).is_some_and(|before| matches!(tokens[before].text, "#" | "!"));
                let attribute = tokens[i..].iter().take_while(|token| token.text != "]");
                if is_exception && !attribute.into_iter().any(|token| token.text == "reason") {
                    found.push(Finding::new(&file.path, name.line, format!("`{}` without a reason", name.text)));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::assert_bites;
    use super::*;

    #[test]
    fn a_file_of_601_lines_is_too_long() {
        let (long, short) = ("x\n".repeat(601), "x\n".repeat(600));
        assert_bites(file_length, ("migrations/postgres/0001_a.sql", &long), ("src/a.rs", &short));
    }

    #[test]
    fn a_long_file_by_others_or_of_data_is_none_of_ours() {
        let long = "x\n".repeat(5_000);
        assert_bites(file_length, ("src/dashboard/style.css", &long), ("src/dashboard/vendor/plot.js", &long));
        assert_bites(file_length, ("test", &format!("#!/bin/sh\n{long}")), ("Cargo.lock", &long));
    }

    #[test]
    fn a_function_of_71_lines_is_too_long() {
        let function = |lines: usize| format!("//! f\nfn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_bites(function_length, ("src/a.rs", &function(71)), ("src/a.rs", &function(70)));
    }

    #[test]
    fn a_long_test_function_is_too_long_as_well() {
        let function = |lines: usize| {
            format!(
                "//! f\n#[cfg(test)]\nmod tests {{\n    fn f() {{\n{}    }}\n}}\n",
                "        g();\n".repeat(lines - 2)
            )
        };
        assert_bites(function_length, ("src/a.rs", &function(71)), ("src/a.rs", &function(70)));
    }

    #[test]
    fn a_brace_in_a_string_or_comment_ends_no_function() {
        let body = "    g(\"}\"); // }\n    h('}');\n".repeat(36);
        let code = format!("//! f\nfn f() {{\n{body}}}\n");
        let found = function_length(&Tree::of(&[("src/a.rs", &code)]));
        assert_eq!(found, [Finding::new("src/a.rs", 2, "`f` has 74 lines")]);
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        assert_bites(file_header, ("src/a.rs", "use x;\n//! late\n"), ("src/a.rs", "//! What it is.\nuse x;\n"));
        assert_bites(file_header, ("src/a.rs", "//!\nuse x;\n"), ("src/a.txt", ""));
        assert_bites(file_header, ("src/a.rs", ""), ("README.md", "no Rust"));
    }

    #[test]
    fn a_drawer_for_leftovers_is_found_as_file_folder_or_inline_module() {
        assert_bites(module_names, ("src/http/utils.rs", "//! u\n"), ("src/http/utilisation.rs", "//! u\n"));
        assert_bites(module_names, ("src/common/mod.rs", "//! c\n"), ("src/commons_law.rs", "//! c\n"));
        assert_bites(module_names, ("src/a.rs", "//! a\nmod helpers {}\n"), ("src/a.rs", "//! a\n// mod helpers {}\n"));
    }

    #[test]
    fn unfinished_code_is_found_in_code_only() {
        assert_bites(unfinished_code, ("src/a.rs", "//! a\nfn f() { todo!() }\n"), ("src/a.rs", "//! todo!()\n"));
        assert_bites(
            unfinished_code,
            ("tests/a.rs", "//! a\nfn f() { dbg!(1) }\n"),
            ("src/a.rs", "const A: &str = \"dbg!\";"),
        );
        assert_bites(unfinished_code, ("src/a.rs", "unimplemented!()"), ("src/a.rs", "if todo != 1 {}"));
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert_bites(
            reasoned_exceptions,
            ("src/a.rs", "#[allow(dead_code)]\nfn f(reason: u8) {}\n"),
            ("src/a.rs", "#[allow(dead_code, reason = \"kept for x\")]\nfn f() {}\n"),
        );
        assert_bites(
            reasoned_exceptions,
            ("src/a.rs", "#![expect(clippy::panic)]\n"),
            ("src/a.rs", "let a = [allow(1)];\n"),
        );
    }
}
