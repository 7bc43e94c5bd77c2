//! Wallets of another system come in: a CSV file becomes one grant for each of its lines.
//!
//! Three steps, so that nothing is written of a file that has a mistake anywhere: `read` looks at the file alone, `plan`
//! compares it with the store, and [`Plan::write`] gives the credits. A crash in between leaves some lines written;
//! the same file again writes the others and changes nothing else, because each line's id is its grant's ledger key.

mod plan;
mod row;

pub use plan::{Plan, Written, plan};
pub use row::{COLUMNS, Row, read};

use std::fmt;

/// What is wrong with one place of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1, the head included.
    pub line: u64,
    /// The column's name; none when it is the line as a whole.
    pub column: Option<&'static str>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Fault {
    fn at(line: u64, column: &'static str, message: impl Into<String>) -> Self {
        Self { line, column: Some(column), message: message.into() }
    }

    fn of_line(line: u64, message: impl Into<String>) -> Self {
        Self { line, column: None, message: message.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "line {}, column {column}: {}", self.line, self.message),
            None => write!(f, "line {}: {}", self.line, self.message),
        }
    }
}
