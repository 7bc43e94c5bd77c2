//! Style is a failing test: the house rules that a machine can check, each a row of one table.
//!
//! Every rule looks at the same value, a tree of files, and answers with findings; one test runs all of them over
//! the repository and lists everything it found at once. Each rule also has tests that show it bite on a sample. To
//! add one, write the function beside its kin and give it a row here. Rules that need judgement belong in review.
//!
//! Where a rule makes the code worse, the code breaks it and says why, on the line or in the comment right above it:
//! `// tidy(layers): the trait we implement asks for a float`.

mod habits;
mod layers;
mod project;
mod promises;
mod rust_text;
mod shape;
mod tree;

use std::fmt;

use tree::Tree;

/// A rule of the house and the function that finds where it is broken.
struct Rule {
    name: &'static str,
    /// What a reader of a finding should know.
    says: &'static str,
    check: fn(&Tree) -> Vec<Finding>,
}

/// A place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1; 0 means the file as a whole.
    line: usize,
    what: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

const RULES: &[Rule] = &[
    Rule {
        name: "file-length",
        says: "a file of ours has at most 600 lines: split it by actor, not by size",
        check: shape::file_length,
    },
    Rule {
        name: "function-length",
        says: "a function has at most 70 lines, from its `fn` to its closing brace",
        check: shape::function_length,
    },
    Rule {
        name: "file-header",
        says: "every Rust file opens with `//!`: what it is, why it exists, what it must not do",
        check: shape::file_header,
    },
    Rule {
        name: "module-names",
        says: "a module is named for what it is about; drawers for leftovers are not",
        check: shape::module_names,
    },
    Rule {
        name: "unfinished-code",
        says: "nothing unfinished or left over from debugging is committed",
        check: shape::unfinished_code,
    },
    Rule {
        name: "reasoned-exceptions",
        says: "a lint is switched off only with a `reason`",
        check: shape::reasoned_exceptions,
    },
    Rule {
        name: "layers",
        says: "each part uses only what the table in tests/tidy/layers.rs allows it",
        check: layers::imports,
    },
    Rule {
        name: "no-floats-in-domain",
        says: "the domain counts in whole numbers: money and order must not depend on rounding",
        check: layers::floats_in_domain,
    },
    Rule {
        name: "environment",
        says: "only src/config reads environment variables: everything is checked before anything starts",
        check: habits::environment,
    },
    Rule {
        name: "clock",
        says: "only src/clock reads the time: leases, holds and timers share one clock",
        check: habits::clock,
    },
    Rule {
        name: "sleeping-tests",
        says: "tests wait for a signal or poll with a deadline (tests/support), they never sleep",
        check: habits::sleeping_tests,
    },
    Rule {
        name: "required-entries",
        says: "these entries exist at the top level, where deployments look for them",
        check: project::required_entries,
    },
    Rule {
        name: "migration-twins",
        says: "each migration exists for both engines under one number and name",
        check: project::migration_twins,
    },
    Rule {
        name: "explained-migrations",
        says: "each migration opens with a comment that explains it",
        check: project::explained_migrations,
    },
    Rule {
        name: "explained-dependencies",
        says: "each direct dependency has a row with its reason in docs/dependencies.md, and each row a dependency",
        check: project::explained_dependencies,
    },
    Rule {
        name: "deployed-commands",
        says: "the deployment files name commands the program has",
        check: project::deployed_commands,
    },
    Rule {
        name: "deployed-variables",
        says: "the deployment files set variables the configuration reads",
        check: project::deployed_variables,
    },
    Rule {
        name: "guaranteed-tests",
        says: "each test that docs/guarantees.md names exists where it says",
        check: promises::guaranteed_tests,
    },
    Rule {
        name: "planted-bugs",
        says: "each bug in tests/plants can still be planted, in one place",
        check: promises::planted_bugs,
    },
];

#[test]
fn the_tree_keeps_the_house_rules() {
    let tree = Tree::load();
    let mut report = Vec::new();
    for rule in RULES {
        let mut findings = (rule.check)(&tree);
        findings.retain(|finding| !is_excused(&tree, rule.name, finding));
        if !findings.is_empty() {
            report.push(format!("\n{}: {}", rule.name, rule.says));
            report.extend(findings.iter().map(|finding| format!("  {finding}")));
        }
    }
    assert!(report.is_empty(), "the tree breaks house rules:\n{}", report.join("\n"));
}

/// Whether the code says, at the place itself, why this rule does not serve there.
fn is_excused(tree: &Tree, rule: &str, finding: &Finding) -> bool {
    let Some(place) = finding.line.checked_sub(1) else { return false };
    let lines: Vec<&str> = tree.text(&finding.path).unwrap_or_default().lines().take(finding.line).collect();
    let (above, itself) = lines.split_at(place.min(lines.len()));
    let comment = above.iter().rev().take_while(|line| line.trim_start().starts_with("//"));
    let excuse = format!("// tidy({rule}): ");
    itself
        .iter()
        .chain(comment)
        .filter_map(|line| line.split_once(&excuse))
        .any(|(_, reason)| reason.split_whitespace().count() >= 3)
}

#[test]
fn an_excuse_holds_for_its_rule_and_place_and_only_with_a_reason() {
    let excused = |text: &str, line: usize| {
        is_excused(&Tree::of(&[("src/a.rs", text)]), "clock", &Finding::new("src/a.rs", line, "x"))
    };
    assert!(excused(
        "fn f() {\n    // tidy(clock): asked once before anything starts\n    // and never again\n    now();\n",
        4
    ));
    assert!(excused("now(); // tidy(clock): asked once before anything starts", 1));
    assert!(!excused("// tidy(layers): asked once before anything starts\nnow();", 2), "another rule");
    assert!(!excused("// tidy(clock): asked once before anything starts\nf();\nnow();", 3), "another place");
    assert!(!excused("// tidy(clock): because\nnow();", 2), "no reason");
    assert!(!excused("// tidy(clock): asked once before anything starts", 0), "a whole file");
}

#[test]
fn no_two_rules_share_a_name() {
    let names: std::collections::BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(names.len(), RULES.len());
}

/// Shows that a rule bites on one sample file and spares another.
#[track_caller]
fn assert_bites(check: fn(&Tree) -> Vec<Finding>, bad: (&str, &str), good: (&str, &str)) {
    let found = check(&Tree::of(&[bad]));
    assert_eq!(found.len(), 1, "one finding expected in {}: {found:?}", bad.0);
    assert_eq!(found.first().map(|finding| finding.path.as_str()), Some(bad.0));
    let found = check(&Tree::of(&[good]));
    assert!(found.is_empty(), "no finding expected in {}: {found:?}", good.0);
}
