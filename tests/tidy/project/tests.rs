//! The rules about the project's surroundings, each shown to bite.

use super::super::assert_bites;
use super::*;

const TWINS: [(&str, &str); 2] =
    [("migrations/postgres/0001_wallets.sql", "--"), ("migrations/sqlite/0001_wallets.sql", "--")];

#[test]
fn a_missing_top_level_entry_is_found() {
    let all = [
        ("Cargo.toml", ""),
        ("src/lib.rs", ""),
        ("workers/src/lib.rs", ""),
        ("migrations/sqlite/0001_a.sql", ""),
        ("tests/main.rs", ""),
        ("Procfile", ""),
        ("docker-compose.yml", ""),
        ("README.md", ""),
    ];
    assert!(required_entries(&Tree::of(&all)).is_empty());
    for i in 0..all.len() {
        let without: Vec<(&str, &str)> =
            all.iter().enumerate().filter(|(n, _)| *n != i).map(|(_, file)| *file).collect();
        let found = required_entries(&Tree::of(&without));
        assert_eq!(found.len(), 1, "without {}: {found:?}", all[i].0);
    }
}

#[test]
fn a_migration_without_its_twin_is_found() {
    assert!(migration_twins(&Tree::of(&TWINS)).is_empty());
    for twin in TWINS {
        assert_eq!(
            migration_twins(&Tree::of(&[twin])),
            [Finding::new(twin.0, 0, "has no twin of the same number and name for the other engine")]
        );
    }
}

#[test]
fn a_migration_number_is_used_once() {
    let clash = ["postgres", "sqlite"].map(|engine| format!("migrations/{engine}/0001_zebra.sql"));
    let files = [TWINS[0], TWINS[1], (&clash[0], ""), (&clash[1], "")];
    let found = migration_twins(&Tree::of(&files));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|finding| finding.what.contains("taken by 0001_wallets.sql")), "{found:?}");
}

#[test]
fn a_migration_without_a_number_is_found() {
    let found = migration_twins(&Tree::of(&[("migrations/sqlite/a.sql", ""), ("migrations/postgres/a.sql", "")]));
    assert!(found.len() == 2 && found.iter().all(|finding| finding.what.contains("no number")), "{found:?}");
}

#[test]
fn an_unexplained_migration_is_found() {
    let path = "migrations/sqlite/0001_a.sql";
    let explained = (path, "-- Wallets and their grants:\n-- who owns what.\ncreate table wallets ();\n");
    assert_bites(explained_migrations, (path, "create table a ();\n-- Too late to explain it now, alas.\n"), explained);
    assert_bites(explained_migrations, (path, "-- wallets\ncreate table wallets ();\n"), explained);
}

#[test]
fn a_dependency_without_a_reason_is_found_in_every_table() {
    let page = ("docs/dependencies.md", "| crate | why |\n|---|---|\n| `serde` | x |\n");
    for table in [
        "[dependencies]",
        "[dev-dependencies]",
        "[build-dependencies]",
        "[workspace.dependencies]",
        "[target.'cfg(unix)'.dependencies]",
    ] {
        let manifest = format!("{table}\nserde = \"1\"\nrand = {{ version = \"0.10\" }}\nown = {{ path = \"own\" }}\n");
        let found = explained_dependencies(&Tree::of(&[page, ("domain/Cargo.toml", &manifest)]));
        assert_eq!(
            found,
            [Finding::new("domain/Cargo.toml", 0, "`rand` has no row in docs/dependencies.md")],
            "{table}"
        );
    }
}

#[test]
fn a_reason_for_a_dependency_that_is_gone_is_found() {
    let manifest = ("Cargo.toml", "[dependencies]\nserde = \"1\"\n");
    let page = |rows: &'static str| ("docs/dependencies.md", rows);
    assert!(explained_dependencies(&Tree::of(&[manifest, page("Use `rand`.\n| `serde` | not `rand` |\n")])).is_empty());
    let found = explained_dependencies(&Tree::of(&[manifest, page("| `serde` | x |\n| `rand` | x |\n")]));
    assert_eq!(found, [Finding::new("docs/dependencies.md", 0, "`rand` is no direct dependency")]);
}

#[test]
fn an_unreadable_manifest_is_found() {
    assert_bites(explained_dependencies, ("Cargo.toml", "[dependencies\n"), ("Cargo.toml", "[dependencies]\n"));
}

/// What each file says about a command `serve`, and the line it says it on.
const DEPLOYMENTS: [(&str, &str, usize); 6] = [
    ("Procfile", "web: bursar serve --port $PORT\n", 1),
    ("docker-compose.yml", "services:\n  a:\n    <<: *bursar\n    command: [\"serve\", \"--all\"]\n", 4),
    ("docker-compose.yml", "services:\n  a:\n    <<: *bursar\n    command: serve\n", 4),
    ("docker-compose.yml", "    healthcheck:\n      test: [\"CMD\", \"bursar\", \"serve\"]\n", 2),
    ("Dockerfile", "FROM x\nENTRYPOINT [\"bursar\"]\nCMD [\"serve\"]\n", 3),
    ("Makefile", "dev:\n\tcargo run --bin bursar -- serve\n", 2),
];

#[test]
fn a_deployment_that_names_no_command_of_ours_is_found() {
    for (path, text, line) in DEPLOYMENTS {
        let tree = Tree::of(&[(path, text)]);
        let found = unknown_commands(&tree, &|command| command == "server");
        assert_eq!(found, [Finding::new(path, line, "`bursar serve` does not exist")]);
        assert!(unknown_commands(&tree, &|command| command == "serve").is_empty());
    }
}

#[test]
fn what_other_programs_are_told_is_no_command_of_ours() {
    let compose = "services:\n  # bursar nothing\n  a:\n    <<: *bursar\n  db:\n    command: [\"postgres\", \"-c\"]\n    test: pg_isready -U bursar -d bursar\n";
    assert!(commands_used(&Tree::of(&[("docker-compose.yml", compose)])).is_empty());
}

#[test]
fn a_command_is_known_by_its_variant_or_module_in_the_cli() {
    let procfile = ("Procfile", "web: bursar health-check\n");
    for cli in ["enum Command { HealthCheck(Args) }", "mod health_check;"] {
        assert!(deployed_commands(&Tree::of(&[procfile, ("src/cli/mod.rs", cli)])).is_empty(), "{cli}");
    }
    let elsewhere = ("src/http/mod.rs", "mod health_check;");
    assert_eq!(deployed_commands(&Tree::of(&[procfile, elsewhere])).len(), 1);
}

#[test]
fn a_variable_nobody_reads_is_found() {
    let config =
        ("src/config.rs", "//! REDIS_URI is not read\nlet port = read(\"PORT\");\nconst DATABASE_URL: u8 = 0;");
    for (path, text, unknown) in [
        ("docker-compose.yml", "  PORT: 1\n  REDIS_URL: x\n  POSTGRES_USER: y\n  TEXT\n", "REDIS_URL"),
        ("Procfile", "web: bursar server --port $PORT\nx: bursar x --url ${DATABASE_URL}\n", "DATABASE_URL"),
        ("Dockerfile", "ENV PORT=1\nENV LOGS=y\nRUN x\n", "LOGS"),
    ] {
        let found = deployed_variables(&Tree::of(&[(path, text), config]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.iter().all(|finding| finding.line == 2 && finding.what.contains(unknown)), "{found:?}");
    }
}
