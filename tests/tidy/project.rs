//! Rules about what stands around the code: required entries, migrations, dependencies, deployment files.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::rust_text::{mask, tokens};
use super::tree::{Tree, has_extension};

const REQUIRED_ENTRIES: [&str; 8] =
    ["Cargo.toml", "src", "workers", "migrations", "tests", "Procfile", "docker-compose.yml", "README.md"];

const ENGINES: [&str; 2] = ["postgres", "sqlite"];
const DEPENDENCY_PAGE: &str = "docs/dependencies.md";
const FEWEST_WORDS: usize = 5;

/// Variables of the images next to ours, not of our program.
const FOREIGN_VARIABLES: [&str; 3] = ["POSTGRES_", "PG", "REDIS_ARGS"];

/// Top-level entries that are not there.
pub(super) fn required_entries(tree: &Tree) -> Vec<Finding> {
    let exists = |entry: &str| tree.text(entry).is_some() || tree.under(entry).next().is_some();
    let absent = REQUIRED_ENTRIES.into_iter().filter(|entry| !exists(entry));
    absent.map(|entry| Finding::new(entry, 0, "is missing")).collect()
}

/// Migrations without a twin, and numbers used twice.
pub(super) fn migration_twins(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let [postgres, sqlite] = ENGINES.map(|engine| migrations(tree, engine));
    for (engine, ours, theirs) in [("postgres", &postgres, &sqlite), ("sqlite", &sqlite, &postgres)] {
        let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
        for name in ours.keys() {
            let path = format!("migrations/{engine}/{name}");
            if !theirs.contains_key(name) {
                found.push(Finding::new(&path, 0, "has no twin of the same number and name for the other engine"));
            }
            let number = name.split('_').next().unwrap_or_default();
            if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
                found.push(Finding::new(&path, 0, "its name begins with no number"));
            } else if let Some(first) = numbers.insert(number, name) {
                found.push(Finding::new(&path, 0, format!("its number is taken by {first}")));
            }
        }
    }
    found
}

/// Migrations that do not open with a comment of at least a few words.
pub(super) fn explained_migrations(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for engine in ENGINES {
        for (name, text) in migrations(tree, engine) {
            let comment = text.lines().take_while(|line| line.starts_with("--"));
            let words = comment.flat_map(str::split_whitespace).filter(|word| *word != "--").count();
            if words < FEWEST_WORDS {
                let path = format!("migrations/{engine}/{name}");
                found.push(Finding::new(&path, 1, "does not open with a comment that explains it"));
            }
        }
    }
    found
}

fn migrations<'a>(tree: &'a Tree, engine: &str) -> BTreeMap<&'a str, &'a str> {
    let folder = format!("migrations/{engine}/");
    let below = tree.files().filter_map(|(path, text)| Some((path.strip_prefix(folder.as_str())?, text)));
    below.filter(|(name, _)| has_extension(name, "sql")).collect()
}

/// Direct dependencies without a row in the page, rows without a dependency, and manifests that cannot be read.
pub(super) fn explained_dependencies(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut direct: BTreeMap<String, String> = BTreeMap::new();
    for (path, text) in tree.files().filter(|(path, _)| path.rsplit('/').next() == Some("Cargo.toml")) {
        match text.parse::<toml::Table>() {
            Ok(manifest) => direct.extend(dependencies(&manifest).into_iter().map(|name| (name, path.to_owned()))),
            Err(error) => found.push(Finding::new(path, 0, error.message())),
        }
    }
    let page = tree.text(DEPENDENCY_PAGE).unwrap_or_default();
    let explained = explained_names(page);
    for (name, manifest) in direct.iter().filter(|(name, _)| !explained.contains(name.as_str())) {
        found.push(Finding::new(manifest, 0, format!("`{name}` has no row in {DEPENDENCY_PAGE}")));
    }
    for name in explained.iter().filter(|name| !direct.contains_key(**name)) {
        found.push(Finding::new(DEPENDENCY_PAGE, 0, format!("`{name}` is no direct dependency")));
    }
    found
}

/// The names a manifest declares in any of its dependency tables, packages of this repository aside.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let section = |of: &toml::Table, key: &str| of.get(key).and_then(toml::Value::as_table).cloned();
    let mut owners = vec![manifest.clone()];
    owners.extend(section(manifest, "workspace"));
    let targets = section(manifest, "target").unwrap_or_default();
    owners.extend(targets.into_iter().filter_map(|(_, value)| value.as_table().cloned()));
    let tables = owners.iter().flat_map(|owner| KINDS.into_iter().filter_map(move |kind| section(owner, kind)));
    let declared = tables.flatten().filter(|(name, value)| value.get("path").is_none() && !name.starts_with("bursar"));
    declared.map(|(name, _)| name).collect()
}

/// The names in backticks in the first cells of a page's tables.
fn explained_names(page: &str) -> BTreeSet<&str> {
    let first_cells = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Commands in the deployment files that the program does not have, by the names found in `src/cli`.
pub(super) fn deployed_commands(tree: &Tree) -> Vec<Finding> {
    let cli = tree.rust().filter(|file| file.path.starts_with("src/cli"));
    let words: BTreeSet<String> = cli
        .flat_map(|file| tokens(&file.product).into_iter().map(|token| kebab(token.text)).collect::<Vec<_>>())
        .collect();
    unknown_commands(tree, &|command| words.contains(command))
}

/// Commands in the deployment files for which `is_command` is false.
pub(super) fn unknown_commands(tree: &Tree, is_command: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let unknown = commands_used(tree).into_iter().filter(|(_, _, command)| !is_command(command));
    unknown
        .map(|(path, line, command)| Finding::new(path, line, format!("`bursar {command}` does not exist")))
        .collect()
}

/// Every `bursar COMMAND` in Procfile, docker-compose.yml, Dockerfile and Makefile, as (path, line, command).
fn commands_used(tree: &Tree) -> Vec<(&'static str, usize, String)> {
    let mut used = Vec::new();
    for path in ["Procfile", "docker-compose.yml", "Dockerfile", "Makefile"] {
        for (line, words) in command_lines(path, tree.text(path).unwrap_or_default()) {
            let after = words.iter().skip_while(|word| *word != "bursar").skip(1).find(|word| *word != "--");
            let is_command =
                |word: &str| !word.starts_with('-') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            used.extend(after.filter(|word| is_command(word)).map(|command| (path, line, command.clone())));
        }
    }
    used
}

/// The lines of a deployment file as words, with `bursar` in front of the arguments its image is given.
fn command_lines(path: &str, text: &str) -> Vec<(usize, Vec<String>)> {
    let mut lines = Vec::new();
    let mut service_is_ours = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let plain: String = line.chars().map(|c| if "[]\"',".contains(c) { ' ' } else { c }).collect();
        let mut words: Vec<String> = plain.split_whitespace().map(str::to_owned).collect();
        let indent = line.len() - line.trim_start().len();
        // In a compose file a service of ours merges the block that names our image.
        if path == "docker-compose.yml" && indent <= 2 {
            service_is_ours = false;
        }
        service_is_ours |= words.iter().any(|word| word == "*bursar");
        let arguments_follow = match path {
            "docker-compose.yml" => service_is_ours && words.first().is_some_and(|word| word == "command:"),
            "Dockerfile" => words.first().is_some_and(|word| word == "CMD"),
            _ => false,
        };
        if arguments_follow {
            words.splice(0..1, ["bursar".to_owned()]);
        }
        lines.push((i + 1, words));
    }
    lines
}

/// Variables in the deployment files that the configuration does not mention.
pub(super) fn deployed_variables(tree: &Tree) -> Vec<Finding> {
    let config: String =
        tree.files().filter(|(path, _)| path.starts_with("src/config")).map(|(_, text)| text).collect();
    // The names stand in strings: what masking blanks is what we look through.
    let code = mask(&config);
    let strings: String =
        config.bytes().zip(code.bytes()).map(|(a, b)| if a == b { ' ' } else { char::from(a) }).collect();
    let known: BTreeSet<&str> = strings.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    unknown_variables(tree, &|variable| known.contains(variable))
}

/// Variables in the deployment files for which `is_variable` is false.
pub(super) fn unknown_variables(tree: &Tree, is_variable: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let unknown = variables_used(tree).into_iter().filter(|(_, _, variable)| !is_variable(variable));
    unknown
        .map(|(path, line, name)| Finding::new(path, line, format!("nothing in src/config reads `{name}`")))
        .collect()
}

/// `NAME:` in the compose file, `ENV NAME=` in the Dockerfile and `$NAME` in the Procfile, ours only.
fn variables_used(tree: &Tree) -> Vec<(&'static str, usize, &str)> {
    let mut used = Vec::new();
    for path in ["Procfile", "docker-compose.yml", "Dockerfile"] {
        for (i, line) in tree.text(path).unwrap_or_default().lines().enumerate() {
            let line = line.trim_start();
            let name = match path {
                "Procfile" => line.split('$').nth(1).map(|rest| rest.trim_start_matches('{')),
                "Dockerfile" => line.strip_prefix("ENV "),
                _ => line.split_once(':').map(|(key, _)| key),
            };
            let name = name.map(|name| name.split(|c: char| !is_variable_char(c)).next().unwrap_or_default());
            let is_whole_key = |name: &str| path != "docker-compose.yml" || line[name.len()..].starts_with(':');
            let is_foreign = |name: &str| FOREIGN_VARIABLES.iter().any(|prefix| name.starts_with(prefix));
            if let Some(name) = name.filter(|name| name.len() > 1 && is_whole_key(name) && !is_foreign(name)) {
                used.push((path, i + 1, name));
            }
        }
    }
    used
}

fn is_variable_char(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
}

/// A type or function name as clap writes it: `HealthCheck` and `health_check` become `health-check`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.chars().enumerate() {
        if c.is_ascii_uppercase() && i > 0 {
            out.push('-');
        }
        out.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    out
}

#[cfg(test)]
mod tests;
