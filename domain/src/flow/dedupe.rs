//! The same wish twice: a submit names a key, and while another mission of the tenant has it, no second one is made.
//!
//! A key is taken while its mission runs, and for the window that its mission named, counted from its creation. The
//! row of a key is loaded under a lock, so that of two submits at once the second sees what the first one decided.

use crate::id::{MissionId, RunId, TenantId};
use crate::record::DedupeKey;

use super::{Refusal, Submission, Turn};

/// What a submit says about being the same wish as another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dedupe {
    /// What names the wish, within the tenant.
    pub key: String,
    /// How long the key stays taken after the mission was made, in milliseconds; while it runs it is in any case.
    pub window_ms: i64,
    /// What a second submit gets.
    pub mode: DedupeMode,
}

/// What a submit gets whose key is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DedupeMode {
    /// It is refused, and told which mission has the key.
    #[default]
    Reject,
    /// It is answered with the mission that has the key.
    ReturnExisting,
}

/// Refuses when another mission has the key.
pub(super) fn check(turn: &Turn<'_>, submission: &Submission) -> Result<(), Refusal> {
    match present(turn, submission) {
        Some(row) if row.live || turn.now < row.taken_until => {
            Err(Refusal::Duplicate { mission_id: row.mission_id, run_id: row.run_id })
        }
        _ => Ok(()),
    }
}

/// Gives the key to the new mission.
pub(super) fn take(turn: &mut Turn<'_>, submission: &Submission) {
    let Some(dedupe) = &submission.dedupe else { return };
    let taken_until = turn.now.plus_ms(dedupe.window_ms);
    let (mission_id, run_id): (MissionId, RunId) = (submission.mission_id, submission.run_id);
    let known = present(turn, submission).map(|row| row.id);
    let id = known.unwrap_or_else(|| turn.id());
    let tenant_id: TenantId = submission.tenant_id;
    let row = DedupeKey { id, tenant_id, key: dedupe.key.clone(), mission_id, run_id, taken_until, live: true };
    if let Some(known) = turn.set.dedupe_keys.change(id) {
        *known = row;
    } else {
        turn.set.add_dedupe_key(row);
    }
}

fn present<'t>(turn: &'t Turn<'_>, submission: &Submission) -> Option<&'t DedupeKey> {
    let dedupe = submission.dedupe.as_ref()?;
    turn.set.dedupe_key_of(submission.tenant_id, &dedupe.key)
}
