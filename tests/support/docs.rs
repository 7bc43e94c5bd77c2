//! The examples of the documentation, so that tests run what readers copy.

/// The workflow of that name in `docs/workflow-format.md`.
pub(crate) fn example(name: &str) -> String {
    let page = include_str!("../../docs/workflow-format.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let head = format!("workflow: {name}\n");
    let found = blocks.into_iter().find(|block| block.starts_with(&head));
    found.unwrap_or_else(|| panic!("the page has an example `{name}`")).to_owned()
}
