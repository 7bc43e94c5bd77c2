//! Schedules: what is submitted again and again.

pub(super) mod body;
pub(super) mod change;
pub(super) mod list;
pub(super) mod run;
