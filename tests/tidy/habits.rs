//! Rules about what code may ask of the world around it: the environment, the clock, sleep.

use super::Finding;
use super::rust_text::{mentions, tokens};
use super::tree::{RustFile, Tree};

const ENVIRONMENT: [&str; 4] = ["var", "var_os", "vars", "vars_os"];
const CLOCKS: [&str; 3] = ["SystemTime", "Utc", "Local"];
const SLEEPS: [&str; 4] = ["sleep", "sleep_ms", "sleep_until", "park_timeout"];

/// Where tests may wait: the one polling primitive lives here.
const TEST_SUPPORT: &str = "tests/support/";

/// Product code outside `src/config*.rs` that reads environment variables.
pub(super) fn environment(tree: &Tree) -> Vec<Finding> {
    named(tree, "src/config", |[module, name]| module == "env" && ENVIRONMENT.contains(&name))
}

/// Product code outside `src/clock.rs` that asks the system for the time.
pub(super) fn clock(tree: &Tree) -> Vec<Finding> {
    named(tree, "src/clock", |[kind, name]| name == "now" && CLOCKS.contains(&kind))
}

/// Test code that sleeps.
pub(super) fn sleeping_tests(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !file.path.starts_with(TEST_SUPPORT)) {
        let tokens = tokens(&file.tests);
        for (i, call) in tokens.windows(2).enumerate() {
            let [name, parenthesis] = call else { continue };
            let defined_here = i.checked_sub(1).is_some_and(|before| tokens[before].text == "fn");
            if parenthesis.text == "(" && SLEEPS.contains(&name.text) && !defined_here {
                found.push(Finding::new(&file.path, name.line, format!("`{}(`", name.text)));
            }
        }
    }
    found
}

/// Product code that names a path whose last two segments match, outside the file or folder that owns the matter.
fn named(tree: &Tree, owner: &str, matches: fn([&str; 2]) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.rust().filter(|file| !owns(owner, file)) {
        for mention in mentions(&file.product) {
            if let [.., before, last] = mention.segments.as_slice()
                && matches([before, last])
            {
                found.push(Finding::new(&file.path, mention.line, format!("`{}`", mention.segments.join("::"))));
            }
        }
    }
    found
}

/// `src/config` owns `src/config.rs`, `src/config_file.rs` and `src/config/…`.
fn owns(owner: &str, file: &RustFile) -> bool {
    let rest = file.path.strip_prefix(owner);
    rest.is_some_and(|rest| rest.starts_with(['/', '.', '_']))
}

#[cfg(test)]
mod tests {
    use super::super::assert_bites;
    use super::*;

    #[test]
    fn only_the_configuration_reads_the_environment() {
        let code = "let url = std::env::var(\"DATABASE_URL\");";
        assert_bites(environment, ("src/cli/dev.rs", code), ("src/config.rs", code));
        assert_bites(environment, ("workers/src/exec.rs", "env::vars()"), ("src/config/sources.rs", "env::vars()"));
        assert_bites(environment, ("src/configure.rs", code), ("tests/support/mod.rs", code));
        assert_bites(
            environment,
            ("src/a.rs", "use std::env::{args, var_os};"),
            ("src/a.rs", "env!(\"X\"); env::args();"),
        );
    }

    #[test]
    fn only_the_clock_reads_the_time() {
        let code = "let now = std::time::SystemTime::now();";
        assert_bites(clock, ("src/engine/run.rs", code), ("src/clock.rs", code));
        assert_bites(clock, ("workers/src/a.rs", "chrono::Utc::now()"), ("workers/src/a.rs", "clock.now()"));
    }

    #[test]
    fn a_sleeping_test_is_found_wherever_it_is() {
        let in_module = "#[cfg(test)]\nmod tests {\n    fn t() { std::thread::sleep(x) }\n}\n";
        assert_bites(sleeping_tests, ("src/a.rs", in_module), ("src/a.rs", "fn t() { tokio::time::sleep(x) }"));
        assert_bites(
            sleeping_tests,
            ("tests/faults/a.rs", "tokio::time::sleep(x).await"),
            ("tests/support/wait.rs", "tokio::time::sleep(x).await"),
        );
        assert_bites(
            sleeping_tests,
            ("tests/a.rs", "clock.sleep_until(x)"),
            ("tests/a.rs", "async fn sleep(&self) {}"),
        );
    }
}
