//! Reads the nodes that wait for a signal from outside: which, how long, and what follows when none comes.

use super::name::SIGNAL;
use super::reader::Fields;
use crate::limits::MAX_DEADLINE_MS;

/// A signal may take a day unless the definition says otherwise.
const DEFAULT_EXPIRES_MS: i64 = 24 * 60 * 60 * 1_000;

/// A signal that a node waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalWait {
    /// Its name.
    pub name: String,
    /// How long it is waited for, in milliseconds.
    pub expires_ms: i64,
    /// What happens when it does not come.
    pub on_expire: OnSilence,
}

/// What happens when a signal does not come in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSilence {
    /// The node fails.
    #[default]
    Fail,
    /// The node hands null on.
    Continue,
}

/// The words of `on_expire`.
pub(super) const SILENCE_WORDS: [(&str, OnSilence); 2] = [("fail", OnSilence::Fail), ("continue", OnSilence::Continue)];

/// Reads `signal`.
pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<SignalWait> {
    let mut section = fields.section("signal")?;
    if !section.has_any(&["name"]) {
        section.missing("name", "it is the signal to wait for");
    }
    let name = section.name("name", &SIGNAL).map(str::to_owned);
    let expires_ms = section.duration_ms("expires", 1, MAX_DEADLINE_MS).unwrap_or(DEFAULT_EXPIRES_MS);
    let on_expire = section.choice("on_expire", &SILENCE_WORDS).unwrap_or_default();
    section.close(&[]);
    Some(SignalWait { name: name?, expires_ms, on_expire })
}
