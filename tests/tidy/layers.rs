//! Who may use whom: the import table of ARCHITECTURE.md, checked on every path the code names.
//!
//! Cargo already keeps the packages apart; inside `src/` only this does. Test code may reach across.

use super::Finding;
use super::rust_text::{Mention, mentions, tokens};
use super::tree::{RustFile, Tree};

/// A part of the tree and what its product code must not name.
struct Layer {
    /// A folder, or the file of that name with `.rs`.
    part: &'static str,
    /// Packages, as the first word of a path.
    packages: &'static [&'static str],
    /// Paths, and everything below them.
    paths: &'static [&'static str],
    /// Words anywhere in a path.
    words: &'static [&'static str],
    because: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        part: "domain",
        packages: &["tokio", "futures", "sqlx", "redis", "axum", "reqwest", "chrono", "rand", "tracing"],
        paths: &[
            "std::env",
            "std::fs",
            "std::io::stdin",
            "std::io::stdout",
            "std::io::stderr",
            "std::net",
            "std::process",
            "std::thread",
        ],
        words: &["SystemTime", "Instant", "HashMap", "HashSet", "f32", "f64", "async", "now_v7", "new_v4"],
        because: "the domain is pure: time, ids and chance are arguments, and order is fixed",
    },
    Layer {
        part: "workers",
        packages: &["sqlx", "redis", "axum", "apalis", "apalis_core"],
        paths: &[],
        words: &[],
        because: "workers know the domain and the outside world, never our storage",
    },
    Layer {
        part: "src/store",
        packages: &["axum", "redis", "apalis", "apalis_core"],
        paths: &["crate::engine", "crate::queue", "crate::http", "crate::dashboard", "crate::gateway", "crate::cli"],
        words: &[],
        because: "the store loads and saves; it decides nothing and tells nobody",
    },
    Layer {
        part: "src/queue",
        packages: &["sqlx", "axum"],
        paths: &["crate::store", "crate::engine", "crate::http", "crate::dashboard", "crate::gateway", "crate::cli"],
        words: &[],
        because: "the queue holds ids and hints; what is true is the store's",
    },
    Layer {
        part: "src/rates",
        packages: &["sqlx", "axum"],
        paths: &[
            "crate::store",
            "crate::queue",
            "crate::engine",
            "crate::http",
            "crate::dashboard",
            "crate::gateway",
            "crate::cli",
        ],
        words: &[],
        because: "rates count; what is true is the store's, and who is told is the engine's",
    },
    Layer {
        part: "src/engine",
        packages: &["sqlx", "axum"],
        paths: &["crate::http", "crate::dashboard", "crate::config", "crate::cli"],
        words: &[],
        because: "the engine is written once against a store and served by nobody in particular",
    },
    Layer {
        part: "src/gateway",
        packages: &["sqlx"],
        paths: &["crate::queue", "crate::cli"],
        words: &[],
        because: "the gateway meters through the engine",
    },
    Layer {
        part: "src/http",
        packages: &["sqlx"],
        paths: &["crate::queue", "crate::cli"],
        words: &[],
        because: "no answer depends on Redis, and SQL lives in the store",
    },
    Layer {
        part: "src/dashboard",
        packages: &["sqlx"],
        paths: &["crate::queue", "crate::cli"],
        words: &[],
        because: "no page depends on Redis, and SQL lives in the store",
    },
];

/// What product code names against the table.
pub(super) fn imports(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust() {
        for layer in LAYERS.iter().filter(|layer| covers(layer.part, &file.path)) {
            let mut mentioned = mentions(&file.product);
            mentioned.dedup();
            for mention in mentioned {
                let path = resolved(file, &mention);
                if breaks(layer, &mention, &path) {
                    let what = format!("`{}`: {}", mention.segments.join("::"), layer.because);
                    found.push(Finding::new(&file.path, mention.line, what));
                }
            }
        }
    }
    found
}

/// Numbers with a fraction in the domain's product code; the names of the float types are in the table.
pub(super) fn floats_in_domain(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| covers("domain", &file.path)) {
        for token in tokens(&file.product) {
            if token.text.starts_with(|c: char| c.is_ascii_digit()) && token.text.contains('.') {
                found.push(Finding::new(&file.path, token.line, format!("`{}`", token.text)));
            }
        }
    }
    found
}

fn covers(part: &str, path: &str) -> bool {
    path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

fn breaks(layer: &Layer, mention: &Mention, path: &[String]) -> bool {
    let is_path = path.len() > 1 || mention.imported;
    let first = path.first().map(String::as_str).unwrap_or_default();
    let names_package = is_path && layer.packages.contains(&first);
    let names_path = layer.paths.iter().any(|banned| {
        let banned: Vec<&str> = banned.split("::").collect();
        path.len() >= banned.len() && path.iter().zip(banned).all(|(segment, banned)| segment == banned)
    });
    names_package || names_path || path.iter().any(|segment| layer.words.contains(&segment.as_str()))
}

/// The path seen from the root of its package: `super::super::queue` in `src/http/runs.rs` is `crate::queue`.
fn resolved(file: &RustFile, mention: &Mention) -> Vec<String> {
    let mut module = module_path(&file.path);
    let mut rest = mention.segments.as_slice();
    match rest.first().map(String::as_str) {
        Some("bursar") => rest = &rest[1..],
        Some("self" | "super") if rest.len() > 1 || mention.imported => {
            while let [first, tail @ ..] = rest
                && matches!(first.as_str(), "self" | "super")
            {
                if first == "super" {
                    module.pop();
                }
                rest = tail;
            }
            let inside = std::iter::once("crate".to_owned()).chain(module);
            return inside.chain(rest.iter().cloned()).collect();
        }
        _ => return mention.segments.clone(),
    }
    std::iter::once("crate".to_owned()).chain(rest.iter().cloned()).collect()
}

/// The module a file is, below the root of its package.
fn module_path(path: &str) -> Vec<String> {
    let below_source = path.rsplit_once("src/").map_or(path, |(_, rest)| rest);
    let mut parts: Vec<String> = below_source.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::super::assert_bites;
    use super::*;

    #[test]
    fn http_names_neither_sql_nor_the_queue() {
        assert_bites(imports, ("src/http/a.rs", "use sqlx::query;"), ("src/store/a.rs", "use sqlx::query;"));
        assert_bites(
            imports,
            ("src/http.rs", "let x = crate::queue::push();"),
            ("src/http_load.rs", "crate::queue::push();"),
        );
        assert_bites(
            imports,
            ("src/http/a.rs", "use crate::{engine, queue::Push};"),
            ("src/http/a.rs", "use crate::engine;"),
        );
    }

    #[test]
    fn a_relative_path_is_followed() {
        assert_bites(
            imports,
            ("src/http/a.rs", "use super::super::queue::Push;"),
            ("src/http/a.rs", "use super::queue;"),
        );
        assert_bites(imports, ("src/http/mod.rs", "use super::queue;"), ("src/http/mod.rs", "use self::queue;"));
        assert_bites(imports, ("src/engine/a.rs", "use bursar::http;"), ("src/engine/a.rs", "use bursar::store;"));
    }

    #[test]
    fn comments_strings_and_tests_may_name_anything() {
        let code =
            "// sqlx::query\nconst A: &str = \"sqlx::query\";\n#[cfg(test)]\nmod tests {\n    use sqlx::query;\n}\n";
        assert_bites(imports, ("src/gateway/a.rs", "sqlx::query!()"), ("src/gateway/a.rs", code));
    }

    #[test]
    fn a_variable_named_like_a_package_is_no_import() {
        assert_bites(imports, ("workers/src/a.rs", "use redis;"), ("workers/src/a.rs", "let redis = url(redis);"));
    }

    #[test]
    fn the_store_knows_neither_engine_queue_nor_http() {
        for banned in ["engine", "queue", "http"] {
            let code = format!("use crate::{banned}::Thing;");
            assert_bites(imports, ("src/store/a.rs", &code), ("src/cli/a.rs", &code));
        }
    }

    #[test]
    fn the_queue_knows_neither_store_engine_nor_http() {
        for banned in ["store", "engine", "http"] {
            let code = format!("use crate::{banned}::Thing;");
            assert_bites(imports, ("src/queue/a.rs", &code), ("src/boot.rs", &code));
        }
    }

    #[test]
    fn the_engine_knows_neither_sql_axum_http_nor_config() {
        for banned in ["sqlx", "axum", "crate::http", "crate::config"] {
            let code = format!("use {banned}::Thing;");
            assert_bites(imports, ("src/engine/a.rs", &code), ("src/boot.rs", &code));
        }
    }

    #[test]
    fn workers_know_neither_storage_nor_server() {
        for banned in ["sqlx", "redis", "axum"] {
            let code = format!("fn f() {{ {banned}::thing() }}");
            assert_bites(imports, ("workers/src/a.rs", &code), ("workers/tests/a.rs", &code));
        }
    }

    #[test]
    fn the_domain_is_pure() {
        for banned in ["tokio::spawn", "std::time::SystemTime", "std::{env, fmt}", "std::collections::HashMap"] {
            let code = format!("use {banned};");
            assert_bites(imports, ("domain/src/a.rs", &code), ("workers/src/a.rs", &code));
        }
        assert_bites(imports, ("domain/src/a.rs", "fn f(x: f64) {}"), ("domain/src/a.rs", "fn f(x: i64) {}"));
        assert_bites(
            imports,
            ("domain/src/a.rs", "let now = Instant::now();"),
            ("domain/src/a.rs", "use std::time::Duration;"),
        );
    }

    #[test]
    fn a_fraction_in_the_domain_is_found() {
        assert_bites(floats_in_domain, ("domain/src/a.rs", "let x = 0.5;"), ("domain/src/a.rs", "pair.0.1 + 5 // 0.5"));
        assert_bites(floats_in_domain, ("domain/src/a.rs", "1.25e3"), ("src/a.rs", "1.25e3"));
    }
}
