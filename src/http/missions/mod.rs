//! Missions: submit, look, wait, foretell, say something, pause, cancel, retry, fork, fetch the result.

pub(super) mod body;
pub(super) mod cancel;
pub(super) mod change;
pub(super) mod estimate;
pub(super) mod list;
pub(super) mod messages;
pub(super) mod one;
pub(super) mod pause;
pub(super) mod renew;
pub(super) mod result;
pub(super) mod signal;
pub(super) mod submit;
mod wait;
