//! What can go wrong with a store, by what the caller can do about it.

use bursar_domain::id::{MissionId, TaskId};

/// A unique constraint that was hit, by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// A mission with this idempotency key exists.
    MissionKey,
    /// A ledger operation with this key exists.
    LedgerKey,
    /// A submit that ran at the same time took this dedupe key.
    DedupeKey,
    /// A bulk action with this idempotency key exists.
    BulkActionKey,
    /// A project of this name exists.
    ProjectName,
    /// A schedule of this name exists.
    ScheduleName,
    /// This version of the workflow exists (two writers put at once).
    WorkflowVersion,
    /// Some other row exists already.
    Other,
}

/// Why the store did not do it. Nothing was written, except after [`StoreError::Unavailable`], where a commit
/// may have happened unheard: all writes may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is of no known kind.
    #[error("the database URL must begin with `postgres://` or `sqlite://`")]
    BadUrl,
    /// The database can't be reached, or broke off.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Something with the same key exists.
    #[error("it exists already ({0:?})")]
    Conflict(Conflict),
    /// The database refused a value or a statement: a defect, or a value that can't be stored.
    #[error("the database refused: {0}")]
    Refused(String),
    /// The schema does not fit this program.
    #[error("{0}")]
    Schema(String),
    /// A row is not what the program expects.
    #[error("a stored row can't be read: {0}")]
    Corrupt(String),
    /// A decision wants a task whose mission it does not name, so that nobody locked it: a defect of the caller.
    #[error("task {task} is wanted without its mission {mission}")]
    Unlocked {
        /// The task.
        task: TaskId,
        /// The mission to name as well.
        mission: MissionId,
    },
    /// The transaction met others too often.
    #[error("the transaction met others {0} times in a row and gave up; try again")]
    Contention(u32),
}

impl StoreError {
    /// Whether the same call may succeed later, unchanged.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contention(_))
    }
}

/// What a constraint's name means. The one place where names become meanings.
fn meaning(constraint: &str) -> Conflict {
    match constraint {
        text if text.contains("missions_idempotency")
            || text.contains("missions.tenant_id, missions.idempotency_key") =>
        {
            Conflict::MissionKey
        }
        text if text.contains("dedupe_keys_key") || text.contains("dedupe_keys.tenant_id") => Conflict::DedupeKey,
        text if text.contains("schedules_name") || text.contains("schedules.tenant_id") => Conflict::ScheduleName,
        text if text.contains("projects_name") || text.contains("projects.tenant_id") => Conflict::ProjectName,
        text if text.contains("bulk_actions_key") || text.contains("bulk_actions.owner_id") => Conflict::BulkActionKey,
        text if text.contains("ops_key") || text.contains("ops.key, ops.wallet_id") => Conflict::LedgerKey,
        text if text.contains("workflows_version") || text.contains("workflows.tenant_id") => Conflict::WorkflowVersion,
        _ => Conflict::Other,
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                if database.is_unique_violation() {
                    let text = database.constraint().map_or_else(|| database.message().to_owned(), str::to_owned);
                    return Self::Conflict(meaning(&text));
                }
                if code == LOCK_NOT_AVAILABLE {
                    return Self::Contention(1);
                }
                if passes(&code) {
                    return Self::Unavailable(database.message().to_owned());
                }
                Self::Refused(database.message().to_owned())
            }
            sqlx::Error::PoolTimedOut => {
                Self::Unavailable("none of this process's connections to the database became free in time".to_owned())
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => Self::Unavailable(error.to_string()),
            _ => Self::Refused(error.to_string()),
        }
    }
}

/// Whether what the database says is about its state and not about the statement: unchanged, it may succeed later. Were a
/// full disk or a statement that took too long said to be refused, whoever settles a result would call the result bad.
fn passes(code: &str) -> bool {
    if let Some(sqlite) = Some(code).filter(|code| code.len() < 5).and_then(|code| code.parse::<i32>().ok()) {
        // the low byte is the kind, the rest says more: busy, locked, out of memory, input or output, full
        return matches!(sqlite & 0xff, 5 | 6 | 7 | 10 | 13);
    }
    // connection, out of resources, stopped by an operator or a timeout, the system below, met other transactions; a
    // server that only reads (a standby that becomes the first soon), a lock that did not come in time, a transaction
    // that was ended because it was idle or too long
    ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class))
        || ["25006", LOCK_NOT_AVAILABLE, "25P03", "25P04"].contains(&code)
}

/// Whether the database stopped a statement because its time was over (SQLite: interrupted).
pub(super) fn is_cancelled(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "57014" || code == "9")
}

/// Postgres: a lock did not come in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Whether the database asks to run the whole transaction again (deadlock, serialization failure). Not after a lock that
/// did not come in time: somebody waited long already, and whoever must go on asks again by himself.
pub(super) fn asks_to_retry(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code == "40P01" || code == "40001")
}

#[cfg(test)]
mod tests {
    use super::passes;

    #[test]
    fn a_database_that_is_full_or_busy_is_told_from_a_value_that_it_refuses() {
        for code in ["08006", "53100", "53300", "57014", "57P01", "58030", "40001", "40P01", "25006", "55P03"] {
            assert!(passes(code), "{code}");
        }
        for code in ["5", "6", "13", "10", "517", "778", "3338"] {
            assert!(passes(code), "{code}");
        }
        for code in ["22021", "23505", "23514", "42P01", "22P05", "1", "19", "2067", "275", ""] {
            assert!(!passes(code), "{code}");
        }
    }
}
