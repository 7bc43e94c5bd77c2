//! A redrive tries one of many dead letters again: the one that failed then, not a later failure of the same mission.
//!
//! Whoever redrives many may die after each transaction and be followed by another who does not know how far he came.
//! So a dead letter names the run and how often it had been retried: what has gone on since, by this order or by
//! anybody's wish, is never retried a second time.

use crate::id::{MissionId, RunId};

use super::rehearsal::{Order, Ordered};
use super::{Refusal, Turn, retry};

/// A mission that had failed, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    /// The mission.
    pub mission_id: MissionId,
    /// The run that failed.
    pub run_id: RunId,
    /// How often that run had been retried before.
    pub retries: i32,
}

/// What came of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// The mission goes on.
    Now,
    /// This order had it go on before; nothing was changed.
    Before,
    /// Somebody else had it go on, or forked it; nothing was changed.
    Elsewhere,
}

/// Lets a dead letter go on, once for an order. What [`retry`](super::retry()) needs must be loaded.
///
/// Refuses what a retry refuses; nothing is changed then.
pub fn redrive(turn: &mut Turn<'_>, letter: &DeadLetter, order: &Order) -> Result<Redriven, Refusal> {
    let run = turn.run(turn.mission(letter.mission_id)?.run_id)?;
    if run.id != letter.run_id || run.retries != letter.retries {
        let is_ours = run.id == letter.run_id && run.order_key.as_ref() == Some(&order.key);
        return Ok(if is_ours { Redriven::Before } else { Redriven::Elsewhere });
    }
    Ok(match retry::retry(turn, letter.mission_id, Some(order))? {
        Ordered::Done(_) => Redriven::Now,
        Ordered::Repeated => Redriven::Before,
    })
}
