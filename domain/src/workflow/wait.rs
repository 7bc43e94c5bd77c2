//! Reads the nodes that wait. The engine does the waiting; no worker and no slot is taken.

use super::approval::Approval;
use super::condition;
use super::problem::Problem;
use super::reader::Fields;
use super::scan::Mention;
use super::signal::SignalWait;
use crate::limits::{MAX_CONDITION_BYTES, MAX_DEADLINE_MS};
use crate::time::Timestamp;

/// What a node waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// A while.
    Sleep {
        /// How long, in milliseconds.
        duration_ms: i64,
    },
    /// A point in time.
    Until {
        /// When, in RFC 3339, as a template (see [`condition::render`]).
        at: String,
    },
    /// A person's decision.
    Approval(Approval),
    /// A signal from outside.
    Signal(SignalWait),
}

impl Wait {
    /// The kind of node, as its key in the definition.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sleep { .. } => "sleep",
            Self::Until { .. } => "until",
            Self::Approval(_) => "approval",
            Self::Signal(_) => "signal",
        }
    }
}

/// Reads `sleep`.
pub(super) fn read_sleep(fields: &mut Fields<'_, '_>) -> Option<Wait> {
    fields.duration_ms("sleep", 1, MAX_DEADLINE_MS).map(|duration_ms| Wait::Sleep { duration_ms })
}

/// Reads `until` and notes what it refers to.
pub(super) fn read_until<'v>(fields: &mut Fields<'v, '_>, mentions: &mut Vec<(Mention<'v>, String)>) -> Option<Wait> {
    let text = fields.text("until", MAX_CONDITION_BYTES)?;
    let at = fields.at("until");
    if text.contains('{') {
        condition::read_template(text, &at, mentions, fields.problems);
    } else if Timestamp::parse_rfc3339(text.trim()).is_none() {
        let message = "`until` must be a time such as 2026-08-01T09:30:00Z, or a template that becomes one";
        let hint = Some("for what the input says, write \"{{ inputs.start_at }}\"".to_owned());
        fields.problems.push(Problem::new(at, "invalid_time", message).with_hint(hint));
    }
    Some(Wait::Until { at: text.to_owned() })
}
