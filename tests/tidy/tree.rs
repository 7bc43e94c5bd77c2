//! The tree under review: every text file of the repository, with the Rust files read for their code.
//!
//! Rules see only this value, so that each can be shown to bite on a few lines of sample text. Nothing here judges.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::rust_text::{Reading, read};

/// Folders whose Rust files are tests as a whole, at the root or inside a package.
const TEST_FOLDERS: [&str; 3] = ["tests", "benches", "examples"];

/// Folders the walk does not enter when git cannot tell what is ours.
const FOREIGN_FOLDERS: [&str; 4] = [".git", "target", "node_modules", ".bursar"];

/// One Rust file: its text, and the text with comments and strings blanked, split into product and test code.
/// Both parts keep all line breaks, so that line numbers hold.
pub(super) struct RustFile {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) product: String,
    pub(super) tests: String,
}

impl RustFile {
    /// Product and test code with the name of neither: each in turn.
    pub(super) fn halves(&self) -> [&str; 2] {
        [&self.product, &self.tests]
    }
}

/// The files by path, relative to the root, with `/` between the parts.
pub(super) struct Tree {
    files: BTreeMap<String, String>,
    rust: Vec<RustFile>,
}

impl Tree {
    /// The repository this test was built from.
    pub(super) fn load() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let paths = listed_by_git(root).unwrap_or_else(|| walked(root));
        assert!(paths.iter().any(|path| path == "Cargo.toml"), "no Cargo.toml in {}", root.display());
        // A file that is listed but deleted, or no text, is none of ours to judge.
        let texts = paths.into_iter().filter_map(|path| {
            let text = std::fs::read_to_string(root.join(&path)).ok()?;
            Some((path, text))
        });
        Self::new(texts.collect())
    }

    /// A tree of samples.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        Self::new(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn new(files: BTreeMap<String, String>) -> Self {
        let mut rust: Vec<RustFile> = Vec::new();
        let mut test_modules: Vec<String> = Vec::new();
        for (path, text) in files.iter().filter(|(path, _)| has_extension(path, "rs")) {
            let Reading { product, tests, test_modules: declared } = read(text);
            test_modules.extend(declared.iter().map(|name| format!("{}{name}", child_folder(path))));
            rust.push(RustFile { path: path.clone(), text: text.clone(), product, tests });
        }
        for file in &mut rust {
            let in_test_folder = file.path.split('/').any(|part| TEST_FOLDERS.contains(&part));
            let declared_as_test = test_modules.iter().any(|module| {
                file.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
            });
            if in_test_folder || declared_as_test {
                let product = std::mem::take(&mut file.product);
                file.tests = super::rust_text::overlay(&product, &file.tests);
                file.product = product.lines().map(|_| "\n").collect();
            }
        }
        Self { files, rust }
    }

    /// All Rust files.
    pub(super) fn rust(&self) -> impl Iterator<Item = &RustFile> {
        self.rust.iter()
    }

    /// All files with their text.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files under `folder` (given without a slash at the end), as (path below it, text).
    pub(super) fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files().filter_map(move |(path, text)| {
            let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
            Some((rest, text))
        })
    }

    /// The text of one file.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }
}

/// Whether `path` ends in `.extension`.
pub(super) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Where the modules declared in the file at `path` live, with a slash at the end.
fn child_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name.trim_end_matches(".rs") {
        "mod" | "lib" | "main" => format!("{folder}/"),
        stem => format!("{folder}/{stem}/"),
    }
}

/// What git tracks, and what is new and not ignored; `None` without git or outside a repository.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    let listed = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

/// Every file below `root` except in foreign folders.
fn walked(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() {
                if !FOREIGN_FOLDERS.contains(&name) {
                    folders.push(path);
                }
            } else if let Some(relative) = path.strip_prefix(root).ok().and_then(Path::to_str) {
                found.push(relative.replace('\\', "/"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file<'a>(tree: &'a Tree, path: &str) -> &'a RustFile {
        tree.rust().find(|file| file.path == path).expect("the sample file")
    }

    #[test]
    fn a_file_declared_as_a_test_module_is_test_code() {
        let tree = Tree::of(&[
            ("src/queue/mod.rs", "//! q\n#[cfg(test)]\nmod checks;\nmod ring;\n"),
            ("src/queue/checks.rs", "//! t\nfn body() {}\n"),
            ("src/queue/ring.rs", "//! r\nfn body() {}\n"),
        ]);
        assert!(file(&tree, "src/queue/checks.rs").tests.contains("body"));
        assert!(!file(&tree, "src/queue/checks.rs").product.contains("body"));
        assert!(file(&tree, "src/queue/ring.rs").product.contains("body"));
    }

    #[test]
    fn everything_in_a_tests_folder_is_test_code_at_its_own_line() {
        let tree = Tree::of(&[("workers/tests/http.rs", "//! t\nfn body() {}\n")]);
        let file = file(&tree, "workers/tests/http.rs");
        assert_eq!(file.tests.lines().nth(1), Some("fn body() {}"));
        assert_eq!(file.product.lines().count(), 2);
    }

    #[test]
    fn the_walk_finds_what_git_lists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let walked = walked(root);
        for path in listed_by_git(root).unwrap_or_default() {
            assert!(!root.join(&path).exists() || walked.contains(&path), "{path}");
        }
    }
}
