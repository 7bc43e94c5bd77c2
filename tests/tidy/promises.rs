//! Rules about what proves what: tests that the guarantees name, and the places where planted bugs go.

use std::path::Path;

use super::Finding;
use super::tree::Tree;

const GUARANTEES: &str = "docs/guarantees.md";
const PLANTS: &str = "tests/plants";

/// Tests named in the guarantees that no file has. A name is `module::…::test`, in backticks.
pub(super) fn guaranteed_tests(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in tree.text(GUARANTEES).unwrap_or_default().lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.contains("::")) {
            if !is_test(tree, name) {
                found.push(Finding::new(GUARANTEES, number.saturating_add(1), format!("there is no test `{name}`")));
            }
        }
    }
    found
}

/// Whether a file that lies where the name says has a test of that name.
fn is_test(tree: &Tree, name: &str) -> bool {
    let Some((modules, test)) = name.rsplit_once("::") else { return false };
    let folder = format!("/{}", modules.replace("::", "/"));
    let signature = format!("fn {test}(");
    tree.rust().any(|file| {
        let place = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        place.ends_with(&folder) && file.tests.contains(&signature)
    })
}

/// Planted bugs whose place is gone, or is not the only one.
pub(super) fn planted_bugs(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_plant = |path: &str| Path::new(path).extension().is_some_and(|end| end == "plant");
    for (path, text) in tree.under(PLANTS).filter(|(path, _)| is_plant(path)) {
        let mut edits = 0_usize;
        let mut file = "";
        for part in text.split_inclusive("\n--- end") {
            file = part.lines().find_map(|line| line.strip_prefix("file: ")).unwrap_or(file);
            let Some((_, rest)) = part.split_once("--- before\n") else { continue };
            let Some((old, _)) = rest.split_once("\n--- after\n") else { continue };
            edits = edits.saturating_add(1);
            let times = tree.text(file).unwrap_or_default().matches(old).count();
            if times != 1 {
                found.push(Finding::new(path, 0, format!("its text stands {times} times in `{file}`, not once")));
            }
        }
        if edits == 0 || !text.lines().any(|line| line.starts_with("tests: ")) {
            found.push(Finding::new(path, 0, "changes nothing, or names no tests that find it"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: &str = "#[test]\nfn it_holds() {}\n";

    #[test]
    fn a_guarantee_whose_test_is_gone_is_found() {
        let page = (GUARANTEES, "| it holds | always | `store::claims::it_holds` |\n");
        let found = |place: &str| guaranteed_tests(&Tree::of(&[page, (place, TEST)])).len();
        assert_eq!(found("tests/store/claims.rs"), 0);
        assert_eq!(found("tests/store/claims/mod.rs"), 0);
        assert_eq!(found("tests/store/other.rs"), 1, "it lies elsewhere");
        let renamed = [page, ("tests/store/claims.rs", "#[test]\nfn it_held() {}\n")];
        assert_eq!(guaranteed_tests(&Tree::of(&renamed)).len(), 1, "it has another name");
    }

    #[test]
    fn a_plant_whose_place_is_gone_is_found() {
        let plant =
            "# Nothing is counted.\ntests: domain flow\nfile: src/a.rs\n--- before\ncount += 1;\n--- after\n--- end\n";
        let found = |text: &str| planted_bugs(&Tree::of(&[("tests/plants/a.plant", plant), ("src/a.rs", text)])).len();
        assert_eq!(found("fn f() { count += 1; }"), 0);
        assert_eq!(found("fn f() { count += 2; }"), 1);
        assert_eq!(found("fn f() { count += 1; count += 1; }"), 1, "nobody knows which is meant");
        let empty = [("tests/plants/a.plant", "# Nothing.\n")];
        assert_eq!(planted_bugs(&Tree::of(&empty)).len(), 1);
    }
}
