//! Whether a schema and this program fit together, so that two versions can run side by side during a deploy.
//!
//! A database knows its schema's number and, in `schema_floor`, from which schema on a program must know it to use this
//! one. Migrations that only add leave the floor; one that breaks older programs raises it to its own number. What the
//! rules for such migrations are stands in CONTRIBUTING.md.

use std::fmt;

use super::StoreError;

/// A schema that this program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaFit {
    /// The number of the newest migration in the database.
    pub applied: i64,
    /// The number of the newest migration that this program knows.
    pub known: i64,
}

impl SchemaFit {
    /// Whether a newer program has migrated the database already.
    pub const fn is_newer(self) -> bool {
        self.applied > self.known
    }
}

impl fmt::Display for SchemaFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_newer() {
            write!(
                f,
                "schema version {} is newer than the {} that this program knows, and only adds to it: replace this \
                 program soon",
                self.applied, self.known
            )
        } else {
            write!(f, "schema version {}, up to date", self.applied)
        }
    }
}

/// Refuses a schema that this program does not fit. `oldest_program` is the floor, where the database has one.
pub(super) fn compare(applied: i64, oldest_program: Option<i64>, known: i64) -> Result<SchemaFit, StoreError> {
    if applied < known {
        return Err(StoreError::Schema(format!(
            "the database schema is at version {applied} and this program needs {known}: run `bursar migrate`"
        )));
    }
    match oldest_program {
        _ if applied == known => {}
        Some(oldest) if oldest <= known => {}
        oldest => {
            let floor = oldest.unwrap_or(applied);
            return Err(StoreError::Schema(format!(
                "the database schema is at version {applied}, newer than the {known} that this program knows, and \
                 serves only programs that know version {floor}: run a newer bursar"
            )));
        }
    }
    Ok(SchemaFit { applied, known })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{SchemaFit, compare};

    #[test]
    fn a_program_uses_its_own_schema_and_newer_ones_down_to_their_floor() {
        assert_eq!(compare(30, Some(29), 30).unwrap(), SchemaFit { applied: 30, known: 30 });
        assert!(compare(31, Some(30), 30).unwrap().is_newer());
        assert!(compare(35, Some(29), 30).unwrap().to_string().contains("35"));
        // its own schema needs no floor: the one that a migration of its own wrote can't be above it
        assert!(compare(28, None, 28).is_ok());
    }

    #[test]
    fn older_schemas_and_floors_above_the_program_are_refused_with_what_to_do() {
        let says = |applied, floor, known| compare(applied, floor, known).unwrap_err().to_string();
        assert!(says(29, Some(29), 30).contains("run `bursar migrate`"));
        assert!(says(0, None, 30).contains("version 0"));
        assert!(says(31, Some(31), 30).contains("run a newer bursar"));
        assert!(says(31, None, 30).contains("run a newer bursar"));
    }
}
