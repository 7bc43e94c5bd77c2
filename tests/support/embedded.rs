//! A folder per test for the embedded engine, removed afterwards.

use std::path::PathBuf;

use super::unique_name;

/// A temporary folder.
#[derive(Debug)]
pub(crate) struct TestFolder {
    path: PathBuf,
}

impl TestFolder {
    /// Makes it.
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(unique_name("bursar"));
        std::fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The URL of a database file inside of it.
    pub(crate) fn database_url(&self) -> String {
        format!("sqlite://{}", self.path.join("bursar.db").display())
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
